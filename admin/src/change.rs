//! What is asked of the layout, by the names that people use, and its typed form.
//!
//! A node is named by its name or id, a disk by its id or the beginning of it (8 digits or more, as `ringfort status`
//! shows them).

use ringfort_ring::change::{Change, Drained, LayoutChange};
use ringfort_ring::id::{DiskId, NodeId};
use ringfort_ring::layout::{DiskEntry, DiskStanding, Layout, NodeStanding};
use serde::{Deserialize, Serialize};

/// The path of a preview.
pub const LAYOUT_PLAN_PATH: &str = "/admin/v1/layout/plan";
/// The path of changes.
pub const LAYOUT_CHANGES_PATH: &str = "/admin/v1/layout/changes";

/// Changes, all of them or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRequest {
    /// In this order. None at all, in a plan: what is under way.
    pub changes: Vec<WantedChange>,
    /// For a plan: the rate at which a node takes in, in bytes a second; `None`: the storage nodes' default.
    #[serde(default)]
    pub node_bytes_per_s: Option<u64>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum WantedChange {
    /// The disks of a node, or one disk, get their whole size as weight.
    Use {
        /// The node or disk.
        what: String,
    },
    /// A disk gets a weight.
    Weight {
        /// The disk.
        disk: String,
        /// Its weight.
        bytes: u64,
    },
    /// The disks of a node, or one disk, give up their partitions.
    Drain {
        /// The node or disk.
        what: String,
    },
    /// A node moves to a zone.
    Zone {
        /// The node.
        node: String,
        /// The zone.
        zone: String,
    },
    /// A node takes part (again).
    In {
        /// The node.
        node: String,
    },
    /// A node is worked on: it is never out by itself.
    Maintenance {
        /// The node.
        node: String,
    },
    /// A node or disk is lost: its partitions are made anew elsewhere. A disk never comes back.
    Out {
        /// The node or disk.
        what: String,
    },
    /// A node or disk that holds nothing leaves the layout.
    Remove {
        /// The node or disk.
        what: String,
    },
    /// N.
    Replicas {
        /// 1, 3 or 5.
        count: u8,
    },
    /// The nodes that decide the layout.
    Control {
        /// 1, 3 or 5 nodes.
        nodes: Vec<String>,
    },
    /// Moves that only balance stop.
    Pause,
    /// And go on.
    Resume,
    /// Moves go back, but for repair, and weights to what they were before.
    Abort,
}

/// A node or one of its disks.
enum Named<'a> {
    Node(NodeId),
    Disk(&'a DiskEntry),
}

impl ChangeRequest {
    /// The typed form, for this layout.
    ///
    /// # Errors
    /// In words, where a name means nothing or several things, or nothing is asked.
    pub fn resolve(&self, layout: &Layout) -> Result<LayoutChange, String> {
        let mut changes = Vec::new();
        for wanted in &self.changes {
            changes.extend(wanted.resolve(layout)?);
        }
        match changes.len() {
            0 => Err("no change is asked for".to_owned()),
            _ => Ok(LayoutChange::Apply(changes)),
        }
    }
}

type One = Change<ringfort_ring::change::Never>;

impl WantedChange {
    fn resolve(&self, layout: &Layout) -> Result<Vec<One>, String> {
        let standing = |node: &str, standing| {
            let node = node_named(layout, node)?;
            Ok::<_, String>(Change::SetStanding { node, standing })
        };
        let one = match self {
            Self::Use { what } => return use_all(layout, what),
            Self::Weight { disk, bytes } => Change::SetWeight {
                disk: disk_named(layout, disk)?.id,
                bytes: *bytes,
            },
            Self::Drain { what } => Change::Drain(match named(layout, what)? {
                Named::Node(node) => Drained::Node(node),
                Named::Disk(disk) => Drained::Disk(disk.id),
            }),
            Self::Zone { node, zone } => Change::SetZone {
                node: node_named(layout, node)?,
                zone: zone.clone(),
            },
            Self::In { node } => standing(node, NodeStanding::In)?,
            Self::Maintenance { node } => standing(node, NodeStanding::Maintenance)?,
            Self::Out { what } => match named(layout, what)? {
                Named::Node(node) => Change::SetStanding {
                    node,
                    standing: NodeStanding::Out,
                },
                Named::Disk(disk) => Change::DiskOut { disk: disk.id },
            },
            Self::Remove { what } => match named(layout, what)? {
                Named::Node(node) => Change::RemoveNode { node },
                Named::Disk(disk) => Change::RemoveDisk { disk: disk.id },
            },
            Self::Replicas { count } => Change::SetReplicas(*count),
            Self::Control { nodes } => Change::SetControl {
                nodes: nodes
                    .iter()
                    .map(|node| node_named(layout, node))
                    .collect::<Result<_, _>>()?,
            },
            Self::Pause => Change::Pause,
            Self::Resume => Change::Resume,
            Self::Abort => Change::Abort,
        };
        Ok(vec![one])
    }
}

