//! Sums over the rows and chunks of each partition, which replicas compare (`ring`'s merkle).
//!
//! Kept with every change of the index; a checkpoint writes those of the partitions that it touches.
//!
//! ```text
//! key := partition 4 (big-endian)      value := 32 sums of rows, 32 of chunks, 8 each ‖ crc32c over key and value
//! ```

use super::chunks::ChunkEntry;
use super::rows::{RowEntry, RowTable};
use super::{IndexError, doubt, open_value, seal_value};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::PartitionId;
use ringfort_ring::merkle::{LEAVES, Leaves, Term, chunk_term, row_leaf, row_term};
use ringfort_wire::id::ChunkId;
use std::collections::HashMap;

/// The trees of one partition on one disk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Digest {
    pub(crate) rows: Leaves,
    pub(crate) chunks: Leaves,
}

/// The trees of all partitions on one disk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Digests(HashMap<PartitionId, Box<Digest>>);

impl Digests {
    pub(crate) fn of(&self, partition: PartitionId) -> Digest {
        self.0
            .get(&partition)
            .map(|it| (**it).clone())
            .unwrap_or_default()
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = PartitionId> {
        self.0.keys().copied()
    }

    pub(crate) fn set(&mut self, partition: PartitionId, digest: Digest) {
        self.0.insert(partition, Box::new(digest));
    }

    pub(crate) fn add_row(&mut self, table: RowTable, key: &[u8], row: &RowEntry) {
        let term = term(table, key, row.ballot);
        self.0.entry(row.partition).or_default().rows.add(term);
    }

    pub(crate) fn remove_row(&mut self, table: RowTable, key: &[u8], row: &RowEntry) {
        let term = term(table, key, row.ballot);
        self.0.entry(row.partition).or_default().rows.remove(term);
    }

    pub(crate) fn add_chunk(&mut self, id: ChunkId, chunk: &ChunkEntry) {
        let digest = self.0.entry(chunk.partition).or_default();
        digest.chunks.add(chunk_term(id.0));
    }

    pub(crate) fn remove_chunk(&mut self, id: ChunkId, chunk: &ChunkEntry) {
        let digest = self.0.entry(chunk.partition).or_default();
        digest.chunks.remove(chunk_term(id.0));
    }
}

/// The leaf of a row, by its index key.
pub(crate) fn leaf(table: RowTable, key: &[u8]) -> usize {
    row_leaf(&tagged(table, key))
}

pub(crate) fn term(table: RowTable, key: &[u8], ballot: Ballot) -> Term {
    row_term(&tagged(table, key), ballot)
}

fn tagged(table: RowTable, key: &[u8]) -> Vec<u8> {
    let tag = match table {
        RowTable::Objects => 0,
        RowTable::Parts => 1,
    };
    [&[tag], key].concat()
}

pub(super) fn encode_key(partition: PartitionId) -> [u8; 4] {
    partition.0.to_be_bytes()
}

impl Digest {
    pub(super) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let sums = self.rows.sums().iter().chain(self.chunks.sums());
        seal_value(key, sums.flat_map(|sum| sum.to_le_bytes()).collect())
    }

    pub(super) fn decode(key: &[u8], sealed: &[u8]) -> Result<(PartitionId, Self), IndexError> {
        let broken = || doubt("a partition's digest has another length");
        let number = key.try_into().map_err(|_| broken())?;
        let (sums, rest) = open_value(key, sealed)?.as_chunks::<8>();
        let sums: Vec<u64> = sums.iter().map(|sum| u64::from_le_bytes(*sum)).collect();
        if sums.len() != 2 * LEAVES || !rest.is_empty() {
            return Err(broken());
        }
        let (rows, chunks) = sums.split_at(LEAVES);
        let digest = Self {
            rows: Leaves::from_sums(rows).ok_or_else(broken)?,
            chunks: Leaves::from_sums(chunks).ok_or_else(broken)?,
        };
        Ok((PartitionId(u32::from_be_bytes(number)), digest))
    }
}
