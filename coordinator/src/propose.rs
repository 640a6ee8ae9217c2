//! One operation on one register: Prepare, decide, Accept, and again until there is an answer (DESIGN 4.3, 4.8).
//!
//! The rules about what may be answered are `ring`'s proposer's; this is its driver.

mod outcome;

use super::fanout::Answers;
use super::view::Place;
use super::{
    BucketRef, Change, Coordinator, InlineBody, OperationContext, Proposed, ReadError,
    RegisterState, Seen, WriteError,
};
use bytes::Bytes;
use outcome::{Reached, Sent, Setback, is_full};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::quorum::Replica;
use ringfort_ring::register::acceptor::{Claim, Reason};
use ringfort_ring::register::operations::{OperationRecord, RecentOperations};
use ringfort_ring::register::proposer::{Decision, Promise, Proposer, Step, Value};
use ringfort_wire::id::{BucketId, RowKey};
use ringfort_wire::message::{
    AcceptReply, AcceptRequest, PrepareBoundRequest, PrepareReply, PrepareRequest,
};
use ringfort_wire::transport::Lane;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a majority that cannot be reached is tried again: longer than a connection takes to come back.
pub(super) const NO_QUORUM_PATIENCE: Duration = Duration::from_secs(3);

/// How long the last answers are waited for where full disks may make a majority impossible.
const STRAGGLER: Duration = Duration::from_millis(250);

/// A value on its way: the encoded state and the inline body.
struct Encoded {
    state: Bytes,
    body: Bytes,
}

/// What the operation's closure made of the view, kept until the Accept has been judged.
enum Pending<S, R> {
    Nothing,
    Write { state: S, replaced: Option<S> },
    AlreadyDone { record: OperationRecord, state: S },
    Refuse(R),
}

