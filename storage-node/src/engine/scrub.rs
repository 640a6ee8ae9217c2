//! Scrub: everything on the disk is read back in bounded pieces, whether anybody asks for it or not.
//!
//! Segments are read in the order of their bytes, up to what is applied: heads, fields, payloads, BLAKE3 of chunks. Only
//! a record that the index still points at can be *rotten*; what compaction or a newer write has superseded meanwhile is
//! not. Bytes that are no record at all are a [`BadPlace`]: what they held is named by the index ([`Engine::live_in`]).
//! Such a segment is left ([`Engine::leave_segments`]): what counts in it is copied on and the file removed, for an index
//! that were ever built anew from it would meet bytes that nobody can name. The index file and the anchor have checks of
//! their own.
//!
//! Nothing here waits for writers or holds them up: a piece reads files, and looks the index up for what seems rotten.
//! What to do about rot is the caller's; [`Engine::restate`] is the part that needs no other replica.

mod index;
mod note;

use super::index::rows::{RowTable, row_key};
use super::queue::{Item, Origin};
use super::recovery::io_failure;
use super::segment::file::{HEADER_LEN, SegmentFile};
use super::segment::location::{Location, Position};
use super::segment::reader::{read_meta, read_payload};
use super::segment::record_format::{Entry, FactKey};
use super::segment::scan::{Found, Record, Scanner};
use super::store::Store;
use super::types::{EngineError, Held, Rot};
use super::{Commit, Engine, Inner};
use bytes::Bytes;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::PartitionId;
use ringfort_wire::id::{ChunkId, RowKey};
use std::ops::Bound;
use std::sync::Arc;
use tokio::sync::oneshot;

pub use index::IndexPiece;

/// Entries of the index looked at in one go.
const PAGE: usize = 4_000;

/// A place in the log from which a scrub goes on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct ScrubCursor {
    /// The segment's number.
    pub segment: u64,
    /// Bytes from the start of its file.
    pub offset: u64,
}

/// Bytes of a segment that are no record and should be one, or hold one up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadPlace {
    /// The segment's number.
    pub segment: u64,
    /// The first byte.
    pub from: u64,
    /// Behind the last byte.
    pub to: u64,
}

impl BadPlace {
    fn holds(&self, position: Position) -> bool {
        position.segment == self.segment && (self.from..self.to).contains(&position.offset)
    }
}

/// A record that counts and does not read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rotten {
    /// What it is of.
    pub record: RottenRecord,
    at: Location,
    fact: Option<FactKey>,
}

impl Rotten {
    /// Whether it begins in a bad place.
    #[must_use]
    pub fn lies_in(&self, place: &BadPlace) -> bool {
        place.holds(self.at.position)
    }
}

/// What a rotten record is of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RottenRecord {
    /// A register. Its state is known from the index.
    Row {
        /// The partition.
        partition: PartitionId,
        /// The register.
        key: RowKey,
        /// Whether an inline body belongs to it, which only other replicas have now.
        has_body: bool,
    },
    /// A chunk.
    Chunk {
        /// The chunk.
        id: ChunkId,
    },
    /// A floor, bound, epoch or generation. Its value is known from the index.
    Fact,
}

/// What one piece of reading found.
#[derive(Clone, Debug, Default)]
pub struct ScrubPiece {
    /// Records read.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What counts and does not read back.
    pub rotten: Vec<Rotten>,
    /// What is no record.
    pub bad_places: Vec<BadPlace>,
    /// Where to go on; `None`: the last segment asked for has been read.
    pub next: Option<ScrubCursor>,
}

/// A record that the index points at.
#[derive(Clone, Debug)]
pub(crate) struct LiveRecord {
    rotten: Rotten,
    held: Held,
}

impl LiveRecord {
    pub(crate) fn as_rot(&self) -> Rot {
        Rot {
            segment: self.rotten.at.position.segment,
            offset: self.rotten.at.position.offset,
            len_bytes: self.rotten.at.record_len(),
            held: self.held.clone(),
        }
    }
}

impl Engine {
    /// The newest segment: a pass that goes up to it has read everything written before it began.
    #[must_use]
    pub fn newest_segment(&self) -> u64 {
        let state = self.inner.store.state.read();
        state.segments.last_key_value().map_or(0, |(n, _)| *n)
    }

    /// Bytes written in segments from a place on: what a scrub has before it, if nothing is written meanwhile.
    #[must_use]
    pub fn bytes_from(&self, from: ScrubCursor) -> u64 {
        let state = self.inner.store.state.read();
        let segments = state.segments.range(from.segment..);
        segments
            .map(|(number, segment)| {
                let begin = if *number == from.segment {
                    from.offset.max(HEADER_LEN)
                } else {
                    HEADER_LEN
                };
                segment.end.saturating_sub(begin)
            })
            .sum()
    }

