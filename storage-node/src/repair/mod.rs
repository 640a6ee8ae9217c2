//! What a node mends by itself, beside what readers and writers mend on their way.

mod diff;
mod garbage;
mod sweep;

pub use garbage::{GarbagePace, GarbageReport, GarbageTotals};
pub use sweep::{SweepPace, SweepReport, SweepTotals};

pub(crate) use garbage::{Collector, Memory as GarbageMemory, collect_disk};
pub(crate) use sweep::{Sweeper, sweep_disk};
