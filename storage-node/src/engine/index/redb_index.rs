//! The index on disk: redb, its file name, its tables.
//!
//! redb does not check what it reads and panics on some damage: every value carries our checksum, and every call is
//! fenced, so that damage becomes a doubt and never takes the process down.

use super::chunks::ChunkEntry;
use super::digest::{self, Digest};
use super::facts::{CheckpointFacts, FactEntry, SegmentEntry, decode_fact_key, encode_fact_key};
use super::redb_file::{Failures, RedbFile, count_bad_blocks};
use super::rows::{RowEntry, RowTable};
use super::{Changes, Index, IndexError, RowRange, Snapshot, doubt, open_value};
use crate::disk::Disk;
use crate::engine::segment::record_format::FactKey;
use parking_lot::RwLock;
use redb::{
    Database, ReadTransaction, ReadableDatabase, TableDefinition, TableError, WriteTransaction,
};
use ringfort_ring::id::PartitionId;
use ringfort_wire::id::ChunkId;
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(crate) const INDEX_NAME: &str = "index.redb";
/// The copy that is to take its place; left behind by a crash, it is nothing.
pub(crate) const RENEWED_NAME: &str = "index-renewed";
/// Entries of one commit of a copy.
const COPY_AT_ONCE: usize = 20_000;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;
const OBJECTS: Definition = TableDefinition::new("objects");
const PARTS: Definition = TableDefinition::new("parts");
const CHUNKS: Definition = TableDefinition::new("chunks");
const FACTS: Definition = TableDefinition::new("facts");
const SEGMENTS: Definition = TableDefinition::new("segments");
const DIGESTS: Definition = TableDefinition::new("digests");
const META: Definition = TableDefinition::new("meta");
const CHECKPOINT: &[u8] = b"checkpoint";

/// The checkpoint last: what has none is no index.
const TABLES: [Definition; 7] = [OBJECTS, PARTS, CHUNKS, FACTS, SEGMENTS, DIGESTS, META];

fn rows_table(table: RowTable) -> Definition {
    match table {
        RowTable::Objects => OBJECTS,
        RowTable::Parts => PARTS,
    }
}

/// Runs something of redb's; an error or a panic of it is a doubt.
fn fenced<T>(what: &str, run: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(doubt(&format!("redb panicked at {what}: {said}")))
    })
}

fn at<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> IndexError {
    move |error| doubt(&format!("redb cannot {what}: {error}"))
}

fn judge(failures: &Failures, what: &str, error: &dyn std::fmt::Display) -> IndexError {
    let why = format!("redb cannot {what}: {error}");
    if failures.is_sync_failed.load(Ordering::SeqCst) {
        IndexError::Sync(why)
    } else if failures.is_full.swap(false, Ordering::SeqCst) {
        IndexError::Full
    } else {
        IndexError::Doubt(why)
    }
}

/// The index file, open.
pub(crate) struct RedbIndex {
    disk: Arc<dyn Disk>,
    cache_bytes: usize,
    failures: Arc<Failures>,
    // Absent after a failed write, until it is open again: redb gives up on a file whose write failed.
    database: RwLock<Option<Arc<Database>>>,
}

impl std::fmt::Debug for RedbIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbIndex").finish_non_exhaustive()
    }
}

impl RedbIndex {
    /// Opens the file, or makes an empty one.
    pub(crate) fn open(disk: Arc<dyn Disk>, cache_bytes: usize) -> Result<Self, IndexError> {
        let index = Self {
            disk,
            cache_bytes,
            failures: Arc::default(),
            database: RwLock::new(None),
        };
        let database = index.open_database()?;
        *index.database.write() = Some(database);
        Ok(index)
    }

