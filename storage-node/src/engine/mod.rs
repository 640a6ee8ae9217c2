//! The storage engine of one disk: [`Engine`] is the whole public surface of storage.
//!
//! It keeps rows (accepted states of registers, the highest ballot counts), chunks and small facts, durable before it
//! says so. It does not know what a promise, a tombstone or a manifest is. DESIGN section 5.

pub(crate) mod anchor;
mod checkpoint;
pub(crate) mod compare;
mod index;
mod open;
mod queue;
mod read;
mod reclaim;
mod recovery;
pub mod scrub;
pub mod segment;
mod store;
mod types;
pub(crate) mod walk;
mod write_gate;

use checkpoint::Checkpointer;
use parking_lot::Mutex;
use queue::{Item, Origin, Queue};
use reclaim::Reclaimer;
use recovery::partition_facts;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{ClusterId, DiskId, Epoch, Generation, PartitionId};
use ringfort_wire::id::BucketId;
use segment::record_format::{FactKey, split};
use segment::writer::Writer;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use store::Store;
use tokio::sync::{Semaphore, oneshot, watch};

pub use segment::location::BodyLocation;
pub use types::{
    ChunkFacts, ChunkOwner, CompactReport, EngineError, EngineOptions, EngineStats, Held, Mutation,
    PartitionFacts, RecoveryReport, Rot, StoredRow,
};

/// The engine of one disk. Cheap to clone. When the last clone goes, what is queued is written and the folder is let
/// go; that blocks for about one sync.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    queue: Arc<Queue>,
    checkpointer: Arc<Checkpointer>,
    reclaimer: Reclaimer,
    /// Present where the caller drives.
    writer: Mutex<Option<Writer>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    room: Arc<Semaphore>,
    rows_room: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    horizon_found: Timestamp,
}

/// Resolves when a mutation is on stable storage and in the index. Dropping it changes nothing: the mutation goes on.
#[derive(Debug)]
#[must_use = "a mutation is durable only when its commit has resolved"]
pub struct Commit {
    done: oneshot::Receiver<Result<(), EngineError>>,
}

impl Future for Commit {
    type Output = Result<(), EngineError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.done)
            .poll(context)
            .map(|done| done.unwrap_or_else(|_| Err(stopped())))
    }
}

impl Commit {
    /// The outcome, if it is there already.
    pub fn now(&mut self) -> Option<Result<(), EngineError>> {
        match self.done.try_recv() {
            Ok(result) => Some(result),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(stopped())),
        }
    }
}

/// Room in the queue of one engine; hold it until the commit that it was taken for has resolved.
#[derive(Debug)]
pub struct Permit {
    _permit: tokio::sync::OwnedSemaphorePermit,
}

fn stopped() -> EngineError {
    EngineError::WritesClosed {
        why: "the engine stopped before the commit".to_owned(),
    }
}

impl Engine {
    /// The disk's id.
    #[must_use]
    pub fn disk_id(&self) -> DiskId {
        self.inner.store.disk_id
    }

