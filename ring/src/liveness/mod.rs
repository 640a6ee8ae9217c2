//! Who is alive (DESIGN 7): suspect, down, out, and in again.
//!
//! A state machine: nodes report how long others have been silent ([`Liveness::observe`]), disks how long their syncs
//! take ([`Liveness::observe_sync`]); [`Liveness::tick`] says what follows. Nothing here is remembered anywhere else: a
//! new conductor starts with an empty one and is as careful as if everything had just begun.
//!
//! - *suspect*: more reporters miss it than hear it. It is routed around;
//! - *down*: enough reporters, in distinct zones where there are several, have missed it for long, and more than hear it;
//! - *out*: down for so long that its partitions go to others, unless a brake ([`Brake`]) holds it;
//! - *returning*: heard again, and not yet for long enough. The more often a node came and went, the longer that takes.
//!
//! A verdict holds for the version of the layout that [`Liveness::tick`] was given. Who acts on [`Verdict::Out`]
//! proposes exactly the next version and drops the verdict when that is lost to another change; so the brakes count
//! right whatever becomes of it.

use crate::id::{DiskId, NodeId};
use crate::layout::{DiskStanding, Layout, NodeStanding};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

mod brakes;
mod evidence;
mod settings;
mod slow;

pub use brakes::Brake;
pub use settings::LivenessSettings;

use brakes::Brakes;
use evidence::{Evidence, Reports};
use slow::SlowDisk;

/// What follows from what was observed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The node is missed by some: route around it. Told once.
    Suspect(NodeId),
    /// The node is down. Told once.
    Down(NodeId),
    /// The node is heard again after it was down, and is watched until it is up. Told once.
    Returning(NodeId),
    /// The node is up again. Told once.
    Up(NodeId),
    /// The node's partitions shall go to others: set its standing to out. Told until the layout says so.
    Out(NodeId),
    /// The node would be out but for a brake. Told once for each reason.
    Held(NodeId, Brake),
    /// The node is out and has been back for long enough: set its standing to in. Told until the layout says so.
    BackIn(NodeId),
    /// The disk is lost: set its standing to out. Told until the layout says so.
    DiskOut(DiskId),
    /// The disk's syncs take long: route around it. Never out by that alone. Told once.
    Slow(DiskId),
    /// The disk's syncs are quick again. Told once.
    Quick(DiskId),
}

/// How a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// Heard.
    Up,
    /// Missed by some.
    Suspect,
    /// Missed for long by enough.
    Down,
    /// Heard again, not for long enough yet.
    Returning,
}

/// What is known of a node, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeState {
    /// How it is.
    pub health: Health,
    /// Since when, by the clock that `tick` is given.
    pub since_ms: u64,
    /// How often it went down lately.
    pub flaps: u32,
    /// What keeps it from being out.
    pub held: Option<Brake>,
}

/// What else is known when a verdict is given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// Disks whose identity is over: a failed sync, an old copy, rot that cannot be named.
    pub lost: &'a [DiskId],
    /// How many bytes each disk holds, where that is known. Nothing known, no check of room.
    pub used_bytes: &'a [(DiskId, u64)],
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Liveness {
    settings: LivenessSettings,
    watched: BTreeMap<NodeId, Watched>,
    disks: BTreeMap<DiskId, SlowDisk>,
    /// Nodes that were said to be out, and for which version of the layout. Until there is another version they count
    /// as out: somebody may be proposing it.
    proposed: BTreeSet<NodeId>,
    proposed_for: u64,
    last_tick_ms: Option<u64>,
}

#[derive(Clone, Debug)]
struct Watched {
    reports: Reports,
    health: Health,
    since_ms: u64,
    /// Since when it is down; kept while it is returning, so that a node that comes and goes is out at last.
    down_since_ms: u64,
    /// Since when it was seen to be down without a gap in the watch.
    confirmed_since_ms: u64,
    flaps: u32,
    last_flap_ms: u64,
    held: Option<Brake>,
    was_out: bool,
}

impl Liveness {
    /// One that has seen nothing yet.
    #[must_use]
    pub const fn new(settings: LivenessSettings) -> Self {
        Self {
            settings,
            watched: BTreeMap::new(),
            disks: BTreeMap::new(),
            proposed: BTreeSet::new(),
            proposed_for: 0,
            last_tick_ms: None,
        }
    }

    /// Takes in that `reporter` has not heard `about` for so long.
    pub fn observe(&mut self, now_ms: u64, reporter: NodeId, about: NodeId, silent_ms: u64) {
        let watched = self.watched.entry(about);
        let watched = watched.or_insert_with(|| Watched::new(now_ms));
        watched.reports.take(now_ms, reporter, silent_ms);
    }

