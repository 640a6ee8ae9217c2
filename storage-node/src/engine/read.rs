//! What is stored: rows, bodies, chunks, and scans over them. Durable state only.

use super::index::chunks::ChunkEntry;
use super::index::doubt;
use super::index::rows::{RowEntry, RowTable, index_key, object_key, part_key, row_key};
use super::segment::file::SegmentFile;
use super::segment::location::{BodyAt, BodyLocation, Position};
use super::segment::reader::{corrupt, read_meta, read_payload};
use super::segment::record_format::Entry;
use super::types::{ChunkFacts, EngineError, StoredRow};
use super::{Engine, Inner};
use bytes::Bytes;
use ringfort_ring::id::PartitionId;
use ringfort_wire::id::{BucketId, ChunkId, ObjectKey, RowKey, UploadId};
use std::ops::{Bound, Range};

impl Engine {
    /// What is stored for a register: durable state only. From memory or the index file, without reading segments.
    ///
    /// # Errors
    /// `Corrupt` where the index does not read back.
    pub fn row(&self, key: &RowKey) -> Result<Option<StoredRow>, EngineError> {
        let at = index_key(key);
        loop {
            let Some(row) = self.inner.store.row(&at)? else {
                return Ok(None);
            };
            if let Some(stored) = self.stored(row)? {
                return Ok(Some(stored));
            }
            // Compaction took the segment away after the index was asked: the row is elsewhere by now.
        }
    }

    /// `None` where the row's segment was taken away after the row was read.
    fn stored(&self, row: RowEntry) -> Result<Option<StoredRow>, EngineError> {
        let skip = u32::try_from(row.state.len()).unwrap_or(u32::MAX);
        let body = if row.location.payload_len > skip {
            let segment = self.inner.store.segment(row.location.position.segment);
            if segment.is_none() && !self.is_gone(row.location.position) {
                return Ok(None);
            }
            BodyLocation {
                at: Some(BodyAt {
                    segment,
                    record: row.location,
                    skip,
                }),
            }
        } else {
            BodyLocation::none()
        };
        Ok(Some(StoredRow {
            ballot: row.ballot,
            epoch: row.epoch,
            partition: row.partition,
            state: row.state,
            body,
        }))
    }

    /// Whether a segment was missing at start already.
    fn is_gone(&self, position: Position) -> bool {
        self.inner.store.gone.contains(&position.segment)
    }

    /// A row's inline body, its checksums verified.
    ///
    /// # Errors
    /// `Corrupt` where it does not read back.
    pub async fn body(&self, row: &StoredRow) -> Result<Bytes, EngineError> {
        let Some(at) = row.body.at.clone() else {
            return Ok(Bytes::new());
        };
        self.blocking(move |_| {
            let what = "a row's body";
            let Some(segment) = at.segment else {
                return Err(corrupt(what, &at.record));
            };
            read_payload(
                &*segment.file,
                &segment.salt,
                &at.record,
                at.skip..at.record.payload_len,
                what,
            )
        })
        .await
    }

