//! A simulated gateway: what drives `ring`'s proposer and reader.
//!
//! An operation keeps one identity over its attempts; every attempt takes a fresh ballot. Each round has a call
//! number, so that what answers an earlier one is not fed in any more.

use super::message::{Answered, Caller, Process, Reply, Request, Shared, Value, content_of};
use super::mutation::Mutation;
use super::world::{Event, World};
use crate::checkers::history::{Answer, Condition, Request as Asked};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::{Clock, Timestamp};
use ringfort_ring::id::{Epoch, Generation, Incarnation};
use ringfort_ring::quorum::{QuorumRule, Replica as Identity, majority};
use ringfort_ring::register::acceptor::{Claim, Reason, Refusal};
use ringfort_ring::register::operations::{OperationRecord, RecentOperations};
use ringfort_ring::register::proposer::{Decision, Outcome, Proposer, Step, Value as Which};
use ringfort_ring::register::reader::{Reader, Reading};
use std::rc::Rc;

/// What an operation is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// A client's, by its place in the history.
    Client(usize),
    /// To make a row of this key chosen, for a new member to copy.
    Settle(usize),
}

enum Phase {
    Reading(Reader),
    Proposing,
    Waiting,
}

struct Active {
    purpose: Purpose,
    key: usize,
    asked: Asked,
    /// Its identity, the same over all attempts.
    id: [u8; 16],
    /// When it was born, where its body is in chunks.
    born: Option<Timestamp>,
    call: u64,
    epoch: Epoch,
    attempts_left: u64,
    sleeps: bool,
    reads_first: bool,
    /// Whether a settled row is written again all the same, as repair does where a replay is refused.
    rewrites: bool,
    phase: Phase,
    proposer: Proposer<Shared>,
    /// The answers to the round of a read.
    rows: Vec<(Identity, Ballot, Option<Shared>)>,
    /// The value that the last promises showed, and the one that was sent.
    seen: Option<Shared>,
    /// The highest floor of the last promises.
    floor: Ballot,
    sent: Option<Shared>,
    past: Ballot,
    /// Who has answered this round; only a mutation asks.
    heard: Vec<Identity>,
}

/// How an operation of the gateway ended.
pub(super) struct Finished {
    pub(super) purpose: Purpose,
    pub(super) answer: Answer,
}

pub(super) struct Gateway {
    index: usize,
    is_alive: bool,
    life: u64,
    offset_ms: i64,
    clock: Clock,
    epoch: Epoch,
    active: Vec<Active>,
    finished: Vec<Finished>,
}

impl Gateway {
    pub(super) fn new(index: usize, world: &mut World) -> Self {
        Self {
            index,
            is_alive: true,
            life: 0,
            offset_ms: world.draw_offset_ms(),
            clock: Clock::default(),
            epoch: Epoch(1),
            active: Vec::new(),
            finished: Vec::new(),
        }
    }

    /// Its clock is right from now on.
    pub(super) fn mend_clock(&mut self) {
        self.offset_ms = 0;
    }

    pub(super) fn is_alive(&self) -> bool {
        self.is_alive
    }

    /// What has ended since the last call.
    pub(super) fn take_finished(&mut self) -> Vec<Finished> {
        std::mem::take(&mut self.finished)
    }

    /// Dies; its operations stay open for ever.
    pub(super) fn crash(&mut self) {
        self.is_alive = false;
        let open = self.active.drain(..).map(|op| Finished {
            purpose: op.purpose,
            answer: Answer::Unknown,
        });
        self.finished.extend(open);
    }

    /// A new life: another incarnation, an empty clock, what it knew of the layout forgotten.
    pub(super) fn restart(&mut self) {
        self.is_alive = true;
        self.life += 1;
        self.clock = Clock::default();
        self.epoch = Epoch(1);
    }

