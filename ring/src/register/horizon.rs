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

    /// Nothing above it has been granted: the T on disk.
    #[must_use]
    pub fn recorded(&self) -> Timestamp {
        self.recorded
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    #[test]
    fn a_new_disk_grants_nothing_before_it_has_recorded() {
        let mut horizon = Horizon::after_start(Timestamp::ZERO);
        assert_eq!(horizon.refused_up_to(), Timestamp::ZERO);
        assert!(!horizon.covers(at(1)));
        let wanted = horizon.next(10_000, at(10_000));
        assert_eq!(wanted, at(11_000));
        horizon.on_recorded(wanted);
        assert!(horizon.covers(at(11_000)) && !horizon.covers(at(11_000).next()));
        assert_eq!(horizon.refused_up_to(), Timestamp::ZERO);
    }

    #[test]
    fn what_was_recorded_before_a_restart_is_refused_and_not_granted_again() {
        let horizon = Horizon::after_start(at(11_000));
        assert_eq!(horizon.refused_up_to(), at(11_000));
        // Whatever passes the refusal needs a record of its own first.
        assert!(!horizon.covers(at(11_000).next()));
    }

    #[test]
    fn the_record_is_never_lower_and_covers_what_is_wanted() {
        let horizon = Horizon::after_start(at(11_000));
        // A clock that went back.
        assert_eq!(horizon.next(5_000, at(5_000)), at(11_000));
        // A ballot ahead of the clock by more than the lead.
        assert_eq!(horizon.next(10_500, at(13_000)), at(13_000));
        let mut later = horizon;
        later.on_recorded(at(9_000));
        assert!(later.covers(at(11_000)));
    }

    #[test]
    fn half_of_the_lead_is_kept_under_load() {
        let mut horizon = Horizon::after_start(Timestamp::ZERO);
        horizon.on_recorded(horizon.next(10_000, at(10_000)));
        assert!(!horizon.wants_renewal(10_500));
        assert!(horizon.wants_renewal(10_501));
    }

    #[test]
    fn a_restarted_disk_says_how_long_it_refuses() {
        let horizon = Horizon::after_start(at(11_000));
        assert_eq!(horizon.wait_ms(10_000, 500), 501);
        assert_eq!(horizon.wait_ms(10_501, 500), 0);
        assert_eq!(horizon.wait_ms(20_000, 500), 0);
        assert_eq!(horizon.wait_ms(u64::MAX, 500), 0);
    }
}
