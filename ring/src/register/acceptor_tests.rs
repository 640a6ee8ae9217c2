//! Tests of the acceptor: which requests pass, which rule refuses the others, and what a refusal carries.

use super::*;
use crate::id::Incarnation;

fn ballot(ms: u64) -> Ballot {
    Ballot {
        time: Timestamp::from_ms(ms),
        incarnation: Incarnation::from_u128(7),
    }
}

/// Promised 1,200, accepted 1,100 (on its way to disk), durable 1,000; floor 300, horizon 500, bound 200.
fn held() -> (Slot, Guard) {
    let slot = Slot {
        promised: ballot(1_200),
        accepted: ballot(1_100),
        durable: ballot(1_000),
    };
    let guard = Guard {
        epoch: Epoch(5),
        generation: Generation(3),
        floor: ballot(300),
        bound: Timestamp::from_ms(200),
        horizon: Timestamp::from_ms(500),
        now_ms: 2_000,
        max_skew_ms: 500,
    };
    (slot, guard)
}

fn claim(ms: u64) -> Claim {
    Claim {
        epoch: Epoch(5),
        generation: Generation(3),
        ballot: ballot(ms),
        born: None,
    }
}

fn reason<T>(outcome: Result<T, Refusal>) -> Option<Reason> {
    outcome.err().map(|refusal| refusal.reason)
}

#[test]
fn a_prepare_passes_above_all_that_was_promised_or_accepted() {
    let (slot, guard) = held();
    let check = |ms| reason(prepare(&slot, &guard, &claim(ms)));
    assert_eq!(check(1_201), None);
    assert_eq!(check(1_200), Some(Reason::Promised));
    assert_eq!(check(1_150), Some(Reason::Promised));
    assert_eq!(check(1_000), Some(Reason::Promised));
    // A promise that is somehow below the accepted ballot does not open the door.
    let odd = Slot {
        promised: Ballot::ZERO,
        ..slot
    };
    assert_eq!(
        reason(prepare(&odd, &guard, &claim(1_100))),
        Some(Reason::Promised)
    );
}

#[test]
fn an_accept_passes_at_the_promise_or_above_it() {
    let (slot, guard) = held();
    let check = |ms| accept(&slot, &guard, &claim(ms)).map_err(|refusal| refusal.reason);
    assert_eq!(check(1_200), Ok(Accepting::Append));
    assert_eq!(check(1_300), Ok(Accepting::Append));
    assert_eq!(check(1_199), Err(Reason::Promised));
    assert_eq!(check(1_100), Ok(Accepting::AlreadyQueued));
    assert_eq!(check(1_000), Ok(Accepting::AlreadyDurable));
    assert_eq!(check(900), Err(Reason::Promised));
}

/// DESIGN 4.2: only an Accept equal to the durable accepted ballot is acknowledged again after a restart.
#[test]
fn the_durable_accept_is_acknowledged_again_below_horizon_and_floor() {
    let (_, mut guard) = held();
    guard.horizon = Timestamp::from_ms(1_900);
    guard.floor = ballot(1_500);
    let slot = Slot {
        promised: ballot(1_000),
        accepted: ballot(1_000),
        durable: ballot(1_000),
    };
    assert_eq!(
        accept(&slot, &guard, &claim(1_000)),
        Ok(Accepting::AlreadyDurable)
    );
    assert_eq!(
        reason(accept(&slot, &guard, &claim(1_400))),
        Some(Reason::Floor)
    );
    assert_eq!(
        reason(accept(&slot, &guard, &claim(1_900))),
        Some(Reason::Horizon)
    );
    assert_eq!(accept(&slot, &guard, &claim(1_901)), Ok(Accepting::Append));
}

#[test]
fn the_whole_millisecond_of_the_horizon_is_refused() {
    let (_, guard) = held();
    let slot = Slot::default();
    assert_eq!(
        reason(prepare(&slot, &guard, &claim(500))),
        Some(Reason::Horizon)
    );
    let next = Claim {
        ballot: Ballot {
            time: guard.horizon.next(),
            incarnation: Incarnation::default(),
        },
        ..claim(500)
    };
    assert_eq!(prepare(&slot, &guard, &next), Ok(()));
}

#[test]
fn nothing_at_or_below_the_floor_passes() {
    let (_, mut guard) = held();
    guard.horizon = Timestamp::ZERO;
    let empty = Slot::default();
    assert_eq!(
        reason(prepare(&empty, &guard, &claim(300))),
        Some(Reason::Floor)
    );
    assert_eq!(
        reason(accept(&empty, &guard, &claim(300))),
        Some(Reason::Floor)
    );
    assert_eq!(prepare(&empty, &guard, &claim(301)), Ok(()));
    assert_eq!(accept(&empty, &guard, &claim(301)), Ok(Accepting::Append));
}