    /// Takes in how long a disk's syncs take, as the median since it last said so.
    pub fn observe_sync(&mut self, now_ms: u64, disk: DiskId, median_ms: u64) {
        let slow = self.disks.entry(disk).or_default();
        slow.take(now_ms, median_ms, &self.settings);
    }

    /// How a node is; `None` where nothing was heard of it.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<NodeState> {
        let watched = self.watched.get(&node)?;
        Some(NodeState {
            health: watched.health,
            since_ms: watched.since_ms,
            flaps: watched.flaps,
            held: watched.held,
        })
    }

    /// Whether a disk's syncs take long.
    #[must_use]
    pub fn is_slow(&self, disk: DiskId) -> bool {
        self.disks.get(&disk).is_some_and(SlowDisk::is_slow)
    }

    /// The nodes that do not answer: down, by name of [`crate::assign::Limits::silent`].
    #[must_use]
    pub fn silent(&self) -> Vec<NodeId> {
        let down = |(_, watched): &(&NodeId, &Watched)| watched.health == Health::Down;
        let nodes = self.watched.iter().filter(down);
        nodes.map(|(id, _)| *id).collect()
    }

    /// Says what follows from everything so far. Call it about once a second.
    pub fn tick(&mut self, now_ms: u64, layout: &Layout, facts: &Facts<'_>) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let last = self.last_tick_ms.replace(now_ms).unwrap_or(now_ms);
        if now_ms.saturating_sub(last) > self.settings.report_ttl_ms {
            // Nobody watched meanwhile: what has to be steady begins anew.
            for watched in self.watched.values_mut() {
                watched.restart(now_ms);
            }
        }
        self.watched.retain(|id, _| layout.node(*id).is_some());
        let known: BTreeSet<DiskId> = layout.disks.iter().map(|disk| disk.id).collect();
        self.disks.retain(|id, _| known.contains(id));

        let evidence = self.judge(now_ms, layout);
        for node in &layout.nodes {
            let is_out = node.standing == NodeStanding::Out;
            let watched = self.watched.entry(node.id);
            let watched = watched.or_insert_with(|| Watched::new(now_ms));
            watched.note_standing(now_ms, is_out);
            let evidence = evidence.get(&node.id).copied().unwrap_or_default();
            let change = watched.step(now_ms, evidence, &self.settings);
            verdicts.extend(change.map(|health| match health {
                Health::Up => Verdict::Up(node.id),
                Health::Suspect => Verdict::Suspect(node.id),
                Health::Down => Verdict::Down(node.id),
                Health::Returning => Verdict::Returning(node.id),
            }));
            if is_out && watched.health == Health::Up {
                verdicts.push(Verdict::BackIn(node.id));
            }
        }
        self.put_out(now_ms, layout, facts, &evidence, &mut verdicts);
        for disk in &layout.disks {
            if disk.standing == DiskStanding::In && facts.lost.contains(&disk.id) {
                verdicts.push(Verdict::DiskOut(disk.id));
            }
        }
        for (id, disk) in &mut self.disks {
            verdicts.extend(disk.change(now_ms, &self.settings).map(|is_slow| {
                if is_slow {
                    Verdict::Slow(*id)
                } else {
                    Verdict::Quick(*id)
                }
            }));
        }
        verdicts
    }

    fn judge(&self, now_ms: u64, layout: &Layout) -> BTreeMap<NodeId, Evidence> {
        let is_down = |id: NodeId| {
            let watched = self.watched.get(&id);
            watched.is_some_and(|watched| watched.health == Health::Down)
        };
        let nodes = layout.nodes.iter().filter_map(|node| {
            let reports = &self.watched.get(&node.id)?.reports;
            let evidence = reports.judge(now_ms, node.id, layout, &is_down, &self.settings);
            Some((node.id, evidence))
        });
        nodes.collect()
    }

    /// Says who is out, as far as the brakes allow.
    fn put_out(
        &mut self,
        now_ms: u64,
        layout: &Layout,
        facts: &Facts<'_>,
        evidence: &BTreeMap<NodeId, Evidence>,
        verdicts: &mut Vec<Verdict>,
    ) {
        if self.proposed_for != layout.version {
            self.proposed.clear();
            self.proposed_for = layout.version;
        }
        let is_due = |id: NodeId| {
            let watched = self.watched.get(&id);
            let is_seen_down = evidence.get(&id).is_some_and(|evidence| evidence.is_down);
            is_seen_down && watched.is_some_and(|watched| watched.is_due(now_ms, &self.settings))
        };
        let nodes = layout.nodes.iter().enumerate();
        let mut due: Vec<(bool, u64, NodeId, usize)> = nodes
            .filter(|(_, node)| node.standing == NodeStanding::In && is_due(node.id))
            .map(|(index, node)| {
                let since = self.watched.get(&node.id).map(|one| one.down_since_ms);
                let is_new = !self.proposed.contains(&node.id);
                (is_new, since.unwrap_or(now_ms), node.id, index)
            })
            .collect();
        let mut held = BTreeMap::new();
        if !due.is_empty() {
            // Who was named before is named first: it may be on its way.
            due.sort_unstable();
            let silent = self.silent();
            let mut brakes = Brakes::new(layout, facts, &silent, &self.proposed);
            for (is_new, _, id, index) in due {
                let brake = if is_new {
                    brakes.check(index, &self.settings)
                } else {
                    None
                };
                if let Some(brake) = brake {
                    held.insert(id, brake);
                    continue;
                }
                if is_new && !brakes.is_needed(index) {
                    continue;
                }
                brakes.count_out(index);
                self.proposed.insert(id);
                verdicts.push(Verdict::Out(id));
            }
        }
        for (id, watched) in &mut self.watched {
            let brake = held.get(id).copied();
            if let Some(brake) = brake.filter(|brake| watched.held != Some(*brake)) {
                verdicts.push(Verdict::Held(*id, brake));
            }
            watched.held = brake;
        }
    }
}

