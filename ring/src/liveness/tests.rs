//! Histories a person can read, and the brakes against any history.
#![allow(clippy::unwrap_used, reason = "test code")]

use super::*;
use crate::assign::first_layout;
use crate::id::ClusterId;
use crate::topology::{DiskSpec, NodeSpec, Topology};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

fn layout(words: &[(String, String)], replicas: u8) -> Layout {
    let nodes: Vec<NodeSpec> = words
        .iter()
        .enumerate()
        .map(|(index, (name, zone))| {
            let number = u128::try_from(index).unwrap() + 1;
            NodeSpec {
                id: NodeId::from_u128(number),
                name: name.clone(),
                address: "127.0.0.1:1".to_string(),
                zone: zone.clone(),
                disks: vec![DiskSpec {
                    id: DiskId::from_u128(number),
                    capacity_bytes: 1_000,
                }],
            }
        })
        .collect();
    let topology = Topology {
        cluster: ClusterId::from_u128(1),
        replicas,
        control: vec![NodeId::from_u128(1)],
        nodes,
    };
    first_layout(&topology, 64).unwrap()
}

/// A cluster as the table's words make it.
struct World {
    layout: Layout,
    liveness: Liveness,
    now_ms: u64,
    silent: BTreeSet<NodeId>,
    cut: BTreeSet<(NodeId, NodeId)>,
    /// When a reporter last heard another.
    heard_ms: BTreeMap<(NodeId, NodeId), u64>,
    lost: Vec<DiskId>,
    sync_ms: BTreeMap<DiskId, u64>,
    used: BTreeMap<DiskId, u64>,
}

impl World {
    fn new(words: &str) -> Self {
        let words: Vec<(String, String)> = words
            .split_whitespace()
            .map(|word| {
                let (name, zone) = word.split_once(':').unwrap();
                (name.to_string(), zone.to_string())
            })
            .collect();
        let replicas = if words.len() < 3 { 1 } else { 3 };
        Self {
            layout: layout(&words, replicas),
            liveness: Liveness::new(LivenessSettings::default()),
            now_ms: 0,
            silent: BTreeSet::new(),
            cut: BTreeSet::new(),
            heard_ms: BTreeMap::new(),
            lost: Vec::new(),
            sync_ms: BTreeMap::new(),
            used: BTreeMap::new(),
        }
    }

    fn index(&self, name: &str) -> usize {
        let mut nodes = self.layout.nodes.iter();
        nodes.position(|node| node.name == name).unwrap()
    }

    fn id(&self, name: &str) -> NodeId {
        self.layout.nodes[self.index(name)].id
    }

    fn disk(&self, name: &str) -> DiskId {
        self.layout.disks[self.index(name)].id
    }

    fn ids(&self) -> Vec<NodeId> {
        self.layout.nodes.iter().map(|node| node.id).collect()
    }

    /// One second: everybody who is there hears whom it can, and reports.
    fn second(&mut self, is_watched: bool) -> Vec<Verdict> {
        self.now_ms += 1_000;
        let ids = self.ids();
        for reporter in &ids {
            for about in ids.iter().filter(|about| *about != reporter) {
                let pair = (*reporter, *about);
                let hears = !self.silent.contains(about) && !self.cut.contains(&pair);
                let heard = self.heard_ms.entry(pair).or_insert(0);
                if hears {
                    *heard = self.now_ms;
                }
                if is_watched && !self.silent.contains(reporter) {
                    let silent_ms = self.now_ms - *heard;
                    let now_ms = self.now_ms;
                    self.liveness.observe(now_ms, *reporter, *about, silent_ms);
                }
            }
        }
        if !is_watched {
            return Vec::new();
        }
        for (disk, median_ms) in &self.sync_ms {
            self.liveness.observe_sync(self.now_ms, *disk, *median_ms);
        }
        let used: Vec<(DiskId, u64)> = self.used.iter().map(|(id, used)| (*id, *used)).collect();
        let facts = Facts {
            lost: &self.lost,
            used_bytes: &used,
        };
        self.liveness.tick(self.now_ms, &self.layout, &facts)
    }

    fn set(&mut self, node: NodeId, standing: NodeStanding) {
        let (index, _) = self.layout.node(node).unwrap();
        self.layout.nodes[index].standing = standing;
        self.layout.version += 1;
    }

