//! `/metrics`: the recorder, and the figures that are read from a node when somebody asks.

use crate::failure::Failure;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use ringfort_storage_node::node::Node;
use ringfort_storage_node::repair::{GarbageTotals, JoinTotals, SweepTotals};
use std::sync::Arc;
use std::time::Duration;

/// Bytes free in a disk's file system.
const DISK_FREE_BYTES: &str = "ringfort_disk_free_bytes";
/// Bytes of a disk's file system.
const DISK_TOTAL_BYTES: &str = "ringfort_disk_total_bytes";
/// Bytes of records that count.
const DISK_LIVE_BYTES: &str = "ringfort_disk_live_bytes";
/// Bytes of records that compaction will free.
const DISK_GARBAGE_BYTES: &str = "ringfort_disk_garbage_bytes";
/// Registers.
const DISK_ROWS: &str = "ringfort_disk_rows";
/// Chunks.
const DISK_CHUNKS: &str = "ringfort_disk_chunks";
/// Chunks that a disk owes and is fetching.
const DISK_MISSING_CHUNKS: &str = "ringfort_disk_missing_chunks";
/// 1: the disk takes no writes.
const DISK_WRITES_CLOSED: &str = "ringfort_disk_writes_closed";
/// Comparisons of all that a node holds with its neighbours.
const SWEEPS: &str = "ringfort_sweeps_total";
/// Replicas of partitions that were compared.
const SWEEP_COMPARED: &str = "ringfort_sweep_compared_total";
/// Rows that sweeps mended.
const SWEEP_ROWS_MENDED: &str = "ringfort_sweep_rows_mended_total";
/// Chunks that sweeps let a replica fetch.
const SWEEP_CHUNKS_NOTED: &str = "ringfort_sweep_chunks_noted_total";
/// Chunks on some replicas only that nobody names.
const SWEEP_CHUNKS_UNNAMED: &str = "ringfort_sweep_chunks_unnamed";
/// Replicas that differed in the last sweep.
const SWEEP_DIFFERING: &str = "ringfort_sweep_differing";
/// Comparisons and repairs of the last sweep that did not come to their end.
const SWEEP_FAILED: &str = "ringfort_sweep_failed";
/// Records that scrubs read.
const SCRUB_RECORDS: &str = "ringfort_scrub_records_total";
/// Bytes that scrubs read.
const SCRUB_BYTES: &str = "ringfort_scrub_bytes_total";
/// What scrubs found rotten, by kind.
const SCRUB_FOUND: &str = "ringfort_scrub_found_total";
/// Of that, what is well again.
const SCRUB_MENDED: &str = "ringfort_scrub_mended_total";
/// What the last ended scrub of a disk found and could not mend.
const SCRUB_UNMENDED: &str = "ringfort_scrub_unmended";
/// When the last whole scrub of a disk began.
const SCRUB_LAST: &str = "ringfort_scrub_last_started_seconds";
/// Partitions that new members have copied whole.
const JOIN_PARTITIONS: &str = "ringfort_join_partitions_total";
/// Rows that new members have copied.
const JOIN_ROWS: &str = "ringfort_join_rows_total";
/// Chunks that new members have copied.
const JOIN_CHUNKS: &str = "ringfort_join_chunks_total";
/// Bytes of both.
const JOIN_BYTES: &str = "ringfort_join_bytes_total";
/// Rows that no majority agreed on when they were to be copied, and that were settled.
const JOIN_SETTLED: &str = "ringfort_join_rows_settled_total";
/// Passes over all that a node holds, for garbage.
const GC_PASSES: &str = "ringfort_gc_passes_total";
/// Deleted rows that are kept yet.
const GC_TOMBSTONES: &str = "ringfort_gc_tombstones";
/// Deleted rows that were dropped from all replicas.
const GC_ROWS_DROPPED: &str = "ringfort_gc_rows_dropped_total";
/// Partitions whose floor was raised.
const GC_FLOORS_RAISED: &str = "ringfort_gc_floors_raised_total";
/// Partitions left alone because a member was away or behind.
const GC_PARTITIONS_WAITING: &str = "ringfort_gc_partitions_waiting";
/// Registers of parts of ended uploads that were emptied.
const GC_PARTS_EMPTIED: &str = "ringfort_gc_parts_emptied_total";
/// Registers in removed buckets that were emptied.
const GC_ROWS_BURIED: &str = "ringfort_gc_rows_buried_total";
/// Writes and uploads that nothing names, whose chunks were found.
const GC_ORPHANS: &str = "ringfort_gc_orphans_total";
/// Their chunks.
const GC_CHUNKS_DELETED: &str = "ringfort_gc_chunks_deleted_total";
/// Bytes of those chunks, of one replica each.
const GC_CHUNK_BYTES_DELETED: &str = "ringfort_gc_chunk_bytes_deleted_total";
/// Steps of the last pass that did not come to their end.
const GC_FAILED: &str = "ringfort_gc_failed";
/// 1, with the release as a label.
const BUILD_INFO: &str = "ringfort_build_info";

