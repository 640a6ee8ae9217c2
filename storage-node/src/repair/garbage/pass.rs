//! One pass over one disk, step by step: rows, the tombstones found among them, chunks.

use super::orphans::Judged;
use super::rules::{Kind, has_turn, is_first, kind_of};
use super::tombstones::{Dropped, Tombstones, collect_partition};
use super::{GarbagePace, GarbageReport};
use crate::engine::walk::WalkedRow;
use crate::replica::DiskReplica;
use ringfort_coordinator::{BucketRef, Coordinator, ReadError};
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{NodeId, PartitionId};
use ringfort_ring::layout::Layout;
use ringfort_ring::register::bound;
use ringfort_wire::environment::Environment;
use ringfort_wire::error::CallError;
use ringfort_wire::id::{BucketId, ChunkId, Payload, RowKey, UploadId};
use ringfort_wire::manifest::KeyState;
use ringfort_wire::message::Call;
use ringfort_wire::transport::{Lane, Transport, call};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Rows looked at in one step.
const ROWS_A_STEP: usize = 1_000;
/// Chunks looked at in one step.
const CHUNKS_A_STEP: usize = 500;
/// Tombstones gathered before they are dropped, at most: their keys are in memory.
const GATHERED_MAX: usize = 20_000;
/// How far behind this node's clock those of other members may be, beside the ages.
const SKEW_MS: u64 = 1_000;
/// Chunks whose deletion is under way, remembered at most.
const CONDEMNED_MAX: usize = 500_000;

/// What passes work with.
pub(crate) struct Collector {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) environment: Environment,
    pub(crate) pace: GarbagePace,
}

impl Collector {
    pub(super) async fn ask<C: Call>(
        &self,
        node: NodeId,
        request: C,
    ) -> Result<C::Reply, CallError> {
        let transport = self.transport.as_ref();
        let payload = Payload::new();
        let reply = call(transport, node, Lane::Repair, request, payload, DEADLINE).await?;
        Ok(reply.0)
    }
}

/// What passes over a node's disks remember from one to the next. Lost without harm.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// How many passes there were: whose turn it is follows from that.
    pub(crate) pass: u64,
    /// Buckets that are removed for good.
    removed: HashSet<BucketId>,
    /// Chunks that are to be deleted when their grace is over.
    condemned: HashMap<ChunkId, Instant>,
}

impl Memory {
    pub(super) fn is_condemned(&self, chunk: ChunkId) -> bool {
        self.condemned.contains_key(&chunk)
    }

    pub(super) fn condemn(&mut self, chunk: ChunkId, until: Instant) {
        if self.condemned.len() < CONDEMNED_MAX {
            self.condemned.insert(chunk, until);
        }
    }

    fn begin_pass(&mut self) {
        self.pass += 1;
        let now = Instant::now();
        self.condemned.retain(|_, until| *until > now);
    }
}

enum Stage {
    Rows(Option<RowKey>),
    Tombstones,
    Chunks(Option<ChunkId>),
    Done,
}

/// A pass under way.
pub(super) struct Pass<'a> {
    pub(super) collector: &'a Collector,
    pub(super) memory: &'a mut Memory,
    pub(super) disk: &'a DiskReplica,
    pub(super) layout: &'a Layout,
    pub(super) report: GarbageReport,
    stage: Stage,
    tombstones: BTreeMap<PartitionId, Tombstones>,
    gathered: usize,
    /// The buckets that there were when somebody last looked.
    buckets: HashSet<BucketId>,
    /// That could not be found out: not tried again in this pass.
    are_buckets_unknown: bool,
    pub(super) judged: Judged,
}

/// One pass over a disk.
pub(crate) async fn collect_disk(
    collector: &Collector,
    memory: &mut Memory,
    disk: &DiskReplica,
    layout: &Layout,
) -> GarbageReport {
    memory.begin_pass();
    let mut pass = Pass {
        collector,
        memory,
        disk,
        layout,
        report: GarbageReport::default(),
        stage: Stage::Rows(None),
        tombstones: BTreeMap::new(),
        gathered: 0,
        buckets: HashSet::new(),
        are_buckets_unknown: false,
        judged: Judged::default(),
    };
    while pass.step().await {
        tokio::time::sleep(collector.pace.pause).await;
    }
    pass.report
}

