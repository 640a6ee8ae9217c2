//! Read-repair: a replica that a read found behind gets what the majority has (DESIGN 4.6).
//!
//! Off the reader's path, and bounded: what does not fit is left to the next reader. The original Accept is
//! replayed; where promise, horizon or floor refuse it, an identity round writes the value anew.

use super::fanout::{Answer, Answers};
use super::view::Place;
use super::{BucketRef, Coordinator, ReadError, RegisterState, WriteError};
use parking_lot::Mutex;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::{Generation, PartitionId};
use ringfort_ring::quorum::Replica;
use ringfort_ring::register::acceptor::{Claim, Reason};
use ringfort_ring::register::reader::{Reader, Reading};
use ringfort_wire::id::{BucketId, RowKey};
use ringfort_wire::manifest::{KeyState, PartState};
use ringfort_wire::message::{AcceptReply, AcceptRequest, ReadReply, ReadRequest};
use ringfort_wire::transport::Lane;
use std::collections::HashSet;
use std::time::Duration;
use tracing::debug;

/// How long a write that is above what a majority agrees on may be on its way before it is settled.
const IN_FLIGHT: Duration = Duration::from_secs(2);
/// How long a newer write, whose Prepare refuses a replay, has to reach the replica itself.
const NEWER_WRITE: Duration = Duration::from_millis(500);
/// Rows that wait to be looked at again; beyond, they are left to the next reader.
const LOOKED_AT_AGAIN_MAX: usize = 1_000;

/// Rows that are to be looked at again in a moment, each once.
#[derive(Default)]
pub(super) struct LookedAtAgain {
    rows: Mutex<HashSet<RowKey>>,
}

impl LookedAtAgain {
    /// Whether the row was not waiting already, and there is room.
    fn begin(&self, row: &RowKey) -> bool {
        let mut rows = self.rows.lock();
        rows.len() < LOOKED_AT_AGAIN_MAX && rows.insert(row.clone())
    }

    fn end(&self, row: &RowKey) {
        self.rows.lock().remove(row);
    }
}

/// A read that has its answer, and what else came and may come of it.
pub(super) struct RepairRound {
    pub(super) agreed: Ballot,
    pub(super) highest: Option<Ballot>,
    /// How many replicas have not been heard.
    pub(super) unanswered: usize,
    pub(super) reader: Reader,
    pub(super) answers: Answers<ReadReply>,
}

impl RepairRound {
    fn take_in(&mut self, (from, reply): Answer<ReadReply>) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if let Ok((ReadReply::Row { accepted, .. }, _)) = reply {
            self.highest = self.highest.max(Some(accepted));
            self.reader.on_answer(from, accepted);
        }
    }

    /// Takes in what has come; whether all are heard and nobody is behind or ahead. New members of a partition that
    /// moves do not count: they copy everything anyway, and until then each read would write its row anew for them.
    fn is_done(&mut self, newcomers: &[Replica]) -> bool {
        while let Some(answer) = self.answers.ready() {
            self.take_in(answer);
        }
        let behind = self.reader.behind(self.agreed);
        let is_one = self.highest <= Some(self.agreed)
            && behind.iter().all(|replica| newcomers.contains(replica));
        self.unanswered == 0 && is_one
    }
}

/// What all replicas of a row hold.
struct Survey {
    reader: Reader,
    highest: Ballot,
    /// The bucket has changed or gone, to this generation: its rows are no business of an older request any more.
    newer_generation: Option<Generation>,
}

impl Survey {
    /// What a majority agrees on, where nobody holds anything above it.
    fn is_settled_at(&self) -> Option<Ballot> {
        match self.reader.reading() {
            Reading::Agreed(agreed) if self.highest <= agreed => Some(agreed),
            _ => None,
        }
    }
}

