//! The storage engine of one disk: this file is the whole public surface of storage.
//!
//! It keeps rows (accepted states of registers, the highest ballot counts), chunks and small facts, durable before it
//! says so. It does not know what a promise, a tombstone or a manifest is. DESIGN section 5.

pub(crate) mod anchor;
mod checkpoint;
pub(crate) mod compare;
mod index;
mod queue;
mod reclaim;
mod recovery;
pub mod segment;
mod store;
mod types;
mod write_gate;

use crate::disk::Disk;
use anchor::{ANCHOR_NAME, Anchor, AnchorFacts};
use bytes::Bytes;
use checkpoint::Checkpointer;
use index::rows::{RowEntry, RowTable, index_key, object_key, part_key, row_key};
use parking_lot::Mutex;
use queue::{Item, Origin, Queue};
use reclaim::Reclaimer;
use recovery::{Opened, io_failure, partition_facts};
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{ClusterId, DiskId, Generation, PartitionId};
use ringfort_wire::id::{BucketId, ChunkId, ObjectKey, RowKey, UploadId};
use segment::file::{SegmentFile, segment_name};
use segment::location::{BodyAt, Position};
use segment::reader::{read_meta, read_payload};
use segment::record_format::{Entry, FactKey, split};
use segment::scan::{Found, Scanner};
use segment::writer::Writer;
use std::future::Future;
use std::ops::{Bound, Range};
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

fn in_use(name: &str) -> EngineError {
    EngineError::Io {
        what: "make a new disk".to_owned(),
        message: format!("the data folder holds {name}"),
    }
}

impl Engine {
    /// Makes a new disk in an empty folder, and opens it. Blocks. A creation that a crash cut short is taken up again.
    ///
    /// # Errors
    /// `Io` where the folder holds anything else, or the system refuses.
    pub fn create(
        disk: Arc<dyn Disk>,
        disk_id: DiskId,
        cluster: ClusterId,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        const FIRST: u64 = 1;
        if Self::exists(&*disk)? {
            return Err(in_use("a disk"));
        }
        let cannot = || io_failure("make a new disk");
        for name in disk.list().map_err(cannot())? {
            // `exists` has looked: nothing of worth is in them.
            if name != ANCHOR_NAME && name != segment_name(FIRST) {
                return Err(in_use(&name));
            }
            disk.remove(&name).map_err(cannot())?;
        }
        disk.sync_directory().map_err(cannot())?;
        let least = segment::file::HEADER_LEN;
        let first = SegmentFile::create(&*disk, (disk_id, cluster), (FIRST, 1, 0), least)
            .map_err(cannot())?;
        let facts = AnchorFacts {
            counter: 0,
            disk_id,
            cluster,
            horizon: Timestamp::ZERO,
            synced: first.begin(),
        };
        Anchor::create(&*disk, facts).map_err(cannot())?;
        Self::open(disk, options).map(|(engine, _)| engine)
    }

    /// Whether the folder holds a disk (or what is left of one): then it must be opened, never made anew. Blocks.
    ///
    /// # Errors
    /// `Io` where the system refuses.
    pub fn exists(disk: &dyn Disk) -> Result<bool, EngineError> {
        let cannot = || io_failure("look into the data folder");
        let names = disk.list().map_err(cannot())?;
        let is_of_a_creation = |name: &String| *name == ANCHOR_NAME || *name == segment_name(1);
        if !names.iter().all(is_of_a_creation) {
            return Ok(true);
        }
        if names.iter().any(|name| name == ANCHOR_NAME)
            && Anchor::open(disk).map_err(cannot())?.is_some()
        {
            return Ok(true);
        }
        if names.iter().any(|name| *name == segment_name(1)) {
            // The anchor is the last step of a creation. Without one, a segment that holds anything is what is left of a
            // disk that lost its anchor.
            let ids = (DiskId::default(), ClusterId::default());
            let file = SegmentFile::open(disk, ids, 1).map_err(cannot())?;
            let mut scanner = Scanner::new(&file, 0, false).map_err(cannot())?;
            let first = scanner.next().map_err(cannot())?;
            return Ok(!matches!(first, Some(Found::End { .. })));
        }
        Ok(false)
    }

