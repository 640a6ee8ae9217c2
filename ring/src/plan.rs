//! What a change of the layout comes to, before it is made: replicas to be made, bytes, balance, failure domains.
//!
//! It is not estimated but carried out on paper, step by step as [`crate::assign::advance`] would, until nothing is left
//! to do. Proportions are in hundredths of a percent: there is no floating point here.

use crate::assign::{Limits, advance, settle, shares};
use crate::id::{DiskId, PartitionId};
use crate::layout::{Layout, NodeStanding, Row};
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

/// What a change comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preview {
    /// The layout when all is done.
    pub outcome: Layout,
    /// Partitions with a member that changes.
    pub partitions: u64,
    /// Replicas to be made.
    pub replicas: u64,
    /// The fewest replicas that lead to the outcome's balance from what there is: what disks hold below their share.
    pub replicas_least: u64,
    /// Bytes to be copied.
    pub bytes: u64,
    /// Bytes that the busiest node takes in: at a rate for each node, this is what the time depends on.
    pub busiest_node_bytes: u64,
    /// What it means for each disk, in the order of the outcome's disks.
    pub disks: Vec<DiskPreview>,
    /// Where everything is now, by the wishes that the change makes.
    pub before: Standing,
    /// Where everything will be.
    pub after: Standing,
}

/// What it means for one disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskPreview {
    /// Which one.
    pub disk: DiskId,
    /// Partitions that it holds now.
    pub partitions_before: u64,
    /// Partitions that it will hold.
    pub partitions_after: u64,
    /// Bytes that come.
    pub bytes_in: u64,
    /// Bytes that go.
    pub bytes_out: u64,
}

/// How even a layout is, and how far apart its copies are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// The largest deviation of a disk's partitions from its share by weight alone, in hundredths of a percent.
    pub off_weight: u64,
    /// The same from its share as far as the failure domains allow it.
    pub off_share: u64,
    /// The fewest distinct nodes that a partition has.
    pub nodes: u64,
    /// The fewest distinct zones that a partition has.
    pub zones: u64,
    /// The most distinct zones that its disks with a weight could give each partition.
    pub zones_possible: u64,
    /// Partitions with fewer members than N, or members on disks that are out.
    pub incomplete: u64,
}

/// Steps after which a plan that does not come to an end is cut off. A handful is usual.
const STEPS_MAX: usize = 64;

