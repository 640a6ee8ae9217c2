//! A disk's side of a move: what a new member adopts and copies, what an old one shows it, what a former one lets go
//! (DESIGN 4.11).
//!
//! Every step is durable before the next, and each may be done again after a crash: identity last of what is adopted,
//! "synced" last of all.

use super::{DiskReplica, node_error};
use crate::engine::{EngineError, Mutation, PartitionFacts};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{Epoch, Generation, PartitionId};
use ringfort_ring::layout::{Layout, Members as RowMembers};
use ringfort_ring::quorum::Replica;
use ringfort_wire::error::{NodeError, NodeErrorCode};
use ringfort_wire::id::{BucketId, Payload, RowKey};
use ringfort_wire::message::{
    FetchRowsReply, FetchRowsRequest, FetchedRow, SyncFactsReply, SyncFactsRequest,
};

/// Rows, or chunks, looked at in one piece of a pass.
const EXAMINE: usize = 4_000;
/// All leaves of a partition.
const ALL_LEAVES: u32 = u32::MAX;

/// A partition that this disk must copy before its move may end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Learning {
    pub(crate) partition: PartitionId,
    pub(crate) epoch: Epoch,
    pub(crate) own: Replica,
    /// Those that hold it: what a majority of them holds is copied.
    pub(crate) old: Vec<Replica>,
}

/// What a new member adopts before it votes: the highest of a majority of the old members.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Adoption {
    pub(crate) floor: Ballot,
    pub(crate) bound: Timestamp,
}

impl DiskReplica {
    /// The partitions that this disk has to copy and has not yet, as its own seats and the layout have them.
    pub(crate) fn learning(&self, layout: &Layout) -> Vec<Learning> {
        let mut learning = Vec::new();
        for number in 0..layout.partition_count() {
            let partition = PartitionId(number);
            let Some(row) = layout.row(partition) else {
                continue;
            };
            let RowMembers::Joint { .. } = &row.members else {
                continue;
            };
            let Some((epoch, own)) = self.inner.members.seat_in(partition) else {
                continue;
            };
            let facts = self.inner.engine.partition(partition);
            let is_due = epoch == row.epoch
                && facts.synced < epoch
                && layout.syncing_members(partition).contains(&own);
            let Some(old) = layout.old_members(partition).filter(|_| is_due) else {
                continue;
            };
            learning.push(Learning {
                partition,
                epoch,
                own,
                old,
            });
        }
        learning
    }

    /// Whether this disk has yet to adopt before it votes there.
    pub(crate) fn must_adopt(&self, learning: &Learning) -> bool {
        let facts = self.inner.engine.partition(learning.partition);
        facts.joined < learning.own.joined
    }

    /// What a new member must adopt, of partitions in which this disk votes in exactly that epoch.
    pub(crate) fn sync_facts(
        &self,
        request: &SyncFactsRequest,
    ) -> Result<SyncFactsReply, NodeError> {
        if request.replicas.len() > SyncFactsRequest::MAX {
            return Err(NodeError::new(
                NodeErrorCode::Malformed,
                "too many partitions in one request",
            ));
        }
        let engine = &self.inner.engine;
        // The epoch first: what was promised before it is below the horizon that is read after it.
        let facts = request.replicas.iter().map(|(to, partition, epoch)| {
            let is_this = self.votes_as(*to, *partition) == Some(*epoch);
            is_this.then(|| {
                let facts = engine.partition(*partition);
                (facts.floor, facts.bound)
            })
        });
        Ok(SyncFactsReply {
            facts: facts.collect(),
            horizon: self.inner.horizon.granted_up_to(),
            generations: engine.generations(),
        })
    }

