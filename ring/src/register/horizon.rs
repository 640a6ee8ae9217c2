//! The promise horizon (DESIGN 4.2): no fsync for a Prepare, yet no promise forgotten by a restart.
//!
//! A disk durably records "may have promised up to T" ahead of need and grants nothing above T. After a restart
//! everything at or below the T that it finds is refused.

use crate::hlc::Timestamp;

/// One disk's horizon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Horizon {
    /// The T found at start: everything at or below is refused.
    restart: Timestamp,
    /// The T on disk now: nothing above is granted.
    recorded: Timestamp,
}

impl Horizon {
    /// How far ahead of now the horizon is recorded, in milliseconds.
    pub const AHEAD_MS: u64 = 1_000;

    /// After a start that found `recorded` on disk ([`Timestamp::ZERO`] on a new disk).
    #[must_use]
    pub fn after_start(recorded: Timestamp) -> Self {
        Self {
            restart: recorded,
            recorded,
        }
    }

    /// Everything at or below is refused: promises of an earlier life may reach so far.
    #[must_use]
    pub fn refused_up_to(&self) -> Timestamp {
        self.restart
    }

    /// Whether a promise at `time` needs no further record.
    #[must_use]
    pub fn covers(&self, time: Timestamp) -> bool {
        time <= self.recorded
    }

    /// The T to record so that promises go on after `now_ms`; it is never lower than the one on disk, and it
    /// covers `wanted`, a ballot that the clock rule has let pass.
    #[must_use]
    pub fn next(&self, now_ms: u64, wanted: Timestamp) -> Timestamp {
        self.recorded
            .max(Timestamp::from_ms(now_ms).plus_ms(Self::AHEAD_MS))
            .max(wanted)
    }

    /// Whether less than half of the lead is left, so that a loaded disk should renew ahead of need.
    #[must_use]
    pub fn wants_renewal(&self, now_ms: u64) -> bool {
        self.recorded < Timestamp::from_ms(now_ms).plus_ms(Self::AHEAD_MS / 2)
    }

    /// Notes that `recorded` is on disk.
    pub fn on_recorded(&mut self, recorded: Timestamp) {
        self.recorded = self.recorded.max(recorded);
    }

    /// How long until new ballots pass the horizon found at start, in milliseconds (0: they do).
    #[must_use]
    pub fn wait_ms(&self, now_ms: u64, max_skew_ms: u64) -> u64 {
        self.restart
            .ms()
            .saturating_add(1)
            .saturating_sub(now_ms.saturating_add(max_skew_ms))
    }
}
