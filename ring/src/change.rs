//! A change of the layout's tables, as an operator or a conductor asks for it.
//!
//! A change says what is wished; [`crate::assign::advance`] then moves the rows. It is applied to one version and makes
//! the next, or is refused in a sentence that says what to do. It travels as postcard: variants are appended, never
//! put in another order or taken out.

use crate::assign::{self, Caps};
use crate::id::{DiskId, Epoch, NodeId};
use crate::layout::{DiskEntry, DiskStanding, Layout, LayoutError, NodeEntry, NodeStanding};
use alloc::format;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A change. Several at once are [`Change::Apply`], which cannot hold another one of its kind: what comes from the
/// network nests no deeper.
pub type LayoutChange = Change<Change<Never>>;

/// A change; `Inner` is what [`Change::Apply`] holds. See [`LayoutChange`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Change<Inner> {
    /// A disk gets partitions in proportion to this, in bytes; 0 drains it.
    SetWeight {
        /// Which disk.
        disk: DiskId,
        /// Its weight.
        bytes: u64,
    },
    /// All of a node's disks, or one disk, get weight 0: their partitions move away.
    Drain(Drained),
    /// A node moves to another failure domain.
    SetZone {
        /// Which node.
        node: NodeId,
        /// Its zone.
        zone: alloc::string::String,
    },
    /// A node takes part, is worked on, or is out.
    SetStanding {
        /// Which node.
        node: NodeId,
        /// Its standing.
        standing: NodeStanding,
    },
    /// A disk is lost, or its identity is over. There is no way back.
    DiskOut {
        /// Which disk.
        disk: DiskId,
    },
    /// A node that holds nothing leaves the tables.
    RemoveNode {
        /// Which node.
        node: NodeId,
    },
    /// A disk that holds nothing leaves the tables.
    RemoveDisk {
        /// Which disk.
        disk: DiskId,
    },
    /// N.
    SetReplicas(u8),
    /// Moves that only balance begin no more.
    Pause,
    /// They do again.
    Resume,
    /// Moves go back, but for repair; weights are what they were before the last change of them; balancing is paused.
    Abort,
    /// The nodes that decide the layout. A later version clears `control_before`, when a majority of the new ones has
    /// what the old ones decided.
    SetControl {
        /// 1, 3 or 5 nodes.
        nodes: Vec<NodeId>,
    },
    /// Several at once, in this order: all of them or none.
    Apply(Vec<Inner>),
}

/// What is drained.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Drained {
    /// A node, with all its disks.
    Node(NodeId),
    /// One disk.
    Disk(DiskId),
}

/// Nothing: there is no value of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Never {}

/// What can be done to a layout's tables.
trait Step {
    fn apply_to(&self, layout: &mut Layout) -> Result<(), LayoutError>;

    /// Whether it is a wish, which may be refused. Facts may not: a disk that is lost is lost.
    fn is_wish(&self) -> bool;

    /// Whether it goes back to the weights before.
    fn aborts(&self) -> bool;
}

/// The successor of `layout` with the change made.
///
/// # Errors
/// In a sentence for an operator: what it names is not there, too few disks would be left, it changes nothing, or the
/// outcome would not be a layout.
pub fn apply(layout: &Layout, change: &LayoutChange) -> Result<Layout, LayoutError> {
    let mut next = layout.clone();
    change.apply_to(&mut next)?;
    // A step that is a version by itself (a removal) leaves it to this function to count.
    next.version = layout.version;
    if next == *layout {
        return Err("the layout is so already: nothing was changed".into());
    }
    if change.is_wish() {
        check_room(layout, &next)?;
    }
    // An abort does not become what the next one goes back to.
    if !change.aborts() && changes_weights(layout, &next) {
        for disk in &mut next.disks {
            let before = layout
                .disk(disk.id)
                .map(|(_, before)| before.capacity_bytes);
            disk.capacity_before_bytes = before.unwrap_or(disk.capacity_bytes);
        }
    }
    next.version = layout.version.saturating_add(1);
    next.check()?;
    Ok(next)
}

fn changes_weights(before: &Layout, after: &Layout) -> bool {
    after.disks.iter().any(|disk| {
        let was = before.disk(disk.id).map(|(_, was)| was.capacity_bytes);
        was.is_some_and(|was| was != disk.capacity_bytes)
    })
}

/// Refuses what leaves fewer than N disks with a weight, if it was not so before.
fn check_room(before: &Layout, after: &Layout) -> Result<(), LayoutError> {
    let count = |layout: &Layout| {
        let disks = layout.disks.iter();
        disks.filter(|disk| layout.weight_bytes(disk) > 0).count()
    };
    let (needed, left) = (usize::from(after.replicas), count(after));
    if left >= needed || (left >= count(before) && after.replicas <= before.replicas) {
        return Ok(());
    }
    Err(format!(
        "{needed} replicas need {needed} disks with a weight, and {left} would be left: give weight to \
         others first, or choose fewer replicas"
    )
    .into())
}

/// Whether, after the change, copies of a partition would share a node or a zone that is kept apart before; `None`
/// where fewer than N disks have a weight.
#[must_use]
pub fn loosens_domains(before: &Layout, after: &Layout) -> Option<bool> {
    let caps = |layout: &Layout| {
        Caps::among(layout, |disk, node| {
            disk.standing == DiskStanding::In && node.standing != NodeStanding::Out
        })
    };
    Some(caps(after)?.is_looser_than(caps(before)?))
}

impl Step for Never {
    fn apply_to(&self, _: &mut Layout) -> Result<(), LayoutError> {
        match *self {}
    }

