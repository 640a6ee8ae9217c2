//! What a new member asks the old ones before it may vote, and while it copies their partitions (DESIGN 4.11).
//!
//! Answered only by a replica that votes, in exactly the epoch named: an answer from another epoch would leave out what
//! was admitted in between.

use crate::id::{BucketId, RowKey};
use bytes::Bytes;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{Epoch, Generation, PartitionId};
use ringfort_ring::quorum::Replica;
use serde::{Deserialize, Serialize};

/// What must a new member of these partitions adopt?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncFactsRequest {
    /// The replicas that are asked, each with its partition and that row's epoch; all of one disk, at most
    /// [`SyncFactsRequest::MAX`].
    pub replicas: Vec<(Replica, PartitionId, Epoch)>,
}

impl SyncFactsRequest {
    /// The most partitions in one request.
    pub const MAX: usize = 1024;
}

/// The answer to a SyncFacts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncFactsReply {
    /// Floor and birth bound of each replica asked for, in that order; `None` where the disk is not that replica in that
    /// epoch, or does not vote there.
    pub facts: Vec<Option<(Ballot, Timestamp)>>,
    /// Nothing above it has been promised by the disk.
    pub horizon: Timestamp,
    /// The generations that the disk holds, of all buckets.
    pub generations: Vec<(BucketId, Generation)>,
}

/// Show rows whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchRowsRequest {
    /// The replica that is asked, its partition, that row's epoch, and the row; all of one disk, at most
    /// [`FetchRowsRequest::MAX`].
    pub rows: Vec<(Replica, PartitionId, Epoch, RowKey)>,
}

impl FetchRowsRequest {
    /// The most rows in one request.
    pub const MAX: usize = 256;
    /// The most bytes of states, and of bodies, in one answer; a single row may be larger.
    pub const ANSWER_BYTES: usize = 2 * 1024 * 1024;
}

/// The answer to a FetchRows. Its payload is the inline bodies, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchRowsReply {
    /// What the replica durably holds of each row asked for, in that order, as far as the answer reaches; `None` where
    /// it holds nothing, cannot read it, or is not that replica in that epoch.
    pub rows: Vec<Option<FetchedRow>>,
}

/// A row as a replica holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchedRow {
    /// The ballot at which it was accepted.
    pub accepted: Ballot,
    /// The encoded state.
    pub state: Bytes,
    /// Length of its inline body in the payload.
    pub body_len: u32,
}
