//! Dropping tombstones, and the identity write that buries operations which never happened (DESIGN 4.10, 4.13).
//!
//! Every message names the epoch of its partition's row: what is learnt in one epoch is not acted on in another.

use super::register::PrepareRequest;
use crate::id::RowKey;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{Epoch, PartitionId};
use ringfort_ring::quorum::Replica;
use ringfort_ring::register::acceptor::Refusal;
use ringfort_ring::register::collect::Holding;
use serde::{Deserialize, Serialize};

/// The most rows of one message about tombstones: keys of 1,024 bytes fill a quarter of a frame.
pub const TOMBSTONES_MAX: usize = 1_000;

/// Which of these tombstones are durably held, with nothing queued?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyTombstonesRequest {
    /// The replica that is meant.
    pub to: Replica,
    /// The partition of all the rows.
    pub partition: PartitionId,
    /// Its row's epoch.
    pub epoch: Epoch,
    /// Rows, and the ballots of their tombstones; at most [`TOMBSTONES_MAX`].
    pub rows: Vec<(RowKey, Ballot)>,
}

/// The answer to a SurveyTombstones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SurveyTombstonesReply {
    /// One for each row, in that order.
    Held(Vec<Holding>),
    /// Not answered.
    Refused(Refusal),
}

/// Refuse everything of a partition at or below a ballot, durably and for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaiseFloorRequest {
    /// The replica that is meant.
    pub to: Replica,
    /// The partition.
    pub partition: PartitionId,
    /// Its row's epoch.
    pub epoch: Epoch,
    /// The floor; a lower one than is held changes nothing.
    pub floor: Ballot,
}

/// The answer to a RaiseFloor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RaiseFloorReply {
    /// The floor, or a higher one, is durable.
    Raised,
    /// It is not raised.
    Refused(Refusal),
}

/// Remove rows that hold exactly these ballots. Good only once a floor at or above them is durable on all members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRowsRequest {
    /// The replica that is meant.
    pub to: Replica,
    /// The partition of all the rows.
    pub partition: PartitionId,
    /// Its row's epoch.
    pub epoch: Epoch,
    /// Rows and ballots; at most [`TOMBSTONES_MAX`].
    pub rows: Vec<(RowKey, Ballot)>,
}

/// The answer to a DropRows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DropRowsReply {
    /// How many rows are gone.
    Dropped(u32),
    /// Nothing was dropped.
    Refused(Refusal),
}

/// A Prepare that carries a birth bound: the replica adopts it durably before it promises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareBoundRequest {
    /// The Prepare; of an identity write.
    pub prepare: PrepareRequest,
    /// From then on refuse new values of operations born before it, in the whole partition.
    pub bound: Timestamp,
}

/// What has a node collected?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageStatusRequest {}

/// The answer to a GarbageStatus: since the node started, but for what says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageStatusReply {
    /// Passes over all that it holds.
    pub passes: u64,
    /// Deleted rows that are kept yet, as the last pass met them.
    pub tombstones: u64,
    /// Partitions that the last pass left alone because a member was away or behind.
    pub partitions_waiting: u64,
    /// Deleted rows that were dropped from all replicas.
    pub rows_dropped: u64,
    /// Registers of ended parts and in removed buckets that were emptied.
    pub rows_emptied: u64,
    /// Writes and uploads that nothing names, whose chunks were found.
    pub orphans: u64,
    /// Their chunks, sent to be deleted.
    pub chunks_deleted: u64,
    /// Bytes of those chunks, of one replica each.
    pub chunk_bytes_deleted: u64,
    /// Steps of the last pass that did not come to their end.
    pub failed: u64,
}
