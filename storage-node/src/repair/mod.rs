//! What a node mends by itself, beside what readers and writers mend on their way.

mod diff;
mod scrub;
mod sweep;

pub use scrub::ScrubPace;
pub use sweep::{SweepPace, SweepReport, SweepTotals};

pub(crate) use scrub::{Board, Scrubber, kept_on};
pub(crate) use sweep::{Sweeper, sweep_disk};
