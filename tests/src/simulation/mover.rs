//! Changes one member of the row: `Joint`, adoption, copies of what is known chosen, `Stable` (DESIGN 4.11).
//!
//! The layout register is an oracle here: a row is committed at once. Every step is asked again until it is done.

use super::message::{Answered, Caller, Process, Reply, Request, Shared};
use super::mutation::Mutation;
use super::settings::Plan;
use super::world::{RowVersion, World, identity};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::Epoch;
use ringfort_ring::quorum::{QuorumRule, Replica as Identity};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Idle,
    Announcing,
    Asking,
    Adopting,
    Reading(usize),
    /// Waits for a row to be made chosen by a gateway.
    Settling(usize),
    Copying(usize),
    Closing,
    Over,
}

#[derive(Debug)]
pub(super) struct Mover {
    stage: Stage,
    epoch: Epoch,
    old: QuorumRule,
    newcomer: Identity,
    call: u64,
    heard: Vec<Identity>,
    floor: Ballot,
    horizon: Timestamp,
    bound: Timestamp,
    rows: Vec<(Identity, Ballot, Option<Shared>)>,
    copy: Option<(Ballot, Shared)>,
    is_settling: bool,
    /// Whether the first of two moves is over.
    has_moved: bool,
    polls: u32,
}

