//! The control register's two machines, round by round.

use super::*;
use crate::ballot::Ballot;
use crate::hlc::Timestamp;
use crate::id::{ClusterId, DiskId, Incarnation, NodeId};
use crate::layout::{DiskEntry, Member, Members, NodeEntry, Row};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

fn id(number: u16) -> NodeId {
    NodeId::from_u128(u128::from(number) + 1)
}

fn ids(numbers: &[u16]) -> Vec<NodeId> {
    numbers.iter().map(|number| id(*number)).collect()
}

fn at(time: u64) -> Ballot {
    Ballot {
        time: Timestamp(time),
        incarnation: Incarnation([1; 16]),
    }
}

/// Nodes 0 to 6; `mark` tells layouts of one version apart.
fn layout(version: u64, control: &[u16], before: &[u16], mark: &str) -> Layout {
    let node = |number| {
        NodeEntry::new(
            id(number),
            mark.to_string(),
            "a:1".to_string(),
            "".to_string(),
        )
    };
    Layout {
        cluster: ClusterId::from_u128(1),
        era: Era(0),
        version,
        replicas: 1,
        control_epoch: Epoch(1),
        control: control.to_vec(),
        control_before: before.to_vec(),
        is_balancing_paused: false,
        nodes: (0..7).map(node).collect(),
        disks: vec![DiskEntry::new(DiskId::from_u128(1), 0, 1)],
        rows: vec![Row {
            epoch: Epoch(1),
            members: Members::Stable(vec![Member {
                disk: 0,
                joined: Epoch(1),
            }]),
        }],
    }
}

fn base() -> Arc<Layout> {
    Arc::new(layout(5, &[0, 1, 2], &[], "base"))
}

fn nothing() -> Promise {
    Promise {
        accepted: Ballot::ZERO,
        newer: None,
    }
}

fn shows(time: u64, newer: &Layout) -> Promise {
    Promise {
        accepted: at(time),
        newer: Some(newer.clone()),
    }
}

fn refusal(past: u64) -> Refusal {
    Refusal {
        past: at(past),
        newer: None,
        is_ahead: false,
    }
}

#[test]
fn an_acceptor_never_goes_below_what_it_promised() {
    let mut acceptor = Acceptor::default();
    let next = layout(6, &[0, 1, 2], &[], "next");
    assert_eq!(acceptor.prepare(at(5), (Era(0), 5), None), Ok(nothing()));
    assert_eq!(acceptor.prepare(at(4), (Era(0), 5), None), Err(refusal(5)));
    assert_eq!(acceptor.accept(at(4), &next, None), Err(refusal(5)));
    assert!(!acceptor.is_ahead_of(Some(&base())));
    assert_eq!(acceptor.accept(at(6), &next, None), Ok(()));
    assert!(acceptor.is_ahead_of(Some(&base())) && !acceptor.is_ahead_of(Some(&next)));
    assert_eq!(acceptor.prepare(at(5), (Era(0), 5), None), Err(refusal(6)));
    assert_eq!(
        acceptor.prepare(at(7), (Era(0), 5), None),
        Ok(shows(6, &next))
    );
    // Who knows it to be chosen need not be shown it.
    let known = acceptor.prepare(at(8), (Era(0), 6), None);
    assert_eq!(
        known,
        Ok(Promise {
            accepted: at(6),
            newer: None
        })
    );
    assert!(acceptor.prepare(Ballot::ZERO, (Era(0), 6), None).is_err());
}

