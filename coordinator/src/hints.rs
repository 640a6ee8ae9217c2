//! Hints: which rows and chunks a replica missed while this gateway wrote them, and which deletions, delivered when it
//! answers again.
//!
//! In memory and bounded: a hint that is lost costs time, not truth, for the next reader and the sweep between
//! replicas find the same; a deletion that is forgotten is found by the collection of orphans.

use super::{BucketRef, Coordinator};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use ringfort_ring::id::{DiskId, PartitionId};
use ringfort_ring::quorum::Replica;
use ringfort_wire::id::{ChunkId, RowKey};
use ringfort_wire::manifest::{ChunkOwner, ChunkRef};
use ringfort_wire::message::{DeleteChunksRequest, NoteChunksRequest};
use ringfort_wire::transport::Lane;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Rows, and chunks, remembered for one disk at most.
const REMEMBERED_MAX: usize = 100_000;
/// Rows mended at the same time.
const ROWS_AT_ONCE: usize = 8;
/// Hints handed over in one go, before the node is asked again whether it is there.
const BATCH: usize = 500;

#[derive(Default)]
pub(super) struct Hints {
    missed: Mutex<HashMap<DiskId, Missed>>,
}

#[derive(Default)]
struct Missed {
    rows: BTreeMap<RowKey, BucketRef>,
    chunks: BTreeMap<ChunkId, (ChunkRef, ChunkOwner, Replica)>,
    /// Chunks whose deletion it missed.
    deletions: BTreeMap<ChunkId, (Replica, PartitionId)>,
    is_being_delivered: bool,
}

impl Hints {
    pub(super) fn row_missed(&self, replica: Replica, bucket: BucketRef, row: &RowKey) {
        let mut missed = self.missed.lock();
        let missed = missed.entry(replica.disk).or_default();
        if missed.rows.len() < REMEMBERED_MAX {
            missed.rows.insert(row.clone(), bucket);
        }
    }

    pub(super) fn chunk_missed(&self, replica: Replica, chunk: ChunkRef, owner: &ChunkOwner) {
        let mut missed = self.missed.lock();
        let missed = missed.entry(replica.disk).or_default();
        // What is deleted is not to be fetched again.
        let is_deleted = missed.deletions.contains_key(&chunk.id);
        if missed.chunks.len() < REMEMBERED_MAX && !is_deleted {
            missed
                .chunks
                .insert(chunk.id, (chunk, owner.clone(), replica));
        }
    }

    /// Chunks are to be deleted: nobody needs them any more.
    pub(super) fn forget_chunks(&self, chunks: &[ChunkRef]) {
        for missed in self.missed.lock().values_mut() {
            if !missed.chunks.is_empty() {
                for chunk in chunks {
                    missed.chunks.remove(&chunk.id);
                }
            }
        }
    }

    pub(super) fn deletions_missed(&self, chunks: &[(Replica, PartitionId, ChunkId)]) {
        let mut missed = self.missed.lock();
        for (replica, partition, chunk) in chunks {
            let missed = missed.entry(replica.disk).or_default();
            if missed.deletions.len() < REMEMBERED_MAX {
                missed.deletions.insert(*chunk, (*replica, *partition));
            }
        }
    }

    /// Hints not yet delivered: rows and chunks.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let missed = self.missed.lock();
        missed.values().fold((0, 0), |(rows, chunks), missed| {
            let chunks = chunks + missed.chunks.len() + missed.deletions.len();
            (rows + missed.rows.len(), chunks)
        })
    }

    fn begin(&self, serving: &HashSet<DiskId>) -> Vec<DiskId> {
        let mut missed = self.missed.lock();
        missed.retain(|_, missed| {
            missed.is_being_delivered
                || !missed.rows.is_empty()
                || !missed.chunks.is_empty()
                || !missed.deletions.is_empty()
        });
        let mut disks = Vec::new();
        for (disk, missed) in missed.iter_mut() {
            if serving.contains(disk) && !missed.is_being_delivered {
                missed.is_being_delivered = true;
                disks.push(*disk);
            }
        }
        disks
    }

    fn take_rows(&self, disk: DiskId) -> Vec<(RowKey, BucketRef)> {
        let mut missed = self.missed.lock();
        let Some(missed) = missed.get_mut(&disk) else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        while taken.len() < BATCH
            && let Some(entry) = missed.rows.pop_first()
        {
            taken.push(entry);
        }
        taken
    }

    fn take_chunks(&self, disk: DiskId) -> Vec<(ChunkRef, ChunkOwner, Replica)> {
        let mut missed = self.missed.lock();
        let Some(missed) = missed.get_mut(&disk) else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        while taken.len() < BATCH
            && let Some((_, entry)) = missed.chunks.pop_first()
        {
            taken.push(entry);
        }
        taken
    }

    fn take_deletions(&self, disk: DiskId) -> Vec<(Replica, PartitionId, ChunkId)> {
        let mut missed = self.missed.lock();
        let Some(missed) = missed.get_mut(&disk) else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        while taken.len() < BATCH
            && let Some((chunk, (replica, partition))) = missed.deletions.pop_first()
        {
            taken.push((replica, partition, chunk));
        }
        taken
    }

    fn end(&self, disk: DiskId) {
        if let Some(missed) = self.missed.lock().get_mut(&disk) {
            missed.is_being_delivered = false;
        }
    }
}

