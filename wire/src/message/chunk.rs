//! Storing, fetching and deleting chunks.

use crate::id::ChunkId;
use crate::manifest::{ChunkOwner, ChunkRef};
use ringfort_ring::id::{Epoch, PartitionId};
use ringfort_ring::quorum::Replica;
use ringfort_ring::register::acceptor::Refusal;
use serde::{Deserialize, Serialize};

/// Store a chunk; the payload is its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreChunkRequest {
    /// The replica that is meant.
    pub to: Replica,
    /// The chunk's own partition.
    pub partition: PartitionId,
    /// That row's epoch, as the writer knows it.
    pub epoch: Epoch,
    /// Id, length and digest.
    pub chunk: ChunkRef,
    /// Who owns it.
    pub owner: ChunkOwner,
}

/// The answer to a StoreChunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreChunkReply {
    /// Fsynced, and of the digest named.
    Stored,
    /// Not stored.
    Refused(Refusal),
}

/// Fetch a range of a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchChunkRequest {
    /// The replica that is meant.
    pub to: Replica,
    /// The chunk's own partition.
    pub partition: PartitionId,
    /// That row's epoch, as the reader knows it.
    pub epoch: Epoch,
    /// The chunk.
    pub id: ChunkId,
    /// First byte.
    pub from: u32,
    /// Bytes; with `from` within the chunk's length.
    pub len: u32,
}

/// The answer to a FetchChunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchChunkReply {
    /// The payload is the range, verified against the disk's checksums.
    Found,
    /// This replica does not have it.
    Missing,
    /// Not answered.
    Refused(Refusal),
}

/// Delete chunks of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteChunksRequest {
    /// Wait so long before it, for readers under way, in milliseconds.
    pub grace_ms: u32,
    /// Replica, partition and chunk.
    pub chunks: Vec<(Replica, PartitionId, ChunkId)>,
}

/// The answer to a DeleteChunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteChunksReply {
    /// How many were taken into the queue.
    pub accepted: u32,
}

/// Chunks that a replica should have and may have missed: it fetches from its peers those that it lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteChunksRequest {
    /// Replica, chunk and owner.
    pub chunks: Vec<(Replica, ChunkRef, ChunkOwner)>,
}

/// The answer to a NoteChunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteChunksReply {
    /// How many of them it lacked and has noted.
    pub noted: u32,
}
