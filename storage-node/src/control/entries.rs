//! What joins and disks make of a layout. Pure: a layout in, its successor out, or nothing where all is as it should be.
//!
//! Rows are never touched here: a node or disk that is new has weight 0 and holds nothing until an operator applies a
//! plan; a disk that takes a lost one's place gets its weight, and the partitions follow.

use ringfort_ring::id::{DiskId, NodeId};
use ringfort_ring::layout::{DiskEntry, DiskStanding, Layout, NodeEntry};
use std::collections::BTreeSet;

/// A node that wants in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where its internode listener is reached.
    pub address: String,
    /// Its failure domain.
    pub zone: String,
    /// Its disks and their sizes in bytes.
    pub disks: Vec<(DiskId, u64)>,
}

/// What a node has found in its folders.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FoundDisks {
    /// The disks that are open, in the order of their folders, and their sizes in bytes.
    pub open: Vec<(DiskId, u64)>,
    /// How many folders hold a disk that cannot be opened: which, is not known.
    pub failed: usize,
}

/// What a node's disks change in the layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// What shall follow, where something changes.
    pub next: Option<Layout>,
    /// What happens, in sentences.
    pub notes: Vec<String>,
}

fn successor(layout: &Layout) -> Option<Layout> {
    let mut next = layout.clone();
    next.version = layout.version.checked_add(1)?;
    Some(next)
}

/// Adds a node and its disks; `None` where the layout has it already.
///
/// # Errors
/// What is not its own, in words.
pub fn take_in(layout: &Layout, new: &NewNode) -> Result<Option<Layout>, String> {
    if layout.nodes.iter().any(|node| node.id == new.id) {
        return Ok(None);
    }
    check_unlike_others(layout, new)?;
    let full = || "the layout is full".to_owned();
    let index = u16::try_from(layout.nodes.len()).map_err(|_| full())?;
    let mut next = successor(layout).ok_or_else(full)?;
    let (name, address, zone) = (new.name.clone(), new.address.clone(), new.zone.clone());
    next.nodes.push(NodeEntry::new(new.id, name, address, zone));
    for (disk, size_bytes) in &new.disks {
        next.disks.push(empty_disk(*disk, index, *size_bytes));
    }
    next.check().map_err(|why| why.to_string())?;
    Ok(Some(next))
}

/// Whether a node that is not in the layout could be.
///
/// # Errors
/// What is not its own, in words.
pub fn check_unlike_others(layout: &Layout, new: &NewNode) -> Result<(), String> {
    for node in layout.nodes.iter().filter(|node| node.id != new.id) {
        if node.name == new.name {
            return Err(format!(
                "a node named `{}` is in the cluster already: give another --name",
                node.name
            ));
        }
        if node.address == new.address {
            return Err(format!(
                "node `{}` has the address {} already: give this one its own --listen or --advertise",
                node.name, node.address
            ));
        }
    }
    let is_own = |disk: &DiskEntry| {
        let node = layout.nodes.get(usize::from(disk.node));
        node.is_some_and(|node| node.id == new.id)
    };
    let mut others = layout.disks.iter().filter(|disk| !is_own(disk));
    if others.any(|disk| new.disks.iter().any(|(id, _)| *id == disk.id)) {
        return Err(
            "a disk of this node is a copy of one of another node: start with an empty --disk folder"
                .to_owned(),
        );
    }
    Ok(())
}

/// A disk that holds nothing until an operator gives it a weight.
fn empty_disk(id: DiskId, node: u16, size_bytes: u64) -> DiskEntry {
    DiskEntry {
        size_bytes,
        ..DiskEntry::new(id, node, 0)
    }
}