    /// The cluster that the disk belongs to.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.inner.store.cluster
    }

    /// Waits for room in the queue: backpressure for whoever submits chunks and bodies. More than the whole queue counts
    /// as the whole queue. Cancelling is safe: nothing is taken until it resolves.
    ///
    /// # Errors
    /// `WritesClosed`.
    pub async fn reserve(&self, bytes: u32) -> Result<Permit, EngineError> {
        self.room_in(&self.inner.room, bytes).await
    }

    /// As [`Engine::reserve`], for rows: as much room again, so that a register does not stand in line behind chunks.
    ///
    /// # Errors
    /// `WritesClosed`.
    pub async fn reserve_row(&self, bytes: u32) -> Result<Permit, EngineError> {
        self.room_in(&self.inner.rows_room, bytes).await
    }

    async fn room_in(&self, room: &Arc<Semaphore>, bytes: u32) -> Result<Permit, EngineError> {
        self.inner.store.gate.check()?;
        let bytes = bytes.min(self.inner.store.options.queue_bytes);
        let permit = Arc::clone(room).acquire_many_owned(bytes).await;
        permit
            .map(|permit| Permit { _permit: permit })
            .map_err(|_| stopped())
    }

    /// Enqueues a mutation, in the order of calls; does not block. The commit resolves after the sync of its group, when
    /// the mutation is in the index.
    pub fn submit(&self, mutation: Mutation) -> Commit {
        let (sender, done) = oneshot::channel();
        match (self.inner.store.gate.check(), split(mutation)) {
            (Err(error), _) => drop(sender.send(Err(error))),
            (Ok(()), None) => drop(sender.send(Err(EngineError::Io {
                what: "submit a mutation".to_owned(),
                message: "it is longer than 4 GiB".to_owned(),
            }))),
            (Ok(()), Some((entry, first, second))) => self.inner.queue.push(Item {
                entry,
                first,
                second,
                origin: Origin::Submitted,
                done: Some(sender),
            }),
        }
        Commit { done }
    }

    /// What is stored for a partition besides rows.
    #[must_use]
    pub fn partition(&self, partition: PartitionId) -> PartitionFacts {
        partition_facts(&self.inner.store, partition)
    }

    /// The newest join epoch at which this disk's identity in a partition is over, if one is.
    #[must_use]
    pub fn lost_up_to(&self, partition: PartitionId) -> Option<Epoch> {
        let lost = self.inner.store.fact(FactKey::Lost(partition));
        // One more than the epoch is stored, so that zero stands for none.
        lost.time.0.checked_sub(1).map(Epoch)
    }

    /// The highest generation stored for a bucket; 0 where none is.
    #[must_use]
    pub fn generation(&self, bucket: BucketId) -> Generation {
        Generation(self.inner.store.fact(FactKey::Generation(bucket)).time.0)
    }

    /// The generations stored for all buckets.
    #[must_use]
    pub fn generations(&self) -> Vec<(BucketId, Generation)> {
        let state = self.inner.store.state.read();
        let facts = state.facts.iter();
        facts
            .filter_map(|(key, fact)| match key {
                FactKey::Generation(bucket) => Some((*bucket, Generation(fact.value.time.0))),
                _ => None,
            })
            .collect()
    }

    /// The promise horizon as it was found at start.
    #[must_use]
    pub fn horizon_found(&self) -> Timestamp {
        self.inner.horizon_found
    }

    /// Makes a promise horizon durable; a lower one than recorded changes nothing.
    ///
    /// # Errors
    /// `WritesClosed`, `Full`.
    pub async fn record_horizon(&self, horizon: Timestamp) -> Result<(), EngineError> {
        self.blocking(move |inner| inner.store.write_anchor(horizon))
            .await
    }

    /// Whether so little room is left that clients' bodies are to be refused. Asks the disk where it was so before:
    /// nothing else might, while nothing is written.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let store = &self.inner.store;
        let reserve = store.options.reserve_bytes;
        store.counters.free_bytes.load(Ordering::Relaxed) < reserve
            && store.ask_free_bytes() < reserve
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        let store = &self.inner.store;
        let (queue_items, queue_bytes) = self.inner.queue.size();
        let counters = &store.counters;
        let index_doubt = store.index_doubt.lock().clone();
        let state = store.state.read();
        let live_bytes = state.segments.values().map(|it| it.live_bytes).sum();
        let written: u64 = state
            .segments
            .values()
            .map(|it| it.end.saturating_sub(segment::file::HEADER_LEN))
            .sum();
        EngineStats {
            rows: state.counts.objects,
            parts: state.counts.parts,
            chunks: state.counts.chunks,
            live_bytes,
            garbage_bytes: written.saturating_sub(live_bytes),
            segments: state.segments.len() as u64,
            free_bytes: counters.free_bytes.load(Ordering::Relaxed),
            queue_items,
            queue_bytes,
            commits: counters.commits.load(Ordering::Relaxed),
            records: counters.records.load(Ordering::Relaxed),
            bytes_appended: counters.bytes_appended.load(Ordering::Relaxed),
            checkpoints: counters.checkpoints.load(Ordering::Relaxed),
            table_rows: state.active.len() as u64,
            writes_closed: store.gate.why(),
            index_doubt,
        }
    }

    /// Brings everything applied so far into the index file.
    ///
    /// # Errors
    /// `Full`, `WritesClosed`, `Corrupt`.
    pub async fn checkpoint(&self) -> Result<(), EngineError> {
        let checkpointer = &self.inner.checkpointer;
        if self.inner.store.options.is_driven_by_caller {
            return checkpointer.run_one();
        }
        let (waiter, done) = oneshot::channel();
        checkpointer.order(waiter);
        done.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// One piece of compaction: copies about `max_bytes`, or gives a segment back.
    ///
    /// # Errors
    /// `Full`, `WritesClosed`, `Io`.
    pub async fn compact_once(&self, max_bytes: u64) -> Result<CompactReport, EngineError> {
        self.blocking(move |inner| {
            inner
                .reclaimer
                .run_once(max_bytes, &|| while inner.step() {})
        })
        .await
    }

    /// Becomes `Some(why)` when the disk closes for writes.
    #[must_use]
    pub fn watch_fatal(&self) -> watch::Receiver<Option<String>> {
        self.inner.store.gate.watch()
    }

    /// One group commit on the caller's thread, for an engine that is driven by its caller; whether there was any.
    pub fn step(&self) -> bool {
        self.inner.step()
    }

    /// What a quiet disk does: writes its last synced position. For an engine that is driven by its caller.
    pub fn quiet(&self) {
        if let Some(writer) = &*self.inner.writer.lock() {
            writer.write_anchor();
        }
    }

    /// Runs something that reads or writes the disk, off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Inner) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let inner = Arc::clone(&self.inner);
        if inner.store.options.is_driven_by_caller {
            return run(&inner);
        }
        // Cancelling here is safe: what was begun runs to its end, and nobody hears of it.
        let permit = Arc::clone(&inner.reads).acquire_owned().await;
        let permit = permit.map_err(|_| stopped())?;
        let task = tokio::task::spawn_blocking(move || {
            let result = run(&inner);
            drop(permit);
            result
        });
        task.await.unwrap_or_else(|error| {
            Err(EngineError::Io {
                what: "run on an IO thread".to_owned(),
                message: error.to_string(),
            })
        })
    }
}

impl Inner {
    fn step(&self) -> bool {
        let mut writer = self.writer.lock();
        let Some(writer) = writer.as_mut() else {
            return false;
        };
        let did = writer.step();
        if self.checkpointer.is_due() {
            // Its outcome shows in what fails next; a driven engine has nobody else to tell.
            drop(self.checkpointer.run_one());
        }
        did
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.stop();
        self.checkpointer.stop();
        let me = std::thread::current().id();
        for thread in self.threads.lock().drain(..) {
            if thread.thread().id() != me {
                // A panic in there has been printed; there is nobody to hand it to.
                drop(thread.join());
            }
        }
    }
}