impl Coordinator {
    /// Runs `decide` inside a round on the register and writes what it says, with retries until the deadline.
    ///
    /// `decide` is called once an attempt, with the value that a majority's promises showed.
    ///
    /// # Errors
    /// [`WriteError::OutcomeUnknown`] where an Accept has left and its fate cannot be told; every other variant
    /// says that nothing was, or will be, written.
    pub async fn propose<S, R, F>(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        operation: &OperationContext,
        mut decide: F,
    ) -> Result<Proposed<S, R>, WriteError>
    where
        S: RegisterState,
        R: Send,
        F: FnMut(Seen<'_, S>) -> Change<S, R> + Send,
    {
        let turn = timeout_at(operation.deadline, self.inner.queue.turn(row)).await;
        let Ok(_turn) = turn else {
            return Err(WriteError::Conflict);
        };
        let mut round = Round::begin(self, bucket, row, operation)?;
        let mut attempt: u32 = 0;
        let outcome = loop {
            let setback = match round.attempt(&mut decide).await {
                Ok(done) => break done,
                Err(setback) => setback,
            };
            attempt += 1;
            if let Some(error) = round.after(setback, attempt).await {
                break Err(error);
            }
        };
        if matches!(outcome, Err(WriteError::OutcomeUnknown(_))) {
            // A maybe must not surface weeks later: it is settled soon, whoever missed the Accept.
            self.look_again_later(bucket, row);
        }
        outcome
    }

    /// Makes the highest value of the register chosen, and, where `must_write`, writes it anew even if it is.
    ///
    /// # Errors
    /// As [`Coordinator::propose`]; an identity write that is not known to have been applied is harmless, and is
    /// reported as [`WriteError::NotEnoughReplicas`].
    pub(super) async fn settle<S: RegisterState>(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        must_write: bool,
    ) -> Result<(), WriteError> {
        let decision = if must_write {
            Decision::Rewrite
        } else {
            Decision::Settle
        };
        let written = self.identity_round::<S>(bucket, row, decision, None);
        written.await.map(|_| ())
    }

    /// Writes the register's value anew, with a birth bound in the Prepare: from then on no operation on this partition
    /// that was born before it can begin a round. The value that was written: an operation born before the bound that
    /// this value does not name can never be chosen (DESIGN 4.13).
    ///
    /// # Errors
    /// As [`Coordinator::propose`]. Then nothing may be concluded.
    pub async fn write_with_bound<S: RegisterState>(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        bound: Timestamp,
    ) -> Result<Option<S>, WriteError> {
        let written = self
            .identity_round::<S>(bucket, row, Decision::Rewrite, Some(bound))
            .await?;
        let state = written.map(|bytes| S::decode_state(&bytes)).transpose();
        state.map_err(|error| WriteError::Corrupt(error.to_string()))
    }

    /// An identity round; the encoded value that is chosen by it, `None` over the empty register.
    async fn identity_round<S: RegisterState>(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        decision: Decision,
        bound: Option<Timestamp>,
    ) -> Result<Option<Bytes>, WriteError> {
        let operation = self.operation(None);
        let turn = timeout_at(operation.deadline, self.inner.queue.turn(row)).await;
        let Ok(_turn) = turn else {
            return Err(WriteError::Conflict);
        };
        let mut round: Round<'_, S, ()> = Round::begin(self, bucket, row, &operation)?;
        round.identity = Some(decision);
        round.bound = bound;
        let mut attempt: u32 = 0;
        loop {
            let never = |_: Seen<'_, S>| Change::Refuse(());
            match round.attempt(never).await {
                // What the promises of this last attempt showed is what its Accept carried.
                Ok(done) => return done.map(|_| round.shown.and_then(|shown| shown.state)),
                Err(setback) => {
                    attempt += 1;
                    if let Some(error) = round.after(setback, attempt).await {
                        return Err(error);
                    }
                }
            }
        }
    }
}

struct Round<'a, S, R> {
    coordinator: &'a Coordinator,
    bucket: BucketRef,
    row: &'a RowKey,
    operation: &'a OperationContext,
    place: Place,
    proposer: Proposer<Bytes>,
    /// Set for identity rounds, which have no operation of their own.
    identity: Option<Decision>,
    /// The birth bound that an identity write carries.
    bound: Option<Timestamp>,
    pending: Pending<S, R>,
    /// What earlier attempts' Accepts may have written, and over what: their fate is learnt later.
    sent: Vec<Sent<S>>,
    shown: Option<Shown>,
    /// Who said with its promise that its disk is full.
    full: Vec<Replica>,
    began: Instant,
}

/// What the promises showed, as an identity write needs it.
#[derive(Clone)]
struct Shown {
    accepted: Ballot,
    state: Option<Bytes>,
    floor: Ballot,
    holders: Vec<Replica>,
}

impl<'a, S: RegisterState, R: Send> Round<'a, S, R> {
    fn begin(
        coordinator: &'a Coordinator,
        bucket: BucketRef,
        row: &'a RowKey,
        operation: &'a OperationContext,
    ) -> Result<Self, WriteError> {
        let place = coordinator
            .view()
            .and_then(|view| view.place_row(bucket, row))
            .ok_or_else(|| {
                WriteError::NotEnoughReplicas("the cluster has not formed yet".to_owned())
            })?;
        Ok(Self {
            coordinator,
            bucket,
            row,
            operation,
            proposer: Proposer::new(place.rule.clone()),
            place,
            identity: None,
            bound: None,
            pending: Pending::Nothing,
            sent: Vec::new(),
            shown: None,
            full: Vec::new(),
            began: Instant::now(),
        })
    }

    fn claim(&self, is_new_value: bool) -> Claim {
        Claim {
            epoch: self.place.epoch,
            generation: self.bucket.generation,
            ballot: self.proposer.ballot(),
            born: is_new_value.then_some(self.operation.id.born),
        }
    }

    /// When the attempt is given up: an attempt never takes the whole of the operation's time.
    fn attempt_deadline(&self) -> Instant {
        let call = self.coordinator.inner.options.call_timeout;
        self.operation.deadline.min(Instant::now() + call)
    }

