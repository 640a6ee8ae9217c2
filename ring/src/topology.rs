//! What a cluster is made of, before anything is placed on it: nodes, zones, disks, capacities.
//!
//! It is what an operator declares (`cluster init`, a node that joins or is drained). [`crate::assign`] turns it
//! into a [`crate::layout::Layout`]. It knows nothing of versions or epochs.

use crate::id::{ClusterId, DiskId, NodeId};
use crate::layout::{Layout, LayoutError};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

/// The nodes and disks that a cluster shall use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    /// The cluster.
    pub cluster: ClusterId,
    /// N, how many replicas a partition shall have: 1, 3 or 5.
    pub replicas: u8,
    /// The nodes, in any order: the outcome does not depend on it.
    pub nodes: Vec<NodeSpec>,
    /// The nodes that decide the layout: 1, 3 or 5. [`Topology::suggest_control`] names a fair choice.
    pub control: Vec<NodeId>,
}

/// A node as declared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeSpec {
    /// Its id.
    pub id: NodeId,
    /// Its name, for people.
    pub name: String,
    /// Where its internode listener is reached: `host:port`.
    pub address: String,
    /// Its failure domain.
    pub zone: String,
    /// Its disks.
    pub disks: Vec<DiskSpec>,
}

/// A disk as declared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskSpec {
    /// Its id.
    pub id: DiskId,
    /// Its weight, in bytes. A disk of weight 0 holds nothing: it is being drained.
    pub capacity_bytes: u64,
}

impl Topology {
    /// Checks that ids are unique, N is allowed and the control set is 1, 3 or 5 of the nodes.
    ///
    /// # Errors
    /// The first rule that is broken, in words.
    pub fn check(&self) -> Result<(), LayoutError> {
        let fail = |what: &'static str| Err(LayoutError::from(what));
        if !matches!(self.replicas, 1 | 3 | 5) {
            return fail("the number of replicas must be 1, 3 or 5");
        }
        let nodes: BTreeSet<_> = self.nodes.iter().map(|node| node.id).collect();
        let all_disks = || self.nodes.iter().flat_map(|node| &node.disks);
        let disks: BTreeSet<_> = all_disks().map(|disk| disk.id).collect();
        if nodes.len() != self.nodes.len() || disks.len() != all_disks().count() {
            return fail("a node or disk is listed twice");
        }
        if nodes.len() > Layout::MAX_NODES || disks.len() > Layout::MAX_DISKS {
            return fail("too many nodes or disks");
        }
        let control: BTreeSet<_> = self.control.iter().collect();
        if control.len() != self.control.len() || !matches!(control.len(), 1 | 3 | 5) {
            return fail("the control set must be 1, 3 or 5 distinct nodes");
        }
        if !control.iter().all(|id| nodes.contains(id)) {
            return fail("the control set names a node that is not listed");
        }
        Ok(())
    }

    /// A control set of up to `count` nodes (rounded down to 1, 3 or 5), taken from as many zones as there are.
    #[must_use]
    pub fn suggest_control(nodes: &[NodeSpec], count: usize) -> Vec<NodeId> {
        let mut zones: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
        for node in nodes {
            zones.entry(&node.zone).or_default().push(node.id);
        }
        for ids in zones.values_mut() {
            ids.sort_unstable_by(|a, b| b.cmp(a));
        }
        let wanted = match count.min(nodes.len()) {
            0 => 0,
            1 | 2 => 1,
            3 | 4 => 3,
            _ => 5,
        };
        let mut chosen = Vec::new();
        while chosen.len() < wanted {
            for ids in zones.values_mut() {
                if chosen.len() < wanted {
                    chosen.extend(ids.pop());
                }
            }
        }
        chosen.sort_unstable();
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn node(id: u128, zone: &str) -> NodeSpec {
        NodeSpec {
            id: NodeId::from_u128(id),
            name: id.to_string(),
            address: "127.0.0.1:1".to_string(),
            zone: zone.to_string(),
            disks: vec![DiskSpec {
                id: DiskId::from_u128(id),
                capacity_bytes: 1,
            }],
        }
    }

    #[test]
    fn the_suggested_control_set_is_odd_and_spreads_over_zones() {
        let nodes = [node(1, "a"), node(2, "a"), node(3, "b"), node(4, "c")];
        let ids = |numbers: &[u128]| -> Vec<NodeId> {
            numbers.iter().map(|id| NodeId::from_u128(*id)).collect()
        };
        assert_eq!(Topology::suggest_control(&nodes, 3), ids(&[1, 3, 4]));
        assert_eq!(Topology::suggest_control(&nodes, 9), ids(&[1, 3, 4]));
        assert_eq!(Topology::suggest_control(&nodes[..2], 3), ids(&[1]));
        assert_eq!(Topology::suggest_control(&[], 3), ids(&[]));
    }

    #[test]
    fn a_topology_with_a_fault_is_refused_in_words() {
        let good = Topology {
            cluster: ClusterId::from_u128(1),
            replicas: 3,
            nodes: vec![node(1, "a"), node(2, "b"), node(3, "c")],
            control: vec![NodeId::from_u128(1)],
        };
        assert_eq!(good.check(), Ok(()));
        let refused = |change: &dyn Fn(&mut Topology)| {
            let mut topology = good.clone();
            change(&mut topology);
            topology.check().is_err()
        };
        assert!(refused(&|topology| topology.replicas = 2));
        assert!(refused(&|topology| topology.nodes.push(node(1, "d"))));
        assert!(refused(&|topology| topology.control.clear()));
        assert!(refused(
            &|topology| topology.control = vec![NodeId::from_u128(9)]
        ));
        assert!(refused(
            &|topology| topology.control = vec![NodeId::from_u128(1), NodeId::from_u128(2)]
        ));
    }
}
