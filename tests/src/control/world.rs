//! The world of one seed.

use super::mutation::ControlMutation;
use crate::random::{Random, mix};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::control::{Acceptor, ControlSets, Promise, Proposer, Refusal, Step};
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{ClusterId, DiskId, Epoch, Era, Incarnation, NodeId};
use ringfort_ring::layout::{DiskEntry, Layout, Member, Members, NodeEntry, Row};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The promise whose breach says only that nothing got through.
pub const LIVENESS: &str = "a change gets through when the network is whole";

const NODES: u16 = 7;
/// Events of the storm.
const EVENTS: u64 = 2_000;

/// What a seed showed.
#[derive(Debug, Default)]
pub struct ControlReport {
    /// What did not hold: the promise, and what happened.
    pub violations: Vec<(&'static str, String)>,
    /// The highest version chosen.
    pub version: u64,
    /// Two-version changes of the control set that began.
    pub control_changes: u64,
    /// The same for the same seed.
    pub trace_hash: u64,
}

#[derive(Clone)]
enum Message {
    Prepare(Ballot, (Era, u64)),
    Promise(Ballot, Result<Promise, Refusal>),
    Accept(Ballot, Arc<Layout>),
    Accepted(Ballot, Result<(), Refusal>),
    /// A chosen layout, passed on.
    Offer(Arc<Layout>),
}

#[derive(Clone)]
struct Envelope {
    from: u16,
    to: u16,
    message: Message,
}

struct Node {
    /// On disk.
    acceptor: Acceptor,
    /// On disk.
    chosen: Arc<Layout>,
    round: Option<Round>,
    clock: u64,
    lives: u8,
    is_asleep: bool,
}

struct Round {
    proposer: Proposer,
    is_accepting: bool,
    /// The highest version that was chosen when it began.
    began_at: u64,
}

struct World {
    random: Random,
    mutation: Option<ControlMutation>,
    nodes: Vec<Node>,
    bag: Vec<Envelope>,
    /// Every layout that somebody knows to be chosen.
    chosen: BTreeMap<u64, Arc<Layout>>,
    marks: u64,
    report: ControlReport,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, mutation: Option<ControlMutation>) -> ControlReport {
    let mut world = World::new(seed, mutation);
    for _ in 0..EVENTS {
        world.event();
    }
    world.heal();
    world.report.version = world.newest();
    world.report
}

fn id(node: u16) -> NodeId {
    NodeId::from_u128(u128::from(node) + 1)
}

fn number(id: NodeId) -> u16 {
    let [.., high, low] = id.0;
    u16::from_be_bytes([high, low]) - 1
}

fn first() -> Layout {
    let node = |number| NodeEntry::new(id(number), String::new(), "a:1".into(), String::new());
    Layout {
        cluster: ClusterId::from_u128(1),
        era: Era(0),
        version: 1,
        replicas: 1,
        control_epoch: Epoch(1),
        control: vec![0, 1, 2],
        control_before: Vec::new(),
        is_balancing_paused: false,
        nodes: (0..NODES).map(node).collect(),
        disks: vec![DiskEntry::new(DiskId::from_u128(1), 0, 1)],
        rows: vec![Row {
            epoch: Epoch(1),
            members: Members::Stable(vec![Member {
                disk: 0,
                joined: Epoch(1),
            }]),
        }],
    }
}

/// Who made a layout, and what it was made of: nodes' names carry it.
fn mark(layout: &Layout) -> (&str, &str) {
    (&layout.nodes[0].name, &layout.nodes[0].zone)
}

fn one_less(layout: &Layout) -> ControlSets {
    let (control, before) = ControlSets::ids(layout);
    let mut sets = ControlSets::default();
    for set in [control, before] {
        let enough = (set.len() / 2).max(1);
        if !set.is_empty() {
            sets.add(set, enough);
        }
    }
    sets
}

fn without_before(layout: &Layout) -> ControlSets {
    let mut alone = layout.clone();
    alone.control_before.clear();
    ControlSets::of(&alone)
}

impl World {
    fn new(seed: u64, mutation: Option<ControlMutation>) -> Self {
        let mut random = Random::new(seed);
        let layout = Arc::new(first());
        let node = |random: &mut Random| Node {
            acceptor: Acceptor::default(),
            chosen: Arc::clone(&layout),
            round: None,
            clock: 1 + random.below(50),
            lives: 0,
            is_asleep: false,
        };
        Self {
            nodes: (0..NODES).map(|_| node(&mut random)).collect(),
            random,
            mutation,
            bag: Vec::new(),
            chosen: BTreeMap::from([(1, layout)]),
            marks: 0,
            report: ControlReport::default(),
        }
    }

