//! A disk's side of anti-entropy: its sums, and the rows and chunks of leaves in which another replica differs.
//!
//! Only what is durable is shown, and only by a replica that votes: one that has lost state must not be compared with.

use super::{DiskReplica, node_error};
use crate::engine::compare::LeafMasks;
use ringfort_ring::id::PartitionId;
use ringfort_ring::merkle::Leaves;
use ringfort_wire::error::{NodeError, NodeErrorCode};
use ringfort_wire::message::{
    DigestsReply, DigestsRequest, LeafSet, PartitionDigest, ScanChunksReply, ScanChunksRequest,
    ScanRowsReply, ScanRowsRequest,
};

/// Rows, or chunks, looked at for one answer: some milliseconds of work.
const EXAMINE: usize = 4_000;

impl DiskReplica {
    /// The sums of partitions.
    pub(crate) fn digests(&self, request: &DigestsRequest) -> Result<DigestsReply, NodeError> {
        if request.replicas.len() > DigestsRequest::MAX {
            return Err(NodeError::new(
                NodeErrorCode::Malformed,
                "too many partitions in one request",
            ));
        }
        let digest = |partition: PartitionId| {
            let digest = self.inner.engine.digest(partition);
            PartitionDigest {
                rows: shown(&digest.rows),
                chunks: shown(&digest.chunks),
            }
        };
        let digests = request
            .replicas
            .iter()
            .map(|(to, partition, epoch)| {
                let is_this = self.votes_as(*to, *partition) == Some(*epoch);
                is_this.then(|| digest(*partition))
            })
            .collect();
        Ok(DigestsReply { digests })
    }

    /// The epoch in which this disk votes in a partition as that replica.
    pub(super) fn votes_as(
        &self,
        to: ringfort_ring::quorum::Replica,
        partition: PartitionId,
    ) -> Option<ringfort_ring::id::Epoch> {
        let epoch = self.inner.members.epoch_of(to, partition).ok()?;
        let is_lost = self.inner.engine.partition(partition).is_lost();
        (!is_lost).then_some(epoch)
    }

    /// Those of the leaves in which this disk votes, and the others by their index.
    fn admitted(&self, wanted: &[LeafSet]) -> (LeafMasks, Vec<u32>) {
        let mut masks = LeafMasks::new();
        let mut refused = Vec::new();
        for (at, set) in (0_u32..).zip(wanted) {
            if self.votes_as(set.to, set.partition) == Some(set.epoch) {
                *masks.entry(set.partition).or_default() |= set.leaves;
            } else {
                refused.push(at);
            }
        }
        (masks, refused)
    }

    /// The rows of leaves, a piece of the whole.
    pub(crate) async fn scan_rows(
        &self,
        request: ScanRowsRequest,
    ) -> Result<ScanRowsReply, NodeError> {
        let (masks, refused) = self.admitted(&request.wanted);
        let engine = self.inner.engine.clone();
        let limit = usize::from(request.limit.max(1));
        let after = request.after;
        let scanned =
            blocking(move || engine.scan_row_leaves(&masks, after.as_ref(), EXAMINE)).await?;
        let is_cut = scanned.found.len() > limit;
        let rows: Vec<_> = scanned.found.into_iter().take(limit).collect();
        let examined = if is_cut {
            rows.last().map(|(key, ..)| key.clone())
        } else {
            scanned.examined
        };
        Ok(ScanRowsReply {
            rows,
            examined,
            refused,
        })
    }

    /// The chunks of leaves, a piece of the whole.
    pub(crate) async fn scan_chunks(
        &self,
        request: ScanChunksRequest,
    ) -> Result<ScanChunksReply, NodeError> {
        let (masks, refused) = self.admitted(&request.wanted);
        let engine = self.inner.engine.clone();
        let limit = usize::from(request.limit.max(1));
        let after = request.after;
        let scanned = blocking(move || engine.scan_chunk_leaves(&masks, after, EXAMINE)).await?;
        let is_cut = scanned.found.len() > limit;
        let named: Vec<_> = scanned.found.into_iter().take(limit).collect();
        let examined = if is_cut {
            named.last().map(|(id, _)| *id)
        } else {
            scanned.examined
        };
        let mut chunks = Vec::with_capacity(named.len());
        for (id, _) in named {
            // One whose record does not read back is the scrub's: here it counts as not there.
            if let Ok(Some(facts)) = self.inner.engine.chunk_facts(id).await {
                let chunk = ringfort_wire::manifest::ChunkRef {
                    id,
                    len: facts.len_bytes,
                    blake3: facts.blake3,
                };
                chunks.push((chunk, facts.owner));
            }
        }
        Ok(ScanChunksReply {
            chunks,
            examined,
            refused,
        })
    }
}

fn shown(leaves: &Leaves) -> Vec<u64> {
    if leaves.is_empty() {
        Vec::new()
    } else {
        leaves.sums().to_vec()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::engine::EngineError> + Send + 'static,
) -> Result<T, NodeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(node_error),
        Err(_) => Err(NodeError::new(
            NodeErrorCode::Unavailable,
            "the node is stopping",
        )),
    }
}
