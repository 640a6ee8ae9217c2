//! The state that everything of one engine shares: the tables, the segments, what is applied, and how to read it.
//!
//! Only durable records come in here ([`Store::apply`]), so whatever is read here may be answered from.
//! Locks, in the order in which they may be taken: `apply_gate`, `state`. Neither is held over an fsync, nor over a
//! read of the index file.

use super::anchor::Anchor;
use super::index::chunks::ChunkEntry;
use super::index::digest::Digests;
use super::index::facts::{Counts, FactEntry};
use super::index::rows::{RowEntry, RowTable, index_key};
use super::index::table::Table;
use super::index::{Index, IndexError, Snapshot};
use super::segment::file::SegmentFile;
use super::segment::location::{Location, Position};
use super::segment::record_format::{Entry, FactKey};
use super::types::{EngineError, EngineOptions};
use super::write_gate::WriteGate;
use crate::disk::Disk;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::{ClusterId, DiskId};
use ringfort_wire::id::{ChunkId, RowKey};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The file whose presence says that the index must be built anew at the next start.
pub(crate) const DOUBT_NAME: &str = "index-doubt";

/// One segment, as the engine keeps it.
#[derive(Clone, Debug)]
pub(crate) struct SegmentState {
    pub(crate) file: Arc<SegmentFile>,
    /// Behind the last record.
    pub(crate) end: u64,
    pub(crate) live_bytes: u64,
    pub(crate) is_sealed: bool,
    /// A record in it does not read back: it stays where it is.
    pub(crate) is_damaged: bool,
    /// Some of its bytes are no record any more: what counts in it is to be copied on, however much that is.
    pub(crate) is_to_be_left: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) active: Table,
    pub(crate) frozen: Option<Arc<Table>>,
    pub(crate) facts: HashMap<FactKey, FactEntry>,
    pub(crate) segments: BTreeMap<u64, SegmentState>,
    pub(crate) counts: Counts,
    /// What replicas compare.
    pub(crate) digests: Digests,
    /// Every record before it is applied.
    pub(crate) applied: Position,
    /// As high as any sequence applied, and one more.
    pub(crate) next_sequence: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) bytes_appended: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) free_bytes: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) disk_id: DiskId,
    pub(crate) cluster: ClusterId,
    pub(crate) options: EngineOptions,
    pub(crate) index: Box<dyn Index>,
    pub(crate) index_doubt: Mutex<Option<String>>,
    pub(crate) state: RwLock<State>,
    /// Held while the records of one commit are applied, and while a checkpoint freezes the table: so that a checkpoint
    /// holds whole commits, and counts nothing twice when the log behind it is replayed.
    pub(crate) apply_gate: Mutex<()>,
    pub(crate) synced: Mutex<Position>,
    pub(crate) anchor: Mutex<Anchor>,
    pub(crate) gate: WriteGate,
    pub(crate) counters: Counters,
    /// Segments that the index lists and that were not there at start.
    pub(crate) gone: BTreeSet<u64>,
}

/// A durable record to be applied.
#[derive(Debug)]
pub(crate) struct Durable<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) sequence: u64,
    pub(crate) location: Location,
    pub(crate) state: &'a Bytes,
}

/// Where a row was found.
enum Seen<T> {
    InMemory(Option<T>),
    Below,
}

impl State {
    fn row(&self, table: RowTable, key: &[u8]) -> Seen<RowEntry> {
        let tables = [Some(&self.active), self.frozen.as_deref()];
        for rows in tables.into_iter().flatten() {
            if let Some(row) = rows.rows(table).get(key) {
                return Seen::InMemory(row.clone());
            }
        }
        Seen::Below
    }

    fn chunk(&self, id: ChunkId) -> Seen<ChunkEntry> {
        let tables = [Some(&self.active), self.frozen.as_deref()];
        for table in tables.into_iter().flatten() {
            if let Some(chunk) = table.chunks.get(&id) {
                return Seen::InMemory(chunk.clone());
            }
        }
        Seen::Below
    }

    fn add_live(&mut self, location: &Location) {
        if let Some(segment) = self.segments.get_mut(&location.position.segment) {
            segment.live_bytes += location.record_len();
        }
    }

    fn take_live(&mut self, location: &Location) {
        if let Some(segment) = self.segments.get_mut(&location.position.segment) {
            segment.live_bytes = segment.live_bytes.saturating_sub(location.record_len());
        }
    }

