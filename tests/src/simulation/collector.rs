//! Drops tombstones: every member holds the same one, then a floor above it is durable on all, then it goes.

use super::message::{Answered, Caller, Process, Reply, Request};
use super::mutation::Mutation;
use super::world::World;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::Epoch;
use ringfort_ring::quorum::{QuorumRule, Replica as Identity};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Looking,
    Raising,
}

pub(super) struct Collector {
    stage: Stage,
    key: usize,
    epoch: Epoch,
    ballot: Ballot,
    rule: QuorumRule,
    call: u64,
    heard: Vec<Identity>,
}

impl Collector {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Idle,
            key: 0,
            epoch: Epoch(0),
            ballot: Ballot::ZERO,
            rule: QuorumRule::stable(Vec::new()),
            call: 0,
            heard: Vec::new(),
        }
    }

    /// Looks for a tombstone of some key; whatever was under way is given up.
    pub(super) fn begin(&mut self, world: &mut World) {
        self.stage = Stage::Idle;
        self.epoch = world.newest_epoch();
        self.rule = world.row(self.epoch).rule();
        if self.rule.is_joint() {
            return;
        }
        self.key = world.random.index(world.settings.keys);
        self.ballot = Ballot::ZERO;
        self.ask(
            world,
            Stage::Looking,
            &Request::HasTombstone {
                key: self.key,
                epoch: self.epoch,
            },
        );
    }

    fn ask(&mut self, world: &mut World, stage: Stage, request: &Request) {
        self.stage = stage;
        self.call = world.fresh_call();
        self.heard.clear();
        let caller = Caller {
            process: Process::Collector,
            call: self.call,
        };
        for member in self.rule.members() {
            world.ask(caller, member, request.clone());
        }
    }

    pub(super) fn on_answer(&mut self, world: &mut World, call: u64, answered: &Answered) {
        let from = answered.from;
        if call != self.call || self.heard.contains(&from) || !self.rule.contains(from) {
            return;
        }
        match (self.stage, &answered.reply) {
            (Stage::Looking, Reply::Tombstone(Some(ballot))) => {
                if self.ballot.is_zero() {
                    self.ballot = *ballot;
                }
                if self.ballot != *ballot {
                    // A lone majority would do for the mutation only.
                    if !world.has(Mutation::DropOnMajority) {
                        self.stage = Stage::Idle;
                    }
                    return;
                }
            }
            (Stage::Raising, Reply::Done) => {}
            _ => return,
        }
        self.heard.push(from);
        let is_enough = if world.has(Mutation::DropOnMajority) {
            self.rule.holds(|member| self.heard.contains(&member))
        } else {
            self.heard.len() == self.rule.members().len()
        };
        if !is_enough {
            return;
        }
        if self.stage == Stage::Looking && !world.has(Mutation::DropWithoutFloor) {
            let request = Request::RaiseFloor {
                epoch: self.epoch,
                floor: self.ballot,
            };
            self.ask(world, Stage::Raising, &request);
        } else {
            let request = Request::Drop {
                key: self.key,
                epoch: self.epoch,
                ballot: self.ballot,
            };
            self.ask(world, Stage::Idle, &request);
        }
    }
}
