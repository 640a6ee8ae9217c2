//! Anti-entropy: a disk compares what it holds with the replicas next to it, and differences are mended (DESIGN 4.6).
//!
//! In each partition a disk compares with the member after it in the layout's row, so that the comparisons of all
//! members go round: what differs anywhere is found by somebody, and two disks that have lost the others still compare.
//! Rows are mended by the coordinator's own rules (a replay of the original Accept, else an identity round). A chunk
//! that one side lacks is fetched only if its owner still names it: what was deleted does not come back.
//!
//! Left out: what neither side can read (the scrub's), and chunks that nobody names (the orphan rule's).

use super::diff::{Diff, Difference};
use crate::engine::compare::row_order_key;
use crate::replica::DiskReplica;
use futures_util::stream::{self, StreamExt};
use ringfort_coordinator::{BucketRef, Coordinator, Owned};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::{DiskId, Epoch, NodeId, PartitionId};
use ringfort_ring::layout::Layout;
use ringfort_ring::merkle::Leaves;
use ringfort_ring::quorum::Replica;
use ringfort_wire::environment::Environment;
use ringfort_wire::error::CallError;
use ringfort_wire::id::{ChunkId, Payload, RowKey};
use ringfort_wire::manifest::{ChunkOwner, ChunkRef};
use ringfort_wire::message::{
    Call, DigestsRequest, LeafSet, NoteChunksRequest, PartitionDigest, ScanChunksRequest,
    ScanRowsRequest,
};
use ringfort_wire::transport::{Lane, Transport, call};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// How long one request of a sweep may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Rows, or chunks, asked for at once.
const PIECE: u16 = 1_000;
/// Partitions that one scan looks for.
const LEAF_SETS_MAX: usize = 4_096;

/// How a sweep treads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepPace {
    /// Between the end of a disk's sweep and the begin of its next.
    pub every: Duration,
    /// Rows mended at the same time.
    pub rows_at_once: usize,
    /// A row written within this time is left alone: it may be on its way.
    pub settled_after: Duration,
    /// Between the two looks that tell a lasting difference from writes under way.
    pub second_look: Duration,
    /// Between two pieces of a scan, so that clients have their turn.
    pub pause: Duration,
}

impl Default for SweepPace {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(60),
            rows_at_once: 8,
            settled_after: Duration::from_secs(5),
            second_look: Duration::from_secs(1),
            pause: Duration::from_millis(5),
        }
    }
}

/// What a sweep found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Replicas compared, a partition and a neighbour each.
    pub compared: u64,
    /// Of those, the ones that differed.
    pub differing: u64,
    /// Rows in which they differed and that were mended.
    pub rows_mended: u64,
    /// Chunks that a side lacked, and that it was told to fetch.
    pub chunks_noted: u64,
    /// Chunks that a side lacked and that nobody names: not fetched.
    pub chunks_unnamed: u64,
    /// Comparisons and repairs that did not come to their end; the next sweep tries again.
    pub failed: u64,
}

impl SweepReport {
    /// Adds what another disk's sweep found.
    pub(crate) fn add(&mut self, other: &Self) {
        self.compared += other.compared;
        self.differing += other.differing;
        self.rows_mended += other.rows_mended;
        self.chunks_noted += other.chunks_noted;
        self.chunks_unnamed += other.chunks_unnamed;
        self.failed += other.failed;
    }
}

/// The sweeps of a node since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepTotals {
    /// How many were made.
    pub sweeps: u64,
    /// All of them together.
    pub all: SweepReport,
    /// The last one.
    pub last: SweepReport,
}

impl SweepTotals {
    pub(crate) fn add(&mut self, report: SweepReport) {
        self.sweeps += 1;
        self.all.add(&report);
        self.last = report;
    }
}

/// What a sweep works with.
pub(crate) struct Sweeper {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) environment: Environment,
    pub(crate) pace: SweepPace,
}

/// A partition of which two disks hold a replica.
#[derive(Clone, Copy, Debug)]
struct Pair {
    partition: PartitionId,
    epoch: Epoch,
    mine: Replica,
    theirs: Replica,
}

/// A pair that differs, and in which leaves.
struct Differing {
    pair: Pair,
    rows: u32,
    chunks: u32,
}

