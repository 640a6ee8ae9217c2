//! What a replica says of tombstones, what a floor and a birth bound refuse from then on, and what a drop removes.

use super::*;
use ringfort_ring::register::collect::Holding;

const AGE_MS: u64 = 10_000;

impl Rig {
    async fn bury(&self, name: &str, at: Ballot) {
        let request = AcceptRequest {
            to: self.to(),
            partition: PARTITION,
            key: row(name),
            claim: claim(at),
            state: KeyState::default().encode(),
        };
        let reply = self.replica.accept(request, Payload::new()).await;
        assert_eq!(reply.unwrap(), AcceptReply::Accepted);
    }

    async fn survey(&self, rows: &[(&str, Ballot)]) -> Vec<Holding> {
        let request = SurveyTombstonesRequest {
            to: self.to(),
            partition: PARTITION,
            epoch: Epoch(1),
            rows: rows.iter().map(|(name, at)| (row(name), *at)).collect(),
        };
        match self.replica.survey_tombstones(request).await.unwrap() {
            SurveyTombstonesReply::Held(held) => held,
            SurveyTombstonesReply::Refused(refusal) => panic!("{refusal:?}"),
        }
    }

    async fn raise_floor(&self, floor: Ballot) -> Result<RaiseFloorReply, NodeError> {
        let request = RaiseFloorRequest {
            to: self.to(),
            partition: PARTITION,
            epoch: Epoch(1),
            floor,
        };
        self.replica.raise_floor(request, AGE_MS).await
    }

    async fn drop_row(&self, name: &str, at: Ballot, epoch: u64) -> DropRowsReply {
        let request = DropRowsRequest {
            to: self.to(),
            partition: PARTITION,
            epoch: Epoch(epoch),
            rows: vec![(row(name), at)],
        };
        self.replica.drop_rows(request).await.unwrap()
    }

    async fn prepare_bound(&self, name: &str, at: Ballot, bound: Timestamp) -> PrepareReply {
        self.try_bound(name, claim(at), bound).await.unwrap()
    }

    async fn try_bound(
        &self,
        name: &str,
        claim: Claim,
        bound: Timestamp,
    ) -> Result<PrepareReply, NodeError> {
        let request = PrepareBoundRequest {
            prepare: PrepareRequest {
                to: self.to(),
                partition: PARTITION,
                key: row(name),
                claim,
            },
            bound,
        };
        self.replica.prepare_bound(request, AGE_MS).await
    }

    fn holds(&self, name: &str) -> Option<Ballot> {
        let held = self.replica.inner.engine.row(&row(name)).unwrap();
        held.map(|row| row.ballot)
    }
}

fn new(at: Ballot, born_ms: u64) -> Claim {
    Claim {
        born: Some(Timestamp::from_ms(START_MS + born_ms)),
        ..claim(at)
    }
}

fn reason(reply: AcceptReply) -> Reason {
    match reply {
        AcceptReply::Refused(refusal) => refusal.reason,
        AcceptReply::Accepted => panic!("accepted"),
    }
}

#[tokio::test]
async fn a_tombstone_counts_as_held_only_at_its_ballot_and_with_nothing_behind_it() {
    let rig = Rig::new().await;
    rig.bury("k", ballot(5)).await;
    let held = rig
        .survey(&[
            ("k", ballot(5)),
            ("k", ballot(4)),
            ("k", ballot(6)),
            ("other", ballot(5)),
        ])
        .await;
    let expected = [
        Holding::Same,
        Holding::Newer,
        Holding::Older,
        Holding::Older,
    ];
    assert_eq!(held, expected);
    // An Accept on its way: polled once, it has its place in the log and is not decided.
    let next = rig.accept("k", claim(ballot(7)), "x");
    tokio::pin!(next);
    assert!(futures_util::poll!(&mut next).is_pending());
    let held = rig.replica.holding(&row("k"), ballot(5)).unwrap();
    assert_eq!(held, Holding::Newer);
    next.await;
    assert_eq!(rig.survey(&[("k", ballot(5))]).await, [Holding::Newer]);
}

