//! What travels between the simulated processes.

use crate::checkers::history::Written;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::Epoch;
use ringfort_ring::quorum::Replica as Identity;
use ringfort_ring::register::acceptor::{Claim, Refusal};
use ringfort_ring::register::operations::RecentOperations;
use ringfort_ring::register::proposer::Promise;
use std::rc::Rc;

/// A register's value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// `None`: a tombstone.
    pub(super) content: Option<Written>,
    pub(super) operations: RecentOperations,
}

pub(super) type Shared = Rc<Value>;

/// What a client may be told of a value.
pub(super) fn content_of(value: Option<&Shared>) -> Option<Written> {
    value.and_then(|value| value.content)
}

/// A process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Process {
    Replica(usize),
    Gateway(usize),
    Collector,
    Gatherer,
    Mover,
}

/// Who asked, and in which round: late answers are told apart by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Caller {
    pub(super) process: Process,
    pub(super) call: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Request {
    Prepare {
        key: usize,
        claim: Claim,
        /// The birth bound of an identity write that buries orphans.
        bound: Option<Timestamp>,
    },
    Accept {
        key: usize,
        claim: Claim,
        value: Shared,
    },
    Read {
        key: usize,
        epoch: Epoch,
    },
    /// The newest row of the layout that the sender knows.
    LearnRow(Epoch),
    /// A new member's questions to the old ones, and what it then takes over.
    ReadGuard(Epoch),
    Adopt {
        epoch: Epoch,
        floor: Ballot,
        horizon: Timestamp,
        bound: Timestamp,
    },
    SyncRead {
        key: usize,
        epoch: Epoch,
    },
    CopyRow {
        key: usize,
        epoch: Epoch,
        ballot: Ballot,
        value: Shared,
    },
    /// Whether a tombstone is durably held with nothing queued, and at which ballot.
    HasTombstone {
        key: usize,
        epoch: Epoch,
    },
    RaiseFloor {
        epoch: Epoch,
        floor: Ballot,
    },
    Drop {
        key: usize,
        epoch: Epoch,
        ballot: Ballot,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Reply {
    Promised(Promise<Shared>),
    Accepted,
    Row(Ballot, Option<Shared>),
    Guard {
        floor: Ballot,
        horizon: Timestamp,
        bound: Timestamp,
    },
    Tombstone(Option<Ballot>),
    Done,
    Refused(Refusal),
}

/// A reply with the identity of the replica that gives it.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) from: Identity,
    /// Whether it votes: a new member does once it has adopted.
    pub(super) has_adopted: bool,
    pub(super) reply: Reply,
}