/// What one replica holds more than the other, as sums.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Excess {
    rows: Leaves,
    chunks: Leaves,
}

impl Excess {
    /// `None` where a side's answer makes no sense.
    fn of(mine: &PartitionDigest, theirs: &PartitionDigest) -> Option<Self> {
        let less = |mine: &[u64], theirs: &[u64]| {
            Some(Leaves::from_sums(mine)?.less(&Leaves::from_sums(theirs)?))
        };
        Some(Self {
            rows: less(&mine.rows, &theirs.rows)?,
            chunks: less(&mine.chunks, &theirs.chunks)?,
        })
    }

    fn leaves(&self) -> (u32, u32) {
        (self.rows.occupied(), self.chunks.occupied())
    }

    /// The leaves that differ, and by the same as at an earlier look. What is written meanwhile reaches the two sides at
    /// different moments and makes leaves differ now by this and now by that; what a side lacks for good stays.
    fn leaves_as_before(&self, before: &Self) -> (u32, u32) {
        (
            self.rows.occupied() & !self.rows.differing(&before.rows),
            self.chunks.occupied() & !self.chunks.differing(&before.chunks),
        )
    }
}

/// One sweep of a disk: all partitions, each with the neighbour. Ordinarily only leaves are gone through that differ by
/// the same at two looks; `takes_all`: also those that writes under way may explain.
pub(crate) async fn sweep_disk(
    sweeper: &Sweeper,
    disk: &DiskReplica,
    layout: &Layout,
    takes_all: bool,
) -> SweepReport {
    let mut report = SweepReport::default();
    for (neighbour, pairs) in neighbours(disk.id(), layout) {
        let Some(node) = layout.node_of(neighbour).map(|node| node.id) else {
            continue;
        };
        let differing = sweeper
            .differing(disk, node, &pairs, takes_all, &mut report)
            .await;
        for some in differing.chunks(LEAF_SETS_MAX) {
            if let Err(error) = sweeper.mend_rows(disk, node, some, &mut report).await {
                tracing::debug!(%error, %neighbour, "rows were not compared to the end");
                report.failed += 1;
            }
            if let Err(error) = sweeper.mend_chunks(disk, node, some, &mut report).await {
                tracing::debug!(%error, %neighbour, "chunks were not compared to the end");
                report.failed += 1;
            }
        }
    }
    report
}

/// The partitions of a disk, by the member after it in each.
fn neighbours(disk: DiskId, layout: &Layout) -> BTreeMap<DiskId, Vec<Pair>> {
    let mut found: BTreeMap<DiskId, Vec<Pair>> = BTreeMap::new();
    for number in 0..layout.partition_count() {
        let partition = PartitionId(number);
        let (Some(row), Some(rule)) = (layout.row(partition), layout.rule(partition)) else {
            continue;
        };
        let members = rule.members();
        let Some(at) = members.iter().position(|one| one.disk == disk) else {
            continue;
        };
        let (Some(mine), Some(theirs)) = (
            members.get(at).copied(),
            members.get((at + 1) % members.len()).copied(),
        ) else {
            continue;
        };
        // A new member has not copied everything yet, and does: until then a comparison says nothing.
        let newcomers = rule.newcomers();
        let is_settled = ![mine, theirs].iter().any(|one| newcomers.contains(one));
        if theirs.disk != disk && is_settled {
            found.entry(theirs.disk).or_default().push(Pair {
                partition,
                epoch: row.epoch,
                mine,
                theirs,
            });
        }
    }
    found
}

impl Sweeper {
    async fn ask<C: Call>(&self, node: NodeId, request: C) -> Result<C::Reply, CallError> {
        let transport = self.transport.as_ref();
        let payload = Payload::new();
        let reply = call(transport, node, Lane::Repair, request, payload, DEADLINE).await?;
        Ok(reply.0)
    }

