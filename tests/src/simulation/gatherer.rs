//! Finds chunks whose writers never came to their end, and deletes them (DESIGN 4.13): a plain read filters out the
//! living, an identity write with a birth bound makes sure of the rest.

use super::message::{Answered, Caller, Process, Reply, Request, Shared, Value, content_of};
use super::mutation::Mutation;
use super::world::World;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::{Clock, Timestamp};
use ringfort_ring::id::{Epoch, Generation, Incarnation};
use ringfort_ring::quorum::Replica as Identity;
use ringfort_ring::register::acceptor::Claim;
use ringfort_ring::register::bound;
use ringfort_ring::register::operations::RecentOperations;
use ringfort_ring::register::proposer::{Decision, Proposer, Step};
use ringfort_ring::register::reader::{Reader, Reading};
use std::rc::Rc;

/// Attempts of one identity write.
const ATTEMPTS: u32 = 6;

enum Stage {
    Idle,
    Reading(Reader, Vec<(Ballot, Option<Shared>)>),
    Proposing(Proposer<Shared>),
}

pub(super) struct Gatherer {
    stage: Stage,
    key: usize,
    epoch: Epoch,
    bound: Timestamp,
    /// Writes whose chunks may go.
    suspects: Vec<(u16, Timestamp)>,
    /// What the identity write carries.
    seen: Option<Shared>,
    clock: Clock,
    call: u64,
    attempts_left: u32,
}

impl Gatherer {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Idle,
            key: 0,
            epoch: Epoch(0),
            bound: Timestamp::ZERO,
            suspects: Vec::new(),
            seen: None,
            clock: Clock::default(),
            call: 0,
            attempts_left: 0,
        }
    }

    /// Looks for orphans of some key; whatever was under way is given up.
    pub(super) fn begin(&mut self, world: &mut World) {
        self.stage = Stage::Idle;
        self.epoch = world.newest_epoch();
        let rule = world.row(self.epoch).rule();
        if rule.is_joint() {
            return;
        }
        self.key = world.random.index(world.settings.keys);
        self.bound = bound::to_ask_for(world.wall_ms(0), world.settings.orphan_age_ms, 0);
        self.suspects = world.chunks.born_before(self.key, self.bound);
        if self.suspects.is_empty() {
            return;
        }
        self.attempts_left = ATTEMPTS;
        self.stage = Stage::Reading(Reader::new(rule.clone()), Vec::new());
        let request = Request::Read {
            key: self.key,
            epoch: self.epoch,
        };
        self.ask(world, &rule.members(), &request);
    }

    fn ask(&mut self, world: &mut World, members: &[Identity], request: &Request) {
        self.call = world.fresh_call();
        let caller = Caller {
            process: Process::Gatherer,
            call: self.call,
        };
        for member in members {
            world.ask(caller, *member, request.clone());
        }
    }

    pub(super) fn on_answer(&mut self, world: &mut World, call: u64, answered: &Answered) {
        if call != self.call {
            return;
        }
        let from = answered.from;
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => {}
            Stage::Reading(mut reader, mut rows) => {
                let reading = match &answered.reply {
                    Reply::Row(ballot, value) => {
                        rows.push((*ballot, value.clone()));
                        reader.on_answer(from, *ballot)
                    }
                    _ => reader.on_unreachable(from),
                };
                self.stage = Stage::Reading(reader, rows);
                self.after_reading(world, reading);
            }
            Stage::Proposing(mut proposer) => {
                let step = match &answered.reply {
                    Reply::Promised(promise) => proposer.on_promise(from, Ok(promise.clone())),
                    Reply::Accepted => proposer.on_accepted(from, Ok(())),
                    Reply::Refused(refusal) => match proposer.on_promise(from, Err(*refusal)) {
                        Step::Wait => proposer.on_accepted(from, Err(*refusal)),
                        step => step,
                    },
                    _ => proposer.on_unreachable(from),
                };
                self.after_step(world, proposer, step);
            }
        }
    }

    fn after_reading(&mut self, world: &mut World, reading: Reading) {
        match reading {
            Reading::Wait => {}
            Reading::Impossible => self.stage = Stage::Idle,
            Reading::Agreed(agreed) => {
                let Stage::Reading(_, rows) = &self.stage else {
                    return;
                };
                let held = rows.iter().find(|(ballot, _)| *ballot == agreed);
                let living = content_of(held.and_then(|(_, value)| value.as_ref()));
                self.suspects
                    .retain(|(writer, _)| living.is_none_or(|value| value.writer != *writer));
                if world.has(Mutation::CollectedOnPlainRead) {
                    return self.delete(world);
                }
                self.prepare(world);
            }
            Reading::Split => self.prepare(world),
        }
    }

    fn prepare(&mut self, world: &mut World) {
        self.stage = Stage::Idle;
        if self.suspects.is_empty() || self.attempts_left == 0 {
            return;
        }
        self.attempts_left -= 1;
        let rule = world.row(self.epoch).rule();
        let ballot = Ballot {
            time: self.clock.tick(world.wall_ms(0)),
            incarnation: Incarnation::from_u128(99),
        };
        let mut proposer = Proposer::new(rule);
        proposer.start(ballot);
        let members = proposer.members();
        self.stage = Stage::Proposing(proposer);
        let request = Request::Prepare {
            key: self.key,
            claim: self.claim(ballot),
            bound: (!world.has(Mutation::CollectedWithoutBound)).then_some(self.bound),
        };
        self.ask(world, &members, &request);
    }

    fn claim(&self, ballot: Ballot) -> Claim {
        Claim {
            epoch: self.epoch,
            generation: Generation(0),
            ballot,
            born: None,
        }
    }

    fn after_step(&mut self, world: &mut World, mut proposer: Proposer<Shared>, step: Step) {
        match step {
            Step::Wait => self.stage = Stage::Proposing(proposer),
            Step::Decide => {
                let Some(view) = proposer.view() else {
                    return;
                };
                self.seen = view.state.cloned();
                let floor = view.floor;
                let ballot = proposer.ballot();
                proposer.decide(Decision::Rewrite, Ballot::ZERO);
                if world.has(Mutation::DeletedBeforeChosen) {
                    self.delete_unnamed(world);
                }
                let value = self.seen.clone().unwrap_or_else(|| {
                    Rc::new(Value {
                        content: None,
                        operations: RecentOperations::after_empty(floor),
                    })
                });
                let members = proposer.members();
                self.stage = Stage::Proposing(proposer);
                let request = Request::Accept {
                    key: self.key,
                    claim: self.claim(ballot),
                    value,
                };
                self.ask(world, &members, &request);
            }
            Step::Done(_) => self.delete_unnamed(world),
            Step::Retry { past, .. } => {
                self.clock.observe(past.time);
                self.prepare(world);
            }
            Step::SendAccept(_) => {}
        }
    }

    /// Those that the value written with the bound does not name can never be chosen.
    fn delete_unnamed(&mut self, world: &mut World) {
        let named = content_of(self.seen.as_ref()).map(|value| value.writer);
        let bound = self.bound;
        self.suspects
            .retain(|(writer, born)| bound::is_dead(*born, bound, named == Some(*writer)));
        self.delete(world);
    }

    fn delete(&mut self, world: &mut World) {
        for (writer, _) in self.suspects.drain(..) {
            world.chunks.delete(writer, self.key);
        }
    }
}