    fn carry_out(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Out(node) => self.set(node, NodeStanding::Out),
            Verdict::BackIn(node) => self.set(node, NodeStanding::In),
            Verdict::DiskOut(disk) => {
                let (index, _) = self.layout.disk(disk).unwrap();
                self.layout.disks[index].standing = DiskStanding::Out;
                self.layout.version += 1;
            }
            _ => {}
        }
    }

    fn say(&self, verdict: Verdict) -> String {
        let node = |id: NodeId| self.layout.node(id).unwrap().1.name.clone();
        let disk = |id: DiskId| {
            let (index, _) = self.layout.disk(id).unwrap();
            self.layout.nodes[index].name.clone()
        };
        match verdict {
            Verdict::Suspect(id) => format!("suspect {}", node(id)),
            Verdict::Down(id) => format!("down {}", node(id)),
            Verdict::Returning(id) => format!("returning {}", node(id)),
            Verdict::Up(id) => format!("up {}", node(id)),
            Verdict::Out(id) => format!("out {}", node(id)),
            Verdict::BackIn(id) => format!("in {}", node(id)),
            Verdict::DiskOut(id) => format!("disk-out {}", disk(id)),
            Verdict::Slow(id) => format!("slow {}", disk(id)),
            Verdict::Quick(id) => format!("quick {}", disk(id)),
            Verdict::Held(id, brake) => {
                let why = match brake {
                    Brake::OnlyCopy => "only-copy",
                    Brake::OtherZone => "other-zone",
                    Brake::TooManyOut => "too-many",
                    Brake::TooFewPlaces => "few-places",
                    Brake::TooFewBytes => "few-bytes",
                };
                format!("held {} {why}", node(id))
            }
        }
    }

    fn line(&mut self, verb: &str, rest: &str) -> Option<Vec<String>> {
        let names: Vec<&str> = rest.split_whitespace().collect();
        match verb {
            "silent" => self
                .silent
                .extend(names.iter().map(|n| self.id(n)).collect::<Vec<_>>()),
            "back" => {
                for name in names {
                    let id = self.id(name);
                    self.silent.remove(&id);
                }
            }
            "cut" => {
                self.cut.insert((self.id(names[0]), self.id(names[1])));
            }
            "join" => {
                self.cut.remove(&(self.id(names[0]), self.id(names[1])));
            }
            "maintenance" => self.set(self.id(names[0]), NodeStanding::Maintenance),
            "in" => self.set(self.id(names[0]), NodeStanding::In),
            "out" => self.set(self.id(names[0]), NodeStanding::Out),
            "lost" => self.lost.push(self.disk(names[0])),
            "sync" => {
                self.sync_ms
                    .insert(self.disk(names[0]), names[1].parse().unwrap());
            }
            "used" => {
                self.used
                    .insert(self.disk(names[0]), names[1].parse().unwrap());
            }
            "pause" => {
                for _ in 0..names[0].parse().unwrap() {
                    self.second(false);
                }
            }
            "run" => {
                let mut said = Vec::new();
                for _ in 0..names[0].parse().unwrap() {
                    for verdict in self.second(true) {
                        said.push(self.say(verdict));
                        self.carry_out(verdict);
                    }
                }
                return Some(said);
            }
            other => panic!("what is {other}?"),
        }
        None
    }
}