    pub(super) fn begin(
        &mut self,
        world: &mut World,
        purpose: Purpose,
        key: usize,
        asked: Asked,
        number: u64,
    ) {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let attempts = if world.is_healed {
            400
        } else {
            world.settings.attempts
        };
        let conditional = match asked {
            Asked::Put(_, condition) | Asked::Delete(condition) => condition != Condition::Always,
            Asked::Get => false,
        };
        let reads_first = asked == Asked::Get && matches!(purpose, Purpose::Client(_))
            || conditional && world.random.chance(world.settings.reads_first);
        let op = Active {
            purpose,
            key,
            asked,
            id,
            born: self.store_chunks(world, purpose, key, asked),
            call: 0,
            epoch: self.epoch,
            attempts_left: attempts,
            sleeps: world.random.chance(world.settings.sleepy),
            reads_first,
            rewrites: world.random.chance(200),
            phase: Phase::Waiting,
            proposer: Proposer::new(world.row(self.epoch).rule()),
            rows: Vec::new(),
            seen: None,
            floor: Ballot::ZERO,
            sent: None,
            past: Ballot::ZERO,
            heard: Vec::new(),
        };
        if op.born.is_some() {
            return self.stream(world, op);
        }
        self.attempt(world, op);
    }

    /// Some writes have their bodies in chunks, which are stored before anything is proposed. Their owner is the
    /// operation, with its birth.
    fn store_chunks(
        &mut self,
        world: &mut World,
        purpose: Purpose,
        key: usize,
        asked: Asked,
    ) -> Option<Timestamp> {
        let (Purpose::Client(_), Asked::Put(value, _)) = (purpose, asked) else {
            return None;
        };
        if world.settings.bodies == 0 || !world.random.chance(world.settings.bodies) {
            return None;
        }
        let born = self.clock.tick(world.wall_ms(self.offset_ms));
        world.chunks.on_stored(value.writer, key, born);
        Some(born)
    }

    /// The body comes in: the round begins when it is there.
    fn stream(&mut self, world: &mut World, mut op: Active) {
        op.call = world.fresh_call();
        let delay = world.random.below(world.settings.body_us);
        world.after(
            delay,
            Event::Retry {
                gateway: self.index,
                call: op.call,
            },
        );
        self.active.push(op);
    }

    /// The rule of an epoch, as this gateway takes it.
    fn rule(world: &mut World, epoch: Epoch) -> QuorumRule {
        let row = world.row(epoch).clone();
        if world.has(Mutation::QuorumTooSmall) && row.old.len() > 1 {
            let mut some = row.old.clone();
            while some.len() >= majority(row.old.len()) {
                some.swap_remove(world.random.index(some.len()));
            }
            return QuorumRule::stable(some);
        }
        if world.has(Mutation::JointOldAlone) {
            return QuorumRule::stable(row.old);
        }
        row.rule()
    }

    /// Begins an attempt: a read where one is wanted, else a Prepare.
    fn attempt(&mut self, world: &mut World, mut op: Active) {
        op.epoch = self.epoch;
        if op.reads_first {
            let rule = Self::rule(world, op.epoch);
            op.phase = Phase::Reading(Reader::new(rule.clone()));
            op.rows.clear();
            let request = Request::Read {
                key: op.key,
                epoch: op.epoch,
            };
            self.send_round(world, &mut op, &rule.members(), &request);
            self.active.push(op);
            return;
        }
        self.prepare(world, op);
    }

    fn prepare(&mut self, world: &mut World, mut op: Active) {
        op.epoch = self.epoch;
        self.clock.observe(op.past.time);
        let ballot = self.fresh_ballot(world);
        op.proposer.start_in(Self::rule(world, op.epoch), ballot);
        op.phase = Phase::Proposing;
        let claim = Claim {
            epoch: op.epoch,
            generation: Generation(0),
            ballot,
            born: op.born,
        };
        let members = op.proposer.members();
        let request = Request::Prepare {
            key: op.key,
            claim,
            bound: None,
        };
        self.send_round(world, &mut op, &members, &request);
        self.active.push(op);
    }

    fn fresh_ballot(&mut self, world: &World) -> Ballot {
        let life = u128::from(self.life) * 100 + u128::try_from(self.index).unwrap_or(0) + 1;
        Ballot {
            time: self.clock.tick(world.wall_ms(self.offset_ms)),
            incarnation: Incarnation::from_u128(life),
        }
    }

