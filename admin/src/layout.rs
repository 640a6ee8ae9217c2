//! The layout, and what a change of it comes to, as the admin API shows them. Fields are only ever added.

use ringfort_ring::assign::shares;
use ringfort_ring::id::DiskId;
use ringfort_ring::layout::{DiskStanding, Layout, NodeStanding, Row};
use ringfort_ring::plan::{Preview, Standing, standing};
use serde::{Deserialize, Serialize};

/// The path of the layout.
pub const LAYOUT_PATH: &str = "/admin/v1/layout";

/// Bytes a second that a node takes in where nobody says otherwise: what storage nodes allow moves that only balance.
pub const NODE_BYTES_PER_S: u64 = 64 << 20;

/// The layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutState {
    /// The cluster's id.
    pub cluster_id: String,
    /// Its era.
    pub era: u32,
    /// Its version.
    pub version: u64,
    /// N.
    pub replicas: u8,
    /// P.
    pub partitions: u64,
    /// Partitions on the move.
    pub moving: u64,
    /// Whether moves that only balance are stopped.
    pub is_balancing_paused: bool,
    /// The names of the nodes that decide the layout.
    pub control: Vec<String>,
    /// The names of those that did before a change under way.
    pub control_before: Vec<String>,
    /// How even it is.
    pub evenness: Evenness,
    /// The nodes.
    pub nodes: Vec<LayoutNode>,
}

/// A node of the layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutNode {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// Its internode address.
    pub address: String,
    /// `in`, `maintenance` or `out`.
    pub standing: String,
    /// Its disks.
    pub disks: Vec<LayoutDisk>,
}

/// A disk of the layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutDisk {
    /// Its id.
    pub id: String,
    /// `in` or `out`.
    pub standing: String,
    /// Its weight.
    pub weight_bytes: u64,
    /// Its weight before the last change of weights: what an abort goes back to.
    pub weight_before_bytes: u64,
    /// How large it said it is when it joined.
    pub size_bytes: u64,
    /// Partitions that it is a member of.
    pub partitions: u64,
    /// Of these, those that it has yet to get.
    pub coming: u64,
    /// Partitions that are its share by weight, as far as the failure domains allow.
    pub share: u64,
}

/// How even a layout is, and how far apart its copies are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evenness {
    /// The largest deviation of a disk from its share by weight alone, in hundredths of a percent.
    pub off_weight: u64,
    /// The largest deviation of a disk from its share as far as the failure domains allow it, likewise.
    pub off_share: u64,
    /// The fewest distinct nodes that a partition has.
    pub nodes: u64,
    /// The fewest distinct zones that a partition has.
    pub zones: u64,
    /// The most distinct zones that each partition could have.
    pub zones_possible: u64,
    /// Partitions with less than N members that take part.
    pub incomplete: u64,
}

/// What a change comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutPlan {
    /// The version that it was computed for.
    pub version: u64,
    /// Partitions with a member that changes.
    pub partitions: u64,
    /// Replicas to be made.
    pub replicas: u64,
    /// The fewest that lead to the same balance.
    pub replicas_least: u64,
    /// Bytes that a replica holds, on average, as the nodes say now.
    pub replica_bytes: u64,
    /// Bytes to be copied.
    pub bytes: u64,
    /// Bytes that the busiest node takes in.
    pub busiest_node_bytes: u64,
    /// The rate that the time is reckoned with.
    pub node_bytes_per_s: u64,
    /// How long that takes the busiest node, in seconds.
    pub seconds: u64,
    /// How even it is now, by the weights then.
    pub before: Evenness,
    /// How even it will be.
    pub after: Evenness,
    /// The disks whose partitions change.
    pub disks: Vec<PlannedDisk>,
    /// What to think about first.
    pub warnings: Vec<String>,
}

/// What it means for one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedDisk {
    /// Its node's name.
    pub node: String,
    /// Its id.
    pub disk: String,
    /// Its weight then.
    pub weight_bytes: u64,
    /// Partitions now.
    pub partitions_before: u64,
    /// Partitions then.
    pub partitions_after: u64,
    /// Bytes that come.
    pub bytes_in: u64,
    /// Bytes that go.
    pub bytes_out: u64,
}

/// A change that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The layout's version that has it.
    pub version: u64,
}

/// A standing, as it is written.
#[must_use]
pub const fn standing_name(standing: NodeStanding) -> &'static str {
    match standing {
        NodeStanding::In => "in",
        NodeStanding::Maintenance => "maintenance",
        NodeStanding::Out => "out",
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl LayoutState {
    /// Of a layout.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        let names = |indexes: &[u16]| {
            let nodes = indexes
                .iter()
                .filter_map(|at| layout.nodes.get(usize::from(*at)));
            nodes.map(|node| node.name.clone()).collect()
        };
        let disks = disks_of(layout);
        let nodes = layout.nodes.iter().enumerate().map(|(index, node)| {
            let of_node = layout.disks.iter().zip(&disks);
            let of_node = of_node.filter(|(disk, _)| usize::from(disk.node) == index);
            LayoutNode {
                id: node.id.to_string(),
                name: node.name.clone(),
                zone: node.zone.clone(),
                address: node.address.clone(),
                standing: standing_name(node.standing).to_owned(),
                disks: of_node.map(|(_, disk)| disk.clone()).collect(),
            }
        });
        Self {
            cluster_id: layout.cluster.to_string(),
            era: layout.era.0,
            version: layout.version,
            replicas: layout.replicas,
            partitions: wide(layout.rows.len()),
            moving: wide(layout.rows.iter().filter(|row| row.is_joint()).count()),
            is_balancing_paused: layout.is_balancing_paused,
            control: names(&layout.control),
            control_before: names(&layout.control_before),
            evenness: standing(layout).into(),
            nodes: nodes.collect(),
        }
    }
}

