//! What holds nothing leaves the tables.
//!
//! Rows and control sets name disks and nodes by index, so all of them are numbered anew. That is no change of a row:
//! its members are the same replicas, and its epoch stays.

use crate::id::{DiskId, NodeId};
use crate::layout::{Layout, LayoutError, Member, Members};
use alloc::format;
use alloc::vec::Vec;

/// The successor of `layout` without a node and its disks.
///
/// # Errors
/// In words, where it is not listed, or holds a partition, or decides the layout.
pub fn remove_node(layout: &Layout, node: NodeId) -> Result<Layout, LayoutError> {
    let Some((index, entry)) = layout.node(node) else {
        return Err(format!("no node has the id {node}").into());
    };
    let name = &entry.name;
    let decides = |set: &[u16]| set.iter().any(|at| usize::from(*at) == index);
    if decides(&layout.control) || decides(&layout.control_before) {
        return Err(
            format!("{name} is in the control set: choose another control set first").into(),
        );
    }
    let is_of_node = |disk: usize| {
        let entry = layout.disks.get(disk);
        entry.is_some_and(|entry| usize::from(entry.node) == index)
    };
    let held = held_by(layout, is_of_node);
    if held > 0 {
        return Err(format!(
            "{name} still holds {held} partitions: drain it first, or if it is lost, set it out, \
             and remove it when they are at their new places"
        )
        .into());
    }
    Ok(without(layout, |at| at == index, is_of_node))
}

/// The successor of `layout` without a disk.
///
/// # Errors
/// In words, where it is not listed, or holds a partition.
pub fn remove_disk(layout: &Layout, disk: DiskId) -> Result<Layout, LayoutError> {
    let Some((index, _)) = layout.disk(disk) else {
        return Err(format!("no disk has the id {disk}").into());
    };
    let held = held_by(layout, |at| at == index);
    if held > 0 {
        return Err(format!(
            "disk {disk} still holds {held} partitions: drain it first, or if it is lost, set it \
             out, and remove it when they are at their new places"
        )
        .into());
    }
    Ok(without(layout, |_| false, |at| at == index))
}

/// How many partitions have a member on such a disk.
fn held_by(layout: &Layout, is_such: impl Fn(usize) -> bool) -> usize {
    let holds = |member: &Member| is_such(usize::from(member.disk));
    let rows = layout.rows.iter();
    rows.filter(|row| row.holders().any(holds)).count()
}

fn without(
    layout: &Layout,
    leaves_node: impl Fn(usize) -> bool,
    leaves_disk: impl Fn(usize) -> bool,
) -> Layout {
    let nodes = renumbered(layout.nodes.len(), leaves_node);
    let disks = renumbered(layout.disks.len(), leaves_disk);
    let new_node = |index: u16| nodes.get(usize::from(index)).copied().flatten();
    let new_disk = |index: u16| disks.get(usize::from(index)).copied().flatten();
    let mut next = layout.clone();
    next.version = layout.version.saturating_add(1);
    next.nodes = kept(&layout.nodes, &nodes);
    next.disks = kept(&layout.disks, &disks);
    for disk in &mut next.disks {
        disk.node = new_node(disk.node).unwrap_or(u16::MAX);
    }
    for index in next.control.iter_mut().chain(&mut next.control_before) {
        *index = new_node(*index).unwrap_or(u16::MAX);
    }
    for row in &mut next.rows {
        let sets: [&mut Vec<Member>; 2] = match &mut row.members {
            Members::Stable(members) => [members, &mut Vec::new()],
            Members::Joint { old, new } => [old, new],
        };
        for member in sets.into_iter().flatten() {
            // An index without a place would be a mistake of ours: `Layout::check` refuses it.
            member.disk = new_disk(member.disk).unwrap_or(u16::MAX);
        }
    }
    next
}

/// The new index of each, `None` for those that leave.
fn renumbered(count: usize, leaves: impl Fn(usize) -> bool) -> Vec<Option<u16>> {
    let mut next: u16 = 0;
    (0..count)
        .map(|index| {
            if leaves(index) {
                return None;
            }
            let at = next;
            next = next.saturating_add(1);
            Some(at)
        })
        .collect()
}

fn kept<T: Clone>(entries: &[T], places: &[Option<u16>]) -> Vec<T> {
    let pairs = entries.iter().zip(places);
    pairs
        .filter(|(_, place)| place.is_some())
        .map(|(entry, _)| entry.clone())
        .collect()
}
