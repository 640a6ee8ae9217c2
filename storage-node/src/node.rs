//! A storage node: its disks, and the jobs that keep them well. Cheap to clone.

use crate::disk::os::OsDisk;
use crate::engine::{Engine, EngineError, EngineOptions};
use crate::repair::{
    Board, Collector, GarbageMemory, GarbagePace, GarbageReport, GarbageTotals, JoinPace,
    JoinTotals, Joined, Joiner, LEAVE_GRACE, Leaver, ScrubPace, Scrubber, Spending, SweepPace,
    SweepReport, SweepTotals, Sweeper, collect_disk, kept_on, sweep_disk,
};
use crate::replica::DiskReplica;
use parking_lot::Mutex;
use ringfort_coordinator::Coordinator;
use ringfort_ring::id::{ClusterId, DiskId, NodeId};
use ringfort_ring::layout::Layout;
use ringfort_wire::environment::Environment;
use ringfort_wire::error::{NodeError, NodeErrorCode};
use ringfort_wire::message::{DiskScrub, DiskStatus, StartScrubReply, StartScrubRequest};
use ringfort_wire::transport::Transport;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// What a node is made of.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its id.
    pub id: NodeId,
    /// Its name, for people.
    pub name: String,
    /// The cluster that its disks must belong to.
    pub cluster: ClusterId,
    /// The folders of its disks; an empty or absent one is made a new disk.
    pub disks: Vec<PathBuf>,
    /// How far ahead of this node's clock a ballot may be, in milliseconds (default 500).
    pub max_clock_skew_ms: u64,
    /// The engine's settings.
    pub engine: EngineOptions,
    /// How replicas are compared.
    pub sweep: SweepPace,
    /// How much new members may copy.
    pub join: JoinPace,
    /// How disks are read back.
    pub scrub: ScrubPace,
    /// How garbage is collected.
    pub garbage: GarbagePace,
}

/// Why a node cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeStartError {
    /// A disk cannot be opened, and there is no other.
    #[error("disk {folder}: {error}")]
    Disk {
        /// The folder.
        folder: String,
        /// What is wrong with it.
        error: EngineError,
    },
    /// A folder cannot be used.
    #[error("disk {folder}: {message}")]
    Folder {
        /// The folder.
        folder: String,
        /// What is wrong with it.
        message: String,
    },
    /// A folder belongs to another cluster.
    #[error(
        "disk {folder} belongs to cluster {found}, not to {wanted}: give this node its own folder"
    )]
    OtherCluster {
        /// The folder.
        folder: String,
        /// The cluster that it belongs to.
        found: ClusterId,
        /// The cluster of this node.
        wanted: ClusterId,
    },
    /// No disk is named.
    #[error("a node needs at least one disk: name a folder with --disk")]
    NoDisk,
}

/// A storage node.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    config: NodeConfig,
    environment: Environment,
    layout: watch::Receiver<Option<Arc<Layout>>>,
    disks: Vec<DiskReplica>,
    /// Folders that hold a disk which cannot be opened, and why.
    failed: Vec<(String, String)>,
    sweeps: Mutex<SweepTotals>,
    joins: Arc<Mutex<JoinTotals>>,
    /// What its repairs propose through, once it runs.
    coordinator: OnceLock<Arc<Coordinator>>,
    scrubs: Mutex<Board>,
    scrub_ordered: Notify,
    garbage: Mutex<GarbageTotals>,
    started: Instant,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({})", self.inner.config.name)
    }
}