fn disks_of(layout: &Layout) -> Vec<LayoutDisk> {
    let mut held = vec![0_u64; layout.disks.len()];
    let mut coming = held.clone();
    for row in &layout.rows {
        for member in row.holders() {
            held[usize::from(member.disk)] += 1;
        }
        let newcomers = newcomers(row);
        newcomers.for_each(|disk| coming[disk] += 1);
    }
    let disks = layout.disks.iter().zip(shares(layout)).enumerate();
    disks
        .map(|(at, (disk, share))| LayoutDisk {
            id: disk.id.to_string(),
            standing: match disk.standing {
                DiskStanding::In => "in".to_owned(),
                DiskStanding::Out => "out".to_owned(),
            },
            weight_bytes: disk.capacity_bytes,
            weight_before_bytes: disk.capacity_before_bytes,
            size_bytes: disk.size_bytes,
            partitions: held[at],
            coming: coming[at],
            share: wide(share),
        })
        .collect()
}

fn newcomers(row: &Row) -> impl Iterator<Item = usize> {
    let old = match &row.members {
        ringfort_ring::layout::Members::Joint { old, .. } => Some(old),
        ringfort_ring::layout::Members::Stable(_) => None,
    };
    let is_new =
        move |member: &&ringfort_ring::layout::Member| old.is_some_and(|old| !old.contains(member));
    let wanted = row.wanted().iter().filter(is_new);
    wanted.map(|member| usize::from(member.disk))
}

impl From<Standing> for Evenness {
    fn from(standing: Standing) -> Self {
        Self {
            off_weight: standing.off_weight,
            off_share: standing.off_share,
            nodes: standing.nodes,
            zones: standing.zones,
            zones_possible: standing.zones_possible,
            incomplete: standing.incomplete,
        }
    }
}

impl LayoutPlan {
    /// Of a preview. `before` is the layout that it was made for.
    #[must_use]
    pub fn new(before: &Layout, preview: &Preview, replica_bytes: u64, rate: u64) -> Self {
        let outcome = &preview.outcome;
        let rate = rate.max(1);
        let node_of = |id: DiskId| {
            let name = outcome.node_of(id).map(|node| node.name.clone());
            name.unwrap_or_default()
        };
        let disks = preview.disks.iter().zip(&outcome.disks);
        let touched = disks.filter(|(disk, _)| {
            disk.partitions_before != disk.partitions_after || disk.bytes_in + disk.bytes_out > 0
        });
        Self {
            version: before.version,
            partitions: preview.partitions,
            replicas: preview.replicas,
            replicas_least: preview.replicas_least,
            replica_bytes,
            bytes: preview.bytes,
            busiest_node_bytes: preview.busiest_node_bytes,
            node_bytes_per_s: rate,
            seconds: preview.busiest_node_bytes.div_ceil(rate),
            before: preview.before.into(),
            after: preview.after.into(),
            disks: touched
                .map(|(disk, entry)| PlannedDisk {
                    node: node_of(disk.disk),
                    disk: disk.disk.to_string(),
                    weight_bytes: entry.capacity_bytes,
                    partitions_before: disk.partitions_before,
                    partitions_after: disk.partitions_after,
                    bytes_in: disk.bytes_in,
                    bytes_out: disk.bytes_out,
                })
                .collect(),
            warnings: warnings(preview, replica_bytes),
        }
    }
}

/// What an operator ought to think about before.
fn warnings(preview: &Preview, replica_bytes: u64) -> Vec<String> {
    let (outcome, before, after) = (&preview.outcome, &preview.before, &preview.after);
    let mut warnings = Vec::new();
    if outcome.is_balancing_paused {
        warnings.push(
            "balancing is paused: nothing but repair moves before `ringfort layout resume`"
                .to_owned(),
        );
    }
    if after.nodes < before.nodes && after.nodes < u64::from(outcome.replicas) {
        warnings.push(format!(
            "some partitions would have all copies on {} nodes: losing one node may take a majority with it",
            after.nodes
        ));
    }
    if after.zones < before.zones && after.zones < u64::from(outcome.replicas) {
        warnings.push(format!(
            "some partitions would have all copies in {} zones, where they had {} before",
            after.zones, before.zones
        ));
    }
    if after.incomplete > 0 {
        warnings.push(format!(
            "{} partitions would stay without all of their {} replicas: there is no disk to take them",
            after.incomplete, outcome.replicas
        ));
    }
    for (disk, entry) in preview.disks.iter().zip(&outcome.disks) {
        let held = disk.partitions_after.saturating_mul(replica_bytes);
        // A tenth is kept free: compaction needs room, and partitions differ.
        if entry.size_bytes > 0 && held > entry.size_bytes / 10 * 9 {
            let name = outcome.node_of(disk.disk).map(|node| node.name.as_str());
            warnings.push(format!(
                "disk {} of {} would be full: about {held} bytes on {}",
                disk.disk,
                name.unwrap_or("?"),
                entry.size_bytes
            ));
        }
    }
    warnings
}