impl Coordinator {
    /// Takes in the stragglers of an agreed read and repairs whoever is behind.
    pub(super) fn repair_later(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        place: &Place,
        mut round: RepairRound,
    ) {
        let agreed = round.agreed;
        let newcomers = place.rule.newcomers();
        if round.is_done(&newcomers) {
            return;
        }
        let Ok(permit) = self.inner.repairs.clone().try_acquire_owned() else {
            return;
        };
        let (coordinator, row, place) = (self.clone(), row.clone(), place.clone());
        tokio::spawn(async move {
            let permit = permit;
            while let Some(answer) = round.answers.next().await {
                round.take_in(answer);
            }
            if round.highest > Some(agreed) {
                // Mostly a write on its way. One that was cut short must not surface weeks later.
                drop(permit);
                coordinator.look_again_later(bucket, &row);
                return;
            }
            if !round.is_done(&newcomers) {
                coordinator
                    .mend(bucket, &row, &place, agreed, &round.reader)
                    .await;
            }
        });
    }

    /// Looks at the row again when a write on its way has had its time, and settles what is open then.
    pub(super) fn look_again_later(&self, bucket: BucketRef, row: &RowKey) {
        if !self.inner.looked_at_again.begin(row) {
            return;
        }
        let (coordinator, row) = (self.clone(), row.clone());
        tokio::spawn(async move {
            let before = coordinator.survey(bucket, &row).await.map(|(_, now)| now);
            tokio::time::sleep(IN_FLIGHT).await;
            coordinator.inner.looked_at_again.end(&row);
            let Some((_, now)) = coordinator.survey(bucket, &row).await else {
                return;
            };
            // What has moved on meanwhile is a newer write's, and on its way again.
            let has_moved = before.is_some_and(|before| before.highest != now.highest);
            if has_moved || now.newer_generation.is_some() || now.is_settled_at().is_some() {
                return;
            }
            // Closed only when the process ends.
            let Ok(_permit) = coordinator.inner.repairs.clone().acquire_owned().await else {
                return;
            };
            if let Err(error) = coordinator.rewrite(bucket, &row, true).await {
                debug!(%error, "a row with an open write was not settled; the next reader tries again");
            }
        });
    }

    /// A replica holds the row and cannot read its body: written anew, it is whole there too. A replay would not help, for
    /// the replica has that ballot already.
    pub(super) fn rewrite_later(&self, bucket: BucketRef, row: &RowKey) {
        let Ok(permit) = self.inner.repairs.clone().try_acquire_owned() else {
            return;
        };
        if !self.inner.looked_at_again.begin(row) {
            return;
        }
        let (coordinator, row) = (self.clone(), row.clone());
        tokio::spawn(async move {
            if let Err(error) = coordinator.rewrite(bucket, &row, true).await {
                debug!(%error, "a rotten body was not written anew; the next reader tries again");
            }
            coordinator.inner.looked_at_again.end(&row);
            drop(permit);
        });
    }

    /// Asks all replicas what they hold of a row; `None` where the cluster has not formed.
    async fn survey(&self, bucket: BucketRef, row: &RowKey) -> Option<(Place, Survey)> {
        let place = self.view()?.place_row(bucket, row)?;
        let mut answers = self.fan_out(Lane::Repair, &place.targets(), |to| {
            let request = ReadRequest {
                to,
                partition: place.partition,
                epoch: place.epoch,
                generation: bucket.generation,
                key: row.clone(),
                wants_body: false,
            };
            (request, bytes::Bytes::new())
        });
        let mut survey = Survey {
            reader: Reader::new(place.rule.clone()),
            highest: Ballot::ZERO,
            newer_generation: None,
        };
        while let Some((from, reply)) = answers.next().await {
            match reply {
                Ok((ReadReply::Row { accepted, .. }, _)) => {
                    survey.highest = survey.highest.max(accepted);
                    survey.reader.on_answer(from, accepted);
                }
                Ok((ReadReply::Refused(refusal), _)) => {
                    if refusal.reason == Reason::Generation {
                        let newer = Some(refusal.generation);
                        survey.newer_generation = survey.newer_generation.max(newer);
                    }
                    survey.reader.on_unreachable(from);
                }
                Err(_) => {
                    survey.reader.on_unreachable(from);
                }
            }
        }
        Some((place, survey))
    }