#[tokio::test]
async fn another_epoch_is_refused_by_survey_floor_and_drop() {
    let rig = Rig::new().await;
    rig.bury("k", ballot(5)).await;
    rig.pass_ms(20_000);
    let survey = SurveyTombstonesRequest {
        to: rig.to(),
        partition: PARTITION,
        epoch: Epoch(2),
        rows: vec![(row("k"), ballot(5))],
    };
    let reply = rig.replica.survey_tombstones(survey).await.unwrap();
    assert!(matches!(reply, SurveyTombstonesReply::Refused(_)));
    let floor = RaiseFloorRequest {
        to: rig.to(),
        partition: PARTITION,
        epoch: Epoch(2),
        floor: ballot(5),
    };
    let reply = rig.replica.raise_floor(floor, AGE_MS).await.unwrap();
    assert!(matches!(reply, RaiseFloorReply::Refused(_)));
    rig.raise_floor(ballot(5)).await.unwrap();
    let reply = rig.drop_row("k", ballot(5), 2).await;
    assert!(matches!(reply, DropRowsReply::Refused(refusal) if refusal.reason == Reason::Epoch));
    assert_eq!(rig.holds("k"), Some(ballot(5)));
}

#[tokio::test]
async fn a_floor_refuses_prepare_accept_and_replay_also_after_a_crash() {
    let rig = Rig::new().await;
    rig.bury("k", ballot(5)).await;
    rig.pass_ms(20_000);
    assert_eq!(
        rig.raise_floor(ballot(9)).await.unwrap(),
        RaiseFloorReply::Raised
    );
    let rig = rig.crash().await;
    rig.pass_ms(5_000);
    // A register that was never written is below it as well: the floor is the partition's.
    for name in ["k", "other"] {
        let prepared = rig.prepare(name, claim(ballot(9))).await;
        assert_eq!(refusal(prepared), Reason::Floor);
        let accepted = rig.accept(name, claim(ballot(9)), "x").await;
        assert_eq!(reason(accepted), Reason::Floor);
        let written = rig.accept(name, new(ballot(8), 8), "x").await;
        assert_eq!(reason(written), Reason::Floor);
    }
    // What it holds already it acknowledges again.
    rig.bury("k", ballot(5)).await;
    promised(rig.prepare("k", claim(ballot(20_000))).await);
    // It only rises.
    rig.raise_floor(ballot(2)).await.unwrap();
    let prepared = rig.prepare("other", claim(ballot(9))).await;
    assert_eq!(refusal(prepared), Reason::Floor);
}

#[tokio::test]
async fn a_floor_never_comes_near_the_clock() {
    let rig = Rig::new().await;
    let error = rig.raise_floor(ballot(0)).await.unwrap_err();
    assert_eq!(error.code, NodeErrorCode::Unavailable);
    rig.pass_ms(AGE_MS);
    rig.raise_floor(ballot(0)).await.unwrap();
    rig.raise_floor(ballot(1)).await.unwrap_err();
}

#[tokio::test]
async fn a_drop_takes_exactly_the_ballot_named_and_only_below_a_floor() {
    let rig = Rig::new().await;
    rig.bury("k", ballot(5)).await;
    let refused = rig.drop_row("k", ballot(5), 1).await;
    assert!(matches!(refused, DropRowsReply::Refused(refusal) if refusal.reason == Reason::Floor));
    rig.pass_ms(20_000);
    rig.raise_floor(ballot(5)).await.unwrap();
    let other = rig.drop_row("k", ballot(4), 1).await;
    assert_eq!(other, DropRowsReply::Dropped(0));
    assert_eq!(rig.holds("k"), Some(ballot(5)));
    assert_eq!(
        rig.drop_row("k", ballot(5), 1).await,
        DropRowsReply::Dropped(1)
    );
    assert_eq!(rig.holds("k"), None);
    // The delayed Accept of what was deleted, and its replay, find nothing to come back to.
    for late in [new(ballot(3), 3), claim(ballot(3)), claim(ballot(5))] {
        let reply = rig.accept("k", late, "x").await;
        assert_eq!(reason(reply), Reason::Floor);
    }
    let rig = rig.crash().await;
    rig.pass_ms(5_000);
    assert_eq!(rig.holds("k"), None);
    assert_eq!(
        reason(rig.accept("k", claim(ballot(3)), "x").await),
        Reason::Floor
    );
    match rig.prepare("k", claim(ballot(20_000))).await {
        PrepareReply::Promised {
            accepted, floor, ..
        } => assert_eq!((accepted, floor), (Ballot::ZERO, ballot(5))),
        PrepareReply::Refused(refusal) => panic!("{refusal:?}"),
    }
}