    fn send_round(
        &mut self,
        world: &mut World,
        op: &mut Active,
        members: &[Identity],
        request: &Request,
    ) {
        op.call = world.fresh_call();
        op.heard.clear();
        let caller = Caller {
            process: Process::Gateway(self.index),
            call: op.call,
        };
        for member in members {
            world.ask(caller, *member, request.clone());
        }
        let timeout = if world.is_healed {
            50_000
        } else {
            world.settings.round_timeout_us
        };
        world.after(
            timeout,
            Event::RoundTimeout {
                gateway: self.index,
                call: op.call,
            },
        );
    }

    fn take(&mut self, call: u64) -> Option<Active> {
        let index = self.active.iter().position(|op| op.call == call)?;
        Some(self.active.swap_remove(index))
    }

    pub(super) fn on_answer(&mut self, world: &mut World, call: u64, answered: Answered) {
        let Some(mut op) = self.take(call) else {
            return;
        };
        let Answered {
            mut from, reply, ..
        } = answered;
        if let Reply::Refused(refusal) = &reply {
            self.learn(world, refusal, from);
        }
        if world.has(Mutation::CountedTwice) && op.heard.contains(&from) {
            let others = op.proposer.members();
            let unheard = others.iter().find(|member| !op.heard.contains(member));
            from = unheard.copied().unwrap_or(from);
        }
        op.heard.push(from);
        if let Phase::Reading(reader) = &mut op.phase {
            let reading = match reply {
                Reply::Row(ballot, value) => {
                    let mut counted = ballot;
                    if world.has(Mutation::AgreementByValue) {
                        let same = |(_, _, other): &&(_, _, Option<Shared>)| {
                            etag_of(other.as_ref()) == etag_of(value.as_ref())
                        };
                        counted = op
                            .rows
                            .iter()
                            .find(same)
                            .map_or(ballot, |(_, first, _)| *first);
                    }
                    op.rows.push((from, counted, value));
                    reader.on_answer(from, counted)
                }
                _ => reader.on_unreachable(from),
            };
            return self.after_reading(world, op, reading);
        }
        let step = match reply {
            Reply::Promised(promise) => op.proposer.on_promise(from, Ok(promise)),
            Reply::Accepted => op.proposer.on_accepted(from, Ok(())),
            Reply::Refused(refusal) => {
                op.attempts_left = match &op.sent {
                    Some(_) if world.has(Mutation::RestampedBallot) => {
                        op.attempts_left.saturating_sub(1)
                    }
                    _ => op.attempts_left,
                };
                if let Some(which) = op.sent.clone()
                    && world.has(Mutation::RestampedEpoch)
                    && refusal.reason == Reason::Epoch
                    && refusal.epoch > op.epoch
                {
                    return self.restamp(world, op, which, false);
                }
                if let Some(which) = op.sent.clone()
                    && world.has(Mutation::RestampedBallot)
                    && op.attempts_left > 0
                    && refusal.reason != Reason::Epoch
                {
                    op.past = op.past.max(refusal.past).max(refusal.floor);
                    return self.restamp(world, op, which, true);
                }
                // A refusal answers whichever round is on: the other call ignores it.
                match op.proposer.on_promise(from, Err(refusal)) {
                    Step::Wait => op.proposer.on_accepted(from, Err(refusal)),
                    step => step,
                }
            }
            Reply::Row(..) | Reply::Guard { .. } | Reply::Tombstone(_) | Reply::Done => {
                op.proposer.on_unreachable(from)
            }
        };
        self.after_step(world, op, step);
    }

    /// What the mutations do that send a refused Accept again: as if a Prepare had gone before it.
    fn restamp(&mut self, world: &mut World, mut op: Active, value: Shared, is_fresh: bool) {
        op.epoch = self.epoch;
        self.clock.observe(op.past.time);
        let ballot = if is_fresh {
            self.fresh_ballot(world)
        } else {
            op.proposer.ballot()
        };
        let rule = Self::rule(world, op.epoch);
        op.proposer.start_in(rule.clone(), ballot);
        let mut step = Step::Wait;
        for member in rule.members() {
            let promise = ringfort_ring::register::proposer::Promise {
                accepted: Ballot::ZERO,
                state: None,
                floor: Ballot::ZERO,
            };
            if step == Step::Wait {
                step = op.proposer.on_promise(member, Ok(promise));
            }
        }
        op.proposer.decide(Decision::Write, Ballot::ZERO);
        self.send_accept(world, op, value, Which::New);
    }

