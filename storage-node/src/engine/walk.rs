//! A pass over all rows of a disk, a bounded piece at a time, for jobs that look at each.

use super::compare::Scanned;
use super::index::rows::{RowTable, index_key, row_key};
use super::{Engine, EngineError, index};
use bytes::Bytes;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::PartitionId;
use ringfort_wire::id::RowKey;
use std::ops::Bound;

/// A row as a pass meets it: durable, and without its body.
#[derive(Clone, Debug)]
pub(crate) struct WalkedRow {
    pub(crate) key: RowKey,
    pub(crate) partition: PartitionId,
    pub(crate) ballot: Ballot,
    pub(crate) state: Bytes,
}

impl Engine {
    /// At most `examine` rows behind `after`: objects before parts, each in the order of its index key.
    ///
    /// # Errors
    /// `Corrupt` where the index does not read back.
    pub(crate) fn walk_rows(
        &self,
        after: Option<&RowKey>,
        examine: usize,
    ) -> Result<Scanned<WalkedRow, RowKey>, EngineError> {
        let store = &self.inner.store;
        let mut found: Vec<WalkedRow> = Vec::new();
        let examine = examine.max(1);
        let after = after.map(index_key);
        for table in [RowTable::Objects, RowTable::Parts] {
            let from = match &after {
                Some((begun, _)) if *begun > table => continue,
                Some((begun, key)) if *begun == table => Bound::Excluded(key.clone()),
                _ => Bound::Unbounded,
            };
            let left = examine - found.len();
            for (bytes, row) in store.rows(table, from, Bound::Unbounded, left)? {
                let Some(key) = row_key(table, &bytes) else {
                    return Err(store.doubt(index::doubt("a row's key is none")));
                };
                found.push(WalkedRow {
                    key,
                    partition: row.partition,
                    ballot: row.ballot,
                    state: row.state,
                });
            }
            if found.len() == examine {
                let examined = found.last().map(|row| row.key.clone());
                return Ok(Scanned { found, examined });
            }
        }
        Ok(Scanned {
            found,
            examined: None,
        })
    }
}