/// Upper bounds of every histogram of seconds.
const SECONDS: [f64; 14] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 20.0,
];

/// What the process counts.
#[derive(Clone)]
pub(crate) struct Metrics {
    recorder: PrometheusHandle,
    nodes: Arc<Vec<Arc<Node>>>,
}

/// Installs the recorder; once a process, before anything counts.
pub(crate) fn install() -> Result<PrometheusHandle, Failure> {
    let no = |error| Failure::failed(format!("metrics cannot start: {error}"));
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .map_err(no)?
        .install_recorder()
        .map_err(no)?;
    ringfort_wire::metrics::describe();
    describe_gauge!(
        DISK_FREE_BYTES,
        Unit::Bytes,
        "Bytes free in a disk's file system."
    );
    describe_gauge!(
        DISK_TOTAL_BYTES,
        Unit::Bytes,
        "Bytes of a disk's file system."
    );
    describe_gauge!(DISK_LIVE_BYTES, Unit::Bytes, "Bytes of records that count.");
    describe_gauge!(
        DISK_GARBAGE_BYTES,
        Unit::Bytes,
        "Bytes of records that compaction will free."
    );
    describe_gauge!(DISK_ROWS, "Registers on a disk.");
    describe_gauge!(DISK_CHUNKS, "Chunks on a disk.");
    describe_gauge!(
        DISK_MISSING_CHUNKS,
        "Chunks that a disk owes and is fetching."
    );
    describe_gauge!(DISK_WRITES_CLOSED, "1: the disk takes no writes.");
    describe_counter!(
        SWEEPS,
        "Comparisons of all that a node holds with its neighbours."
    );
    describe_counter!(
        SWEEP_COMPARED,
        "Replicas of partitions that sweeps compared."
    );
    describe_counter!(SWEEP_ROWS_MENDED, "Rows that sweeps mended.");
    describe_counter!(
        SWEEP_CHUNKS_NOTED,
        "Chunks that sweeps let a replica fetch."
    );
    describe_gauge!(
        SWEEP_CHUNKS_UNNAMED,
        "Chunks on some replicas only that nobody names, as the last sweep saw."
    );
    describe_gauge!(SWEEP_DIFFERING, "Replicas that differed in the last sweep.");
    describe_gauge!(
        SWEEP_FAILED,
        "Comparisons and repairs of the last sweep that did not come to their end."
    );
    describe_counter!(SCRUB_RECORDS, "Records that scrubs read.");
    describe_counter!(SCRUB_BYTES, Unit::Bytes, "Bytes that scrubs read.");
    describe_counter!(SCRUB_FOUND, "What scrubs found rotten, by kind.");
    describe_counter!(SCRUB_MENDED, "What scrubs found rotten and is well again.");
    describe_gauge!(
        SCRUB_UNMENDED,
        "What the last ended scrub of a disk found and could not mend."
    );
    describe_gauge!(
        SCRUB_LAST,
        Unit::Seconds,
        "When the last scrub that read a whole disk began, since 1970."
    );
    describe_counter!(
        JOIN_PARTITIONS,
        "Partitions that new members have copied whole."
    );
    describe_counter!(JOIN_ROWS, "Rows that new members have copied.");
    describe_counter!(JOIN_CHUNKS, "Chunks that new members have copied.");
    describe_counter!(JOIN_BYTES, Unit::Bytes, "Bytes of copied rows and chunks.");
    describe_counter!(
        JOIN_SETTLED,
        "Rows that were open when they were to be copied, and were settled."
    );
    describe_garbage();
    describe_gauge!(BUILD_INFO, "1, with the release as a label.");
    gauge!(BUILD_INFO, "release" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(recorder)
}

fn describe_garbage() {
    describe_counter!(GC_PASSES, "Passes over all that a node holds, for garbage.");
    describe_gauge!(
        GC_TOMBSTONES,
        "Deleted rows that are kept yet, as the last pass met them."
    );
    describe_counter!(
        GC_ROWS_DROPPED,
        "Deleted rows that were dropped from all replicas."
    );
    describe_counter!(GC_FLOORS_RAISED, "Partitions whose floor was raised.");
    describe_gauge!(
        GC_PARTITIONS_WAITING,
        "Partitions left alone in the last pass because a member was away or behind."
    );
    describe_counter!(
        GC_PARTS_EMPTIED,
        "Registers of parts of ended uploads that were emptied."
    );
    describe_counter!(
        GC_ROWS_BURIED,
        "Registers in removed buckets that were emptied."
    );
    describe_counter!(
        GC_ORPHANS,
        "Writes and uploads that nothing names, whose chunks were found."
    );
    describe_counter!(
        GC_CHUNKS_DELETED,
        "Chunks that nothing names, sent to be deleted on all replicas."
    );
    describe_counter!(
        GC_CHUNK_BYTES_DELETED,
        Unit::Bytes,
        "Bytes of those chunks, of one replica each."
    );
    describe_gauge!(
        GC_FAILED,
        "Steps of the last pass that did not come to their end."
    );
}

impl Metrics {
    /// Of a process with these nodes.
    pub(crate) fn new(recorder: PrometheusHandle, nodes: Vec<Arc<Node>>) -> Self {
        Self {
            recorder,
            nodes: Arc::new(nodes),
        }
    }

    /// The text that Prometheus reads.
    pub(crate) fn render(&self) -> String {
        self.sweeps();
        self.scrubs();
        self.joins();
        self.garbage();
        for node in self.nodes.iter() {
            for disk in node.disk_statuses() {
                let id = disk.id.to_string();
                set(DISK_FREE_BYTES, &id, disk.free_bytes);
                set(DISK_TOTAL_BYTES, &id, disk.total_bytes);
                set(DISK_LIVE_BYTES, &id, disk.live_bytes);
                set(DISK_GARBAGE_BYTES, &id, disk.garbage_bytes);
                set(DISK_ROWS, &id, disk.rows);
                set(DISK_CHUNKS, &id, disk.chunks);
                set(DISK_MISSING_CHUNKS, &id, disk.missing_chunks);
                set(
                    DISK_WRITES_CLOSED,
                    &id,
                    u64::from(disk.writes_closed.is_some()),
                );
            }
        }
        self.recorder.render()
    }

    /// Sweeps, of all nodes of the process together.
    fn sweeps(&self) {
        if self.nodes.is_empty() {
            return;
        }
        let totals: Vec<_> = self.nodes.iter().map(|node| node.sweep_totals()).collect();
        let sum = |of: fn(&SweepTotals) -> u64| totals.iter().map(of).sum::<u64>();
        counter!(SWEEPS).absolute(sum(|it| it.sweeps));
        counter!(SWEEP_COMPARED).absolute(sum(|it| it.all.compared));
        counter!(SWEEP_ROWS_MENDED).absolute(sum(|it| it.all.rows_mended));
        counter!(SWEEP_CHUNKS_NOTED).absolute(sum(|it| it.all.chunks_noted));
        gauge!(SWEEP_CHUNKS_UNNAMED).set(float(sum(|it| it.last.chunks_unnamed)));
        gauge!(SWEEP_DIFFERING).set(float(sum(|it| it.last.differing)));
        gauge!(SWEEP_FAILED).set(float(sum(|it| it.last.failed)));
    }

    /// What new members have copied, of all nodes of the process together.
    fn joins(&self) {
        if self.nodes.is_empty() {
            return;
        }
        let totals: Vec<_> = self.nodes.iter().map(|node| node.join_totals()).collect();
        let sum = |of: fn(&JoinTotals) -> u64| totals.iter().map(of).sum::<u64>();
        counter!(JOIN_PARTITIONS).absolute(sum(|it| it.partitions));
        counter!(JOIN_ROWS).absolute(sum(|it| it.rows));
        counter!(JOIN_CHUNKS).absolute(sum(|it| it.chunks));
        counter!(JOIN_BYTES).absolute(sum(|it| it.bytes));
        counter!(JOIN_SETTLED).absolute(sum(|it| it.settled));
    }

    /// Scrubs, a disk each.
    fn scrubs(&self) {
        for disk in self.nodes.iter().flat_map(|node| node.scrub_status()) {
            let id = disk.disk.to_string();
            let total = disk.total;
            let count = |name: &'static str, value: u64| {
                counter!(name, "disk" => id.clone()).absolute(value);
            };
            count(SCRUB_RECORDS, total.records);
            count(SCRUB_BYTES, total.bytes);
            count(SCRUB_MENDED, total.mended);
            for (kind, value) in [
                ("row", total.rotten_rows),
                ("chunk", total.rotten_chunks),
                ("fact", total.rotten_facts),
                ("place", total.bad_places),
            ] {
                counter!(SCRUB_FOUND, "disk" => id.clone(), "kind" => kind).absolute(value);
            }
            if let Some(last) = &disk.last {
                set(SCRUB_UNMENDED, &id, last.counts.unmended());
                set(SCRUB_LAST, &id, last.started_ms / 1_000);
            }
        }
    }

    /// Collections of garbage, of all nodes of the process together.
    fn garbage(&self) {
        if self.nodes.is_empty() {
            return;
        }
        let totals: Vec<_> = self
            .nodes
            .iter()
            .map(|node| node.garbage_totals())
            .collect();
        let sum = |of: fn(&GarbageTotals) -> u64| totals.iter().map(of).sum::<u64>();
        counter!(GC_PASSES).absolute(sum(|it| it.passes));
        counter!(GC_ROWS_DROPPED).absolute(sum(|it| it.all.rows_dropped));
        counter!(GC_FLOORS_RAISED).absolute(sum(|it| it.all.floors_raised));
        counter!(GC_PARTS_EMPTIED).absolute(sum(|it| it.all.parts_emptied));
        counter!(GC_ROWS_BURIED).absolute(sum(|it| it.all.rows_buried));
        counter!(GC_ORPHANS).absolute(sum(|it| it.all.orphans));
        counter!(GC_CHUNKS_DELETED).absolute(sum(|it| it.all.chunks_deleted));
        counter!(GC_CHUNK_BYTES_DELETED).absolute(sum(|it| it.all.chunk_bytes_deleted));
        gauge!(GC_TOMBSTONES).set(float(sum(|it| it.last.tombstones)));
        gauge!(GC_PARTITIONS_WAITING).set(float(sum(|it| it.last.partitions_waiting)));
        gauge!(GC_FAILED).set(float(sum(|it| it.last.failed)));
    }

    /// Keeps histograms small while nobody reads them.
    pub(crate) async fn keep_up(self) {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            self.recorder.run_upkeep();
        }
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a gauge is a float; beyond 2^53 bytes the last digits do not matter"
)]
fn float(value: u64) -> f64 {
    value as f64
}

fn set(name: &'static str, disk: &str, value: u64) {
    gauge!(name, "disk" => disk.to_owned()).set(float(value));
}