    fn learn(&mut self, world: &mut World, refusal: &Refusal, from: Identity) {
        if refusal.reason == Reason::Epoch {
            if refusal.epoch > self.epoch {
                self.epoch = refusal.epoch;
            } else if refusal.epoch < self.epoch {
                let caller = Caller {
                    process: Process::Gateway(self.index),
                    call: 0,
                };
                world.ask(caller, from, Request::LearnRow(self.epoch));
            }
        }
    }

    pub(super) fn on_timeout(&mut self, world: &mut World, call: u64) {
        let Some(mut op) = self.take(call) else {
            return;
        };
        match &mut op.phase {
            Phase::Reading(reader) => {
                let mut reading = reader.reading();
                for member in Self::all_members(world, op.epoch) {
                    reading = reader.on_unreachable(member);
                }
                self.after_reading(world, op, reading);
            }
            Phase::Proposing => {
                let mut step = Step::Wait;
                for member in op.proposer.members() {
                    if step == Step::Wait {
                        step = op.proposer.on_unreachable(member);
                    }
                }
                self.after_step(world, op, step);
            }
            Phase::Waiting => self.active.push(op),
        }
    }

    fn all_members(world: &World, epoch: Epoch) -> Vec<Identity> {
        world.row(epoch).rule().members()
    }

    pub(super) fn on_retry(&mut self, world: &mut World, call: u64) {
        if let Some(op) = self.take(call) {
            self.attempt(world, op);
        }
    }

    fn after_reading(&mut self, world: &mut World, mut op: Active, reading: Reading) {
        match reading {
            Reading::Wait => self.active.push(op),
            Reading::Agreed(ballot) => {
                let held = op.rows.iter().find(|(_, other, _)| *other == ballot);
                let value = held.and_then(|(_, _, value)| value.clone());
                self.repair(world, &op, ballot, value.as_ref());
                self.after_settled_read(world, op, value);
            }
            Reading::Split if world.has(Mutation::NoWriteBack) => {
                let highest = op.rows.iter().max_by_key(|(_, ballot, _)| *ballot);
                let value = highest.and_then(|(_, _, value)| value.clone());
                self.after_settled_read(world, op, value);
            }
            Reading::Split => {
                op.reads_first = false;
                self.prepare(world, op);
            }
            Reading::Impossible => self.back_off(world, op),
        }
    }

    /// A read has its answer; a conditional write may fail on it, definitely.
    fn after_settled_read(&mut self, world: &mut World, mut op: Active, value: Option<Shared>) {
        let content = content_of(value.as_ref());
        match op.asked {
            Asked::Get => self.finish(op, Answer::Found(content)),
            Asked::Put(_, condition) | Asked::Delete(condition) => {
                if op.proposer.first_accept().is_none() && !condition.holds(content) {
                    return self.finish(op, Answer::ConditionFailed);
                }
                op.reads_first = false;
                self.prepare(world, op);
            }
        }
    }

    /// A hint for a member that missed a write: the Accept as it was, in the epoch of now.
    pub(super) fn replay(&self, world: &mut World, key: usize, ballot: Ballot, value: &Shared) {
        if !self.is_alive {
            return;
        }
        let caller = Caller {
            process: Process::Gateway(self.index),
            call: 0,
        };
        let claim = Claim {
            epoch: self.epoch,
            generation: Generation(0),
            ballot,
            born: None,
        };
        for member in Self::all_members(world, self.epoch) {
            let value = value.clone();
            world.ask(caller, member, Request::Accept { key, claim, value });
        }
    }