impl Watched {
    const fn new(now_ms: u64) -> Self {
        Self {
            reports: Reports::new(),
            health: Health::Up,
            since_ms: now_ms,
            down_since_ms: now_ms,
            confirmed_since_ms: now_ms,
            flaps: 0,
            last_flap_ms: 0,
            held: None,
            was_out: false,
        }
    }

    /// Begins anew whatever has to be watched without a gap.
    const fn restart(&mut self, now_ms: u64) {
        self.confirmed_since_ms = now_ms;
        if matches!(self.health, Health::Down) {
            // It may have been back meanwhile: whether and for how long it is gone is judged by what is said now.
            self.health = Health::Suspect;
        }
        if matches!(self.health, Health::Returning) {
            self.since_ms = now_ms;
        }
    }

    /// A node that is out has to show that it is back, whatever it was before.
    const fn note_standing(&mut self, now_ms: u64, is_out: bool) {
        if is_out && !self.was_out && !matches!(self.health, Health::Down) {
            self.health = Health::Returning;
            self.since_ms = now_ms;
        }
        self.was_out = is_out;
    }

    fn step(
        &mut self,
        now_ms: u64,
        evidence: Evidence,
        settings: &LivenessSettings,
    ) -> Option<Health> {
        let next = match self.health {
            Health::Up | Health::Suspect if evidence.is_down => {
                let longer_ms = evidence.agreed_ms.saturating_sub(settings.down_after_ms);
                self.down_since_ms = now_ms.saturating_sub(longer_ms);
                self.went_down(now_ms, settings);
                Health::Down
            }
            Health::Up if evidence.is_suspect => Health::Suspect,
            Health::Suspect if evidence.is_heard => Health::Up,
            Health::Down if evidence.is_heard => Health::Returning,
            Health::Returning if evidence.is_down => {
                self.went_down(now_ms, settings);
                Health::Down
            }
            Health::Returning if !evidence.is_heard => {
                self.since_ms = now_ms;
                Health::Returning
            }
            Health::Returning => {
                let steady_ms = settings.steady_for(self.flaps);
                if now_ms.saturating_sub(self.since_ms) < steady_ms {
                    return None;
                }
                Health::Up
            }
            other => other,
        };
        if next == self.health {
            return None;
        }
        self.health = next;
        self.since_ms = now_ms;
        Some(next)
    }

    fn went_down(&mut self, now_ms: u64, settings: &LivenessSettings) {
        let quiet_ms = now_ms.saturating_sub(self.last_flap_ms);
        let forgotten = quiet_ms / settings.flap_forget_ms.max(1);
        let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX);
        self.flaps = self.flaps.saturating_sub(forgotten).saturating_add(1);
        self.last_flap_ms = now_ms;
        self.confirmed_since_ms = now_ms;
    }

    /// Whether it is down for so long that it ought to be out.
    fn is_due(&self, now_ms: u64, settings: &LivenessSettings) -> bool {
        self.health == Health::Down
            && now_ms.saturating_sub(self.down_since_ms) >= settings.out_after_ms
            && now_ms.saturating_sub(self.confirmed_since_ms) >= settings.down_after_ms
    }
}

#[cfg(test)]
mod tests;
