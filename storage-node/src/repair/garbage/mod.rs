//! Garbage of registers and chunks (DESIGN 4.10, 4.12, 4.13): tombstones that all replicas hold, parts of uploads that
//! have ended, chunks that nobody names and nobody will, and whatever a removed bucket has left behind.
//!
//! A pass goes through a disk's rows and then its chunks, a bounded piece at a time. What all members hold alike is the
//! first member's business; what only one of them may hold (a chunk whose deletion it missed) is looked at by the members
//! in turn, one a pass. Two that act at once do no harm: each step is safe by itself, whoever else takes it.
//!
//! Left out: partitions that move, which are left alone, and the space itself, which compaction gives back.

mod orphans;
mod pass;
mod rules;
#[cfg(test)]
mod tests;
mod tombstones;

pub(crate) use pass::{Collector, Memory, collect_disk};

use std::time::Duration;

/// How garbage is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GarbagePace {
    /// Between the end of a pass and the begin of the next.
    pub every: Duration,
    /// A tombstone is kept so long: longer than any message may be on its way, and than retries are remembered.
    pub tombstone_age: Duration,
    /// An operation that began so long ago is not let begin a round any more, and what it left behind goes. Longer than
    /// the longest upload of one body.
    pub orphan_age: Duration,
    /// How long readers under way keep chunks that nobody names any more.
    pub delete_grace: Duration,
    /// Between two pieces, and between two owners that others are asked about.
    pub pause: Duration,
}

impl Default for GarbagePace {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            every: Duration::from_secs(600),
            tombstone_age: DAY,
            orphan_age: DAY,
            delete_grace: Duration::from_secs(60),
            pause: Duration::from_millis(5),
        }
    }
}

impl GarbagePace {
    pub(crate) fn tombstone_age_ms(&self) -> u64 {
        millis(self.tombstone_age)
    }

    pub(crate) fn orphan_age_ms(&self) -> u64 {
        millis(self.orphan_age)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// What a pass found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GarbageReport {
    /// Tombstones met, young ones too, in partitions whose first member this is.
    pub tombstones: u64,
    /// Tombstones that were dropped from all replicas.
    pub rows_dropped: u64,
    /// Partitions whose floor was raised for it.
    pub floors_raised: u64,
    /// Partitions left alone because a member was away or lacked a tombstone.
    pub partitions_waiting: u64,
    /// Registers of parts of ended uploads that were emptied.
    pub parts_emptied: u64,
    /// Registers in removed buckets that were emptied.
    pub rows_buried: u64,
    /// Operations and uploads that nothing names, whose chunks were found; counted by each disk that had some.
    pub orphans: u64,
    /// Their chunks, sent to be deleted on all replicas.
    pub chunks_deleted: u64,
    /// Bytes of those chunks, of one replica each.
    pub chunk_bytes_deleted: u64,
    /// Steps that did not come to their end; the next pass tries again.
    pub failed: u64,
}

impl GarbageReport {
    /// Adds what another disk's pass found.
    pub(crate) fn add(&mut self, other: &Self) {
        self.tombstones += other.tombstones;
        self.rows_dropped += other.rows_dropped;
        self.floors_raised += other.floors_raised;
        self.partitions_waiting += other.partitions_waiting;
        self.parts_emptied += other.parts_emptied;
        self.rows_buried += other.rows_buried;
        self.orphans += other.orphans;
        self.chunks_deleted += other.chunks_deleted;
        self.chunk_bytes_deleted += other.chunk_bytes_deleted;
        self.failed += other.failed;
    }

    /// Whether anything was removed.
    pub(crate) fn did_anything(&self) -> bool {
        self.rows_dropped + self.parts_emptied + self.rows_buried + self.chunks_deleted > 0
    }
}

/// The passes of a node since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GarbageTotals {
    /// How many were made.
    pub passes: u64,
    /// All of them together.
    pub all: GarbageReport,
    /// The last one.
    pub last: GarbageReport,
}

impl GarbageTotals {
    pub(crate) fn add(&mut self, report: GarbageReport) {
        self.passes += 1;
        self.all.add(&report);
        self.last = report;
    }
}