    /// The pairs that differ, at two looks.
    async fn differing(
        &self,
        disk: &DiskReplica,
        node: NodeId,
        pairs: &[Pair],
        takes_all: bool,
        report: &mut SweepReport,
    ) -> Vec<Differing> {
        let first = self.compare(disk, node, pairs, report).await;
        if first.is_empty() {
            return Vec::new();
        }
        tokio::time::sleep(self.pace.second_look).await;
        let again: Vec<Pair> = first.iter().map(|(pair, _)| *pair).collect();
        // Counted once.
        let mut second_look = SweepReport::default();
        let second = self.compare(disk, node, &again, &mut second_look).await;
        report.failed += second_look.failed;
        let before: HashMap<PartitionId, Excess> = first
            .into_iter()
            .map(|(pair, excess)| (pair.partition, excess))
            .collect();
        let mut differing = Vec::new();
        for (pair, excess) in second {
            let (rows, chunks) = match before.get(&pair.partition) {
                Some(before) if !takes_all => excess.leaves_as_before(before),
                _ => excess.leaves(),
            };
            if rows | chunks != 0 {
                report.differing += 1;
                differing.push(Differing { pair, rows, chunks });
            }
        }
        differing
    }

    /// The pairs whose sums differ now, and by what.
    async fn compare(
        &self,
        disk: &DiskReplica,
        node: NodeId,
        pairs: &[Pair],
        report: &mut SweepReport,
    ) -> Vec<(Pair, Excess)> {
        let mut differing = Vec::new();
        for pairs in pairs.chunks(DigestsRequest::MAX) {
            let request = |which: fn(&Pair) -> Replica| DigestsRequest {
                replicas: pairs
                    .iter()
                    .map(|pair| (which(pair), pair.partition, pair.epoch))
                    .collect(),
            };
            let theirs = self.ask(node, request(|pair| pair.theirs)).await;
            let (Ok(mine), Ok(theirs)) = (disk.digests(&request(|pair| pair.mine)), theirs) else {
                // Gone, or not there yet: its own sweep, or the next, will tell.
                report.failed += 1;
                continue;
            };
            let digests = mine.digests.into_iter().zip(theirs.digests);
            for (pair, (mine, theirs)) in pairs.iter().zip(digests) {
                let (Some(mine), Some(theirs)) = (mine, theirs) else {
                    continue;
                };
                report.compared += 1;
                if let Some(excess) = Excess::of(&mine, &theirs)
                    && excess.leaves() != (0, 0)
                {
                    differing.push((*pair, excess));
                }
            }
        }
        differing
    }

    /// Goes through the rows of the leaves that differ, on both sides, and mends those that do.
    async fn mend_rows(
        &self,
        disk: &DiskReplica,
        node: NodeId,
        differing: &[Differing],
        report: &mut SweepReport,
    ) -> Result<(), CallError> {
        let mine = leaf_sets(differing, |one| one.rows, |pair| pair.mine);
        let theirs = leaf_sets(differing, |one| one.rows, |pair| pair.theirs);
        if mine.is_empty() {
            return Ok(());
        }
        let mut diff = Diff::new();
        let (mut my_after, mut their_after): (Option<RowKey>, Option<RowKey>) = (None, None);
        while !diff.is_done() {
            let is_mine = diff.wants_mine();
            let request = ScanRowsRequest {
                wanted: if is_mine { &mine } else { &theirs }.clone(),
                after: if is_mine { &my_after } else { &their_after }.clone(),
                limit: PIECE,
            };
            let reply = if is_mine {
                disk.scan_rows(request).await.map_err(CallError::Refused)?
            } else {
                self.ask(node, request).await?
            };
            if !reply.refused.is_empty() {
                // The layout moved on: what one side leaves out must not look absent.
                return Err(CallError::Unreachable(
                    "the layout has changed meanwhile".to_owned(),
                ));
            }
            let entries = reply.rows.into_iter().map(|(key, partition, ballot)| {
                let order = row_order_key(&key);
                (order, (key, partition, ballot))
            });
            let examined = reply.examined.as_ref().map(row_order_key);
            if is_mine {
                my_after = reply.examined;
                diff.feed_mine(entries, examined);
            } else {
                their_after = reply.examined;
                diff.feed_theirs(entries, examined);
            }
            self.mend_each(disk, diff.take(), report).await;
            tokio::time::sleep(self.pace.pause).await;
        }
        Ok(())
    }