    fn set_row(&mut self, at: (RowTable, Vec<u8>), new: Option<RowEntry>, old: Option<&RowEntry>) {
        if let Some(old) = old {
            self.take_live(&old.location);
        }
        if let Some(new) = &new {
            self.add_live(&new.location);
        }
        let count = match at.0 {
            RowTable::Objects => &mut self.counts.objects,
            RowTable::Parts => &mut self.counts.parts,
        };
        *count = count.saturating_add(u64::from(new.is_some()));
        *count = count.saturating_sub(u64::from(old.is_some()));
        if let Some(old) = old {
            self.digests.remove_row(at.0, &at.1, old);
            self.active.digests.insert(old.partition);
        }
        if let Some(new) = &new {
            self.digests.add_row(at.0, &at.1, new);
            self.active.digests.insert(new.partition);
        }
        self.active.set_row(at.0, at.1, new);
    }

    fn set_chunk(&mut self, id: ChunkId, new: Option<ChunkEntry>, old: Option<&ChunkEntry>) {
        if let Some(old) = old {
            self.take_live(&old.location);
        }
        if let Some(new) = &new {
            self.add_live(&new.location);
        }
        let count = &mut self.counts.chunks;
        *count = count.saturating_add(u64::from(new.is_some()));
        *count = count.saturating_sub(u64::from(old.is_some()));
        if let Some(old) = old {
            self.digests.remove_chunk(id, old);
            self.active.digests.insert(old.partition);
        }
        if let Some(new) = &new {
            self.digests.add_chunk(id, new);
            self.active.digests.insert(new.partition);
        }
        self.active.set_chunk(id, new);
    }
}

impl Store {
    /// Turns an index failure into the caller's error; a doubt is kept for the next start.
    pub(crate) fn doubt(&self, error: IndexError) -> EngineError {
        let why = match error {
            IndexError::Full => return EngineError::Full,
            IndexError::Sync(why) => {
                self.gate
                    .close(&format!("a sync of the index failed: {why}"));
                why
            }
            IndexError::Doubt(why) => why,
        };
        let mut doubt = self.index_doubt.lock();
        if doubt.is_none() {
            tracing::error!(disk = %self.disk_id, why, "the index is in doubt; it is built anew at the next start");
            *doubt = Some(why.clone());
            let noted = self
                .disk
                .create(DOUBT_NAME, 0)
                .and_then(|_| self.disk.sync_directory());
            if let Err(error) = noted
                && error.kind() != std::io::ErrorKind::AlreadyExists
            {
                tracing::error!(disk = %self.disk_id, %error, "cannot note the index's doubt");
            }
            // Without an index no rule "the highest ballot counts" can be kept.
            self.gate.close(&format!("the index is in doubt: {why}"));
        }
        EngineError::Corrupt {
            what: format!("the index: {why}"),
            place: super::index::redb_index::INDEX_NAME.to_owned(),
        }
    }

