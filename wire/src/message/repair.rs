//! How replicas compare what they hold, and what a new member says of its progress (DESIGN 4.6, 4.11).
//!
//! A partition's rows and chunks are summed up in the leaves of a small tree ([`ringfort_ring::merkle::LEAVES`] for each). Disks that differ in
//! a leaf go through their rows in key order, naming those of the differing leaves only.

use crate::id::{ChunkId, RowKey};
use crate::manifest::{ChunkOwner, ChunkRef};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::{DiskId, Epoch, NodeId, PartitionId};
use ringfort_ring::quorum::Replica;
use serde::{Deserialize, Serialize};

/// The leaves of partitions on one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestsRequest {
    /// The replicas that are meant, each with its partition and that row's epoch; all of one disk, at most
    /// [`DigestsRequest::MAX`].
    pub replicas: Vec<(Replica, PartitionId, Epoch)>,
}

impl DigestsRequest {
    /// The most partitions in one request.
    pub const MAX: usize = 1024;
}

/// The answer to a Digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestsReply {
    /// One for each replica asked for, in that order; `None` where the disk is not that replica in that epoch, or does
    /// not vote there.
    pub digests: Vec<Option<PartitionDigest>>,
}

/// What a replica holds of a partition, summed up. Two replicas with the same digests hold the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionDigest {
    /// A sum over (row, accepted ballot) for each leaf; empty where there is no row at all.
    pub rows: Vec<u64>,
    /// A sum over chunk ids for each leaf; empty where there is no chunk.
    pub chunks: Vec<u64>,
}

/// Which leaves of which partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafSet {
    /// The replica that is meant.
    pub to: Replica,
    /// The partition.
    pub partition: PartitionId,
    /// Its row's epoch.
    pub epoch: Epoch,
    /// Bit n: leaf n.
    pub leaves: u32,
}

/// Go through a disk's rows in key order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanRowsRequest {
    /// Which leaves to name; all of one disk.
    pub wanted: Vec<LeafSet>,
    /// Begin behind this row.
    pub after: Option<RowKey>,
    /// At most so many rows in the answer.
    pub limit: u16,
}

/// The answer to a ScanRows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanRowsReply {
    /// Rows, their partitions and their accepted, durable ballots, in key order. Rows of a replica that is not the one meant are left
    /// out.
    pub rows: Vec<(RowKey, PartitionId, Ballot)>,
    /// Everything up to this row was looked at; `None`: everything there is.
    pub examined: Option<RowKey>,
    /// Of `wanted`, by index: where the disk is not that replica in that epoch.
    pub refused: Vec<u32>,
}

/// Go through a disk's chunks in order of their ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanChunksRequest {
    /// Which leaves to name; all of one disk.
    pub wanted: Vec<LeafSet>,
    /// Begin behind this chunk.
    pub after: Option<ChunkId>,
    /// At most so many chunks in the answer.
    pub limit: u16,
}

/// The answer to a ScanChunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanChunksReply {
    /// Chunks and their owners, in order of ids. One whose record does not read back is left out.
    pub chunks: Vec<(ChunkRef, ChunkOwner)>,
    /// Everything up to this chunk was looked at; `None`: everything there is.
    pub examined: Option<ChunkId>,
    /// Of `wanted`, by index: where the disk is not that replica in that epoch.
    pub refused: Vec<u32>,
}

/// How far are the new members on a node?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncStatusRequest {}

/// The answer to a SyncStatus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncStatusReply {
    /// The version of the layout that the node acts by.
    pub layout_version: u64,
    /// Of its disks: partitions that move and in which the disk has durably synced, with the epoch of the row.
    pub synced: Vec<(DiskId, PartitionId, Epoch)>,
    /// Of its disks: partitions in which the disk is a new member and has not synced yet.
    pub learning: Vec<(DiskId, PartitionId, Epoch)>,
    /// Of its disks: partitions in which the disk's identity is over, with the epoch at which it had joined.
    pub lost: Vec<(DiskId, PartitionId, Epoch)>,
    /// Nodes that have not answered this node for a second or more, and for how long, in milliseconds.
    pub silent: Vec<(NodeId, u64)>,
    /// Bytes of live records on each of its disks.
    pub used: Vec<(DiskId, u64)>,
    /// Its disks that take no writes any more, and why.
    pub closed: Vec<(DiskId, String)>,
    /// Rows and chunks that its new members have copied since the node started.
    pub copied: u64,
    /// Bytes of them.
    pub copied_bytes: u64,
}