#[test]
fn another_epoch_or_generation_is_refused_whatever_the_ballot() {
    let (slot, guard) = held();
    for epoch in [4, 6] {
        let other = Claim {
            epoch: Epoch(epoch),
            ..claim(1_300)
        };
        assert_eq!(reason(prepare(&slot, &guard, &other)), Some(Reason::Epoch));
        assert_eq!(reason(accept(&slot, &guard, &other)), Some(Reason::Epoch));
        let durable = Claim {
            ballot: ballot(1_000),
            ..other
        };
        assert_eq!(reason(accept(&slot, &guard, &durable)), Some(Reason::Epoch));
        let read = admit(&slot, &guard, Epoch(epoch), Generation(3));
        assert_eq!(reason(read), Some(Reason::Epoch));
    }
    for generation in [2, 4] {
        let other = Claim {
            generation: Generation(generation),
            ..claim(1_300)
        };
        assert_eq!(
            reason(prepare(&slot, &guard, &other)),
            Some(Reason::Generation)
        );
        assert_eq!(
            reason(accept(&slot, &guard, &other)),
            Some(Reason::Generation)
        );
        let read = admit(&slot, &guard, Epoch(5), Generation(generation));
        assert_eq!(reason(read), Some(Reason::Generation));
    }
    assert_eq!(admit(&slot, &guard, Epoch(5), Generation(3)), Ok(()));
}

#[test]
fn a_ballot_too_far_ahead_of_the_own_clock_is_refused() {
    let (slot, guard) = held();
    assert_eq!(prepare(&slot, &guard, &claim(2_500)), Ok(()));
    assert_eq!(
        reason(prepare(&slot, &guard, &claim(2_501))),
        Some(Reason::ClockAhead)
    );
    assert_eq!(
        reason(accept(&slot, &guard, &claim(2_501))),
        Some(Reason::ClockAhead)
    );
}

#[test]
fn an_operation_born_before_the_bound_writes_nothing_new() {
    let (slot, guard) = held();
    let born = |ms| Claim {
        born: Some(Timestamp::from_ms(ms)),
        ..claim(1_300)
    };
    assert_eq!(
        reason(prepare(&slot, &guard, &born(199))),
        Some(Reason::Bound)
    );
    assert_eq!(prepare(&slot, &guard, &born(200)), Ok(()));
    // Identity rounds and repair name no birth.
    assert_eq!(prepare(&slot, &guard, &claim(1_300)), Ok(()));
}

/// Ballot zero is the empty register: it is never proposed, and must not count as accepted before.
#[test]
fn ballot_zero_is_never_taken() {
    let (_, mut guard) = held();
    guard.floor = Ballot::ZERO;
    guard.horizon = Timestamp::ZERO;
    let zero = Claim {
        ballot: Ballot::ZERO,
        ..claim(0)
    };
    let empty = Slot::default();
    assert!(prepare(&empty, &guard, &zero).is_err());
    assert!(accept(&empty, &guard, &zero).is_err());
}

#[test]
fn a_refusal_carries_all_that_must_be_moved_past() {
    let (slot, guard) = held();
    let refusal = prepare(&slot, &guard, &claim(1_100)).err();
    assert_eq!(
        refusal,
        Some(Refusal {
            reason: Reason::Promised,
            past: ballot(1_200),
            floor: ballot(300),
            bound: Timestamp::from_ms(200),
            epoch: Epoch(5),
            generation: Generation(3),
            clock_ms: 2_000,
        })
    );
    let fresh = prepare(&Slot::default(), &guard, &claim(400)).err();
    let past = fresh.map(|refusal| refusal.past);
    assert_eq!(past, Some(Ballot::last_at(guard.horizon)));
}

proptest::proptest! {
    /// What a refusal says is enough: a ballot above `past` and `floor`, within the clock rule, is promised.
    #[test]
    fn whoever_moves_past_a_refusal_is_promised(
        promised in 0_u64..3_000, accepted in 0_u64..3_000, floor in 0_u64..3_000,
        horizon in 0_u64..3_000, tried in 1_u64..3_000,
    ) {
        let slot = Slot {
            promised: ballot(promised.max(accepted)),
            accepted: ballot(accepted),
            durable: ballot(accepted),
        };
        let (_, guard) = held();
        let guard = Guard {
            floor: ballot(floor),
            horizon: Timestamp::from_ms(horizon),
            now_ms: 10_000,
            ..guard
        };
        if let Err(refusal) = prepare(&slot, &guard, &claim(tried)) {
            let past = refusal.past.max(refusal.floor);
            let again = Claim {
                ballot: Ballot { time: past.time.next(), ..ballot(0) },
                ..claim(0)
            };
            proptest::prop_assert_eq!(prepare(&slot, &guard, &again), Ok(()));
        }
    }
}
