//! Streams a body out: chunk by chunk, the next one fetched while the last one is sent, every byte verified.

use super::{BucketRef, Coordinator, ReadError};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use ringfort_wire::id::RowKey;
use ringfort_wire::manifest::{BodyPlace, ChunkOwner, ChunkRef, ObjectHead};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

/// Bytes to come. An error ends it: the receiver must then cut its connection, never end the body quietly.
pub type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes, ReadError>> + Send + 'static>>;

impl Coordinator {
    /// Bytes `range` of the body of the object in `row`. `inline` is what the read brought beside the state.
    #[must_use]
    pub fn read_body(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        head: &ObjectHead,
        inline: Bytes,
        range: Range<u64>,
    ) -> BodyStream {
        let owner = match self.chunk_owner(bucket, &row.key, head.owner) {
            Ok(owner) => owner,
            Err(error) => {
                let error = ReadError::NotEnoughReplicas(error.to_string());
                return Box::pin(stream::once(async move { Err(error) }));
            }
        };
        match &head.body {
            BodyPlace::Inline => Box::pin(stream::once(async move { slice(&inline, &range) })),
            BodyPlace::Chunks(list) => self.read_chunks(owner, list.chunks.clone(), range),
            place @ BodyPlace::Listed(_) => {
                let (coordinator, place) = (self.clone(), place.clone());
                let list = async move {
                    match coordinator.body_list(&place).await {
                        Ok(list) => coordinator.read_chunks(owner, list.chunks, range),
                        Err(error) => Box::pin(stream::once(async move { Err(error) })),
                    }
                };
                Box::pin(stream::once(list).flatten())
            }
        }
    }

    /// Bytes `range` of the concatenation of these chunks.
    fn read_chunks(
        &self,
        owner: ChunkOwner,
        chunks: Vec<ChunkRef>,
        range: Range<u64>,
    ) -> BodyStream {
        let (coordinator, owner) = (self.clone(), Arc::new(owner));
        let fetches = pieces(&chunks, &range)
            .into_iter()
            .map(move |(chunk, part)| {
                let (coordinator, owner) = (coordinator.clone(), owner.clone());
                async move { coordinator.fetch_chunk(chunk, part, Some(&owner)).await }
            });
        // Two: one on its way to the client, one on its way here.
        Box::pin(
            stream::iter(fetches)
                .buffered(2)
                .scan(false, |has_failed, piece| {
                    let item = (!*has_failed).then_some(piece);
                    *has_failed |= matches!(item, Some(Err(_)));
                    std::future::ready(item)
                }),
        )
    }
}

fn slice(body: &Bytes, range: &Range<u64>) -> Result<Bytes, ReadError> {
    let start = usize::try_from(range.start).unwrap_or(usize::MAX);
    let end = usize::try_from(range.end).unwrap_or(usize::MAX);
    if start <= end && end <= body.len() {
        Ok(body.slice(start..end))
    } else {
        Err(ReadError::Corrupt(
            "the inline body is shorter than its head says".to_owned(),
        ))
    }
}

/// Which part of which chunk a range needs.
fn pieces(chunks: &[ChunkRef], range: &Range<u64>) -> Vec<(ChunkRef, Range<u32>)> {
    let mut pieces = Vec::new();
    let mut at: u64 = 0;
    for chunk in chunks {
        let end = at + u64::from(chunk.len);
        let from = range.start.max(at);
        let to = range.end.min(end);
        if from < to {
            // Both are within the chunk's length, which is a u32.
            let within = |offset: u64| u32::try_from(offset - at).unwrap_or(chunk.len);
            pieces.push((*chunk, within(from)..within(to)));
        }
        at = end;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfort_wire::id::ChunkId;

    fn chunk(len: u32) -> ChunkRef {
        ChunkRef {
            id: ChunkId([u8::try_from(len % 251).unwrap_or(0); 16]),
            len,
            blake3: [0; 32],
        }
    }

    #[test]
    fn a_range_is_cut_into_parts_of_chunks() {
        let chunks = [chunk(10), chunk(10), chunk(5)];
        let cut = |range| {
            pieces(&chunks, &range)
                .into_iter()
                .map(|(chunk, part)| (chunk.len, part))
                .collect::<Vec<_>>()
        };
        assert_eq!(cut(0..25), [(10, 0..10), (10, 0..10), (5, 0..5)]);
        assert_eq!(cut(9..11), [(10, 9..10), (10, 0..1)]);
        assert_eq!(cut(20..21), [(5, 0..1)]);
        assert_eq!(cut(3..3), []);
        assert_eq!(cut(24..99), [(5, 4..5)]);
    }
}
