//! The index' part of a scrub: the blocks of its file, and what its tables say.
//!
//! A rotten block need not have been met yet: redb keeps pages in memory. So the file itself is looked at first. While
//! everything can still be read, from memory or from whole blocks, the index is copied to a new file; else it is in
//! doubt, and is built anew from the segments at the next start.

use crate::engine::index::digest::{Digest, term};
use crate::engine::index::facts::Counts;
use crate::engine::index::rows::RowTable;
use crate::engine::index::{IndexError, Snapshot, doubt};
use crate::engine::types::EngineError;
use crate::engine::{Engine, Inner};
use ringfort_ring::id::PartitionId;
use ringfort_ring::merkle::chunk_term;
use ringfort_wire::id::ChunkId;
use std::collections::HashMap;
use std::ops::Bound;

/// Blocks looked at in one go: 1 MiB.
const BLOCKS_AT_ONCE: usize = 256;
/// Entries looked at in one go.
const PAGE: usize = 4_000;

/// What one piece of reading the index file found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IndexPiece {
    /// Bytes read.
    pub bytes: u64,
    /// Blocks that do not match their checksum.
    pub bad_blocks: u64,
    /// The block to go on with; `None`: that was the end.
    pub next: Option<u64>,
}

/// A walk through all that one moment of the index says.
struct Walk {
    snapshot: Box<dyn Snapshot>,
    stage: Stage,
    counts: Counts,
    digests: HashMap<PartitionId, Digest>,
}

enum Stage {
    Rows(RowTable, Option<Vec<u8>>),
    Chunks(Option<ChunkId>),
    Rest,
    Done,
}

impl Walk {
    /// One page further.
    fn step(&mut self) -> Result<(), IndexError> {
        self.stage = match &self.stage {
            Stage::Rows(table, after) => self.rows(*table, after.clone())?,
            Stage::Chunks(after) => self.chunks(*after)?,
            Stage::Rest => {
                self.rest()?;
                Stage::Done
            }
            Stage::Done => Stage::Done,
        };
        Ok(())
    }

    fn rows(&mut self, table: RowTable, after: Option<Vec<u8>>) -> Result<Stage, IndexError> {
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let page = self.snapshot.rows(table, (from, Bound::Unbounded), PAGE)?;
        let mut last = after.clone();
        for (key, row) in &page {
            if last.as_ref().is_some_and(|last| last >= key) {
                return Err(doubt("rows are out of order"));
            }
            let digest = self.digests.entry(row.partition).or_default();
            digest.rows.add(term(table, key, row.ballot));
            last = Some(key.clone());
        }
        let count = page.len() as u64;
        match table {
            RowTable::Objects => self.counts.objects += count,
            RowTable::Parts => self.counts.parts += count,
        }
        Ok(match (page.len() < PAGE, table) {
            (false, _) => Stage::Rows(table, last),
            (true, RowTable::Objects) => Stage::Rows(RowTable::Parts, None),
            (true, RowTable::Parts) => Stage::Chunks(None),
        })
    }

    fn chunks(&mut self, after: Option<ChunkId>) -> Result<Stage, IndexError> {
        let page = self.snapshot.chunks(after, PAGE)?;
        let mut last = after;
        for (id, chunk) in &page {
            if last.is_some_and(|last| last >= *id) {
                return Err(doubt("chunks are out of order"));
            }
            let digest = self.digests.entry(chunk.partition).or_default();
            digest.chunks.add(chunk_term(id.0));
            last = Some(*id);
        }
        self.counts.chunks += page.len() as u64;
        Ok(if page.len() < PAGE {
            Stage::Rest
        } else {
            Stage::Chunks(last)
        })
    }