    pub(crate) fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        self.index.snapshot().map_err(|error| self.doubt(error))
    }

    pub(crate) fn row(&self, at: &(RowTable, Vec<u8>)) -> Result<Option<RowEntry>, EngineError> {
        let seen = self.state.read().row(at.0, &at.1);
        match seen {
            Seen::InMemory(row) => Ok(row),
            // What is not in memory now can only have come to the index before, or come later: either is right.
            Seen::Below => self
                .snapshot()?
                .row(at.0, &at.1)
                .map_err(|error| self.doubt(error)),
        }
    }

    pub(crate) fn row_of(&self, key: &RowKey) -> Result<Option<RowEntry>, EngineError> {
        self.row(&index_key(key))
    }

    pub(crate) fn chunk(&self, id: ChunkId) -> Result<Option<ChunkEntry>, EngineError> {
        let seen = self.state.read().chunk(id);
        match seen {
            Seen::InMemory(chunk) => Ok(chunk),
            Seen::Below => self
                .snapshot()?
                .chunk(id)
                .map_err(|error| self.doubt(error)),
        }
    }

    pub(crate) fn fact(&self, key: FactKey) -> Ballot {
        let state = self.state.read();
        state
            .facts
            .get(&key)
            .map_or(Ballot::ZERO, |fact| fact.value)
    }

    pub(crate) fn segment(&self, number: u64) -> Option<Arc<SegmentFile>> {
        let state = self.state.read();
        state.segments.get(&number).map(|it| Arc::clone(&it.file))
    }

    /// Rows of a table in key order, at most `limit`.
    pub(crate) fn rows(
        &self,
        table: RowTable,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, RowEntry)>, EngineError> {
        let mut found: Vec<(Vec<u8>, RowEntry)> = Vec::new();
        let mut from = from;
        while found.len() < limit && !is_empty_range(&from, &to) {
            let want = limit - found.len();
            // Memory and the index's moment are taken together, so that a checkpoint in between hides nothing. As
            // memory can hide rows of the index, a round looks only as far as the changes that it collected.
            let (changes, snapshot) = {
                let state = self.state.read();
                let changes = changes_in(&state, table, (&from, &to), want);
                (changes, self.index.snapshot())
            };
            let snapshot = snapshot.map_err(|error| self.doubt(error))?;
            let is_cut = changes.len() == want;
            let until = match changes.last_key_value() {
                Some((last, _)) if is_cut => Bound::Included(last.clone()),
                _ => to.clone(),
            };
            let below = snapshot
                .rows(
                    table,
                    (as_slice(&from), as_slice(&until)),
                    want + changes.len(),
                )
                .map_err(|error| self.doubt(error))?;
            // The index's answer may stop early too; beyond it nothing is known in this round.
            let below_end = (below.len() == want + changes.len())
                .then(|| below.last().map(|(key, _)| key.clone()))
                .flatten();
            let mut merged: BTreeMap<Vec<u8>, Option<RowEntry>> = below
                .into_iter()
                .map(|(key, row)| (key, Some(row)))
                .collect();
            merged.extend(changes);
            let mut reached = None;
            for (key, row) in merged {
                if below_end.as_ref().is_some_and(|end| key > *end) || found.len() == limit {
                    break;
                }
                if let Some(row) = row {
                    found.push((key.clone(), row));
                }
                reached = Some(key);
            }
            match reached {
                Some(key) if is_cut || below_end.is_some() => from = Bound::Excluded(key),
                _ => break,
            }
        }
        Ok(found)
    }

    /// Chunks in order of their ids, from behind `after`, at most `limit`.
    pub(crate) fn chunks(
        &self,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<(ChunkId, ChunkEntry)>, EngineError> {
        let mut found = Vec::new();
        let mut after = after;
        while found.len() < limit {
            let want = limit - found.len();
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let (changes, snapshot) = {
                let state = self.state.read();
                let mut changes: BTreeMap<ChunkId, Option<ChunkEntry>> = BTreeMap::new();
                let tables = [state.frozen.as_deref(), Some(&state.active)];
                for table in tables.into_iter().flatten() {
                    let range = table.chunks.range((from, Bound::Unbounded));
                    changes.extend(range.take(want).map(|(id, chunk)| (*id, chunk.clone())));
                }
                (changes, self.index.snapshot())
            };
            let snapshot = snapshot.map_err(|error| self.doubt(error))?;
            // Of each table the first `want` changes are known, so the smallest `want` of both together are.
            let is_cut = changes.len() >= want;
            let changes: BTreeMap<_, _> = changes.into_iter().take(want).collect();
            let changes_end = changes.last_key_value().map(|(id, _)| *id);
            let below = snapshot
                .chunks(after, want + changes.len())
                .map_err(|error| self.doubt(error))?;
            let below_end = (below.len() == want + changes.len())
                .then(|| below.last().map(|(id, _)| *id))
                .flatten();
            let mut merged: BTreeMap<_, _> = below
                .into_iter()
                .map(|(id, chunk)| (id, Some(chunk)))
                .collect();
            merged.extend(changes);
            let mut reached = None;
            for (id, chunk) in merged {
                let is_beyond = below_end.is_some_and(|end| id > end)
                    || (is_cut && changes_end.is_some_and(|end| id > end));
                if is_beyond || found.len() == limit {
                    break;
                }
                if let Some(chunk) = chunk {
                    found.push((id, chunk));
                }
                reached = Some(id);
            }
            match reached {
                Some(id) if is_cut || below_end.is_some() => after = Some(id),
                _ => break,
            }
        }
        Ok(found)
    }

    /// Takes a durable record into the index: the highest ballot counts, never the later position.
    pub(crate) fn apply(&self, record: &Durable<'_>) -> Result<(), EngineError> {
        let location = record.location;
        match record.entry {
            Entry::Row {
                partition,
                epoch,
                ballot,
                key,
                ..
            } => {
                let at = index_key(key);
                let old = self.row(&at)?;
                let new = RowEntry {
                    partition: *partition,
                    epoch: *epoch,
                    ballot: *ballot,
                    sequence: record.sequence,
                    location,
                    state: record.state.clone(),
                };
                let is_news = old.as_ref().is_none_or(|old| {
                    new.rank() > old.rank()
                        || (new.rank() == old.rank() && new.location != old.location)
                });
                if is_news {
                    self.state.write().set_row(at, Some(new), old.as_ref());
                }
            }
            Entry::DropRow { key, .. } => {
                let at = index_key(key);
                let old = self.row(&at)?;
                let mut state = self.state.write();
                state.add_live(&location);
                // The writer let the drop through only where the ballot was exact; here the order decides.
                if let Some(old) = old.filter(|old| old.sequence < record.sequence) {
                    state.set_row(at, None, Some(&old));
                }
            }
            Entry::Chunk {
                id,
                partition,
                epoch,
                ..
            } => {
                let old = self.chunk(*id)?;
                let new = ChunkEntry {
                    partition: *partition,
                    epoch: *epoch,
                    sequence: record.sequence,
                    location,
                };
                let is_news = old.as_ref().is_none_or(|old| {
                    new.sequence > old.sequence
                        || (new.sequence == old.sequence && new.location != old.location)
                });
                if is_news {
                    self.state.write().set_chunk(*id, Some(new), old.as_ref());
                }
            }
            Entry::DeleteChunk { id } => {
                let old = self.chunk(*id)?;
                let mut state = self.state.write();
                state.add_live(&location);
                if let Some(old) = old.filter(|old| old.sequence < record.sequence) {
                    state.set_chunk(*id, None, Some(&old));
                }
            }
            Entry::Fact { key, value } => self.apply_fact(*key, *value, location),
            Entry::Seal => {}
        }
        let mut state = self.state.write();
        state.next_sequence = state.next_sequence.max(record.sequence + 1);
        Ok(())
    }

    fn apply_fact(&self, key: FactKey, value: Ballot, location: Location) {
        let mut state = self.state.write();
        let old = state.facts.get(&key).copied();
        // Of two records of one value the later counts: a copy takes the place of the one that it was made of.
        if old.is_some_and(|old| {
            old.value > value || (old.value == value && old.location.position >= location.position)
        }) {
            return;
        }
        if let Some(old) = old {
            state.take_live(&old.location);
        }
        state.add_live(&location);
        state.facts.insert(key, FactEntry { value, location });
        state.active.facts.insert(key);
    }

    /// Notes that everything before `end` is applied.
    pub(crate) fn set_applied(&self, end: Position) {
        let mut state = self.state.write();
        state.applied = state.applied.max(end);
        if let Some(segment) = state.segments.get_mut(&end.segment) {
            segment.end = segment.end.max(end.offset);
        }
    }

    /// Makes the last synced position durable in the anchor, if it is not yet.
    pub(crate) fn write_anchor(
        &self,
        horizon: ringfort_ring::hlc::Timestamp,
    ) -> Result<(), EngineError> {
        let mut anchor = self.anchor.lock();
        let synced = *self.synced.lock();
        if anchor.facts.synced >= synced && anchor.facts.horizon >= horizon {
            return Ok(());
        }
        self.gate.check()?;
        anchor.write(horizon, synced).map_err(|error| {
            if crate::disk::is_full(&error) {
                return EngineError::Full;
            }
            self.gate
                .close(&format!("the anchor cannot be written: {error}"))
        })
    }

    /// Whether the anchor was bad, in one slot or both; if it `mends`, both are written anew.
    pub(crate) fn check_anchor(&self, mends: bool) -> Result<bool, EngineError> {
        let mut anchor = self.anchor.lock();
        if anchor.is_good() {
            return Ok(false);
        }
        if mends {
            self.gate.check()?;
            anchor.write_both().map_err(|error| {
                if crate::disk::is_full(&error) {
                    return EngineError::Full;
                }
                self.gate
                    .close(&format!("the anchor cannot be written: {error}"))
            })?;
        }
        Ok(true)
    }

    pub(crate) fn anchored(&self) -> bool {
        let anchor = self.anchor.lock();
        anchor.facts.synced >= *self.synced.lock()
    }

    /// Free bytes of the disk, asked anew.
    pub(crate) fn ask_free_bytes(&self) -> u64 {
        // A disk that cannot say counts as roomy: the write itself will tell.
        let free = self.disk.free_bytes().unwrap_or(u64::MAX);
        self.counters.free_bytes.store(free, Ordering::Relaxed);
        free
    }
}

fn changes_in(
    state: &State,
    table: RowTable,
    (from, to): (&Bound<Vec<u8>>, &Bound<Vec<u8>>),
    limit: usize,
) -> BTreeMap<Vec<u8>, Option<RowEntry>> {
    let mut changes = BTreeMap::new();
    let tables = [state.frozen.as_deref(), Some(&state.active)];
    for rows in tables.into_iter().flatten() {
        let range = rows
            .rows(table)
            .range::<[u8], _>((as_slice(from), as_slice(to)));
        changes.extend(
            range
                .take(limit)
                .map(|(key, row)| (key.clone(), row.clone())),
        );
    }
    // Of each table the first `limit` are known, so the smallest `limit` of both together are.
    changes.into_iter().take(limit).collect()
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}

/// Whether no key can lie between; `BTreeMap::range` panics on such bounds.
fn is_empty_range(from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (
            Bound::Included(from) | Bound::Excluded(from),
            Bound::Included(to) | Bound::Excluded(to),
        ) => from >= to,
        _ => false,
    }
}
