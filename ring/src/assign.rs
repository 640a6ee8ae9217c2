//! Assignment: which disks shall hold which partition, and how to get there (DESIGN 3).
//!
//! The tables of a layout say what is wished: nodes with zones and standings, disks with weights. Its rows follow,
//! step by step, and nothing here knows anything but the layout it is given:
//! - [`first_layout`]: a fresh cluster's;
//! - [`target`]: the rows that the tables ask for, with as little movement from the present ones as can be;
//! - [`advance`]: the next step there, some rows made `Joint`, repair before balance;
//! - [`settle`] and [`abort`]: the two ways out of `Joint`;
//! - [`remove_node`] and [`remove_disk`]: what holds nothing leaves the tables.
//!
//! Each disk gets a target number of partitions, in proportion to its weight as far as the failure domains allow.
//! The outcome depends on nothing but the arguments.

use crate::id::{DiskId, PartitionId};
use crate::layout::{DiskEntry, Layout, NodeEntry, NodeStanding};
use alloc::vec::Vec;

mod advance;
mod balance;
mod first;
mod remove;
mod settle;
mod target;
mod targets;

pub use advance::{Limits, advance};
pub(crate) use first::control_of;
pub use first::first_layout;
pub use remove::{remove_disk, remove_node};
pub use settle::{abort, is_repair, settle};
pub(crate) use target::is_out;
pub use target::{shares, target};

/// One replica that is to be made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Move {
    /// Of which partition.
    pub partition: PartitionId,
    /// The disk that it leaves; `None` for a replica that is added. The same disk where only its identity was lost.
    pub from: Option<DiskId>,
    /// The disk that it goes to.
    pub to: DiskId,
}

/// A disk that may hold partitions, with its place in the tree of failure domains.
struct Candidate {
    /// Index into the layout's disks.
    disk: u16,
    id: DiskId,
    node: usize,
    zone: usize,
    weight: u64,
}

/// At most so many copies of one partition in a zone, and on a node. A disk holds one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Caps {
    zone: usize,
    node: usize,
}

/// The disks with a weight, sorted by zone, node and id.
fn candidates(
    nodes: &[NodeEntry],
    disks: &[DiskEntry],
    weight: impl Fn(&DiskEntry) -> u64,
) -> Vec<Candidate> {
    let mut zones: Vec<&str> = nodes.iter().map(|node| node.zone.as_str()).collect();
    zones.sort_unstable();
    zones.dedup();
    let mut all: Vec<Candidate> = disks
        .iter()
        .enumerate()
        .filter_map(|(index, disk)| {
            let node = usize::from(disk.node);
            let zone = nodes.get(node)?.zone.as_str();
            Some(Candidate {
                disk: u16::try_from(index).ok()?,
                id: disk.id,
                node,
                zone: zones.partition_point(|other| *other < zone),
                weight: weight(disk),
            })
        })
        .filter(|candidate| candidate.weight > 0)
        .collect();
    let node_id = |candidate: &Candidate| nodes.get(candidate.node).map(|node| node.id);
    all.sort_by_key(|candidate| (candidate.zone, node_id(candidate), candidate.id));
    all
}

/// Splits a sorted run into its groups of equal key.
fn groups<K: PartialEq>(
    candidates: &[Candidate],
    key: impl Fn(&Candidate) -> K,
) -> impl Iterator<Item = &[Candidate]> {
    candidates.chunk_by(move |a, b| key(a) == key(b))
}

impl Caps {
    /// The tightest caps that N copies still fit under.
    fn of(candidates: &[Candidate], replicas: usize) -> Self {
        let fits = |caps: Self| {
            let room: usize = groups(candidates, |disk| disk.zone)
                .map(|zone| caps.room_in_zone(zone))
                .sum();
            room >= replicas
        };
        let any_zone = replicas;
        let node = (1..replicas)
            .find(|node| {
                fits(Self {
                    zone: any_zone,
                    node: *node,
                })
            })
            .unwrap_or(replicas);
        let zone = (1..replicas)
            .find(|zone| fits(Self { zone: *zone, node }))
            .unwrap_or(replicas);
        Self { zone, node }
    }

    /// The caps that the disks keep that `takes_part`; `None` where they are fewer than N.
    pub(crate) fn among(
        layout: &Layout,
        takes_part: impl Fn(&DiskEntry, &NodeEntry) -> bool,
    ) -> Option<Self> {
        let replicas = usize::from(layout.replicas);
        let weight = |disk: &DiskEntry| match layout.nodes.get(usize::from(disk.node)) {
            Some(node) if takes_part(disk, node) => disk.capacity_bytes,
            _ => 0,
        };
        let candidates = candidates(&layout.nodes, &layout.disks, weight);
        (candidates.len() >= replicas).then(|| Self::of(&candidates, replicas))
    }

    /// Whether copies may share a zone, or a node, that `other` keeps them apart in.
    pub(crate) const fn is_looser_than(self, other: Self) -> bool {
        self.zone > other.zone || self.node > other.node
    }

    fn room_in_zone(self, zone: &[Candidate]) -> usize {
        let room: usize = groups(zone, |disk| disk.node)
            .map(|node| node.len().min(self.node))
            .sum();
        room.min(self.zone)
    }
}

/// Whether `disk` may stand in a row, in the place of the member at `slot` or beside all members.
fn fits(
    row: &[usize],
    slot: Option<usize>,
    disk: usize,
    candidates: &[Candidate],
    caps: Caps,
) -> bool {
    let (mut in_zone, mut on_node) = (1, 1);
    for (index, member) in row.iter().enumerate() {
        if Some(index) == slot {
            continue;
        }
        if *member == disk {
            return false;
        }
        in_zone += usize::from(candidates[*member].zone == candidates[disk].zone);
        on_node += usize::from(candidates[*member].node == candidates[disk].node);
    }
    in_zone <= caps.zone && on_node <= caps.node
}

/// Whether a disk's node is there to take something new: neither out nor being worked on.
fn is_receiving(layout: &Layout, disk: &DiskEntry) -> bool {
    let node = layout.nodes.get(usize::from(disk.node));
    node.is_some_and(|node| node.standing == NodeStanding::In)
}

#[cfg(test)]
#[path = "assign_tests.rs"]
mod tests;
