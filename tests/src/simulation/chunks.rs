//! What is stored beside the registers: the chunks of bodies, owned by the writes that stored them, and whether anything
//! that was chosen names one that is gone.

use super::message::{Shared, content_of};
use super::world::RowVersion;
use crate::checkers::Violation;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::quorum::Replica as Identity;
use std::collections::BTreeMap;

/// The promise that is guarded here.
const PROMISE: &str = "what was chosen keeps its chunks";

struct Stored {
    key: usize,
    born: Timestamp,
    is_deleted: bool,
}

/// A value that some replicas have durably accepted.
struct Accepted {
    by: Vec<Identity>,
    is_chosen: bool,
}

/// The chunks of all writes, by writer, and what the registers say of them: seen from outside, by nobody in the cluster.
#[derive(Default)]
pub(super) struct Chunks {
    stored: BTreeMap<u16, Stored>,
    accepted: BTreeMap<(usize, Ballot), Accepted>,
    chosen: BTreeMap<usize, (Ballot, Option<u16>)>,
    pub(super) violations: Vec<Violation>,
}

impl Chunks {
    pub(super) fn on_stored(&mut self, writer: u16, key: usize, born: Timestamp) {
        let stored = Stored {
            key,
            born,
            is_deleted: false,
        };
        self.stored.insert(writer, stored);
    }

    /// A replica holds a value durably. It is chosen when a majority has accepted it at one ballot, in whatever epochs.
    pub(super) fn on_accepted(
        &mut self,
        by: Identity,
        key: usize,
        ballot: Ballot,
        value: &Shared,
        rows: &[RowVersion],
    ) {
        if self.stored.is_empty() {
            return;
        }
        let accepted = self.accepted.entry((key, ballot)).or_insert(Accepted {
            by: Vec::new(),
            is_chosen: false,
        });
        if !accepted.by.contains(&by) {
            accepted.by.push(by);
        }
        let is_by = |member: Identity| accepted.by.contains(&member);
        if accepted.is_chosen || !rows.iter().any(|row| row.rule().holds(is_by)) {
            return;
        }
        accepted.is_chosen = true;
        let newest = self.chosen.get(&key).map_or(Ballot::ZERO, |(at, _)| *at);
        if ballot <= newest {
            return;
        }
        let writer = content_of(Some(value)).map(|content| content.writer);
        self.chosen.insert(key, (ballot, writer));
        let stored = writer.and_then(|writer| self.stored.get(&writer));
        if stored.is_some_and(|stored| stored.is_deleted) {
            self.violate(key, writer, "was chosen when its chunks were gone");
        }
    }

    /// Writes on a key that may have left chunks behind: those born before a bound.
    pub(super) fn born_before(&self, key: usize, bound: Timestamp) -> Vec<(u16, Timestamp)> {
        self.stored
            .iter()
            .filter(|(_, stored)| stored.key == key && !stored.is_deleted && stored.born < bound)
            .map(|(writer, stored)| (*writer, stored.born))
            .collect()
    }

    /// The chunks of a write go.
    pub(super) fn delete(&mut self, writer: u16, key: usize) {
        let Some(stored) = self.stored.get_mut(&writer) else {
            return;
        };
        stored.is_deleted = true;
        let chosen = self.chosen.get(&key).and_then(|(_, writer)| *writer);
        if chosen == Some(writer) {
            self.violate(key, chosen, "is what was chosen last, and its chunks went");
        }
    }

    fn violate(&mut self, key: usize, writer: Option<u16>, how: &str) {
        let writer = writer.unwrap_or(0);
        self.violations.push(Violation {
            promise: PROMISE,
            what: format!("key {key}: the value of write {writer} {how}"),
        });
    }
}
