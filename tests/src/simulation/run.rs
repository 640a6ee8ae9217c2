//! One seed from its first event to its verdict.

use super::collector::Collector;
use super::gateway::{Finished, Gateway, Purpose};
use super::gatherer::Gatherer;
use super::message::{Caller, Process, Request as Message};
use super::mover::Mover;
use super::mutation::Mutation;
use super::replica::Replica;
use super::settings::Plan;
use super::workload::Client;
use super::world::{Event, World, identity};
use crate::checkers::history::{Answer, Operation, Request};
use crate::checkers::{self, Violation};
use ringfort_ring::id::Generation;
use ringfort_ring::register::acceptor::Claim;

/// What a seed came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// A hash over every event in its order.
    pub trace_hash: u64,
    /// How many events there were.
    pub events: u64,
    /// What clients asked and were told.
    pub history: Vec<Operation>,
    /// The promises that were broken.
    pub violations: Vec<Violation>,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, mutation: Option<Mutation>) -> Report {
    let mut simulation = Simulation::new(seed, mutation);
    let is_over = simulation.go();
    let mut violations = checkers::check(&simulation.history);
    violations.append(&mut simulation.world.chunks.violations);
    if !is_over {
        violations.push(Violation {
            promise: LIVENESS,
            what: format!(
                "reads without an answer at {} us; the move is {:?}",
                simulation.world.now_us, simulation.mover
            ),
        });
    }
    Report {
        seed,
        trace_hash: simulation.world.trace_hash(),
        events: simulation.world.events_done,
        history: simulation.history,
        violations,
    }
}

/// The name of the one promise here that is not about safety.
pub const LIVENESS: &str = "a healed cluster answers";

/// The weights of a seed, for people.
#[must_use]
pub fn describe(seed: u64) -> String {
    format!("{:?}", World::new(seed, None).settings)
}

/// After the last fault, until the first final read: longer than any horizon or straggler.
const QUIET_US: u64 = 4_000_000;
/// A run that has not ended by then never will.
const EVENTS_MAX: u64 = 60_000;

struct Simulation {
    world: World,
    replicas: Vec<Replica>,
    gateways: Vec<Gateway>,
    collector: Collector,
    gatherer: Gatherer,
    mover: Mover,
    clients: Vec<Client>,
    history: Vec<Operation>,
    left_to_ask: u64,
    final_reads: u64,
    final_reads_left: usize,
    operations: u64,
}

impl Simulation {
    fn new(seed: u64, mutation: Option<Mutation>) -> Self {
        let mut world = World::new(seed, mutation);
        let settings = world.settings.clone();
        let spare = usize::from(matches!(settings.plan, Plan::Replace | Plan::Return));
        let replicas = (0..settings.replicas + spare)
            .map(|index| Replica::new(index, index < settings.replicas, &mut world))
            .collect();
        let gateways = (0..settings.gateways)
            .map(|index| Gateway::new(index, &mut world))
            .collect();
        let mut simulation = Self {
            replicas,
            gateways,
            collector: Collector::new(),
            gatherer: Gatherer::new(),
            mover: Mover::new(),
            clients: (0..settings.clients)
                .map(|_| Client::new(&settings))
                .collect(),
            history: Vec::new(),
            left_to_ask: settings.operations,
            final_reads: 0,
            final_reads_left: 0,
            operations: 0,
            world,
        };
        simulation.schedule_faults();
        for client in 0..settings.clients {
            let delay = simulation.world.random.below(settings.think_us);
            simulation.world.after(delay, Event::ClientStep(client));
        }
        simulation
    }

