//! In which partitions this disk votes, as which replica, in which epoch.
//!
//! An epoch is durable before anything is answered in it, and nothing is ever answered in an older one (DESIGN 4.11).

use crate::engine::{Engine, EngineError, Mutation};
use parking_lot::RwLock;
use ringfort_ring::id::{Epoch, PartitionId};
use ringfort_ring::layout::Layout;
use ringfort_ring::quorum::Replica;
use ringfort_wire::error::{NodeError, NodeErrorCode};
use ringfort_wire::message::SyncStatusReply;
use std::collections::HashMap;

#[derive(Default)]
pub(super) struct Members {
    rows: RwLock<HashMap<PartitionId, (Epoch, Replica)>>,
    partition_count: RwLock<Option<u32>>,
}

impl Members {
    pub(super) async fn adopt(&self, engine: &Engine, layout: &Layout) -> Result<(), EngineError> {
        let disk = engine.disk_id();
        let mut rows = HashMap::new();
        let mut commits = Vec::new();
        for number in 0..layout.partition_count() {
            let partition = PartitionId(number);
            let (Some(row), Some(rule)) = (layout.row(partition), layout.rule(partition)) else {
                continue;
            };
            let Some(replica) = rule.members().into_iter().find(|one| one.disk == disk) else {
                continue;
            };
            let facts = engine.partition(partition);
            if facts.epoch > row.epoch {
                // An older layout than this disk has answered in: never again.
                continue;
            }
            // A member of the first layout starts empty by right. Whoever joins later must sync before it votes,
            // and this release moves no partitions.
            if facts.joined != replica.joined && replica.joined > Epoch(1) {
                continue;
            }
            if facts.epoch < row.epoch {
                commits.push(engine.submit(Mutation::Epoch {
                    partition,
                    epoch: row.epoch,
                }));
            }
            if facts.joined < replica.joined {
                commits.push(engine.submit(Mutation::Joined {
                    partition,
                    epoch: replica.joined,
                }));
            }
            rows.insert(partition, (row.epoch, replica));
        }
        for commit in commits {
            commit.await?;
        }
        *self.rows.write() = rows;
        *self.partition_count.write() = Some(layout.partition_count());
        Ok(())
    }

    /// P; `None` before a layout is known.
    pub(super) fn partition_count(&self) -> Option<u32> {
        *self.partition_count.read()
    }

    pub(super) fn is_member(&self) -> bool {
        !self.rows.read().is_empty()
    }

    /// The epoch that the named replica answers in.
    pub(super) fn epoch_of(&self, to: Replica, partition: PartitionId) -> Result<Epoch, NodeError> {
        match self.rows.read().get(&partition) {
            Some((epoch, replica)) if *replica == to => Ok(*epoch),
            _ => Err(NodeError::new(
                NodeErrorCode::NotMember,
                format!("not a member of partition {partition} by that identity"),
            )),
        }
    }

    /// Partitions that move and where this disk is a new member: those in which it has durably synced, and those in
    /// which it has not.
    pub(super) fn sync_status(engine: &Engine, layout: &Layout, reply: &mut SyncStatusReply) {
        let disk = engine.disk_id();
        for number in 0..layout.partition_count() {
            let partition = PartitionId(number);
            let (Some(row), Some(rule)) = (layout.row(partition), layout.rule(partition)) else {
                continue;
            };
            let mut newcomers = rule.newcomers().into_iter();
            let Some(newcomer) = newcomers.find(|one| one.disk == disk) else {
                continue;
            };
            let facts = engine.partition(partition);
            let is_that = facts.joined == newcomer.joined && !facts.is_lost();
            let list = if is_that && facts.synced == row.epoch {
                &mut reply.synced
            } else {
                &mut reply.learning
            };
            list.push((disk, partition, row.epoch));
        }
    }

    /// This disk's identity in a partition, if it is a member.
    pub(super) fn replica_in(&self, partition: PartitionId) -> Option<Replica> {
        let rows = self.rows.read();
        rows.get(&partition).map(|(_, replica)| *replica)
    }
}
