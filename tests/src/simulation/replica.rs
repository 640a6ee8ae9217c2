//! A simulated storage node of one disk and one partition: what drives `ring`'s acceptor and horizon.
//!
//! Records become durable by fsyncs that are events. A crash keeps some beginning of what was not synced, as a page
//! cache may. Promises live in memory only.

use super::message::{Answered, Caller, Process, Reply, Request, Shared};
use super::mutation::Mutation;
use super::world::{Event, World, identity};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{Epoch, Generation};
use ringfort_ring::quorum::Replica as Identity;
use ringfort_ring::register::acceptor::{self, Accepting, Claim, Guard, Reason, Refusal, Slot};
use ringfort_ring::register::horizon::Horizon;
use ringfort_ring::register::proposer::Promise;

type Row = Option<(Ballot, Shared)>;

/// What a crash leaves.
struct Disk {
    rows: Vec<Row>,
    floor: Ballot,
    horizon: Timestamp,
    bound: Timestamp,
    epoch: Epoch,
    joined: Epoch,
    /// Whether it may answer for its registers: false for a new member until it has adopted.
    may_vote: bool,
}

#[derive(Clone, Debug)]
enum Record {
    Accept {
        key: usize,
        epoch: Epoch,
        ballot: Ballot,
        value: Shared,
    },
    Horizon(Timestamp),
    Floor(Ballot),
    Bound(Timestamp),
    Row(Epoch),
    Adopt {
        epoch: Epoch,
        floor: Ballot,
        horizon: Timestamp,
        bound: Timestamp,
    },
    Drop {
        key: usize,
        ballot: Ballot,
    },
}

/// An answer that waits for a record to be durable.
#[derive(Clone, Copy)]
struct Acknowledgement {
    caller: Caller,
    epoch: Epoch,
}

struct WaitingPrepare {
    caller: Caller,
    key: usize,
    claim: Claim,
    /// The Accept that was on its way to disk when the Prepare came.
    until: Ballot,
}

pub(super) struct Replica {
    index: usize,
    is_alive: bool,
    life: u64,
    offset_ms: i64,
    disk: Disk,
    slots: Vec<Slot>,
    /// The newest accepted value that is not durable.
    unsynced: Vec<Row>,
    floor: Ballot,
    horizon: Horizon,
    horizon_asked: Timestamp,
    queued: Vec<(Record, Option<Acknowledgement>)>,
    syncing: Vec<(Record, Option<Acknowledgement>)>,
    is_syncing: bool,
    waiting: Vec<WaitingPrepare>,
    /// Prepares whose birth bound is on its way to disk.
    binding: Vec<(Caller, usize, Claim, Timestamp)>,
    /// A bound that only memory knows; a mutation's.
    bound_in_memory: Timestamp,
}

impl Replica {
    pub(super) fn new(index: usize, is_member: bool, world: &mut World) -> Self {
        let keys = world.settings.keys;
        Self {
            index,
            is_alive: true,
            life: 0,
            offset_ms: world.draw_offset_ms(),
            disk: Disk {
                rows: vec![None; keys],
                floor: Ballot::ZERO,
                horizon: Timestamp::ZERO,
                bound: Timestamp::ZERO,
                epoch: Epoch(u64::from(is_member)),
                joined: Epoch(u64::from(is_member)),
                may_vote: is_member,
            },
            slots: vec![Slot::default(); keys],
            unsynced: vec![None; keys],
            floor: Ballot::ZERO,
            horizon: Horizon::after_start(Timestamp::ZERO),
            horizon_asked: Timestamp::ZERO,
            queued: Vec::new(),
            syncing: Vec::new(),
            is_syncing: false,
            waiting: Vec::new(),
            binding: Vec::new(),
            bound_in_memory: Timestamp::ZERO,
        }
    }

    /// Its clock is right from now on.
    pub(super) fn mend_clock(&mut self) {
        self.offset_ms = 0;
    }