/// Each disk of a node, or one disk, at its whole size.
fn use_all(layout: &Layout, what: &str) -> Result<Vec<One>, String> {
    let named = named(layout, what)?;
    let is_meant = |disk: &&DiskEntry| match &named {
        Named::Node(node) => layout.node_of(disk.id).is_some_and(|one| one.id == *node),
        Named::Disk(one) => one.id == disk.id,
    };
    let meant = layout.disks.iter().filter(is_meant);
    let whole = meant.filter(|disk| disk.standing == DiskStanding::In && disk.size_bytes > 0);
    let changes: Vec<One> = whole
        .map(|disk| Change::SetWeight {
            disk: disk.id,
            bytes: disk.size_bytes,
        })
        .collect();
    if changes.is_empty() {
        return Err(format!(
            "{what} has no disk that could be used: see `ringfort layout show`"
        ));
    }
    Ok(changes)
}

fn named<'a>(layout: &'a Layout, what: &str) -> Result<Named<'a>, String> {
    if let Ok(node) = node_named(layout, what) {
        return Ok(Named::Node(node));
    }
    let disk = disk_named(layout, what).map_err(|why| {
        if is_prefix(what) {
            why
        } else {
            format!(
                "no node is called {what}, and it is not a disk's id: see `ringfort layout show`"
            )
        }
    })?;
    Ok(Named::Disk(disk))
}

fn node_named(layout: &Layout, name: &str) -> Result<NodeId, String> {
    let nodes = layout.nodes.iter();
    let mut found = nodes.filter(|node| node.name == name || node.id.to_string() == name);
    match (found.next(), found.next()) {
        (Some(node), None) => Ok(node.id),
        (None, _) => Err(format!(
            "no node is called {name}: see `ringfort layout show`"
        )),
        (Some(_), Some(_)) => Err(format!(
            "several nodes are called {name}: give the id of the one that is meant"
        )),
    }
}

fn is_prefix(text: &str) -> bool {
    text.len() >= 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn disk_named<'a>(layout: &'a Layout, name: &str) -> Result<&'a DiskEntry, String> {
    let name = name.to_ascii_lowercase();
    if !is_prefix(&name) {
        return Err(format!(
            "{name} is not a disk's id, nor the first 8 digits of one: see `ringfort layout show`"
        ));
    }
    let disks = layout.disks.iter();
    let mut found = disks.filter(|disk| disk.id.to_string().starts_with(&name));
    match (found.next(), found.next()) {
        (Some(disk), None) => Ok(disk),
        (None, _) => Err(format!(
            "no disk has an id that begins with {name}: see `ringfort layout show`"
        )),
        (Some(_), Some(_)) => Err(format!(
            "several disks have an id that begins with {name}: give more of it"
        )),
    }
}

