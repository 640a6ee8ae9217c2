//! Storing and fetching chunks on one disk.

use super::{DiskReplica, check_epoch, node_error};
use crate::engine::{EngineError, Mutation};
use ringfort_wire::error::{NodeError, NodeErrorCode};
use ringfort_wire::id::{BucketId, Payload};
use ringfort_wire::manifest::ChunkRef;
use ringfort_wire::message::{
    FetchChunkReply, FetchChunkRequest, StoreChunkReply, StoreChunkRequest,
};

impl DiskReplica {
    /// Stores a chunk: acknowledged when it is fsynced. A chunk that is there already is acknowledged again.
    pub(crate) async fn store_chunk(
        &self,
        request: StoreChunkRequest,
        data: Payload,
    ) -> Result<StoreChunkReply, NodeError> {
        self.inner.members.settled(request.partition).await?;
        let guard = self.guard(request.to, request.partition, BucketId::SYSTEM)?;
        if let Err(refusal) = check_epoch(&guard, request.epoch) {
            return Ok(StoreChunkReply::Refused(refusal));
        }
        verify(&request.chunk, &data).await?;
        if self
            .inner
            .engine
            .has_chunk(request.chunk.id)
            .map_err(node_error)?
        {
            return Ok(StoreChunkReply::Stored);
        }
        if self.inner.engine.is_full() {
            return Err(node_error(EngineError::Full));
        }
        let bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let permit = self.inner.engine.reserve(bytes).await.map_err(node_error)?;
        let commit = {
            // Looked at again, and held until the record has its place in the log: a chunk that is acknowledged in an
            // epoch that is over would be missed by who copies the partition in the next.
            let seats = self.inner.members.seats();
            let system = BucketId::SYSTEM;
            let guard = self.guard_in(&seats, request.to, request.partition, system)?;
            if let Err(refusal) = check_epoch(&guard, request.epoch) {
                return Ok(StoreChunkReply::Refused(refusal));
            }
            self.inner.engine.submit(Mutation::Chunk {
                id: request.chunk.id,
                partition: request.partition,
                epoch: request.epoch,
                owner: request.owner,
                blake3: request.chunk.blake3,
                data,
            })
        };
        // A task of its own: the caller may go away, and the bytes keep their place in memory until they are written.
        let stored = tokio::spawn(async move {
            let done = commit.await;
            drop(permit);
            done
        });
        stored
            .await
            .map_err(|error| NodeError::new(NodeErrorCode::Unavailable, error.to_string()))?
            .map_err(node_error)?;
        self.inner.missing.found(request.chunk.id);
        Ok(StoreChunkReply::Stored)
    }

    /// A range of a chunk, verified against the disk's checksums.
    pub(crate) async fn fetch_chunk(
        &self,
        request: FetchChunkRequest,
    ) -> Result<(FetchChunkReply, Payload), NodeError> {
        self.inner.members.settled(request.partition).await?;
        let guard = self.guard(request.to, request.partition, BucketId::SYSTEM)?;
        if let Err(refusal) = check_epoch(&guard, request.epoch) {
            return Ok((FetchChunkReply::Refused(refusal), Payload::new()));
        }
        let end = request
            .from
            .checked_add(request.len)
            .filter(|end| *end <= ChunkRef::MAX_BYTES)
            .ok_or_else(|| NodeError::new(NodeErrorCode::Malformed, "a range beyond a chunk"))?;
        match self.inner.engine.chunk(request.id, request.from..end).await {
            Ok(Some(data)) => Ok((FetchChunkReply::Found, data)),
            Ok(None) => Ok((FetchChunkReply::Missing, Payload::new())),
            Err(error @ EngineError::Corrupt { .. }) => {
                tracing::error!(%error, chunk = %request.id, "a chunk is rotten; it is fetched again from another replica");
                self.inner.missing.note_lost(request.id);
                Err(node_error(error))
            }
            Err(error) => Err(node_error(error)),
        }
    }
}

/// The bytes must be of the length and digest that the sender names.
pub(super) async fn verify(chunk: &ChunkRef, data: &Payload) -> Result<(), NodeError> {
    let mismatch = || NodeError::new(NodeErrorCode::DigestMismatch, "not the chunk that is named");
    let is_len_right = usize::try_from(chunk.len).is_ok_and(|len| len == data.len());
    if !is_len_right || chunk.len == 0 || chunk.len > ChunkRef::MAX_BYTES {
        return Err(mismatch());
    }
    let data = data.clone();
    let hash = tokio::task::spawn_blocking(move || blake3::hash(&data));
    let hash = hash
        .await
        .map_err(|error| NodeError::new(NodeErrorCode::Unavailable, error.to_string()))?;
    if *hash.as_bytes() == chunk.blake3 {
        Ok(())
    } else {
        Err(mismatch())
    }
}