    pub(super) fn is_alive(&self) -> bool {
        self.is_alive
    }

    /// A row for a neighbour that may lack it: the Accept as it came, never anew.
    pub(super) fn durable_row(&self, key: usize) -> Option<(Epoch, Ballot, Shared)> {
        let (ballot, value) = self.disk.rows[key].clone()?;
        (self.is_alive && self.disk.may_vote).then_some((self.disk.epoch, ballot, value))
    }

    pub(super) fn crash(&mut self, world: &mut World) {
        if !self.is_alive {
            return;
        }
        self.is_alive = false;
        self.life += 1;
        self.is_syncing = false;
        self.waiting.clear();
        self.binding.clear();
        self.bound_in_memory = Timestamp::ZERO;
        let mut records: Vec<Record> = Vec::new();
        records.extend(self.syncing.drain(..).map(|(record, _)| record));
        records.extend(self.queued.drain(..).map(|(record, _)| record));
        let kept = if world.random.chance(600) {
            0
        } else {
            world.random.index(records.len() + 1)
        };
        for record in records.into_iter().take(kept) {
            self.write(record, world);
        }
    }

    pub(super) fn restart(&mut self, world: &World) {
        self.is_alive = true;
        let forgets = world.has(Mutation::PromiseForgotten);
        let found = if forgets {
            Timestamp::ZERO
        } else {
            self.disk.horizon
        };
        self.horizon = Horizon::after_start(found);
        self.horizon_asked = found;
        self.floor = self.disk.floor;
        self.load_slots();
    }

    /// The disk is gone: nothing of it may vote again before it joins anew.
    pub(super) fn wipe(&mut self, world: &mut World) {
        self.crash(world);
        self.disk.rows.fill(None);
        self.disk.floor = Ballot::ZERO;
        self.disk.horizon = Timestamp::ZERO;
        self.disk.bound = Timestamp::ZERO;
        self.disk.may_vote = false;
        self.restart(world);
    }

    fn load_slots(&mut self) {
        for (slot, row) in self.slots.iter_mut().zip(&self.disk.rows) {
            let ballot = row.as_ref().map_or(Ballot::ZERO, |(ballot, _)| *ballot);
            *slot = Slot {
                promised: ballot,
                accepted: ballot,
                durable: ballot,
            };
        }
        self.unsynced.fill(None);
    }

    fn identity(&self) -> Identity {
        identity(self.index, self.disk.joined.0)
    }

    fn guard(&self, world: &World) -> Guard {
        Guard {
            epoch: self.disk.epoch,
            generation: Generation(0),
            floor: self.floor,
            bound: self.disk.bound.max(self.bound_in_memory),
            horizon: self.horizon.refused_up_to(),
            now_ms: world.wall_ms(self.offset_ms),
            max_skew_ms: world.settings.max_skew_ms,
        }
    }

    fn reply(&self, world: &mut World, caller: Caller, reply: Reply) {
        let answered = Answered {
            from: self.identity(),
            has_adopted: self.disk.may_vote,
            reply,
        };
        world.answer(self.index, caller, answered);
    }

    fn refuse(&self, world: &mut World, caller: Caller, refusal: Refusal) {
        self.reply(world, caller, Reply::Refused(refusal));
    }