    fn schedule_faults(&mut self) {
        let world = &mut self.world;
        let settings = world.settings.clone();
        let within = settings.faults_within_us;
        for _ in 0..settings.crashes {
            let (at, down) = (
                world.random.below(within),
                world.random.below(settings.outage_us),
            );
            let replica = world.random.index(self.replicas.len());
            world.after(at, Event::Crash { replica });
            world.after(at + down + 1, Event::Restart { replica });
        }
        for _ in 0..settings.gateway_crashes {
            let (at, down) = (
                world.random.below(within),
                world.random.below(settings.outage_us),
            );
            let gateway = world.random.index(self.gateways.len());
            world.after(at, Event::CrashGateway { gateway });
            world.after(at + down + 1, Event::RestartGateway { gateway });
        }
        for _ in 0..settings.cuts {
            let (at, down) = (
                world.random.below(within),
                world.random.below(settings.outage_us),
            );
            let gateway = self.gateways[world.random.index(self.gateways.len())].process();
            let replica = Process::Replica(world.random.index(self.replicas.len()));
            let directions: &[(Process, Process)] = match world.random.below(3) {
                0 => &[(gateway, replica)],
                1 => &[(replica, gateway)],
                _ => &[(gateway, replica), (replica, gateway)],
            };
            for (from, to) in directions {
                world.after(
                    at,
                    Event::Cut {
                        from: *from,
                        to: *to,
                    },
                );
                world.after(
                    at + down + 1,
                    Event::Mend {
                        from: *from,
                        to: *to,
                    },
                );
            }
        }
        for _ in 0..settings.collections {
            let at = world.random.below(within);
            world.after(at, Event::Collect);
        }
        for _ in 0..settings.gatherings {
            let at = world.random.below(within + settings.body_us);
            world.after(at, Event::Gather);
        }
        for _ in 0..settings.replays / 50 {
            let at = world.random.below(within);
            world.after(at, Event::Push);
        }
        if settings.plan != Plan::Stay {
            let at = world.random.below(within);
            world.after(at, Event::Move);
        }
    }

    /// Runs to the end; false where there is none.
    fn go(&mut self) -> bool {
        while let Some(event) = self.world.next() {
            self.step(event);
            self.reap();
            if self.final_reads_left == 0 && self.final_reads > 0 {
                return true;
            }
            if self.world.events_done > EVENTS_MAX {
                return false;
            }
        }
        false
    }

    fn step(&mut self, event: Event) {
        let world = &mut self.world;
        match event {
            Event::Ask {
                to,
                caller,
                request,
            } => {
                self.replicas[to].on_request(world, caller, request);
            }
            Event::Answer { caller, answered } => match caller.process {
                Process::Gateway(index) => {
                    self.gateways[index].on_answer(world, caller.call, answered);
                }
                Process::Collector => self.collector.on_answer(world, caller.call, &answered),
                Process::Gatherer => self.gatherer.on_answer(world, caller.call, &answered),
                Process::Mover => self.mover.on_answer(world, caller.call, &answered),
                Process::Replica(_) => {}
            },
            Event::Synced { replica, life } => self.replicas[replica].on_synced(world, life),
            Event::RoundTimeout { gateway, call } => self.gateways[gateway].on_timeout(world, call),
            Event::Retry { gateway, call } => self.gateways[gateway].on_retry(world, call),
            Event::ClientStep(client) => self.client_step(client),
            Event::Crash { replica } => {
                if !world.is_healed {
                    self.replicas[replica].crash(world);
                }
            }
            Event::Restart { replica } => {
                if !self.replicas[replica].is_alive() {
                    self.replicas[replica].restart(world);
                }
            }
            Event::CrashGateway { gateway } => {
                if !world.is_healed {
                    self.gateways[gateway].crash();
                }
            }
            Event::RestartGateway { gateway } => {
                if !self.gateways[gateway].is_alive() {
                    self.gateways[gateway].restart();
                }
            }
            Event::Cut { from, to } => world.cut(from, to),
            Event::Mend { from, to } => world.mend(from, to),
            Event::Push => self.push(),
            Event::Hint {
                gateway,
                key,
                ballot,
                value,
            } => {
                self.gateways[gateway].replay(world, key, ballot, &value);
            }
            Event::Collect => self.collector.begin(world),
            Event::Gather => self.gatherer.begin(world),
            Event::Move => self.move_on(),
        }
    }

    /// A replica shows a row to another: the Accept as it was, in the epoch of now.
    fn push(&mut self) {
        let world = &mut self.world;
        let from = world.random.index(self.replicas.len());
        let to = world.random.index(self.replicas.len());
        let key = world.random.index(world.settings.keys);
        if let Some((epoch, ballot, value)) = self.replicas[from].durable_row(key) {
            let claim = Claim {
                epoch,
                generation: Generation(0),
                ballot,
                born: None,
            };
            let caller = Caller {
                process: Process::Replica(from),
                call: 0,
            };
            world.ask(
                caller,
                identity(to, 0),
                Message::Accept { key, claim, value },
            );
        }
    }

    fn move_on(&mut self) {
        let world = &mut self.world;
        if self.mover.is_idle() {
            if world.settings.plan == Plan::Wipe {
                let last = world.settings.replicas - 1;
                self.replicas[last].wipe(world);
            }
            self.mover.begin(world);
        } else {
            self.mover.poll(world);
        }
        let living: Vec<usize> = (0..self.gateways.len())
            .filter(|index| self.gateways[*index].is_alive())
            .collect();
        if !living.is_empty()
            && let Some(key) = self.mover.take_settling()
        {
            let gateway = &mut self.gateways[living[world.random.index(living.len())]];
            self.operations += 1;
            let number = self.operations;
            gateway.begin(world, Purpose::Settle(key), key, Request::Get, number);
        }
        if !self.mover.is_over() {
            world.after(if world.is_healed { 100_000 } else { 40_000 }, Event::Move);
        }
    }