    /// Opens a disk: recovery, replay. Blocks.
    ///
    /// # Errors
    /// `Corrupt` where the disk's identity is lost; `Io` where the system refuses.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: EngineOptions,
    ) -> Result<(Self, RecoveryReport), EngineError> {
        Self::start(recovery::open(&disk, &options, None)?)
    }

    /// Opens a disk with an index built anew from the segments alone. Blocks, for as long as reading the disk takes.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn rebuild_index(
        disk: Arc<dyn Disk>,
        options: EngineOptions,
    ) -> Result<(Self, RecoveryReport), EngineError> {
        let why = "it was asked for".to_owned();
        Self::start(recovery::open(&disk, &options, Some(why))?)
    }

    fn start(opened: Opened) -> Result<(Self, RecoveryReport), EngineError> {
        let Opened {
            store,
            queue,
            checkpointer,
            writer,
            report,
        } = opened;
        let options = store.options.clone();
        let horizon_found = store.anchor.lock().facts.horizon;
        let room = usize::try_from(options.queue_bytes).unwrap_or(Semaphore::MAX_PERMITS);
        let reclaimer = Reclaimer::new(
            Arc::clone(&store),
            Arc::clone(&queue),
            Arc::clone(&checkpointer),
        );
        let inner = Inner {
            queue,
            reclaimer,
            writer: Mutex::new(None),
            threads: Mutex::new(Vec::new()),
            room: Arc::new(Semaphore::new(room)),
            rows_room: Arc::new(Semaphore::new(room)),
            reads: Arc::new(Semaphore::new(options.reads_at_once.max(1))),
            horizon_found,
            checkpointer: Arc::clone(&checkpointer),
            store,
        };
        if options.is_driven_by_caller {
            *inner.writer.lock() = Some(writer);
        } else {
            let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
                std::thread::Builder::new()
                    .name(name.to_owned())
                    .spawn(run)
                    .map_err(io_failure("start a thread"))
            };
            let write = spawn("engine-writer", Box::new(move || writer.run()))?;
            inner.threads.lock().push(write);
            let check = spawn("engine-index", Box::new(move || checkpointer.run()))?;
            inner.threads.lock().push(check);
        }
        let engine = Self {
            inner: Arc::new(inner),
        };
        Ok((engine, report))
    }

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

    /// What is stored for a register: durable state only. From memory or the index file, without reading segments.
    ///
    /// # Errors
    /// `Corrupt` where the index does not read back.
    pub fn row(&self, key: &RowKey) -> Result<Option<StoredRow>, EngineError> {
        let at = index_key(key);
        loop {
            let Some(row) = self.inner.store.row(&at)? else {
                return Ok(None);
            };
            if let Some(stored) = self.stored(row)? {
                return Ok(Some(stored));
            }
            // Compaction took the segment away after the index was asked: the row is elsewhere by now.
        }
    }

    /// `None` where the row's segment was taken away after the row was read.
    fn stored(&self, row: RowEntry) -> Result<Option<StoredRow>, EngineError> {
        let skip = u32::try_from(row.state.len()).unwrap_or(u32::MAX);
        let body = if row.location.payload_len > skip {
            let segment = self.inner.store.segment(row.location.position.segment);
            if segment.is_none() && !self.is_gone(row.location.position) {
                return Ok(None);
            }
            BodyLocation {
                at: Some(BodyAt {
                    segment,
                    record: row.location,
                    skip,
                }),
            }
        } else {
            BodyLocation::none()
        };
        Ok(Some(StoredRow {
            ballot: row.ballot,
            epoch: row.epoch,
            partition: row.partition,
            state: row.state,
            body,
        }))
    }

    /// Whether a segment was missing at start already.
    fn is_gone(&self, position: Position) -> bool {
        self.inner.store.gone.contains(&position.segment)
    }

    /// A row's inline body, its checksums verified.
    ///
    /// # Errors
    /// `Corrupt` where it does not read back.
    pub async fn body(&self, row: &StoredRow) -> Result<Bytes, EngineError> {
        let Some(at) = row.body.at.clone() else {
            return Ok(Bytes::new());
        };
        self.blocking(move |_| {
            let what = "a row's body";
            let Some(segment) = at.segment else {
                return Err(segment::reader::corrupt(what, &at.record));
            };
            read_payload(
                &*segment.file,
                &segment.salt,
                &at.record,
                at.skip..at.record.payload_len,
                what,
            )
        })
        .await
    }

    /// Registers of keys of one bucket, in byte order of the keys; parts are not among them.
    ///
    /// # Errors
    /// `Corrupt` where the index does not read back.
    pub fn scan_objects(
        &self,
        bucket: BucketId,
        from: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(ObjectKey, StoredRow)>, EngineError> {
        let from = match from {
            Bound::Included(key) => Bound::Included(object_key(bucket, key)),
            Bound::Excluded(key) => Bound::Excluded(object_key(bucket, key)),
            Bound::Unbounded => Bound::Included(object_key(bucket, &[])),
        };
        let to = following(bucket.0.to_vec());
        self.scan(RowTable::Objects, &from, &to, limit, |key| Some(key.key))
    }

    /// Registers of parts of one upload with numbers above `after_number`, in order of numbers.
    ///
    /// # Errors
    /// `Corrupt` where the index does not read back.
    pub fn scan_parts(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        upload: UploadId,
        after_number: u16,
        limit: usize,
    ) -> Result<Vec<(u16, StoredRow)>, EngineError> {
        let from = Bound::Excluded(part_key(bucket, key, upload, after_number));
        let to = Bound::Included(part_key(bucket, key, upload, u16::MAX));
        self.scan(RowTable::Parts, &from, &to, limit, |key| {
            key.part.map(|part| part.number)
        })
    }

    fn scan<K>(
        &self,
        table: RowTable,
        from: &Bound<Vec<u8>>,
        to: &Bound<Vec<u8>>,
        limit: usize,
        name: impl Fn(RowKey) -> Option<K>,
    ) -> Result<Vec<(K, StoredRow)>, EngineError> {
        let rows = self
            .inner
            .store
            .rows(table, from.clone(), to.clone(), limit)?;
        let mut found = Vec::with_capacity(rows.len());
        for (bytes, row) in rows {
            let Some(key) = row_key(table, &bytes) else {
                return Err(self.inner.store.doubt(index::doubt("a row's key is none")));
            };
            let stored = match self.stored(row)? {
                Some(stored) => Some(stored),
                None => self.row(&key)?,
            };
            if let (Some(stored), Some(name)) = (stored, name(key)) {
                found.push((name, stored));
            }
        }
        Ok(found)
    }

    /// Chunks in order of their ids, from behind `after`.
    ///
    /// # Errors
    /// `Corrupt` where the index does not read back.
    pub fn scan_chunks(
        &self,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<(ChunkId, PartitionId)>, EngineError> {
        let chunks = self.inner.store.chunks(after, limit)?;
        let named = chunks.into_iter().map(|(id, chunk)| (id, chunk.partition));
        Ok(named.collect())
    }

    /// Whether a chunk is here, durably. Its bytes are not looked at.
    ///
    /// # Errors
    /// `Corrupt` where the index does not read back.
    pub fn has_chunk(&self, id: ChunkId) -> Result<bool, EngineError> {
        Ok(self.inner.store.chunk(id)?.is_some())
    }

    /// A range of a chunk's bytes (cut at the chunk's end), every 64 KiB frame that it touches verified. `None` where
    /// the chunk is not here.
    ///
    /// # Errors
    /// `Corrupt` where it does not read back.
    pub async fn chunk(
        &self,
        id: ChunkId,
        range: Range<u32>,
    ) -> Result<Option<Bytes>, EngineError> {
        self.blocking(move |inner| {
            inner.with_chunk(id, |segment, chunk| {
                read_payload(
                    &*segment.file,
                    &segment.salt,
                    &chunk.location,
                    range.clone(),
                    "a chunk",
                )
            })
        })
        .await
    }

    /// What is written beside a chunk's bytes. `None` where the chunk is not here.
    ///
    /// # Errors
    /// `Corrupt` where it does not read back.
    pub async fn chunk_facts(&self, id: ChunkId) -> Result<Option<ChunkFacts>, EngineError> {
        self.blocking(move |inner| {
            inner.with_chunk(id, |segment, chunk| {
                let what = "a chunk's owner";
                match read_meta(&*segment.file, &segment.salt, &chunk.location, what)? {
                    Entry::Chunk {
                        partition,
                        epoch,
                        blake3,
                        owner,
                        ..
                    } => Ok(ChunkFacts {
                        partition,
                        epoch,
                        owner,
                        blake3,
                        len_bytes: chunk.location.payload_len,
                    }),
                    _ => Err(segment::reader::corrupt(what, &chunk.location)),
                }
            })
        })
        .await
    }

    /// What is stored for a partition besides rows.
    #[must_use]
    pub fn partition(&self, partition: PartitionId) -> PartitionFacts {
        partition_facts(&self.inner.store, partition)
    }

    /// The highest generation stored for a bucket; 0 where none is.
    #[must_use]
    pub fn generation(&self, bucket: BucketId) -> Generation {
        Generation(self.inner.store.fact(FactKey::Generation(bucket)).time.0)
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

    fn with_chunk<T>(
        &self,
        id: ChunkId,
        read: impl Fn(&SegmentFile, &index::chunks::ChunkEntry) -> Result<T, EngineError>,
    ) -> Result<Option<T>, EngineError> {
        loop {
            let Some(chunk) = self.store.chunk(id)? else {
                return Ok(None);
            };
            if let Some(segment) = self.store.segment(chunk.location.position.segment) {
                return read(&segment, &chunk).map(Some);
            }
            // Compaction took the segment away after the index was asked: the chunk is elsewhere by now, or deleted.
        }
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

/// The end of the range of all keys that begin with `prefix`.
fn following(mut prefix: Vec<u8>) -> Bound<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if let Some(next) = last.checked_add(1) {
            prefix.push(next);
            return Bound::Excluded(prefix);
        }
    }
    Bound::Unbounded
}
