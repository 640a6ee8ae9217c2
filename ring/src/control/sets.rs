//! Who must agree on a layout: a majority of each of some sets of nodes.

use crate::id::NodeId;
use crate::layout::Layout;
use crate::quorum::{Verdict, majority};
use alloc::vec::Vec;

/// Sets of nodes, each with the number of its members that is enough. A node counts once in each set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ControlSets {
    sets: Vec<Set>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Set {
    /// Sorted, each once.
    members: Vec<NodeId>,
    enough: usize,
}

impl ControlSets {
    /// A layout's control set, and the one before it while it changes: a majority of each.
    #[must_use]
    pub fn of(layout: &Layout) -> Self {
        let (control, before) = Self::ids(layout);
        let mut sets = Self::default();
        for members in [control, before] {
            if !members.is_empty() {
                let enough = majority(members.len());
                sets.add(members, enough);
            }
        }
        sets
    }

    /// The sorted ids of a layout's control set and of the one before it.
    #[must_use]
    pub fn ids(layout: &Layout) -> (Vec<NodeId>, Vec<NodeId>) {
        let (control, before) = layout.control_ids();
        (sorted(control), sorted(before))
    }

    /// Adds a set of which so many are enough.
    pub fn add(&mut self, members: Vec<NodeId>, enough: usize) {
        let set = Set {
            members: sorted(members),
            enough,
        };
        if !self.sets.contains(&set) {
            self.sets.push(set);
        }
    }

    /// These sets and those.
    #[must_use]
    pub fn and(mut self, others: &Self) -> Self {
        for set in &others.sets {
            if !self.sets.contains(set) {
                self.sets.push(set.clone());
            }
        }
        self
    }

    /// Every node of them, once.
    #[must_use]
    pub fn members(&self) -> Vec<NodeId> {
        sorted(
            self.sets
                .iter()
                .flat_map(|set| &set.members)
                .copied()
                .collect(),
        )
    }

    /// Whether a node is in one of them.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.sets.iter().any(|set| set.members.contains(&node))
    }

    /// Where a vote stands: `yes` and `no` say who has answered how.
    #[must_use]
    pub fn verdict(&self, yes: impl Fn(NodeId) -> bool, no: impl Fn(NodeId) -> bool) -> Verdict {
        let mut verdict = Verdict::Reached;
        for set in &self.sets {
            let agreed = set.members.iter().filter(|node| yes(**node)).count();
            let left = set.members.iter().filter(|node| !no(**node)).count();
            if left < set.enough {
                return Verdict::Impossible;
            }
            if agreed < set.enough {
                verdict = Verdict::Pending;
            }
        }
        verdict
    }
}

fn sorted(mut ids: Vec<NodeId>) -> Vec<NodeId> {
    ids.sort_unstable();
    ids.dedup();
    ids
}
