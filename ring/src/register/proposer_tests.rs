//! Tests of the proposer: what may be answered when (DESIGN 4.8), and what starts a round over.
#![allow(clippy::unwrap_used, reason = "test code")]

use super::*;
use crate::id::{DiskId, Epoch, Generation, Incarnation};

fn ballot(ms: u64) -> Ballot {
    match ms {
        0 => Ballot::ZERO,
        _ => Ballot {
            time: Timestamp::from_ms(ms),
            incarnation: Incarnation::from_u128(1),
        },
    }
}

fn replica(number: u128) -> Replica {
    Replica {
        disk: DiskId::from_u128(number),
        joined: Epoch(1),
    }
}

fn refusal(reason: Reason, past: u64) -> Refusal {
    Refusal {
        reason,
        past: ballot(past),
        floor: Ballot::ZERO,
        bound: Timestamp::ZERO,
        epoch: Epoch(1),
        generation: Generation(0),
        clock_ms: 0,
    }
}

fn promise(accepted: u64) -> Result<Promise<u64>, Refusal> {
    Ok(Promise {
        accepted: ballot(accepted),
        state: (accepted > 0).then_some(accepted),
        floor: ballot(accepted / 10),
    })
}

/// Replicas 1 to `count`, at ballot 1,000.
fn started(count: u128) -> Proposer<u64> {
    let mut proposer = Proposer::new(QuorumRule::stable((1..=count).map(replica).collect()));
    proposer.start(ballot(1_000));
    proposer
}

/// A round at `at` in which replicas 1 and 2 promise and hold these ballots; it waits for the decision.
fn promised(proposer: &mut Proposer<u64>, at: u64, held: [u64; 2]) {
    proposer.start(ballot(at));
    assert_eq!(
        proposer.on_promise(replica(1), promise(held[0])),
        Step::Wait
    );
    assert_eq!(
        proposer.on_promise(replica(2), promise(held[1])),
        Step::Decide
    );
}

fn refuse_all(proposer: &mut Proposer<u64>) {
    let no = Err(refusal(Reason::Promised, 1_500));
    assert_eq!(proposer.on_accepted(replica(1), no), Step::Wait);
    assert!(matches!(
        proposer.on_accepted(replica(2), no),
        Step::Retry { .. }
    ));
}

/// Sends the Accept of the own value at 1,000 over what replicas hold, and loses it.
fn with_own_accept(held: [u64; 2]) -> Proposer<u64> {
    let mut proposer = started(3);
    promised(&mut proposer, 1_000, held);
    let step = proposer.decide(Decision::Write, Ballot::ZERO);
    assert_eq!(step, Step::SendAccept(Value::New));
    refuse_all(&mut proposer);
    proposer
}

fn accepted(proposer: &mut Proposer<u64>) -> Step {
    assert_eq!(proposer.on_accepted(replica(1), Ok(())), Step::Wait);
    proposer.on_accepted(replica(3), Ok(()))
}

#[test]
fn a_write_is_done_when_a_majority_accepted_it() {
    let mut proposer = started(3);
    promised(&mut proposer, 1_000, [500, 700]);
    let view = proposer.view().unwrap();
    assert_eq!((view.accepted, view.state), (ballot(700), Some(&700)));
    assert_eq!((view.holder, view.is_settled), (Some(replica(2)), false));
    assert_eq!(view.floor, ballot(70));
    assert_eq!(proposer.holders(), [replica(2)]);
    let step = proposer.decide(Decision::Write, Ballot::ZERO);
    assert_eq!(step, Step::SendAccept(Value::New));
    assert_eq!(proposer.first_accept(), Some(ballot(1_000)));
    let done = accepted(&mut proposer);
    assert_eq!(done, Step::Done(Outcome::Written(ballot(1_000))));
    assert_eq!(proposer.missing(), [replica(2)]);
}

#[test]
fn a_no_is_definite_over_a_settled_value() {
    let mut proposer = started(3);
    promised(&mut proposer, 1_000, [700, 700]);
    let step = proposer.decide(Decision::Refuse, Ballot::ZERO);
    assert_eq!(step, Step::Done(Outcome::Refused));
}

