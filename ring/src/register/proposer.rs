//! The proposer: the rounds of one operation on one register, over all its attempts (DESIGN 4.3, 4.7, 4.8).
//!
//! A driver sends what [`Step`] says and feeds back what returns. The values themselves stay with the driver; this
//! machine only knows ballots and counts, and it alone decides what may be *answered*: nothing definite comes from
//! a Prepare alone, and once an Accept has left, a "no" is given only after it was written above all own attempts.

use crate::ballot::Ballot;
use crate::hlc::Timestamp;
use crate::quorum::{QuorumRule, Replica, Tally, Verdict};
use crate::register::acceptor::{Reason, Refusal};
use alloc::vec::Vec;

/// A promise, and what the promising replica durably holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Promise<S> {
    /// The ballot that it has durably accepted; zero for the empty register.
    pub accepted: Ballot,
    /// The value's state at that ballot; `None` for the empty register.
    pub state: Option<S>,
    /// The replica's floor.
    pub floor: Ballot,
}

/// What the driver does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing: more replies are awaited.
    Wait,
    /// Look at [`Proposer::view`] and call [`Proposer::decide`].
    Decide,
    /// Send an Accept of this value, at the attempt's ballot, to every member.
    SendAccept(Value),
    /// It is over; answer this.
    Done(Outcome),
    /// This attempt has failed: back off, then [`Proposer::start`] with a ballot above `past`, in a newer epoch
    /// or generation where `why` says so.
    Retry {
        /// What the next ballot must be above, for a majority to take it.
        past: Ballot,
        /// The most telling refusal; `None` where the members could not be reached.
        why: Option<Refusal>,
    },
}

/// Which value an Accept carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    /// The operation's own new value.
    New,
    /// The highest value that the promises showed, unchanged, body and all: an identity write. Over the empty
    /// register it is a tombstone.
    Same,
}

/// What the operation makes of the value that the promises showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Write a new value.
    Write,
    /// The value has seen this operation already.
    AlreadyDone,
    /// A condition fails (412, 404), or there is nothing to do.
    Refuse,
    /// Make the value chosen, as it is: an identity round, where it is not known to be chosen.
    Settle,
    /// Write the value again at this ballot, chosen or not: an identity round that also mends replicas which the
    /// replay of the original Accept cannot reach any more (DESIGN 4.6).
    Rewrite,
}

/// How the operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The new value is chosen at this ballot.
    Written(Ballot),
    /// An earlier attempt is what the register holds; it is chosen.
    AlreadyDone,
    /// The refusal is definite.
    Refused,
    /// The value of the view is chosen (at the ballot, where it had to be written again).
    Settled(Ballot),
    /// An Accept has left, and whether it was applied cannot be told: answer 503.
    Unknown,
}

/// What the promises of a majority showed.
#[derive(Debug)]
pub struct View<'a, S> {
    /// The highest accepted ballot; zero for the empty register.
    pub accepted: Ballot,
    /// Its state; `None` for the empty register.
    pub state: Option<&'a S>,
    /// A replica that holds it, body included.
    pub holder: Option<Replica>,
    /// Whether a majority durably holds exactly that ballot, so that it is known to be chosen.
    pub is_settled: bool,
    /// The highest floor of the promises.
    pub floor: Ballot,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Idle,
    Preparing,
    Deciding,
    Accepting(Value, Outcome),
    Done,
}

/// One operation's rounds.
#[derive(Debug)]
pub struct Proposer<S> {
    rule: QuorumRule,
    ballot: Ballot,
    phase: Phase,
    tally: Tally,
    promises: Vec<(Replica, Promise<S>)>,
    refusal: Option<Refusal>,
    /// What each member that has answered wants the next ballot to be above; one that said yes, this one.
    pasts: Vec<(Replica, Ballot)>,
    /// The ballot of the first Accept of the operation's own value that left, in any attempt.
    first_accept: Option<Ballot>,
}

impl<S> Proposer<S> {
    /// A proposer that has not begun.
    #[must_use]
    pub fn new(rule: QuorumRule) -> Self {
        Self {
            tally: Tally::new(rule.clone()),
            rule,
            ballot: Ballot::ZERO,
            phase: Phase::Idle,
            promises: Vec::new(),
            refusal: None,
            pasts: Vec::new(),
            first_accept: None,
        }
    }

    /// Begins an attempt at a fresh ballot: send a Prepare to every member. Replies of earlier attempts must not
    /// be fed in any more.
    pub fn start(&mut self, ballot: Ballot) {
        self.ballot = ballot;
        self.phase = Phase::Preparing;
        self.tally = Tally::new(self.rule.clone());
        self.promises.clear();
        self.refusal = None;
        self.pasts.clear();
    }

