//! The words of the engine's public surface: what goes in, what comes out, what can go wrong.

use crate::engine::segment::location::BodyLocation;
use bytes::Bytes;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{Epoch, Generation, PartitionId};
use ringfort_wire::id::{BucketId, ChunkId, RowKey};
pub use ringfort_wire::manifest::ChunkOwner;
use std::collections::BTreeSet;

/// One change, made durable as one record: after a crash it is wholly there or wholly absent.
#[derive(Clone, Debug)]
pub enum Mutation {
    /// An accepted state of one register. Of several for one key the highest ballot counts, whatever the order.
    Row {
        /// The partition that the key belongs to.
        partition: PartitionId,
        /// The epoch in which it was accepted.
        epoch: Epoch,
        /// The register.
        key: RowKey,
        /// The ballot at which it was accepted.
        ballot: Ballot,
        /// What the layer above wants back from [`Engine::row`](crate::engine::Engine::row); kept in the index.
        state: Bytes,
        /// The inline body; in the segments only. May be empty.
        body: Bytes,
    },
    /// Removes a row, if its ballot is exactly this one; otherwise nothing happens, and that is no error.
    DropRow {
        /// The register.
        key: RowKey,
        /// The only ballot that is removed.
        ballot: Ballot,
    },
    /// One immutable chunk. Written again (a repair), the newer copy counts.
    Chunk {
        /// The chunk.
        id: ChunkId,
        /// The partition that the chunk belongs to.
        partition: PartitionId,
        /// The epoch in which it was accepted.
        epoch: Epoch,
        /// Whose it is.
        owner: ChunkOwner,
        /// BLAKE3 of `data`, as the sender computed it; stored, not judged here.
        blake3: [u8; 32],
        /// The bytes.
        data: Bytes,
    },
    /// Removes a chunk; removing an absent one is no error.
    DeleteChunk {
        /// The chunk.
        id: ChunkId,
    },
    /// Raises a partition's floor; a lower one changes nothing.
    Floor {
        /// The partition.
        partition: PartitionId,
        /// The floor.
        ballot: Ballot,
    },
    /// Raises a partition's birth bound; a lower one changes nothing.
    Bound {
        /// The partition.
        partition: PartitionId,
        /// The bound.
        bound: Timestamp,
    },
    /// Raises a partition's epoch; a lower one changes nothing.
    Epoch {
        /// The partition.
        partition: PartitionId,
        /// The epoch.
        epoch: Epoch,
    },
    /// Notes the epoch at which this disk joined a partition (its identity there); a lower one changes nothing.
    Joined {
        /// The partition.
        partition: PartitionId,
        /// The join epoch.
        epoch: Epoch,
    },
    /// Notes that this disk, a new member of a partition that moves, has copied all that it must in that epoch of the
    /// row; a lower one changes nothing.
    Synced {
        /// The partition.
        partition: PartitionId,
        /// The row's epoch.
        epoch: Epoch,
    },
    /// Ends this disk's identity in a partition for every join epoch up to this one (DESIGN 4.11).
    Lost {
        /// The partition.
        partition: PartitionId,
        /// The newest join epoch that is over.
        joined: Epoch,
    },
    /// Raises a bucket's generation; a lower one changes nothing.
    Generation {
        /// The bucket.
        bucket: BucketId,
        /// The generation.
        generation: Generation,
    },
}

/// What a replica stores for one register: durable, as [`Mutation::Row`] brought it.
#[derive(Clone, Debug)]
pub struct StoredRow {
    /// The ballot at which it was accepted.
    pub ballot: Ballot,
    /// The epoch in which it was accepted.
    pub epoch: Epoch,
    /// The partition that the key belongs to.
    pub partition: PartitionId,
    /// The state.
    pub state: Bytes,
    /// Where the inline body is. It holds the segment file open, so a body stays readable however long the row is
    /// kept (and the file's space with it: do not keep rows for long).
    pub body: BodyLocation,
}

/// What is written beside a chunk's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkFacts {
    /// The partition that the chunk belongs to.
    pub partition: PartitionId,
    /// The epoch in which it was accepted.
    pub epoch: Epoch,
    /// Whose it is.
    pub owner: ChunkOwner,
    /// BLAKE3 of the bytes, as the sender computed it.
    pub blake3: [u8; 32],
    /// Length of the bytes.
    pub len_bytes: u32,
}

/// What a partition replica holds besides rows. Zero where nothing was ever written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PartitionFacts {
    /// The floor.
    pub floor: Ballot,
    /// The birth bound.
    pub bound: Timestamp,
    /// The newest epoch adopted.
    pub epoch: Epoch,
    /// The epoch at which this disk joined.
    pub joined: Epoch,
    /// The newest row epoch in which this disk, a new member then, had copied all that it must (DESIGN 4.11).
    pub synced: Epoch,
    /// The newest join epoch whose identity is over, if one is.
    pub lost: Option<Epoch>,
}

impl PartitionFacts {
    /// Whether this disk's present identity in the partition is over: it must not vote there.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.is_some_and(|lost| lost >= self.joined)
    }
}