    /// Reads about `max_bytes`, at least one record, from a place on; nothing of segments above `until`.
    ///
    /// # Errors
    /// `Io` where the disk does not answer at all; `Corrupt` where the index does not read back.
    pub async fn scrub_piece(
        &self,
        from: ScrubCursor,
        until: u64,
        max_bytes: u64,
    ) -> Result<ScrubPiece, EngineError> {
        self.blocking(move |inner| inner.scrub_piece(from, until, max_bytes))
            .await
    }

    /// The records that count and lie in bad places, or in segments that are not there.
    ///
    /// # Errors
    /// `Corrupt` where the index does not read back.
    pub async fn live_in(&self, places: Vec<BadPlace>) -> Result<Vec<Rotten>, EngineError> {
        self.blocking(move |inner| {
            let is_in = |at: &Location| {
                let state = inner.store.state.read();
                let segment = state.segments.get(&at.position.segment);
                segment.is_none_or(|it| at.position.offset >= it.end)
                    || places.iter().any(|place| place.holds(at.position))
            };
            let mut rotten = Vec::new();
            for live in live_records(&inner.store, &is_in)? {
                // Looked at again: compaction may have moved it since the page was read.
                if inner.is_rotten(&live.rotten)? {
                    rotten.push(live.rotten);
                }
            }
            Ok(rotten)
        })
        .await
    }

    /// Whether the index still points at a record that was found rotten: `false` where it was written anew since, or is not
    /// wanted any more.
    ///
    /// # Errors
    /// `Corrupt` where the index does not read back.
    pub fn still_counts(&self, rotten: &Rotten) -> Result<bool, EngineError> {
        Ok(self.inner.location_now(rotten)? == Some(rotten.at))
    }

    /// Writes a rotten record anew from what the index holds of it, if that is all of it. `None` where it takes another
    /// replica: a chunk, a row with an inline body.
    ///
    /// # Errors
    /// `Corrupt` where the index does not read back.
    pub fn restate(&self, rotten: &Rotten) -> Result<Option<Commit>, EngineError> {
        let store = &self.inner.store;
        let (entry, state, sequence) = match (&rotten.record, rotten.fact) {
            (RottenRecord::Fact, Some(key)) => {
                let value = store.fact(key);
                let sequence = store.state.read().next_sequence.saturating_sub(1);
                (Entry::Fact { key, value }, Bytes::new(), sequence)
            }
            (
                RottenRecord::Row {
                    key,
                    has_body: false,
                    ..
                },
                _,
            ) => {
                let row = store.row_of(key)?.filter(|row| row.location == rotten.at);
                let Some(row) = row else {
                    return Ok(None);
                };
                let Ok(state_len) = u32::try_from(row.state.len()) else {
                    return Ok(None);
                };
                let entry = Entry::Row {
                    partition: row.partition,
                    epoch: row.epoch,
                    ballot: row.ballot,
                    state_len,
                    key: key.clone(),
                };
                (entry, row.state, row.sequence)
            }
            _ => return Ok(None),
        };
        let (sender, done) = oneshot::channel();
        // A copy, as compaction makes them: the writer takes it only while the record at that place still counts.
        self.inner.queue.push(Item {
            entry,
            first: state,
            second: Bytes::new(),
            origin: Origin::Copied {
                sequence,
                from: rotten.at,
            },
            done: Some(sender),
        });
        Ok(Some(Commit { done }))
    }

    /// Has compaction empty these segments and remove them. One that is being written is ended first. Segments that
    /// compaction gave up because of a record that did not read back are tried again.
    ///
    /// # Errors
    /// `Full`, `WritesClosed`.
    pub async fn leave_segments(&self, numbers: &[u64]) -> Result<(), EngineError> {
        let is_open = {
            let mut state = self.inner.store.state.write();
            let mut is_open = false;
            for (number, segment) in &mut state.segments {
                segment.is_damaged = false;
                if numbers.contains(number) {
                    segment.is_to_be_left = true;
                    is_open |= !segment.is_sealed;
                }
            }
            is_open
        };
        if !is_open {
            return Ok(());
        }
        let (sender, done) = oneshot::channel();
        self.inner.queue.push(Item {
            entry: Entry::Seal,
            first: Bytes::new(),
            second: Bytes::new(),
            origin: Origin::Submitted,
            done: Some(sender),
        });
        if self.inner.store.options.is_driven_by_caller {
            while self.step() {}
        }
        Commit { done }.await
    }

