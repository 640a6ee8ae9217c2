//! How an attempt of a proposal ended: an answer, an error, or another attempt after a wait.

use super::super::{Proposed, RegisterState, WriteError};
use super::{NO_QUORUM_PATIENCE, Pending, Round};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::quorum::{QuorumRule, Replica};
use ringfort_ring::register::acceptor::{Reason, Refusal};
use ringfort_ring::register::operations::OperationRecord;
use ringfort_ring::register::proposer::{Outcome, Step};
use ringfort_wire::error::{CallError, NodeErrorCode};
use std::time::Duration;
use tokio::time::Instant;

/// How far ahead of the wall clock a refusal may move this process's clock, in milliseconds: the reach of a promise
/// horizon and of the clock bound.
const CLOCK_REACH_MS: u64 = 1_500;

/// So many attempts are remembered: more are made only where writers fight over a key.
const SENT_MAX: usize = 16;

/// The new value of one attempt, whose Accept has left.
pub(super) struct Sent<S> {
    pub(super) ballot: Ballot,
    pub(super) state: S,
    pub(super) replaced: Option<S>,
}

/// Why an attempt ended without an outcome.
pub(super) struct Setback {
    pub(super) past: Ballot,
    pub(super) why: Option<Refusal>,
    /// Whether full disks alone keep a majority from being reached.
    pub(super) is_full: bool,
    /// Whether every member has refused this attempt's Accept because its disk is full.
    pub(super) is_refused_by_all: bool,
    pub(super) reached: String,
}

impl<S: RegisterState, R: Send> Round<'_, S, R> {
    /// Keeps what the attempt that has just failed may have written.
    pub(super) fn note_sent(&mut self) {
        let pending = std::mem::replace(&mut self.pending, Pending::Nothing);
        if let Pending::Write { state, replaced } = pending {
            if self.sent.len() == SENT_MAX {
                self.sent.remove(0);
            }
            self.sent.push(Sent {
                ballot: self.proposer.ballot(),
                state,
                replaced,
            });
        }
    }

    pub(super) fn finish(&mut self, outcome: Outcome) -> Result<Proposed<S, R>, WriteError> {
        let pending = std::mem::replace(&mut self.pending, Pending::Nothing);
        match (outcome, pending) {
            (Outcome::Written(ballot), Pending::Write { state, replaced }) => {
                Ok(Proposed::Written {
                    ballot,
                    state,
                    replaced,
                })
            }
            (Outcome::AlreadyDone, Pending::AlreadyDone { record, state }) => {
                Ok(self.already_done(record, state))
            }
            (Outcome::Refused, Pending::Refuse(answer)) => Ok(Proposed::Refused(answer)),
            // An identity round has no answer of its own; its caller looks at nothing but success.
            (Outcome::Settled(ballot), _) => Ok(Proposed::Written {
                ballot,
                state: S::default(),
                replaced: None,
            }),
            (_, _) => Err(WriteError::OutcomeUnknown(
                "an earlier attempt may have been applied and was forgotten".to_owned(),
            )),
        }
    }

    /// An attempt of this very operation that was applied after all is told as the write that it was: its caller
    /// deletes what it replaced.
    fn already_done(&mut self, record: OperationRecord, state: S) -> Proposed<S, R> {
        let own = self
            .sent
            .iter()
            .position(|sent| sent.ballot == record.ballot && record.id == self.operation.id.id);
        match own.map(|index| self.sent.swap_remove(index)) {
            Some(sent) => Proposed::Written {
                ballot: sent.ballot,
                state: sent.state,
                replaced: sent.replaced,
            },
            None => Proposed::AlreadyDone { record, state },
        }
    }

    /// What a setback means: an error to return, or another attempt after a wait.
    pub(super) async fn after(&mut self, setback: Setback, attempt: u32) -> Option<WriteError> {
        let environment = self.coordinator.environment();
        // Past what a replica has promised, at once; but one whose clock runs far ahead must not drag this one along,
        // or every other replica would refuse it.
        let reach = Timestamp::from_ms(environment.now_ms()).plus_ms(CLOCK_REACH_MS);
        environment.observe(setback.past.time.min(reach));
        let has_left = self.proposer.first_accept().is_some();
        if let Some(refusal) = setback.why {
            match refusal.reason {
                Reason::Generation if has_left => {
                    return Some(WriteError::OutcomeUnknown(
                        "the bucket has changed".to_owned(),
                    ));
                }
                Reason::Generation => return Some(WriteError::BucketChanged),
                Reason::Bound => {
                    return Some(if has_left {
                        WriteError::OutcomeUnknown("the operation is too old".to_owned())
                    } else {
                        WriteError::TooOld
                    });
                }
                Reason::Epoch => {
                    self.coordinator.await_newer_layout(&self.place.view).await;
                }
                _ => {}
            }
        }
        if setback.is_full {
            // Trying again makes no room. What an Accept that left has brought about is settled by who meets it; where
            // the only one was refused by every member there was, none has taken it and none will.
            let is_definite = self.sent.is_empty() && setback.is_refused_by_all;
            return Some(if has_left && !is_definite {
                WriteError::OutcomeUnknown(WriteError::Full.to_string())
            } else {
                WriteError::Full
            });
        }
        let wait = self.backoff(setback.why, attempt);
        // Where nobody refused, the replicas are not there: no use to hold the client for the whole of its time.
        let is_hopeless = setback.why.is_none() && self.began.elapsed() >= NO_QUORUM_PATIENCE;
        if is_hopeless || Instant::now() + wait >= self.operation.deadline {
            return Some(self.give_up(&setback));
        }
        tokio::time::sleep(wait).await;
        None
    }

    pub(super) fn setback(&self, step: Step, reached: &Reached) -> Setback {
        let (past, why) = match step {
            Step::Retry { past, why } => (past, why),
            // No other step ends an attempt without an outcome.
            Step::Wait | Step::Decide | Step::SendAccept(_) | Step::Done(_) => (Ballot::ZERO, None),
        };
        Setback {
            past,
            why,
            is_full: reached.is_full(&self.place.rule),
            is_refused_by_all: reached.refused_accept == self.place.rule.members().len(),
            reached: if reached.errors.is_empty() {
                "no majority answered in time".to_owned()
            } else {
                reached.errors.join("; ")
            },
        }
    }

    fn give_up(&mut self, setback: &Setback) -> WriteError {
        match self.proposer.give_up() {
            Ok(_) => WriteError::OutcomeUnknown(setback.reached.clone()),
            Err(_)
                if setback
                    .why
                    .is_some_and(|why| why.reason == Reason::Promised) =>
            {
                WriteError::Conflict
            }
            Err(_) => WriteError::NotEnoughReplicas(setback.reached.clone()),
        }
    }

    /// Jittered and growing, and never shorter than a clock needs that stands too far ahead.
    fn backoff(&self, why: Option<Refusal>, attempt: u32) -> Duration {
        let environment = self.coordinator.environment();
        let ceiling_ms = 5_u64 << attempt.min(6);
        let jitter = environment.random_below(ceiling_ms) + 1;
        let ahead_ms = why
            .filter(|why| why.reason == Reason::ClockAhead)
            .map_or(0, |why| {
                let ours: Timestamp = self.proposer.ballot().time;
                // The bound itself is the node's setting; half a second is its default.
                ours.ms()
                    .saturating_sub(why.clock_ms.saturating_add(500))
                    .min(2_000)
            });
        Duration::from_millis(jitter + ahead_ms)
    }
}