    /// Read-repair: the Accept as it was, to those behind.
    fn repair(&self, world: &mut World, op: &Active, ballot: Ballot, value: Option<&Shared>) {
        let Some(value) = value else {
            return;
        };
        if !world.random.chance(world.settings.replays) {
            return;
        }
        let caller = Caller {
            process: Process::Gateway(self.index),
            call: 0,
        };
        let claim = Claim {
            epoch: op.epoch,
            generation: Generation(0),
            ballot,
            born: None,
        };
        for (member, other, _) in &op.rows {
            if *other < ballot {
                let request = Request::Accept {
                    key: op.key,
                    claim,
                    value: value.clone(),
                };
                world.ask(caller, *member, request);
            }
        }
    }

    fn after_step(&mut self, world: &mut World, mut op: Active, step: Step) {
        match step {
            Step::Wait => self.active.push(op),
            Step::Decide => self.decide(world, op),
            Step::SendAccept(which) => {
                let value = Self::make(&op, which);
                self.send_accept(world, op, value, which);
            }
            Step::Done(outcome) => {
                let answer = match outcome {
                    Outcome::Written(_) | Outcome::AlreadyDone => Answer::Done,
                    Outcome::Refused => refusal_of(op.asked),
                    Outcome::Settled(_) => Answer::Found(content_of(op.seen.as_ref())),
                    Outcome::Unknown => Answer::Unknown,
                };
                if let (Outcome::Written(ballot), Some(value)) = (outcome, op.sent.clone())
                    && !op.proposer.missing().is_empty()
                    && world.random.chance(world.settings.hints)
                {
                    let delay = world.random.below(world.settings.hint_us);
                    let (gateway, key) = (self.index, op.key);
                    world.after(
                        delay,
                        Event::Hint {
                            gateway,
                            key,
                            ballot,
                            value,
                        },
                    );
                }
                if let (Outcome::Written(_), Some(seen)) = (outcome, content_of(op.seen.as_ref())) {
                    // What the chosen value was built on and replaced.
                    world.chunks.delete(seen.writer, op.key);
                }
                self.give_up_chunks(world, &op, answer);
                self.finish(op, answer);
            }
            Step::Retry { why: Some(why), .. } if why.reason == Reason::Bound => {
                let answer = match op.proposer.give_up() {
                    Ok(_) => Answer::Unknown,
                    Err(_) => Answer::NotApplied,
                };
                self.give_up_chunks(world, &op, answer);
                self.finish(op, answer);
            }
            Step::Retry { past, why } => {
                op.past = op.past.max(past);
                op.sent = None;
                if let Some(refusal) = why
                    && refusal.reason == Reason::Epoch
                {
                    self.epoch = self.epoch.max(refusal.epoch);
                }
                self.back_off(world, op);
            }
        }
    }

    fn decide(&mut self, world: &mut World, mut op: Active) {
        let Some(view) = op.proposer.view() else {
            self.active.push(op);
            return;
        };
        op.seen = view.state.cloned();
        op.floor = view.floor;
        let mut since = match view.state {
            Some(state) => state.operations.since(),
            None if world.has(Mutation::SinceIgnoredOverEmpty) => Ballot::ZERO,
            None => view.floor,
        };
        if world.has(Mutation::AbsenceIsProof) {
            since = Ballot::ZERO;
        }
        let is_settled = view.is_settled;
        let content = content_of(view.state);
        let is_done = view
            .state
            .is_some_and(|state| state.operations.find(op.id).is_some())
            && !world.has(Mutation::RetryAppliedAgain);
        let decision = match op.asked {
            Asked::Get if op.rewrites => Decision::Rewrite,
            Asked::Get => Decision::Settle,
            _ if is_done => Decision::AlreadyDone,
            Asked::Put(_, condition) if condition.holds(content) => Decision::Write,
            // Over what is absent there is nothing to delete.
            Asked::Delete(condition) if condition.holds(content) && content.is_some() => {
                Decision::Write
            }
            Asked::Put(..) | Asked::Delete(_) => Decision::Refuse,
        };
        let has_left = op.proposer.first_accept().is_some();
        let answers_at_once = match decision {
            Decision::Refuse => {
                world.has(Mutation::RefuseFromBarePrepare) && !has_left
                    || world.has(Mutation::RefuseAfterAccept) && has_left && is_settled
            }
            Decision::AlreadyDone => world.has(Mutation::DoneWithoutRewrite),
            Decision::Write | Decision::Settle | Decision::Rewrite => false,
        };
        if answers_at_once {
            let answer = match decision {
                Decision::AlreadyDone => Answer::Done,
                _ => refusal_of(op.asked),
            };
            return self.finish(op, answer);
        }
        let step = op.proposer.decide(decision, since);
        self.after_step(world, op, step);
    }

