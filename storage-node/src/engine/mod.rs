//! The storage engine of one disk: this file is the whole public surface of storage.
//!
//! It keeps rows (accepted states of registers, the highest ballot counts), chunks and small facts, durable before it
//! says so. It does not know what a promise, a tombstone or a manifest is. DESIGN section 5.

pub mod segment;
mod types;

use crate::disk::Disk;
use bytes::Bytes;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{ClusterId, DiskId, Generation, PartitionId};
use ringfort_wire::id::{BucketId, ChunkId, ObjectKey, RowKey, UploadId};
use std::future::Future;
use std::ops::{Bound, Range};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub use segment::location::BodyLocation;
pub use types::{
    ChunkFacts, ChunkOwner, CompactReport, EngineError, EngineOptions, EngineStats, Held, Mutation,
    PartitionFacts, RecoveryReport, Rot, StoredRow,
};

/// The engine of one disk. Cheap to clone; when the last clone goes, what is queued is written and the folder is let go.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    disk_id: DiskId,
    cluster: ClusterId,
    fatal: tokio::sync::watch::Sender<Option<String>>,
}

/// Resolves when a mutation is on stable storage and in the index. Dropping it changes nothing: the mutation goes on.
#[derive(Debug)]
#[must_use = "a mutation is durable only when its commit has resolved"]
pub struct Commit {
    done: tokio::sync::oneshot::Receiver<Result<(), EngineError>>,
}

impl Future for Commit {
    type Output = Result<(), EngineError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.done).poll(context).map(|done| {
            done.unwrap_or_else(|_| Err(closed("the engine stopped before the commit")))
        })
    }
}

/// Room in the queue of one engine; hold it until the commit that it was taken for has resolved.
#[derive(Debug)]
pub struct Permit {
    _permit: tokio::sync::OwnedSemaphorePermit,
}

fn closed(why: &str) -> EngineError {
    EngineError::WritesClosed {
        why: why.to_owned(),
    }
}

#[allow(
    unused_variables,
    clippy::unused_async,
    missing_docs,
    clippy::missing_errors_doc,
    reason = "bodies follow"
)]
impl Engine {
    pub fn create(
        disk: Arc<dyn Disk>,
        disk_id: DiskId,
        cluster: ClusterId,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        Err(closed("not built"))
    }
    pub fn open(
        disk: Arc<dyn Disk>,
        options: EngineOptions,
    ) -> Result<(Self, RecoveryReport), EngineError> {
        Err(closed("not built"))
    }
    pub fn rebuild_index(
        disk: Arc<dyn Disk>,
        options: EngineOptions,
    ) -> Result<(Self, RecoveryReport), EngineError> {
        Err(closed("not built"))
    }
    /// Whether the folder holds an engine (blocking).
    pub fn exists(disk: &dyn Disk) -> Result<bool, EngineError> {
        Err(closed("not built"))
    }
    #[must_use]
    pub fn disk_id(&self) -> DiskId {
        self.inner.disk_id
    }
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.inner.cluster
    }
    pub async fn reserve(&self, bytes: u32) -> Result<Permit, EngineError> {
        Err(closed("not built"))
    }
    pub fn submit(&self, mutation: Mutation) -> Commit {
        let (_, done) = tokio::sync::oneshot::channel();
        Commit { done }
    }
    pub fn row(&self, key: &RowKey) -> Result<Option<StoredRow>, EngineError> {
        Err(closed("not built"))
    }
    pub async fn body(&self, row: &StoredRow) -> Result<Bytes, EngineError> {
        Err(closed("not built"))
    }
    pub fn scan_objects(
        &self,
        bucket: BucketId,
        from: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(ObjectKey, StoredRow)>, EngineError> {
        Err(closed("not built"))
    }
    pub fn scan_parts(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        upload: UploadId,
        after_number: u16,
        limit: usize,
    ) -> Result<Vec<(u16, StoredRow)>, EngineError> {
        Err(closed("not built"))
    }
    /// All chunks in order of their ids, from behind `after`.
    pub fn scan_chunks(
        &self,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<(ChunkId, PartitionId)>, EngineError> {
        Err(closed("not built"))
    }
    pub fn has_chunk(&self, id: ChunkId) -> Result<bool, EngineError> {
        Err(closed("not built"))
    }
    pub async fn chunk(
        &self,
        id: ChunkId,
        range: Range<u32>,
    ) -> Result<Option<Bytes>, EngineError> {
        Err(closed("not built"))
    }
    pub async fn chunk_facts(&self, id: ChunkId) -> Result<Option<ChunkFacts>, EngineError> {
        Err(closed("not built"))
    }
    #[must_use]
    pub fn partition(&self, partition: PartitionId) -> PartitionFacts {
        PartitionFacts::default()
    }
    #[must_use]
    pub fn generation(&self, bucket: BucketId) -> Generation {
        Generation::default()
    }
    #[must_use]
    pub fn horizon_found(&self) -> Timestamp {
        Timestamp::ZERO
    }
    pub async fn record_horizon(&self, horizon: Timestamp) -> Result<(), EngineError> {
        Err(closed("not built"))
    }
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        EngineStats::default()
    }
    pub async fn checkpoint(&self) -> Result<(), EngineError> {
        Err(closed("not built"))
    }
    pub async fn compact_once(&self, max_bytes: u64) -> Result<CompactReport, EngineError> {
        Err(closed("not built"))
    }
    /// Becomes `Some(why)` when the disk closes for writes.
    #[must_use]
    pub fn watch_fatal(&self) -> tokio::sync::watch::Receiver<Option<String>> {
        self.inner.fatal.subscribe()
    }
    /// One group commit on the caller's thread, for an engine with `is_driven_by_caller`; whether there was any.
    pub fn step(&self) -> bool {
        false
    }
}