    /// Begins an attempt in a newer epoch. An Accept is never restamped: the round starts over.
    pub fn start_in(&mut self, rule: QuorumRule, ballot: Ballot) {
        self.rule = rule;
        self.start(ballot);
    }

    /// The attempt's ballot.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Whom to ask.
    #[must_use]
    pub fn members(&self) -> Vec<Replica> {
        self.rule.members()
    }

    /// The ballot of the first Accept of the operation's own value that left.
    #[must_use]
    pub fn first_accept(&self) -> Option<Ballot> {
        self.first_accept
    }

    /// A member's answer to the Prepare.
    pub fn on_promise(&mut self, from: Replica, reply: Result<Promise<S>, Refusal>) -> Step {
        if self.phase != Phase::Preparing || self.tally.has_heard(from) {
            return Step::Wait;
        }
        match reply {
            Ok(promise) if promise.accepted >= self.ballot => {
                // The replica has accepted past this attempt since it promised (it waited for an fsync, say):
                // what is built on that cannot be chosen at this lower ballot any more. Start over above it.
                self.note_past(from, promise.accepted.max(promise.floor));
                let verdict = self.tally.record(from, false);
                self.after(verdict)
            }
            Ok(promise) => {
                self.note_past(from, self.ballot);
                let verdict = self.tally.record(from, true);
                if self.rule.contains(from) {
                    self.promises.push((from, promise));
                }
                if verdict == Verdict::Reached {
                    self.phase = Phase::Deciding;
                    return Step::Decide;
                }
                self.after(verdict)
            }
            Err(refusal) => {
                self.note(from, refusal);
                let verdict = self.tally.record(from, false);
                self.after(verdict)
            }
        }
    }

    /// A member could not be reached, or its answer is not to be had any more.
    pub fn on_unreachable(&mut self, from: Replica) -> Step {
        if !matches!(self.phase, Phase::Preparing | Phase::Accepting(..)) {
            return Step::Wait;
        }
        let verdict = self.tally.record(from, false);
        self.after(verdict)
    }