    /// The value of an Accept: the seen one again (over the empty register a tombstone), or the operation's own.
    fn make(op: &Active, which: Which) -> Shared {
        let empty = || RecentOperations::after_empty(op.floor);
        let mut operations = match (&op.seen, which) {
            (Some(seen), Which::Same) => return seen.clone(),
            (Some(seen), Which::New) => seen.operations.clone(),
            (None, Which::New) => empty(),
            (None, Which::Same) => {
                return Rc::new(Value {
                    content: None,
                    operations: empty(),
                });
            }
        };
        operations.push(OperationRecord {
            id: op.id,
            invocation: None,
            ballot: op.proposer.ballot(),
            answer: Vec::new(),
        });
        let content = match op.asked {
            Asked::Put(value, _) => Some(value),
            Asked::Delete(_) | Asked::Get => None,
        };
        Rc::new(Value {
            content,
            operations,
        })
    }

    fn send_accept(&mut self, world: &mut World, mut op: Active, value: Shared, which: Which) {
        let ballot = op.proposer.ballot();
        let claim = Claim {
            epoch: op.epoch,
            generation: Generation(0),
            ballot,
            born: op.born.filter(|_| which == Which::New),
        };
        op.sent = Some(value.clone());
        let members = op.proposer.members();
        let request = Request::Accept {
            key: op.key,
            claim,
            value,
        };
        self.send_round(world, &mut op, &members, &request);
        self.active.push(op);
    }

    fn back_off(&mut self, world: &mut World, mut op: Active) {
        op.attempts_left = op.attempts_left.saturating_sub(1);
        if op.attempts_left == 0 {
            let answer = match op.proposer.give_up() {
                _ if op.asked == Asked::Get => Answer::Unknown,
                Ok(_) => Answer::Unknown,
                Err(_) => Answer::NotApplied,
            };
            return self.finish(op, answer);
        }
        let most = if world.is_healed {
            300_000
        } else {
            world.settings.backoff_us
        };
        let mut delay = world.random.between(most / 10, most);
        if op.sleeps && op.proposer.first_accept().is_some() {
            op.sleeps = false;
            delay += world.settings.sleep_us;
        }
        op.phase = Phase::Waiting;
        op.call = world.fresh_call();
        world.after(
            delay,
            Event::Retry {
                gateway: self.index,
                call: op.call,
            },
        );
        self.active.push(op);
    }

    /// A write that is definitely not applied takes its chunks away.
    fn give_up_chunks(&self, world: &mut World, op: &Active, answer: Answer) {
        if let (Answer::NotApplied | Answer::ConditionFailed, Asked::Put(value, _)) =
            (answer, op.asked)
        {
            world.chunks.delete(value.writer, op.key);
        }
    }

    fn finish(&mut self, op: Active, answer: Answer) {
        self.finished.push(Finished {
            purpose: op.purpose,
            answer,
        });
    }

    /// Whom a message of this gateway goes to, for cutting links.
    pub(super) fn process(&self) -> Process {
        Process::Gateway(self.index)
    }
}

/// What two values are told apart by where ballots are not looked at.
fn etag_of(value: Option<&Shared>) -> Option<u16> {
    content_of(value).map(|content| content.etag)
}

/// A refusal in the client's words: a plain delete of what is absent is done.
fn refusal_of(asked: Asked) -> Answer {
    match asked {
        Asked::Delete(Condition::Always) => Answer::Done,
        _ => Answer::ConditionFailed,
    }
}
