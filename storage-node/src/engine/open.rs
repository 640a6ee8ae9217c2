//! Making a disk, and opening one.

use super::anchor::{ANCHOR_NAME, Anchor, AnchorFacts};
use super::reclaim::Reclaimer;
use super::recovery::{self, Opened, io_failure};
use super::segment::file::{HEADER_LEN, SegmentFile, segment_name};
use super::segment::scan::{Found, Scanner};
use super::types::{EngineError, EngineOptions, RecoveryReport};
use super::{Engine, Inner};
use crate::disk::Disk;
use parking_lot::Mutex;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{ClusterId, DiskId};
use std::sync::Arc;
use tokio::sync::Semaphore;

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
        let least = HEADER_LEN;
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
}