    fn client_step(&mut self, client: usize) {
        let world = &mut self.world;
        if client >= self.clients.len() {
            return self.final_read(client - self.clients.len());
        }
        if self.left_to_ask == 0 {
            return;
        }
        let gateway = world.random.index(self.gateways.len());
        if !self.gateways[gateway].is_alive() {
            let delay = world.random.between(100, world.settings.think_us + 100);
            world.after(delay, Event::ClientStep(client));
            return;
        }
        self.left_to_ask -= 1;
        self.operations += 1;
        let writer = u16::try_from(self.operations).unwrap_or(u16::MAX);
        let (key, request) = self.clients[client].next(&mut world.random, &world.settings, writer);
        self.clients[client].waits_for = Some(self.history.len());
        self.ask(gateway, key, request);
    }

    fn ask(&mut self, gateway: usize, key: usize, request: Request) {
        let place = self.history.len();
        self.history.push(Operation {
            key,
            request,
            called: self.world.now_us,
            returned: u64::MAX,
            answer: Answer::Unknown,
        });
        self.operations += 1;
        let number = self.operations;
        let purpose = Purpose::Client(place);
        self.gateways[gateway].begin(&mut self.world, purpose, key, request, number);
    }

    fn final_read(&mut self, number: usize) {
        let gateway = number % self.gateways.len();
        self.ask(gateway, number % self.world.settings.keys, Request::Get);
    }

    /// Takes what the gateways have finished.
    fn reap(&mut self) {
        for index in 0..self.gateways.len() {
            for Finished { purpose, answer } in self.gateways[index].take_finished() {
                match purpose {
                    Purpose::Client(place) => self.on_finished(place, answer),
                    Purpose::Settle(key) => self.mover.on_settled(&mut self.world, key),
                }
            }
        }
    }

    fn on_finished(&mut self, place: usize, answer: Answer) {
        let now = self.world.now_us;
        let op = &mut self.history[place];
        op.answer = answer;
        op.returned = now;
        if answer == Answer::Unknown {
            op.returned = u64::MAX;
        }
        let (key, request) = (op.key, op.request);
        self.world
            .note(u64::try_from(place).unwrap_or(0) << 8 | code(answer));
        if self.final_reads > 0 {
            self.final_reads_left -= usize::from(answer != Answer::Unknown);
            return;
        }
        let waiting = self
            .clients
            .iter()
            .position(|client| client.waits_for == Some(place));
        let Some(client) = waiting else {
            return;
        };
        self.clients[client].waits_for = None;
        match (answer, request) {
            (Answer::Found(Some(found)), _) => self.clients[client].seen[key] = found.etag,
            (Answer::Done, Request::Put(value, _)) => self.clients[client].seen[key] = value.etag,
            _ => {}
        }
        let think = self.world.settings.think_us;
        let delay = self.world.random.between(think / 10, think);
        self.world.after(delay, Event::ClientStep(client));
        let is_done =
            self.left_to_ask == 0 && self.clients.iter().all(|client| client.waits_for.is_none());
        if is_done {
            self.finish();
        }
    }

    /// The clients are done: mend everything, wait, and read each key twice.
    fn finish(&mut self) {
        self.world.heal();
        for replica in &mut self.replicas {
            replica.mend_clock();
            if !replica.is_alive() {
                replica.restart(&self.world);
            }
        }
        for gateway in &mut self.gateways {
            gateway.mend_clock();
            if !gateway.is_alive() {
                gateway.restart();
            }
        }
        self.final_reads = u64::try_from(self.world.settings.keys * 2).unwrap_or(0);
        self.final_reads_left = self.world.settings.keys * 2;
        for number in 0..self.final_reads_left {
            let after = QUIET_US + u64::try_from(number).unwrap_or(0) * 1_000_000;
            self.world
                .after(after, Event::ClientStep(self.clients.len() + number));
        }
    }
}

fn code(answer: Answer) -> u64 {
    match answer {
        Answer::Done => 1,
        Answer::ConditionFailed => 2,
        Answer::NotApplied => 3,
        Answer::Unknown => 4,
        Answer::Found(None) => 5,
        Answer::Found(Some(found)) => 6 + u64::from(found.writer),
    }
}