    async fn attempt(
        &mut self,
        mut decide: impl FnMut(Seen<'_, S>) -> Change<S, R> + Send,
    ) -> Result<Result<Proposed<S, R>, WriteError>, Setback> {
        self.note_sent();
        self.refresh_place();
        let ballot = self.coordinator.fresh_ballot();
        self.proposer.start_in(self.place.rule.clone(), ballot);
        let mut reached = Reached::default();
        self.full.clear();
        match self.prepare(&mut reached).await {
            Step::Decide => {}
            step => return Err(self.setback(step, &reached)),
        }
        let chosen = match self.decide(&mut decide) {
            Ok(chosen) => chosen,
            // Only what was never sent is known not to be written.
            Err(error) if self.proposer.first_accept().is_some() => {
                return Ok(Err(WriteError::OutcomeUnknown(error.to_string())));
            }
            Err(error) => return Ok(Err(error)),
        };
        let step = match chosen {
            (Step::SendAccept(value), encoded) => {
                let encoded = match (value, encoded) {
                    (Value::New, Some(encoded)) => self.complete(encoded).await,
                    _ => self.same_again().await,
                };
                match encoded {
                    Some(encoded) => self.accept(value, encoded, &mut reached).await,
                    // No Accept of this attempt has left. Where the proposer noted one, it errs on the safe side.
                    None => self.proposer.abandon(),
                }
            }
            (step, _) => step,
        };
        match step {
            Step::Done(outcome) => Ok(self.finish(outcome)),
            step => Err(self.setback(step, &reached)),
        }
    }

    /// Each attempt goes by the newest layout: it has a ballot of its own, and counts in one epoch only.
    fn refresh_place(&mut self) {
        let Some(view) = self.coordinator.view() else {
            return;
        };
        if view.layout.version > self.place.view.layout.version
            && let Some(place) = view.place_row(self.bucket, self.row)
        {
            self.place = place;
        }
    }

    async fn prepare(&mut self, reached: &mut Reached) -> Step {
        let claim = self.claim(self.identity.is_none());
        let (partition, key) = (self.place.partition, self.row.clone());
        let targets = self.place.targets();
        let request = |to| PrepareRequest {
            to,
            partition,
            key: key.clone(),
            claim,
        };
        let mut answers = match self.bound {
            None => self
                .coordinator
                .fan_out(Lane::Metadata, &targets, |to| (request(to), Bytes::new())),
            Some(bound) => self.coordinator.fan_out(Lane::Repair, &targets, |to| {
                let prepare = request(to);
                (PrepareBoundRequest { prepare, bound }, Bytes::new())
            }),
        };
        let deadline = self.attempt_deadline();
        loop {
            let Ok(Some((from, reply))) = timeout_at(deadline, answers.next()).await else {
                return self.proposer.abandon();
            };
            let step = match reply {
                Ok((reply, _)) => match reply {
                    PrepareReply::Promised {
                        accepted,
                        state,
                        floor,
                        is_full,
                    } => {
                        if is_full {
                            self.full.push(from);
                        }
                        let promise = Promise {
                            accepted,
                            state,
                            floor,
                        };
                        self.proposer.on_promise(from, Ok(promise))
                    }
                    PrepareReply::Refused(refusal) => self.proposer.on_promise(from, Err(refusal)),
                },
                Err(error) => {
                    reached.note(from, &error);
                    self.proposer.on_unreachable(from)
                }
            };
            if step == Step::Decide && !self.full.is_empty() && self.identity.is_none() {
                self.hear_of_full_disks(&mut answers).await;
            }
            if step != Step::Wait {
                return step;
            }
        }
    }

    /// One disk of the majority is full: whether enough others are not is worth a moment, while "no" is still definite.
    async fn hear_of_full_disks(&mut self, answers: &mut Answers<PrepareReply>) {
        let deadline = Instant::now() + STRAGGLER;
        while let Ok(Some((from, reply))) = timeout_at(deadline, answers.next()).await {
            if let Ok((PrepareReply::Promised { is_full: true, .. }, _)) = reply {
                self.full.push(from);
            }
        }
    }

    /// Judges the view. The encoded value is given for a new value only.
    #[allow(clippy::type_complexity, reason = "read in one place only")]
    fn decide(
        &mut self,
        decide: &mut impl FnMut(Seen<'_, S>) -> Change<S, R>,
    ) -> Result<(Step, Option<(S, InlineBody)>), WriteError> {
        let Some(view) = self.proposer.view() else {
            return Ok((self.proposer.abandon(), None));
        };
        let floor = view.floor;
        let accepted = view.accepted;
        self.shown = Some(Shown {
            accepted,
            state: view.state.cloned(),
            floor,
            holders: self.proposer.holders(),
        });
        let state = match view.state.map(|bytes| S::decode_state(bytes)).transpose() {
            Ok(state) => state,
            Err(error) => return Err(WriteError::Corrupt(error.to_string())),
        };
        let empty = RecentOperations::after_empty(floor);
        let operations = state.as_ref().map_or(&empty, RegisterState::operations);
        let since = operations.since();
        if let Some(identity) = self.identity {
            return Ok((self.proposer.decide(identity, since), None));
        }
        let own = operations.find(self.operation.id.id);
        let earlier = self
            .operation
            .invocation
            .and_then(|invocation| operations.find_invocation(invocation));
        if let (Some(record), Some(value)) = (own.or(earlier).cloned(), state.clone()) {
            self.pending = Pending::AlreadyDone {
                record,
                state: value,
            };
            return Ok((self.proposer.decide(Decision::AlreadyDone, since), None));
        }
        let ballot = self.proposer.ballot();
        let change = decide(Seen {
            state: state.as_ref(),
            ballot,
            accepted,
        });
        match change {
            Change::Refuse(answer) => {
                self.pending = Pending::Refuse(answer);
                Ok((self.proposer.decide(Decision::Refuse, since), None))
            }
            Change::Write {
                state: mut next,
                body,
                answer,
            } => {
                let mut remembered = operations.clone();
                remembered.push(OperationRecord {
                    id: self.operation.id.id,
                    invocation: self.operation.invocation,
                    ballot,
                    answer,
                });
                *next.operations_mut() = remembered;
                let body_len = match &body {
                    InlineBody::None => 0,
                    InlineBody::New(body) => u64::try_from(body.len()).unwrap_or(u64::MAX),
                    InlineBody::Keep => state.as_ref().map_or(0, RegisterState::inline_len),
                };
                if body_len != next.inline_len() {
                    // Never to be written: no reader would take such a row for whole.
                    return Err(WriteError::Corrupt(
                        "a new value and its inline body do not belong together".to_owned(),
                    ));
                }
                // Before an Accept leaves: what is refused now is definitely not written.
                if self.lacks_room(&next, state.as_ref(), body_len) {
                    return Err(WriteError::Full);
                }
                self.pending = Pending::Write {
                    state: next.clone(),
                    replaced: state,
                };
                let step = self.proposer.decide(Decision::Write, since);
                Ok((step, Some((next, body))))
            }
        }
    }

    /// Whether the value takes room and so many disks are full that no majority can take it.
    fn lacks_room(&self, next: &S, seen: Option<&S>, body_len: u64) -> bool {
        let rule = &self.place.rule;
        if rule.holds(|replica| !self.full.contains(&replica)) {
            return false;
        }
        let body_len = usize::try_from(body_len).unwrap_or(usize::MAX);
        let state_len = next.encode_state().len();
        AcceptRequest::takes_room(self.row, state_len, body_len)
            || (self.row.bucket != BucketId::SYSTEM && next.adds_to(seen))
    }

    /// The new value with its body; `None` where a body to be kept is not to be had.
    async fn complete(&self, (state, body): (S, InlineBody)) -> Option<Encoded> {
        let body = match body {
            InlineBody::None => Bytes::new(),
            InlineBody::New(body) => body,
            InlineBody::Keep => {
                // As long as the value's own: that was looked at before. Over the empty register there is none.
                self.body_of_view(state.inline_len()).await?
            }
        };
        Some(Encoded {
            state: state.encode_state(),
            body,
        })
    }

    /// The value of the view, unchanged; over the empty register an empty state, which is a tombstone.
    async fn same_again(&self) -> Option<Encoded> {
        let shown = self.shown.clone()?;
        let Some(bytes) = shown.state else {
            let mut state = S::default();
            *state.operations_mut() = RecentOperations::after_empty(shown.floor);
            return Some(Encoded {
                state: state.encode_state(),
                body: Bytes::new(),
            });
        };
        let state = S::decode_state(&bytes).ok()?;
        let body = self.body_of_view(state.inline_len()).await?;
        Some(Encoded { state: bytes, body })
    }

    /// Fetches the inline body that belongs to the view's value from a replica that showed it.
    async fn body_of_view(&self, len: u64) -> Option<Bytes> {
        if len == 0 {
            return Some(Bytes::new());
        }
        let shown = self.shown.clone()?;
        let found = self.coordinator.fetch_inline(
            self.bucket,
            self.row,
            &self.place,
            (shown.accepted, len),
            &shown.holders,
        );
        timeout_at(self.attempt_deadline(), found).await.ok()?
    }

    async fn accept(&mut self, value: Value, encoded: Encoded, reached: &mut Reached) -> Step {
        let claim = self.claim(value == Value::New);
        let (partition, key) = (self.place.partition, self.row.clone());
        let targets = self.place.targets();
        let (coordinator, bucket, missed) =
            (self.coordinator.clone(), self.bucket, Arc::new(key.clone()));
        let mut answers: Answers<AcceptReply> = self.coordinator.fan_out_watched(
            Lane::Metadata,
            &targets,
            |to| {
                let request = AcceptRequest {
                    to,
                    partition,
                    key: key.clone(),
                    claim,
                    state: encoded.state.clone(),
                };
                (request, encoded.body.clone())
            },
            move |replica, reply| {
                let has_missed = match reply {
                    Ok((AcceptReply::Accepted, _)) => false,
                    // Another round is going on above this one, and writes to all.
                    Ok((AcceptReply::Refused(refusal), _)) => refusal.reason == Reason::Horizon,
                    Err(_) => true,
                };
                if has_missed {
                    let hints = &coordinator.inner.hints;
                    hints.row_missed(replica, bucket, &missed);
                }
            },
        );
        let mut deadline = self.attempt_deadline();
        // Full disks have made a majority impossible: only whether anybody has taken it is still to be learnt.
        let mut failed: Option<Step> = None;
        loop {
            let Ok(Some((from, reply))) = timeout_at(deadline, answers.next()).await else {
                return failed.unwrap_or_else(|| self.proposer.abandon());
            };
            if let Err(error) = &reply
                && is_full(error)
            {
                reached.refused_accept += 1;
            }
            if failed.is_some() {
                continue;
            }
            let step = match reply {
                Ok((AcceptReply::Accepted, _)) => self.proposer.on_accepted(from, Ok(())),
                Ok((AcceptReply::Refused(refusal), _)) => {
                    self.proposer.on_accepted(from, Err(refusal))
                }
                Err(error) => {
                    reached.note(from, &error);
                    self.proposer.on_unreachable(from)
                }
            };
            match step {
                Step::Wait => {}
                Step::Retry { .. } if reached.is_full(&self.place.rule) => {
                    failed = Some(step);
                    deadline = deadline.min(Instant::now() + STRAGGLER);
                }
                step => return step,
            }
        }
    }
}

impl From<WriteError> for ReadError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::BucketChanged => Self::BucketChanged,
            WriteError::Corrupt(why) => Self::Corrupt(why),
            other => Self::NotEnoughReplicas(other.to_string()),
        }
    }
}