#[test]
fn a_node_that_knows_more_says_so_instead_of_promising() {
    let mut acceptor = Acceptor::default();
    let chosen = layout(7, &[3], &[], "chosen");
    let told = |past| Refusal {
        newer: Some(alloc::boxed::Box::new(chosen.clone())),
        ..refusal(past)
    };
    let none = Refusal {
        past: Ballot::ZERO,
        ..told(0)
    };
    assert_eq!(
        acceptor.prepare(at(5), (Era(0), 6), Some(&chosen)),
        Err(none.clone())
    );
    let other = layout(7, &[3], &[], "another");
    assert_eq!(acceptor.accept(at(5), &other, Some(&chosen)), Err(none));
    assert_eq!(acceptor.accept(at(5), &chosen, Some(&chosen)), Ok(()));
    assert_eq!(acceptor.accept(at(9), &base(), Some(&chosen)), Err(told(5)));
}

#[test]
fn a_ballot_from_beyond_the_clock_bound_is_refused() {
    let acceptor = Acceptor::default();
    let far = Ballot {
        time: Timestamp::from_ms(1_600),
        ..at(0)
    };
    assert!(
        acceptor
            .check_clock(far, 1_000, 500)
            .is_err_and(|no| no.is_ahead)
    );
    assert_eq!(acceptor.check_clock(far, 1_100, 500), Ok(()));
}

#[test]
fn a_successor_is_proposed_when_a_majority_shows_nothing_newer() {
    let mut proposer = Proposer::new(at(10), base());
    assert_eq!(proposer.start(), Step::Prepare(ids(&[0, 1, 2])));
    assert_eq!(proposer.promised(id(0), nothing()), Step::Wait);
    // Counted once, and only of who was asked.
    assert_eq!(proposer.promised(id(0), nothing()), Step::Wait);
    assert_eq!(proposer.promised(id(5), nothing()), Step::Wait);
    assert_eq!(proposer.promised(id(2), nothing()), Step::Decide);
    let next = layout(6, &[0, 1, 2], &[], "next");
    let step = proposer.propose(next.clone());
    let next = Arc::new(next);
    assert_eq!(step, Ok(Step::Accept(next.clone(), ids(&[0, 1, 2]))));
    assert_eq!(proposer.accepted(id(1)), Step::Wait);
    assert_eq!(proposer.accepted(id(1)), Step::Wait);
    assert_eq!(proposer.accepted(id(2)), Step::Chosen(next));
}

#[test]
fn what_is_unsettled_is_accepted_again_as_it_is() {
    let mut proposer = Proposer::new(at(10), base());
    proposer.start();
    let low = layout(6, &[0, 1, 2], &[], "low");
    let high = layout(6, &[0, 1, 2], &[], "high");
    assert_eq!(proposer.promised(id(0), shows(8, &high)), Step::Wait);
    let high = Arc::new(high);
    assert_eq!(
        proposer.promised(id(1), shows(7, &low)),
        Step::Accept(high.clone(), ids(&[0, 1, 2]))
    );
    assert_eq!(proposer.silent(id(0)), Step::Wait);
    assert_eq!(proposer.accepted(id(1)), Step::Wait);
    assert_eq!(proposer.accepted(id(2)), Step::Chosen(high));
}

#[test]
fn the_sets_of_what_is_unsettled_are_asked_before_it_is_settled() {
    let mut proposer = Proposer::new(at(10), base());
    proposer.start();
    let moving = layout(6, &[2, 3, 4], &[0, 1, 2], "moving");
    assert_eq!(proposer.promised(id(0), nothing()), Step::Wait);
    assert_eq!(
        proposer.promised(id(1), shows(7, &moving)),
        Step::Prepare(ids(&[3, 4]))
    );
    // One of the new set has seen what came after, in a set that was not asked yet.
    let later = layout(9, &[4, 5, 6], &[2, 3, 4], "later");
    let more = proposer.promised(id(3), shows(9, &later));
    assert_eq!(more, Step::Prepare(ids(&[5, 6])));
    assert_eq!(proposer.promised(id(4), shows(9, &later)), Step::Wait);
    let accept = proposer.promised(id(6), nothing());
    let later = Arc::new(later);
    assert_eq!(
        accept,
        Step::Accept(later.clone(), ids(&[0, 1, 2, 3, 4, 5, 6]))
    );
    for (node, step) in [
        (3, Step::Wait),
        (4, Step::Wait),
        (5, Step::Wait),
        (0, Step::Wait),
        (2, Step::Chosen(later)),
    ] {
        assert_eq!(proposer.accepted(id(node)), step);
    }
}