/// What a node's present disks change: new ones are added, and where one of its disks is really gone, a new one takes its
/// place.
///
/// Gone is a disk only where every folder could be opened and none holds it: behind a folder that cannot be opened it may
/// still be whole. Nothing changes for a node that the layout does not name.
#[must_use]
pub fn announce(layout: &Layout, node: NodeId, found: &FoundDisks) -> Announced {
    let mut announced = Announced {
        next: None,
        notes: Vec::new(),
    };
    let Some(index) = layout.nodes.iter().position(|entry| entry.id == node) else {
        return announced;
    };
    let (Ok(index), Some(mut next)) = (u16::try_from(index), successor(layout)) else {
        return announced;
    };
    let open: BTreeSet<DiskId> = found.open.iter().map(|(id, _)| *id).collect();
    let mut fresh = Vec::new();
    for (id, size_bytes) in &found.open {
        match layout.disks.iter().find(|disk| disk.id == *id) {
            None => fresh.push((*id, *size_bytes)),
            Some(known) if known.node != index => announced.notes.push(format!(
                "disk {id} belongs to another node in the layout and is not used: start this folder empty"
            )),
            Some(known) if known.standing == DiskStanding::Out => announced.notes.push(format!(
                "disk {id} was given up while it was away and does not come back: start its folder empty"
            )),
            Some(_) => {}
        }
    }
    let is_gone = |disk: &DiskEntry| {
        disk.node == index && disk.standing == DiskStanding::In && !open.contains(&disk.id)
    };
    let gone: Vec<usize> = match found.failed {
        0 => (0..next.disks.len())
            .filter(|at| is_gone(&next.disks[*at]))
            .collect(),
        _ => Vec::new(),
    };
    // One for one, in the order of the folders. A gone disk without a new one in its place stays: the node may have been
    // started without one of its folders.
    for (at, (id, size_bytes)) in gone.into_iter().zip(&fresh) {
        if !next.can_lose(next.disks[at].id) {
            announced.notes.push(format!(
                "disk {} is not here, and too few others hold its partitions to give it up: is a file system not mounted? \
                 Where it is really lost, bring back the others first, then `ringfort layout apply --out {}`",
                next.disks[at].id, next.disks[at].id
            ));
            continue;
        }
        let lost = &mut next.disks[at];
        lost.standing = DiskStanding::Out;
        let capacity_bytes = lost.capacity_bytes.min(*size_bytes);
        announced.notes.push(format!(
            "disk {} is gone, and the new disk {id} takes its place: its partitions are copied from other nodes",
            lost.id
        ));
        next.disks.push(DiskEntry {
            size_bytes: *size_bytes,
            ..DiskEntry::new(*id, index, capacity_bytes)
        });
    }
    for (id, size_bytes) in &fresh {
        if !next.disks.iter().any(|disk| disk.id == *id) {
            next.disks.push(empty_disk(*id, index, *size_bytes));
            announced.notes.push(format!(
                "disk {id} is new: it holds nothing until it is given a weight"
            ));
        }
    }
    if !fresh.is_empty() && next.check().is_ok() {
        announced.next = Some(next);
    }
    announced
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::super::layout_store::tests::layout;
    use super::*;
    use ringfort_ring::id::Epoch;
    use ringfort_ring::layout::{Member, Members};

    fn disk(id: u128) -> DiskId {
        DiskId::from_u128(id)
    }

    fn new_node(id: u128) -> NewNode {
        NewNode {
            id: NodeId::from_u128(id),
            name: format!("n{id}"),
            address: format!("a:{id}"),
            zone: "z".into(),
            disks: vec![(disk(id * 10), 500), (disk(id * 10 + 1), 700)],
        }
    }

    /// Node 1 with disk 1 of weight and size 100.
    fn base() -> Layout {
        let mut base = layout(7, 4, "a:1");
        base.disks[0] = DiskEntry::new(disk(1), 0, 100);
        base
    }

    #[test]
    fn a_node_is_taken_in_once_and_holds_nothing() {
        let next = take_in(&base(), &new_node(2)).unwrap().unwrap();
        assert_eq!((next.version, next.rows.clone()), (5, base().rows));
        assert_eq!((next.nodes.len(), next.disks.len()), (2, 3));
        let added = &next.disks[2];
        assert_eq!((added.node, added.size_bytes), (1, 700));
        assert_eq!((added.capacity_bytes, added.capacity_before_bytes), (0, 0));
        assert_eq!(take_in(&next, &new_node(2)), Ok(None));
    }

    #[test]
    fn what_is_anothers_is_refused_in_words() {
        let refusal = |change: &dyn Fn(&mut NewNode)| {
            let mut new = new_node(2);
            change(&mut new);
            take_in(&base(), &new).unwrap_err()
        };
        assert!(refusal(&|new| new.name = "n1".into()).contains("--name"));
        assert!(refusal(&|new| new.address = "a:1".into()).contains("--advertise"));
        assert!(refusal(&|new| new.disks[0].0 = disk(1)).contains("--disk"));
    }

    fn found(open: &[(u128, u64)], failed: usize) -> FoundDisks {
        FoundDisks {
            open: open.iter().map(|(id, size)| (disk(*id), *size)).collect(),
            failed,
        }
    }

    fn announced(open: &[(u128, u64)], failed: usize) -> Announced {
        announce(&base(), NodeId::from_u128(1), &found(open, failed))
    }

    #[test]
    fn the_disks_of_the_layout_change_nothing() {
        let same = announced(&[(1, 100)], 0);
        assert_eq!((same.next, same.notes.len()), (None, 0));
        // One folder is left out, or the node is not of the layout.
        assert_eq!(announced(&[], 0).next, None);
        let stranger = announce(&base(), NodeId::from_u128(9), &found(&[(5, 1)], 0));
        assert_eq!(stranger.next, None);
    }

    #[test]
    fn an_additional_disk_holds_nothing_yet() {
        let next = announced(&[(1, 100), (2, 300)], 0).next.unwrap();
        assert_eq!((next.version, next.disks.len()), (5, 2));
        assert_eq!(next.disks[0].standing, DiskStanding::In);
        assert_eq!(
            (next.disks[1].capacity_bytes, next.disks[1].size_bytes),
            (0, 300)
        );
        let again = announce(
            &next,
            NodeId::from_u128(1),
            &found(&[(1, 100), (2, 300)], 0),
        );
        assert_eq!((again.next, again.notes.len()), (None, 0));
    }

    /// Disk 1 is one of three that hold everything.
    fn held_by_three() -> Layout {
        let two = take_in(&base(), &new_node(2)).unwrap().unwrap();
        let mut three = take_in(&two, &new_node(3)).unwrap().unwrap();
        let member = |disk| Member {
            disk,
            joined: Epoch(1),
        };
        three.rows[0].members = Members::Stable(vec![member(0), member(1), member(3)]);
        three.check().unwrap();
        three
    }

    #[test]
    fn a_disk_made_anew_takes_the_place_of_the_one_that_is_gone() {
        let node = NodeId::from_u128(1);
        let announced = |open| announce(&held_by_three(), node, &found(open, 0));
        let next = announced(&[(2, 300), (3, 300)]).next.unwrap();
        let seen: Vec<_> = next
            .disks
            .iter()
            .filter(|disk| disk.node == 0)
            .map(|disk| (disk.id, disk.capacity_bytes, disk.standing))
            .collect();
        assert_eq!(
            seen,
            [
                (disk(1), 100, DiskStanding::Out),
                (disk(2), 100, DiskStanding::In),
                (disk(3), 0, DiskStanding::In)
            ]
        );
        // A smaller one holds less.
        let next = announced(&[(2, 60)]).next.unwrap();
        let smaller = next.disks.iter().find(|one| one.id == disk(2));
        assert_eq!(smaller.unwrap().capacity_bytes, 60);
        // The lost one does not come back.
        let back = announce(&next, node, &found(&[(1, 100), (2, 60)], 0));
        assert!(back.next.is_none() && back.notes[0].contains("does not come back"));
    }

    #[test]
    fn a_disk_that_holds_what_too_few_others_hold_is_not_given_up() {
        let seen = announced(&[(2, 300)], 0);
        assert!(seen.notes[0].contains("not mounted"), "{:?}", seen.notes);
        let next = seen.next.unwrap();
        assert_eq!(next.disks[0].standing, DiskStanding::In);
        assert_eq!(next.disks[1].capacity_bytes, 0);
    }

    #[test]
    fn a_disk_behind_a_folder_that_cannot_be_opened_is_not_gone() {
        let next = announced(&[(2, 300)], 1).next.unwrap();
        assert_eq!(next.disks[0].standing, DiskStanding::In);
        assert_eq!(next.disks[1].capacity_bytes, 0);
        assert_eq!(announced(&[], 1).next, None);
    }

    #[test]
    fn a_disk_of_another_node_is_not_taken_over() {
        let two = take_in(&base(), &new_node(2)).unwrap().unwrap();
        let seen = announce(
            &two,
            NodeId::from_u128(1),
            &found(&[(1, 100), (20, 500)], 0),
        );
        assert!(seen.next.is_none() && seen.notes[0].contains("another node"));
    }
}