    /// Rows whole, as far as one answer reaches.
    pub(crate) async fn fetch_rows(
        &self,
        request: FetchRowsRequest,
    ) -> Result<(FetchRowsReply, Payload), NodeError> {
        if request.rows.len() > FetchRowsRequest::MAX {
            return Err(NodeError::new(
                NodeErrorCode::Malformed,
                "too many rows in one request",
            ));
        }
        let mut rows = Vec::with_capacity(request.rows.len());
        let mut bodies = Vec::new();
        let mut states = 0;
        for (to, partition, epoch, key) in &request.rows {
            let is_this = self.votes_as(*to, *partition) == Some(*epoch);
            let row = match is_this {
                true => self.inner.engine.row(key).map_err(node_error)?,
                false => None,
            };
            let Some(row) = row.filter(|row| row.partition == *partition) else {
                rows.push(None);
                continue;
            };
            // A body that does not read back: another member's is copied.
            let Ok(body) = self.inner.engine.body(&row).await else {
                rows.push(None);
                continue;
            };
            let is_over = states + row.state.len() > FetchRowsRequest::ANSWER_BYTES
                || bodies.len() + body.len() > FetchRowsRequest::ANSWER_BYTES;
            if is_over && !rows.is_empty() {
                break;
            }
            states += row.state.len();
            bodies.extend_from_slice(&body);
            rows.push(Some(FetchedRow {
                accepted: row.ballot,
                state: row.state,
                body_len: u32::try_from(body.len()).unwrap_or(u32::MAX),
            }));
        }
        Ok((FetchRowsReply { rows }, bodies.into()))
    }

    /// What is left of earlier memberships in these partitions goes: a replica that returns starts empty, whatever it
    /// was shown meanwhile by nobody. Its chunks stay, for a chunk is what it is.
    pub(crate) async fn discard_rows(
        &self,
        partitions: &[PartitionId],
    ) -> Result<u64, EngineError> {
        let masks = all_leaves(partitions);
        let mut after: Option<RowKey> = None;
        let mut dropped = 0;
        loop {
            let (engine, wanted, from) = (self.inner.engine.clone(), masks.clone(), after);
            let scanned =
                blocking(move || engine.scan_row_leaves(&wanted, from.as_ref(), EXAMINE)).await?;
            let mut commits = Vec::with_capacity(scanned.found.len());
            for (key, _, ballot) in scanned.found {
                commits.push(self.inner.engine.submit(Mutation::DropRow { key, ballot }));
            }
            for commit in commits {
                commit.await?;
                dropped += 1;
            }
            after = scanned.examined;
            if after.is_none() {
                return Ok(dropped);
            }
        }
    }

    /// The chunks of partitions that this disk holds no more go.
    pub(crate) async fn discard_chunks(
        &self,
        partitions: &[PartitionId],
    ) -> Result<u64, EngineError> {
        let masks = all_leaves(partitions);
        let mut after = None;
        let mut dropped = 0;
        loop {
            let (engine, wanted) = (self.inner.engine.clone(), masks.clone());
            let scanned =
                blocking(move || engine.scan_chunk_leaves(&wanted, after, EXAMINE)).await?;
            let mut commits = Vec::with_capacity(scanned.found.len());
            for (id, _) in scanned.found {
                commits.push(self.inner.engine.submit(Mutation::DeleteChunk { id }));
            }
            for commit in commits {
                commit.await?;
                dropped += 1;
            }
            after = scanned.examined;
            if after.is_none() {
                return Ok(dropped);
            }
        }
    }

    /// Makes durable what new members adopt, then their identities; from then on this disk votes there. `horizon` is
    /// above everything that the old members may have promised: it becomes part of the floor, for this disk refuses
    /// whatever they might have had to refuse. Only copies go in below it.
    pub(crate) async fn adopt_as_new(
        &self,
        adoptions: &[(Learning, Adoption)],
        horizon: Timestamp,
        generations: &[(BucketId, Generation)],
    ) -> Result<(), EngineError> {
        let engine = &self.inner.engine;
        let mut commits = Vec::new();
        for (bucket, generation) in generations {
            self.inner
                .generations
                .adopt(engine, *bucket, *generation)
                .await?;
        }
        for (learning, adoption) in adoptions {
            let partition = learning.partition;
            commits.push(engine.submit(Mutation::Floor {
                partition,
                ballot: adoption.floor.max(Ballot::last_at(horizon)),
            }));
            commits.push(engine.submit(Mutation::Bound {
                partition,
                bound: adoption.bound,
            }));
        }
        for commit in commits {
            commit.await?;
        }
        // Behind them in the log, and after them in time: whoever finds the identity finds what it stands on.
        let mut commits = Vec::new();
        for (learning, _) in adoptions {
            commits.push(engine.submit(Mutation::Joined {
                partition: learning.partition,
                epoch: learning.own.joined,
            }));
        }
        for commit in commits {
            commit.await?;
        }
        for (learning, _) in adoptions {
            self.inner
                .members
                .open(learning.partition, learning.epoch, learning.own);
        }
        Ok(())
    }

