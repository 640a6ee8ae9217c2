//! The names of what coordinators count, each with its sentence. No other file spells one.

use metrics::{describe_gauge, gauge};

/// Rows and chunks that replicas missed while this process wrote them, and have not been given yet, by `kind`.
pub const HINTS_WAITING: &str = "ringfort_hints_waiting";

/// Tells the recorder what each name means. Once a process, after the recorder is installed.
pub fn describe() {
    describe_gauge!(
        HINTS_WAITING,
        "Rows and chunks that replicas missed and have not been given yet, by kind."
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
