//! Chunks that an accepted manifest names and this disk should have, and has not: fetched from the other replicas,
//! ahead of all other repair (DESIGN 4.4).

use super::DiskReplica;
use super::chunks::verify;
use crate::engine::Mutation;
use parking_lot::Mutex;
use ringfort_ring::id::PartitionId;
use ringfort_ring::layout::Layout;
use ringfort_ring::placement;
use ringfort_wire::id::{ChunkId, Payload, RowKey};
use ringfort_wire::manifest::{
    BodyOwner, BodyPlace, ChunkOwner, ChunkRef, KeyState, ObjectHead, PartState,
};
use ringfort_wire::message::{FetchChunkReply, FetchChunkRequest};
use ringfort_wire::transport::{Lane, Transport, call};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// A chunk that arrives a little after its manifest is no loss: the writer waited for a majority only.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long until a chunk that could not be fetched is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// More than so many are not remembered: the sweep between replicas finds the rest.
const REMEMBERED_MAX: usize = 500_000;
/// Lists of chunks that wait to be read, at most.
const LISTS_MAX: usize = 10_000;
/// The fewest bytes of a chunk in a state: its id, its length and its digest.
const CHUNK_BYTES_MIN: usize = 16 + 1 + 32;

#[derive(Default)]
pub(super) struct MissingChunks {
    inner: Mutex<Missing>,
}

#[derive(Default)]
struct Missing {
    wanted: BTreeMap<ChunkId, Wanted>,
    /// The same chunks by the time at which they are due: of very many, the next are found at once.
    order: BTreeSet<(Instant, ChunkId)>,
}

#[derive(Clone)]
struct Wanted {
    due: Instant,
    /// Length, digest and owner, as a manifest names them; unknown for a chunk that was found rotten.
    named: Option<(ChunkRef, ChunkOwner)>,
}

enum Fetched {
    Here,
    NobodyHas,
    NotYet,
}

impl MissingChunks {
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.inner.lock().wanted.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn found(&self, chunk: ChunkId) {
        let mut missing = self.inner.lock();
        if let Some(wanted) = missing.wanted.remove(&chunk) {
            missing.order.remove(&(wanted.due, chunk));
        }
    }

    /// A chunk that this disk had is rotten.
    pub(super) fn note_lost(&self, chunk: ChunkId) {
        self.note(chunk, None, Duration::ZERO);
    }

    fn note(&self, chunk: ChunkId, named: Option<(ChunkRef, ChunkOwner)>, patience: Duration) {
        let mut missing = self.inner.lock();
        if let Some(wanted) = missing.wanted.get_mut(&chunk) {
            if wanted.named.is_none() {
                wanted.named = named;
            }
            return;
        }
        if missing.wanted.len() >= REMEMBERED_MAX {
            return;
        }
        let due = Instant::now() + patience;
        missing.wanted.insert(chunk, Wanted { due, named });
        missing.order.insert((due, chunk));
    }

    fn due(&self, limit: usize) -> Vec<(ChunkId, Wanted)> {
        let now = Instant::now();
        let missing = self.inner.lock();
        missing
            .order
            .iter()
            .take_while(|(due, _)| *due <= now)
            .take(limit)
            .filter_map(|(_, chunk)| Some((*chunk, missing.wanted.get(chunk)?.clone())))
            .collect()
    }

    fn later(&self, chunk: ChunkId) {
        let mut missing = self.inner.lock();
        let missing = &mut *missing;
        if let Some(wanted) = missing.wanted.get_mut(&chunk) {
            missing.order.remove(&(wanted.due, chunk));
            wanted.due = Instant::now() + AGAIN;
            missing.order.insert((wanted.due, chunk));
        }
    }
}

impl DiskReplica {
    /// Notes the chunks of an accepted state that should be here and are not.
    pub(super) fn note_chunks(&self, key: &RowKey, state: &[u8]) {
        for (chunk, owner) in named_chunks(key, state) {
            self.note_chunk(chunk, owner);
        }
    }

    /// Notes a chunk, if it should be here and is not; whether it was.
    pub(crate) fn note_chunk(&self, chunk: ChunkRef, owner: ChunkOwner) -> bool {
        let Some(partitions) = self.inner.members.partition_count() else {
            return false;
        };
        let partition = placement::partition_of_chunk(chunk.id.0, partitions);
        let is_lacking = self.inner.members.replica_in(partition).is_some()
            && !self.inner.engine.has_chunk(chunk.id).unwrap_or(true);
        if is_lacking {
            self.inner
                .missing
                .note(chunk.id, Some((chunk, owner)), PATIENCE);
        }
        is_lacking
    }

    /// Fetches some of what is due; whether there was any.
    pub(crate) async fn fetch_missing(&self, transport: &dyn Transport, layout: &Layout) -> bool {
        let due = self.inner.missing.due(16);
        for (chunk, wanted) in &due {
            let is_here =
                wanted.named.is_some() && self.inner.engine.has_chunk(*chunk).unwrap_or(false);
            let fetched = if is_here {
                Fetched::Here
            } else {
                self.fetch_one(transport, layout, *chunk, wanted).await
            };
            match fetched {
                Fetched::Here => self.inner.missing.found(*chunk),
                Fetched::NobodyHas => {
                    tracing::debug!(%chunk, "a chunk that was missed is nowhere any more: deleted meanwhile");
                    self.inner.missing.found(*chunk);
                }
                Fetched::NotYet => self.inner.missing.later(*chunk),
            }
        }
        !due.is_empty()
    }

