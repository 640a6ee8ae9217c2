//! Copies the chunks of a batch: every chunk that any old member of an answering majority reports, referenced or not. A
//! writer that has its majority of the old members may name it in an Accept yet to come.

use super::{Batch, Joiner, PIECE, Source};
use futures_util::stream::{self, StreamExt};
use ringfort_ring::id::{DiskId, PartitionId};
use ringfort_wire::id::{ChunkId, Payload};
use ringfort_wire::manifest::{ChunkOwner, ChunkRef};
use ringfort_wire::message::{FetchChunkReply, FetchChunkRequest, ScanChunksRequest};
use std::collections::{BTreeMap, BTreeSet};

/// Chunks fetched at the same time.
const FETCHED_AT_ONCE: usize = 4;

/// How fetching one chunk from one holder ended.
enum Fetched {
    Copied(usize),
    /// Not there any more: deleted meanwhile.
    Gone,
    Failed(String),
}

impl Joiner {
    /// Copies the chunks; partitions in which that was not possible are failed.
    pub(super) async fn copy_chunks(&self, batch: &mut Batch<'_>) {
        let mut answered = BTreeSet::new();
        // What a holder names and could not hand over: another may.
        let mut lacking: BTreeMap<ChunkId, (PartitionId, String)> = BTreeMap::new();
        let sources: Vec<DiskId> = batch.sources.keys().copied().collect();
        for disk in sources {
            self.copy_chunks_of(batch, disk, &mut lacking, &mut answered)
                .await;
        }
        for (chunk, (partition, why)) in lacking {
            if !batch.disk.has_chunk(chunk) {
                batch.fail(partition, format!("chunk {chunk}: {why}"));
            }
        }
        batch.require_majority(&answered, "shows its chunks to the end");
    }

    async fn copy_chunks_of(
        &self,
        batch: &mut Batch<'_>,
        disk: DiskId,
        lacking: &mut BTreeMap<ChunkId, (PartitionId, String)>,
        answered: &mut BTreeSet<(PartitionId, DiskId)>,
    ) {
        let mut after = None;
        let mut refused: BTreeSet<PartitionId> = BTreeSet::new();
        loop {
            let Some(source) = batch.sources.get(&disk) else {
                return;
            };
            let wanted = batch.leaf_sets(source);
            if wanted.is_empty() {
                return;
            }
            let partitions: Vec<_> = wanted.iter().map(|set| set.partition).collect();
            let request = ScanChunksRequest {
                wanted,
                after,
                limit: PIECE,
            };
            let Ok((reply, _)) = self.ask(source.node, request).await else {
                return;
            };
            refused.extend(reply.refused.iter().filter_map(|at| {
                let at = usize::try_from(*at).ok()?;
                partitions.get(at).copied()
            }));
            let ended = self.fetch_all(batch, source, reply.chunks).await;
            for (chunk, partition, fetched) in ended {
                match fetched {
                    Fetched::Copied(_) | Fetched::Gone => {}
                    Fetched::Failed(why) => {
                        lacking.insert(chunk, (partition, why));
                    }
                }
            }
            after = reply.examined;
            if after.is_none() {
                let shown = partitions
                    .into_iter()
                    .filter(|partition| !refused.contains(partition));
                answered.extend(shown.map(|partition| (partition, disk)));
                return;
            }
        }
    }

    async fn fetch_all(
        &self,
        batch: &Batch<'_>,
        source: &Source,
        chunks: Vec<(ChunkRef, ChunkOwner)>,
    ) -> Vec<(ChunkId, PartitionId, Fetched)> {
        let lacking = chunks
            .into_iter()
            .filter(|(chunk, _)| !batch.disk.has_chunk(chunk.id));
        stream::iter(lacking)
            .map(|(chunk, owner)| async move {
                let partition = batch.disk.partition_of_chunk(chunk.id)?;
                let fetched = self
                    .fetch_one(batch, source, partition, chunk, &owner)
                    .await;
                if let Fetched::Copied(bytes) = fetched {
                    {
                        let mut totals = self.totals.lock();
                        totals.chunks += 1;
                        totals.bytes += u64::try_from(bytes).unwrap_or(0);
                    }
                    batch.spending.spend(bytes).await;
                }
                Some((chunk.id, partition, fetched))
            })
            .buffer_unordered(FETCHED_AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    async fn fetch_one(
        &self,
        batch: &Batch<'_>,
        source: &Source,
        partition: PartitionId,
        chunk: ChunkRef,
        owner: &ChunkOwner,
    ) -> Fetched {
        let (Some(to), Some(learning)) =
            (source.of.get(&partition), batch.learning.get(&partition))
        else {
            return Fetched::Failed("it is of a partition that is not copied".to_owned());
        };
        let request = FetchChunkRequest {
            to: *to,
            partition,
            epoch: learning.epoch,
            id: chunk.id,
            from: 0,
            len: chunk.len,
        };
        let data: Payload = match self.ask(source.node, request).await {
            Ok((FetchChunkReply::Found, data)) => data,
            Ok((FetchChunkReply::Missing, _)) => return Fetched::Gone,
            Ok((FetchChunkReply::Refused(_), _)) => {
                return Fetched::Failed("the layout has changed meanwhile".to_owned());
            }
            Err(error) => return Fetched::Failed(error.to_string()),
        };
        let bytes = data.len();
        match batch
            .disk
            .keep_copy(partition, learning.epoch, &chunk, owner, data)
            .await
        {
            Ok(()) => Fetched::Copied(bytes),
            Err(why) => Fetched::Failed(why),
        }
    }
}