    async fn mend_each<K>(
        &self,
        disk: &DiskReplica,
        differences: Vec<Difference<K, (RowKey, PartitionId, Ballot)>>,
        report: &mut SweepReport,
    ) {
        let settled_ms = u64::try_from(self.pace.settled_after.as_millis()).unwrap_or(u64::MAX);
        let old_enough = self.environment.now_ms().saturating_sub(settled_ms);
        let rows = differences.into_iter().filter_map(|difference| {
            let either = [difference.mine, difference.theirs];
            let newest = either.into_iter().flatten().max_by_key(|(_, _, at)| *at)?;
            (newest.2.time.ms() <= old_enough).then_some((newest.0, newest.1))
        });
        let mended = stream::iter(rows)
            .map(|(row, partition)| async move {
                let held = disk.generation_of(row.bucket);
                let bucket = BucketRef::of_row(row.bucket, held, partition);
                self.coordinator.mend_row(bucket, &row).await
            })
            .buffer_unordered(self.pace.rows_at_once)
            .collect::<Vec<_>>()
            .await;
        for mended in mended {
            match mended {
                Ok(()) => report.rows_mended += 1,
                Err(error) => {
                    tracing::debug!(%error, "a row was not mended; the next sweep tries again");
                    report.failed += 1;
                }
            }
        }
    }

    /// Goes through the chunks of the leaves that differ, and lets each side fetch what it lacks and should have.
    async fn mend_chunks(
        &self,
        disk: &DiskReplica,
        node: NodeId,
        differing: &[Differing],
        report: &mut SweepReport,
    ) -> Result<(), CallError> {
        let mine = leaf_sets(differing, |one| one.chunks, |pair| pair.mine);
        let theirs = leaf_sets(differing, |one| one.chunks, |pair| pair.theirs);
        if mine.is_empty() {
            return Ok(());
        }
        let partitions = differing.iter().map(|one| (one.pair.partition, one.pair));
        let pairs: HashMap<PartitionId, Pair> = partitions.collect();
        let mut diff = Diff::new();
        let (mut my_after, mut their_after): (Option<ChunkId>, Option<ChunkId>) = (None, None);
        // A chunk of a body that is still on its way has no owner yet: the writer's hints and the next sweep see to it.
        let mut owners = Owners::default();
        while !diff.is_done() {
            let is_mine = diff.wants_mine();
            let request = ScanChunksRequest {
                wanted: if is_mine { &mine } else { &theirs }.clone(),
                after: if is_mine { my_after } else { their_after },
                limit: PIECE,
            };
            let reply = if is_mine {
                disk.scan_chunks(request)
                    .await
                    .map_err(CallError::Refused)?
            } else {
                self.ask(node, request).await?
            };
            if !reply.refused.is_empty() {
                return Err(CallError::Unreachable(
                    "the layout has changed meanwhile".to_owned(),
                ));
            }
            let entries = reply
                .chunks
                .into_iter()
                .map(|(chunk, owner)| (chunk.id, (chunk, owner)));
            if is_mine {
                my_after = reply.examined;
                diff.feed_mine(entries, reply.examined);
            } else {
                their_after = reply.examined;
                diff.feed_theirs(entries, reply.examined);
            }
            let lacking = self.named(disk, &mut owners, diff.take(), report).await;
            self.note(disk, node, &pairs, lacking, report).await;
            tokio::time::sleep(self.pace.pause).await;
        }
        Ok(())
    }

    /// Of the chunks that a side lacks, those that their owners name.
    async fn named(
        &self,
        disk: &DiskReplica,
        owners: &mut Owners,
        differences: Vec<Difference<ChunkId, (ChunkRef, ChunkOwner)>>,
        report: &mut SweepReport,
    ) -> Vec<Lacking> {
        let mut lacking = Vec::new();
        for difference in differences {
            let (chunk, owner, is_here) = match (difference.mine, difference.theirs) {
                (Some((chunk, owner)), None) => (chunk, owner, true),
                (None, Some((chunk, owner))) => (chunk, owner, false),
                // On both sides: the same id is the same chunk, whatever a damaged record says of it.
                _ => continue,
            };
            match owners.owned(self, disk, &owner).await {
                Some(Owned::OpenUpload) => {}
                Some(Owned::Chunks(chunks)) if chunks.contains(&chunk.id) => {}
                Some(Owned::Chunks(_) | Owned::Nothing) => {
                    report.chunks_unnamed += 1;
                    continue;
                }
                None => {
                    report.failed += 1;
                    continue;
                }
            }
            lacking.push(Lacking {
                chunk,
                owner,
                is_here,
            });
        }
        lacking
    }

