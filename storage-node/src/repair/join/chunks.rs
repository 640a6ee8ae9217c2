//! Copies the chunks of a batch: every chunk that any old member of an answering majority reports, referenced or not. A
//! writer that has its majority of the old members may name it in an Accept yet to come.

use super::{Batch, Joiner, PIECE, Source};
use futures_util::stream::{self, StreamExt};
use ringfort_ring::id::{DiskId, PartitionId};
use ringfort_wire::error::{CallError, NodeErrorCode};
use ringfort_wire::id::{ChunkId, Payload};
use ringfort_wire::manifest::{ChunkOwner, ChunkRef};
use ringfort_wire::message::{FetchChunkReply, FetchChunkRequest, ScanChunksRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

/// Chunks fetched at the same time.
const FETCHED_AT_ONCE: usize = 4;

/// How fetching one chunk from one holder ended.
enum Fetched {
    Copied(usize),
    /// Not there any more: deleted meanwhile.
    Gone,
    /// The holder cannot read it.
    Rotten,
    Failed(String),
}

/// A chunk that was named and not copied yet.
struct Lacking {
    partition: PartitionId,
    /// Whether everybody who named it cannot read it.
    is_rotten: bool,
    why: String,
}

impl Joiner {
    /// Copies the chunks; partitions in which that was not possible are failed.
    pub(super) async fn copy_chunks(&self, batch: &mut Batch<'_>) {
        let mut answered = BTreeSet::new();
        // What a holder names and could not hand over: another may.
        let mut lacking: BTreeMap<ChunkId, Lacking> = BTreeMap::new();
        let sources: Vec<DiskId> = batch.sources.keys().copied().collect();
        for disk in sources {
            self.copy_chunks_of(batch, disk, &mut lacking, &mut answered)
                .await;
        }
        for (chunk, lacking) in lacking {
            if batch.disk.has_chunk(chunk) {
                continue;
            }
            // Every holder was heard, and those that have it cannot read it: there is nothing to copy, and to wait for it
            // would hold the partition up for ever. Who may still need it hears that it is rotten.
            if lacking.is_rotten && batch.all_heard(lacking.partition, &answered) {
                tracing::error!(%chunk, partition = %lacking.partition, "no holder can read a chunk; it is not copied");
                continue;
            }
            batch.fail(lacking.partition, format!("chunk {chunk}: {}", lacking.why));
        }
        batch.require_majority(&answered, "shows its chunks to the end");
    }

    async fn copy_chunks_of(
        &self,
        batch: &mut Batch<'_>,
        disk: DiskId,
        lacking: &mut BTreeMap<ChunkId, Lacking>,
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
            let has_gone = AtomicBool::new(false);
            let ended = self.fetch_all(batch, source, reply.chunks, &has_gone).await;
            for (chunk, partition, fetched) in ended {
                let (is_rotten, why) = match fetched {
                    Fetched::Copied(_) | Fetched::Gone => continue,
                    Fetched::Rotten => (true, "it is rotten".to_owned()),
                    Fetched::Failed(why) => (false, why),
                };
                let known = lacking.entry(chunk).or_insert(Lacking {
                    partition,
                    is_rotten: true,
                    why,
                });
                known.is_rotten &= is_rotten;
            }
            if has_gone.load(Ordering::Relaxed) {
                return;
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
        has_gone: &AtomicBool,
    ) -> Vec<(ChunkId, PartitionId, Fetched)> {
        let lacking = chunks
            .into_iter()
            .filter(|(chunk, _)| !batch.disk.has_chunk(chunk.id));
        stream::iter(lacking)
            .map(|(chunk, owner)| async move {
                let partition = batch.disk.partition_of_chunk(chunk.id)?;
                // A holder that has gone is not asked for each of a thousand: the others have them too.
                let fetched = if has_gone.load(Ordering::Relaxed) {
                    Fetched::Failed("its holder does not answer any more".to_owned())
                } else {
                    self.fetch_one(batch, source, partition, chunk, &owner, has_gone)
                        .await
                };
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
        has_gone: &AtomicBool,
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
            Err(CallError::Refused(why)) if why.code == NodeErrorCode::Corrupt => {
                return Fetched::Rotten;
            }
            Err(error) => {
                let is_silent = matches!(error, CallError::TimedOut | CallError::Unreachable(_));
                has_gone.fetch_or(is_silent, Ordering::Relaxed);
                return Fetched::Failed(error.to_string());
            }
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
