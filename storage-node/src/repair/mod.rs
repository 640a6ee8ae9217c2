//! What a node mends by itself, beside what readers and writers mend on their way.

mod diff;
mod sweep;

pub use sweep::{SweepPace, SweepReport, SweepTotals};

pub(crate) use sweep::{Sweeper, sweep_disk};