    pub(super) fn on_request(&mut self, world: &mut World, caller: Caller, request: Request) {
        if !self.is_alive {
            return;
        }
        match request {
            Request::LearnRow(epoch) => self.on_learn_row(world, caller, epoch),
            Request::Adopt {
                epoch,
                floor,
                horizon,
                bound,
            } => {
                if epoch == self.disk.epoch {
                    let record = Record::Adopt {
                        epoch,
                        floor,
                        horizon,
                        bound,
                    };
                    self.append(world, record, Some(Acknowledgement { caller, epoch }));
                }
            }
            Request::CopyRow {
                key,
                epoch,
                ballot,
                value,
            } => {
                if epoch == self.disk.epoch && self.disk.may_vote {
                    self.on_copy(world, caller, key, epoch, ballot, value);
                }
            }
            _ if !self.disk.may_vote => {}
            Request::Prepare { key, claim, bound } => match bound {
                None => self.on_prepare(world, caller, key, claim),
                Some(bound) => self.on_bound(world, caller, key, claim, bound),
            },
            Request::Accept { key, claim, value } => {
                self.on_accept(world, caller, key, claim, value);
            }
            Request::Read { key, epoch } => self.on_read(world, caller, key, epoch),
            Request::ReadGuard(epoch) => {
                if self.admits(world, caller, 0, epoch) {
                    let reply = Reply::Guard {
                        floor: self.floor,
                        horizon: self.disk.horizon,
                        bound: self.disk.bound,
                    };
                    self.reply(world, caller, reply);
                }
            }
            Request::SyncRead { key, epoch } => {
                if self.admits(world, caller, key, epoch) && self.is_quiet(key) {
                    self.reply_row(world, caller, key);
                }
            }
            Request::HasTombstone { key, epoch } => {
                if self.admits(world, caller, key, epoch) && self.is_quiet(key) {
                    let row = self.disk.rows[key].as_ref();
                    let held = row.filter(|(_, value)| value.content.is_none());
                    let ballot = held.map(|(ballot, _)| *ballot);
                    self.reply(world, caller, Reply::Tombstone(ballot));
                }
            }
            Request::RaiseFloor { epoch, floor } => {
                if self.admits(world, caller, 0, epoch) {
                    self.floor = self.floor.max(floor);
                    let record = Record::Floor(self.floor);
                    self.append(world, record, Some(Acknowledgement { caller, epoch }));
                }
            }
            Request::Drop { key, epoch, ballot } => {
                let is_exact = self.slots[key].accepted == ballot && self.is_quiet(key);
                if self.admits(world, caller, key, epoch) && is_exact {
                    let record = Record::Drop { key, ballot };
                    self.append(world, record, Some(Acknowledgement { caller, epoch }));
                }
            }
        }
    }

    /// Nothing of a register is on its way to disk.
    fn is_quiet(&self, key: usize) -> bool {
        self.slots[key].accepted == self.slots[key].durable
    }

    fn admits(&self, world: &mut World, caller: Caller, key: usize, epoch: Epoch) -> bool {
        let epoch = self.seen_epoch(world, epoch);
        match acceptor::admit(&self.slots[key], &self.guard(world), epoch, Generation(0)) {
            Ok(()) => true,
            Err(refusal) => {
                self.refuse(world, caller, refusal);
                false
            }
        }
    }

    fn seen_epoch(&self, world: &World, claimed: Epoch) -> Epoch {
        if world.has(Mutation::StaleEpoch) {
            self.disk.epoch
        } else {
            claimed
        }
    }

    /// A birth bound is durable before anything is promised.
    fn on_bound(
        &mut self,
        world: &mut World,
        caller: Caller,
        key: usize,
        claim: Claim,
        bound: Timestamp,
    ) {
        if !self.admits(world, caller, key, claim.epoch) {
            return;
        }
        if world.has(Mutation::BoundForgotten) {
            self.bound_in_memory = self.bound_in_memory.max(bound);
        }
        if self.guard(world).bound >= bound {
            return self.on_prepare(world, caller, key, claim);
        }
        self.binding.push((caller, key, claim, bound));
        self.append(world, Record::Bound(bound), None);
    }