#[test]
fn a_no_over_an_unsettled_value_is_written_first() {
    let mut proposer = started(3);
    promised(&mut proposer, 1_000, [500, 700]);
    let step = proposer.decide(Decision::Refuse, Ballot::ZERO);
    assert_eq!(step, Step::SendAccept(Value::Same));
    // It is no Accept of the operation's own value.
    assert_eq!(proposer.first_accept(), None);
    assert_eq!(accepted(&mut proposer), Step::Done(Outcome::Refused));
}

#[test]
fn the_empty_register_is_settled_like_any_value() {
    let mut proposer = started(3);
    promised(&mut proposer, 1_000, [0, 0]);
    let view = proposer.view().unwrap();
    assert!(view.is_settled && view.accepted.is_zero() && view.holder.is_none());
    let step = proposer.decide(Decision::Refuse, Ballot::ZERO);
    assert_eq!(step, Step::Done(Outcome::Refused));
}

#[test]
fn after_an_own_accept_a_no_is_written_above_it_even_over_a_settled_value() {
    for held in [[700, 700], [0, 0]] {
        let mut proposer = with_own_accept(held);
        promised(&mut proposer, 2_000, held);
        let step = proposer.decide(Decision::Refuse, Ballot::ZERO);
        assert_eq!(step, Step::SendAccept(Value::Same));
        assert_eq!(accepted(&mut proposer), Step::Done(Outcome::Refused));
    }
}

#[test]
fn an_own_success_is_written_again_before_it_is_told() {
    let mut proposer = with_own_accept([700, 700]);
    promised(&mut proposer, 2_000, [1_000, 700]);
    let step = proposer.decide(Decision::AlreadyDone, Ballot::ZERO);
    assert_eq!(step, Step::SendAccept(Value::Same));
    assert_eq!(accepted(&mut proposer), Step::Done(Outcome::AlreadyDone));
}

#[test]
fn an_earlier_try_of_another_process_is_told_at_once_where_it_is_settled() {
    let mut proposer = started(3);
    promised(&mut proposer, 1_000, [700, 700]);
    let step = proposer.decide(Decision::AlreadyDone, Ballot::ZERO);
    assert_eq!(step, Step::Done(Outcome::AlreadyDone));
    promised(&mut proposer, 1_100, [700, 500]);
    let step = proposer.decide(Decision::AlreadyDone, Ballot::ZERO);
    assert_eq!(step, Step::SendAccept(Value::Same));
}

#[test]
fn absence_is_no_proof_where_the_memory_does_not_reach_back() {
    for decision in [Decision::Write, Decision::Refuse] {
        let mut proposer = with_own_accept([0, 0]);
        promised(&mut proposer, 2_000, [1_900, 1_900]);
        let step = proposer.decide(decision, ballot(1_000));
        assert_eq!(step, Step::Done(Outcome::Unknown));
        // A memory that reaches to just before the first Accept is proof.
        let mut proposer = with_own_accept([0, 0]);
        promised(&mut proposer, 2_000, [1_900, 1_900]);
        assert!(matches!(
            proposer.decide(decision, ballot(999)),
            Step::SendAccept(_)
        ));
    }
    // Presence needs no memory.
    let mut proposer = with_own_accept([0, 0]);
    promised(&mut proposer, 2_000, [1_900, 1_900]);
    let step = proposer.decide(Decision::AlreadyDone, ballot(1_500));
    assert_eq!(step, Step::SendAccept(Value::Same));
}

#[test]
fn the_first_own_accept_counts_not_the_last() {
    let mut proposer = with_own_accept([0, 0]);
    promised(&mut proposer, 2_000, [700, 700]);
    let step = proposer.decide(Decision::Write, Ballot::ZERO);
    assert_eq!(step, Step::SendAccept(Value::New));
    refuse_all(&mut proposer);
    assert_eq!(proposer.first_accept(), Some(ballot(1_000)));
    promised(&mut proposer, 3_000, [2_500, 2_500]);
    let step = proposer.decide(Decision::Write, ballot(1_500));
    assert_eq!(step, Step::Done(Outcome::Unknown));
}

