//! The reader: when a read may be answered (DESIGN 4.5).
//!
//! A read is done when any majority agrees on one accepted *ballot*, even if a straggler shows a higher one: what
//! they agree on is chosen, and nothing higher was chosen before the read began. The empty register is ballot zero,
//! a state like any other.

use crate::ballot::Ballot;
use crate::quorum::{QuorumRule, Replica, Tally, Verdict};
use alloc::vec::Vec;

/// Where a read stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// More replies are awaited.
    Wait,
    /// A majority durably holds this ballot: answer it.
    Agreed(Ballot),
    /// Everybody has answered or cannot, a majority answered, and no majority agrees: an identity round decides.
    Split,
    /// A majority cannot be reached.
    Impossible,
}

/// Counts the answers to one read.
#[derive(Clone, Debug)]
pub struct Reader {
    rule: QuorumRule,
    tally: Tally,
    answers: Vec<(Replica, Ballot)>,
}

impl Reader {
    /// A read of one register under a rule.
    #[must_use]
    pub fn new(rule: QuorumRule) -> Self {
        Self {
            tally: Tally::new(rule.clone()),
            rule,
            answers: Vec::new(),
        }
    }

    /// A member durably holds this ballot.
    pub fn on_answer(&mut self, from: Replica, accepted: Ballot) -> Reading {
        if self.rule.contains(from) && !self.tally.has_heard(from) {
            self.tally.record(from, true);
            self.answers.push((from, accepted));
        }
        self.reading()
    }

    /// A member refused or cannot be reached.
    pub fn on_unreachable(&mut self, from: Replica) -> Reading {
        self.tally.record(from, false);
        self.reading()
    }

    /// Where the read stands.
    #[must_use]
    pub fn reading(&self) -> Reading {
        for (_, ballot) in &self.answers {
            let agrees = |replica: Replica| {
                self.answers
                    .iter()
                    .any(|(from, other)| *from == replica && other == ballot)
            };
            if self.rule.holds(agrees) {
                return Reading::Agreed(*ballot);
            }
        }
        let all_heard = self
            .rule
            .members()
            .into_iter()
            .all(|replica| self.tally.has_heard(replica));
        match self.tally.verdict() {
            Verdict::Impossible => Reading::Impossible,
            Verdict::Reached if all_heard => Reading::Split,
            Verdict::Reached | Verdict::Pending => Reading::Wait,
        }
    }

    /// The members whose durable ballot is below the agreed one: whom to repair.
    #[must_use]
    pub fn behind(&self, agreed: Ballot) -> Vec<Replica> {
        self.answers
            .iter()
            .filter(|(_, ballot)| *ballot < agreed)
            .map(|(from, _)| *from)
            .collect()
    }

    /// A member that holds this ballot.
    #[must_use]
    pub fn holder(&self, ballot: Ballot) -> Option<Replica> {
        self.answers
            .iter()
            .find(|(_, other)| *other == ballot)
            .map(|(from, _)| *from)
    }

    /// Whether a majority has answered, agreeing or not: the stragglers are now worth hurrying for.
    #[must_use]
    pub fn has_majority_answered(&self) -> bool {
        self.tally.verdict() == Verdict::Reached
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
