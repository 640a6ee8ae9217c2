//! Takes a body in as it arrives: a small one is kept for the Accept, a large one becomes chunks on their
//! majorities, a few in flight. Memory is bounded whatever the size, and a slow disk slows the sender.

use super::chunks::digest;
use super::{Coordinator, ReadError, StoredBody, WriteError};
use bytes::{Bytes, BytesMut};
use ringfort_wire::id::ChunkId;
use ringfort_wire::manifest::{BodyList, BodyPlace, ChunkOwner, ChunkRef};
use std::time::Duration;
use tokio::task::JoinSet;

/// A body on its way in. Dropped before [`BodyWriter::finish`], it deletes what it stored.
pub struct BodyWriter {
    coordinator: Coordinator,
    owner: ChunkOwner,
    inline_max: usize,
    buffer: BytesMut,
    chunks: Vec<ChunkRef>,
    in_flight: JoinSet<Result<(), WriteError>>,
}

/// A body whose every chunk is on its majority, and that no register names yet. Dropped without
/// [`Body::keep`], it deletes its chunks.
pub struct Body {
    coordinator: Coordinator,
    stored: StoredBody,
    is_kept: bool,
}

/// Where a head says that its body is. The chunks of a list that is stored as chunks itself go the way of a [`Body`]'s:
/// dropped without [`PlacedBody::keep`], they are deleted.
pub struct PlacedBody {
    place: BodyPlace,
    list: Option<Body>,
}

impl Coordinator {
    /// A writer for a body of `owner`. Up to `inline_max` bytes it stays in memory, for the Accept.
    #[must_use]
    pub fn body_writer(&self, owner: ChunkOwner, inline_max: usize) -> BodyWriter {
        BodyWriter {
            coordinator: self.clone(),
            owner,
            inline_max,
            buffer: BytesMut::new(),
            chunks: Vec::new(),
            in_flight: JoinSet::new(),
        }
    }

    /// Where a head says that its chunks are: in the state, or, for a long list, in chunks that hold the list.
    ///
    /// # Errors
    /// As storing a chunk.
    pub async fn body_place(
        &self,
        owner: &ChunkOwner,
        list: BodyList,
    ) -> Result<PlacedBody, WriteError> {
        let encoded = list.encode();
        if encoded.len() <= BodyList::INLINE_MAX_BYTES {
            return Ok(PlacedBody::of(BodyPlace::Chunks(list)));
        }
        let mut writer = self.body_writer(owner.clone(), 0);
        writer.push(encoded).await?;
        let body = writer.finish().await?;
        let place = match &body.stored {
            StoredBody::Chunks(chunks) => BodyPlace::Listed(chunks.clone()),
            // With `inline_max` 0 a list, which is not empty, is never kept in memory.
            StoredBody::Inline(_) => BodyPlace::Chunks(list),
        };
        Ok(PlacedBody {
            place,
            list: Some(body),
        })
    }

    /// The chunks and parts of a body, fetched where they are stored as chunks themselves.
    ///
    /// # Errors
    /// As fetching a chunk; a list that cannot be read is [`ReadError::Corrupt`].
    pub async fn body_list(&self, place: &BodyPlace) -> Result<BodyList, ReadError> {
        match place {
            BodyPlace::Inline => Ok(BodyList::default()),
            BodyPlace::Chunks(list) => Ok(list.clone()),
            BodyPlace::Listed(chunks) => {
                let mut encoded = BytesMut::new();
                for chunk in chunks {
                    encoded.extend_from_slice(&self.fetch_chunk(*chunk, 0..chunk.len, None).await?);
                }
                BodyList::decode(&encoded).map_err(|error| ReadError::Corrupt(error.to_string()))
            }
        }
    }
}

