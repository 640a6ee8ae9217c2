//! The next version of the layout, if there is one to make. Pure.
//!
//! In order: who is out or in again; the second half of a change of the control set; moves whose new members have
//! copied everything; a control member that is out is replaced; further moves. One a version: each is judged on what the
//! one before has brought about.

use ringfort_ring::assign::{Limits, advance, settle};
use ringfort_ring::change::{Change, LayoutChange, apply};
use ringfort_ring::id::{DiskId, Epoch, NodeId, PartitionId};
use ringfort_ring::layout::{Layout, NodeStanding};
use ringfort_ring::liveness::Verdict;
use ringfort_ring::quorum::{Replica, majority};
use std::collections::BTreeSet;

/// What is known when a step is taken.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Facts {
    /// The layout that the verdicts were given for.
    pub(super) version: u64,
    pub(super) verdicts: Vec<Verdict>,
    /// Disks that have copied a partition in an epoch of its row.
    pub(super) synced: BTreeSet<(DiskId, PartitionId, Epoch)>,
    /// Replicas that have lost their state.
    pub(super) lost: Vec<(PartitionId, Replica)>,
    /// Nodes that do not answer.
    pub(super) silent: Vec<NodeId>,
    pub(super) joint_max: usize,
}

/// A version to propose, and why, for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Step {
    pub(super) layout: Layout,
    pub(super) what: String,
}

/// The next version; `None`: all is as it should be, or nothing can be done now.
pub(super) fn next_step(layout: &Layout, facts: &Facts) -> Option<Step> {
    let some = |layout, what: &str| Step {
        layout,
        what: what.to_owned(),
    };
    if let Some(step) = standing(layout, facts) {
        return Some(step);
    }
    if !layout.control_before.is_empty() {
        let mut next = layout.clone();
        next.version += 1;
        next.control_before.clear();
        return Some(some(next, "the new control set decides alone"));
    }
    if let Some(next) = settle(layout, |partition| has_synced(layout, facts, partition)) {
        return Some(some(next, "partitions belong to their new members"));
    }
    if let Some(next) = replace_control(layout, facts) {
        return Some(some(next, "a control member that is out is replaced"));
    }
    let limits = Limits {
        joint_max: facts.joint_max,
        balances: true,
        lost: &facts.lost,
        silent: &facts.silent,
    };
    let (next, moves) = advance(layout, &limits)?;
    Some(Step {
        layout: next,
        what: format!("{} replicas are to be made", moves.len()),
    })
}

/// Nodes and disks that are out, or in again. Verdicts hold for the version that they were given for.
fn standing(layout: &Layout, facts: &Facts) -> Option<Step> {
    if layout.version != facts.version {
        return None;
    }
    facts.verdicts.iter().find_map(|verdict| {
        let (change, what): (LayoutChange, String) = match verdict {
            Verdict::Out(node) => (
                Change::SetStanding {
                    node: *node,
                    standing: NodeStanding::Out,
                },
                format!("node {} is out", name(layout, *node)),
            ),
            Verdict::BackIn(node) => (
                Change::SetStanding {
                    node: *node,
                    standing: NodeStanding::In,
                },
                format!("node {} is back in", name(layout, *node)),
            ),
            Verdict::DiskOut(disk) if !layout.can_lose(*disk) => return None,
            Verdict::DiskOut(disk) => (
                Change::DiskOut { disk: *disk },
                format!("disk {disk} is lost"),
            ),
            _ => return None,
        };
        // One that is so already, or that the layout cannot take, is no step.
        let layout = apply(layout, &change).ok()?;
        Some(Step { layout, what })
    })
}

fn name(layout: &Layout, node: NodeId) -> String {
    let entry = layout.nodes.iter().find(|entry| entry.id == node);
    entry.map_or_else(|| node.to_string(), |entry| entry.name.clone())
}

/// Whether everybody who must copy a partition has, in the row's present epoch.
fn has_synced(layout: &Layout, facts: &Facts, partition: PartitionId) -> bool {
    let Some(row) = layout.row(partition) else {
        return false;
    };
    let Some(rule) = layout.rule(partition) else {
        return false;
    };
    let has = |replica: &Replica| facts.synced.contains(&(replica.disk, partition, row.epoch));
    // Whoever is new; and, where the sets differ in size, a majority of the new one.
    let syncing = layout.syncing_members(partition);
    let is_resized = syncing.len() > rule.newcomers().len();
    let have = syncing.iter().filter(|one| has(one)).count();
    rule.newcomers().iter().all(has) && (!is_resized || have >= majority(syncing.len()))
}

/// The control set with the first member that is out replaced by a node that is in and answers, of a zone that has no
/// member yet if there is one.
fn replace_control(layout: &Layout, facts: &Facts) -> Option<Layout> {
    let (control, _) = layout.control_ids();
    let entry = |id: NodeId| layout.nodes.iter().find(|node| node.id == id);
    let is_out = |id: &NodeId| entry(*id).is_none_or(|node| node.standing == NodeStanding::Out);
    let gone = control.iter().copied().find(is_out)?;
    let zones: BTreeSet<&str> = control
        .iter()
        .filter(|id| **id != gone)
        .filter_map(|id| Some(entry(*id)?.zone.as_str()))
        .collect();
    let candidate = layout
        .nodes
        .iter()
        .filter(|node| node.standing == NodeStanding::In)
        .filter(|node| !control.contains(&node.id) && !facts.silent.contains(&node.id))
        .min_by_key(|node| (zones.contains(node.zone.as_str()), node.id))?;
    let nodes = control
        .iter()
        .map(|id| if *id == gone { candidate.id } else { *id })
        .collect();
    apply(layout, &Change::SetControl { nodes }).ok()
}

#[cfg(test)]
mod tests;
