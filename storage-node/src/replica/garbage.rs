//! A disk's side of dropping tombstones and of the birth bound (DESIGN 4.10, 4.13): what it says it holds, what it
//! refuses from then on, and what it removes.

use super::{DiskReplica, check_epoch, node_error, stale_epoch};
use crate::engine::compare::Scanned;
use crate::engine::walk::WalkedRow;
use crate::engine::{Commit, Mutation};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::PartitionId;
use ringfort_ring::register::acceptor::{Guard, Reason, Refusal};
use ringfort_ring::register::bound;
use ringfort_ring::register::collect::Holding;
use ringfort_wire::error::{NodeError, NodeErrorCode};
use ringfort_wire::id::{BucketId, ChunkId, RowKey};
use ringfort_wire::manifest::{ChunkOwner, ChunkRef, KeyState};
use ringfort_wire::message::{
    DropRowsReply, DropRowsRequest, PrepareBoundRequest, PrepareReply, RaiseFloorReply,
    RaiseFloorRequest, SurveyTombstonesReply, SurveyTombstonesRequest, TOMBSTONES_MAX,
};

impl DiskReplica {
    /// What it holds of tombstones: durable state only.
    pub(crate) async fn survey_tombstones(
        &self,
        request: SurveyTombstonesRequest,
    ) -> Result<SurveyTombstonesReply, NodeError> {
        check_count(request.rows.len())?;
        let guard = self.guard(request.to, request.partition, BucketId::SYSTEM)?;
        if let Err(refusal) = check_epoch(&guard, request.epoch) {
            return Ok(SurveyTombstonesReply::Refused(refusal));
        }
        let replica = self.clone();
        let held = off_the_async_threads(move || {
            let rows = request.rows.iter();
            rows.map(|(key, ballot)| replica.holding(key, *ballot))
                .collect::<Result<Vec<Holding>, NodeError>>()
        });
        Ok(SurveyTombstonesReply::Held(held.await??))
    }

    pub(super) fn holding(&self, key: &RowKey, ballot: Ballot) -> Result<Holding, NodeError> {
        // Under the lock: an Accept is either pending here or applied when the row is read.
        let shard = self.inner.slots.lock(key);
        if shard.pending(key).is_some() {
            return Ok(Holding::Newer);
        }
        let row = self.inner.engine.row(key).map_err(node_error)?;
        Ok(match row {
            Some(row) if row.ballot == ballot => Holding::Same,
            Some(row) if row.ballot > ballot => Holding::Newer,
            Some(_) | None => Holding::Older,
        })
    }

    /// Raises the floor of a partition, durably; not to where its own clock less `age_ms` has not come yet, for that
    /// would shut out the living.
    pub(crate) async fn raise_floor(
        &self,
        request: RaiseFloorRequest,
        age_ms: u64,
    ) -> Result<RaiseFloorReply, NodeError> {
        let guard = self.guard(request.to, request.partition, BucketId::SYSTEM)?;
        if let Err(refusal) = check_epoch(&guard, request.epoch) {
            return Ok(RaiseFloorReply::Refused(refusal));
        }
        check_age("floor", request.floor.time, &guard, age_ms)?;
        if guard.floor < request.floor {
            let raised = self.inner.engine.submit(Mutation::Floor {
                partition: request.partition,
                ballot: request.floor,
            });
            raised.await.map_err(node_error)?;
        }
        // What was asked in an epoch that has passed meanwhile is not answered in it.
        let guard = self.guard(request.to, request.partition, BucketId::SYSTEM)?;
        Ok(match check_epoch(&guard, request.epoch) {
            Ok(()) => RaiseFloorReply::Raised,
            Err(refusal) => RaiseFloorReply::Refused(refusal),
        })
    }

    /// Removes rows that hold exactly the ballots named. The asker has seen the floor durable on all members; here it
    /// is held against this disk's own, so that no asker can do without.
    pub(crate) async fn drop_rows(
        &self,
        request: DropRowsRequest,
    ) -> Result<DropRowsReply, NodeError> {
        check_count(request.rows.len())?;
        let replica = self.clone();
        let submitted = off_the_async_threads(move || replica.submit_drops(request)).await?;
        let commits = match submitted? {
            Ok(commits) => commits,
            Err(refusal) => return Ok(DropRowsReply::Refused(refusal)),
        };
        let mut dropped = 0;
        for commit in commits {
            commit.await.map_err(node_error)?;
            dropped += 1;
        }
        Ok(DropRowsReply::Dropped(dropped))
    }

