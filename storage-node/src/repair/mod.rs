//! What a node mends by itself, beside what readers and writers mend on their way.

mod diff;
mod garbage;
mod join;
mod leave;
mod pace;
mod scrub;
mod sweep;

pub use garbage::{GarbagePace, GarbageReport, GarbageTotals};
pub use join::{JoinPace, JoinTotals};
pub use scrub::ScrubPace;
pub use sweep::{SweepPace, SweepReport, SweepTotals};

pub(crate) use garbage::{Collector, Memory as GarbageMemory, collect_disk};
pub(crate) use join::{Joined, Joiner};
pub(crate) use leave::{LEAVE_GRACE, Leaver};
pub(crate) use pace::Spending;
pub(crate) use scrub::{Board, Scrubber, kept_on};
pub(crate) use sweep::{Sweeper, sweep_disk};