    /// Reads a row from all its replicas and mends whoever is behind, or settles it.
    ///
    /// # Errors
    /// Where the replicas do not answer: try again later.
    pub async fn mend_row(&self, bucket: BucketRef, row: &RowKey) -> Result<(), ReadError> {
        let lacking = || ReadError::NotEnoughReplicas("no majority answers".to_owned());
        let mut bucket = bucket;
        let (mut place, mut survey) = self.survey(bucket, row).await.ok_or_else(lacking)?;
        if let Some(newer) = survey.newer_generation {
            if bucket.partition.is_none() {
                return Ok(());
            }
            // A node's own job: it does not follow buckets, and acts for no request that was judged by an older state.
            bucket.generation = newer;
            (place, survey) = self.survey(bucket, row).await.ok_or_else(lacking)?;
            if survey.newer_generation.is_some() {
                return Err(ReadError::BucketChanged);
            }
        }
        match survey.reader.reading() {
            // A write that reached a minority only: decided now, so that no maybe surfaces weeks later. Written anew in
            // any case: the majority that promises need not be the one that shows the minority's value.
            Reading::Agreed(agreed) if survey.highest > agreed => {
                Ok(self.rewrite(bucket, row, true).await?)
            }
            Reading::Agreed(agreed) => {
                self.mend(bucket, row, &place, agreed, &survey.reader).await;
                Ok(())
            }
            Reading::Split => Ok(self.rewrite(bucket, row, false).await?),
            Reading::Wait | Reading::Impossible => Err(lacking()),
        }
    }

    /// Writes a row anew, as it is, on all its replicas: for one that holds it and cannot read its body any more. A replay
    /// would not help that one, for it has the ballot already. `held` is a generation of the bucket to begin with.
    ///
    /// # Errors
    /// Where no majority answers, or nobody who does can read the body: try again later.
    pub async fn rewrite_row(
        &self,
        bucket: BucketId,
        partition: PartitionId,
        held: Generation,
        row: &RowKey,
    ) -> Result<(), ReadError> {
        let bucket = self.bucket_of_row(bucket, partition, held, row).await?;
        Ok(self.rewrite(bucket, row, true).await?)
    }

    /// A generation above the one named, where a replica of the row shows one.
    pub(super) async fn newer_generation(
        &self,
        bucket: BucketRef,
        row: &RowKey,
    ) -> Result<Option<Generation>, ReadError> {
        let survey = self.survey(bucket, row).await;
        let (_, survey) = survey.ok_or_else(|| {
            ReadError::NotEnoughReplicas("the cluster has not formed yet".to_owned())
        })?;
        Ok(survey.newer_generation)
    }

    async fn mend(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        place: &Place,
        agreed: Ballot,
        reader: &Reader,
    ) {
        let behind = reader.behind(agreed);
        let Some(holder) = reader.holder(agreed).filter(|_| !behind.is_empty()) else {
            return;
        };
        if self
            .replay(bucket, row, place, agreed, holder, &behind)
            .await
        {
            return;
        }
        // Refused, mostly because the next write's Prepare has passed already: that write mends the replica itself.
        tokio::time::sleep(NEWER_WRITE).await;
        let Some((_, survey)) = self.survey(bucket, row).await else {
            return;
        };
        let is_still_behind =
            survey.is_settled_at() == Some(agreed) && !survey.reader.behind(agreed).is_empty();
        if !is_still_behind || survey.newer_generation.is_some() {
            return;
        }
        if let Err(error) = self.rewrite(bucket, row, true).await {
            debug!(%error, "a replica that is behind was not mended; the next reader tries again");
        }
    }

    async fn rewrite(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        must_write: bool,
    ) -> Result<(), WriteError> {
        if row.part.is_some() {
            self.settle::<PartState>(bucket, row, must_write).await
        } else {
            self.settle::<KeyState>(bucket, row, must_write).await
        }
    }