    fn on_prepare(&mut self, world: &mut World, caller: Caller, key: usize, mut claim: Claim) {
        claim.epoch = self.seen_epoch(world, claim.epoch);
        let mut guard = self.guard(world);
        if world.has(Mutation::BoundOnAcceptOnly) {
            guard.bound = Timestamp::ZERO;
        }
        if let Err(refusal) = acceptor::prepare(&self.slots[key], &guard, &claim) {
            return self.refuse(world, caller, refusal);
        }
        self.slots[key].promised = claim.ballot;
        let until = self.slots[key].accepted;
        self.waiting.push(WaitingPrepare {
            caller,
            key,
            claim,
            until,
        });
        if !self.horizon.covers(claim.ballot.time) && self.horizon_asked < claim.ballot.time {
            let wanted = self
                .horizon
                .next(world.wall_ms(self.offset_ms), claim.ballot.time);
            self.horizon_asked = wanted;
            self.append(world, Record::Horizon(wanted), None);
        }
        self.grant(world);
    }

    /// Answers the Prepares that need wait no longer.
    fn grant(&mut self, world: &mut World) {
        let mut index = 0;
        while index < self.waiting.len() {
            let WaitingPrepare {
                caller,
                key,
                claim,
                until,
            } = self.waiting[index];
            let waits_for_value = self.slots[key].durable < until
                && !world.has(Mutation::UnsyncedHidden)
                && !world.has(Mutation::UnsyncedPromised);
            if waits_for_value || !self.horizon.covers(claim.ballot.time) {
                index += 1;
                continue;
            }
            self.waiting.remove(index);
            if let Err(refusal) = acceptor::admit(
                &self.slots[key],
                &self.guard(world),
                claim.epoch,
                claim.generation,
            ) {
                self.refuse(world, caller, refusal);
                continue;
            }
            if world.settings.refuses_overtaken && self.slots[key].promised > claim.ballot {
                let refusal = self.refusal(world, key, Reason::Promised);
                self.refuse(world, caller, refusal);
                continue;
            }
            let mut row = self.disk.rows[key].as_ref();
            if world.has(Mutation::UnsyncedPromised) {
                row = self.unsynced[key].as_ref().or(row);
            }
            let promise = Promise {
                accepted: row.map_or(Ballot::ZERO, |(ballot, _)| *ballot),
                state: row.map(|(_, value)| value.clone()),
                floor: self.floor,
            };
            self.reply(world, caller, Reply::Promised(promise));
        }
    }

    fn refusal(&self, world: &World, key: usize, reason: Reason) -> Refusal {
        let guard = self.guard(world);
        Refusal {
            reason,
            past: self.slots[key].promised,
            floor: guard.floor,
            bound: guard.bound,
            epoch: guard.epoch,
            generation: guard.generation,
            clock_ms: guard.now_ms,
        }
    }

    fn on_accept(
        &mut self,
        world: &mut World,
        caller: Caller,
        key: usize,
        mut claim: Claim,
        value: Shared,
    ) {
        claim.epoch = self.seen_epoch(world, claim.epoch);
        let mut guard = self.guard(world);
        if world.has(Mutation::FloorLetsAccept) {
            guard.floor = Ballot::ZERO;
        }
        let acknowledgement = Acknowledgement {
            caller,
            epoch: claim.epoch,
        };
        match acceptor::accept(&self.slots[key], &guard, &claim) {
            Err(refusal) => self.refuse(world, caller, refusal),
            Ok(Accepting::AlreadyDurable) => self.reply(world, caller, Reply::Accepted),
            Ok(Accepting::AlreadyQueued) => {
                let is_same = |record: &Record| {
                    matches!(record, Record::Accept { key: other, ballot, .. }
                        if *other == key && *ballot == claim.ballot)
                };
                let queued = self.queued.iter().find(|(record, _)| is_same(record));
                // The same again, after it: durable no earlier than the first.
                let again = queued
                    .or_else(|| self.syncing.iter().find(|(record, _)| is_same(record)))
                    .map(|(record, _)| record.clone());
                if let Some(record) = again {
                    self.append(world, record, Some(acknowledgement));
                }
            }
            Ok(Accepting::Append) => {
                self.slots[key].promised = claim.ballot;
                self.slots[key].accepted = claim.ballot;
                self.unsynced[key] = Some((claim.ballot, value.clone()));
                let record = Record::Accept {
                    key,
                    epoch: claim.epoch,
                    ballot: claim.ballot,
                    value,
                };
                if world.has(Mutation::AckBeforeFsync) {
                    self.reply(world, caller, Reply::Accepted);
                    self.append(world, record, None);
                } else {
                    self.append(world, record, Some(acknowledgement));
                }
            }
        }
    }

