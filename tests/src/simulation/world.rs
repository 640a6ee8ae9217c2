//! Everything that the simulated processes share: time, chance, the network, the layouts, the trace.

use super::chunks::Chunks;
use super::message::{Answered, Caller, Process, Request, Shared};
use super::mutation::Mutation;
use super::settings::Settings;
use crate::random::{Random, mix};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::{DiskId, Epoch};
use ringfort_ring::quorum::{QuorumRule, Replica as Identity};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What happens next.
#[derive(Debug)]
pub(super) enum Event {
    Ask {
        to: usize,
        caller: Caller,
        request: Request,
    },
    Answer {
        caller: Caller,
        answered: Answered,
    },
    Synced {
        replica: usize,
        life: u64,
    },
    RoundTimeout {
        gateway: usize,
        call: u64,
    },
    Retry {
        gateway: usize,
        call: u64,
    },
    ClientStep(usize),
    Crash {
        replica: usize,
    },
    Restart {
        replica: usize,
    },
    CrashGateway {
        gateway: usize,
    },
    RestartGateway {
        gateway: usize,
    },
    Cut {
        from: Process,
        to: Process,
    },
    Mend {
        from: Process,
        to: Process,
    },
    Push,
    Hint {
        gateway: usize,
        key: usize,
        ballot: Ballot,
        value: Shared,
    },
    Collect,
    Gather,
    Move,
}

/// The members of a row in one epoch.
#[derive(Clone, Debug)]
pub(super) struct RowVersion {
    pub(super) old: Vec<Identity>,
    pub(super) new: Option<Vec<Identity>>,
}

impl RowVersion {
    pub(super) fn rule(&self) -> QuorumRule {
        match &self.new {
            None => QuorumRule::stable(self.old.clone()),
            Some(new) => QuorumRule::joint(self.old.clone(), new.clone()),
        }
    }

    /// The epoch at which a disk joined, if it is a member.
    pub(super) fn joined(&self, disk: DiskId) -> Option<Epoch> {
        let sets = self.new.iter().flatten().chain(&self.old);
        sets.filter(|member| member.disk == disk)
            .map(|member| member.joined)
            .max()
    }
}

pub(super) struct World {
    pub(super) now_us: u64,
    pub(super) random: Random,
    pub(super) settings: Settings,
    pub(super) mutation: Option<Mutation>,
    /// From here on the network and the machines behave.
    pub(super) is_healed: bool,
    /// The committed rows, that of epoch 1 first.
    pub(super) rows: Vec<RowVersion>,
    /// What is stored beside the registers.
    pub(super) chunks: Chunks,
    trace: u64,
    pub(super) events_done: u64,
    next_call: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    pending: Vec<Option<Event>>,
    free: Vec<usize>,
    sequence: u64,
    cuts: Vec<(Process, Process)>,
}

/// Sets the draws about bodies apart from the others of a seed.
const BODIES: u64 = 0x626f_6469_6573;

/// Wall clocks begin here, in milliseconds.
const BASE_MS: u64 = 1_000_000;

impl World {
    pub(super) fn new(seed: u64, mutation: Option<Mutation>) -> Self {
        let mut random = Random::new(seed);
        let mut settings = Settings::draw(&mut random);
        settings.draw_bodies(&mut Random::new(mix(seed ^ BODIES)));
        let first = (0..settings.replicas)
            .map(|index| identity(index, 1))
            .collect();
        Self {
            now_us: 0,
            random,
            settings,
            mutation,
            is_healed: false,
            rows: vec![RowVersion {
                old: first,
                new: None,
            }],
            chunks: Chunks::default(),
            trace: mix(seed),
            events_done: 0,
            next_call: 1,
            queue: BinaryHeap::new(),
            pending: Vec::new(),
            free: Vec::new(),
            sequence: 0,
            cuts: Vec::new(),
        }
    }

    pub(super) fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// The wall clock of a process whose clock is off by so much.
    pub(super) fn wall_ms(&self, offset_ms: i64) -> u64 {
        (BASE_MS + self.now_us / 1_000).saturating_add_signed(offset_ms)
    }