    /// Facts and segments read back; counts and sums are those of what was met.
    fn rest(&mut self) -> Result<(), IndexError> {
        self.snapshot.facts()?;
        self.snapshot.segments()?;
        let Some(checkpoint) = self.snapshot.checkpoint()? else {
            return Ok(());
        };
        if checkpoint.counts != self.counts {
            return Err(doubt("it holds another number of entries than it says"));
        }
        for (partition, kept) in self.snapshot.digests()? {
            if self.digests.remove(&partition).unwrap_or_default() != kept {
                return Err(doubt("a partition's sums are not those of its entries"));
            }
        }
        let is_empty = |digest: &Digest| *digest == Digest::default();
        if !self.digests.values().all(is_empty) {
            return Err(doubt("a partition has entries and no sums"));
        }
        Ok(())
    }
}

impl Engine {
    /// Looks at some blocks of the index file, from `first` on.
    ///
    /// # Errors
    /// `Io` where the disk does not answer.
    pub async fn scrub_index(&self, first: u64) -> Result<IndexPiece, EngineError> {
        self.blocking(move |inner| {
            // A checkpoint in between would show blocks that are half written. They take their time without holding up
            // writers; one MiB is read in far less than one of them takes.
            let looked = inner
                .checkpointer
                .while_none_runs(|| inner.store.index.count_bad_blocks(first, BLOCKS_AT_ONCE));
            let (count, bad) = looked.map_err(|error| EngineError::Io {
                what: "scrub the index".to_owned(),
                message: format!("{error:?}"),
            })?;
            let is_end = count < BLOCKS_AT_ONCE;
            Ok(IndexPiece {
                bytes: (count as u64).saturating_mul(4096),
                bad_blocks: bad as u64,
                next: (!is_end).then_some(first + count as u64),
            })
        })
        .await
    }

    /// Goes through everything that the index file says: each value's checksum, order, counts, sums. What is wrong, in
    /// words; `None`: nothing.
    ///
    /// # Errors
    /// `WritesClosed` where the engine stops.
    pub async fn walk_index(&self) -> Result<Option<String>, EngineError> {
        let mut walk = match self.inner.begin_walk() {
            Ok(walk) => walk,
            Err(error) => return Ok(Some(in_words(error))),
        };
        while !matches!(walk.stage, Stage::Done) {
            let (back, step) = self
                .blocking(move |_| {
                    let step = walk.step();
                    Ok((walk, step))
                })
                .await?;
            if let Err(error) = step {
                return Ok(Some(in_words(error)));
            }
            walk = back;
        }
        Ok(None)
    }

    /// Copies the index to a new file, which takes the place of the old one.
    ///
    /// # Errors
    /// `Corrupt` where it does not read back: the old one stays, and nothing is closed yet ([`Engine::doubt_index`]).
    /// `Full` where there is no room for a copy. `WritesClosed`.
    pub async fn renew_index(&self) -> Result<(), EngineError> {
        self.blocking(|inner| {
            inner.store.gate.check()?;
            let renewed = inner
                .checkpointer
                .while_none_runs(|| inner.store.index.renew());
            renewed.map_err(|error| match error {
                IndexError::Doubt(why) => EngineError::Corrupt {
                    what: format!("the index: {why}"),
                    place: crate::engine::index::redb_index::INDEX_NAME.to_owned(),
                },
                other => inner.store.doubt(other),
            })
        })
        .await
    }

    /// Says that the index cannot be trusted: the disk takes no writes any more, and the index is built anew at the next
    /// start.
    pub fn doubt_index(&self, why: &str) {
        self.inner.store.doubt(doubt(why));
    }
}

impl Inner {
    fn begin_walk(&self) -> Result<Walk, IndexError> {
        Ok(Walk {
            snapshot: self.store.index.snapshot()?,
            stage: Stage::Rows(RowTable::Objects, None),
            counts: Counts::default(),
            digests: HashMap::new(),
        })
    }
}

fn in_words(error: IndexError) -> String {
    match error {
        IndexError::Doubt(why) | IndexError::Sync(why) => why,
        IndexError::Full => "there is no room".to_owned(),
    }
}
