//! Which operations a value has seen (DESIGN 4.8): so that a retry is known, and absence can be proof.

use crate::ballot::Ballot;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// One operation that a value was made by.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OperationRecord {
    /// The operation's random identity, the same over all its attempts.
    pub id: [u8; 16],
    /// Digest of an SDK's invocation and of all that the request asked; `None` where the client named none.
    pub invocation: Option<[u8; 16]>,
    /// The ballot of the proposal that applied it.
    pub ballot: Ballot,
    /// What the client was told, for the answer to a retry: opaque here.
    pub answer: Vec<u8>,
}

/// The last few operations of a value, oldest first, and the ballot of the newest that was trimmed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RecentOperations {
    recent: Vec<OperationRecord>,
    since: Ballot,
}

impl RecentOperations {
    /// How many operations a value remembers.
    pub const KEPT: usize = 8;

    /// The memory of a value created over an empty register: what happened at or below `floor`, the highest floor
    /// of its promise quorum, is not known.
    #[must_use]
    pub fn after_empty(floor: Ballot) -> Self {
        Self {
            recent: Vec::new(),
            since: floor,
        }
    }

    /// Adds an operation and forgets the oldest beyond [`Self::KEPT`].
    pub fn push(&mut self, record: OperationRecord) {
        self.recent.push(record);
        while self.recent.len() > Self::KEPT {
            let trimmed = self.recent.remove(0);
            self.since = self.since.max(trimmed.ballot);
        }
    }

    /// The record of an operation, by its own identity.
    #[must_use]
    pub fn find(&self, id: [u8; 16]) -> Option<&OperationRecord> {
        self.recent.iter().find(|record| record.id == id)
    }

    /// The record of an SDK's earlier try of the same invocation. It can prove presence, never absence.
    #[must_use]
    pub fn find_invocation(&self, invocation: [u8; 16]) -> Option<&OperationRecord> {
        self.recent
            .iter()
            .rev()
            .find(|record| record.invocation == Some(invocation))
    }

    /// The ballot of the newest operation that was trimmed: absence of an operation whose first Accept is above it
    /// proves that it was not applied.
    #[must_use]
    pub fn since(&self) -> Ballot {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hlc::Timestamp;
    use crate::id::Incarnation;

    fn ballot(ms: u64) -> Ballot {
        Ballot {
            time: Timestamp::from_ms(ms),
            incarnation: Incarnation::from_u128(1),
        }
    }

    fn record(number: u8) -> OperationRecord {
        OperationRecord {
            id: [number; 16],
            invocation: Some([number / 2; 16]),
            ballot: ballot(u64::from(number)),
            answer: Vec::from([number]),
        }
    }

    #[test]
    fn the_last_few_are_remembered_and_the_newest_trimmed_is_told() {
        let mut operations = RecentOperations::default();
        for number in 1..=8 {
            operations.push(record(number));
            assert_eq!(operations.since(), Ballot::ZERO);
        }
        operations.push(record(9));
        operations.push(record(10));
        assert_eq!(operations.since(), ballot(2));
        assert_eq!(operations.find([2; 16]), None);
        assert_eq!(operations.find([3; 16]), Some(&record(3)));
        assert_eq!(operations.find([10; 16]), Some(&record(10)));
    }

    #[test]
    fn over_an_empty_register_nothing_below_the_floor_is_known() {
        let mut operations = RecentOperations::after_empty(ballot(50));
        assert_eq!(operations.since(), ballot(50));
        for number in 1..=9 {
            operations.push(record(number));
        }
        // Trimming never lowers it.
        assert_eq!(operations.since(), ballot(50));
    }

    #[test]
    fn the_newest_try_of_an_invocation_is_found() {
        let mut operations = RecentOperations::default();
        for number in 1..=5 {
            operations.push(record(number));
        }
        assert_eq!(operations.find_invocation([1; 16]), Some(&record(3)));
        assert_eq!(operations.find_invocation([9; 16]), None);
    }

    #[test]
    fn it_reads_back_from_its_bytes() {
        let mut operations = RecentOperations::after_empty(ballot(3));
        operations.push(record(7));
        let bytes = postcard::to_allocvec(&operations).unwrap_or_default();
        assert_eq!(postcard::from_bytes(&bytes), Ok(operations));
    }
}
