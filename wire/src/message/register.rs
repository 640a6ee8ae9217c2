//! Requests to one register of one replica.

use crate::id::{BucketId, RowKey};
use bytes::Bytes;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::{Epoch, Generation, PartitionId};
use ringfort_ring::quorum::Replica;
use ringfort_ring::register::acceptor::{Claim, Refusal};
use serde::{Deserialize, Serialize};

/// Promise a ballot, and show what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareRequest {
    /// The replica that is meant.
    pub to: Replica,
    /// The row's partition.
    pub partition: PartitionId,
    /// The row.
    pub key: RowKey,
    /// Ballot, epoch, generation, birth.
    pub claim: Claim,
}

/// The answer to a Prepare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrepareReply {
    /// Promised. What is shown is durable.
    Promised {
        /// Zero: the empty register.
        accepted: Ballot,
        /// The encoded state, without the inline body; `None` over the empty register.
        state: Option<Bytes>,
        /// The replica's floor.
        floor: Ballot,
        /// Whether its disk is full: it will refuse an Accept of a new value that takes room.
        is_full: bool,
    },
    /// Not promised.
    Refused(Refusal),
}

/// Accept a value, or take the replay of an Accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptRequest {
    /// The replica that is meant.
    pub to: Replica,
    /// The row's partition.
    pub partition: PartitionId,
    /// The row.
    pub key: RowKey,
    /// Ballot, epoch, generation, birth.
    pub claim: Claim,
    /// The encoded state.
    pub state: Bytes,
}

impl AcceptRequest {
    /// States without a body up to so many bytes are taken on a full disk too: deletes are among them.
    pub const SMALL_STATE_BYTES: usize = 4 * 1024;

    /// Whether a full disk refuses these bytes where they are a new value. The system's own registers are small and
    /// few, and must go on.
    #[must_use]
    pub fn takes_room(key: &RowKey, state_len: usize, body_len: usize) -> bool {
        key.bucket != BucketId::SYSTEM && (body_len > 0 || state_len > Self::SMALL_STATE_BYTES)
    }
}

/// The answer to an Accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AcceptReply {
    /// Fsynced.
    Accepted,
    /// Not accepted.
    Refused(Refusal),
}

/// Read a row's durable state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadRequest {
    /// The replica that is meant.
    pub to: Replica,
    /// The row's partition.
    pub partition: PartitionId,
    /// The row's epoch, as the reader knows it.
    pub epoch: Epoch,
    /// The bucket's generation, as the reader knows it.
    pub generation: Generation,
    /// The row.
    pub key: RowKey,
    /// Whether to send the inline body as the payload.
    pub wants_body: bool,
}

/// The answer to a Read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadReply {
    /// The durable state.
    Row {
        /// Zero: the empty register.
        accepted: Ballot,
        /// The encoded state; `None` over the empty register.
        state: Option<Bytes>,
    },
    /// Not answered.
    Refused(Refusal),
}

/// Read the durable rows of an upload's parts, by rising number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadPartsRequest {
    /// The replica that is meant.
    pub to: Replica,
    /// The key's partition.
    pub partition: PartitionId,
    /// The row's epoch, as the reader knows it.
    pub epoch: Epoch,
    /// The bucket's generation, as the reader knows it.
    pub generation: Generation,
    /// The key's row; its `part` names the upload, and the number after which to begin.
    pub after: RowKey,
    /// At most so many rows, 1 to 1,000.
    pub limit: u32,
}

/// The answer to a ReadParts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadPartsReply {
    /// The rows found.
    Parts {
        /// Number, ballot, encoded state.
        rows: Vec<(u16, Ballot, Bytes)>,
        /// Whether there is nothing behind the last of them.
        is_complete: bool,
    },
    /// Not answered.
    Refused(Refusal),
}
