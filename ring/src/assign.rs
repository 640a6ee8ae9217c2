//! Assignment: from a topology to a layout (DESIGN 3).
//!
//! Each disk gets a target number of partitions, in proportion to its capacity as far as the failure domains allow.
//! A fresh layout meets the targets exactly (`assign/first.rs`).
//!
//! With an older layout at hand every member stays where it may; only rows that must change do, and they become
//! `Joint`. Rows that are already moving are left alone. The outcome depends on nothing but the arguments.

use crate::id::{DiskId, PartitionId};
use crate::layout::{Layout, LayoutError};
use crate::topology::{NodeSpec, Topology};
use alloc::vec::Vec;

mod first;
mod successor;
mod tables;
mod targets;

/// One replica that is to be made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Move {
    /// Of which partition.
    pub partition: PartitionId,
    /// The disk that it leaves; `None` for a replica that is added.
    pub from: Option<DiskId>,
    /// The disk that it goes to.
    pub to: DiskId,
}

/// A disk that may take partitions, with its place in the tree of failure domains.
struct Candidate {
    id: DiskId,
    node: usize,
    zone: usize,
    capacity: u64,
}

/// At most so many copies of one partition in a zone, and on a node. A disk holds one.
#[derive(Clone, Copy)]
struct Caps {
    zone: usize,
    node: usize,
}

/// Computes a layout: the first one where `old` is `None`, else the successor of `old`.
///
/// Copies of a partition go to distinct zones where there are at least N, to distinct nodes where there are at least
/// N, else to distinct disks; with fewer zones or nodes than N they are spread over them as evenly as their disks
/// allow. The moves list every replica to be made, none for a first layout.
///
/// # Errors
/// In words, where the topology is faulty, has fewer than N disks with a capacity, or does not fit `old`.
pub fn compute_layout(
    old: Option<&Layout>,
    topology: &Topology,
    partition_count: u32,
) -> Result<(Layout, Vec<Move>), LayoutError> {
    topology.check()?;
    let rows = usize::try_from(partition_count).unwrap_or(usize::MAX);
    if rows == 0 || rows > Layout::MAX_PARTITIONS {
        return Err(LayoutError("the number of partitions must be 1 to 65536"));
    }
    let candidates = candidates(topology);
    let replicas = usize::from(topology.replicas);
    if candidates.len() < replicas {
        return Err(LayoutError(
            "there are fewer disks with a capacity than replicas: add disks, or choose fewer replicas",
        ));
    }
    let caps = Caps::of(&candidates, replicas);
    let targets = targets::targets(&candidates, caps, replicas, rows);
    let (layout, moves) = match old {
        None => (
            first::first(topology, &candidates, &targets, caps, rows),
            Vec::new(),
        ),
        Some(old) => successor::succeed(old, topology, &candidates, &targets, caps, rows)?,
    };
    layout.check()?;
    Ok((layout, moves))
}

/// The disks with a capacity, sorted by zone, node and id.
fn candidates(topology: &Topology) -> Vec<Candidate> {
    let mut nodes: Vec<&NodeSpec> = topology.nodes.iter().collect();
    nodes.sort_by(|a, b| (&a.zone, a.id).cmp(&(&b.zone, b.id)));
    let mut zones: Vec<&str> = nodes.iter().map(|node| node.zone.as_str()).collect();
    zones.dedup();
    let mut all = Vec::new();
    for (node, spec) in nodes.iter().enumerate() {
        let mut disks = spec.disks.clone();
        disks.sort_by_key(|disk| disk.id);
        let zone = zones.partition_point(|zone| *zone < spec.zone.as_str());
        all.extend(
            disks
                .iter()
                .filter(|disk| disk.capacity_bytes > 0)
                .map(|disk| Candidate {
                    id: disk.id,
                    node,
                    zone,
                    capacity: disk.capacity_bytes,
                }),
        );
    }
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

#[cfg(test)]
#[path = "assign_tests.rs"]
mod tests;
