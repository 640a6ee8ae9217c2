//! The names of what coordinators count, each with its sentence. No other file spells one.

use metrics::{describe_gauge, gauge};

/// Rows and chunks that replicas missed while this process wrote them, and have not been given yet, by `kind`.
pub const HINTS_WAITING: &str = "ringfort_hints_waiting";

/// Partitions by `state`: `whole`, `degraded`, `without_quorum`; and, counted beside that, `moving`.
pub const PARTITIONS: &str = "ringfort_partitions";

/// Tells the recorder what each name means. Once a process, after the recorder is installed.
pub fn describe() {
    describe_gauge!(
        HINTS_WAITING,
        "Rows and chunks that replicas missed and have not been given yet, by kind."
    );
    describe_gauge!(
        PARTITIONS,
        "Partitions by state, as this process sees the nodes: whole, degraded, without_quorum, and moving."
    );
}

/// What waits for replicas that missed it.
#[allow(
    clippy::cast_precision_loss,
    reason = "a gauge is a float, and hints are bounded far below 2^53"
)]
pub(crate) fn hints_waiting(rows: usize, chunks: usize) {
    gauge!(HINTS_WAITING, "kind" => "rows").set(rows as f64);
    gauge!(HINTS_WAITING, "kind" => "chunks").set(chunks as f64);
}

/// How many partitions have how much of what they need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartitionCounts {
    pub(crate) whole: u32,
    pub(crate) degraded: u32,
    pub(crate) without_quorum: u32,
    pub(crate) moving: u32,
}

/// How the partitions are.
pub(crate) fn partitions(counts: PartitionCounts) {
    gauge!(PARTITIONS, "state" => "whole").set(f64::from(counts.whole));
    gauge!(PARTITIONS, "state" => "degraded").set(f64::from(counts.degraded));
    gauge!(PARTITIONS, "state" => "without_quorum").set(f64::from(counts.without_quorum));
    gauge!(PARTITIONS, "state" => "moving").set(f64::from(counts.moving));
}