    /// Registers of keys of one bucket, in byte order of the keys; parts are not among them.
    ///
    /// # Errors
    /// `Corrupt` where the index does not read back.
    pub fn scan_objects(
        &self,
        bucket: BucketId,
        from: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(ObjectKey, StoredRow)>, EngineError> {
        let from = match from {
            Bound::Included(key) => Bound::Included(object_key(bucket, key)),
            Bound::Excluded(key) => Bound::Excluded(object_key(bucket, key)),
            Bound::Unbounded => Bound::Included(object_key(bucket, &[])),
        };
        let to = following(bucket.0.to_vec());
        self.scan(RowTable::Objects, &from, &to, limit, |key| Some(key.key))
    }

    /// Registers of parts of one upload with numbers above `after_number`, in order of numbers.
    ///
    /// # Errors
    /// `Corrupt` where the index does not read back.
    pub fn scan_parts(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        upload: UploadId,
        after_number: u16,
        limit: usize,
    ) -> Result<Vec<(u16, StoredRow)>, EngineError> {
        let from = Bound::Excluded(part_key(bucket, key, upload, after_number));
        let to = Bound::Included(part_key(bucket, key, upload, u16::MAX));
        self.scan(RowTable::Parts, &from, &to, limit, |key| {
            key.part.map(|part| part.number)
        })
    }

    fn scan<K>(
        &self,
        table: RowTable,
        from: &Bound<Vec<u8>>,
        to: &Bound<Vec<u8>>,
        limit: usize,
        name: impl Fn(RowKey) -> Option<K>,
    ) -> Result<Vec<(K, StoredRow)>, EngineError> {
        let rows = self
            .inner
            .store
            .rows(table, from.clone(), to.clone(), limit)?;
        let mut found = Vec::with_capacity(rows.len());
        for (bytes, row) in rows {
            let Some(key) = row_key(table, &bytes) else {
                return Err(self.inner.store.doubt(doubt("a row's key is none")));
            };
            let stored = match self.stored(row)? {
                Some(stored) => Some(stored),
                None => self.row(&key)?,
            };
            if let (Some(stored), Some(name)) = (stored, name(key)) {
                found.push((name, stored));
            }
        }
        Ok(found)
    }

    /// Chunks in order of their ids, from behind `after`.
    ///
    /// # Errors
    /// `Corrupt` where the index does not read back.
    pub fn scan_chunks(
        &self,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<(ChunkId, PartitionId)>, EngineError> {
        let chunks = self.inner.store.chunks(after, limit)?;
        let named = chunks.into_iter().map(|(id, chunk)| (id, chunk.partition));
        Ok(named.collect())
    }

    /// Whether a chunk is here, durably. Its bytes are not looked at.
    ///
    /// # Errors
    /// `Corrupt` where the index does not read back.
    pub fn has_chunk(&self, id: ChunkId) -> Result<bool, EngineError> {
        Ok(self.inner.store.chunk(id)?.is_some())
    }

    /// A range of a chunk's bytes (cut at the chunk's end), every 64 KiB frame that it touches verified. `None` where
    /// the chunk is not here.
    ///
    /// # Errors
    /// `Corrupt` where it does not read back.
    pub async fn chunk(
        &self,
        id: ChunkId,
        range: Range<u32>,
    ) -> Result<Option<Bytes>, EngineError> {
        self.blocking(move |inner| {
            inner.with_chunk(id, |segment, chunk| {
                read_payload(
                    &*segment.file,
                    &segment.salt,
                    &chunk.location,
                    range.clone(),
                    "a chunk",
                )
            })
        })
        .await
    }

    /// What is written beside a chunk's bytes. `None` where the chunk is not here.
    ///
    /// # Errors
    /// `Corrupt` where it does not read back.
    pub async fn chunk_facts(&self, id: ChunkId) -> Result<Option<ChunkFacts>, EngineError> {
        self.blocking(move |inner| {
            inner.with_chunk(id, |segment, chunk| {
                let what = "a chunk's owner";
                match read_meta(&*segment.file, &segment.salt, &chunk.location, what)? {
                    Entry::Chunk {
                        partition,
                        epoch,
                        blake3,
                        owner,
                        ..
                    } => Ok(ChunkFacts {
                        partition,
                        epoch,
                        owner,
                        blake3,
                        len_bytes: chunk.location.payload_len,
                    }),
                    _ => Err(corrupt(what, &chunk.location)),
                }
            })
        })
        .await
    }
}

impl Inner {
    fn with_chunk<T>(
        &self,
        id: ChunkId,
        read: impl Fn(&SegmentFile, &ChunkEntry) -> Result<T, EngineError>,
    ) -> Result<Option<T>, EngineError> {
        loop {
            let Some(chunk) = self.store.chunk(id)? else {
                return Ok(None);
            };
            if let Some(segment) = self.store.segment(chunk.location.position.segment) {
                return read(&segment, &chunk).map(Some);
            }
            // Compaction took the segment away after the index was asked: the chunk is elsewhere by now, or deleted.
        }
    }
}

/// The end of the range of all keys that begin with `prefix`.
fn following(mut prefix: Vec<u8>) -> Bound<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if let Some(next) = last.checked_add(1) {
            prefix.push(next);
            return Bound::Excluded(prefix);
        }
    }
    Bound::Unbounded
}
