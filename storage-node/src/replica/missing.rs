//! Chunks that an accepted manifest names and this disk should have, and has not: fetched from the other replicas,
//! ahead of all other repair (DESIGN 4.4).

use super::DiskReplica;
use super::chunks::verify;
use crate::engine::Mutation;
use parking_lot::Mutex;
use ringfort_ring::id::PartitionId;
use ringfort_ring::layout::Layout;
use ringfort_ring::merkle::chunk_term;
use ringfort_ring::placement;
use ringfort_wire::id::{ChunkId, Payload, RowKey};
use ringfort_wire::manifest::{
    BodyList, BodyOwner, BodyPlace, ChunkOwner, ChunkRef, KeyState, PartState,
};
use ringfort_wire::message::{FetchChunkReply, FetchChunkRequest, LeafSet, ScanChunksRequest};
use ringfort_wire::transport::{Lane, Transport, call};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    /// Lists that are stored as chunks, in the order in which they are due: what they name is noted when they are read.
    lists: VecDeque<WantedList>,
}

/// The chunks of a list of chunks, of which this disk need not hold any itself.
#[derive(Clone, PartialEq, Eq, Debug)]
struct WantedList {
    due: Instant,
    chunks: Vec<ChunkRef>,
    owner: ChunkOwner,
}

#[derive(Clone)]
struct Wanted {
    due: Instant,
    /// Length, digest and owner, as a manifest names them; unknown for a chunk that was found rotten.
    named: Option<(ChunkRef, ChunkOwner)>,
}

enum NotFetched {
    NobodyHas,
    NotYet,
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

    fn note_list(&self, chunks: Vec<ChunkRef>, owner: ChunkOwner, patience: Duration) {
        let mut missing = self.inner.lock();
        if missing.lists.len() < LISTS_MAX {
            missing.lists.push_back(WantedList {
                due: Instant::now() + patience,
                chunks,
                owner,
            });
        }
    }

    #[cfg(test)]
    pub(super) fn lists_waiting(&self) -> usize {
        self.inner.lock().lists.len()
    }

