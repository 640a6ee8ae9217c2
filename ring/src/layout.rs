//! The layout: an explicit, versioned table of which disks hold which partition (DESIGN 3).
//!
//! Members are small indexes into the disk table, so that a layout of 65,536 partitions stays small. A row's epoch
//! is the layout version that last changed *that row*.

use crate::id::{ClusterId, DiskId, Epoch, Era, NodeId, PartitionId};
use crate::quorum::{QuorumRule, Replica};
use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Who holds what, in one version.
///
/// Invariants, checked by [`Layout::check`]:
/// - at least one node, one disk, one row; ids are unique; every index points into its table;
/// - a row's members sit on distinct disks, and there are 1 to [`Layout::MAX_REPLICAS`] of them;
/// - no row's or member's epoch is above the layout's version, and no member joined after its row's epoch;
/// - the version is 1 or more, and N is 1, 3 or 5;
/// - the control set is 1, 3 or 5 distinct nodes of the table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Layout {
    /// The cluster that this layout belongs to.
    pub cluster: ClusterId,
    /// Raised by `unsafe-recover` only.
    pub era: Era,
    /// Rises by one with every change. The first is 1.
    pub version: u64,
    /// N, the replicas that a partition is meant to have: 1, 3 or 5.
    pub replicas: u8,
    /// The version that last changed the control set.
    pub control_epoch: Epoch,
    /// The nodes that decide the layout, by index: 1, 3 or 5.
    pub control: Vec<u16>,
    /// While the control set changes, the one before: whatever is decided then takes a majority of each. Else empty.
    pub control_before: Vec<u16>,
    /// Whether an operator has stopped the moves that only balance. Repair goes on.
    pub is_balancing_paused: bool,
    /// The nodes.
    pub nodes: Vec<NodeEntry>,
    /// The disks, of all nodes.
    pub disks: Vec<DiskEntry>,
    /// One row a partition.
    pub rows: Vec<Row>,
}

/// A storage node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Its id.
    pub id: NodeId,
    /// Its name, for people.
    pub name: String,
    /// Where its internode listener is reached: `host:port`.
    pub address: String,
    /// Its failure domain.
    pub zone: String,
    /// Whether it takes part.
    pub standing: NodeStanding,
}

/// Whether a node takes part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum NodeStanding {
    /// It does.
    #[default]
    In,
    /// An operator works on it: it keeps its partitions however long it is silent.
    Maintenance,
    /// It was silent for too long: its partitions go to others. It comes in again when it is back.
    Out,
}

/// Whether a disk takes part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum DiskStanding {
    /// It does.
    #[default]
    In,
    /// It is lost, or its identity is over: its partitions go to others, and it never comes back under this id.
    Out,
}

/// A disk of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DiskEntry {
    /// Its id.
    pub id: DiskId,
    /// Index of its node.
    pub node: u16,
    /// Its weight, in bytes, as an operator wants it. A disk of weight 0 holds nothing: it is new, or drained.
    pub capacity_bytes: u64,
    /// The weight before the last change that an operator applied: what an abort goes back to.
    pub capacity_before_bytes: u64,
    /// How large it said it is when it joined, in bytes.
    pub size_bytes: u64,
    /// Whether it takes part.
    pub standing: DiskStanding,
}

impl NodeEntry {
    /// A node that takes part.
    #[must_use]
    pub fn new(id: NodeId, name: String, address: String, zone: String) -> Self {
        Self {
            id,
            name,
            address,
            zone,
            standing: NodeStanding::In,
        }
    }
}

impl DiskEntry {
    /// A disk that takes part with its whole size as weight.
    #[must_use]
    pub const fn new(id: DiskId, node: u16, capacity_bytes: u64) -> Self {
        Self {
            id,
            node,
            capacity_bytes,
            capacity_before_bytes: capacity_bytes,
            size_bytes: capacity_bytes,
            standing: DiskStanding::In,
        }
    }
}

/// A partition's line in the layout.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The layout version that last changed this row.
    pub epoch: Epoch,
    /// Who holds the partition.
    pub members: Members,
}

