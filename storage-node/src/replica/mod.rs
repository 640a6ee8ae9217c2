//! One disk as a replica: the acceptor of the registers it holds, and the keeper of chunks.
//!
//! Thinking is `ring`'s acceptor; storing is the engine's. This layer joins them, in the order that the protocol
//! needs: a promise is covered by the horizon on disk before it is given, an Accept is fsynced before it is
//! acknowledged, and nothing is shown that is not durable.

mod chunks;
mod compare;
mod deletions;
mod garbage;
mod generations;
mod horizon;
mod learner;
pub(crate) mod list;
mod members;
mod missing;
mod parts;
mod register;
mod slots;
#[cfg(test)]
mod tests;

use crate::engine::{Engine, EngineError, Held, RecoveryReport};
use generations::Generations;
use horizon::HorizonKeeper;
use members::Members;
use missing::MissingChunks;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{DiskId, Epoch, Generation, PartitionId};
use ringfort_ring::layout::Layout;
use ringfort_ring::placement;
use ringfort_ring::quorum::Replica;
use ringfort_ring::register::acceptor::{Guard, Reason, Refusal};
use ringfort_wire::environment::Environment;
use ringfort_wire::error::{NodeError, NodeErrorCode};
use ringfort_wire::id::{BucketId, ChunkId};
use ringfort_wire::message::{DiskStatus, SyncStatusReply};
use slots::Slots;
use std::sync::Arc;

pub(crate) use deletions::Deletions;
pub(crate) use learner::{Adoption, Learning};

/// One disk of a node, as its peers see it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct DiskReplica {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    environment: Environment,
    max_skew_ms: u64,
    slots: Slots,
    horizon: HorizonKeeper,
    members: Members,
    generations: Generations,
    missing: MissingChunks,
    deletions: Deletions,
    recovery: RecoveryReport,
}

impl DiskReplica {
    pub(crate) fn new(
        engine: Engine,
        recovery: RecoveryReport,
        environment: Environment,
        max_skew_ms: u64,
    ) -> Self {
        // A bad slot of the anchor may have hidden a higher horizon: nothing promised before now is known.
        let mut found = engine.horizon_found();
        if recovery.is_anchor_slot_bad {
            let latest = environment
                .now_ms()
                .saturating_add(max_skew_ms)
                .saturating_add(1_000);
            found = found.max(Timestamp::from_ms(latest));
        }
        let missing = MissingChunks::default();
        for id in &recovery.lost_chunks {
            missing.note_lost(*id);
        }
        Self {
            inner: Arc::new(Inner {
                horizon: HorizonKeeper::new(engine.clone(), found),
                generations: Generations::default(),
                members: Members::default(),
                slots: Slots::default(),
                deletions: Deletions::new(engine.clone()),
                missing,
                engine,
                environment,
                max_skew_ms,
                recovery,
            }),
        }
    }