    /// Replays the Accept that the holder has; whether all of those behind took it.
    async fn replay(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        place: &Place,
        ballot: Ballot,
        holder: Replica,
        behind: &[Replica],
    ) -> bool {
        let Some(node) = place.view.node(holder) else {
            return false;
        };
        let request = ReadRequest {
            to: holder,
            partition: place.partition,
            epoch: place.epoch,
            generation: bucket.generation,
            key: row.clone(),
            wants_body: true,
        };
        let Ok((ReadReply::Row { accepted, state }, body)) = self
            .call(node, Lane::Repair, request, bytes::Bytes::new())
            .await
        else {
            return false;
        };
        let Some(state) = state.filter(|_| accepted == ballot) else {
            // It moved on meanwhile: whoever wrote that wrote to all.
            return true;
        };
        if !is_whole(row, &state, &body) {
            // The holder cannot read its own body: an identity round takes it from another.
            return false;
        }
        let claim = Claim {
            epoch: place.epoch,
            generation: bucket.generation,
            ballot,
            born: None,
        };
        let mut all_took_it = true;
        for replica in behind {
            let Some(node) = place.view.node(*replica) else {
                continue;
            };
            let request = AcceptRequest {
                to: *replica,
                partition: place.partition,
                key: row.clone(),
                claim,
                state: state.clone(),
            };
            match self.call(node, Lane::Repair, request, body.clone()).await {
                Ok((AcceptReply::Accepted, _)) => {}
                Ok((AcceptReply::Refused(_), _)) => all_took_it = false,
                // Not there: the next reader meets it again.
                Err(_) => {}
            }
        }
        all_took_it
    }
}

/// Whether a body is the one that the state speaks of.
fn is_whole(row: &RowKey, state: &[u8], body: &[u8]) -> bool {
    let len = if row.part.is_some() {
        PartState::decode_state(state).map(|state| state.inline_len())
    } else {
        KeyState::decode_state(state).map(|state| state.inline_len())
    };
    len.is_ok_and(|len| u64::try_from(body.len()).is_ok_and(|got| got == len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfort_wire::id::ObjectKey;

    #[test]
    fn a_read_whose_last_answer_is_there_needs_no_repair() {
        use ringfort_ring::id::{DiskId, Epoch};
        use ringfort_ring::quorum::QuorumRule;
        let replica = |n: u8| Replica {
            disk: DiskId([n; 16]),
            joined: Epoch(1),
        };
        let at = |ms| Ballot::last_at(ringfort_ring::hlc::Timestamp::from_ms(ms));
        let is_done_but_for = |late: Ballot, newcomers: Vec<Replica>| {
            let members = vec![replica(1), replica(2), replica(3)];
            let mut reader = Reader::new(QuorumRule::stable(members));
            reader.on_answer(replica(1), at(5));
            reader.on_answer(replica(2), at(5));
            let reply = ReadReply::Row {
                accepted: late,
                state: None,
            };
            let mut round = RepairRound {
                agreed: at(5),
                highest: Some(at(5)),
                unanswered: 1,
                reader,
                answers: Answers::of([(replica(3), Ok((reply, bytes::Bytes::new())))]),
            };
            round.is_done(&newcomers)
        };
        let is_done = |late| is_done_but_for(late, Vec::new());
        assert!(is_done(at(5)));
        assert!(!is_done(at(4)));
        assert!(!is_done(at(6)));
        assert!(is_done_but_for(at(4), vec![replica(3)]));
        assert!(!is_done_but_for(at(6), vec![replica(3)]));
    }

    #[test]
    fn a_row_waits_once_and_not_for_ever() {
        let key = ObjectKey::parse("k").expect("a legal key");
        let row = RowKey::object(BucketId::SYSTEM, key);
        let waiting = LookedAtAgain::default();
        assert!(waiting.begin(&row));
        assert!(!waiting.begin(&row));
        waiting.end(&row);
        assert!(waiting.begin(&row));
    }
}