    /// How many of these segments are still there.
    #[must_use]
    pub fn segments_left(&self, numbers: &[u64]) -> usize {
        let state = self.inner.store.state.read();
        let is_there = |number: &&u64| state.segments.contains_key(number);
        numbers.iter().filter(is_there).count()
    }

    /// Whether the anchor was bad, in one slot or both. If it `mends`, both are written anew.
    ///
    /// # Errors
    /// `Full`, `WritesClosed`.
    pub async fn check_anchor(&self, mends: bool) -> Result<bool, EngineError> {
        self.blocking(move |inner| inner.store.check_anchor(mends))
            .await
    }
}

impl Inner {
    fn scrub_piece(
        &self,
        from: ScrubCursor,
        until: u64,
        max_bytes: u64,
    ) -> Result<ScrubPiece, EngineError> {
        let mut piece = ScrubPiece::default();
        let next = {
            let state = self.store.state.read();
            let mut rest = state.segments.range(from.segment..=until.max(from.segment));
            rest.next()
                .map(|(number, segment)| (*number, segment.clone()))
        };
        let Some((number, segment)) = next.filter(|(number, _)| *number <= until) else {
            return Ok(piece);
        };
        let offset = if number == from.segment {
            from.offset.max(HEADER_LEN)
        } else {
            HEADER_LEN
        };
        if offset == HEADER_LEN
            && !segment
                .file
                .is_header_good((self.store.disk_id, self.store.cluster))
        {
            piece.bad_places.push(BadPlace {
                segment: number,
                from: 0,
                to: HEADER_LEN,
            });
        }
        let is_at_end = self.scan(&segment.file, offset, &segment, max_bytes, &mut piece)?;
        piece.next = match is_at_end {
            Some(offset) => Some(ScrubCursor {
                segment: number,
                offset,
            }),
            None => (number < until).then_some(ScrubCursor {
                segment: number + 1,
                offset: HEADER_LEN,
            }),
        };
        Ok(piece)
    }

    /// Reads on in one segment; answers where it stopped, or `None` at the segment's end.
    fn scan(
        &self,
        file: &Arc<SegmentFile>,
        offset: u64,
        segment: &super::store::SegmentState,
        max_bytes: u64,
        piece: &mut ScrubPiece,
    ) -> Result<Option<u64>, EngineError> {
        let cannot = || io_failure("scrub a segment");
        let mut scanner = Scanner::up_to(file, offset, segment.end).map_err(cannot())?;
        let bad = |from, to| BadPlace {
            segment: file.number,
            from,
            to,
        };
        while let Some(found) = scanner.next().map_err(cannot())? {
            match found {
                Found::Record(record) => {
                    piece.records += 1;
                    if let Some(rotten) = self.judge(file, &record)? {
                        piece.rotten.push(rotten);
                    }
                    let read = scanner.offset().saturating_sub(offset);
                    if read >= max_bytes {
                        piece.bytes += read;
                        return Ok(Some(scanner.offset()));
                    }
                }
                Found::Bad { from, to } => piece.bad_places.push(bad(from, to)),
                Found::End { at, is_sealed } => {
                    // A seal that is gone, or a file that ends before what was written.
                    let is_whole = at == segment.end && is_sealed == segment.is_sealed;
                    let is_told = piece.bad_places.iter().any(|place| place.from >= at);
                    if !is_whole && !is_told {
                        piece.bad_places.push(bad(at, segment.end.max(at + 1)));
                    }
                }
            }
        }
        piece.bytes += segment.end.saturating_sub(offset);
        Ok(None)
    }

    /// What a scanned record's rot means: nothing, unless the index points at it and a second look says the same.
    fn judge(&self, file: &SegmentFile, record: &Record) -> Result<Option<Rotten>, EngineError> {
        let is_other_chunk = match &record.entry {
            Entry::Chunk { blake3, .. } => record.blake3.is_some_and(|sum| sum != *blake3),
            _ => false,
        };
        if record.is_payload_good && !is_other_chunk {
            return Ok(None);
        }
        let at = record.location;
        let what = match &record.entry {
            Entry::Row {
                partition,
                key,
                state_len,
                ..
            } => RottenRecord::Row {
                partition: *partition,
                key: key.clone(),
                has_body: at.payload_len > *state_len,
            },
            Entry::Chunk { id, .. } => RottenRecord::Chunk { id: *id },
            Entry::Fact { .. } => RottenRecord::Fact,
            Entry::DropRow { .. } | Entry::DeleteChunk { .. } | Entry::Seal => return Ok(None),
        };
        let fact = match &record.entry {
            Entry::Fact { key, .. } => Some(*key),
            _ => None,
        };
        let rotten = Rotten {
            record: what,
            at,
            fact,
        };
        let counts = self.location_now(&rotten)? == Some(at);
        Ok((counts && !reads_back(file, &rotten)?).then_some(rotten))
    }