#[test]
fn settling_writes_only_what_is_not_known_chosen_and_rewriting_always() {
    let mut proposer = started(3);
    promised(&mut proposer, 1_000, [700, 700]);
    let step = proposer.decide(Decision::Settle, Ballot::ZERO);
    assert_eq!(step, Step::Done(Outcome::Settled(ballot(700))));
    promised(&mut proposer, 1_100, [700, 0]);
    let step = proposer.decide(Decision::Settle, Ballot::ZERO);
    assert_eq!(step, Step::SendAccept(Value::Same));
    assert_eq!(
        accepted(&mut proposer),
        Step::Done(Outcome::Settled(ballot(1_100)))
    );
    promised(&mut proposer, 1_200, [1_100, 1_100]);
    let step = proposer.decide(Decision::Rewrite, Ballot::ZERO);
    assert_eq!(step, Step::SendAccept(Value::Same));
}

/// A replica that waited for an fsync may show what it accepted after it promised.
#[test]
fn a_promise_that_shows_a_higher_ballot_than_its_own_is_no_promise() {
    let mut proposer = started(3);
    assert_eq!(proposer.on_promise(replica(1), promise(1_200)), Step::Wait);
    assert_eq!(proposer.on_promise(replica(2), promise(700)), Step::Wait);
    let step = proposer.on_promise(replica(3), promise(1_200));
    assert_eq!(
        step,
        Step::Retry {
            past: ballot(1_200),
            why: None
        }
    );
}

#[test]
fn doubled_late_and_foreign_replies_do_not_count() {
    let mut proposer = started(3);
    assert_eq!(proposer.on_promise(replica(1), promise(0)), Step::Wait);
    assert_eq!(proposer.on_promise(replica(1), promise(0)), Step::Wait);
    assert_eq!(proposer.on_promise(replica(9), promise(800)), Step::Wait);
    let anew = Replica {
        joined: Epoch(2),
        ..replica(2)
    };
    assert_eq!(proposer.on_promise(anew, promise(800)), Step::Wait);
    assert_eq!(proposer.on_accepted(replica(2), Ok(())), Step::Wait);
    assert!(proposer.view().is_none());
    assert_eq!(proposer.on_promise(replica(2), promise(0)), Step::Decide);
    assert_eq!(proposer.view().unwrap().accepted, Ballot::ZERO);
    proposer.decide(Decision::Write, Ballot::ZERO);
    assert_eq!(proposer.on_promise(replica(3), promise(0)), Step::Wait);
    assert_eq!(proposer.on_accepted(replica(2), Ok(())), Step::Wait);
    assert_eq!(proposer.on_accepted(replica(2), Ok(())), Step::Wait);
    assert_eq!(proposer.on_accepted(anew, Ok(())), Step::Wait);
    assert!(matches!(
        proposer.on_accepted(replica(3), Ok(())),
        Step::Done(_)
    ));
}

#[test]
fn refusals_end_an_attempt_with_what_to_move_past_and_the_most_telling_reason() {
    let mut proposer = started(5);
    let mut floor = refusal(Reason::Floor, 1_100);
    floor.floor = ballot(1_700);
    let epoch = refusal(Reason::Epoch, 0);
    assert_eq!(proposer.on_promise(replica(1), Err(floor)), Step::Wait);
    assert_eq!(proposer.on_promise(replica(2), Err(epoch)), Step::Wait);
    let last = Err(refusal(Reason::Promised, 1_600));
    let step = proposer.on_promise(replica(3), last);
    assert_eq!(
        step,
        Step::Retry {
            past: ballot(1_700),
            why: Some(epoch)
        }
    );
}

