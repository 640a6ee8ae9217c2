//! For repair: whether the owner of a chunk still names it.
//!
//! A job on a node knows a chunk's owner (bucket, key, operation or upload) and the key's partition, and no bucket's
//! record: it reads in whatever generation the replicas show. It answers nobody, so nothing is judged by the bucket's
//! rules.

use super::{BucketRef, Coordinator, ReadError};
use ringfort_ring::id::{Generation, PartitionId};
use ringfort_wire::id::{BucketId, ChunkId, RowKey};
use ringfort_wire::manifest::{BodyOwner, BodyPlace, ChunkOwner, KeyState};
use std::collections::HashSet;

/// How often a higher generation may be shown while a job reads one row.
const GENERATIONS_MAX: usize = 4;

/// What an owner says of chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    /// The object is there, and these are its chunks; any other chunk of this owner is garbage.
    Chunks(HashSet<ChunkId>),
    /// The upload is open: any of its chunks may be used yet.
    OpenUpload,
    /// The key's value does not name the owner: not written yet, replaced, removed, or never written.
    Nothing,
}

impl Coordinator {
    /// The bucket of a row, in the newest generation that its replicas show; `held` is one to begin with.
    ///
    /// # Errors
    /// Where no replica answers, or the generation does not come to rest.
    pub async fn bucket_of_row(
        &self,
        bucket: BucketId,
        partition: PartitionId,
        held: Generation,
        row: &RowKey,
    ) -> Result<BucketRef, ReadError> {
        let mut bucket = BucketRef::of_row(bucket, held, partition);
        for _ in 0..GENERATIONS_MAX {
            match self.newer_generation(bucket, row).await? {
                None => return Ok(bucket),
                Some(newer) => bucket.generation = newer,
            }
        }
        Err(ReadError::BucketChanged)
    }

    /// What the owner of a chunk names, by a linearizable read of its key.
    ///
    /// # Errors
    /// As reading.
    pub async fn owned(&self, owner: &ChunkOwner, held: Generation) -> Result<Owned, ReadError> {
        let row = RowKey::object(owner.bucket, owner.key.clone());
        let bucket = self
            .bucket_of_row(owner.bucket, owner.partition, held, &row)
            .await?;
        let read = self.read::<KeyState>(bucket, &row, false).await?;
        self.named_by(read.state.as_ref(), &owner.owner).await
    }

    /// What a key's value names of an owner's chunks.
    ///
    /// # Errors
    /// Where the list of the body is stored as chunks, as fetching them.
    pub async fn named_by(
        &self,
        state: Option<&KeyState>,
        owner: &BodyOwner,
    ) -> Result<Owned, ReadError> {
        let Some(state) = state else {
            return Ok(Owned::Nothing);
        };
        if let Some(head) = state.head.as_ref().filter(|head| head.owner == *owner) {
            let list = self.body_list(&head.body).await?;
            let mut chunks: HashSet<_> = list.chunks.iter().map(|chunk| chunk.id).collect();
            if let BodyPlace::Listed(listing) = &head.body {
                chunks.extend(listing.iter().map(|chunk| chunk.id));
            }
            return Ok(Owned::Chunks(chunks));
        }
        Ok(match owner {
            BodyOwner::Upload(id) if state.has_open(*id) => Owned::OpenUpload,
            BodyOwner::Upload(_) | BodyOwner::Operation(_) => Owned::Nothing,
        })
    }
}