impl Mover {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Idle,
            epoch: Epoch(1),
            old: QuorumRule::stable(Vec::new()),
            newcomer: identity(0, 0),
            call: 0,
            heard: Vec::new(),
            floor: Ballot::ZERO,
            horizon: Timestamp::ZERO,
            bound: Timestamp::ZERO,
            rows: Vec::new(),
            copy: None,
            is_settling: false,
            has_moved: false,
            polls: 0,
        }
    }

    /// Commits `Joint`. A wipe has happened before.
    pub(super) fn begin(&mut self, world: &mut World) {
        let row = world.row(world.newest_epoch()).clone();
        self.epoch = Epoch(world.newest_epoch().0 + 1);
        let replicas = world.settings.replicas;
        let index = match world.settings.plan {
            Plan::Stay => return,
            Plan::Return if self.has_moved => replicas - 1,
            Plan::Replace | Plan::Return => replicas,
            Plan::Wipe | Plan::Rejoin => replicas - 1,
        };
        self.newcomer = identity(index, self.epoch.0);
        let mut new = row.old.clone();
        new.pop();
        new.push(self.newcomer);
        self.old = QuorumRule::stable(row.old.clone());
        world.rows.push(RowVersion {
            old: row.old,
            new: Some(new),
        });
        self.enter(world, Stage::Announcing);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.stage == Stage::Idle
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// The key that a gateway shall settle now, if one has to: told once.
    pub(super) fn take_settling(&mut self) -> Option<usize> {
        match self.stage {
            Stage::Settling(key) if !self.is_settling => {
                self.is_settling = true;
                Some(key)
            }
            _ => None,
        }
    }

    pub(super) fn on_settled(&mut self, world: &mut World, key: usize) {
        self.is_settling = false;
        if self.stage == Stage::Settling(key) {
            self.enter(world, Stage::Reading(key));
        }
    }

    /// Asks again what has not been answered.
    pub(super) fn poll(&mut self, world: &mut World) {
        self.polls += 1;
        match self.stage {
            Stage::Reading(key) if self.old.holds(|member| self.has_row(member)) => {
                // A majority has answered, and does not agree.
                self.stage = Stage::Settling(key);
            }
            Stage::Closing if self.polls > 6 => {
                let has_more = world.settings.plan == Plan::Return && !self.has_moved;
                self.stage = if has_more { Stage::Idle } else { Stage::Over };
                self.has_moved = true;
            }
            stage => self.enter(world, stage),
        }
    }

    fn has_row(&self, member: Identity) -> bool {
        self.rows.iter().any(|(from, _, _)| *from == member)
    }

    fn enter(&mut self, world: &mut World, stage: Stage) {
        if stage != self.stage {
            self.polls = 0;
        }
        self.stage = stage;
        self.heard.clear();
        self.rows.clear();
        self.call = world.fresh_call();
        let caller = Caller {
            process: Process::Mover,
            call: self.call,
        };
        let epoch = self.epoch;
        let (request, members) = match stage {
            Stage::Idle | Stage::Over | Stage::Settling(_) => return,
            Stage::Announcing | Stage::Closing => {
                let epoch = world.newest_epoch();
                let rule = QuorumRule::joint(self.old.members(), vec![self.newcomer]);
                (Request::LearnRow(epoch), rule.members())
            }
            Stage::Asking => {
                self.floor = Ballot::ZERO;
                self.horizon = Timestamp::ZERO;
                self.bound = Timestamp::ZERO;
                world.ask(caller, self.newcomer, Request::LearnRow(epoch));
                (Request::ReadGuard(epoch), self.old.members())
            }
            Stage::Adopting => {
                world.ask(caller, self.newcomer, Request::LearnRow(epoch));
                let (floor, horizon, bound) = (self.floor, self.horizon, self.bound);
                (
                    Request::Adopt {
                        epoch,
                        floor,
                        horizon,
                        bound,
                    },
                    vec![self.newcomer],
                )
            }
            Stage::Reading(key) => (Request::SyncRead { key, epoch }, self.old.members()),
            Stage::Copying(key) => {
                let Some((ballot, value)) = self.copy.clone() else {
                    return;
                };
                (
                    Request::CopyRow {
                        key,
                        epoch,
                        ballot,
                        value,
                    },
                    vec![self.newcomer],
                )
            }
        };
        for member in members {
            world.ask(caller, member, request.clone());
        }
    }

    pub(super) fn on_answer(&mut self, world: &mut World, call: u64, answered: &Answered) {
        if call != self.call || self.heard.contains(&answered.from) {
            return;
        }
        let from = answered.from;
        let holds =
            |heard: &[Identity], rule: &QuorumRule| rule.holds(|member| heard.contains(&member));
        match (self.stage, &answered.reply) {
            (Stage::Announcing, Reply::Done) => {
                self.heard.push(from);
                if holds(&self.heard, &self.old) {
                    self.enter(world, Stage::Asking);
                }
            }
            (
                Stage::Asking,
                Reply::Guard {
                    floor,
                    horizon,
                    bound,
                },
            ) => {
                self.heard.push(from);
                self.floor = self.floor.max(*floor);
                self.horizon = self.horizon.max(*horizon);
                self.bound = self.bound.max(*bound);
                if holds(&self.heard, &self.old) {
                    self.enter(world, Stage::Adopting);
                }
            }
            // The first Done may be that of the row it learned: only its vote shows that it has adopted.
            (Stage::Adopting, Reply::Done) if from == self.newcomer && answered.has_adopted => {
                self.next_key(world, 0);
            }
            (Stage::Reading(key), Reply::Row(ballot, value)) => {
                self.heard.push(from);
                self.rows.push((from, *ballot, value.clone()));
                self.consider(world, key);
            }
            (Stage::Copying(key), Reply::Done) if from == self.newcomer => {
                self.next_key(world, key + 1);
            }
            _ => {}
        }
    }

    fn next_key(&mut self, world: &mut World, key: usize) {
        if key < world.settings.keys && !world.has(Mutation::StableWithoutSync) {
            return self.enter(world, Stage::Reading(key));
        }
        let joint = world.row(self.epoch).clone();
        let new = joint.new.unwrap_or(joint.old);
        world.rows.push(RowVersion {
            old: new,
            new: None,
        });
        self.enter(world, Stage::Closing);
    }

    /// Copies a row that a majority of old holds, and above which nobody shows anything.
    fn consider(&mut self, world: &mut World, key: usize) {
        let highest = self
            .rows
            .iter()
            .max_by_key(|(_, ballot, _)| *ballot)
            .cloned();
        let Some((_, ballot, value)) = highest else {
            return;
        };
        let is_same = |member: Identity| {
            self.rows
                .iter()
                .any(|(from, other, _)| *from == member && *other == ballot)
        };
        let is_enough = world.has(Mutation::CopyUnchosen) || self.old.holds(is_same);
        if !is_enough {
            return;
        }
        match value {
            None => self.next_key(world, key + 1),
            Some(value) => {
                self.copy = Some((ballot, value));
                self.enter(world, Stage::Copying(key));
            }
        }
    }
}