    fn on_read(&mut self, world: &mut World, caller: Caller, key: usize, epoch: Epoch) {
        if self.admits(world, caller, key, epoch) {
            self.reply_row(world, caller, key);
        }
    }

    fn reply_row(&self, world: &mut World, caller: Caller, key: usize) {
        let mut row = self.disk.rows[key].clone();
        if world.has(Mutation::UnsyncedRead) {
            row = self.unsynced[key].clone().or(row);
        }
        let reply = match row {
            Some((ballot, value)) => Reply::Row(ballot, Some(value)),
            None => Reply::Row(Ballot::ZERO, None),
        };
        self.reply(world, caller, reply);
    }

    /// A chosen row that comes to a new member: it may go in below a promise.
    fn on_copy(
        &mut self,
        world: &mut World,
        caller: Caller,
        key: usize,
        epoch: Epoch,
        ballot: Ballot,
        value: Shared,
    ) {
        let acknowledgement = Some(Acknowledgement { caller, epoch });
        let slot = &mut self.slots[key];
        if slot.durable >= ballot {
            return self.reply(world, caller, Reply::Done);
        }
        if slot.accepted < ballot {
            slot.accepted = ballot;
            slot.promised = slot.promised.max(ballot);
            self.unsynced[key] = Some((ballot, value.clone()));
        }
        self.append(
            world,
            Record::Accept {
                key,
                epoch,
                ballot,
                value,
            },
            acknowledgement,
        );
    }

    fn on_learn_row(&mut self, world: &mut World, caller: Caller, epoch: Epoch) {
        let acknowledgement = Acknowledgement { caller, epoch };
        if epoch > self.disk.epoch {
            self.append(world, Record::Row(epoch), Some(acknowledgement));
        } else if epoch == self.disk.epoch {
            self.reply(world, caller, Reply::Done);
        }
    }

    fn append(&mut self, world: &mut World, record: Record, wants: Option<Acknowledgement>) {
        self.queued.push((record, wants));
        self.sync(world);
    }

    /// Group commit: what queued during one fsync goes out in the next.
    fn sync(&mut self, world: &mut World) {
        if self.is_syncing || self.queued.is_empty() {
            return;
        }
        self.is_syncing = true;
        std::mem::swap(&mut self.queued, &mut self.syncing);
        let most = if world.is_healed {
            200
        } else {
            world.settings.fsync_us
        };
        let delay = world.random.between(most / 10, most);
        world.after(
            delay,
            Event::Synced {
                replica: self.index,
                life: self.life,
            },
        );
    }

    pub(super) fn on_synced(&mut self, world: &mut World, life: u64) {
        if life != self.life || !self.is_alive {
            return;
        }
        self.is_syncing = false;
        let mut done = std::mem::take(&mut self.syncing);
        for (record, _) in &done {
            self.write(record.clone(), world);
            self.settle(record);
        }
        for (record, wants) in done.drain(..) {
            let Some(Acknowledgement { caller, epoch }) = wants else {
                continue;
            };
            // What was asked in an older epoch is not answered in it any more.
            if epoch != self.disk.epoch && !world.has(Mutation::StaleEpoch) {
                let refusal = self.refusal(world, 0, Reason::Epoch);
                self.refuse(world, caller, refusal);
                continue;
            }
            let is_copy = caller.process == Process::Mover;
            let reply = match record {
                Record::Accept { .. } if !is_copy => Reply::Accepted,
                _ => Reply::Done,
            };
            self.reply(world, caller, reply);
        }
        self.syncing = done;
        self.sync(world);
        let held = self.disk.bound;
        let (bound, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.binding)
            .into_iter()
            .partition(|(.., bound)| *bound <= held);
        self.binding = waiting;
        for (caller, key, claim, _) in bound {
            self.on_prepare(world, caller, key, claim);
        }
        self.grant(world);
    }