impl Node {
    /// Opens every disk, making new those whose folder is empty. Blocking: recovery reads the log.
    ///
    /// # Errors
    /// Where no disk can be opened, or one is somebody else's. One bad disk among good ones is reported by
    /// [`Node::disk_statuses`], and the others serve.
    pub fn open(
        config: NodeConfig,
        environment: Environment,
        layout: watch::Receiver<Option<Arc<Layout>>>,
    ) -> Result<Arc<Self>, NodeStartError> {
        if config.disks.is_empty() {
            return Err(NodeStartError::NoDisk);
        }
        let mut disks = Vec::new();
        let mut failed = Vec::new();
        let mut first_error = None;
        for folder in &config.disks {
            match open_disk(folder, &config, &environment) {
                Ok(disk) => disks.push(disk),
                Err(error @ NodeStartError::OtherCluster { .. }) => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "a disk cannot be opened; the others serve");
                    failed.push((folder.display().to_string(), error.to_string()));
                    first_error.get_or_insert(error);
                }
            }
        }
        if disks.is_empty() {
            return Err(first_error.unwrap_or(NodeStartError::NoDisk));
        }
        let every_ms = u64::try_from(config.scrub.every.as_millis()).unwrap_or(u64::MAX);
        let mut scrubs = Board::default();
        for disk in &disks {
            scrubs.take_up(disk.id(), kept_on(disk.engine()), every_ms);
        }
        Ok(Arc::new(Self {
            inner: Arc::new(Inner {
                config,
                environment,
                layout,
                disks,
                failed,
                sweeps: Mutex::default(),
                joins: Arc::default(),
                coordinator: OnceLock::new(),
                scrubs: Mutex::new(scrubs),
                scrub_ordered: Notify::new(),
                garbage: Mutex::default(),
                started: Instant::now(),
            }),
        }))
    }

    /// The disks that are open, with their file systems' sizes in bytes as weights.
    #[must_use]
    pub fn disks(&self) -> Vec<(DiskId, u64)> {
        self.inner
            .disks
            .iter()
            .map(|disk| (disk.id(), disk.status().total_bytes))
            .collect()
    }

    /// How many of its folders hold a disk that cannot be opened.
    #[must_use]
    pub fn failed_folders(&self) -> usize {
        self.inner.failed.len()
    }

    /// The node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.inner.config.id
    }

    /// How the disks are, those that could not be opened too.
    #[must_use]
    pub fn disk_statuses(&self) -> Vec<DiskStatus> {
        let open = self.inner.disks.iter().map(DiskReplica::status);
        let failed = self.inner.failed.iter().map(|(folder, why)| DiskStatus {
            id: DiskId::default(),
            writes_closed: Some(format!("{folder} cannot be opened: {why}")),
            rows: 0,
            chunks: 0,
            live_bytes: 0,
            garbage_bytes: 0,
            free_bytes: 0,
            total_bytes: 0,
            missing_chunks: 0,
            recovery: Vec::new(),
        });
        open.chain(failed).collect()
    }

    /// What its sweeps have found and done since the node started.
    #[must_use]
    pub fn sweep_totals(&self) -> SweepTotals {
        *self.inner.sweeps.lock()
    }

    /// What its new members have copied since the node started.
    #[must_use]
    pub fn join_totals(&self) -> JoinTotals {
        *self.inner.joins.lock()
    }

    /// How far scrubs are, and what they found.
    #[must_use]
    pub fn scrub_status(&self) -> Vec<DiskScrub> {
        self.inner.scrubs.lock().status()
    }

    /// Orders a pass over every open disk.
    pub(crate) fn start_scrub(&self, request: &StartScrubRequest) -> StartScrubReply {
        let mut board = self.inner.scrubs.lock();
        let ordered = self.inner.disks.iter().map(|disk| {
            let id = disk.id();
            let number = board.order(id, request.bytes_per_s, request.is_mending);
            (id, number)
        });
        let passes = ordered.collect();
        drop(board);
        self.inner.scrub_ordered.notify_one();
        StartScrubReply { passes }
    }

    /// What its collections of garbage have found and done since the node started.
    #[must_use]
    pub fn garbage_totals(&self) -> GarbageTotals {
        *self.inner.garbage.lock()
    }

    pub(crate) fn garbage_pace(&self) -> &GarbagePace {
        &self.inner.config.garbage
    }

    /// Follows the layout and keeps the disks well, until `shutdown` turns true. Run it once. `coordinator` is what its
    /// repairs propose through.
    pub async fn run(
        &self,
        transport: Arc<dyn Transport>,
        coordinator: Arc<Coordinator>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        // Run once: a second one would be the same.
        let _ = self.inner.coordinator.set(Arc::clone(&coordinator));
        let joiner = Joiner {
            transport: Arc::clone(&transport),
            coordinator: Arc::clone(&coordinator),
            repair: Spending::new(self.inner.config.join.repair_bytes_per_s),
            balance: Spending::new(self.inner.config.join.balance_bytes_per_s),
            totals: Arc::clone(&self.inner.joins),
        };
        let scrubber = Scrubber {
            coordinator: Arc::clone(&coordinator),
            environment: self.inner.environment.clone(),
            pace: self.inner.config.scrub,
            board: &self.inner.scrubs,
            ordered: &self.inner.scrub_ordered,
        };
        let sweeper = Sweeper {
            transport: Arc::clone(&transport),
            coordinator: Arc::clone(&coordinator),
            environment: self.inner.environment.clone(),
            pace: self.inner.config.sweep,
        };
        let collector = Collector {
            transport: Arc::clone(&transport),
            coordinator,
            environment: self.inner.environment.clone(),
            pace: self.inner.config.garbage,
        };
        let jobs = async {
            tokio::join!(
                self.follow_layout(),
                self.run_deletions(),
                self.fetch_missing(transport.as_ref()),
                self.compact(),
                self.sweep(&sweeper),
                self.change_places(&joiner),
                scrubber.run(&self.inner.disks),
                self.collect_garbage(&collector),
            );
        };
        tokio::select! {
            () = jobs => {}
            // A dropped sender is the end of the process too.
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
    }

    /// Finishes what is queued and writes the index down, so that the next start is quick.
    pub async fn shutdown(&self) {
        for disk in &self.inner.disks {
            disk.deletions().run_due(true);
            if let Err(error) = disk.checkpoint().await {
                tracing::warn!(%error, "no checkpoint at the end; the next start replays the log");
            }
        }
    }

    async fn follow_layout(&self) {
        let mut layout = self.inner.layout.clone();
        loop {
            let current = layout.borrow_and_update().clone();
            if let Some(current) = current {
                // Side by side: a disk that hangs must not keep the others from serving in it.
                let disks = self.inner.disks.iter();
                let adopted = disks.map(|disk| adopt(disk, &current));
                let adopted = futures_util::future::join_all(adopted).await;
                if adopted.contains(&false) {
                    let again = tokio::time::sleep(Duration::from_secs(1));
                    tokio::select! {
                        _ = layout.changed() => {}
                        () = again => layout.mark_changed(),
                    }
                    continue;
                }
            }
            if layout.changed().await.is_err() {
                // The one who gives layouts has ended; so does the process.
                std::future::pending::<()>().await;
            }
        }
    }

    async fn run_deletions(&self) {
        loop {
            for disk in &self.inner.disks {
                disk.deletions().run_due(false);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn fetch_missing(&self, transport: &dyn Transport) {
        loop {
            let mut has_more = false;
            if let Some(layout) = self.layout() {
                for disk in &self.inner.disks {
                    has_more |= disk.fetch_missing(transport, &layout).await;
                }
            }
            if !has_more {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn sweep(&self, sweeper: &Sweeper) {
        /// Of so many sweeps one goes through whatever differs, also what writes under way may explain.
        const TAKES_ALL_EVERY: u64 = 10;
        for count in 1_u64.. {
            // Each node begins at its own time, so that the nodes of a cluster do not all sweep at once.
            let every_ms = u64::try_from(sweeper.pace.every.as_millis()).unwrap_or(u64::MAX);
            let spread_ms = self.inner.environment.random_below(every_ms.max(4) / 4);
            tokio::time::sleep(sweeper.pace.every + Duration::from_millis(spread_ms)).await;
            let Some(layout) = self.layout() else {
                continue;
            };
            let takes_all = count % TAKES_ALL_EVERY == 0;
            let mut whole = SweepReport::default();
            for disk in &self.inner.disks {
                whole.add(&sweep_disk(sweeper, disk, &layout, takes_all).await);
            }
            if whole.rows_mended + whole.chunks_noted > 0 {
                tracing::info!(
                    rows = whole.rows_mended,
                    chunks = whole.chunks_noted,
                    differing = whole.differing,
                    "a sweep found replicas that differ"
                );
            }
            self.inner.sweeps.lock().add(whole);
        }
    }

    /// Copies what the disks newly hold, and lets go what they hold no more; one after the other, so that nothing goes
    /// that is just being copied. The disks side by side: a slow one must not hold up the others.
    async fn change_places(&self, joiner: &Joiner) {
        let disks = self.inner.disks.iter();
        futures_util::future::join_all(disks.map(|disk| self.change_places_of(disk, joiner))).await;
    }

    async fn change_places_of(&self, disk: &DiskReplica, joiner: &Joiner) {
        const PAUSE_MIN: Duration = Duration::from_millis(500);
        const PAUSE_MAX: Duration = Duration::from_secs(30);
        let mut leaver = Leaver::new(LEAVE_GRACE);
        let mut layouts = self.inner.layout.clone();
        let mut pause = PAUSE_MIN;
        loop {
            let layout = layouts.borrow_and_update().clone();
            let mut joined = Joined::Idle;
            if let Some(layout) = layout {
                match leaver.leave(disk, &layout).await {
                    Ok((0, 0)) => {}
                    Ok((rows, chunks)) => {
                        tracing::info!(rows, chunks, disk = %disk.id(), "partitions that others hold now are gone from here");
                    }
                    Err(error) => {
                        tracing::warn!(%error, disk = %disk.id(), "what others hold now is not gone yet");
                    }
                }
                joined = joiner.join(disk, &layout).await;
            }
            pause = match joined {
                Joined::More => continue,
                Joined::Idle => PAUSE_MIN,
                // Each try goes through all that the holders have: not every half second for ever.
                Joined::Stuck => (pause * 2).min(PAUSE_MAX),
            };
            tokio::select! {
                // Its end is the process' end, which ends this task.
                _ = layouts.changed() => pause = PAUSE_MIN,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn collect_garbage(&self, collector: &Collector) {
        let mut memory: Vec<GarbageMemory> = Vec::new();
        memory.resize_with(self.inner.disks.len(), GarbageMemory::default);
        loop {
            // Each node begins at its own time: two that act at once do no harm, and work twice.
            let every_ms = u64::try_from(collector.pace.every.as_millis()).unwrap_or(u64::MAX);
            let spread_ms = self.inner.environment.random_below(every_ms.max(4) / 4);
            tokio::time::sleep(collector.pace.every + Duration::from_millis(spread_ms)).await;
            let Some(layout) = self.layout() else {
                continue;
            };
            let mut whole = GarbageReport::default();
            for (disk, memory) in self.inner.disks.iter().zip(&mut memory) {
                whole.add(&collect_disk(collector, memory, disk, &layout).await);
            }
            if whole.did_anything() {
                tracing::info!(
                    rows = whole.rows_dropped,
                    orphans = whole.orphans,
                    chunks = whole.chunks_deleted,
                    bytes = whole.chunk_bytes_deleted,
                    "garbage was collected"
                );
            }
            self.inner.garbage.lock().add(whole);
        }
    }

    async fn compact(&self) {
        /// A piece of compaction at a time, so that clients' writes get their turn.
        const PIECE_BYTES: u64 = 16 << 20;
        loop {
            let mut has_more = false;
            for disk in &self.inner.disks {
                match disk.compact(PIECE_BYTES).await {
                    Ok(more) => has_more |= more,
                    Err(error) => {
                        tracing::warn!(%error, disk = %disk.id(), "compaction failed; it is tried again");
                    }
                }
            }
            let pause = if has_more { 100 } else { 5_000 };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    pub(crate) fn disk(&self, id: DiskId) -> Result<&DiskReplica, NodeError> {
        self.inner
            .disks
            .iter()
            .find(|disk| disk.id() == id)
            .ok_or_else(|| {
                NodeError::new(
                    NodeErrorCode::NotMember,
                    format!("disk {id} is not of this node"),
                )
            })
    }

    pub(crate) fn disks_open(&self) -> &[DiskReplica] {
        &self.inner.disks
    }

    pub(crate) fn layout(&self) -> Option<Arc<Layout>> {
        self.inner.layout.borrow().clone()
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.inner.environment
    }

    /// Nodes that have not answered this one for a second or more, and for how long, in milliseconds.
    pub(crate) fn silences(&self) -> Vec<(NodeId, u64)> {
        let coordinator = self.inner.coordinator.get();
        let mut silences = coordinator.map(|one| one.silences()).unwrap_or_default();
        silences.retain(|(_, silent_ms)| *silent_ms >= 1_000);
        silences
    }

    pub(crate) fn uptime_s(&self) -> u64 {
        self.inner.started.elapsed().as_secs()
    }
}

/// Whether a disk has taken a layout in.
async fn adopt(disk: &DiskReplica, layout: &Layout) -> bool {
    match disk.adopt_layout(layout).await {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(%error, disk = %disk.id(), "a layout could not be taken in; it is tried again, and until then the disk does not serve what changed");
            false
        }
    }
}

fn open_disk(
    folder: &std::path::Path,
    config: &NodeConfig,
    environment: &Environment,
) -> Result<DiskReplica, NodeStartError> {
    let name = folder.display().to_string();
    let disk = OsDisk::open(folder).map_err(|error| NodeStartError::Folder {
        folder: name.clone(),
        message: error.to_string(),
    })?;
    let disk: Arc<dyn crate::disk::Disk> = Arc::new(disk);
    let fail = |error| NodeStartError::Disk {
        folder: name.clone(),
        error,
    };
    let options = config.engine.clone();
    let (engine, report) = if Engine::exists(disk.as_ref()).map_err(fail)? {
        Engine::open(disk, options).map_err(fail)?
    } else {
        let id = DiskId(environment.random_id());
        let engine = Engine::create(disk, id, config.cluster, options).map_err(fail)?;
        (engine, crate::engine::RecoveryReport::default())
    };
    if engine.cluster() != config.cluster {
        return Err(NodeStartError::OtherCluster {
            folder: name,
            found: engine.cluster(),
            wanted: config.cluster,
        });
    }
    Ok(DiskReplica::new(
        engine,
        report,
        environment.clone(),
        config.max_clock_skew_ms,
    ))
}