    /// Whether a record still counts and does not read back.
    fn is_rotten(&self, rotten: &Rotten) -> Result<bool, EngineError> {
        if self.location_now(rotten)? != Some(rotten.at) {
            return Ok(false);
        }
        match self.store.segment(rotten.at.position.segment) {
            Some(file) => Ok(!reads_back(&file, rotten)?),
            // Gone, and the index was asked before: compaction took it away if the index says otherwise by now.
            None => Ok(self.location_now(rotten)? == Some(rotten.at)),
        }
    }

    /// Where the index says that the record of this register, chunk or fact is.
    fn location_now(&self, rotten: &Rotten) -> Result<Option<Location>, EngineError> {
        Ok(match (&rotten.record, rotten.fact) {
            (RottenRecord::Row { key, .. }, _) => self.store.row_of(key)?.map(|row| row.location),
            (RottenRecord::Chunk { id }, _) => self.store.chunk(*id)?.map(|chunk| chunk.location),
            (RottenRecord::Fact, Some(key)) => {
                let state = self.store.state.read();
                state.facts.get(&key).map(|fact| fact.location)
            }
            (RottenRecord::Fact, None) => None,
        })
    }
}

/// Whether a record reads back whole, by a reading of its own.
fn reads_back(file: &SegmentFile, rotten: &Rotten) -> Result<bool, EngineError> {
    let at = &rotten.at;
    let read = || -> Result<bool, EngineError> {
        let entry = read_meta(&*file.file, &file.salt, at, "a record")?;
        let payload = 0..at.payload_len;
        let payload = read_payload(&*file.file, &file.salt, at, payload, "a record")?;
        Ok(match (&entry, &rotten.record) {
            (Entry::Row { key, .. }, RottenRecord::Row { key: wanted, .. }) => key == wanted,
            (Entry::Chunk { id, blake3, .. }, RottenRecord::Chunk { id: wanted }) => {
                id == wanted && blake3::hash(&payload).as_bytes() == blake3
            }
            (Entry::Fact { key, .. }, RottenRecord::Fact) => Some(*key) == rotten.fact,
            _ => false,
        })
    };
    match read() {
        Err(EngineError::Corrupt { .. }) => Ok(false),
        other => other,
    }
}

/// Everything that the index points at in the given places. Goes through the whole index, a page at a time.
pub(crate) fn live_records(
    store: &Store,
    is_in: &dyn Fn(&Location) -> bool,
) -> Result<Vec<LiveRecord>, EngineError> {
    let mut found = Vec::new();
    for table in [RowTable::Objects, RowTable::Parts] {
        let mut from = Bound::Unbounded;
        loop {
            let page = store.rows(table, from, Bound::Unbounded, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            from = Bound::Excluded(last.clone());
            for (bytes, row) in page {
                if !is_in(&row.location) {
                    continue;
                }
                let Some(key) = row_key(table, &bytes) else {
                    return Err(store.doubt(super::index::doubt("a row's key is none")));
                };
                let has_body = u64::from(row.location.payload_len) > row.state.len() as u64;
                let held = held_row(row.partition, &key, row.ballot);
                let record = RottenRecord::Row {
                    partition: row.partition,
                    key,
                    has_body,
                };
                found.push(live(record, row.location, None, held));
            }
        }
    }
    let mut after = None;
    loop {
        let page = store.chunks(after, PAGE)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        for (id, chunk) in page {
            if is_in(&chunk.location) {
                let held = Held::Chunk {
                    partition: chunk.partition,
                    id,
                };
                found.push(live(RottenRecord::Chunk { id }, chunk.location, None, held));
            }
        }
    }
    let facts: Vec<_> = {
        let state = store.state.read();
        let facts = state.facts.iter();
        facts.map(|(key, fact)| (*key, fact.location)).collect()
    };
    for (key, location) in facts {
        if is_in(&location) {
            found.push(live(
                RottenRecord::Fact,
                location,
                Some(key),
                Held::Superseded,
            ));
        }
    }
    Ok(found)
}

fn held_row(partition: PartitionId, key: &RowKey, ballot: Ballot) -> Held {
    Held::Row {
        partition,
        key: key.clone(),
        ballot,
    }
}

fn live(record: RottenRecord, at: Location, fact: Option<FactKey>, held: Held) -> LiveRecord {
    LiveRecord {
        rotten: Rotten { record, at, fact },
        held,
    }
}
