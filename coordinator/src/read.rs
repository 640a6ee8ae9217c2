//! A linearizable read of one register (DESIGN 4.5): a majority on one ballot, or an identity round first.

use super::fanout::first_of;
use super::read_repair::RepairRound;
use super::view::Place;
use super::{BucketRef, Coordinator, ReadError, ReadRow, RegisterState};
use bytes::Bytes;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::quorum::Replica;
use ringfort_ring::register::acceptor::{Reason, Refusal};
use ringfort_ring::register::reader::{Reader, Reading};
use ringfort_wire::id::RowKey;
use ringfort_wire::message::{ReadReply, ReadRequest};
use ringfort_wire::transport::Lane;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long the replica that was asked for the body may lag behind the agreeing majority before others are asked.
const BODY_HEDGE: Duration = Duration::from_millis(20);

/// How long a straggler is waited for where a majority has answered and does not agree.
const STRAGGLER: Duration = Duration::from_millis(250);

/// What one round of reading brought.
enum Round {
    Agreed(Agreed),
    Split,
    Impossible(String),
    Refused(Refusal),
}

struct Agreed {
    ballot: Ballot,
    state: Option<Bytes>,
    body: Option<Bytes>,
    holders: Vec<Replica>,
}

impl Coordinator {
    /// Reads one register. Costs one round where the replicas agree, which they do unless a write was cut short.
    ///
    /// # Errors
    /// Never a guess: where no majority answers, or the rows cannot be settled, [`ReadError::NotEnoughReplicas`].
    pub async fn read<S: RegisterState>(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        wants_body: bool,
    ) -> Result<ReadRow<S>, ReadError> {
        let deadline = Instant::now() + self.inner.options.operation_timeout;
        let mut attempt: u32 = 0;
        let mut has_split = false;
        let mut last = "no majority answered in time".to_owned();
        while Instant::now() < deadline {
            let place = self
                .view()
                .and_then(|view| view.place_row(bucket, row))
                .ok_or_else(|| {
                    ReadError::NotEnoughReplicas("the cluster has not formed yet".to_owned())
                })?;
            match self.read_round(bucket, row, &place, wants_body).await {
                Round::Agreed(agreed) => {
                    let whole = self.with_body::<S>(bucket, row, &place, agreed, wants_body);
                    let Ok(whole) = timeout_at(deadline, whole).await else {
                        break;
                    };
                    if let Some(row) = whole? {
                        return Ok(row);
                    }
                    // The replicas moved on while the body was fetched, or those at hand cannot read it: read again.
                    last = "no replica that answers has the body".to_owned();
                    self.pause(20).await;
                }
                // Mostly a write on its way, which an identity round would only hold up.
                Round::Split if !has_split => {
                    has_split = true;
                    self.pause(10).await;
                }
                Round::Split => self.settle::<S>(bucket, row, false).await?,
                Round::Refused(refusal) => match refusal.reason {
                    Reason::Generation => return Err(ReadError::BucketChanged),
                    _ => self.await_newer_layout(&place.view).await,
                },
                Round::Impossible(why) => {
                    // One more try for a connection that has just broken; then the truth, quickly.
                    if attempt >= 2 {
                        return Err(ReadError::NotEnoughReplicas(why));
                    }
                    last = why;
                    self.pause(50).await;
                }
            }
            attempt += 1;
        }
        Err(ReadError::NotEnoughReplicas(last))
    }

    /// Waits for between once and twice so many milliseconds.
    async fn pause(&self, ms: u64) {
        let wait_ms = ms + self.environment().random_below(ms);
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }

