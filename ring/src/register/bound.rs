//! The birth bound: how an operation is made unable to happen any more, so that its chunks may go (DESIGN 4.13).
//!
//! An identity write on the key carries a bound in its Prepare. An acceptor adopts the bound durably before it promises,
//! and from then on refuses every Prepare of a new value for an operation born before it. Once the write is chosen, an
//! operation born before the bound and not named by the value written can never be chosen:
//!
//! - an Accept of it that the write's promises showed was carried on, and is named;
//! - one below the write's ballot that they did not show is refused by those that promised;
//! - for one above it, it needs a majority's promises: one of them has adopted the bound, before or after. Before: it
//!   refuses. After: it has promised above the write's ballot, and could not have promised the write.
//!
//! A read in place of the write kills no straggler. A bound on Accepts alone lets a Prepare through whose Accept reaches
//! a minority, and the next identity round, which is exempt, makes that chosen.

use crate::hlc::Timestamp;

/// Whether an acceptor may adopt a bound: none later than its own clock less the configured age, or a clock that runs
/// ahead would keep the living from being written.
#[must_use]
pub const fn may_adopt(bound: Timestamp, now_ms: u64, age_ms: u64) -> bool {
    bound.0 <= Timestamp::from_ms(now_ms.saturating_sub(age_ms)).0
}

/// The bound to ask for, so far back that acceptors whose clocks are behind by `skew_ms` adopt it.
#[must_use]
pub const fn to_ask_for(now_ms: u64, age_ms: u64, skew_ms: u64) -> Timestamp {
    Timestamp::from_ms(now_ms.saturating_sub(age_ms).saturating_sub(skew_ms))
}

/// Whether an operation can never be chosen any more, after an identity write with this bound was chosen whose value
/// names it or not.
#[must_use]
pub const fn is_dead(born: Timestamp, bound: Timestamp, is_named: bool) -> bool {
    born.0 < bound.0 && !is_named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_stays_behind_the_clock() {
        let bound = to_ask_for(100_000, 60_000, 500);
        assert_eq!(bound, Timestamp::from_ms(39_500));
        assert!(may_adopt(bound, 99_500, 60_000));
        assert!(!may_adopt(bound, 99_499, 60_000));
        // In the first moments of 1970 there is nothing to forbid.
        assert_eq!(to_ask_for(10, 60_000, 500), Timestamp::ZERO);
    }

    #[test]
    fn only_what_was_born_before_the_bound_and_is_not_named_is_dead() {
        let bound = Timestamp::from_ms(10);
        assert!(is_dead(Timestamp::from_ms(9), bound, false));
        assert!(!is_dead(Timestamp::from_ms(9), bound, true));
        assert!(!is_dead(bound, bound, false));
    }
}