    fn is_wish(&self) -> bool {
        match *self {}
    }

    fn aborts(&self) -> bool {
        match *self {}
    }
}

impl<Inner: Step> Step for Change<Inner> {
    fn apply_to(&self, layout: &mut Layout) -> Result<(), LayoutError> {
        match self {
            Self::SetWeight { disk, bytes } => set_weight(disk_mut(layout, *disk)?, *bytes)?,
            Self::Drain(Drained::Disk(disk)) => disk_mut(layout, *disk)?.capacity_bytes = 0,
            Self::Drain(Drained::Node(node)) => drain_node(layout, *node)?,
            Self::SetZone { node, zone } => set_zone(node_mut(layout, *node)?, zone)?,
            Self::SetStanding { node, standing } => {
                node_mut(layout, *node)?.standing = *standing;
            }
            Self::DiskOut { disk } => disk_mut(layout, *disk)?.standing = DiskStanding::Out,
            Self::RemoveNode { node } => *layout = assign::remove_node(layout, *node)?,
            Self::RemoveDisk { disk } => *layout = assign::remove_disk(layout, *disk)?,
            Self::SetReplicas(replicas) => set_replicas(layout, *replicas)?,
            Self::Pause => layout.is_balancing_paused = true,
            Self::Resume => layout.is_balancing_paused = false,
            Self::Abort => *layout = assign::abort(layout),
            Self::SetControl { nodes } => set_control(layout, nodes)?,
            Self::Apply(changes) => {
                // Each sees the version that the first one saw, so that rows and control set of the outcome carry
                // the one version that it is given.
                let version = layout.version;
                for change in changes {
                    change.apply_to(layout)?;
                    layout.version = version;
                }
            }
        }
        Ok(())
    }

    fn is_wish(&self) -> bool {
        match self {
            Self::SetWeight { .. }
            | Self::Drain(_)
            | Self::SetZone { .. }
            | Self::RemoveNode { .. }
            | Self::RemoveDisk { .. }
            | Self::SetReplicas(_)
            | Self::SetControl { .. } => true,
            Self::SetStanding { .. }
            | Self::DiskOut { .. }
            | Self::Pause
            | Self::Resume
            | Self::Abort => false,
            Self::Apply(changes) => changes.iter().any(Step::is_wish),
        }
    }

    fn aborts(&self) -> bool {
        match self {
            Self::Abort => true,
            Self::Apply(changes) => changes.iter().any(Step::aborts),
            _ => false,
        }
    }
}

fn node_mut(layout: &mut Layout, id: NodeId) -> Result<&mut NodeEntry, LayoutError> {
    let mut nodes = layout.nodes.iter_mut();
    nodes
        .find(|node| node.id == id)
        .ok_or_else(|| format!("no node has the id {id}").into())
}

fn disk_mut(layout: &mut Layout, id: DiskId) -> Result<&mut DiskEntry, LayoutError> {
    let mut disks = layout.disks.iter_mut();
    disks
        .find(|disk| disk.id == id)
        .ok_or_else(|| format!("no disk has the id {id}").into())
}

fn set_weight(disk: &mut DiskEntry, bytes: u64) -> Result<(), LayoutError> {
    if bytes > 0 && disk.standing == DiskStanding::Out {
        let id = disk.id;
        return Err(format!(
            "disk {id} is out for good: empty its folder and let it join as a new disk"
        )
        .into());
    }
    disk.capacity_bytes = bytes;
    Ok(())
}

fn drain_node(layout: &mut Layout, node: NodeId) -> Result<(), LayoutError> {
    let Some((index, _)) = layout.node(node) else {
        return Err(format!("no node has the id {node}").into());
    };
    for disk in &mut layout.disks {
        if usize::from(disk.node) == index {
            disk.capacity_bytes = 0;
        }
    }
    Ok(())
}

fn set_zone(node: &mut NodeEntry, zone: &str) -> Result<(), LayoutError> {
    if zone.is_empty() || zone.len() > 64 || zone.chars().any(char::is_control) {
        return Err("a zone is a name of 1 to 64 bytes".into());
    }
    node.zone = zone.into();
    Ok(())
}

fn set_replicas(layout: &mut Layout, replicas: u8) -> Result<(), LayoutError> {
    if !matches!(replicas, 1 | 3 | 5) {
        return Err("the number of replicas must be 1, 3 or 5".into());
    }
    layout.replicas = replicas;
    Ok(())
}

fn set_control(layout: &mut Layout, nodes: &[NodeId]) -> Result<(), LayoutError> {
    let mut ids = nodes.to_vec();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() != nodes.len() || !matches!(ids.len(), 1 | 3 | 5) {
        return Err("the control set must be 1, 3 or 5 distinct nodes".into());
    }
    for id in &ids {
        match layout.node(*id) {
            None => return Err(format!("no node has the id {id}").into()),
            Some((_, node)) if node.standing == NodeStanding::Out => {
                return Err(format!("{} is out and cannot decide", node.name).into());
            }
            Some(_) => {}
        }
    }
    let control = assign::control_of(&ids, &layout.nodes);
    let is_same = control.iter().all(|at| layout.control.contains(at));
    if is_same && control.len() == layout.control.len() {
        return Ok(());
    }
    if !layout.control_before.is_empty() {
        return Err("the control set is being changed already: wait until that is done".into());
    }
    layout.control_before = core::mem::replace(&mut layout.control, control);
    layout.control_epoch = Epoch(layout.version.saturating_add(1));
    Ok(())
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