    async fn note(
        &self,
        disk: &DiskReplica,
        node: NodeId,
        pairs: &HashMap<PartitionId, Pair>,
        lacking: Vec<Lacking>,
        report: &mut SweepReport,
    ) {
        let mut for_them = Vec::new();
        for one in lacking {
            if !one.is_here {
                report.chunks_noted += u64::from(disk.note_chunk(one.chunk, one.owner));
                continue;
            }
            let partition = disk.partition_of_chunk(one.chunk.id);
            if let Some(pair) = partition.and_then(|partition| pairs.get(&partition)) {
                for_them.push((pair.theirs, one.chunk, one.owner));
            }
        }
        if for_them.is_empty() {
            return;
        }
        match self.ask(node, NoteChunksRequest { chunks: for_them }).await {
            Ok(reply) => report.chunks_noted += u64::from(reply.noted),
            Err(_) => report.failed += 1,
        }
    }
}

/// A chunk that one side has and the other lacks.
struct Lacking {
    chunk: ChunkRef,
    owner: ChunkOwner,
    /// Whether this disk is the one that has it.
    is_here: bool,
}

/// The last owner asked: the chunks of one body come from many ids, but a body's owner is asked once per piece of it.
#[derive(Default)]
struct Owners(HashMap<ChunkOwner, Owned>);

impl Owners {
    /// Owners remembered in one pass; their lists are bounded by what bodies they have.
    const MAX: usize = 256;

    async fn owned(
        &mut self,
        sweeper: &Sweeper,
        disk: &DiskReplica,
        owner: &ChunkOwner,
    ) -> Option<&Owned> {
        if !self.0.contains_key(owner) {
            if self.0.len() >= Self::MAX {
                self.0.clear();
            }
            let held = disk.generation_of(owner.bucket);
            let owned = sweeper.coordinator.owned(owner, held).await;
            self.0.insert(owner.clone(), owned.ok()?);
        }
        self.0.get(owner)
    }
}

fn leaf_sets(
    differing: &[Differing],
    leaves: impl Fn(&Differing) -> u32,
    side: impl Fn(&Pair) -> Replica,
) -> Vec<LeafSet> {
    differing
        .iter()
        .filter(|one| leaves(one) != 0)
        .map(|one| LeafSet {
            to: side(&one.pair),
            partition: one.pair.partition,
            epoch: one.pair.epoch,
            leaves: leaves(one),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfort_ring::merkle::chunk_term;

    fn digest(rows: &[[u8; 16]]) -> PartitionDigest {
        let mut leaves = Leaves::default();
        for row in rows {
            leaves.add(chunk_term(*row));
        }
        PartitionDigest {
            rows: leaves.sums().to_vec(),
            chunks: Vec::new(),
        }
    }

    #[test]
    fn a_write_under_way_is_no_difference_and_a_missed_one_is() {
        let [missed, old, new, newer] = [[1; 16], [2; 16], [3; 16], [4; 16]];
        let leaf = |row: [u8; 16]| 1_u32 << chunk_term(row).leaf;
        let look = |mine: &[[u8; 16]], theirs: &[[u8; 16]]| {
            Excess::of(&digest(mine), &digest(theirs)).expect("sums of 32 leaves")
        };
        // The other side lacks `missed`; `new` has reached this side first, later `newer` the other.
        let first = look(&[missed, old, new], &[old]);
        let second = look(&[missed, old, new], &[old, new, newer]);
        let lasting = second.leaves_as_before(&first);
        assert_eq!(lasting, (leaf(missed), 0));
        assert_eq!(second.leaves(), (leaf(missed) | leaf(newer), 0));
        assert_eq!(look(&[old], &[old]).leaves(), (0, 0));
        assert_eq!(
            Excess::of(
                &digest(&[]),
                &PartitionDigest {
                    rows: vec![1],
                    chunks: Vec::new()
                }
            ),
            None
        );
    }
}