    /// Brings what is in memory up to a record that is durable now.
    fn settle(&mut self, record: &Record) {
        match record {
            Record::Accept { key, .. } | Record::Drop { key, .. } => {
                let durable = self.disk.rows[*key]
                    .as_ref()
                    .map_or(Ballot::ZERO, |(ballot, _)| *ballot);
                let slot = &mut self.slots[*key];
                if matches!(record, Record::Drop { .. }) && slot.accepted == slot.durable {
                    slot.accepted = durable;
                }
                if matches!(record, Record::Drop { .. }) && slot.promised <= self.disk.floor {
                    // The floor says as much as the promise did: memory need not.
                    slot.promised = slot.accepted;
                }
                slot.durable = durable;
                if slot.durable == slot.accepted {
                    self.unsynced[*key] = None;
                }
            }
            Record::Horizon(time) => self.horizon.on_recorded(*time),
            Record::Floor(_) | Record::Bound(_) | Record::Row(_) => {}
            Record::Adopt { .. } => {
                self.floor = self.disk.floor;
                self.horizon = Horizon::after_start(self.disk.horizon);
                self.horizon_asked = self.disk.horizon;
            }
        }
        if let Record::Row(_) = record
            && self.disk.joined == self.disk.epoch
            && !self.disk.may_vote
        {
            // It has just joined, empty.
            self.floor = Ballot::ZERO;
            self.horizon = Horizon::after_start(Timestamp::ZERO);
            self.horizon_asked = Timestamp::ZERO;
            self.load_slots();
        }
    }

    /// What a durable record does to the disk. The highest ballot counts, never the later position.
    fn write(&mut self, record: Record, world: &mut World) {
        let own = self.identity();
        let disk = &mut self.disk;
        match record {
            Record::Accept {
                key,
                epoch,
                ballot,
                value,
            } => {
                let held = disk.rows[key]
                    .as_ref()
                    .map_or(Ballot::ZERO, |(ballot, _)| *ballot);
                if epoch >= disk.joined && ballot > held {
                    world
                        .chunks
                        .on_accepted(own, key, ballot, &value, &world.rows);
                    disk.rows[key] = Some((ballot, value));
                }
            }
            Record::Horizon(time) => disk.horizon = disk.horizon.max(time),
            Record::Floor(floor) => disk.floor = disk.floor.max(floor),
            Record::Bound(bound) => disk.bound = disk.bound.max(bound),
            Record::Drop { key, ballot } => {
                if disk.rows[key]
                    .as_ref()
                    .is_some_and(|(held, _)| *held == ballot)
                {
                    disk.rows[key] = None;
                }
            }
            Record::Adopt {
                epoch,
                floor,
                horizon,
                bound,
            } => {
                if epoch == disk.epoch && !disk.may_vote {
                    disk.bound = disk.bound.max(bound);
                    disk.floor = disk.floor.max(floor);
                    disk.horizon = disk.horizon.max(horizon);
                    disk.may_vote = true;
                }
            }
            Record::Row(epoch) => {
                if epoch <= disk.epoch {
                    return;
                }
                disk.epoch = epoch;
                let own = identity(self.index, 0).disk;
                let joined = world.row(epoch).joined(own).unwrap_or(disk.joined);
                if joined > disk.joined {
                    disk.joined = joined;
                    if world.has(Mutation::ReturnsWithRows) {
                        disk.may_vote = true;
                        return;
                    }
                    disk.rows.fill(None);
                    disk.floor = Ballot::ZERO;
                    disk.horizon = Timestamp::ZERO;
                    disk.bound = Timestamp::ZERO;
                    disk.may_vote = world.has(Mutation::VoteBeforeAdopting);
                }
            }
        }
    }
}