/// A disk's id, as short as people are shown it.
#[must_use]
pub fn short_id(id: DiskId) -> String {
    id.to_string().chars().take(8).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use crate::layout::{LayoutPlan, LayoutState};
    use ringfort_ring::assign::first_layout;
    use ringfort_ring::change::apply;
    use ringfort_ring::id::ClusterId;
    use ringfort_ring::plan::preview;
    use ringfort_ring::topology::{DiskSpec, NodeSpec, Topology};

    fn layout() -> Layout {
        let node = |number: u128| NodeSpec {
            id: NodeId::from_u128(number),
            name: format!("n{number}"),
            address: format!("127.0.0.1:{number}"),
            zone: format!("z{number}"),
            disks: vec![DiskSpec {
                id: DiskId::from_u128((0xabc0 + number) << 112),
                capacity_bytes: if number < 4 { 1_000 } else { 0 },
            }],
        };
        let topology = Topology {
            cluster: ClusterId::from_u128(1),
            replicas: 3,
            nodes: (1..=4).map(node).collect(),
            control: vec![NodeId::from_u128(1)],
        };
        let mut layout = first_layout(&topology, 64).unwrap();
        for disk in &mut layout.disks {
            disk.size_bytes = 1_000;
        }
        layout
    }

    fn request(json: &str) -> ChangeRequest {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn names_become_ids() {
        let layout = layout();
        let json = r#"{"changes": [
            {"use": {"what": "n4"}}, {"drain": {"what": "n1"}}, {"drain": {"what": "abc20000"}},
            {"zone": {"node": "n2", "zone": "attic"}}, {"maintenance": {"node": "n3"}},
            {"out": {"what": "ABC30000"}}, {"replicas": {"count": 1}},
            {"control": {"nodes": ["n2"]}}, "pause"]}"#;
        let request = request(json);
        let (disk, node) = (
            |number: u128| DiskId::from_u128((0xabc0 + number) << 112),
            NodeId::from_u128,
        );
        let expected = LayoutChange::Apply(vec![
            Change::SetWeight {
                disk: disk(4),
                bytes: 1_000,
            },
            Change::Drain(Drained::Node(node(1))),
            Change::Drain(Drained::Disk(disk(2))),
            Change::SetZone {
                node: node(2),
                zone: "attic".to_owned(),
            },
            Change::SetStanding {
                node: node(3),
                standing: NodeStanding::Maintenance,
            },
            Change::DiskOut { disk: disk(3) },
            Change::SetReplicas(1),
            Change::SetControl {
                nodes: vec![node(2)],
            },
            Change::Pause,
        ]);
        assert_eq!(request.resolve(&layout).unwrap(), expected);
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(
            serde_json::from_str::<ChangeRequest>(&text).unwrap(),
            request
        );
    }

    #[test]
    fn what_means_nothing_or_too_much_is_refused() {
        let mut layout = layout();
        let refused = |layout: &Layout, json: &str, says: &str| {
            let why = request(json).resolve(layout).unwrap_err();
            assert!(why.contains(says), "{why}");
        };
        refused(&layout, r#"{"changes": []}"#, "no change");
        let nine = r#"{"changes": [{"drain": {"what": "n9"}}]}"#;
        refused(&layout, nine, "no node is called n9");
        let weight = r#"{"changes": [{"weight": {"disk": "abc9000000", "bytes": 1}}]}"#;
        refused(&layout, weight, "no disk has an id");
        let short = r#"{"changes": [{"weight": {"disk": "abc1", "bytes": 1}}]}"#;
        refused(&layout, short, "first 8 digits");
        let two = r#"{"changes": [{"in": {"node": "n2"}}]}"#;
        layout.nodes[0].name = "n2".to_owned();
        refused(&layout, two, "several nodes");
        layout.disks[0].id = DiskId::from_u128((0xabc2 << 112) + 1);
        let both = r#"{"changes": [{"remove": {"what": "abc20000"}}]}"#;
        refused(&layout, both, "several disks");
        layout.disks[3].standing = DiskStanding::Out;
        let used = r#"{"changes": [{"use": {"what": "n4"}}]}"#;
        refused(&layout, used, "no disk that could be used");
        assert!(serde_json::from_str::<ChangeRequest>(r#"{"changes": [{"dran": {}}]}"#).is_err());
    }

    #[test]
    fn a_plan_shows_what_moves_and_warns_of_what_it_costs() {
        let layout = layout();
        let request = request(
            r#"{"changes": [{"use": {"what": "n4"}}, {"drain": {"what": "n1"}}, "pause"]}"#,
        );
        let next = apply(&layout, &request.resolve(&layout).unwrap()).unwrap();
        let preview = preview(&layout, &next, |_| 10);
        let plan = LayoutPlan::new(&layout, &preview, 10, 3);
        assert_eq!((plan.version, plan.replicas, plan.bytes), (1, 64, 640));
        assert_eq!((plan.replicas_least, plan.seconds), (64, 214));
        let rows: Vec<_> = plan
            .disks
            .iter()
            .map(|disk| (disk.node.as_str(), disk.bytes_in, disk.bytes_out))
            .collect();
        assert_eq!(rows, [("n1", 0, 640), ("n4", 640, 0)]);
        assert!(plan.warnings[0].contains("paused"), "{:?}", plan.warnings);
        let full = LayoutPlan::new(&layout, &preview, 20, 3);
        let is_full = |warning: &&String| warning.contains("would be full");
        assert_eq!(full.warnings.iter().filter(is_full).count(), 3);
        let state = LayoutState::new(&layout);
        assert_eq!(state.nodes[3].disks[0].partitions, 0);
        assert_eq!(state.nodes[0].disks[0].share, 64);
        assert_eq!(state.evenness.zones, 3);
    }
}