    fn submit_drops(
        &self,
        request: DropRowsRequest,
    ) -> Result<Result<Vec<Commit>, Refusal>, NodeError> {
        let mut commits = Vec::with_capacity(request.rows.len());
        for (key, ballot) in request.rows {
            // Under the lock: an Accept that is admitted later finds its place in the log behind the removal, and one
            // that was admitted before is pending, or is the row now.
            let shard = self.inner.slots.lock(&key);
            let guard = self.guard(request.to, request.partition, BucketId::SYSTEM)?;
            if let Err(refusal) = check_epoch(&guard, request.epoch) {
                return Ok(Err(refusal));
            }
            if guard.floor < ballot {
                return Ok(Err(Refusal {
                    reason: Reason::Floor,
                    ..stale_epoch(&guard)
                }));
            }
            let row = self.inner.engine.row(&key).map_err(node_error)?;
            let is_it =
                row.is_some_and(|row| row.ballot == ballot && row.partition == request.partition);
            if is_it && shard.pending(&key).is_none() {
                commits.push(self.inner.engine.submit(Mutation::DropRow { key, ballot }));
            }
        }
        Ok(Ok(commits))
    }

    /// Adopts a birth bound, durably, and then promises as ever.
    pub(crate) async fn prepare_bound(
        &self,
        request: PrepareBoundRequest,
        age_ms: u64,
    ) -> Result<PrepareReply, NodeError> {
        let PrepareBoundRequest { prepare, bound } = request;
        if prepare.claim.born.is_some() {
            return Err(NodeError::new(
                NodeErrorCode::Malformed,
                "only an identity write carries a birth bound",
            ));
        }
        let guard = self.guard(prepare.to, prepare.partition, prepare.key.bucket)?;
        if let Err(refusal) = check_epoch(&guard, prepare.claim.epoch) {
            return Ok(PrepareReply::Refused(refusal));
        }
        check_age("birth bound", bound, &guard, age_ms)?;
        if guard.bound < bound {
            let adopted = self.inner.engine.submit(Mutation::Bound {
                partition: prepare.partition,
                bound,
            });
            adopted.await.map_err(node_error)?;
        }
        self.prepare(prepare).await
    }
}

/// What a pass over a disk meets next, in pieces.
impl DiskReplica {
    /// Rows behind `after`, at most `examine`.
    pub(crate) async fn walk_rows(
        &self,
        after: Option<RowKey>,
        examine: usize,
    ) -> Result<Scanned<WalkedRow, RowKey>, NodeError> {
        let engine = self.inner.engine.clone();
        let walked = off_the_async_threads(move || engine.walk_rows(after.as_ref(), examine));
        walked.await?.map_err(node_error)
    }

    /// Chunks behind `after` whose partition is `wanted`, with their owners; looks at `examine` at most. One whose
    /// record does not read back is the scrub's.
    pub(crate) async fn walk_chunks(
        &self,
        after: Option<ChunkId>,
        examine: usize,
        wanted: impl Fn(ChunkId, PartitionId) -> bool,
    ) -> Result<Scanned<(ChunkRef, ChunkOwner), ChunkId>, NodeError> {
        let engine = self.inner.engine.clone();
        let examine = examine.max(1);
        let walked = off_the_async_threads(move || engine.scan_chunks(after, examine));
        let walked = walked.await?.map_err(node_error)?;
        let last = walked.last().map(|(id, _)| *id);
        let examined = last.filter(|_| walked.len() == examine);
        let mut found = Vec::new();
        for (id, partition) in walked {
            if wanted(id, partition)
                && let Ok(Some(facts)) = self.inner.engine.chunk_facts(id).await
            {
                let chunk = ChunkRef {
                    id,
                    len: facts.len_bytes,
                    blake3: facts.blake3,
                };
                found.push((chunk, facts.owner));
            }
        }
        Ok(Scanned { found, examined })
    }

    /// A key's state as this disk durably holds it, chosen or not; `None` where it holds none that reads back.
    pub(crate) fn own_state(&self, row: &RowKey) -> Option<KeyState> {
        let row = self.inner.engine.row(row).ok().flatten()?;
        KeyState::decode(&row.state).ok()
    }
}

fn check_count(rows: usize) -> Result<(), NodeError> {
    if rows > TOMBSTONES_MAX {
        return Err(NodeError::new(
            NodeErrorCode::Malformed,
            "too many rows in one request",
        ));
    }
    Ok(())
}

fn check_age(what: &str, at: Timestamp, guard: &Guard, age_ms: u64) -> Result<(), NodeError> {
    if bound::may_adopt(at, guard.now_ms, age_ms) {
        return Ok(());
    }
    Err(NodeError::new(
        NodeErrorCode::Unavailable,
        format!(
            "a {what} at {} is later than this node's clock, {}, less the age that it is set to, {age_ms} ms",
            at.ms(),
            guard.now_ms,
        ),
    ))
}

async fn off_the_async_threads<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NodeError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| NodeError::new(NodeErrorCode::Unavailable, error.to_string()))
}
