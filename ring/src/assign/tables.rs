//! The node and disk tables of a layout, and indexes into them.

use crate::id::{DiskId, NodeId};
use crate::layout::{DiskEntry, Layout, NodeEntry};
use crate::topology::{NodeSpec, Topology};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// The node and disk tables: what `old` lists and is still declared or in use, in its order, then what is new.
pub(super) fn tables(
    old: Option<&Layout>,
    topology: &Topology,
    in_use: &[bool],
) -> (Vec<NodeEntry>, Vec<DiskEntry>) {
    let declared: BTreeMap<NodeId, &NodeSpec> =
        topology.nodes.iter().map(|node| (node.id, node)).collect();
    let owner: BTreeMap<DiskId, (NodeId, u64)> = topology
        .nodes
        .iter()
        .flat_map(|node| {
            node.disks
                .iter()
                .map(move |disk| (disk.id, (node.id, disk.capacity_bytes)))
        })
        .collect();

    let mut node_entries: Vec<NodeEntry> = Vec::new();
    let mut disk_list: Vec<(DiskEntry, NodeId)> = Vec::new();
    if let Some(old) = old {
        for (index, disk) in old.disks.iter().enumerate() {
            let old_node = old.nodes.get(usize::from(disk.node)).map(|node| node.id);
            match (owner.get(&disk.id), old_node) {
                (Some((node, capacity)), _) => {
                    let disk = DiskEntry {
                        capacity_bytes: *capacity,
                        ..disk.clone()
                    };
                    disk_list.push((disk, *node));
                }
                (None, Some(node)) if in_use.get(index) == Some(&true) => {
                    disk_list.push((disk.clone(), node));
                }
                (None, _) => {}
            }
        }
        for node in &old.nodes {
            let holds_disk = disk_list.iter().any(|(_, owner)| *owner == node.id);
            match declared.get(&node.id) {
                Some(spec) => node_entries.push(NodeEntry {
                    standing: node.standing,
                    ..entry_of(spec)
                }),
                None if holds_disk => node_entries.push(node.clone()),
                None => {}
            }
        }
    }
    for (id, spec) in &declared {
        if !node_entries.iter().any(|node| node.id == *id) {
            node_entries.push(entry_of(spec));
        }
    }
    let listed: BTreeSet<DiskId> = disk_list.iter().map(|(disk, _)| disk.id).collect();
    for (id, (node, capacity)) in &owner {
        if !listed.contains(id) {
            disk_list.push((DiskEntry::new(*id, 0, *capacity), *node));
        }
    }
    let node_index: BTreeMap<NodeId, u16> = node_entries
        .iter()
        .enumerate()
        .filter_map(|(index, node)| Some((node.id, u16::try_from(index).ok()?)))
        .collect();
    let disks = disk_list
        .into_iter()
        .filter_map(|(disk, node)| {
            Some(DiskEntry {
                node: *node_index.get(&node)?,
                ..disk
            })
        })
        .collect();
    (node_entries, disks)
}

pub(super) fn entry_of(spec: &NodeSpec) -> NodeEntry {
    NodeEntry::new(
        spec.id,
        spec.name.clone(),
        spec.address.clone(),
        spec.zone.clone(),
    )
}

pub(super) fn index_of_disks(disks: &[DiskEntry]) -> BTreeMap<DiskId, u16> {
    disks
        .iter()
        .enumerate()
        .filter_map(|(index, disk)| Some((disk.id, u16::try_from(index).ok()?)))
        .collect()
}

pub(super) fn control_of(topology: &Topology, nodes: &[NodeEntry]) -> Vec<u16> {
    let mut ids = topology.control.clone();
    ids.sort_unstable();
    ids.iter()
        .filter_map(|id| nodes.iter().position(|node| node.id == *id))
        .filter_map(|index| u16::try_from(index).ok())
        .collect()
}