    /// A clock error within this seed's measure, either way.
    pub(super) fn draw_offset_ms(&mut self) -> i64 {
        let most = self.settings.skew_ms;
        let drawn = self.random.between(0, 2 * most);
        i64::try_from(drawn).unwrap_or(0) - i64::try_from(most).unwrap_or(0)
    }

    pub(super) fn fresh_call(&mut self) -> u64 {
        self.next_call += 1;
        self.next_call
    }

    pub(super) fn newest_epoch(&self) -> Epoch {
        Epoch(u64::try_from(self.rows.len()).unwrap_or(u64::MAX))
    }

    pub(super) fn row(&self, epoch: Epoch) -> &RowVersion {
        let index = usize::try_from(epoch.0.saturating_sub(1)).unwrap_or(0);
        &self.rows[index.min(self.rows.len() - 1)]
    }

    pub(super) fn note(&mut self, what: u64) {
        self.trace = mix(self.trace ^ what).wrapping_add(self.now_us);
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.trace
    }

    pub(super) fn after(&mut self, delay_us: u64, event: Event) {
        self.sequence += 1;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.pending[slot] = Some(event);
                slot
            }
            None => {
                self.pending.push(Some(event));
                self.pending.len() - 1
            }
        };
        self.queue
            .push(Reverse((self.now_us + delay_us, self.sequence, slot)));
    }

    /// The next event; time moves on to it.
    pub(super) fn next(&mut self) -> Option<Event> {
        let Reverse((at, sequence, slot)) = self.queue.pop()?;
        self.now_us = at;
        self.events_done += 1;
        self.note(sequence);
        self.free.push(slot);
        self.pending[slot].take()
    }

    pub(super) fn ask(&mut self, caller: Caller, to: Identity, request: Request) {
        let to = index_of(to.disk);
        for delay in self
            .deliveries(caller.process, Process::Replica(to))
            .into_iter()
            .flatten()
        {
            let request = request.clone();
            self.after(
                delay,
                Event::Ask {
                    to,
                    caller,
                    request,
                },
            );
        }
    }

    pub(super) fn answer(&mut self, replica: usize, caller: Caller, answered: Answered) {
        if matches!(caller.process, Process::Replica(_)) {
            return;
        }
        for delay in self
            .deliveries(Process::Replica(replica), caller.process)
            .into_iter()
            .flatten()
        {
            let answered = answered.clone();
            self.after(delay, Event::Answer { caller, answered });
        }
    }

    /// When a message arrives: never, once or twice.
    fn deliveries(&mut self, from: Process, to: Process) -> [Option<u64>; 2] {
        if self.is_healed {
            return [Some(self.random.between(50, 400)), None];
        }
        if self.cuts.contains(&(from, to)) || self.random.chance(self.settings.lost) {
            return [None, None];
        }
        let first = self.draw_delay();
        let second = self
            .random
            .chance(self.settings.doubled)
            .then(|| self.draw_delay());
        [Some(first), second]
    }

    fn draw_delay(&mut self) -> u64 {
        let most = if self.random.chance(self.settings.late) {
            self.settings.late_us
        } else {
            self.settings.delay_us
        };
        self.random.between(most / 10, most)
    }

    pub(super) fn cut(&mut self, from: Process, to: Process) {
        self.cuts.push((from, to));
    }

    pub(super) fn mend(&mut self, from: Process, to: Process) {
        if let Some(index) = self.cuts.iter().position(|cut| *cut == (from, to)) {
            self.cuts.swap_remove(index);
        }
    }

    pub(super) fn heal(&mut self) {
        self.is_healed = true;
        self.cuts.clear();
    }
}

/// The identity of the disk of an index that joined at an epoch.
pub(super) fn identity(index: usize, joined: u64) -> Identity {
    Identity {
        disk: DiskId::from_u128(u128::try_from(index).unwrap_or(0) + 1),
        joined: Epoch(joined),
    }
}

/// The index of a disk.
pub(super) fn index_of(disk: DiskId) -> usize {
    usize::from(disk.0[15]).saturating_sub(1)
}