    async fn read_round(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        place: &Place,
        wants_body: bool,
    ) -> Round {
        let targets = place.targets();
        // The body comes from one replica: one that is not known to be slow, and not always the same.
        let start = usize::try_from(self.environment().random_below(64)).unwrap_or(0);
        let preferred = (0..targets.len())
            .map(|offset| targets[(start + offset) % targets.len()])
            .find(|(_, node)| !self.inner.health.is_suspect(*node))
            .or_else(|| targets.first().copied())
            .map(|(replica, _)| replica);
        let mut answers = self.fan_out(Lane::Metadata, &targets, |to| {
            let request = ReadRequest {
                to,
                partition: place.partition,
                epoch: place.epoch,
                generation: bucket.generation,
                key: row.clone(),
                wants_body: wants_body && Some(to) == preferred,
            };
            (request, Bytes::new())
        });
        let mut reader = Reader::new(place.rule.clone());
        let mut rows: Vec<(Replica, Ballot, Option<Bytes>, Option<Bytes>)> = Vec::new();
        let mut errors: Vec<String> = Vec::new();
        let mut failed = 0;
        let mut refused: Option<Refusal> = None;
        let mut deadline = Instant::now() + self.inner.options.call_timeout;
        let mut hedge: Option<Instant> = None;
        let mut agreed: Option<Ballot> = None;
        loop {
            let until = hedge.unwrap_or(deadline);
            let Ok(answer) = timeout_at(until, answers.next()).await else {
                break;
            };
            let Some((from, reply)) = answer else { break };
            let reading = match reply {
                Ok((ReadReply::Row { accepted, state }, body)) => {
                    let body = (Some(from) == preferred && wants_body).then_some(body);
                    rows.push((from, accepted, state, body));
                    reader.on_answer(from, accepted)
                }
                Ok((ReadReply::Refused(refusal), _)) => {
                    failed += 1;
                    refused.get_or_insert(refusal);
                    reader.on_unreachable(from)
                }
                Err(error) => {
                    failed += 1;
                    errors.push(error.to_string());
                    reader.on_unreachable(from)
                }
            };
            match reading {
                Reading::Agreed(ballot) => {
                    agreed = Some(ballot);
                    let has_body = rows
                        .iter()
                        .any(|(_, accepted, _, body)| *accepted == ballot && body.is_some());
                    let is_body_to_come = wants_body
                        && !ballot.is_zero()
                        && !has_body
                        && preferred
                            .is_some_and(|replica| rows.iter().all(|(from, ..)| *from != replica));
                    if !is_body_to_come {
                        break;
                    }
                    hedge.get_or_insert(Instant::now() + BODY_HEDGE);
                }
                Reading::Split => return Round::Split,
                Reading::Impossible => break,
                Reading::Wait => {
                    // A paused replica must not hold up what an identity round can decide without it.
                    if reader.has_majority_answered() {
                        deadline = deadline.min(Instant::now() + STRAGGLER);
                    }
                }
            }
        }
        let Some(ballot) = agreed else {
            if let Some(refusal) = refused {
                return Round::Refused(refusal);
            }
            // A majority that answered and does not agree, with a straggler that is too slow: settle without it.
            if reader.has_majority_answered() {
                return Round::Split;
            }
            return Round::Impossible(errors.join("; "));
        };
        let round = RepairRound {
            agreed: ballot,
            highest: rows.iter().map(|(_, accepted, ..)| *accepted).max(),
            unanswered: targets.len() - rows.len() - failed,
            reader,
            answers,
        };
        self.repair_later(bucket, row, place, round);
        let holders = rows
            .iter()
            .filter(|(_, accepted, ..)| *accepted == ballot)
            .map(|(from, ..)| *from)
            .collect();
        let body = rows
            .iter()
            .filter(|(_, accepted, ..)| *accepted == ballot)
            .find_map(|(.., body)| body.clone());
        let state = rows
            .into_iter()
            .find(|(_, accepted, ..)| *accepted == ballot)
            .and_then(|(_, _, state, _)| state);
        Round::Agreed(Agreed {
            ballot,
            state,
            body,
            holders,
        })
    }

    /// The row with its body; `None` where no replica has that ballot any more.
    async fn with_body<S: RegisterState>(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        place: &Place,
        agreed: Agreed,
        wants_body: bool,
    ) -> Result<Option<ReadRow<S>>, ReadError> {
        let state = agreed
            .state
            .map(|bytes| S::decode_state(&bytes))
            .transpose()
            .map_err(|error| ReadError::Corrupt(error.to_string()))?;
        let len = state.as_ref().map_or(0, RegisterState::inline_len);
        let is_whole = |body: &Bytes| u64::try_from(body.len()).is_ok_and(|got| got == len);
        let mut body = Bytes::new();
        if wants_body && len > 0 {
            match agreed.body {
                Some(found) if is_whole(&found) => body = found,
                rotten => {
                    if rotten.is_some() {
                        self.rewrite_later(bucket, row);
                    }
                    let found = self
                        .fetch_inline(bucket, row, place, (agreed.ballot, len), &agreed.holders)
                        .await;
                    match found {
                        Some(found) => body = found,
                        None => return Ok(None),
                    }
                }
            }
        }
        Ok(Some(ReadRow {
            ballot: agreed.ballot,
            state,
            body,
        }))
    }

    /// The inline body of a row at exactly this ballot and of this length, from the first of these replicas that has
    /// it whole.
    pub(super) async fn fetch_inline(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        place: &Place,
        (ballot, len): (Ballot, u64),
        holders: &[Replica],
    ) -> Option<Bytes> {
        let mut holders: Vec<_> = holders
            .iter()
            .filter_map(|holder| Some((*holder, place.view.node(*holder)?)))
            .collect();
        holders.sort_by_key(|(_, node)| self.inner.health.is_suspect(*node));
        let asks = holders.into_iter().map(|(to, node)| async move {
            let request = ReadRequest {
                to,
                partition: place.partition,
                epoch: place.epoch,
                generation: bucket.generation,
                key: row.clone(),
                wants_body: true,
            };
            let reply = self.call(node, Lane::Metadata, request, Bytes::new()).await;
            match reply {
                Ok((ReadReply::Row { accepted, .. }, body))
                    if accepted == ballot
                        && u64::try_from(body.len()).is_ok_and(|got| got == len) =>
                {
                    Ok(body)
                }
                _ => Err(()),
            }
        });
        first_of(asks).await.ok()
    }
}