#[test]
fn members_that_cannot_be_reached_end_an_attempt() {
    let mut proposer = started(3);
    assert_eq!(proposer.on_unreachable(replica(1)), Step::Wait);
    assert_eq!(proposer.on_unreachable(replica(1)), Step::Wait);
    let step = proposer.on_unreachable(replica(2));
    assert_eq!(
        step,
        Step::Retry {
            past: ballot(1_000),
            why: None
        }
    );
    // Nothing more comes of this attempt.
    assert_eq!(proposer.on_promise(replica(3), promise(0)), Step::Wait);
    assert_eq!(proposer.decide(Decision::Write, Ballot::ZERO), Step::Wait);
}

#[test]
fn giving_up_is_definite_only_before_an_own_accept() {
    let no = refusal(Reason::Promised, 1_600);
    let mut proposer = started(3);
    assert_eq!(proposer.on_promise(replica(1), Err(no)), Step::Wait);
    assert_eq!(proposer.give_up(), Err(Some(no)));
    // An identity round that left is not the operation's own.
    let mut proposer = started(3);
    promised(&mut proposer, 1_000, [500, 700]);
    proposer.decide(Decision::Refuse, Ballot::ZERO);
    assert_eq!(proposer.give_up(), Err(None));
    let mut proposer = with_own_accept([0, 0]);
    proposer.start(ballot(2_000));
    assert_eq!(proposer.give_up(), Ok(Outcome::Unknown));
}

#[test]
fn a_value_that_cannot_be_made_abandons_the_attempt() {
    let mut proposer = started(3);
    promised(&mut proposer, 1_000, [700, 700]);
    assert!(matches!(proposer.abandon(), Step::Retry { .. }));
    assert_eq!(proposer.decide(Decision::Write, Ballot::ZERO), Step::Wait);
    assert_eq!(proposer.first_accept(), None);
}

#[test]
fn in_joint_both_majorities_promise_hold_and_accept() {
    let old = Vec::from([1, 2, 3].map(replica));
    let new = Vec::from([1, 2, 4].map(replica));
    let mut proposer: Proposer<u64> = Proposer::new(QuorumRule::stable(old.clone()));
    proposer.start_in(QuorumRule::joint(old, new), ballot(1_000));
    assert_eq!(proposer.members().len(), 4);
    assert_eq!(proposer.on_promise(replica(1), promise(700)), Step::Wait);
    assert_eq!(proposer.on_promise(replica(3), promise(700)), Step::Wait);
    assert_eq!(proposer.on_promise(replica(4), promise(0)), Step::Decide);
    // The old half agrees, the new one does not.
    assert!(!proposer.view().unwrap().is_settled);
    assert_eq!(proposer.holders(), [replica(1), replica(3)]);
    proposer.decide(Decision::Write, Ballot::ZERO);
    assert_eq!(proposer.on_accepted(replica(1), Ok(())), Step::Wait);
    assert_eq!(proposer.on_accepted(replica(3), Ok(())), Step::Wait);
    assert!(matches!(
        proposer.on_accepted(replica(4), Ok(())),
        Step::Done(_)
    ));
}

#[test]
fn the_next_ballots_time_is_above_all_that_was_seen() {
    let last = Timestamp::from_ms(9);
    assert_eq!(time_above(ballot(5), last), last.next());
    assert_eq!(time_above(ballot(50), last), Timestamp::from_ms(50).next());
}

#[test]
fn one_replica_far_ahead_does_not_hold_the_others_up() {
    let ahead = || Err(refusal(Reason::Promised, 90_000));
    let mut proposer = started(3);
    assert_eq!(proposer.on_promise(replica(1), ahead()), Step::Wait);
    assert_eq!(proposer.on_promise(replica(2), promise(0)), Step::Wait);
    let near = Err(refusal(Reason::Promised, 1_500));
    let Step::Retry { past, .. } = proposer.on_promise(replica(3), near) else {
        panic!("no majority promised");
    };
    assert_eq!(past, ballot(1_500));
    // Where the others are not there, it is needed.
    let mut proposer = started(3);
    assert_eq!(proposer.on_promise(replica(1), ahead()), Step::Wait);
    let Step::Retry { past, .. } = proposer.on_unreachable(replica(2)) else {
        panic!("a majority cannot promise any more");
    };
    assert_eq!(past, ballot(90_000));
}