impl BodyWriter {
    /// Takes bytes in. Waits while enough chunks are in flight. Not to be cancelled and called again: the bytes
    /// given may be half taken.
    ///
    /// # Errors
    /// Where a chunk could not be stored; the writer is then of no further use.
    pub async fn push(&mut self, mut data: Bytes) -> Result<(), WriteError> {
        let chunk_bytes = self.coordinator.inner.options.chunk_bytes;
        while !data.is_empty() {
            let room = chunk_bytes - self.buffer.len();
            let taken = data.split_to(room.min(data.len()));
            if self.buffer.len() + taken.len() > self.inline_max {
                // At once, and not by doubling: each step would copy what is there and leave a hole behind.
                self.buffer.reserve(chunk_bytes - self.buffer.len());
            }
            self.buffer.extend_from_slice(&taken);
            if self.buffer.len() == chunk_bytes {
                self.send_chunk().await?;
            }
        }
        Ok(())
    }

    /// Bytes taken in and not yet sent.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Ends the body: every chunk is on its majority when this returns.
    ///
    /// # Errors
    /// Where a chunk could not be stored.
    pub async fn finish(mut self) -> Result<Body, WriteError> {
        let stored = if self.chunks.is_empty() && self.buffer.len() <= self.inline_max {
            StoredBody::Inline(std::mem::take(&mut self.buffer).freeze())
        } else {
            if !self.buffer.is_empty() {
                self.send_chunk().await?;
            }
            while let Some(done) = self.in_flight.join_next().await {
                joined(done)?;
            }
            StoredBody::Chunks(std::mem::take(&mut self.chunks))
        };
        Ok(Body {
            coordinator: self.coordinator.clone(),
            stored,
            is_kept: false,
        })
    }

    async fn send_chunk(&mut self) -> Result<(), WriteError> {
        while self.in_flight.len() >= self.coordinator.inner.options.chunks_in_flight {
            if let Some(done) = self.in_flight.join_next().await {
                joined(done)?;
            }
        }
        let data = std::mem::take(&mut self.buffer).freeze();
        let chunk = ChunkRef {
            id: ChunkId(self.coordinator.environment().random_id()),
            len: u32::try_from(data.len()).unwrap_or(u32::MAX),
            blake3: digest(data.clone()).await,
        };
        // Noted before it is sent, so that whatever happens next it is known to be deleted.
        self.chunks.push(chunk);
        let (coordinator, owner) = (self.coordinator.clone(), self.owner.clone());
        self.in_flight
            .spawn(async move { coordinator.store_chunk(chunk, data, &owner).await });
        Ok(())
    }
}

fn joined(done: Result<Result<(), WriteError>, tokio::task::JoinError>) -> Result<(), WriteError> {
    done.unwrap_or_else(|error| {
        Err(WriteError::NotEnoughReplicas(format!(
            "a chunk's task ended: {error}"
        )))
    })
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        let chunks = std::mem::take(&mut self.chunks);
        if chunks.is_empty() {
            return;
        }
        let coordinator = self.coordinator.clone();
        let mut in_flight = std::mem::take(&mut self.in_flight);
        tokio::spawn(async move {
            // A deletion that overtakes its own chunk would leave it behind.
            while in_flight.join_next().await.is_some() {}
            coordinator.delete_chunks(chunks, Duration::ZERO);
        });
    }
}

impl Body {
    /// What was stored.
    #[must_use]
    pub fn stored(&self) -> &StoredBody {
        &self.stored
    }

    /// An Accept that names the body has left, or may have: its chunks stay.
    pub fn keep(&mut self) {
        self.is_kept = true;
    }

    /// No Accept that names the body was chosen, and none will be: its chunks go.
    pub fn give_up(mut self) {
        self.is_kept = false;
    }
}

impl PlacedBody {
    /// A place that is not in need of chunks of its own.
    #[must_use]
    pub fn of(place: BodyPlace) -> Self {
        Self { place, list: None }
    }

    /// The place.
    #[must_use]
    pub fn place(&self) -> &BodyPlace {
        &self.place
    }

    /// As [`Body::keep`].
    pub fn keep(&mut self) {
        if let Some(list) = &mut self.list {
            list.keep();
        }
    }

    /// As [`Body::give_up`].
    pub fn give_up(self) {
        if let Some(list) = self.list {
            list.give_up();
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let StoredBody::Chunks(chunks) = &mut self.stored
            && !self.is_kept
        {
            let chunks = std::mem::take(chunks);
            self.coordinator.delete_chunks(chunks, Duration::ZERO);
        }
    }
}