    fn has(&self, mutation: ControlMutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn newest(&self) -> u64 {
        self.chosen.keys().next_back().copied().unwrap_or(0)
    }

    fn any_node(&mut self) -> u16 {
        u16::try_from(self.random.below(u64::from(NODES))).unwrap_or(0)
    }

    fn trace(&mut self, what: u64) {
        self.report.trace_hash = mix(self.report.trace_hash ^ what);
    }

    fn broken(&mut self, promise: &'static str, what: String) {
        self.report.violations.push((promise, what));
    }

    fn event(&mut self) {
        match self.random.weighted(&[900, 45, 10, 12, 12, 6, 20]) {
            0 => self.deliver_any(),
            1 => {
                let node = self.any_node();
                if self.nodes[usize::from(node)].round.is_none() {
                    self.begin(node);
                }
            }
            // It gave up waiting.
            2 => {
                let node = self.any_node();
                if self.nodes[usize::from(node)].round.is_some() {
                    self.begin(node);
                }
            }
            3 => self.crash(),
            4 => {
                let (from, to) = (self.any_node(), self.any_node());
                let known = Arc::clone(&self.nodes[usize::from(from)].chosen);
                self.send(from, to, Message::Offer(known));
            }
            5 => {
                let node = self.any_node();
                self.nodes[usize::from(node)].is_asleep = true;
            }
            _ => {
                let node = self.any_node();
                self.nodes[usize::from(node)].is_asleep = false;
            }
        }
    }

    fn crash(&mut self) {
        let node = usize::from(self.any_node());
        let forgets = self.has(ControlMutation::PromiseForgotten);
        let node = &mut self.nodes[node];
        node.round = None;
        node.lives = node.lives.wrapping_add(1);
        if forgets {
            node.acceptor = Acceptor::default();
        }
    }

    fn deliver_any(&mut self) {
        if self.bag.is_empty() {
            return;
        }
        // Mostly what was sent lately, so that rounds come through; now and then something from long ago.
        let lately = match self.random.chance(850) {
            true => self.bag.len().min(12),
            false => self.bag.len(),
        };
        let at = self.bag.len() - 1 - self.random.index(lately);
        if self.nodes[usize::from(self.bag[at].to)].is_asleep {
            return;
        }
        let envelope = if self.random.chance(50) {
            self.bag[at].clone()
        } else {
            self.bag.swap_remove(at)
        };
        if !self.random.chance(70) {
            self.deliver(envelope);
        }
    }

    fn send(&mut self, from: u16, to: u16, message: Message) {
        self.bag.push(Envelope { from, to, message });
    }

    fn deliver(&mut self, envelope: Envelope) {
        let Envelope { from, to, message } = envelope;
        let kind = match &message {
            Message::Prepare(..) => 1,
            Message::Promise(..) => 2,
            Message::Accept(..) => 3,
            Message::Accepted(..) => 4,
            Message::Offer(..) => 5,
        };
        self.trace(u64::from(from) << 32 | u64::from(to) << 16 | kind);
        let node = &mut self.nodes[usize::from(to)];
        let chosen = Arc::clone(&node.chosen);
        match message {
            Message::Prepare(ballot, known) => {
                let answer = node.acceptor.prepare(ballot, known, Some(&chosen));
                self.send(to, from, Message::Promise(ballot, answer));
            }
            Message::Accept(ballot, layout) => {
                let answer = node.acceptor.accept(ballot, &layout, Some(&chosen));
                self.send(to, from, Message::Accepted(ballot, answer));
            }
            Message::Offer(layout) => self.keep(to, layout),
            Message::Promise(ballot, answer) => self.promised(to, from, ballot, answer),
            Message::Accepted(ballot, answer) => {
                let Some(round) = self.round_of(to, ballot, true) else {
                    return;
                };
                let step = match answer {
                    Ok(()) => round.proposer.accepted(id(from)),
                    Err(refusal) => refused(&mut self.nodes[usize::from(to)], from, refusal),
                };
                self.act(to, step);
            }
        }
    }

    fn round_of(&mut self, node: u16, ballot: Ballot, is_accepting: bool) -> Option<&mut Round> {
        let round = self.nodes[usize::from(node)].round.as_mut();
        round
            .filter(|round| round.proposer.ballot() == ballot && round.is_accepting == is_accepting)
    }

    fn promised(&mut self, node: u16, from: u16, ballot: Ballot, answer: Result<Promise, Refusal>) {
        let overwrites = self.has(ControlMutation::UnsettledOverwritten);
        let follows = self.has(ControlMutation::FollowsUnchosen);
        let Some(round) = self.round_of(node, ballot, false) else {
            return;
        };
        let step = match answer {
            Ok(mut promise) => {
                if overwrites {
                    promise.newer = None;
                }
                match promise.newer.take_if(|_| follows) {
                    Some(newer) => Step::Newer(Arc::new(newer)),
                    None => round.proposer.promised(id(from), promise),
                }
            }
            Err(refusal) => refused(&mut self.nodes[usize::from(node)], from, refusal),
        };
        self.act(node, step);
    }

    /// A fresh attempt.
    fn begin(&mut self, node: u16) {
        let sets_of = match self.mutation {
            Some(ControlMutation::QuorumTooSmall) => one_less,
            Some(ControlMutation::BeforeIgnored) => without_before,
            _ => ControlSets::of,
        };
        let began_at = self.newest();
        let pace = 1 + self.random.below(20);
        let here = &mut self.nodes[usize::from(node)];
        here.clock += pace;
        let mut incarnation = [0; 16];
        incarnation[0] = u8::try_from(node).unwrap_or(0);
        incarnation[1] = here.lives;
        let ballot = Ballot {
            time: Timestamp(here.clock),
            incarnation: Incarnation(incarnation),
        };
        let mut proposer = Proposer::under(sets_of, ballot, Arc::clone(&here.chosen));
        let step = proposer.start();
        here.round = Some(Round {
            proposer,
            is_accepting: false,
            began_at,
        });
        self.act(node, step);
    }

    fn act(&mut self, node: u16, step: Step) {
        let Some(round) = &mut self.nodes[usize::from(node)].round else {
            return;
        };
        let (ballot, known) = (round.proposer.ballot(), round.proposer.known());
        match step {
            Step::Wait => {}
            Step::Prepare(nodes) => {
                if round.proposer.unsettled().is_some() && self.has(ControlMutation::SettledUnasked)
                {
                    self.pretend_asked(node, &nodes);
                    return;
                }
                for to in nodes {
                    self.send(node, number(to), Message::Prepare(ballot, known));
                }
            }
            Step::Decide => self.decide(node),
            Step::Accept(layout, nodes) => {
                round.is_accepting = true;
                for to in nodes {
                    let accept = Message::Accept(ballot, Arc::clone(&layout));
                    self.send(node, number(to), accept);
                }
            }
            Step::Chosen(layout) => {
                self.nodes[usize::from(node)].round = None;
                self.choose(&layout);
                self.keep(node, Arc::clone(&layout));
                for _ in 0..2 {
                    let to = self.any_node();
                    self.send(node, to, Message::Offer(Arc::clone(&layout)));
                }
            }
            Step::Newer(layout) => {
                self.nodes[usize::from(node)].round = None;
                self.keep(node, layout);
            }
            Step::Failed { past } => {
                let here = &mut self.nodes[usize::from(node)];
                here.round = None;
                here.clock = here.clock.max(past.time.0);
            }
        }
    }

    /// What the mutation does that does not ask the sets of what is unsettled.
    fn pretend_asked(&mut self, node: u16, nodes: &[NodeId]) {
        for asked in nodes {
            let nothing = Promise {
                accepted: Ballot::ZERO,
                newer: None,
            };
            let Some(round) = &mut self.nodes[usize::from(node)].round else {
                return;
            };
            let step = round.proposer.promised(*asked, nothing);
            self.act(node, step);
        }
    }

    fn decide(&mut self, node: u16) {
        let Some(round) = &self.nodes[usize::from(node)].round else {
            return;
        };
        let (base, began_at) = (Arc::clone(round.proposer.base()), round.began_at);
        if base.version < began_at {
            self.broken(
                "a read sees what was chosen before it began",
                format!("version {} after {began_at} was chosen", base.version),
            );
        }
        // A read ends here.
        if self.random.chance(150) {
            self.nodes[usize::from(node)].round = None;
            return;
        }
        let next = self.successor(&base);
        let Some(round) = &mut self.nodes[usize::from(node)].round else {
            return;
        };
        match round.proposer.propose(next) {
            Ok(step) => self.act(node, step),
            Err(error) => self.broken("a successor can be proposed", error.to_string()),
        }
    }

    fn successor(&mut self, base: &Layout) -> Layout {
        let mut next = base.clone();
        next.version += 1;
        self.marks += 1;
        next.nodes[0].zone = base.nodes[0].name.clone();
        next.nodes[0].name = self.marks.to_string();
        let is_changing = !base.control_before.is_empty();
        match self.random.below(10) {
            0..=5 if is_changing => next.control_before.clear(),
            6 if is_changing => {
                next.control = base.control_before.clone();
                next.control_before = base.control.clone();
                self.mark_change(base, &mut next);
            }
            0..=3 if !is_changing => {
                next.control_before = base.control.clone();
                next.control = self.any_set();
                self.mark_change(base, &mut next);
            }
            _ => {}
        }
        next
    }

    fn mark_change(&mut self, base: &Layout, next: &mut Layout) {
        if ControlSets::ids(base).0 != ControlSets::ids(next).0 {
            next.control_epoch = Epoch(next.version);
            self.report.control_changes += 1;
        }
    }

    fn any_set(&mut self) -> Vec<u16> {
        let size = self.random.pick(&[1, 3, 3, 3]);
        let mut set = Vec::new();
        while set.len() < size {
            let node = self.any_node();
            if !set.contains(&node) {
                set.push(node);
            }
        }
        set
    }

    /// Somebody knows a layout to be chosen.
    fn choose(&mut self, layout: &Arc<Layout>) {
        match self.chosen.get(&layout.version) {
            Some(known) if known == layout => return,
            Some(_) => {
                let what = format!("two layouts of version {}", layout.version);
                self.broken("one chosen layout a version", what);
                return;
            }
            None => {}
        }
        let before = self.chosen.get(&(layout.version - 1));
        if before.is_none_or(|before| mark(before).0 != mark(layout).1) {
            let what = format!("version {} follows what was not chosen", layout.version);
            self.broken("each follows the chosen one before it", what);
        }
        self.trace(layout.version);
        self.chosen.insert(layout.version, Arc::clone(layout));
    }

    fn keep(&mut self, node: u16, layout: Arc<Layout>) {
        let here = &mut self.nodes[usize::from(node)];
        if layout.version > here.chosen.version {
            here.chosen = layout;
        }
    }

    /// The network is whole, everyone is awake: a change gets through, on top of everything chosen.
    fn heal(&mut self) {
        for node in &mut self.nodes {
            node.is_asleep = false;
            node.round = None;
        }
        let proposer = self.any_node();
        let before = self.newest();
        for _ in 0..60 {
            self.begin(proposer);
            let mut left = 20_000;
            while !self.bag.is_empty() && left > 0 {
                let at = self.random.index(self.bag.len());
                let envelope = self.bag.swap_remove(at);
                self.deliver(envelope);
                left -= 1;
            }
            let known = &self.nodes[usize::from(proposer)].chosen;
            if known.version > before {
                return;
            }
        }
        self.broken(LIVENESS, format!("nothing followed version {before}"));
    }
}

fn refused(node: &mut Node, from: u16, refusal: Refusal) -> Step {
    node.clock = node.clock.max(refusal.past.time.0);
    match &mut node.round {
        Some(round) => round.proposer.refused(id(from), refusal),
        None => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_register_holds_under_many_seeds_and_they_do_something() {
        let (mut versions, mut changes) = (0, 0);
        for seed in 0..1_500 {
            let report = run(seed, None);
            assert!(report.violations.is_empty(), "seed {seed}: {report:?}");
            versions += report.version;
            changes += report.control_changes;
        }
        assert!(
            versions > 1_500 * 3 && changes > 1_500,
            "{versions} {changes}"
        );
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        for seed in 0..50 {
            assert_eq!(run(seed, None).trace_hash, run(seed, None).trace_hash);
        }
    }

    #[test]
    fn every_mutation_is_caught() {
        for mutation in ControlMutation::ALL {
            let is_caught = (0..20_000).any(|seed| {
                let broken = run(seed, Some(*mutation)).violations;
                broken.iter().any(|(promise, _)| *promise != LIVENESS)
            });
            assert!(is_caught, "{}", mutation.name());
        }
    }
}
