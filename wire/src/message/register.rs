//! Requests to one register of one replica.

use crate::id::RowKey;
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
