//! The first layout: every target is met exactly.
//!
//! McNaughton's wrap-around rule (1959): all copies are dealt out to the rows in turn, disk after disk, node after
//! node, zone after zone, so that copies of one disk (node, zone) fall on rows as far apart as can be. Swaps then mix
//! who shares rows with whom, for repair draws on all partners.

use super::tables::{control_of, index_of_disks, tables};
use super::{Candidate, Caps, fits};
use crate::id::{Epoch, Era};
use crate::layout::{Layout, Member, Members, Row};
use crate::topology::Topology;
use alloc::vec;
use alloc::vec::Vec;

/// The first layout: targets met exactly.
pub(super) fn first(
    topology: &Topology,
    candidates: &[Candidate],
    targets: &[usize],
    caps: Caps,
    rows: usize,
) -> Layout {
    let mut table: Vec<Vec<usize>> = vec![Vec::new(); rows];
    let copies = targets
        .iter()
        .enumerate()
        .flat_map(|(disk, count)| core::iter::repeat_n(disk, *count));
    for (position, disk) in copies.enumerate() {
        table[position % rows].push(disk);
    }
    mix(&mut table, candidates, caps);

    let (nodes, disks) = tables(None, topology, &[]);
    let epoch = Epoch(1);
    let index = index_of_disks(&disks);
    let rows = table
        .iter()
        .map(|row| Row {
            epoch,
            members: Members::Stable(
                row.iter()
                    .filter_map(|disk| index.get(&candidates[*disk].id))
                    .map(|disk| Member {
                        disk: *disk,
                        joined: epoch,
                    })
                    .collect(),
            ),
        })
        .collect();
    Layout {
        cluster: topology.cluster,
        era: Era(0),
        version: 1,
        replicas: topology.replicas,
        control_epoch: epoch,
        control: control_of(topology, &nodes),
        control_before: Vec::new(),
        is_balancing_paused: false,
        nodes,
        disks,
        rows,
    }
}

/// Swaps members between rows, counts and caps kept, so that a disk shares rows with many others.
pub(super) fn mix(table: &mut [Vec<usize>], candidates: &[Candidate], caps: Caps) {
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