#[tokio::test]
async fn what_is_written_between_look_and_drop_stays() {
    let rig = Rig::new().await;
    rig.bury("k", ballot(5)).await;
    assert_eq!(rig.survey(&[("k", ballot(5))]).await, [Holding::Same]);
    rig.pass_ms(20_000);
    // On its way to disk when the drop comes.
    let mut next = Box::pin(rig.accept("k", claim(ballot(19_000)), "new"));
    assert!(futures_util::poll!(next.as_mut()).is_pending());
    rig.raise_floor(ballot(5)).await.unwrap();
    assert_eq!(
        rig.drop_row("k", ballot(5), 1).await,
        DropRowsReply::Dropped(0)
    );
    assert_eq!(next.await, AcceptReply::Accepted);
    assert_eq!(rig.holds("k"), Some(ballot(19_000)));
    // Awaited to its end, and its box gone with it: nothing borrows the rig.
    let rig = rig.crash().await;
    assert_eq!(rig.holds("k"), Some(ballot(19_000)));
}

#[tokio::test]
async fn a_birth_bound_refuses_new_values_of_the_whole_partition_and_spares_repair() {
    let rig = Rig::new().await;
    rig.pass_ms(20_000);
    let bound = Timestamp::from_ms(START_MS + 10_000);
    promised(rig.prepare_bound("k", ballot(20_000), bound).await);
    let rig = rig.crash().await;
    rig.pass_ms(5_000);
    for name in ["k", "other"] {
        let old = rig.prepare(name, new(ballot(25_000), 9_999)).await;
        assert_eq!(refusal(old), Reason::Bound);
        promised(rig.prepare(name, new(ballot(25_001), 10_000)).await);
        promised(rig.prepare(name, claim(ballot(25_002))).await);
        let replay = rig.accept(name, claim(ballot(25_003)), "x").await;
        assert_eq!(replay, AcceptReply::Accepted);
    }
}

#[tokio::test]
async fn a_birth_bound_is_refused_in_another_epoch_near_the_clock_and_for_a_new_value() {
    let rig = Rig::new().await;
    let early = Timestamp::from_ms(START_MS - AGE_MS);
    let error = rig.try_bound("k", claim(ballot(1)), early.next()).await;
    assert_eq!(error.unwrap_err().code, NodeErrorCode::Unavailable);
    let error = rig.try_bound("k", new(ballot(1), 0), early).await;
    assert_eq!(error.unwrap_err().code, NodeErrorCode::Malformed);
    let other = Claim {
        epoch: Epoch(2),
        ..claim(ballot(1))
    };
    let reply = rig.try_bound("k", other, early).await.unwrap();
    assert_eq!(refusal(reply), Reason::Epoch);
    assert_eq!(
        rig.replica.inner.engine.partition(PARTITION).bound,
        Timestamp::ZERO
    );
    promised(rig.try_bound("k", claim(ballot(1)), early).await.unwrap());
}

#[tokio::test]
async fn a_pass_meets_every_row_and_chunk_once_however_it_is_cut() {
    let rig = Rig::new().await;
    let names: Vec<String> = (0..10).map(|n| format!("k{n}")).collect();
    for name in &names {
        rig.bury(name, ballot(1)).await;
    }
    for size in [1, 3, 10, 100] {
        let (mut met, mut after) = (Vec::new(), None);
        loop {
            let walked = rig.replica.walk_rows(after, size).await.unwrap();
            assert!(walked.found.len() <= size);
            met.extend(walked.found.iter().map(|row| row.key.key.to_string()));
            match walked.examined {
                Some(examined) => after = Some(examined),
                None => break,
            }
        }
        assert_eq!(met, names);
    }
}
