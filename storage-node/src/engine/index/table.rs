//! What changed since the last checkpoint, in memory: locations and states, never bodies.

use super::chunks::ChunkEntry;
use super::rows::{RowEntry, RowTable};
use crate::engine::segment::record_format::FactKey;
use ringfort_ring::id::PartitionId;
use ringfort_wire::id::ChunkId;
use std::collections::{BTreeMap, BTreeSet};

/// About what one entry costs beside its key and state.
const ENTRY_BYTES: usize = 200;

/// The changes. `None` stands for "removed", which hides what the index below holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) objects: BTreeMap<Vec<u8>, Option<RowEntry>>,
    pub(crate) parts: BTreeMap<Vec<u8>, Option<RowEntry>>,
    pub(crate) chunks: BTreeMap<ChunkId, Option<ChunkEntry>>,
    pub(crate) facts: BTreeSet<FactKey>,
    /// Partitions whose digests have changed.
    pub(crate) digests: BTreeSet<PartitionId>,
    bytes: usize,
}

impl Table {
    pub(crate) fn rows(&self, table: RowTable) -> &BTreeMap<Vec<u8>, Option<RowEntry>> {
        match table {
            RowTable::Objects => &self.objects,
            RowTable::Parts => &self.parts,
        }
    }

    pub(crate) fn set_row(&mut self, table: RowTable, key: Vec<u8>, row: Option<RowEntry>) {
        let key_len = key.len();
        let added = row.as_ref().map_or(0, |row| row.state.len());
        let rows = match table {
            RowTable::Objects => &mut self.objects,
            RowTable::Parts => &mut self.parts,
        };
        let removed = match rows.insert(key, row) {
            None => {
                self.bytes += key_len + ENTRY_BYTES;
                0
            }
            Some(old) => old.map_or(0, |row| row.state.len()),
        };
        self.bytes = (self.bytes + added).saturating_sub(removed);
    }

    pub(crate) fn set_chunk(&mut self, id: ChunkId, chunk: Option<ChunkEntry>) {
        if self.chunks.insert(id, chunk).is_none() {
            self.bytes += ENTRY_BYTES;
        }
    }

    /// Lays newer changes over these.
    pub(crate) fn absorb(&mut self, newer: Self) {
        for (key, row) in newer.objects {
            self.set_row(RowTable::Objects, key, row);
        }
        for (key, row) in newer.parts {
            self.set_row(RowTable::Parts, key, row);
        }
        for (id, chunk) in newer.chunks {
            self.set_chunk(id, chunk);
        }
        self.facts.extend(newer.facts);
        self.digests.extend(newer.digests);
    }

    /// Changed keys.
    pub(crate) fn len(&self) -> usize {
        self.objects.len() + self.parts.len() + self.chunks.len() + self.facts.len()
    }

    /// About the memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
