//! Chunks that nothing names and nothing will (DESIGN 4.13): found by a pass over a disk's chunks, each of which says whose
//! it is.
//!
//! The living are filtered out by reads: of this disk's own rows, then of the others'. A read is never enough to delete
//! by, for a straggler may yet come and name what it wrote: only after an identity write that carried a birth bound is
//! an owner that nothing names dead.

use super::pass::Pass;
use super::rules::{is_named_here, is_spared, is_young};
use ringfort_coordinator::{BucketRef, Owned, ReadError};
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::PartitionId;
use ringfort_wire::id::{BucketId, ChunkId, ObjectKey, RowKey};
use ringfort_wire::manifest::{BodyOwner, ChunkOwner, ChunkRef, KeyState};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Owners remembered in one pass: their chunks are met one by one, all over the disk.
const JUDGED_MAX: usize = 1_000;

/// How much longer than its grace a chunk counts as being deleted.
const DELETION: Duration = Duration::from_secs(5);

/// What became of owners that this pass has met.
#[derive(Debug, Default)]
pub(super) struct Judged(HashMap<ChunkOwner, Fate>);

#[derive(Clone, Debug)]
enum Fate {
    /// Alive, by a read: these are spared.
    Living(Owned),
    /// After an identity write with a bound, or in a removed bucket: all but these go.
    Dead(Owned),
    /// Not to be found out in this pass.
    Unknown,
}

impl Fate {
    /// What to do with a chunk, if that is known: `true`, delete it.
    fn of(&self, chunk: ChunkId) -> Option<bool> {
        match self {
            Self::Living(owned) if is_spared(owned, chunk) => Some(false),
            Self::Living(_) => None,
            Self::Dead(owned) => Some(!is_spared(owned, chunk)),
            Self::Unknown => Some(false),
        }
    }
}

impl Judged {
    fn note(&mut self, owner: &ChunkOwner, fate: Fate) {
        if self.0.len() >= JUDGED_MAX {
            self.0.clear();
        }
        self.0.insert(owner.clone(), fate);
    }
}

/// A key, and where it is.
type Key = (BucketId, PartitionId, ObjectKey);

impl Pass<'_> {
    pub(super) async fn judge_chunks(&mut self, chunks: Vec<(ChunkRef, ChunkOwner)>) {
        let bound = self.cutoff(self.collector.pace.orphan_age_ms());
        let mut by_key: HashMap<Key, Vec<(ChunkRef, ChunkOwner)>> = HashMap::new();
        let mut dead = Vec::new();
        for (chunk, owner) in chunks {
            match self.judged.0.get(&owner).and_then(|fate| fate.of(chunk.id)) {
                Some(true) => dead.push(chunk),
                Some(false) => {}
                None => {
                    let key = (owner.bucket, owner.partition, owner.key.clone());
                    by_key.entry(key).or_default().push((chunk, owner));
                }
            }
        }
        for (key, mut chunks) in by_key {
            let is_moving = self.layout.rule(key.1).is_none_or(|rule| rule.is_joint());
            if is_moving {
                continue;
            }
            let row = RowKey::object(key.0, key.2.clone());
            let is_suspicious = self.disk.generation_of(key.0).0 > 0;
            if !is_suspicious {
                chunks.retain(|(_, owner)| !is_young(&owner.owner, bound));
                if let Some(state) = self.disk.own_state(&row) {
                    chunks.retain(|(chunk, owner)| !is_named_here(&state, owner, chunk.id));
                }
            }
            if chunks.is_empty() {
                continue;
            }
            match self.judge_key(&key, &row, &chunks, bound).await {
                Ok(found) => dead.extend(found),
                Err(error) => {
                    for (_, owner) in &chunks {
                        self.judged.note(owner, Fate::Unknown);
                    }
                    self.fail(&error);
                }
            }
            tokio::time::sleep(self.collector.pace.pause).await;
        }
        self.delete(dead);
    }

    /// Which of these chunks of one key are dead.
    async fn judge_key(
        &mut self,
        key: &Key,
        row: &RowKey,
        chunks: &[(ChunkRef, ChunkOwner)],
        bound: Timestamp,
    ) -> Result<Vec<ChunkRef>, ReadError> {
        let bucket = self.bucket_of(key.0, key.1, row).await?;
        if bucket.generation.0 > 0 && self.is_removed(key.0).await {
            // Nothing names anything there, and nothing ever will: no request in it can be carried out any more.
            for (_, owner) in chunks {
                self.bury(owner, Owned::Nothing);
            }
            return Ok(chunks.iter().map(|(chunk, _)| *chunk).collect());
        }
        let suspects = self.filter_by_read(bucket, row, chunks, bound).await?;
        if suspects.is_empty() {
            return Ok(Vec::new());
        }
        let coordinator = self.collector.coordinator.clone();
        let state = coordinator
            .write_with_bound::<KeyState>(bucket, row, bound)
            .await?;
        let mut named: HashMap<BodyOwner, Owned> = HashMap::new();
        let mut dead = Vec::new();
        for (chunk, owner) in suspects {
            let owned = match named.get(&owner.owner) {
                Some(owned) => owned.clone(),
                None => {
                    let owned = coordinator.named_by(state.as_ref(), &owner.owner).await?;
                    self.bury(&owner, owned.clone());
                    named.insert(owner.owner, owned.clone());
                    owned
                }
            };
            if !is_spared(&owned, chunk.id) {
                dead.push(chunk);
            }
        }
        Ok(dead)
    }

    /// Those that a linearizable read does not show alive, and that are old enough to be judged.
    async fn filter_by_read(
        &mut self,
        bucket: BucketRef,
        row: &RowKey,
        chunks: &[(ChunkRef, ChunkOwner)],
        bound: Timestamp,
    ) -> Result<Vec<(ChunkRef, ChunkOwner)>, ReadError> {
        let coordinator = self.collector.coordinator.clone();
        let read = coordinator.read::<KeyState>(bucket, row, false).await?;
        let mut suspects = Vec::new();
        for (chunk, owner) in chunks {
            if is_young(&owner.owner, bound) {
                continue;
            }
            let owned = coordinator
                .named_by(read.state.as_ref(), &owner.owner)
                .await?;
            if is_spared(&owned, chunk.id) {
                self.judged.note(owner, Fate::Living(owned));
            } else {
                suspects.push((*chunk, owner.clone()));
            }
        }
        Ok(suspects)
    }

    /// An owner is dead, but for what the value chosen with the bound names. Counted once a pass.
    fn bury(&mut self, owner: &ChunkOwner, owned: Owned) {
        let is_known = matches!(self.judged.0.get(owner), Some(Fate::Dead(_)));
        if !is_known {
            self.report.orphans += u64::from(owned == Owned::Nothing);
            self.judged.note(owner, Fate::Dead(owned));
        }
    }

    /// Has the chunks deleted on all their replicas, once readers have had their time.
    fn delete(&mut self, chunks: Vec<ChunkRef>) {
        if chunks.is_empty() {
            return;
        }
        let grace = self.collector.pace.delete_grace;
        let until = Instant::now() + grace + DELETION;
        for chunk in &chunks {
            self.memory.condemn(chunk.id, until);
            self.report.chunks_deleted += 1;
            self.report.chunk_bytes_deleted += u64::from(chunk.len);
        }
        self.collector.coordinator.delete_chunks(chunks, grace);
    }
}