impl Row {
    /// The partition's members, the leaving ones and the coming ones too: each disk that may hold something of it.
    pub fn holders(&self) -> impl Iterator<Item = &Member> {
        let (old, new): (&[Member], &[Member]) = match &self.members {
            Members::Stable(members) => (members, &[]),
            Members::Joint { old, new } => (old, new),
        };
        let is_new = |member: &&Member| !old.iter().any(|other| other.disk == member.disk);
        old.iter().chain(new.iter().filter(is_new))
    }

    /// The members that the row has, or will have when its move is done.
    #[must_use]
    pub fn wanted(&self) -> &[Member] {
        match &self.members {
            Members::Stable(members) | Members::Joint { new: members, .. } => members,
        }
    }

    /// Whether the partition moves.
    #[must_use]
    pub const fn is_joint(&self) -> bool {
        matches!(self.members, Members::Joint { .. })
    }
}

/// A row's members, or two sets of them while the partition moves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Members {
    /// One set; a quorum is a majority of it.
    Stable(Vec<Member>),
    /// The partition moves: a quorum is a majority of each set.
    Joint {
        /// The members that are leaving, or staying.
        old: Vec<Member>,
        /// The members that will hold the partition.
        new: Vec<Member>,
    },
}

/// A disk in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Index into the layout's disks.
    pub disk: u16,
    /// The layout version at which it joined the row. With the disk's id it is the replica's identity.
    pub joined: Epoch,
}

/// Why a layout, or a change of one, was refused: a sentence for an operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LayoutError(pub Cow<'static, str>);

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&'static str> for LayoutError {
    fn from(sentence: &'static str) -> Self {
        Self(Cow::Borrowed(sentence))
    }
}

impl From<String> for LayoutError {
    fn from(sentence: String) -> Self {
        Self(Cow::Owned(sentence))
    }
}

impl core::error::Error for LayoutError {}

impl Layout {
    /// The greatest N.
    pub const MAX_REPLICAS: usize = 5;
    /// The most nodes that a layout may have.
    pub const MAX_NODES: usize = 65_535;
    /// The most disks that a layout may have.
    pub const MAX_DISKS: usize = 65_535;
    /// The most partitions that a layout may have.
    pub const MAX_PARTITIONS: usize = 65_536;

    /// Number of partitions, P. It is fixed when the cluster is made.
    #[must_use]
    pub fn partition_count(&self) -> u32 {
        u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
    }

    /// The row of a partition; `None` where there is no such partition.
    #[must_use]
    pub fn row(&self, partition: PartitionId) -> Option<&Row> {
        self.rows.get(usize::try_from(partition.0).ok()?)
    }

    /// The quorum rule of a partition, in its row's epoch.
    #[must_use]
    pub fn rule(&self, partition: PartitionId) -> Option<QuorumRule> {
        let row = self.row(partition)?;
        Some(match &row.members {
            Members::Stable(members) => QuorumRule::stable(self.replicas_of(members)),
            Members::Joint { old, new } => {
                QuorumRule::joint(self.replicas_of(old), self.replicas_of(new))
            }
        })
    }

    /// Of a partition that moves, the members that hold it: the old ones. `None` where it does not move.
    #[must_use]
    pub fn old_members(&self, partition: PartitionId) -> Option<Vec<Replica>> {
        match &self.row(partition)?.members {
            Members::Stable(_) => None,
            Members::Joint { old, .. } => Some(self.replicas_of(old)),
        }
    }

    /// Of a partition that moves, who has to copy it before the move may end: whoever is new; and every new member where
    /// the two sets differ in size, for a majority of the one need not meet a majority of the other then (DESIGN 4.11).
    /// Nobody where it does not move.
    #[must_use]
    pub fn syncing_members(&self, partition: PartitionId) -> Vec<Replica> {
        match self.row(partition).map(|row| &row.members) {
            Some(Members::Joint { old, new }) => {
                let is_resized = old.len() != new.len();
                let mut syncing = new.clone();
                syncing.retain(|member| is_resized || !old.contains(member));
                self.replicas_of(&syncing)
            }
            _ => Vec::new(),
        }
    }

