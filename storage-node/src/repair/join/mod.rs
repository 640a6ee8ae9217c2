//! Copies the partitions that a disk newly holds, so that their moves may end (DESIGN 4.11): adopt, then rows, then
//! chunks, then "synced"; durable step by step, and begun again after a crash.
//!
//! Works on a bounded batch of partitions at a time: all of a batch go through one pass over the old members' rows. A
//! partition whose old members do not answer as a majority is left for the next round; it is never guessed.

mod adopt;
mod chunks;
mod judge;
mod rows;
#[cfg(test)]
mod tests;

use super::pace::Spending;
use crate::replica::{DiskReplica, Learning};
use parking_lot::Mutex;
use ringfort_coordinator::Coordinator;
use ringfort_ring::id::{DiskId, NodeId, PartitionId};
use ringfort_ring::layout::{DiskStanding, Layout, NodeStanding};
use ringfort_ring::quorum::{Replica, majority};
use ringfort_wire::error::CallError;
use ringfort_wire::id::Payload;
use ringfort_wire::message::{Call, LeafSet, SyncFactsRequest};
use ringfort_wire::transport::{Lane, Transport, call};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long one request of a copy may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// Partitions copied in one pass.
const BATCH: usize = 128;
/// Rows, or chunks, named in one answer.
const PIECE: u16 = 1_000;

/// How much may be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinPace {
    /// Bytes a second that a node copies to restore replicas.
    pub repair_bytes_per_s: u64,
    /// Bytes a second that it copies only to balance.
    pub balance_bytes_per_s: u64,
}

impl Default for JoinPace {
    fn default() -> Self {
        Self {
            repair_bytes_per_s: 256 << 20,
            balance_bytes_per_s: 64 << 20,
        }
    }
}

/// What a node's new members have copied since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JoinTotals {
    /// Partitions that have been copied whole.
    pub partitions: u64,
    /// Rows copied.
    pub rows: u64,
    /// Chunks copied.
    pub chunks: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// Rows that no majority agreed on, and that were settled.
    pub settled: u64,
}

/// How one batch ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Joined {
    /// There is nothing more to copy now.
    Idle,
    /// There is more, and it can go on at once.
    More,
    /// Nothing could be copied: the next try has its time.
    Stuck,
}

/// What joining works with.
pub(crate) struct Joiner {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) repair: Spending,
    pub(crate) balance: Spending,
    pub(crate) totals: Arc<Mutex<JoinTotals>>,
}

/// A disk that holds some of a batch's partitions, and as which replica each.
struct Source {
    node: NodeId,
    of: BTreeMap<PartitionId, Replica>,
}

/// Partitions under way in one pass.
struct Batch<'a> {
    disk: &'a DiskReplica,
    learning: BTreeMap<PartitionId, Learning>,
    sources: BTreeMap<DiskId, Source>,
    spending: &'a Spending,
    /// Left for the next round, with the reason of the first trouble.
    failed: BTreeMap<PartitionId, String>,
}

impl Joiner {
    /// Copies one batch of what the disk has to copy. Before that it adopts for all of it: a new member that does not
    /// vote leaves its partitions without room for a fault, and batches take their time.
    pub(crate) async fn join(&self, disk: &DiskReplica, layout: &Layout) -> Joined {
        let all = disk.learning(layout);
        let Some(is_repair) = all.iter().map(|one| is_repair(layout, one)).max() else {
            return Joined::Idle;
        };
        let new = all.iter().filter(|one| disk.must_adopt(one));
        let new: Vec<_> = new.cloned().collect();
        for some in new.chunks(SyncFactsRequest::MAX) {
            self.adopt(&mut Batch::new(layout, disk, some.to_vec(), &self.repair))
                .await;
        }
        // Lost replicas before mere balance.
        let of_kind = |one: &Learning| self::is_repair(layout, one) == is_repair;
        let (some, left): (Vec<_>, Vec<_>) = all.into_iter().partition(of_kind);
        let has_more = some.len() > BATCH || !left.is_empty();
        let spending = if is_repair {
            &self.repair
        } else {
            &self.balance
        };
        let some: Vec<_> = some.into_iter().take(BATCH).collect();
        let count = some.len();
        let mut batch = Batch::new(layout, disk, some, spending);
        self.adopt(&mut batch).await;
        self.copy_rows(&mut batch).await;
        self.copy_chunks(&mut batch).await;
        let done: Vec<_> = batch.under_way().cloned().collect();
        if let Some((partition, why)) = batch.failed.first_key_value() {
            tracing::info!(
                failed = batch.failed.len(), of = count, %partition, %why, disk = %disk.id(),
                "partitions are not copied yet; they are tried again"
            );
        }
        if let Err(error) = disk.note_synced(&done).await {
            tracing::error!(%error, disk = %disk.id(), "copied partitions could not be noted");
            return Joined::Stuck;
        }
        if !done.is_empty() {
            tracing::info!(partitions = done.len(), disk = %disk.id(), is_repair, "partitions are copied");
        }
        self.totals.lock().partitions += u64::try_from(done.len()).unwrap_or(0);
        match (done.is_empty(), has_more) {
            (true, _) => Joined::Stuck,
            (false, true) => Joined::More,
            (false, false) => Joined::Idle,
        }
    }

