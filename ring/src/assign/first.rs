//! The first layout: every target is met exactly.
//!
//! McNaughton's wrap-around rule (1959): all copies are dealt out to the rows in turn, disk after disk, node after
//! node, zone after zone, so that copies of one disk (node, zone) fall on rows as far apart as can be. Swaps then mix
//! who shares rows with whom, for repair draws on all partners.

use super::targets::targets;
use super::{Candidate, Caps, candidates, fits};
use crate::id::{Epoch, Era, NodeId};
use crate::layout::{DiskEntry, Layout, LayoutError, Member, Members, NodeEntry, Row};
use crate::topology::Topology;
use alloc::vec;
use alloc::vec::Vec;

/// The first layout of a topology, version 1: targets met exactly.
///
/// Copies of a partition go to distinct zones where there are at least N, to distinct nodes where there are at least
/// N, else to distinct disks; with fewer zones or nodes than N they are spread over them as evenly as their disks
/// allow.
///
/// # Errors
/// In words, where the topology is faulty or has fewer than N disks with a weight.
pub fn first_layout(topology: &Topology, partition_count: u32) -> Result<Layout, LayoutError> {
    topology.check()?;
    let rows = usize::try_from(partition_count).unwrap_or(usize::MAX);
    if rows == 0 || rows > Layout::MAX_PARTITIONS {
        return Err(LayoutError::from(
            "the number of partitions must be 1 to 65536",
        ));
    }
    let (nodes, disks) = tables(topology);
    let candidates = candidates(&nodes, &disks, |disk| disk.capacity_bytes);
    let replicas = usize::from(topology.replicas);
    if candidates.len() < replicas {
        return Err(LayoutError::from(
            "there are fewer disks with a capacity than replicas: add disks, or choose fewer replicas",
        ));
    }
    let caps = Caps::of(&candidates, replicas);
    let targets = targets(&candidates, caps, replicas, rows, &[]);

    let mut table: Vec<Vec<usize>> = vec![Vec::new(); rows];
    let copies = targets
        .iter()
        .enumerate()
        .flat_map(|(disk, count)| core::iter::repeat_n(disk, *count));
    for (position, disk) in copies.enumerate() {
        table[position % rows].push(disk);
    }
    mix(&mut table, &candidates, caps);

    let epoch = Epoch(1);
    let member = |disk: &usize| Member {
        disk: candidates[*disk].disk,
        joined: epoch,
    };
    let rows = table.iter().map(|row| Row {
        epoch,
        members: Members::Stable(row.iter().map(member).collect()),
    });
    let layout = Layout {
        cluster: topology.cluster,
        era: Era(0),
        version: 1,
        replicas: topology.replicas,
        control_epoch: epoch,
        control: control_of(&topology.control, &nodes),
        control_before: Vec::new(),
        is_balancing_paused: false,
        rows: rows.collect(),
        nodes,
        disks,
    };
    layout.check()?;
    Ok(layout)
}

/// The node and disk tables of a topology, each in the order of its ids.
fn tables(topology: &Topology) -> (Vec<NodeEntry>, Vec<DiskEntry>) {
    let mut specs: Vec<_> = topology.nodes.iter().collect();
    specs.sort_by_key(|spec| spec.id);
    let (mut nodes, mut disks) = (Vec::new(), Vec::new());
    for (index, spec) in specs.into_iter().enumerate() {
        let (name, address, zone) = (&spec.name, &spec.address, &spec.zone);
        nodes.push(NodeEntry::new(
            spec.id,
            name.clone(),
            address.clone(),
            zone.clone(),
        ));
        // `Topology::check` bounds the number of nodes.
        let node = u16::try_from(index).unwrap_or(u16::MAX);
        disks.extend(
            spec.disks
                .iter()
                .map(|disk| DiskEntry::new(disk.id, node, disk.capacity_bytes)),
        );
    }
    disks.sort_by_key(|disk| disk.id);
    (nodes, disks)
}

/// The indexes of nodes, in the order of their ids.
pub(crate) fn control_of(ids: &[NodeId], nodes: &[NodeEntry]) -> Vec<u16> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.iter()
        .filter_map(|id| nodes.iter().position(|node| node.id == *id))
        .filter_map(|index| u16::try_from(index).ok())
        .collect()
}

/// Swaps members between rows, counts and caps kept, so that a disk shares rows with many others.
fn mix(table: &mut [Vec<usize>], candidates: &[Candidate], caps: Caps) {
    let mut random = SplitMix(0x5249_4e47_464f_5254);
    for _ in 0..4 {
        for row in 0..table.len() {
            let other = random.below(table.len());
            let (slot, other_slot) = (
                random.below(table[row].len()),
                random.below(table[other].len()),
            );
            let (mine, theirs) = (table[row][slot], table[other][other_slot]);
            if row != other
                && fits(&table[row], Some(slot), theirs, candidates, caps)
                && fits(&table[other], Some(other_slot), mine, candidates, caps)
            {
                table[row][slot] = theirs;
                table[other][other_slot] = mine;
            }
        }
    }
    // The first member is the one that is asked for a body: take turns.
    for row in table {
        let by = random.below(row.len());
        row.rotate_left(by);
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): a fixed sequence, for mixing only.
struct SplitMix(u64);

impl SplitMix {
    /// A number below `bound`, which is above zero (zero gives zero).
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(bits % bound).unwrap_or(0)
    }
}