impl Pass<'_> {
    /// A bounded piece of work; whether there is more.
    async fn step(&mut self) -> bool {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Rows(after) => self.step_rows(after).await,
            Stage::Tombstones => {
                self.step_tombstones().await;
                let is_empty = self.tombstones.is_empty();
                self.stage = if is_empty {
                    Stage::Chunks(None)
                } else {
                    Stage::Tombstones
                };
            }
            Stage::Chunks(after) => self.step_chunks(after).await,
            Stage::Done => {}
        }
        !matches!(self.stage, Stage::Done)
    }

    async fn step_rows(&mut self, after: Option<RowKey>) {
        let walked = match self.disk.walk_rows(after, ROWS_A_STEP).await {
            Ok(walked) => walked,
            Err(error) => {
                tracing::debug!(%error, "a pass over rows broke off");
                self.report.failed += 1;
                self.stage = Stage::Tombstones;
                return;
            }
        };
        for row in walked.found {
            self.look_at(row).await;
        }
        let is_full = self.gathered >= GATHERED_MAX;
        self.stage = match walked.examined.filter(|_| !is_full) {
            Some(examined) => Stage::Rows(Some(examined)),
            // What was not looked at now has its turn when these rows are gone.
            None => Stage::Tombstones,
        };
    }

    async fn look_at(&mut self, row: WalkedRow) {
        let Some(rule) = self.layout.rule(row.partition) else {
            return;
        };
        let now_ms = self.collector.environment.now_ms();
        let cutoff = self.cutoff(self.collector.pace.tombstone_age_ms());
        let kind = kind_of(&row.key, row.ballot, &row.state, now_ms, cutoff);
        let has_turn = has_turn(&rule, self.disk.id(), self.memory.pass);
        match kind {
            Kind::Tombstone { is_old } => {
                if is_first(&rule, self.disk.id()) {
                    self.report.tombstones += 1;
                    if is_old && self.gathered < GATHERED_MAX {
                        self.gathered += 1;
                        let rows = self.tombstones.entry(row.partition).or_default();
                        rows.push((row.key, row.ballot));
                    }
                }
            }
            Kind::Part(upload) if has_turn => self.look_at_part(&row, upload).await,
            Kind::Key if has_turn && self.is_suspicious(row.key.bucket) => {
                self.bury_key(&row).await;
            }
            Kind::Part(_) | Kind::Key | Kind::Unknown => {}
        }
    }

    /// Stamps up to here are older than an age, by the clock of every member.
    pub(super) fn cutoff(&self, age_ms: u64) -> Timestamp {
        bound::to_ask_for(self.collector.environment.now_ms(), age_ms, SKEW_MS)
    }

    /// Whether the bucket may be removed for good: its generation is raised before that, and never is of most buckets.
    fn is_suspicious(&self, bucket: BucketId) -> bool {
        bucket != BucketId::SYSTEM && self.disk.generation_of(bucket).0 > 0
    }

    /// Whether a bucket that a row or chunk here names is removed for good.
    pub(super) async fn is_removed(&mut self, bucket: BucketId) -> bool {
        if bucket == BucketId::SYSTEM || self.buckets.contains(&bucket) {
            return false;
        }
        if self.memory.removed.contains(&bucket) {
            return true;
        }
        if self.are_buckets_unknown {
            return false;
        }
        // Asked only now, when the bucket's id has been seen: a list from before that would not have a bucket that was
        // made since, and this one would look removed.
        match self.collector.coordinator.bucket_ids().await {
            Ok(buckets) => self.buckets = buckets,
            Err(error) => {
                tracing::debug!(%error, "which buckets there are could not be found out");
                self.are_buckets_unknown = true;
                self.report.failed += 1;
                return false;
            }
        }
        let is_removed = !self.buckets.contains(&bucket);
        if is_removed {
            self.memory.removed.insert(bucket);
        }
        is_removed
    }

    /// A part: its register is emptied where its upload has ended or its bucket is gone.
    async fn look_at_part(&mut self, row: &WalkedRow, upload: UploadId) {
        let key = RowKey::object(row.key.bucket, row.key.key.clone());
        let is_suspicious = self.is_suspicious(row.key.bucket);
        let is_open_here = || {
            let state = self.disk.own_state(&key);
            state.is_some_and(|state| state.has_open(upload))
        };
        if !is_suspicious && is_open_here() {
            return;
        }
        let is_removed = is_suspicious && self.is_removed(row.key.bucket).await;
        let emptied = self.empty_part(row, &key, upload, is_removed).await;
        match emptied {
            Ok(true) if is_removed => self.report.rows_buried += 1,
            Ok(true) => self.report.parts_emptied += 1,
            Ok(false) => {}
            Err(error) => self.fail(&error),
        }
        tokio::time::sleep(self.collector.pace.pause).await;
    }

    /// No part was written before its upload's beginning was chosen: where the upload is not open, it has ended, and an
    /// upload that has ended is never open again. So a linearizable read is proof.
    async fn empty_part(
        &self,
        row: &WalkedRow,
        key: &RowKey,
        upload: UploadId,
        is_removed: bool,
    ) -> Result<bool, ReadError> {
        let coordinator = &self.collector.coordinator;
        let bucket = self.bucket_of(row.key.bucket, row.partition, key).await?;
        if !is_removed {
            let read = coordinator.read::<KeyState>(bucket, key, false).await?;
            if read.state.is_some_and(|state| state.has_open(upload)) {
                return Ok(false);
            }
        }
        Ok(coordinator.empty_part(bucket, &row.key).await?)
    }

    /// A key of a bucket that may be removed: open uploads do not keep a bucket.
    async fn bury_key(&mut self, row: &WalkedRow) {
        if !self.is_removed(row.key.bucket).await {
            return;
        }
        let emptied = self.empty_key(row).await;
        match emptied {
            Ok(was_any) => self.report.rows_buried += u64::from(was_any),
            Err(error) => self.fail(&error),
        }
        tokio::time::sleep(self.collector.pace.pause).await;
    }

    async fn empty_key(&self, row: &WalkedRow) -> Result<bool, ReadError> {
        let bucket = self
            .bucket_of(row.key.bucket, row.partition, &row.key)
            .await?;
        let coordinator = &self.collector.coordinator;
        Ok(coordinator.empty_key(bucket, &row.key).await?)
    }

    pub(super) async fn bucket_of(
        &self,
        bucket: BucketId,
        partition: PartitionId,
        row: &RowKey,
    ) -> Result<BucketRef, ReadError> {
        let held = self.disk.generation_of(bucket);
        let coordinator = &self.collector.coordinator;
        coordinator
            .bucket_of_row(bucket, partition, held, row)
            .await
    }

    pub(super) fn fail(&mut self, error: &dyn std::error::Error) {
        tracing::debug!(%error, "garbage was not collected; the next pass tries again");
        self.report.failed += 1;
    }

    async fn step_tombstones(&mut self) {
        let Some((partition, rows)) = self.tombstones.pop_first() else {
            return;
        };
        match collect_partition(self.collector, self.layout, partition, &rows).await {
            Dropped::Rows(count) => {
                self.report.rows_dropped += count;
                self.report.floors_raised += 1;
            }
            Dropped::Waits => self.report.partitions_waiting += 1,
            Dropped::Nothing => {}
        }
    }

    async fn step_chunks(&mut self, after: Option<ChunkId>) {
        let (layout, disk, memory) = (self.layout, self.disk, &*self.memory);
        let wanted = |chunk: ChunkId, partition: PartitionId| {
            let rule = layout.rule(partition);
            rule.is_some_and(|rule| has_turn(&rule, disk.id(), memory.pass))
                && !memory.is_condemned(chunk)
        };
        match disk.walk_chunks(after, CHUNKS_A_STEP, wanted).await {
            Ok(walked) => {
                self.judge_chunks(walked.found).await;
                self.stage = walked
                    .examined
                    .map_or(Stage::Done, |examined| Stage::Chunks(Some(examined)));
            }
            Err(error) => self.fail(&error),
        }
    }
}