    /// Whether this disk holds the row at that ballot or a newer one.
    pub(crate) fn holds_row(&self, key: &RowKey, ballot: Ballot) -> Result<bool, EngineError> {
        let row = self.inner.engine.row(key)?;
        Ok(row.is_some_and(|row| row.ballot >= ballot))
    }

    /// Stores a copy of a row that is known to be chosen, below floor and promise too. One that is older than what is
    /// here changes nothing: the engine keeps the highest ballot.
    pub(crate) async fn copy_row(
        &self,
        learning: &Learning,
        key: RowKey,
        row: FetchedRow,
        body: Payload,
    ) -> Result<(), EngineError> {
        let bytes = u32::try_from(row.state.len().saturating_add(body.len())).unwrap_or(u32::MAX);
        let _room = self.inner.engine.reserve_row(bytes).await?;
        let is_inline = !body.is_empty();
        let stored = self.inner.engine.submit(Mutation::Row {
            partition: learning.partition,
            epoch: learning.epoch,
            key: key.clone(),
            ballot: row.accepted,
            state: row.state.clone(),
            body,
        });
        stored.await?;
        if !is_inline {
            self.note_chunks(learning.partition, &key, &row.state);
        }
        Ok(())
    }

    /// Notes, durably, that all is copied.
    pub(crate) async fn note_synced(&self, learning: &[Learning]) -> Result<(), EngineError> {
        let commits: Vec<_> = learning
            .iter()
            .map(|one| {
                self.inner.engine.submit(Mutation::Synced {
                    partition: one.partition,
                    epoch: one.epoch,
                })
            })
            .collect();
        for commit in commits {
            commit.await?;
        }
        Ok(())
    }

    /// Partitions that this disk was a member of, that others hold now for good, and of which it still has something.
    pub(crate) fn left_behind(&self, layout: &Layout) -> Vec<(PartitionId, PartitionFacts)> {
        let mut left = Vec::new();
        for number in 0..layout.partition_count() {
            let partition = PartitionId(number);
            let Some(row) = layout.row(partition) else {
                continue;
            };
            let facts = self.inner.engine.partition(partition);
            // Only once this disk has taken in the layout that says so.
            if facts.epoch != row.epoch || facts.joined == Epoch(0) {
                continue;
            }
            let is_stable = matches!(row.members, RowMembers::Stable(_));
            if !is_stable || self.inner.members.replica_in(partition).is_some() {
                continue;
            }
            let held = self.inner.engine.digest(partition);
            if !held.rows.is_empty() || !held.chunks.is_empty() {
                left.push((partition, facts));
            }
        }
        left
    }

    /// Ends this disk's identities in partitions that it has left, durably, before what it holds of them goes.
    pub(crate) async fn end_identities(
        &self,
        left: &[(PartitionId, PartitionFacts)],
    ) -> Result<(), EngineError> {
        let commits: Vec<_> = left
            .iter()
            .filter(|(_, facts)| !facts.is_lost())
            .map(|(partition, facts)| {
                self.inner.engine.submit(Mutation::Lost {
                    partition: *partition,
                    joined: facts.joined,
                })
            })
            .collect();
        for commit in commits {
            commit.await?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "test code")]
impl DiskReplica {
    pub(crate) async fn submit_for_test(&self, mutation: Mutation) {
        let commit = self.inner.engine.submit(mutation);
        commit.await.expect("the disk works");
    }

    /// As a disk whose clock once stood there has promised.
    pub(crate) async fn promise_up_to_for_test(&self, time: Timestamp) {
        let covered = self.inner.horizon.cover(time, time.ms());
        covered.await.expect("the disk works");
    }

    pub(crate) fn floor_for_test(&self, partition: PartitionId) -> Ballot {
        self.inner.engine.partition(partition).floor
    }

    pub(crate) fn held_for_test(&self, key: &RowKey) -> PartitionId {
        let row = self.inner.engine.row(key).expect("the index works");
        row.expect("the row is held").partition
    }
}

fn all_leaves(partitions: &[PartitionId]) -> crate::engine::compare::LeafMasks {
    partitions
        .iter()
        .map(|partition| (*partition, ALL_LEAVES))
        .collect()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(EngineError::Io {
            what: "run on an IO thread".to_owned(),
            message: error.to_string(),
        }),
    }
}