    fn take_due_list(&self) -> Option<WantedList> {
        let now = Instant::now();
        let mut missing = self.inner.lock();
        let at = missing.lists.iter().position(|list| list.due <= now)?;
        missing.lists.remove(at)
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
    pub(super) fn note_chunks(&self, partition: PartitionId, key: &RowKey, state: &[u8]) {
        if state.len() < CHUNK_BYTES_MIN {
            return;
        }
        let Some(named) = named_chunks(partition, key, state) else {
            return;
        };
        for chunk in &named.chunks {
            self.note_chunk(*chunk, named.owner.clone());
        }
        if named.are_a_list {
            self.inner
                .missing
                .note_list(named.chunks, named.owner, PATIENCE);
        }
    }

    /// Notes what a list that is stored as chunks names. The list itself may be another disk's.
    async fn expand(&self, transport: &dyn Transport, layout: &Layout, list: WantedList) {
        let mut encoded = Vec::new();
        for chunk in &list.chunks {
            let here = self.inner.engine.chunk(chunk.id, 0..chunk.len).await;
            let data = match here {
                Ok(Some(data)) if verify(chunk, &data).await.is_ok() => Ok(data),
                _ => self.fetch_from_peers(transport, layout, chunk).await,
            };
            match data {
                Ok(data) => encoded.extend_from_slice(&data),
                Err(NotFetched::NobodyHas) => return,
                Err(NotFetched::NotYet) => {
                    self.inner.missing.note_list(list.chunks, list.owner, AGAIN);
                    return;
                }
            }
        }
        let Ok(named) = BodyList::decode(&encoded) else {
            tracing::error!(key = %list.owner.key, "a list of chunks is not one; what it names cannot be noted");
            return;
        };
        for (index, chunk) in named.chunks.into_iter().enumerate() {
            self.note_chunk(chunk, list.owner.clone());
            // A list may name a million of them; others have their turn in between.
            if index % 256 == 255 {
                tokio::task::yield_now().await;
            }
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

    /// Reads every list that waits, due or not; how many there were.
    #[cfg(test)]
    pub(super) async fn expand_all(&self, transport: &dyn Transport, layout: &Layout) -> usize {
        let lists = std::mem::take(&mut self.inner.missing.inner.lock().lists);
        let count = lists.len();
        for list in lists {
            self.expand(transport, layout, list).await;
        }
        count
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
        let list = self.inner.missing.take_due_list();
        let was_any = !due.is_empty() || list.is_some();
        if let Some(list) = list {
            self.expand(transport, layout, list).await;
        }
        was_any
    }

    async fn fetch_one(
        &self,
        transport: &dyn Transport,
        layout: &Layout,
        id: ChunkId,
        wanted: &Wanted,
    ) -> Fetched {
        let described = self.description(transport, layout, id, wanted).await;
        let (chunk, owner) = match described {
            Ok(described) => described,
            Err(NotFetched::NotYet) => return Fetched::NotYet,
            Err(NotFetched::NobodyHas) => return Fetched::NobodyHas,
        };
        let partition = placement::partition_of_chunk(id.0, layout.partition_count());
        let Some(row) = layout.row(partition) else {
            return Fetched::NotYet;
        };
        match self.fetch_from_peers(transport, layout, &chunk).await {
            Ok(data) => {
                let is_kept = self.keep(partition, row.epoch, &chunk, &owner, data);
                if is_kept.await {
                    Fetched::Here
                } else {
                    Fetched::NotYet
                }
            }
            Err(NotFetched::NotYet) => Fetched::NotYet,
            Err(NotFetched::NobodyHas) => Fetched::NobodyHas,
        }
    }

    /// A chunk from the first other replica that has it whole.
    async fn fetch_from_peers(
        &self,
        transport: &dyn Transport,
        layout: &Layout,
        chunk: &ChunkRef,
    ) -> Result<Payload, NotFetched> {
        let partition = placement::partition_of_chunk(chunk.id.0, layout.partition_count());
        let (Some(row), Some(rule)) = (layout.row(partition), layout.rule(partition)) else {
            return Err(NotFetched::NotYet);
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
                id: chunk.id,
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
            match reply {
                Ok((FetchChunkReply::Found, data)) if verify(chunk, &data).await.is_ok() => {
                    return Ok(data);
                }
                Ok((FetchChunkReply::Missing, _)) => {}
                Ok((FetchChunkReply::Found | FetchChunkReply::Refused(_), _)) | Err(_) => {
                    are_all_without = false;
                }
            }
        }
        Err(if are_all_without {
            NotFetched::NobodyHas
        } else {
            NotFetched::NotYet
        })
    }

    /// What a chunk must be: as a manifest names it, else as this disk's own (rotten) record still says, else as another
    /// replica has it.
    async fn description(
        &self,
        transport: &dyn Transport,
        layout: &Layout,
        id: ChunkId,
        wanted: &Wanted,
    ) -> Result<(ChunkRef, ChunkOwner), NotFetched> {
        if let Some(named) = &wanted.named {
            return Ok(named.clone());
        }
        if let Ok(Some(facts)) = self.inner.engine.chunk_facts(id).await {
            let chunk = ChunkRef {
                id,
                len: facts.len_bytes,
                blake3: facts.blake3,
            };
            return Ok((chunk, facts.owner));
        }
        self.described_by_peers(transport, layout, id).await
    }

    /// What the first other replica that has a chunk says of it.
    async fn described_by_peers(
        &self,
        transport: &dyn Transport,
        layout: &Layout,
        id: ChunkId,
    ) -> Result<(ChunkRef, ChunkOwner), NotFetched> {
        let partition = placement::partition_of_chunk(id.0, layout.partition_count());
        let (Some(row), Some(rule)) = (layout.row(partition), layout.rule(partition)) else {
            return Err(NotFetched::NotYet);
        };
        // Chunks are named in the order of their ids: from the one before on, this is the first.
        let before = u128::from_be_bytes(id.0).checked_sub(1);
        let mut are_all_without = true;
        for to in rule.members() {
            if to.disk == self.id() {
                continue;
            }
            let Some(node) = layout.node_of(to.disk) else {
                continue;
            };
            let request = ScanChunksRequest {
                wanted: vec![LeafSet {
                    to,
                    partition,
                    epoch: row.epoch,
                    leaves: 1 << chunk_term(id.0).leaf,
                }],
                after: before.map(|before| ChunkId(before.to_be_bytes())),
                limit: 1,
            };
            let (payload, deadline) = (Payload::new(), Duration::from_secs(10));
            let asked = call(transport, node.id, Lane::Repair, request, payload, deadline);
            match asked.await {
                Ok((reply, _)) if reply.refused.is_empty() => {
                    if let Some(described) = reply.chunks.into_iter().find(|(it, _)| it.id == id) {
                        return Ok(described);
                    }
                    // Also where its own record of it does not read back: then it has none to give.
                }
                _ => are_all_without = false,
            }
        }
        Err(if are_all_without {
            NotFetched::NobodyHas
        } else {
            NotFetched::NotYet
        })
    }

    /// Whether a chunk is here. One that cannot be looked up is not.
    pub(crate) fn has_chunk(&self, chunk: ChunkId) -> bool {
        self.inner.engine.has_chunk(chunk).unwrap_or(false)
    }

    /// Keeps a copy of a chunk that another replica has handed over, if it is the one that is named.
    pub(crate) async fn keep_copy(
        &self,
        partition: PartitionId,
        epoch: ringfort_ring::id::Epoch,
        chunk: &ChunkRef,
        owner: &ChunkOwner,
        data: Payload,
    ) -> Result<(), String> {
        verify(chunk, &data)
            .await
            .map_err(|error| error.to_string())?;
        if self.keep(partition, epoch, chunk, owner, data).await {
            self.inner.missing.found(chunk.id);
            Ok(())
        } else {
            Err("it could not be stored".to_owned())
        }
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
            owner: owner.clone(),
            blake3: chunk.blake3,
            data,
        });
        stored.await.is_ok()
    }
}

/// The chunks that a state names.
struct Named {
    chunks: Vec<ChunkRef>,
    owner: ChunkOwner,
    /// Whether they hold a list that names the body's own chunks.
    are_a_list: bool,
}

fn named_chunks(partition: PartitionId, key: &RowKey, state: &[u8]) -> Option<Named> {
    let (chunks, owner, are_a_list) = match &key.part {
        Some(part) => {
            let head = PartState::decode(state).ok()?.part?;
            (head.chunks, BodyOwner::Upload(part.upload), false)
        }
        None => {
            let head = KeyState::decode(state).ok()?.head?;
            match head.body {
                BodyPlace::Inline => return None,
                BodyPlace::Chunks(list) => (list.chunks, head.owner, false),
                BodyPlace::Listed(chunks) => (chunks, head.owner, true),
            }
        }
    };
    Some(Named {
        chunks,
        owner: ChunkOwner {
            bucket: key.bucket,
            partition,
            key: key.key.clone(),
            owner,
        },
        are_a_list,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_in_its_time_and_only_so_many_wait() {
        let missing = MissingChunks::default();
        let owner = |n: usize| ChunkOwner {
            bucket: ringfort_wire::id::BucketId([1; 16]),
            partition: PartitionId(0),
            key: ringfort_wire::id::ObjectKey::parse(format!("k{n}")).expect("a legal key"),
            owner: BodyOwner::Upload(ringfort_wire::id::UploadId([2; 16])),
        };
        missing.note_list(Vec::new(), owner(0), AGAIN);
        for n in 1..=LISTS_MAX {
            missing.note_list(Vec::new(), owner(n), Duration::ZERO);
        }
        assert_eq!(missing.inner.lock().lists.len(), LISTS_MAX);
        let next = missing.take_due_list().map(|list| list.owner);
        assert_eq!(next, Some(owner(1)));
        let late = MissingChunks::default();
        late.note_list(Vec::new(), owner(0), AGAIN);
        assert_eq!(late.take_due_list(), None);
    }

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
