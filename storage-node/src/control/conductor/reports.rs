//! What the nodes said in one tick, and what that tells a step.

use super::step::Facts;
use ringfort_ring::id::{DiskId, Epoch, NodeId, PartitionId};
use ringfort_ring::layout::Layout;
use ringfort_ring::liveness::{Liveness, Verdict};
use ringfort_ring::quorum::Replica;
use ringfort_wire::message::SyncStatusReply;
use std::collections::{BTreeMap, BTreeSet};

/// The nodes that answered, with their answers.
pub(super) struct Reports {
    of: BTreeMap<NodeId, SyncStatusReply>,
}

impl Reports {
    pub(super) fn new(replies: impl Iterator<Item = (NodeId, SyncStatusReply)>) -> Self {
        Self {
            of: replies.collect(),
        }
    }

    /// Whether a node has answered.
    pub(super) fn has(&self, node: NodeId) -> bool {
        self.of.contains_key(&node)
    }

    /// Tells whom each reporter has missed for how long; a node that it does not name, it hears.
    pub(super) fn tell(&self, layout: &Layout, liveness: &mut Liveness, now_ms: u64) {
        for (reporter, reply) in &self.of {
            let silent: BTreeMap<_, _> = reply.silent.iter().copied().collect();
            for node in &layout.nodes {
                if node.id != *reporter {
                    let silent_ms = silent.get(&node.id).copied().unwrap_or(0);
                    liveness.observe(now_ms, *reporter, node.id, silent_ms);
                }
            }
        }
    }

    /// Disks that take no writes any more: what was on its way to them may or may not be there.
    pub(super) fn closed_disks(&self) -> Vec<DiskId> {
        let replies = self.of.values();
        replies
            .flat_map(|reply| reply.closed.iter().map(|(disk, _)| *disk))
            .collect()
    }

    /// How much each disk holds, in bytes.
    pub(super) fn used_bytes(&self) -> Vec<(DiskId, u64)> {
        let replies = self.of.values();
        replies
            .flat_map(|reply| reply.used.iter().copied())
            .collect()
    }

    /// What a step goes by.
    pub(super) fn facts(
        &self,
        layout: &Layout,
        liveness: &Liveness,
        mut verdicts: Vec<Verdict>,
        joint_max: usize,
    ) -> Facts {
        verdicts.retain(|verdict| {
            matches!(
                verdict,
                Verdict::Out(_) | Verdict::BackIn(_) | Verdict::DiskOut(_)
            )
        });
        let mut silent = liveness.silent();
        silent.extend(
            layout
                .nodes
                .iter()
                .map(|node| node.id)
                .filter(|node| !self.has(*node)),
        );
        let synced: BTreeSet<(DiskId, PartitionId, Epoch)> = self
            .of
            .values()
            .flat_map(|reply| reply.synced.iter().copied())
            .collect();
        let lost = self.of.values().flat_map(|reply| {
            reply.lost.iter().map(|(disk, partition, joined)| {
                let replica = Replica {
                    disk: *disk,
                    joined: *joined,
                };
                (*partition, replica)
            })
        });
        Facts {
            version: layout.version,
            verdicts,
            synced,
            lost: lost.collect(),
            silent,
            joint_max,
        }
    }
}