impl Coordinator {
    /// Rows and chunks that replicas are known to have missed and have not been given yet.
    #[must_use]
    pub fn hints_waiting(&self) -> (usize, usize) {
        self.inner.hints.waiting()
    }

    /// Starts the delivery to every disk that serves again.
    pub(super) fn deliver_hints(&self, serving: &HashSet<DiskId>) {
        for disk in self.inner.hints.begin(serving) {
            let coordinator = self.clone();
            tokio::spawn(async move {
                coordinator.deliver_to(disk).await;
                coordinator.inner.hints.end(disk);
            });
        }
    }

    async fn deliver_to(&self, disk: DiskId) {
        loop {
            let chunks = self.inner.hints.take_chunks(disk);
            let rows = self.inner.hints.take_rows(disk);
            let deletions = self.inner.hints.take_deletions(disk);
            if chunks.is_empty() && rows.is_empty() && deletions.is_empty() {
                return;
            }
            let are_deleted = deletions.is_empty() || self.delete_on(disk, &deletions).await;
            if !are_deleted {
                self.inner.hints.deletions_missed(&deletions);
            }
            let are_chunks_noted = chunks.is_empty() || self.note_chunks(disk, &chunks).await;
            if !are_chunks_noted {
                for (chunk, owner, replica) in &chunks {
                    self.inner.hints.chunk_missed(*replica, *chunk, owner);
                }
            }
            let mended = stream::iter(rows)
                .map(|(row, bucket)| async move {
                    let mended = self.mend_row(bucket, &row).await;
                    (row, bucket, mended)
                })
                .buffer_unordered(ROWS_AT_ONCE)
                .filter(|(_, _, mended)| std::future::ready(mended.is_err()))
                .collect::<Vec<_>>()
                .await;
            let is_stuck = !mended.is_empty() || !are_chunks_noted || !are_deleted;
            for (row, bucket, _) in mended {
                let replica = Replica {
                    disk,
                    joined: ringfort_ring::id::Epoch::default(),
                };
                self.inner.hints.row_missed(replica, bucket, &row);
            }
            if is_stuck {
                // It has gone again, or the others have: the next round of pings tells when to go on.
                return;
            }
        }
    }

    /// Tells a node which chunks to delete. Whoever reads them has done so long since, or was cut off.
    async fn delete_on(&self, disk: DiskId, chunks: &[(Replica, PartitionId, ChunkId)]) -> bool {
        let node = self
            .view()
            .and_then(|view| view.layout.node_of(disk).map(|node| node.id));
        let Some(node) = node else {
            return false;
        };
        let grace_ms = self.inner.options.delete_grace.as_millis();
        let request = DeleteChunksRequest {
            grace_ms: u32::try_from(grace_ms).unwrap_or(u32::MAX),
            chunks: chunks.to_vec(),
        };
        self.call(node, Lane::Repair, request, Bytes::new())
            .await
            .is_ok()
    }

    /// Tells a node which chunks it should have: it fetches them from its peers.
    async fn note_chunks(&self, disk: DiskId, chunks: &[(ChunkRef, ChunkOwner, Replica)]) -> bool {
        let Some(view) = self.view() else {
            return false;
        };
        let Some(node) = view.layout.node_of(disk).map(|node| node.id) else {
            return false;
        };
        let request = NoteChunksRequest {
            chunks: chunks
                .iter()
                .map(|(chunk, owner, replica)| (*replica, *chunk, owner.clone()))
                .collect(),
        };
        self.call(node, Lane::Repair, request, Bytes::new())
            .await
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfort_ring::id::Epoch;
    use ringfort_wire::id::{BucketId, ObjectKey, UploadId};
    use ringfort_wire::manifest::BodyOwner;

    #[test]
    fn a_deletion_is_remembered_and_takes_the_place_of_a_chunk_to_be_fetched() {
        let hints = Hints::default();
        let replica = Replica {
            disk: DiskId::from_u128(1),
            joined: Epoch(1),
        };
        let chunk = |n| ChunkRef {
            id: ChunkId([n; 16]),
            len: 1,
            blake3: [n; 32],
        };
        let owner = ChunkOwner {
            bucket: BucketId([1; 16]),
            partition: PartitionId(0),
            key: ObjectKey::parse("k").expect("a legal key"),
            owner: BodyOwner::Upload(UploadId([2; 16])),
        };
        hints.chunk_missed(replica, chunk(1), &owner);
        hints.chunk_missed(replica, chunk(2), &owner);
        hints.forget_chunks(&[chunk(1)]);
        let missed = [(replica, PartitionId(7), chunk(1).id)];
        hints.deletions_missed(&missed);
        hints.chunk_missed(replica, chunk(1), &owner);
        assert_eq!(hints.waiting(), (0, 2));
        let serving = HashSet::from([replica.disk]);
        assert_eq!(hints.begin(&serving), [replica.disk]);
        let fetched: Vec<_> = hints.take_chunks(replica.disk);
        assert_eq!(fetched.len(), 1);
        assert_eq!(fetched[0].0, chunk(2));
        assert_eq!(hints.take_deletions(replica.disk), missed);
        assert_eq!(hints.waiting(), (0, 0));
    }
}