/// Carries out on paper what `after` asks for. `before` is the layout as it is, `after` its successor with a change
/// (or `before` itself: what is under way); `bytes_of` says how much a replica of a partition holds.
#[must_use]
pub fn preview(before: &Layout, after: &Layout, bytes_of: impl Fn(PartitionId) -> u64) -> Preview {
    let mut layout = after.clone();
    layout.is_balancing_paused = false;
    let (loads, wanted) = (loads(before, &layout), shares(&layout));
    let mut bytes_in = vec![0_u64; layout.disks.len()];
    let mut made = 0;
    let limits = Limits {
        joint_max: usize::MAX,
        balances: true,
        lost: &[],
        silent: &[],
    };
    // What is under way already is counted too: it has yet to be copied.
    let mut moves = under_way(&layout);
    for _ in 0..STEPS_MAX {
        for (partition, disk) in moves.drain(..) {
            made += 1;
            bytes_in[disk] = bytes_in[disk].saturating_add(bytes_of(partition));
        }
        if let Some(next) = settle(&layout, |_| true) {
            layout = next;
        }
        let Some((next, begun)) = advance(&layout, &limits) else {
            break;
        };
        layout = next;
        for step in begun {
            if let Some((disk, _)) = layout.disk(step.to) {
                moves.push((step.partition, disk));
            }
        }
    }
    layout.is_balancing_paused = after.is_balancing_paused;
    let least = wanted.iter().zip(&loads);
    let least: usize = least.map(|(share, load)| share.saturating_sub(*load)).sum();
    let bytes_out = bytes_out(before, &layout, &bytes_of);
    let disks = disk_previews(&layout, &loads, &bytes_in, &bytes_out);
    let mut of_node = vec![0_u64; layout.nodes.len()];
    for (disk, bytes) in layout.disks.iter().zip(&bytes_in) {
        if let Some(sum) = of_node.get_mut(usize::from(disk.node)) {
            *sum = sum.saturating_add(*bytes);
        }
    }
    Preview {
        partitions: wide(changed(before, &layout)),
        replicas: made,
        replicas_least: wide(least),
        bytes: bytes_in
            .iter()
            .fold(0, |sum, bytes| sum.saturating_add(*bytes)),
        busiest_node_bytes: of_node.into_iter().max().unwrap_or(0),
        disks,
        before: standing(after),
        after: standing(&layout),
        outcome: layout,
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The replicas that rows on the move have yet to get.
fn under_way(layout: &Layout) -> Vec<(PartitionId, usize)> {
    let rows = layout.rows.iter().enumerate();
    rows.flat_map(|(number, row)| {
        let partition = u32::try_from(number).map(PartitionId).unwrap_or_default();
        newcomers(row).map(move |disk| (partition, disk))
    })
    .collect()
}

fn newcomers(row: &Row) -> impl Iterator<Item = usize> {
    let is_new = |disk: u16| match &row.members {
        crate::layout::Members::Stable(_) => false,
        crate::layout::Members::Joint { old, new } => {
            let here = new.iter().find(|member| member.disk == disk);
            here.is_some_and(|member| !old.contains(member))
        }
    };
    let wanted = row.wanted().iter().map(|member| member.disk);
    wanted.filter(move |disk| is_new(*disk)).map(usize::from)
}

/// How many partitions each disk of `layout` is a member of in `before`, which may number disks in another way.
fn loads(before: &Layout, layout: &Layout) -> Vec<usize> {
    let place: Vec<Option<usize>> = before
        .disks
        .iter()
        .map(|disk| Some(layout.disk(disk.id)?.0))
        .collect();
    let mut loads = vec![0; layout.disks.len()];
    for member in before.rows.iter().flat_map(Row::wanted) {
        let at = place.get(usize::from(member.disk)).copied().flatten();
        if let Some(load) = at.and_then(|at| loads.get_mut(at)) {
            *load += 1;
        }
    }
    loads
}

fn ids(layout: &Layout, row: &Row) -> BTreeSet<DiskId> {
    let disks = row.wanted().iter();
    disks
        .filter_map(|member| Some(layout.disks.get(usize::from(member.disk))?.id))
        .collect()
}

fn changed(before: &Layout, after: &Layout) -> usize {
    let rows = before.rows.iter().zip(&after.rows);
    rows.filter(|(was, is)| was.is_joint() || ids(before, was) != ids(after, is))
        .count()
}

/// What each disk gives up.
fn bytes_out(before: &Layout, after: &Layout, bytes_of: &impl Fn(PartitionId) -> u64) -> Vec<u64> {
    let mut out = vec![0_u64; after.disks.len()];
    for (number, (was, is)) in before.rows.iter().zip(&after.rows).enumerate() {
        let stays = ids(after, is);
        let partition = u32::try_from(number).map(PartitionId).unwrap_or_default();
        for member in was.holders() {
            let id = before
                .disks
                .get(usize::from(member.disk))
                .map(|disk| disk.id);
            let gone = id.filter(|id| !stays.contains(id));
            if let Some((at, _)) = gone.and_then(|id| after.disk(id)) {
                out[at] = out[at].saturating_add(bytes_of(partition));
            }
        }
    }
    out
}

fn disk_previews(
    layout: &Layout,
    loads: &[usize],
    bytes_in: &[u64],
    bytes_out: &[u64],
) -> Vec<DiskPreview> {
    let mut after = vec![0_usize; layout.disks.len()];
    for member in layout.rows.iter().flat_map(Row::wanted) {
        if let Some(load) = after.get_mut(usize::from(member.disk)) {
            *load += 1;
        }
    }
    let disks = layout.disks.iter().enumerate();
    disks
        .map(|(at, disk)| DiskPreview {
            disk: disk.id,
            partitions_before: wide(loads[at]),
            partitions_after: wide(after[at]),
            bytes_in: bytes_in[at],
            bytes_out: bytes_out[at],
        })
        .collect()
}

/// How even a layout is, and how far apart its copies are. Rows on the move count as what they will be.
#[must_use]
pub fn standing(layout: &Layout) -> Standing {
    let weights: Vec<u64> = layout
        .disks
        .iter()
        .map(|disk| layout.weight_bytes(disk))
        .collect();
    let loads = loads(layout, layout);
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let all: u128 = loads.iter().map(|load| u128::from(wide(*load))).sum();
    let mut standing = Standing {
        nodes: u64::MAX,
        zones: u64::MAX,
        ..Standing::default()
    };
    for (at, share) in shares(layout).into_iter().enumerate() {
        let load = u128::from(wide(loads[at]));
        // load against all · weight / total, both sides times total.
        let (held, fair) = (load * total, all * u128::from(weights[at]));
        standing.off_weight = standing.off_weight.max(deviation(held, fair));
        let share = u128::from(wide(share));
        standing.off_share = standing.off_share.max(deviation(load, share));
    }
    for row in &layout.rows {
        let (mut nodes, mut zones) = (BTreeSet::new(), BTreeSet::new());
        let mut usable = 0_usize;
        for member in row.wanted() {
            let Some(disk) = layout.disks.get(usize::from(member.disk)) else {
                continue;
            };
            let is_out = crate::assign::is_out(layout, member.disk);
            usable += usize::from(!is_out);
            nodes.insert(disk.node);
            if let Some(node) = layout.nodes.get(usize::from(disk.node)) {
                zones.insert(node.zone.as_str());
            }
        }
        standing.nodes = standing.nodes.min(wide(nodes.len()));
        standing.zones = standing.zones.min(wide(zones.len()));
        standing.incomplete += u64::from(usable < usize::from(layout.replicas));
    }
    standing.zones_possible = zones_possible(layout, &weights);
    standing
}

fn zones_possible(layout: &Layout, weights: &[u64]) -> u64 {
    let mut zones = BTreeSet::new();
    for (disk, weight) in layout.disks.iter().zip(weights) {
        let node = layout.nodes.get(usize::from(disk.node));
        if let Some(node) = node.filter(|node| *weight > 0 && node.standing != NodeStanding::Out) {
            zones.insert(node.zone.as_str());
        }
    }
    wide(zones.len()).min(u64::from(layout.replicas))
}

/// How far `held` is from `fair`, in hundredths of a percent of it. Where nothing is fair and something is held, all.
fn deviation(held: u128, fair: u128) -> u64 {
    if fair == 0 {
        return if held == 0 { 0 } else { 10_000 };
    }
    let off = held.abs_diff(fair).saturating_mul(10_000) / fair;
    u64::try_from(off).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use crate::assign::first_layout;
    use crate::id::{ClusterId, NodeId};
    use crate::topology::{DiskSpec, NodeSpec, Topology};
    use alloc::format;

    /// Nodes of two disks each, in zones in turn.
    fn layout(nodes: u128, zones: u128, replicas: u8, partitions: u32) -> Layout {
        let nodes: Vec<NodeSpec> = (1..=nodes)
            .map(|number| NodeSpec {
                id: NodeId::from_u128(number),
                name: format!("n{number}"),
                address: format!("127.0.0.1:{number}"),
                zone: format!("z{}", number % zones),
                disks: (0..2)
                    .map(|disk| DiskSpec {
                        id: DiskId::from_u128(number * 10 + disk),
                        capacity_bytes: 1_000,
                    })
                    .collect(),
            })
            .collect();
        let topology = Topology {
            cluster: ClusterId::from_u128(1),
            replicas,
            control: Topology::suggest_control(&nodes, 3),
            nodes,
        };
        first_layout(&topology, partitions).unwrap()
    }

    fn set_weights(layout: &mut Layout, node: u16, bytes: u64) {
        for disk in layout.disks.iter_mut().filter(|disk| disk.node == node) {
            disk.capacity_bytes = bytes;
        }
    }

    #[test]
    fn a_newcomer_is_previewed_to_the_byte() {
        let mut whole = layout(5, 1, 3, 512);
        set_weights(&mut whole, 4, 0);
        let before = preview(&whole, &whole, |_| 0).outcome;
        let mut after = before.clone();
        set_weights(&mut after, 4, 1_000);
        let plan = preview(&before, &after, |_| 7);
        assert_eq!(plan.replicas, plan.replicas_least);
        assert_eq!(plan.bytes, plan.replicas * 7);
        // A fifth of 1,536 copies.
        assert!((300..=310).contains(&plan.replicas), "{}", plan.replicas);
        assert_eq!(plan.busiest_node_bytes, plan.bytes);
        let (ins, outs): (u64, u64) = plan.disks.iter().fold((0, 0), |sum, disk| {
            (sum.0 + disk.bytes_in, sum.1 + disk.bytes_out)
        });
        assert_eq!((ins, outs), (plan.bytes, plan.bytes));
        // By the weights that it will have, the newcomer lacks all of its share.
        assert!(plan.before.off_share >= 10_000 && plan.after.off_share < 200);
        assert!(plan.before.off_weight >= 10_000 && plan.after.off_weight < 200);
        assert_eq!((plan.after.zones, plan.after.zones_possible), (1, 1));
        assert_eq!((plan.after.nodes, plan.after.incomplete), (3, 0));
        // Nothing was touched, and nothing is left to do.
        assert!(plan.outcome.rows.iter().all(|row| !row.is_joint()));
        assert_eq!(preview(&plan.outcome, &plan.outcome, |_| 7).replicas, 0);
    }

    #[test]
    fn what_is_under_way_is_still_to_be_copied() {
        let before = layout(6, 3, 3, 256);
        let mut drained = before.clone();
        set_weights(&mut drained, 0, 0);
        let whole = preview(&before, &drained, |_| 1);
        let limits = Limits {
            joint_max: 10,
            balances: true,
            lost: &[],
            silent: &[],
        };
        let (joint, _) = advance(&drained, &limits).unwrap();
        let rest = preview(&joint, &joint, |_| 1);
        assert_eq!(rest.replicas, whole.replicas);
        assert_eq!(rest.bytes, whole.bytes);
        assert!(rest.partitions >= whole.partitions);
        assert_eq!(whole.after.zones, 3);
    }

    #[test]
    fn a_zone_that_is_emptied_is_seen() {
        let before = layout(6, 3, 3, 64);
        let mut after = before.clone();
        for (index, node) in before.nodes.iter().enumerate() {
            if node.zone == "z0" {
                set_weights(&mut after, u16::try_from(index).unwrap(), 0);
            }
        }
        let plan = preview(&before, &after, |_| 1);
        assert_eq!((plan.before.zones, plan.after.zones), (3, 2));
        assert_eq!((plan.after.nodes, plan.after.zones_possible), (3, 2));
        // Out, and one disk to take its place: the plan says which partitions stay incomplete, for they have that
        // disk already.
        let mut lost = layout(3, 3, 3, 64);
        lost.nodes[0].standing = NodeStanding::Out;
        set_weights(&mut lost, 1, 0);
        lost.disks[5].capacity_bytes = 0;
        let plan = preview(&lost, &lost, |_| 1);
        assert_eq!(plan.after.incomplete, 32);
    }
}