#[test]
fn histories_go_as_the_table_says() {
    let mut world = World::new("a:x b:x c:x");
    let (mut case, mut wrong) = ("", Vec::new());
    for line in include_str!("../testdata/liveness.txt").lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (verb, rest) = line.split_once(' ').unwrap();
        match verb {
            "case" => case = rest,
            "nodes" => world = World::new(rest),
            _ => {
                let (words, expected) = rest.split_once("->").unwrap_or((rest, ""));
                if let Some(said) = world.line(verb, words) {
                    let said = said.join(", ");
                    if said != expected.trim() {
                        wrong.push(format!("{case}: {line}\n    {said}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Whoever proposed an Out loses it when another change of the layout comes first; so two are never out where the
/// brakes allow one, though the first was slow to be carried out.
#[test]
fn an_out_on_its_way_counts() {
    let mut world = World::new("a:x b:x c:x d:x e:x f:x");
    let e = world.id("e");
    world.silent.insert(e);
    let outs = |said: Vec<Verdict>| -> Vec<Verdict> {
        let is_out = |verdict: &Verdict| matches!(verdict, Verdict::Out(_));
        said.into_iter().filter(is_out).collect()
    };
    let mut seen = Vec::new();
    while seen.is_empty() {
        seen = outs(world.second(true));
        if world.now_ms == 60_000 {
            let d = world.id("d");
            world.silent.insert(d);
        }
    }
    assert_eq!(seen, [Verdict::Out(e)]);
    // Nobody carries it out; d is due too, and its name comes first.
    for _ in 0..100 {
        assert_eq!(outs(world.second(true)), [Verdict::Out(e)]);
    }
    // Even if it comes back: somebody may be proposing it.
    world.silent.remove(&e);
    for _ in 0..100 {
        assert_eq!(outs(world.second(true)), []);
    }
    // Another version without it: it was lost, and the other one's turn has come.
    world.layout.version += 1;
    assert_eq!(outs(world.second(true)), [Verdict::Out(world.id("d"))]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]
    /// Whatever is reported by whomever, and whenever verdicts are carried out: the brakes hold.
    #[test]
    fn no_history_outs_more_than_the_brakes_allow(
        zones in proptest::collection::vec(0_u8..4, 3..10),
        steps in proptest::collection::vec(
            (0_usize..10, 0_usize..10, proptest::bool::ANY, 1_u64..300, proptest::bool::ANY), 1..40),
    ) {
        let words: Vec<String> = zones.iter().enumerate()
            .map(|(index, zone)| format!("n{index}:z{zone}")).collect();
        let mut world = World::new(&words.join(" "));
        let ids = world.ids();
        for (a, b, is_cut, seconds, carries_out) in steps {
            let (a, b) = (ids[a % ids.len()], ids[b % ids.len()]);
            if a == b {
                if is_cut { world.silent.insert(a); } else { world.silent.remove(&a); }
            } else if is_cut { world.cut.insert((a, b)); } else { world.cut.remove(&(a, b)); }
            // Verdicts are carried out when a step is over, and each for the version that it was given for.
            let mut pending: Vec<(u64, Verdict)> = Vec::new();
            for second in 0..seconds {
                let version = world.layout.version;
                for verdict in world.second(true) {
                    if let Verdict::Out(_) | Verdict::BackIn(_) = verdict {
                        pending.push((version, verdict));
                    }
                }
                if carries_out && second % 7 == 0 {
                    for (version, verdict) in core::mem::take(&mut pending) {
                        // One version may carry several: all verdicts of one tick, or of several, for it.
                        let is_current = version == world.layout.version;
                        if is_current { carry_out_within(&mut world, verdict); }
                    }
                    world.layout.version += 1;
                }
            }
            for (version, verdict) in pending {
                if version == world.layout.version { carry_out_within(&mut world, verdict); }
            }
            world.layout.version += 1;
            assert_brakes(&world.layout)?;
        }
    }
}

/// Carries a verdict out without ending the version yet.
fn carry_out_within(world: &mut World, verdict: Verdict) {
    let version = world.layout.version;
    world.carry_out(verdict);
    world.layout.version = version;
}

fn assert_brakes(layout: &Layout) -> Result<(), proptest::test_runner::TestCaseError> {
    let out = |node: &&crate::layout::NodeEntry| node.standing == NodeStanding::Out;
    let outs: Vec<_> = layout.nodes.iter().filter(out).collect();
    let zones: BTreeSet<_> = outs.iter().map(|node| &node.zone).collect();
    proptest::prop_assert!(zones.len() <= 1, "{zones:?}");
    let left = layout.nodes.len() - outs.len();
    proptest::prop_assert!(left * 4 >= layout.nodes.len() * 3);
    proptest::prop_assert!(left >= 3);
    let of = |nodes: Vec<&crate::layout::NodeEntry>| -> usize {
        nodes
            .iter()
            .map(|node| &node.zone)
            .collect::<BTreeSet<_>>()
            .len()
            .min(3)
    };
    let before = of(layout.nodes.iter().collect());
    let after = of(layout.nodes.iter().filter(|node| !out(node)).collect());
    proptest::prop_assert!(outs.is_empty() || after == before);
    Ok(())
}