/// What kept replicas from answering, for the error's sentence.
#[derive(Default)]
pub(super) struct Reached {
    pub(super) full: Vec<Replica>,
    /// Members that have answered the Accept with that.
    pub(super) refused_accept: usize,
    pub(super) errors: Vec<String>,
}

pub(super) fn is_full(error: &CallError) -> bool {
    matches!(error, CallError::Refused(node) if node.code == NodeErrorCode::Full)
}

impl Reached {
    pub(super) fn note(&mut self, from: Replica, error: &CallError) {
        if is_full(error) && !self.full.contains(&from) {
            self.full.push(from);
        }
        if self.errors.len() < 5 {
            self.errors.push(error.to_string());
        }
    }

    pub(super) fn is_full(&self, rule: &QuorumRule) -> bool {
        !rule.holds(|replica| !self.full.contains(&replica))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfort_ring::id::{DiskId, Epoch};
    use ringfort_wire::error::NodeError;

    #[test]
    fn full_disks_end_an_operation_only_where_they_alone_are_a_majority() {
        let replica = |n: u8| Replica {
            disk: DiskId([n; 16]),
            joined: Epoch(1),
        };
        let rule = QuorumRule::stable(vec![replica(1), replica(2), replica(3)]);
        let full: CallError = NodeError::new(NodeErrorCode::Full, "full").into();
        let mut reached = Reached::default();
        reached.note(replica(1), &full);
        reached.note(replica(2), &CallError::TimedOut);
        assert!(!reached.is_full(&rule));
        reached.note(replica(3), &full);
        assert!(reached.is_full(&rule));
    }
}
