//! The hybrid logical clock (Kulkarni et al., 2014): wall time that never goes back and never repeats.
//!
//! A [`Timestamp`] is 48 bits of milliseconds since 1970 and 16 bits of a counter, so it compares as one
//! integer. The clock reads no time by itself: every call is handed the wall clock.

use core::fmt;
use serde::{Deserialize, Serialize};

const COUNTER_BITS: u32 = 16;

/// A point of hybrid time. Orders first by milliseconds, then by counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Before every stamp that a clock gives out.
    pub const ZERO: Self = Self(0);
    /// After every stamp that a clock gives out.
    pub const MAX: Self = Self(u64::MAX);

    /// The first stamp of a millisecond (since 1970). Saturates in the year 10889.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        if ms >> (64 - COUNTER_BITS) != 0 {
            return Self::MAX;
        }
        Self(ms << COUNTER_BITS)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The next greater stamp.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// This stamp moved on by `ms` milliseconds.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        match Self::from_ms(ms) {
            Self(delta) => Self(self.0.saturating_add(delta)),
        }
    }

    /// This stamp moved back by `ms` milliseconds, not below zero.
    #[must_use]
    pub const fn minus_ms(self, ms: u64) -> Self {
        match Self::from_ms(ms) {
            Self(delta) => Self(self.0.saturating_sub(delta)),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.ms(), self.0 & 0xffff)
    }
}

/// Gives out stamps that only rise.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    last: Timestamp,
}

impl Clock {
    /// A stamp greater than every earlier one of this clock and not before `now_ms`.
    pub fn tick(&mut self, now_ms: u64) -> Timestamp {
        self.last = self.last.next().max(Timestamp::from_ms(now_ms));
        self.last
    }

    /// Moves the clock past a stamp that someone else showed.
    pub fn observe(&mut self, seen: Timestamp) {
        self.last = self.last.max(seen);
    }

    /// The newest stamp given out or observed.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_when_the_wall_clock_stands_or_goes_back() {
        let mut clock = Clock::default();
        let a = clock.tick(1_000);
        let b = clock.tick(1_000);
        let c = clock.tick(10);
        assert!(a < b && b < c);
        assert_eq!(c.ms(), 1_000);
    }

    #[test]
    fn a_stamp_after_an_observation_is_greater_than_it() {
        let mut clock = Clock::default();
        clock.observe(Timestamp::from_ms(5_000));
        assert!(clock.tick(1) > Timestamp::from_ms(5_000));
    }

    #[test]
    fn far_times_saturate() {
        assert_eq!(Timestamp::from_ms(u64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MAX.next(), Timestamp::MAX);
        assert_eq!(Timestamp::from_ms(7).minus_ms(8), Timestamp::ZERO);
    }
}