    /// The node of that id, with its index.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<(usize, &NodeEntry)> {
        self.nodes
            .iter()
            .enumerate()
            .find(|(_, node)| node.id == id)
    }

    /// The disk of that id, with its index.
    #[must_use]
    pub fn disk(&self, id: DiskId) -> Option<(usize, &DiskEntry)> {
        self.disks
            .iter()
            .enumerate()
            .find(|(_, disk)| disk.id == id)
    }

    /// The node that a disk belongs to.
    #[must_use]
    pub fn node_of(&self, disk: DiskId) -> Option<&NodeEntry> {
        let entry = self.disks.iter().find(|entry| entry.id == disk)?;
        self.nodes.get(usize::from(entry.node))
    }

    /// Whether every partition that a disk decides for keeps a majority of its members on others that take part. Where
    /// not, to give the disk up is to give up data: a matter for people.
    #[must_use]
    pub fn can_lose(&self, disk: DiskId) -> bool {
        let takes_part = |member: &Member| {
            self.disks
                .get(usize::from(member.disk))
                .is_some_and(|entry| {
                    let node = self.nodes.get(usize::from(entry.node));
                    let is_node_in = node.is_some_and(|node| node.standing != NodeStanding::Out);
                    entry.id != disk && entry.standing == DiskStanding::In && is_node_in
                })
        };
        let holds = |member: &Member| {
            let entry = self.disks.get(usize::from(member.disk));
            entry.is_some_and(|entry| entry.id == disk)
        };
        self.rows.iter().all(|row| {
            let (Members::Stable(deciding) | Members::Joint { old: deciding, .. }) = &row.members;
            let left = deciding.iter().filter(|member| takes_part(member)).count();
            !deciding.iter().any(holds) || left >= crate::quorum::majority(deciding.len())
        })
    }

    /// The weight by which a disk gets partitions, in bytes: 0 where it, or its node, does not take part.
    #[must_use]
    pub fn weight_bytes(&self, disk: &DiskEntry) -> u64 {
        let node = self.nodes.get(usize::from(disk.node));
        let is_node_out = node.is_none_or(|node| node.standing == NodeStanding::Out);
        if is_node_out || disk.standing == DiskStanding::Out {
            0
        } else {
            disk.capacity_bytes
        }
    }

    /// The ids of the nodes that decide the layout, and of those that did before a change under way (else none).
    #[must_use]
    pub fn control_ids(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        let ids = |indexes: &[u16]| {
            let entries = indexes
                .iter()
                .filter_map(|at| self.nodes.get(usize::from(*at)));
            entries.map(|node| node.id).collect()
        };
        (ids(&self.control), ids(&self.control_before))
    }

    fn replicas_of(&self, members: &[Member]) -> Vec<Replica> {
        members
            .iter()
            .filter_map(|member| {
                let entry = self.disks.get(usize::from(member.disk))?;
                Some(Replica {
                    disk: entry.id,
                    joined: member.joined,
                })
            })
            .collect()
    }

    /// Checks the invariants.
    ///
    /// # Errors
    /// The first one that does not hold, in words.
    pub fn check(&self) -> Result<(), LayoutError> {
        let fail = |what: &'static str| Err(LayoutError::from(what));
        if self.nodes.is_empty() || self.disks.is_empty() || self.rows.is_empty() {
            return fail("a layout needs a node, a disk and a partition");
        }
        if self.rows.len() > Self::MAX_PARTITIONS {
            return fail("too many partitions");
        }
        if self.nodes.len() > Self::MAX_NODES || self.disks.len() > Self::MAX_DISKS {
            return fail("too many nodes or disks");
        }
        let node_ids: BTreeSet<_> = self.nodes.iter().map(|node| node.id).collect();
        let disk_ids: BTreeSet<_> = self.disks.iter().map(|disk| disk.id).collect();
        if node_ids.len() != self.nodes.len() || disk_ids.len() != self.disks.len() {
            return fail("a node or disk is listed twice");
        }
        let is_node = |index: u16| usize::from(index) < self.nodes.len();
        if !self.disks.iter().all(|disk| is_node(disk.node)) {
            return fail("a disk names a node that is not listed");
        }
        let control: BTreeSet<_> = self.control.iter().copied().collect();
        if control.len() != self.control.len() || !matches!(control.len(), 1 | 3 | 5) {
            return fail("the control set is not 1, 3 or 5 distinct nodes");
        }
        if !control.iter().all(|index| is_node(*index)) {
            return fail("the control set names a node that is not listed");
        }
        let before: BTreeSet<_> = self.control_before.iter().copied().collect();
        if before.len() != self.control_before.len() || !matches!(before.len(), 0 | 1 | 3 | 5) {
            return fail("the control set before the change is not 1, 3 or 5 distinct nodes");
        }
        if !before.iter().all(|index| is_node(*index)) {
            return fail("the control set before the change names a node that is not listed");
        }
        if self.version == 0 || !matches!(self.replicas, 1 | 3 | 5) {
            return fail("the version is 0, or the number of replicas is not 1, 3 or 5");
        }
        if self.control_epoch.0 > self.version {
            return fail("the control set's epoch is above the layout's version");
        }
        for row in &self.rows {
            let sets: &[&Vec<Member>] = match &row.members {
                Members::Stable(members) => &[members],
                Members::Joint { old, new } => &[old, new],
            };
            if row.epoch.0 > self.version {
                return fail("a row's epoch is above the layout's version");
            }
            for set in sets {
                let distinct: BTreeSet<_> = set.iter().map(|member| member.disk).collect();
                if set.is_empty() || set.len() > Self::MAX_REPLICAS || distinct.len() != set.len() {
                    return fail("a row has no members, too many, or one twice");
                }
                for member in *set {
                    if usize::from(member.disk) >= self.disks.len() || member.joined > row.epoch {
                        return fail("a member is not listed, or joined after its row's epoch");
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn member(disk: u16, joined: u64) -> Member {
        Member {
            disk,
            joined: Epoch(joined),
        }
    }

    fn layout() -> Layout {
        let node = |id: u128| {
            let address = "127.0.0.1:7000".to_string();
            NodeEntry::new(
                NodeId::from_u128(id),
                id.to_string(),
                address,
                "z".to_string(),
            )
        };
        let disk = |id: u128, node| DiskEntry::new(DiskId::from_u128(id), node, 1);
        Layout {
            cluster: ClusterId::from_u128(1),
            era: Era(0),
            version: 4,
            replicas: 3,
            control_epoch: Epoch(1),
            control: vec![0, 1, 2],
            control_before: Vec::new(),
            is_balancing_paused: false,
            nodes: vec![node(1), node(2), node(3)],
            disks: vec![disk(10, 0), disk(20, 1), disk(30, 2), disk(31, 2)],
            rows: vec![
                Row {
                    epoch: Epoch(1),
                    members: Members::Stable(vec![member(0, 1), member(1, 1), member(2, 1)]),
                },
                Row {
                    epoch: Epoch(4),
                    members: Members::Joint {
                        old: vec![member(0, 1), member(1, 1), member(2, 1)],
                        new: vec![member(0, 1), member(1, 1), member(3, 4)],
                    },
                },
            ],
        }
    }

    #[test]
    fn a_row_gives_the_rule_of_its_members_identities() {
        let layout = layout();
        assert_eq!(layout.check(), Ok(()));
        assert_eq!(layout.partition_count(), 2);
        let replica = |disk, joined| Replica {
            disk: DiskId::from_u128(disk),
            joined: Epoch(joined),
        };
        let old = vec![replica(10, 1), replica(20, 1), replica(30, 1)];
        let new = vec![replica(10, 1), replica(20, 1), replica(31, 4)];
        assert_eq!(
            layout.rule(PartitionId(0)),
            Some(QuorumRule::stable(old.clone()))
        );
        assert_eq!(
            layout.rule(PartitionId(1)),
            Some(QuorumRule::joint(old, new))
        );
        assert_eq!(layout.rule(PartitionId(2)), None);
        let node = layout.node_of(DiskId::from_u128(31));
        assert_eq!(node.map(|node| node.id), Some(NodeId::from_u128(3)));
        assert_eq!(layout.node_of(DiskId::from_u128(99)), None);
    }

    /// A layout comes from the network and from disk: each broken invariant is told, none panics.
    #[test]
    fn every_broken_invariant_is_refused() {
        type Breakage = (&'static str, fn(&mut Layout));
        let breakages: [Breakage; 21] = [
            ("no nodes", |l| l.nodes.clear()),
            ("no disks", |l| l.disks.clear()),
            ("no rows", |l| l.rows.clear()),
            ("a node twice", |l| l.nodes[1].id = l.nodes[0].id),
            ("a disk twice", |l| l.disks[1].id = l.disks[0].id),
            ("a disk of no node", |l| l.disks[0].node = 3),
            ("no control set", |l| l.control.clear()),
            ("an even control set", |l| l.control = vec![0, 1]),
            ("a control node twice", |l| l.control = vec![0, 1, 1]),
            ("an unknown control node", |l| l.control = vec![0, 1, 9]),
            ("an even control set before", |l| {
                l.control_before = vec![0, 1]
            }),
            ("an unknown control node before", |l| {
                l.control_before = vec![9]
            }),
            ("a control epoch ahead", |l| l.control_epoch = Epoch(5)),
            ("version 0", |l| {
                l.version = 0;
                l.control_epoch = Epoch(0);
            }),
            ("two replicas", |l| l.replicas = 2),
            ("a row ahead", |l| l.rows[0].epoch = Epoch(5)),
            ("an empty row", |l| {
                l.rows[0].members = Members::Stable(vec![])
            }),
            ("a member twice", |l| {
                l.rows[0].members = Members::Stable(vec![member(0, 1), member(0, 1)]);
            }),
            ("too many members", |l| {
                l.rows[0].members = Members::Stable(vec![member(0, 1); 6]);
            }),
            ("an unknown disk", |l| {
                l.rows[0].members = Members::Stable(vec![member(4, 1)]);
            }),
            ("a member from after its row", |l| {
                l.rows[0].members = Members::Stable(vec![member(0, 2)]);
            }),
        ];
        for (what, breakage) in breakages {
            let mut broken = layout();
            breakage(&mut broken);
            assert!(broken.check().is_err(), "{what}");
        }
    }

    #[test]
    fn a_disk_can_be_lost_only_while_others_are_a_majority() {
        let mut layout = layout();
        let can_lose = |layout: &Layout, disk| layout.can_lose(DiskId::from_u128(disk));
        assert!(can_lose(&layout, 10) && can_lose(&layout, 31));
        layout.disks[1].standing = DiskStanding::Out;
        // One of two that are left; the new member of the second row decides nothing yet.
        assert!(!can_lose(&layout, 10));
        assert!(can_lose(&layout, 31));
        layout.disks[1].standing = DiskStanding::In;
        layout.nodes[2].standing = NodeStanding::Out;
        assert!(!can_lose(&layout, 10));
    }

    #[test]
    fn who_does_not_take_part_has_no_weight() {
        let mut layout = layout();
        let weights = |layout: &Layout| -> Vec<u64> {
            let disks = layout.disks.iter();
            disks.map(|disk| layout.weight_bytes(disk)).collect()
        };
        layout.nodes[0].standing = NodeStanding::Maintenance;
        assert_eq!(weights(&layout), [1, 1, 1, 1]);
        layout.nodes[2].standing = NodeStanding::Out;
        layout.disks[1].standing = DiskStanding::Out;
        assert_eq!(weights(&layout), [1, 0, 0, 0]);
    }

    #[test]
    fn a_layout_reads_back_from_its_bytes() {
        let layout = layout();
        let bytes = postcard::to_allocvec(&layout).unwrap_or_default();
        assert_eq!(postcard::from_bytes(&bytes), Ok(layout));
    }
}
