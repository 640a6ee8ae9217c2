//! The brakes: what keeps a node that is down from being out.
//!
//! To make a node's partitions anew elsewhere costs traffic and room, and is of no use when it is the network that is
//! broken. So much of a cluster that is gone at once is a matter for people.

use super::{Facts, LivenessSettings};
use crate::assign::Caps;
use crate::id::NodeId;
use crate::layout::{DiskEntry, DiskStanding, Layout, NodeEntry, NodeStanding};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// Why a node that is down is not out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Brake {
    /// There is one copy of everything: nobody could make another.
    OnlyCopy,
    /// Nodes of another zone are out, and their partitions are not yet elsewhere.
    OtherZone,
    /// Too few nodes would stay in.
    TooManyOut,
    /// The nodes that are left could not keep copies apart as they are now.
    TooFewPlaces,
    /// The disks that are left have no room for what the node holds.
    TooFewBytes,
}

impl fmt::Display for Brake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnlyCopy => "it holds the only copy of its partitions: bring it back",
            Self::OtherZone => "nodes of another zone are out and not yet made up for",
            Self::TooManyOut => {
                "too few nodes would stay in: bring nodes back, or set it out by hand"
            }
            Self::TooFewPlaces => {
                "too few nodes or zones are left to keep copies apart: add a node, or bring it back"
            }
            Self::TooFewBytes => "the other disks have no room for what it holds: add disks",
        })
    }
}

/// Of a hundred bytes that are free, so many may be filled by a repair.
const FILL_PERCENT: u128 = 90;

/// What they go by, at one moment.
pub(super) struct Brakes<'a> {
    layout: &'a Layout,
    used_bytes: BTreeMap<crate::id::DiskId, u64>,
    is_out: Vec<bool>,
    is_silent: Vec<bool>,
    /// Whether a node holds partitions.
    holds: Vec<bool>,
}

impl<'a> Brakes<'a> {
    pub(super) fn new(
        layout: &'a Layout,
        facts: &Facts<'_>,
        silent: &[NodeId],
        proposed: &BTreeSet<NodeId>,
    ) -> Self {
        let mut holds = vec![false; layout.nodes.len()];
        for member in layout.rows.iter().flat_map(|row| row.holders()) {
            let disk = layout.disks.get(usize::from(member.disk));
            if let Some(flag) = disk.and_then(|disk| holds.get_mut(usize::from(disk.node))) {
                *flag = true;
            }
        }
        let silent: BTreeSet<_> = silent.iter().collect();
        let nodes = layout.nodes.iter();
        Self {
            layout,
            used_bytes: facts.used_bytes.iter().copied().collect(),
            is_out: nodes
                .clone()
                .map(|node| node.standing == NodeStanding::Out || proposed.contains(&node.id))
                .collect(),
            is_silent: nodes.map(|node| silent.contains(&node.id)).collect(),
            holds,
        }
    }

    /// Counts a node as out from here on.
    pub(super) fn count_out(&mut self, node: usize) {
        self.is_out[node] = true;
    }

    /// Whether there is anything to make up for.
    pub(super) fn is_needed(&self, node: usize) -> bool {
        self.holds[node] || self.weighs(node)
    }

    /// What forbids that a node is out now.
    pub(super) fn check(&self, node: usize, settings: &LivenessSettings) -> Option<Brake> {
        if !self.is_needed(node) {
            return None;
        }
        if self.layout.replicas == 1 {
            return Some(Brake::OnlyCopy);
        }
        if self.is_other_zone_out(node) {
            return Some(Brake::OtherZone);
        }
        if !self.are_copies_apart(node) {
            return Some(Brake::TooFewPlaces);
        }
        if !self.are_enough_in(node, settings.in_min_percent) {
            return Some(Brake::TooManyOut);
        }
        (!self.is_there_room(node)).then_some(Brake::TooFewBytes)
    }

    /// Whether a node of another zone is out whose partitions are not all elsewhere yet.
    fn is_other_zone_out(&self, node: usize) -> bool {
        let zone = &self.layout.nodes[node].zone;
        let nodes = self.layout.nodes.iter().enumerate();
        let mut waiting = nodes.filter(|(index, _)| self.is_out[*index] && self.holds[*index]);
        waiting.any(|(_, other)| other.zone != *zone)
    }

    fn are_enough_in(&self, node: usize, percent: u64) -> bool {
        let all: Vec<usize> = (0..self.layout.nodes.len())
            .filter(|index| self.weighs(*index))
            .collect();
        let stays = |index: &&usize| !self.is_out[**index] && **index != node;
        let left = all.iter().filter(stays).count();
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        wide(left).saturating_mul(100) >= wide(all.len()).saturating_mul(percent)
    }

    /// Whether a node has a disk that gets partitions while the node takes part.
    fn weighs(&self, node: usize) -> bool {
        let of_node = |disk: &&DiskEntry| usize::from(disk.node) == node;
        let mut disks = self.layout.disks.iter().filter(of_node);
        disks.any(|disk| disk.standing == DiskStanding::In && disk.capacity_bytes > 0)
    }

    /// Whether those that would be left, and answer, can keep copies as far apart as those that are in now.
    fn are_copies_apart(&self, node: usize) -> bool {
        let is_in = |disk: &DiskEntry| {
            let index = usize::from(disk.node);
            disk.standing == DiskStanding::In && self.is_out.get(index) == Some(&false)
        };
        let is_left = |disk: &DiskEntry, _: &NodeEntry| {
            let index = usize::from(disk.node);
            is_in(disk) && index != node && self.is_silent.get(index) == Some(&false)
        };
        match (
            Caps::among(self.layout, |disk, _| is_in(disk)),
            Caps::among(self.layout, is_left),
        ) {
            (Some(before), Some(after)) => !after.is_looser_than(before),
            _ => false,
        }
    }

    fn is_there_room(&self, node: usize) -> bool {
        let (mut needed, mut free) = (0_u128, 0_u128);
        for disk in &self.layout.disks {
            let index = usize::from(disk.node);
            let Some(used) = self.used_bytes.get(&disk.id) else {
                continue;
            };
            let is_left =
                self.is_out.get(index) == Some(&false) && self.is_silent.get(index) == Some(&false);
            if index == node {
                needed += u128::from(*used);
            } else if is_left && self.layout.weight_bytes(disk) > 0 {
                free += u128::from(disk.size_bytes.saturating_sub(*used));
            }
        }
        needed * 100 <= free * FILL_PERCENT
    }
}