#[test]
fn a_change_of_the_control_set_takes_a_majority_of_each() {
    let mut proposer = Proposer::new(at(10), base());
    proposer.start();
    proposer.promised(id(0), nothing());
    proposer.promised(id(1), nothing());
    let mut next = layout(6, &[3, 4, 5], &[0, 1, 2], "next");
    next.control_epoch = Epoch(6);
    assert!(matches!(proposer.propose(next), Ok(Step::Accept(_, nodes)) if nodes.len() == 6));
    for node in [3, 4, 5, 0] {
        assert_eq!(proposer.accepted(id(node)), Step::Wait);
    }
    // Without a majority of the old set it cannot be.
    assert_eq!(proposer.silent(id(1)), Step::Wait);
    assert_eq!(
        proposer.refused(id(2), refusal(12)),
        Step::Failed { past: at(12) }
    );
}

#[test]
fn a_newer_chosen_layout_ends_the_attempt_and_a_lost_majority_fails_it() {
    let mut proposer = Proposer::new(at(10), base());
    proposer.start();
    let newer = layout(8, &[0, 1, 2], &[], "newer");
    let told = Refusal {
        newer: Some(alloc::boxed::Box::new(newer.clone())),
        ..refusal(3)
    };
    assert_eq!(proposer.refused(id(1), told), Step::Newer(Arc::new(newer)));
    assert_eq!(proposer.promised(id(2), nothing()), Step::Wait);

    let mut proposer = Proposer::new(at(10), base());
    proposer.start();
    assert_eq!(proposer.refused(id(1), refusal(20)), Step::Wait);
    assert_eq!(proposer.silent(id(2)), Step::Failed { past: at(20) });
}

#[test]
fn only_a_next_version_with_an_overlapping_control_set_may_follow() {
    let plain = layout(5, &[0, 1, 2], &[], "");
    let moving = layout(5, &[3, 4, 5], &[0, 1, 2], "");
    let next = |control: &[u16], before: &[u16], epoch| {
        let mut next = layout(6, control, before, "next");
        next.control_epoch = Epoch(epoch);
        next
    };
    for (base, next, may) in [
        (&plain, next(&[2, 1, 0], &[], 1), true),
        (&plain, next(&[3, 4, 5], &[0, 1, 2], 6), true),
        (&plain, next(&[3, 4, 5], &[0, 1, 2], 1), false),
        (&plain, next(&[3, 4, 5], &[0, 1, 3], 6), false),
        (&plain, next(&[3, 4, 5], &[], 6), false),
        (&moving, next(&[3, 4, 5], &[], 1), true),
        (&moving, next(&[3, 4, 5], &[0, 1, 2], 1), true),
        (&moving, next(&[0, 1, 2], &[3, 4, 5], 6), true),
        (&moving, next(&[0, 1, 2], &[], 6), false),
        (&moving, next(&[4, 5, 6], &[3, 4, 5], 6), false),
        (&moving, next(&[3, 4, 5], &[], 6), false),
    ] {
        assert_eq!(check_successor(base, &next).is_ok(), may, "{next:?}");
    }
    for change in [
        (|next| next.version = 7) as fn(&mut Layout),
        |next| next.version = 5,
        |next| next.era = Era(1),
        |next| next.cluster = ClusterId::from_u128(2),
        |next| next.rows.push(next.rows[0].clone()),
        |next| next.nodes.clear(),
    ] {
        let mut next = next(&[0, 1, 2], &[], 1);
        change(&mut next);
        assert!(check_successor(&plain, &next).is_err(), "{next:?}");
    }
}