    /// What the promises showed; `None` before a majority promised.
    #[must_use]
    pub fn view(&self) -> Option<View<'_, S>> {
        if self.phase != Phase::Deciding {
            return None;
        }
        let (holder, highest) = self
            .promises
            .iter()
            .max_by_key(|(_, promise)| promise.accepted)?;
        let at = |replica: Replica| {
            self.promises
                .iter()
                .any(|(from, promise)| *from == replica && promise.accepted == highest.accepted)
        };
        Some(View {
            accepted: highest.accepted,
            state: highest.state.as_ref(),
            holder: (!highest.accepted.is_zero()).then_some(*holder),
            is_settled: self.rule.holds(at),
            floor: self
                .promises
                .iter()
                .map(|(_, promise)| promise.floor)
                .max()
                .unwrap_or(Ballot::ZERO),
        })
    }

    /// The replicas whose promises showed the view's ballot: who has its body.
    #[must_use]
    pub fn holders(&self) -> Vec<Replica> {
        let highest = self.promises.iter().map(|(_, promise)| promise.accepted);
        let highest = highest.max().unwrap_or(Ballot::ZERO);
        self.promises
            .iter()
            .filter(|(_, promise)| promise.accepted == highest)
            .map(|(from, _)| *from)
            .collect()
    }

    /// The operation's decision about the view. `since` is what the view's value remembers back to
    /// ([`super::operations::RecentOperations::since`]; over the empty register the view's floor).
    pub fn decide(&mut self, decision: Decision, since: Ballot) -> Step {
        let Some(view) = self.view() else {
            return Step::Wait;
        };
        let (is_settled, accepted) = (view.is_settled, view.accepted);
        if let Some(first) = self.first_accept {
            // Absence proves "not applied" only if nothing that could be ours was trimmed.
            if decision != Decision::AlreadyDone && since >= first {
                return self.done(Outcome::Unknown);
            }
        }
        let needs_no_write = is_settled && self.first_accept.is_none();
        match decision {
            Decision::Write => {
                let outcome = Outcome::Written(self.ballot);
                self.first_accept.get_or_insert(self.ballot);
                self.accept(Value::New, outcome)
            }
            Decision::AlreadyDone if needs_no_write => self.done(Outcome::AlreadyDone),
            Decision::AlreadyDone => self.accept(Value::Same, Outcome::AlreadyDone),
            Decision::Refuse if needs_no_write => self.done(Outcome::Refused),
            Decision::Refuse => self.accept(Value::Same, Outcome::Refused),
            Decision::Settle if is_settled => self.done(Outcome::Settled(accepted)),
            Decision::Settle | Decision::Rewrite => {
                let outcome = Outcome::Settled(self.ballot);
                self.accept(Value::Same, outcome)
            }
        }
    }

    /// Gives up the attempt before its Accept, where the driver could not make the value (a body not to be had).
    pub fn abandon(&mut self) -> Step {
        self.phase = Phase::Idle;
        Step::Retry {
            past: self.past(),
            why: self.refusal,
        }
    }

    /// A member's answer to the Accept.
    pub fn on_accepted(&mut self, from: Replica, reply: Result<(), Refusal>) -> Step {
        let Phase::Accepting(_, outcome) = self.phase else {
            return Step::Wait;
        };
        let is_yes = reply.is_ok();
        if let Err(refusal) = reply {
            self.note(from, refusal);
        }
        match self.tally.record(from, is_yes) {
            Verdict::Reached => self.done(outcome),
            verdict => self.after(verdict),
        }
    }

    /// The deadline has passed: what may be said. `Err` means that nothing was, or will be, applied.
    pub fn give_up(&mut self) -> Result<Outcome, Option<Refusal>> {
        self.phase = Phase::Done;
        match self.first_accept {
            Some(_) => Ok(Outcome::Unknown),
            None => Err(self.refusal),
        }
    }

    /// The members that did not acknowledge the Accept (yet): whom to leave hints for.
    #[must_use]
    pub fn missing(&self) -> Vec<Replica> {
        self.rule
            .members()
            .into_iter()
            .filter(|replica| !self.tally.yes().contains(replica))
            .collect()
    }

    fn accept(&mut self, value: Value, outcome: Outcome) -> Step {
        self.phase = Phase::Accepting(value, outcome);
        self.tally = Tally::new(self.rule.clone());
        Step::SendAccept(value)
    }

    fn done(&mut self, outcome: Outcome) -> Step {
        self.phase = Phase::Done;
        Step::Done(outcome)
    }

    fn note_past(&mut self, from: Replica, past: Ballot) {
        match self.pasts.iter_mut().find(|(known, _)| *known == from) {
            Some((_, known)) => *known = past.max(*known),
            None => self.pasts.push((from, past)),
        }
    }

    /// The least that a majority (of each half) of those that have answered lets pass. One replica alone whose clock
    /// is far ahead, or that has just restarted, does not hold the others up. Where too few have answered, the most
    /// that any of them wants.
    fn past(&self) -> Ballot {
        let mut wanted: Vec<Ballot> = self.pasts.iter().map(|(_, past)| *past).collect();
        wanted.sort_unstable();
        let passes = |ballot: &Ballot| {
            let is_past = |replica: Replica| {
                self.pasts
                    .iter()
                    .any(|(from, past)| *from == replica && past <= ballot)
            };
            self.rule.holds(is_past)
        };
        let enough = wanted.iter().copied().find(passes);
        enough
            .or_else(|| wanted.last().copied())
            .unwrap_or(self.ballot)
            .max(self.ballot)
    }

    fn note(&mut self, from: Replica, refusal: Refusal) {
        self.note_past(from, refusal.past.max(refusal.floor));
        let rank = |refusal: &Refusal| match refusal.reason {
            Reason::Epoch => 6,
            Reason::Generation => 5,
            Reason::Bound => 4,
            Reason::ClockAhead => 3,
            Reason::Floor => 2,
            Reason::Horizon => 1,
            Reason::Promised => 0,
        };
        let newer = self.refusal.as_ref().is_none_or(|known| {
            (rank(&refusal), refusal.epoch, refusal.generation)
                > (rank(known), known.epoch, known.generation)
        });
        if newer {
            self.refusal = Some(refusal);
        }
    }

    fn after(&mut self, verdict: Verdict) -> Step {
        if verdict != Verdict::Impossible {
            return Step::Wait;
        }
        self.phase = Phase::Idle;
        Step::Retry {
            past: self.past(),
            why: self.refusal,
        }
    }
}

/// A ballot's time for the next attempt: above `past`, and above the clock's last stamp.
#[must_use]
pub fn time_above(past: Ballot, last: Timestamp) -> Timestamp {
    past.time.max(last).next()
}

#[cfg(test)]
#[path = "proposer_tests.rs"]
mod tests;