    pub(crate) fn id(&self) -> DiskId {
        self.inner.engine.disk_id()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// A chunk of this disk does not read back: it is fetched anew.
    pub(crate) fn note_rotten_chunk(&self, chunk: ChunkId) {
        self.inner.missing.note_lost(chunk);
    }

    pub(crate) fn deletions(&self) -> &Deletions {
        &self.inner.deletions
    }

    /// Takes a layout in: adopts the epochs of this disk's rows durably, then answers in them.
    pub(crate) async fn adopt_layout(&self, layout: &Layout) -> Result<(), EngineError> {
        self.inner.members.adopt(&self.inner.engine, layout).await
    }

    /// The generation of a bucket that this disk holds; 0 where it knows none.
    pub(crate) fn generation_of(&self, bucket: BucketId) -> Generation {
        self.inner.generations.held(&self.inner.engine, bucket)
    }

    /// The partition of a chunk; `None` before a layout is known.
    pub(crate) fn partition_of_chunk(&self, chunk: ChunkId) -> Option<PartitionId> {
        let partitions = self.inner.members.partition_count()?;
        Some(placement::partition_of_chunk(chunk.0, partitions))
    }

    /// Adds how far this disk is where it is a new member.
    pub(crate) fn sync_status(&self, layout: &Layout, reply: &mut SyncStatusReply) {
        Members::sync_status(&self.inner.engine, layout, reply);
    }

    /// For how long this disk refuses new ballots after a restart, in milliseconds.
    pub(crate) fn horizon_wait_ms(&self) -> u64 {
        let now_ms = self.inner.environment.now_ms();
        self.inner.horizon.wait_ms(now_ms, self.inner.max_skew_ms)
    }

    /// Whether this disk is a member of anything and takes writes.
    pub(crate) fn is_serving(&self) -> bool {
        self.inner.members.is_member() && self.inner.engine.stats().writes_closed.is_none()
    }

    pub(crate) async fn checkpoint(&self) -> Result<(), EngineError> {
        self.inner.engine.checkpoint().await
    }

    /// One bounded piece of compaction; whether there is more to do.
    pub(crate) async fn compact(&self, max_bytes: u64) -> Result<bool, EngineError> {
        let report = self.inner.engine.compact_once(max_bytes).await?;
        for rot in &report.rot {
            // A row is the next scrub's: it takes more than asking for bytes.
            if let Held::Chunk { id, .. } = rot.held {
                self.note_rotten_chunk(id);
            }
        }
        Ok(report.has_more)
    }

    pub(crate) fn status(&self) -> DiskStatus {
        let stats = self.inner.engine.stats();
        DiskStatus {
            id: self.id(),
            writes_closed: stats.writes_closed,
            rows: stats.rows,
            chunks: stats.chunks,
            live_bytes: stats.live_bytes,
            garbage_bytes: stats.garbage_bytes,
            free_bytes: stats.free_bytes,
            total_bytes: stats
                .free_bytes
                .saturating_add(stats.live_bytes)
                .saturating_add(stats.garbage_bytes),
            missing_chunks: self.inner.missing.count(),
            recovery: self.recovery_in_words(),
        }
    }

    fn recovery_in_words(&self) -> Vec<String> {
        let report = &self.inner.recovery;
        let mut words = Vec::new();
        if let Some(why) = &report.index_rebuilt {
            words.push(format!("the index was built anew: {why}"));
        }
        if !report.lost_partitions.is_empty() {
            words.push(format!(
                "{} partitions lost a newest row to rot; this disk does not vote there any more",
                report.lost_partitions.len()
            ));
        }
        if !report.lost_chunks.is_empty() {
            words.push(format!(
                "{} chunks were rotten and are fetched again",
                report.lost_chunks.len()
            ));
        }
        words
    }

    /// The partition's and bucket's part of every decision; an error where the replica named is not this disk's
    /// present identity in the partition.
    fn guard(
        &self,
        to: Replica,
        partition: PartitionId,
        bucket: BucketId,
    ) -> Result<Guard, NodeError> {
        self.guard_in(&self.inner.members.seats(), to, partition, bucket)
    }

    /// As [`DiskReplica::guard`], under seats that the caller holds still.
    fn guard_in(
        &self,
        seats: &members::Seats<'_>,
        to: Replica,
        partition: PartitionId,
        bucket: BucketId,
    ) -> Result<Guard, NodeError> {
        let epoch = seats.epoch_of(to, partition)?;
        let facts = self.inner.engine.partition(partition);
        if facts.is_lost() {
            return Err(NodeError::new(
                NodeErrorCode::NotMember,
                "this disk has lost state of the partition and does not vote there any more",
            ));
        }
        Ok(Guard {
            epoch,
            generation: self.inner.generations.held(&self.inner.engine, bucket),
            floor: facts.floor,
            bound: facts.bound,
            horizon: self.inner.horizon.refused_up_to(),
            now_ms: self.inner.environment.now_ms(),
            max_skew_ms: self.inner.max_skew_ms,
        })
    }

    /// Holds the generation that a request shows, durably, before anything is answered in it.
    async fn adopt_generation(&self, bucket: BucketId, shown: Generation) -> Result<(), NodeError> {
        self.inner
            .generations
            .adopt(&self.inner.engine, bucket, shown)
            .await
            .map_err(node_error)
    }
}

/// What a caller is told of the engine's trouble.
pub(crate) fn node_error(error: EngineError) -> NodeError {
    let code = match &error {
        EngineError::Corrupt { .. } => NodeErrorCode::Corrupt,
        EngineError::Io { .. } => NodeErrorCode::Io,
        EngineError::Full => NodeErrorCode::Full,
        EngineError::WritesClosed { .. } => NodeErrorCode::WritesClosed,
    };
    NodeError::new(code, error.to_string())
}

/// A refusal for a stale epoch of a chunk's partition, which has no register.
fn stale_epoch(guard: &Guard) -> Refusal {
    Refusal {
        reason: Reason::Epoch,
        past: ringfort_ring::ballot::Ballot::ZERO,
        floor: guard.floor,
        bound: guard.bound,
        epoch: guard.epoch,
        generation: guard.generation,
        clock_ms: guard.now_ms,
    }
}

/// The epoch as a reader of chunks names it must be the replica's.
fn check_epoch(guard: &Guard, epoch: Epoch) -> Result<(), Refusal> {
    if guard.epoch == epoch {
        Ok(())
    } else {
        Err(stale_epoch(guard))
    }
}
