//! What is enough: majorities, and majorities of two sets while a partition moves (DESIGN 3 and 4.7).
//!
//! Replies are counted once per replica identity, in each half by itself. Everything that the design calls a
//! "majority" goes through [`Tally`].

use crate::id::{DiskId, Epoch};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The identity of a replica: a disk as it stands in a row. The same disk joined anew is another replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Replica {
    /// The disk.
    pub disk: DiskId,
    /// The layout version at which it joined the row.
    pub joined: Epoch,
}

/// Who must agree, in one epoch of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumRule {
    old: Vec<Replica>,
    new: Option<Vec<Replica>>,
}

/// Whether enough replies are in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Not yet; it may still become either.
    Pending,
    /// A majority (of each half) said yes.
    Reached,
    /// So many said no that a majority cannot be reached any more.
    Impossible,
}

impl QuorumRule {
    /// A majority of one set. A replica that is named twice is one member.
    #[must_use]
    pub fn stable(members: Vec<Replica>) -> Self {
        Self {
            old: distinct(members),
            new: None,
        }
    }

    /// A majority of `old` and a majority of `new`.
    #[must_use]
    pub fn joint(old: Vec<Replica>, new: Vec<Replica>) -> Self {
        Self {
            old: distinct(old),
            new: Some(distinct(new)),
        }
    }

    /// Every replica to ask, once each, those of the old half first.
    #[must_use]
    pub fn members(&self) -> Vec<Replica> {
        let mut members = self.old.clone();
        for replica in self.new.iter().flatten() {
            if !members.contains(replica) {
                members.push(*replica);
            }
        }
        members
    }

    /// Whether a replica may be counted at all.
    #[must_use]
    pub fn contains(&self, replica: Replica) -> bool {
        self.old.contains(&replica) || self.new.iter().flatten().any(|other| *other == replica)
    }

    /// Whether the partition is moving.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.new.is_some()
    }

    /// The members of the new half that are not of the old one; none where the partition does not move.
    #[must_use]
    pub fn newcomers(&self) -> Vec<Replica> {
        let new = self.new.iter().flatten();
        new.filter(|one| !self.old.contains(one)).copied().collect()
    }

    /// Whether `yes`, a predicate over replicas, holds for a majority of each half.
    #[must_use]
    pub fn holds(&self, mut yes: impl FnMut(Replica) -> bool) -> bool {
        self.halves().all(|half| {
            let count = half.iter().filter(|replica| yes(**replica)).count();
            count >= majority(half.len())
        })
    }

    /// How many members a majority of the larger half has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.halves()
            .map(|half| majority(half.len()))
            .max()
            .unwrap_or(1)
    }

    fn halves(&self) -> impl Iterator<Item = &Vec<Replica>> {
        core::iter::once(&self.old).chain(self.new.as_ref())
    }
}

fn distinct(members: Vec<Replica>) -> Vec<Replica> {
    let mut kept = Vec::with_capacity(members.len());
    for replica in members {
        if !kept.contains(&replica) {
            kept.push(replica);
        }
    }
    kept
}

/// The smallest number that any two sets of it, out of `count`, share a member.
#[must_use]
pub const fn majority(count: usize) -> usize {
    count / 2 + 1
}

/// Counts yes and no under a rule. A replica counts once; one outside the rule never does.
#[derive(Clone, Debug)]
pub struct Tally {
    rule: QuorumRule,
    yes: Vec<Replica>,
    no: Vec<Replica>,
}

impl Tally {
    /// An empty count.
    #[must_use]
    pub fn new(rule: QuorumRule) -> Self {
        Self {
            rule,
            yes: Vec::new(),
            no: Vec::new(),
        }
    }

    /// Counts one reply; the first of a replica stands.
    pub fn record(&mut self, replica: Replica, is_yes: bool) -> Verdict {
        if self.rule.contains(replica) && !self.has_heard(replica) {
            if is_yes {
                self.yes.push(replica);
            } else {
                self.no.push(replica);
            }
        }
        self.verdict()
    }

    /// Whether a replica was counted.
    #[must_use]
    pub fn has_heard(&self, replica: Replica) -> bool {
        self.yes.contains(&replica) || self.no.contains(&replica)
    }

    /// The replicas that said yes.
    #[must_use]
    pub fn yes(&self) -> &[Replica] {
        &self.yes
    }

    /// Where the count stands.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.rule.holds(|replica| self.yes.contains(&replica)) {
            Verdict::Reached
        } else if self.rule.holds(|replica| !self.no.contains(&replica)) {
            Verdict::Pending
        } else {
            Verdict::Impossible
        }
    }

    /// The rule.
    #[must_use]
    pub fn rule(&self) -> &QuorumRule {
        &self.rule
    }
}

#[cfg(test)]
#[path = "quorum_tests.rs"]
mod tests;