    async fn ask<C: Call>(
        &self,
        node: NodeId,
        request: C,
    ) -> Result<(C::Reply, Payload), CallError> {
        let transport = self.transport.as_ref();
        call(
            transport,
            node,
            Lane::Repair,
            request,
            Payload::new(),
            DEADLINE,
        )
        .await
    }
}

impl<'a> Batch<'a> {
    fn new(
        layout: &Layout,
        disk: &'a DiskReplica,
        some: Vec<Learning>,
        spending: &'a Spending,
    ) -> Self {
        let mut sources: BTreeMap<DiskId, Source> = BTreeMap::new();
        for learning in &some {
            for old in &learning.old {
                // Not from itself: what it held by an identity that is over does not count.
                let is_self = old.disk == disk.id() && *old != learning.own;
                let Some(node) = layout.node_of(old.disk).filter(|_| !is_self) else {
                    continue;
                };
                let source = sources.entry(old.disk).or_insert_with(|| Source {
                    node: node.id,
                    of: BTreeMap::new(),
                });
                source.of.insert(learning.partition, *old);
            }
        }
        let learning = some.into_iter().map(|one| (one.partition, one)).collect();
        Self {
            disk,
            learning,
            sources,
            spending,
            failed: BTreeMap::new(),
        }
    }

    fn fail(&mut self, partition: PartitionId, why: impl Into<String>) {
        self.failed.entry(partition).or_insert_with(|| why.into());
    }

    fn under_way(&self) -> impl Iterator<Item = &Learning> {
        let learning = self.learning.values();
        learning.filter(|one| !self.failed.contains_key(&one.partition))
    }

    /// Fails the partitions of which no majority of old members is among these.
    fn require_majority(&mut self, answered: &BTreeSet<(PartitionId, DiskId)>, what: &str) {
        let lacking: Vec<_> = self
            .under_way()
            .filter(|one| {
                let heard = one.old.iter();
                let heard = heard.filter(|old| answered.contains(&(one.partition, old.disk)));
                heard.count() < majority(one.old.len())
            })
            .map(|one| one.partition)
            .collect();
        for partition in lacking {
            self.fail(partition, format!("no majority of its holders {what}"));
        }
    }

    /// Whether every old member of a partition, this disk's own former self apart, is among these.
    fn all_heard(
        &self,
        partition: PartitionId,
        answered: &BTreeSet<(PartitionId, DiskId)>,
    ) -> bool {
        let Some(learning) = self.learning.get(&partition) else {
            return false;
        };
        let others = learning.old.iter().filter(|old| {
            let own = learning.own;
            old.disk != own.disk || **old == own
        });
        others
            .into_iter()
            .all(|old| answered.contains(&(partition, old.disk)))
    }

    /// The leaves to scan on a source: all of each partition that it holds and that is under way.
    fn leaf_sets(&self, source: &Source) -> Vec<LeafSet> {
        let under_way = self.under_way();
        under_way
            .filter_map(|one| {
                Some(LeafSet {
                    to: *source.of.get(&one.partition)?,
                    partition: one.partition,
                    epoch: one.epoch,
                    leaves: u32::MAX,
                })
            })
            .collect()
    }
}

/// Whether a move restores what is lost: an old member is out, or the disk comes back empty to its own partition.
fn is_repair(layout: &Layout, learning: &Learning) -> bool {
    learning.old.iter().any(|old| {
        let entry = layout.disks.iter().find(|disk| disk.id == old.disk);
        let is_out = entry.is_none_or(|disk| {
            let node = layout.nodes.get(usize::from(disk.node));
            disk.standing == DiskStanding::Out
                || node.is_none_or(|node| node.standing == NodeStanding::Out)
        });
        is_out || (old.disk == learning.own.disk && *old != learning.own)
    })
}