/// Sizes and effects of one engine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Bytes preallocated for a segment file (default 256 MiB). A record that is larger gets a larger file.
    pub segment_bytes: u64,
    /// Most bytes of one group commit (default 16 MiB); a larger single record is a commit of its own.
    pub commit_bytes: u64,
    /// Log bytes after which a checkpoint is due (default 64 MiB).
    pub checkpoint_bytes: u64,
    /// Index changes after which a checkpoint is due (default 100,000).
    pub checkpoint_rows: usize,
    /// Memory of the table since the last checkpoint after which one is due (default 24 MiB).
    pub checkpoint_table_bytes: usize,
    /// Free bytes of the disk below which it [is full](crate::engine::Engine::is_full) (default 1 GiB). The upper half
    /// is for repair: below the lower one chunks and bodies are refused, whoever writes them; deletes, states without
    /// a body and small facts still go through.
    pub reserve_bytes: u64,
    /// Cache of the index file, in bytes (default 8 MiB).
    pub index_cache_bytes: usize,
    /// Bytes that [`Engine::reserve`](crate::engine::Engine::reserve) hands out at a time (default 32 MiB).
    pub queue_bytes: u32,
    /// Reads of bodies and chunks at a time (default 32).
    pub reads_at_once: usize,
    /// Whether to sync at all (default true). Off, a crash may lose what was acknowledged: for measurements.
    pub is_durable: bool,
    /// Starts no thread: whoever holds the engine drives it by [`Engine::step`](crate::engine::Engine::step), and
    /// everything happens on the caller's thread. For simulations, where one seed must give one run.
    pub is_driven_by_caller: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            segment_bytes: 256 * MIB,
            commit_bytes: 16 * MIB,
            checkpoint_bytes: 64 * MIB,
            checkpoint_rows: 100_000,
            checkpoint_table_bytes: 24 << 20,
            reserve_bytes: 1024 * MIB,
            index_cache_bytes: 8 << 20,
            queue_bytes: 32 << 20,
            reads_at_once: 32,
            is_durable: true,
            is_driven_by_caller: false,
        }
    }
}

/// Can this disk still be trusted, and for what?
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EngineError {
    /// Bytes on the disk are not what was written. On opening: the disk's identity is over. On reading: this body or
    /// chunk must come from another replica.
    #[error("corrupt: {what} at {place}")]
    Corrupt {
        /// What was being read.
        what: String,
        /// File and offset.
        place: String,
    },
    /// The operating system refused; nothing is known to be lost.
    #[error("cannot {what}: {message}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        message: String,
    },
    /// No room. This change did not happen; the engine goes on.
    #[error("the disk is full")]
    Full,
    /// A sync failed, or the engine was shut down: this change may or may not survive, and no other is taken.
    #[error("writes are closed: {why}")]
    WritesClosed {
        /// The reason.
        why: String,
    },
}

/// A place that could not be read back at start, and what it held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rot {
    /// Segment number.
    pub segment: u64,
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub len_bytes: u64,
    /// What it held.
    pub held: Held,
}

/// What a rotten place held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Held {
    /// A register's newest accepted state: the replica of its partition is over.
    Row {
        /// The partition.
        partition: PartitionId,
        /// The register.
        key: RowKey,
        /// Its ballot.
        ballot: Ballot,
    },
    /// A chunk: to be fetched again.
    Chunk {
        /// The partition.
        partition: PartitionId,
        /// The chunk.
        id: ChunkId,
    },
    /// Nothing that still counts.
    Superseded,
}

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Records read above the checkpoint.
    pub records_replayed: u64,
    /// Records above the known-synced position, appended anew.
    pub records_moved: u64,
    /// Bytes of a torn tail that were cut; never acknowledged.
    pub bytes_cut: u64,
    /// Why the index was built anew from the segments, if it was.
    pub index_rebuilt: Option<String>,
    /// One of the two anchor slots did not read back. A crash in the middle of its write does this, and so does rot
    /// of it, which would hide a higher horizon: let the horizon count from now.
    pub is_anchor_slot_bad: bool,
    /// Rotten places and what they held.
    pub rot: Vec<Rot>,
    /// Partitions in which this disk must not vote any more, from this start or an earlier one.
    pub lost_partitions: BTreeSet<PartitionId>,
    /// Chunks to fetch again.
    pub lost_chunks: Vec<ChunkId>,
}

/// Figures of one engine, for metrics and `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Registers of keys.
    pub rows: u64,
    /// Registers of parts.
    pub parts: u64,
    /// Chunks.
    pub chunks: u64,
    /// Bytes of records that count.
    pub live_bytes: u64,
    /// Bytes of records that do not.
    pub garbage_bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Free bytes of the disk, as last asked.
    pub free_bytes: u64,
    /// Changes waiting.
    pub queue_items: u64,
    /// Bytes waiting.
    pub queue_bytes: u64,
    /// Group commits since start.
    pub commits: u64,
    /// Records appended since start.
    pub records: u64,
    /// Bytes appended since start.
    pub bytes_appended: u64,
    /// Checkpoints since start.
    pub checkpoints: u64,
    /// Index changes since the last checkpoint.
    pub table_rows: u64,
    /// Why writes are closed, if they are.
    pub writes_closed: Option<String>,
    /// Why the index will be built anew at the next start, if it will.
    pub index_doubt: Option<String>,
}

/// What one piece of compaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactReport {
    /// The segment worked on.
    pub segment: Option<u64>,
    /// Bytes of live records copied on.
    pub bytes_copied: u64,
    /// Bytes given back to the file system.
    pub bytes_freed: u64,
    /// Whether more is to do now.
    pub has_more: bool,
    /// Records that could not be copied because they do not read back; their segment stays.
    pub rot: Vec<Rot>,
}