    fn open_database(&self) -> Result<Arc<Database>, IndexError> {
        let file = match self.disk.open(INDEX_NAME) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = self.disk.create(INDEX_NAME, 0);
                file.and_then(|file| self.disk.sync_directory().map(|()| file))
            }
            opened => opened,
        };
        let backend = RedbFile {
            file: file.map_err(at("open its file"))?,
            failures: Arc::clone(&self.failures),
        };
        fenced("open", || {
            Database::builder()
                .set_cache_size(self.cache_bytes)
                .create_with_backend(backend)
                .map(Arc::new)
                .map_err(|error| self.judge("open", &error))
        })
    }

    fn judge(&self, what: &str, error: &dyn std::fmt::Display) -> IndexError {
        judge(&self.failures, what, error)
    }

    /// Everything that this file holds, in a new file of that name; all of it checked on the way.
    fn copy(&self, from: &Database) -> Result<Database, IndexError> {
        match self.disk.remove(RENEWED_NAME) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at("remove an unfinished copy")(error));
            }
            _ => {}
        }
        let failures = Arc::<Failures>::default();
        let fail = |error: &dyn std::fmt::Display| judge(&failures, "copy", error);
        let file = self.disk.create(RENEWED_NAME, 0);
        let file = file.map_err(|error| match crate::disk::is_full(&error) {
            true => IndexError::Full,
            false => at("make a copy")(error),
        })?;
        let backend = RedbFile {
            file,
            failures: Arc::clone(&failures),
        };
        let to = Database::builder()
            .set_cache_size(self.cache_bytes)
            .create_with_backend(backend)
            .map_err(|error| fail(&error))?;
        let old = RedbSnapshot {
            transaction: from.begin_read().map_err(at("begin a read"))?,
        };
        for definition in TABLES {
            let Some(table) = old.table(definition)? else {
                continue;
            };
            let mut entries = table.range::<&[u8]>(ALL).map_err(at("read a range"))?;
            let mut copied = COPY_AT_ONCE;
            while copied == COPY_AT_ONCE {
                copied = 0;
                let mut transaction = to.begin_write().map_err(|error| fail(&error))?;
                transaction.set_quick_repair(true);
                {
                    let mut table = transaction
                        .open_table(definition)
                        .map_err(|error| fail(&error))?;
                    for entry in entries.by_ref().take(COPY_AT_ONCE) {
                        let (key, value) = entry.map_err(at("read a range"))?;
                        open_value(key.value(), value.value())?;
                        table
                            .insert(key.value(), value.value())
                            .map_err(|error| fail(&error))?;
                        copied += 1;
                    }
                }
                transaction.commit().map_err(|error| fail(&error))?;
            }
        }
        Ok(to)
    }

    fn database(&self) -> Result<Arc<Database>, IndexError> {
        if let Some(database) = &*self.database.read() {
            return Ok(Arc::clone(database));
        }
        let mut slot = self.database.write();
        if slot.is_none() {
            *slot = Some(self.open_database()?);
        }
        slot.clone().ok_or_else(|| doubt("redb is not open"))
    }

    fn write_all(
        &self,
        transaction: &WriteTransaction,
        changes: &Changes<'_>,
    ) -> Result<(), redb::Error> {
        for table in [RowTable::Objects, RowTable::Parts] {
            let mut rows = transaction.open_table(rows_table(table))?;
            for (key, row) in changes.table.rows(table) {
                match row {
                    Some(row) => rows.insert(&key[..], &row.encode(key)[..])?,
                    None => rows.remove(&key[..])?,
                };
            }
        }
        let mut chunks = transaction.open_table(CHUNKS)?;
        for (id, chunk) in &changes.table.chunks {
            match chunk {
                Some(chunk) => chunks.insert(&id.0[..], &chunk.encode(*id)[..])?,
                None => chunks.remove(&id.0[..])?,
            };
        }
        let mut facts = transaction.open_table(FACTS)?;
        for (key, fact) in &changes.facts {
            let key = encode_fact_key(*key);
            facts.insert(&key[..], &fact.encode(&key)[..])?;
        }
        let mut digests = transaction.open_table(DIGESTS)?;
        for (partition, digest) in &changes.digests {
            let key = digest::encode_key(*partition);
            digests.insert(&key[..], &digest.encode(&key)[..])?;
        }
        transaction.delete_table(SEGMENTS)?;
        let mut segments = transaction.open_table(SEGMENTS)?;
        for (number, segment) in &changes.segments {
            let key = number.to_be_bytes();
            segments.insert(&key[..], &segment.encode(&key)[..])?;
        }
        let mut meta = transaction.open_table(META)?;
        meta.insert(CHECKPOINT, &changes.checkpoint.encode(CHECKPOINT)[..])?;
        Ok(())
    }
}

impl Index for RedbIndex {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, IndexError> {
        let database = self.database()?;
        fenced("begin a read", || {
            let transaction = database.begin_read().map_err(at("begin a read"))?;
            Ok(Box::new(RedbSnapshot { transaction }) as Box<dyn Snapshot>)
        })
    }

    fn write(&self, changes: &Changes<'_>) -> Result<(), IndexError> {
        let database = self.database()?;
        let result = fenced("checkpoint", || {
            let run = || -> Result<(), redb::Error> {
                let mut transaction = database.begin_write()?;
                transaction.set_quick_repair(true);
                self.write_all(&transaction, changes)?;
                transaction.commit()?;
                Ok(())
            };
            run().map_err(|error| self.judge("checkpoint", &error))
        });
        if result.is_err() {
            *self.database.write() = None;
        }
        result
    }

    fn count_bad_blocks(&self, first: u64, count: usize) -> Result<(usize, usize), IndexError> {
        let file = self.disk.open(INDEX_NAME);
        file.and_then(|file| count_bad_blocks(&*file, first, count))
            .map_err(at("look at its file"))
    }