    async fn fetch_one(
        &self,
        transport: &dyn Transport,
        layout: &Layout,
        id: ChunkId,
        wanted: &Wanted,
    ) -> Fetched {
        let partition = placement::partition_of_chunk(id.0, layout.partition_count());
        let Some((chunk, owner)) = self.description(id, wanted).await else {
            return Fetched::NotYet;
        };
        let (Some(row), Some(rule)) = (layout.row(partition), layout.rule(partition)) else {
            return Fetched::NotYet;
        };
        let mut are_all_without = true;
        for to in rule.members() {
            if to.disk == self.id() {
                continue;
            }
            let Some(node) = layout.node_of(to.disk) else {
                continue;
            };
            let request = FetchChunkRequest {
                to,
                partition,
                epoch: row.epoch,
                id,
                from: 0,
                len: chunk.len,
            };
            let deadline = Duration::from_secs(10);
            let reply = call(
                transport,
                node.id,
                Lane::Repair,
                request,
                Payload::new(),
                deadline,
            )
            .await;
            let data = match reply {
                Ok((FetchChunkReply::Found, data)) => data,
                Ok((FetchChunkReply::Missing, _)) => continue,
                Ok((FetchChunkReply::Refused(_), _)) | Err(_) => {
                    are_all_without = false;
                    continue;
                }
            };
            are_all_without = false;
            if verify(&chunk, &data).await.is_ok()
                && self.keep(partition, row.epoch, &chunk, &owner, data).await
            {
                return Fetched::Here;
            }
        }
        if are_all_without {
            Fetched::NobodyHas
        } else {
            Fetched::NotYet
        }
    }

    /// What a chunk must be: as a manifest names it, else as this disk's own (rotten) record still says.
    async fn description(&self, id: ChunkId, wanted: &Wanted) -> Option<(ChunkRef, ChunkOwner)> {
        if let Some(named) = &wanted.named {
            return Some(named.clone());
        }
        let facts = self.inner.engine.chunk_facts(id).await.ok()??;
        let chunk = ChunkRef {
            id,
            len: facts.len_bytes,
            blake3: facts.blake3,
        };
        Some((chunk, manifest_owner(facts.owner)))
    }

    async fn keep(
        &self,
        partition: PartitionId,
        epoch: ringfort_ring::id::Epoch,
        chunk: &ChunkRef,
        owner: &ChunkOwner,
        data: Payload,
    ) -> bool {
        let Ok(_permit) = self.inner.engine.reserve(chunk.len).await else {
            return false;
        };
        let stored = self.inner.engine.submit(Mutation::Chunk {
            id: chunk.id,
            partition,
            epoch,
            owner: super::chunks::engine_owner(owner.clone()),
            blake3: chunk.blake3,
            data,
        });
        stored.await.is_ok()
    }
}

pub(super) fn manifest_owner(owner: crate::engine::ChunkOwner) -> ChunkOwner {
    use crate::engine::ChunkOwner as Stored;
    match owner {
        Stored::Operation {
            bucket,
            key,
            operation,
        } => ChunkOwner {
            bucket,
            key,
            owner: BodyOwner::Operation(operation),
        },
        Stored::Upload {
            bucket,
            key,
            upload,
        } => ChunkOwner {
            bucket,
            key,
            owner: BodyOwner::Upload(upload),
        },
    }
}

/// The chunks that a state names. Those of a stored list are not looked up: its own chunks are named.
fn named_chunks(key: &RowKey, state: &[u8]) -> Vec<(ChunkRef, ChunkOwner)> {
    let owned = |chunks: &[ChunkRef], owner: BodyOwner| {
        chunks
            .iter()
            .map(|chunk| {
                let owner = ChunkOwner {
                    bucket: key.bucket,
                    key: key.key.clone(),
                    owner,
                };
                (*chunk, owner)
            })
            .collect()
    };
    if let Some(part) = &key.part {
        return match PartState::decode(state) {
            Ok(PartState {
                part: Some(head), ..
            }) => owned(&head.chunks, BodyOwner::Upload(part.upload)),
            _ => Vec::new(),
        };
    }
    let head: Option<Box<ObjectHead>> = KeyState::decode(state).ok().and_then(|state| state.head);
    let Some(head) = head else {
        return Vec::new();
    };
    match &head.body {
        BodyPlace::Inline => Vec::new(),
        BodyPlace::Chunks(list) => owned(&list.chunks, head.owner),
        BodyPlace::Listed(chunks) => owned(chunks, head.owner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_due_in_its_time_and_forgotten_whole() {
        let missing = MissingChunks::default();
        let due = |missing: &MissingChunks| -> Vec<ChunkId> {
            let due = missing.due(16);
            due.into_iter().map(|(chunk, _)| chunk).collect()
        };
        let (one, two) = (ChunkId([1; 16]), ChunkId([2; 16]));
        missing.note_lost(two);
        missing.note(one, None, AGAIN);
        missing.note_lost(one);
        assert_eq!(due(&missing), [two]);
        missing.later(two);
        assert_eq!(due(&missing), []);
        assert_eq!((missing.count(), missing.inner.lock().order.len()), (2, 2));
        missing.found(one);
        missing.found(two);
        assert_eq!((missing.count(), missing.inner.lock().order.len()), (0, 0));
    }
}
