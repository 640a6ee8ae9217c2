//! What replicas compare: the sums of a partition, and the rows and chunks of given leaves.
//!
//! Sums are read from memory. Naming the rows of a leaf goes through the whole index in key order, a bounded piece at a
//! time: it is for the few leaves that differ, all of a disk's in one pass.

use super::index::digest::{Digest, leaf, term};
use super::index::rows::{RowTable, index_key, row_key};
use super::{Engine, EngineError, index};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::PartitionId;
use ringfort_ring::merkle::chunk_term;
use ringfort_wire::id::{ChunkId, RowKey};
use std::collections::HashMap;
use std::ops::Bound;

/// Leaves of partitions: bit n of a partition's mask stands for leaf n.
pub(crate) type LeafMasks = HashMap<PartitionId, u32>;

/// A piece of a pass.
#[derive(Debug)]
pub(crate) struct Scanned<T, K> {
    /// What lies in the leaves, in order.
    pub(crate) found: Vec<T>,
    /// Everything up to here was looked at; `None`: all there is.
    pub(crate) examined: Option<K>,
}

impl Engine {
    /// The sums of a partition.
    pub(crate) fn digest(&self, partition: PartitionId) -> Digest {
        self.inner.store.state.read().digests.of(partition)
    }

    /// Sums up everything anew, with pages of `page` entries, and names the partitions whose kept sums are not that:
    /// none, or the index is wrong. Nothing may be written meanwhile.
    ///
    /// # Errors
    /// `Corrupt` where the index does not read back.
    pub fn wrong_digests(&self, page: usize) -> Result<Vec<PartitionId>, EngineError> {
        let store = &self.inner.store;
        let kept = store.state.read().digests.clone();
        let mut anew: HashMap<PartitionId, Digest> = HashMap::new();
        for table in [RowTable::Objects, RowTable::Parts] {
            let mut from = Bound::Unbounded;
            loop {
                let rows = store.rows(table, from, Bound::Unbounded, page)?;
                for (bytes, row) in &rows {
                    let digest = anew.entry(row.partition).or_default();
                    digest.rows.add(term(table, bytes, row.ballot));
                }
                match rows.into_iter().next_back() {
                    Some((last, _)) => from = Bound::Excluded(last),
                    None => break,
                }
            }
        }
        let mut after = None;
        loop {
            let chunks = store.chunks(after, page)?;
            for (id, chunk) in &chunks {
                let digest = anew.entry(chunk.partition).or_default();
                digest.chunks.add(chunk_term(id.0));
            }
            match chunks.last() {
                Some((last, _)) => after = Some(*last),
                None => break,
            }
        }
        let mut partitions: Vec<_> = kept.partitions().chain(anew.keys().copied()).collect();
        partitions.sort_unstable();
        partitions.dedup();
        let is_wrong = |partition: &PartitionId| {
            kept.of(*partition) != anew.get(partition).cloned().unwrap_or_default()
        };
        partitions.retain(is_wrong);
        Ok(partitions)
    }

    /// Rows in the given leaves with their durable ballots, in the order of [`row_order_key`], from behind `after`.
    /// Looks at `examine` rows at most.
    ///
    /// # Errors
    /// `Corrupt` where the index does not read back.
    pub(crate) fn scan_row_leaves(
        &self,
        wanted: &LeafMasks,
        after: Option<&RowKey>,
        examine: usize,
    ) -> Result<Scanned<(RowKey, PartitionId, Ballot), RowKey>, EngineError> {
        let store = &self.inner.store;
        let mut found = Vec::new();
        let mut left = examine.max(1);
        let after = after.map(index_key);
        for table in [RowTable::Objects, RowTable::Parts] {
            let from = match &after {
                Some((begun, _)) if *begun > table => continue,
                Some((begun, key)) if *begun == table => Bound::Excluded(key.clone()),
                _ => Bound::Unbounded,
            };
            let rows = store.rows(table, from, Bound::Unbounded, left)?;
            let mut last = None;
            let count = rows.len();
            for (bytes, row) in rows {
                let is_wanted = wanted
                    .get(&row.partition)
                    .is_some_and(|mask| mask & (1 << leaf(table, &bytes)) != 0);
                if is_wanted || count == left {
                    let Some(key) = row_key(table, &bytes) else {
                        return Err(store.doubt(index::doubt("a row's key is none")));
                    };
                    last = Some(key.clone());
                    if is_wanted {
                        found.push((key, row.partition, row.ballot));
                    }
                }
            }
            if count == left {
                return Ok(Scanned {
                    found,
                    examined: last,
                });
            }
            left -= count;
        }
        Ok(Scanned {
            found,
            examined: None,
        })
    }

    /// Chunks in the given leaves, in order of ids, from behind `after`. Looks at `examine` chunks at most.
    ///
    /// # Errors
    /// `Corrupt` where the index does not read back.
    pub(crate) fn scan_chunk_leaves(
        &self,
        wanted: &LeafMasks,
        after: Option<ChunkId>,
        examine: usize,
    ) -> Result<Scanned<(ChunkId, PartitionId), ChunkId>, EngineError> {
        let examine = examine.max(1);
        let chunks = self.scan_chunks(after, examine)?;
        let examined = chunks
            .last()
            .map(|(id, _)| *id)
            .filter(|_| chunks.len() == examine);
        let found = chunks
            .into_iter()
            .filter(|(id, partition)| {
                let bit = 1 << chunk_term(id.0).leaf;
                wanted.get(partition).is_some_and(|mask| mask & bit != 0)
            })
            .collect();
        Ok(Scanned { found, examined })
    }
}

/// What rows are sorted by in [`Engine::scan_row_leaves`]: objects before parts, each by the bytes of its index key.
pub(crate) fn row_order_key(row: &RowKey) -> (bool, Vec<u8>) {
    let (table, key) = index_key(row);
    (table == RowTable::Parts, key)
}