    fn renew(&self) -> Result<(), IndexError> {
        let database = self.database()?;
        let renewed = fenced("copy", || self.copy(&database));
        let renewed = match renewed {
            Ok(renewed) => renewed,
            Err(error) => {
                // What is left of the copy is removed by the next one, or at the next start.
                drop(self.disk.remove(RENEWED_NAME));
                // redb gives up on a file after one failed read: the parts of it that are whole are to be read on.
                *self.database.write() = None;
                return Err(error);
            }
        };
        self.disk
            .rename(RENEWED_NAME, INDEX_NAME)
            .map_err(at("put the copy in place"))?;
        // From here on the copy is the index, whichever of the two a crash leaves under the name: they say the same.
        *self.database.write() = Some(Arc::new(renewed));
        self.disk
            .sync_directory()
            .map_err(|error| IndexError::Sync(format!("the folder was not synced: {error}")))
    }
}

struct RedbSnapshot {
    transaction: ReadTransaction,
}

type ReadTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

impl RedbSnapshot {
    /// `None`: no checkpoint has made the table yet.
    fn table(&self, definition: Definition) -> Result<Option<ReadTable>, IndexError> {
        match self.transaction.open_table(definition) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(at("open a table")(error)),
        }
    }

    fn get<T>(
        &self,
        definition: Definition,
        key: &[u8],
        decode: impl Fn(&[u8], &[u8]) -> Result<T, IndexError>,
    ) -> Result<Option<T>, IndexError> {
        fenced("read", || {
            let Some(table) = self.table(definition)? else {
                return Ok(None);
            };
            let value = table.get(key).map_err(at("read"))?;
            value.map(|value| decode(key, value.value())).transpose()
        })
    }

    fn range<K, T>(
        &self,
        definition: Definition,
        range: RowRange<'_>,
        limit: usize,
        decode: impl Fn(&[u8], &[u8]) -> Result<(K, T), IndexError>,
    ) -> Result<Vec<(K, T)>, IndexError> {
        fenced("read a range", || {
            let mut found = Vec::new();
            let Some(table) = self.table(definition)? else {
                return Ok(found);
            };
            for item in table
                .range::<&[u8]>(range)
                .map_err(at("read a range"))?
                .take(limit)
            {
                let (key, value) = item.map_err(at("read a range"))?;
                found.push(decode(key.value(), value.value())?);
            }
            Ok(found)
        })
    }
}

const ALL: RowRange<'static> = (Bound::Unbounded, Bound::Unbounded);

impl Snapshot for RedbSnapshot {
    fn row(&self, table: RowTable, key: &[u8]) -> Result<Option<RowEntry>, IndexError> {
        self.get(rows_table(table), key, RowEntry::decode)
    }

    fn rows(
        &self,
        table: RowTable,
        range: RowRange<'_>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, RowEntry)>, IndexError> {
        self.range(rows_table(table), range, limit, |key, value| {
            Ok((key.to_vec(), RowEntry::decode(key, value)?))
        })
    }

    fn chunk(&self, id: ChunkId) -> Result<Option<ChunkEntry>, IndexError> {
        self.get(CHUNKS, &id.0, ChunkEntry::decode)
    }

    fn chunks(
        &self,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<(ChunkId, ChunkEntry)>, IndexError> {
        let from = after
            .as_ref()
            .map_or(Bound::Unbounded, |id| Bound::Excluded(&id.0[..]));
        self.range(CHUNKS, (from, Bound::Unbounded), limit, |key, value| {
            let id = key.try_into().map_err(|_| doubt("a chunk's key is none"))?;
            Ok((ChunkId(id), ChunkEntry::decode(key, value)?))
        })
    }

    fn facts(&self) -> Result<Vec<(FactKey, FactEntry)>, IndexError> {
        self.range(FACTS, ALL, usize::MAX, |key, value| {
            Ok((decode_fact_key(key)?, FactEntry::decode(key, value)?))
        })
    }

    fn segments(&self) -> Result<BTreeMap<u64, SegmentEntry>, IndexError> {
        let segments = self.range(SEGMENTS, ALL, usize::MAX, |key, value| {
            let number = key
                .try_into()
                .map_err(|_| doubt("a segment's key is none"))?;
            Ok((
                u64::from_be_bytes(number),
                SegmentEntry::decode(key, value)?,
            ))
        })?;
        Ok(segments.into_iter().collect())
    }

    fn digests(&self) -> Result<Vec<(PartitionId, Digest)>, IndexError> {
        self.range(DIGESTS, ALL, usize::MAX, Digest::decode)
    }

    fn checkpoint(&self) -> Result<Option<CheckpointFacts>, IndexError> {
        self.get(META, CHECKPOINT, CheckpointFacts::decode)
    }
}
