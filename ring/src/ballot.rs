//! The ballot: what orders proposals on one register (Rystsov, CASPaxos, 2018; DESIGN 4.1).

use crate::hlc::Timestamp;
use crate::id::Incarnation;
use core::fmt;
use serde::{Deserialize, Serialize};

/// One attempt's place in the order of proposals. Unique: no two attempts share one.
///
/// Orders by time, then by incarnation. [`Ballot::ZERO`] is the ballot of the empty register.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Ballot {
    /// Hybrid time at which the attempt began.
    pub time: Timestamp,
    /// The life of the proposing process.
    pub incarnation: Incarnation,
}

impl Ballot {
    /// The empty register: nothing was ever accepted.
    pub const ZERO: Self = Self {
        time: Timestamp::ZERO,
        incarnation: Incarnation([0; 16]),
    };

    /// Length of [`Ballot::to_bytes`].
    pub const BYTES: usize = 24;

    /// Whether this is the empty register's ballot.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// The greatest ballot of a stamp: everything at that time or before compares at or below it.
    #[must_use]
    pub const fn last_at(time: Timestamp) -> Self {
        Self {
            time,
            incarnation: Incarnation([0xff; 16]),
        }
    }

    /// Sortable bytes: time then incarnation, most significant first.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.time.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.incarnation.0);
        bytes
    }

    /// Reads what [`Ballot::to_bytes`] wrote.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let mut time = [0; 8];
        let mut incarnation = [0; 16];
        time.copy_from_slice(&bytes[..8]);
        incarnation.copy_from_slice(&bytes[8..]);
        Self {
            time: Timestamp(u64::from_be_bytes(time)),
            incarnation: Incarnation(incarnation),
        }
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{}", self.time, self.incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_sort_as_ballots_do() {
        let low = Ballot {
            time: Timestamp::from_ms(1),
            incarnation: Incarnation([9; 16]),
        };
        let high = Ballot {
            time: Timestamp::from_ms(2),
            incarnation: Incarnation([0; 16]),
        };
        assert!(low < high && low.to_bytes() < high.to_bytes());
        assert!(low <= Ballot::last_at(low.time));
        assert_eq!(Ballot::from_bytes(low.to_bytes()), low);
    }
}
