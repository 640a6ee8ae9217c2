//! The one writer of the log: group commit.
//!
//! Whatever queued while the last commit was syncing goes out in the next: one large write, one `fdatasync`, then the
//! records enter the index, then their submitters are told. No timer. A commit lies in one segment; only one is ever
//! on its way, so a record that names position P as synced proves everything before P.

use super::file::{HEADER_LEN, SegmentFile};
use super::location::{Location, Position};
use super::record_format::{
    COMMIT_ALIGN, Encoded, Entry, HEAD_LEN, encode, frame_count, record_len,
};
use crate::disk::is_full;
use crate::engine::checkpoint::Checkpointer;
use crate::engine::index::rows::index_key;
use crate::engine::queue::{Item, Origin, Queue, Wake};
use crate::engine::store::{Durable, SegmentState, Store};
use crate::engine::types::EngineError;
use bytes::Bytes;
use ringfort_wire::message::AcceptRequest;
use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A disk that was quiet for so long gets its last synced position written (DESIGN: within 100 ms).
const QUIET_AFTER: Duration = Duration::from_millis(50);
/// Room that every segment keeps for its seal.
const SEAL_ROOM: u64 = 2 * COMMIT_ALIGN;
/// Payloads below this are copied into the commit's front buffer: fewer, larger writes.
const COPY_BELOW: usize = 16 << 10;

/// The writer, and where it stands.
#[derive(Debug)]
pub(crate) struct Writer {
    store: Arc<Store>,
    queue: Arc<Queue>,
    checkpointer: Arc<Checkpointer>,
    segment: Option<Arc<SegmentFile>>,
    /// Where the next commit begins.
    offset: u64,
    /// Where the segment's room ends.
    room_end: u64,
    next_sequence: u64,
    /// While recovery appends anew: the lowest sequence of all that it appends.
    lowest_recovered: Option<u64>,
    free_asked_at: u64,
}

/// A record of the commit in the making.
#[derive(Debug)]
struct Prepared {
    item: Item,
    encoded: Encoded,
    sequence: u64,
    location: Location,
}

impl Writer {
    /// A writer that has no segment yet and makes one, behind all others, for its first commit.
    pub(crate) fn new(
        store: Arc<Store>,
        queue: Arc<Queue>,
        checkpointer: Arc<Checkpointer>,
    ) -> Self {
        let next_sequence = store.state.read().next_sequence.max(1);
        store.ask_free_bytes();
        Self {
            store,
            queue,
            checkpointer,
            segment: None,
            offset: 0,
            room_end: 0,
            next_sequence,
            lowest_recovered: None,
            free_asked_at: 0,
        }
    }

    /// Appends what recovery found above the known-synced position, and what it has to note, before anything else.
    pub(crate) fn recover(&mut self, lowest_sequence: Option<u64>) -> Result<(), EngineError> {
        self.lowest_recovered = lowest_sequence;
        while self.step() {}
        self.lowest_recovered = None;
        if self.segment.is_none() {
            self.roll(0)?;
        }
        self.store.gate.check()
    }

    /// The writer thread.
    pub(crate) fn run(mut self) {
        loop {
            let is_anchored = self.store.anchored();
            match self.queue.wait((!is_anchored).then_some(QUIET_AFTER)) {
                Wake::Work => {
                    self.step();
                }
                Wake::Quiet => self.write_anchor(),
                Wake::Stop => {
                    self.write_anchor();
                    return;
                }
            }
        }
    }

    /// Writes the last synced position; a failed sync closes the gate by itself.
    pub(crate) fn write_anchor(&self) {
        let horizon = self.store.anchor.lock().facts.horizon;
        if let Err(error) = self.store.write_anchor(horizon)
            && self.store.gate.why().is_none()
        {
            tracing::warn!(%error, "the anchor was not written; it will be with the next quiet");
        }
    }

    /// One group commit; whether anything was waiting.
    pub(crate) fn step(&mut self) -> bool {
        let Some(first) = self.queue.pop_if(|_| true) else {
            return false;
        };
        if let Err(error) = self.store.gate.check() {
            first.finish(Err(error));
            return true;
        }
        if matches!(first.entry, Entry::Seal) {
            let rolled = self.roll(0);
            first.finish(rolled);
            return true;
        }
        self.ask_free_bytes_now_and_then();
        if self.checkpointer.is_overrun() {
            self.checkpointer.wait_or_give_up();
        }
        let needed = self.item_len(&first);
        let has_room = self.segment.is_some() && self.offset + needed + SEAL_ROOM <= self.room_end;
        if !has_room && let Err(error) = self.roll(needed) {
            first.finish(Err(error));
            return true;
        }
        let commit = self.gather(first);
        self.commit(commit);
        true
    }

    fn item_len(&self, item: &Item) -> u64 {
        // Fields are bounded by the key's length; this is an upper bound for fitting only.
        let payload_len = u32::try_from(item.payload_len()).unwrap_or(u32::MAX);
        let key_len = 1024 + 256;
        record_len(key_len + 4 * frame_count(payload_len), payload_len) + HEAD_LEN as u64
    }

    /// Takes what fits into one commit, and lets through what is allowed.
    fn gather(&mut self, first: Item) -> Vec<Prepared> {
        let start = self.offset;
        let limit = (self.room_end - SEAL_ROOM).min(start + self.store.options.commit_bytes);
        let mut commit: Vec<Prepared> = Vec::new();
        let (mut rows, mut chunks) = (HashSet::new(), HashSet::new());
        let mut at = start;
        let mut next = Some(first);
        let synced = *self.store.synced.lock();
        while let Some(item) = next.take() {
            match &item.entry {
                Entry::Row { key, .. } => drop(rows.insert(index_key(key))),
                Entry::Chunk { id, .. } => drop(chunks.insert(*id)),
                _ => {}
            }
            match self.admit(&item) {
                Err(error) => item.finish(Err(error)),
                Ok(false) => item.finish(Ok(())),
                Ok(true) => match self.prepare(item, at, synced) {
                    Err(item) => item.finish(Err(EngineError::Io {
                        what: "encode a record".to_owned(),
                        message: "a length does not fit the format".to_owned(),
                    })),
                    Ok(prepared) => {
                        at += prepared.location.record_len();
                        commit.push(prepared);
                    }
                },
            }
            next = self.queue.pop_if(|item| {
                // A removal is judged against what is applied: what it may remove is applied before its commit.
                let is_settled = match &item.entry {
                    Entry::DropRow { key, .. } => !rows.contains(&index_key(key)),
                    Entry::DeleteChunk { id } => !chunks.contains(id),
                    // It ends the segment: the commit before it comes first.
                    Entry::Seal => false,
                    _ => true,
                };
                // Copies too are judged against what is applied, and stand before all others.
                let is_in_turn = !matches!(item.origin, Origin::Copied { .. })
                    || commit
                        .iter()
                        .all(|it| matches!(it.item.origin, Origin::Copied { .. }));
                is_settled && is_in_turn && at + self.item_len(item) <= limit
            });
        }
        commit
    }

    /// Whether an item is to be written: an error refuses it, `false` means that there is nothing to do.
    fn admit(&self, item: &Item) -> Result<bool, EngineError> {
        match (&item.origin, &item.entry) {
            (Origin::Recovered { .. }, _) => Ok(true),
            (Origin::Copied { from, .. }, entry) => self.still_counts(entry, from),
            (Origin::Submitted, Entry::DropRow { key, ballot }) => {
                let row = self.store.row_of(key)?;
                Ok(row.is_some_and(|row| row.ballot == *ballot))
            }
            (Origin::Submitted, Entry::Fact { key, value }) => Ok(self.store.fact(*key) < *value),
            (Origin::Submitted, Entry::Chunk { .. } | Entry::Row { .. }) => {
                let free = self.store.counters.free_bytes.load(Ordering::Relaxed);
                let wants_room = matches!(item.entry, Entry::Chunk { .. })
                    || !item.second.is_empty()
                    || item.first.len() > AcceptRequest::SMALL_STATE_BYTES;
                if wants_room && free < self.store.options.reserve_bytes / 2 {
                    return Err(EngineError::Full);
                }
                if self.checkpointer.is_overrun() {
                    return Err(EngineError::Full);
                }
                Ok(true)
            }
            (Origin::Submitted, Entry::DeleteChunk { id }) => Ok(self.store.chunk(*id)?.is_some()),
            (Origin::Submitted, Entry::Seal) => Ok(false),
        }
    }

    fn still_counts(&self, entry: &Entry, from: &Location) -> Result<bool, EngineError> {
        Ok(match entry {
            Entry::Row { key, .. } => {
                let row = self.store.row_of(key)?;
                row.is_some_and(|row| row.location == *from)
            }
            Entry::Chunk { id, .. } => {
                let chunk = self.store.chunk(*id)?;
                chunk.is_some_and(|chunk| chunk.location == *from)
            }
            Entry::Fact { key, .. } => {
                let state = self.store.state.read();
                state
                    .facts
                    .get(key)
                    .is_some_and(|fact| fact.location == *from)
            }
            // Whether a marker is still needed was judged by compaction; once too often does no harm.
            Entry::DropRow { .. } | Entry::DeleteChunk { .. } => true,
            Entry::Seal => false,
        })
    }

    #[allow(
        clippy::result_large_err,
        reason = "the item goes back whole, to be tried in the next segment"
    )]
    fn prepare(&mut self, item: Item, offset: u64, synced: Position) -> Result<Prepared, Item> {
        let Some(segment) = &self.segment else {
            return Err(item);
        };
        let (sequence, is_copy) = match item.origin {
            Origin::Submitted => (self.next_sequence, false),
            Origin::Copied { sequence, .. } | Origin::Recovered { sequence } => (sequence, true),
        };
        let fields = item.entry.encode_fields();
        let Some(encoded) = encode(
            &segment.salt,
            &item.entry,
            &fields,
            (sequence, is_copy, synced),
            (&item.first, &item.second),
        ) else {
            return Err(item);
        };
        self.next_sequence = self.next_sequence.max(sequence + 1);
        Ok(Prepared {
            location: Location {
                position: Position {
                    segment: segment.number,
                    offset,
                },
                meta_len: encoded.meta_len,
                payload_len: encoded.payload_len,
            },
            item,
            encoded,
            sequence,
        })
    }

    /// Writes, syncs, applies, answers.
    fn commit(&mut self, commit: Vec<Prepared>) {
        let Some(segment) = self.segment.clone().filter(|_| !commit.is_empty()) else {
            return;
        };
        let start = self.offset;
        let end = commit.last().map_or(start, |last| {
            last.location.position.offset + last.location.record_len()
        });
        if let Err(error) = write_commit(&segment, start, &commit) {
            let error = self.on_failed_write(&segment, start, &error);
            finish_all(commit, &Err(error));
            return;
        }
        if self.store.options.is_durable
            && let Err(error) = segment.file.sync()
        {
            let error = self.store.gate.close(&format!("a sync failed: {error}"));
            finish_all(commit, &Err(error));
            return;
        }
        self.offset = end.next_multiple_of(COMMIT_ALIGN);
        let synced = Position {
            segment: segment.number,
            offset: self.offset,
        };
        *self.store.synced.lock() = synced;
        let counters = &self.store.counters;
        counters.commits.fetch_add(1, Ordering::Relaxed);
        counters
            .bytes_appended
            .fetch_add(end - start, Ordering::Relaxed);
        counters
            .records
            .fetch_add(commit.len() as u64, Ordering::Relaxed);

        let applying = self.store.apply_gate.lock();
        let applied: Vec<_> = commit
            .into_iter()
            .map(|prepared| {
                // Durable, so the next start finds it: nothing may be promised on the strength of its absence.
                let result = self.apply(&prepared).map_err(|error| {
                    let why = format!("a durable record was not applied: {error}");
                    self.store.gate.close(&why)
                });
                (prepared.item, result)
            })
            .collect();
        self.store.set_applied(Position {
            offset: end,
            ..synced
        });
        drop(applying);
        self.checkpointer.note_appended(end - start);
        for (item, result) in applied {
            item.finish(result);
        }
    }

    fn apply(&self, prepared: &Prepared) -> Result<(), EngineError> {
        // The state is kept for long, and must not keep the network buffer that it came in, body and all.
        let state = Bytes::copy_from_slice(match prepared.item.entry {
            Entry::Row { state_len, .. } => {
                let state_len = usize::try_from(state_len).unwrap_or(usize::MAX);
                prepared.item.first.get(..state_len).unwrap_or_default()
            }
            _ => &[],
        });
        self.store.apply(&Durable {
            entry: &prepared.item.entry,
            sequence: prepared.sequence,
            location: prepared.location,
            state: &state,
        })
    }

    /// After a failed write the commit's place may hold pieces of it. They are cut off, or a later, shorter commit
    /// could be followed by a refused record that reads back.
    fn on_failed_write(
        &mut self,
        segment: &SegmentFile,
        start: u64,
        error: &io::Error,
    ) -> EngineError {
        if !is_full(error) {
            return self.store.gate.close(&format!("a write failed: {error}"));
        }
        // Synced too: "refused" must hold over a power loss.
        if let Err(error) = segment
            .file
            .set_len(start)
            .and_then(|()| segment.file.sync())
        {
            return self
                .store
                .gate
                .close(&format!("a failed write cannot be cut off: {error}"));
        }
        // What was reserved is gone; the next commit needs a new segment.
        self.room_end = start;
        self.store.ask_free_bytes();
        EngineError::Full
    }

    /// Begins a new segment with room for `needed` bytes, and seals the old one.
    fn roll(&mut self, needed: u64) -> Result<(), EngineError> {
        let store = &self.store;
        let free = store.ask_free_bytes();
        let least = HEADER_LEN + needed + SEAL_ROOM;
        // On a disk that is nearly full a whole segment's reservation would take the room of everything else.
        let wanted = store.options.segment_bytes.min(free / 8).max(least);
        let previous = store
            .state
            .read()
            .segments
            .last_key_value()
            .map_or(0, |(number, _)| *number);
        let number = previous + 1;
        let first_sequence = self
            .lowest_recovered
            .unwrap_or(u64::MAX)
            .min(self.next_sequence);
        let make = |len| {
            SegmentFile::create(
                &*store.disk,
                (store.disk_id, store.cluster),
                (number, first_sequence, previous),
                len,
            )
        };
        let made = make(wanted).or_else(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                // Left by a roll that failed before its first record: a number in use is among the segments.
                store.disk.remove(&super::file::segment_name(number))?;
                return make(least);
            }
            if is_full(&error) && wanted > least {
                make(least)
            } else {
                Err(error)
            }
        });
        let made = made.map_err(|error| {
            if is_full(&error) {
                EngineError::Full
            } else {
                store
                    .gate
                    .close(&format!("a segment cannot be made: {error}"))
            }
        })?;
        let room_end = made.file.len().map_err(|error| {
            store
                .gate
                .close(&format!("a segment cannot be measured: {error}"))
        })?;
        if let Some(old) = self.segment.clone() {
            self.seal(&old).inspect_err(|_| {
                // Nothing was written to the new file; without a seal before it, it must not be used.
                drop(self.store.disk.remove(&super::file::segment_name(number)));
            })?;
        }
        let made = Arc::new(made);
        let begin = made.begin();
        self.store.state.write().segments.insert(
            number,
            SegmentState {
                file: Arc::clone(&made),
                end: begin.offset,
                live_bytes: 0,
                is_sealed: false,
                is_damaged: false,
                is_to_be_left: false,
            },
        );
        if self.lowest_recovered.is_none() {
            *self.store.synced.lock() = begin;
            let applying = self.store.apply_gate.lock();
            self.store.set_applied(begin);
            drop(applying);
        }
        self.segment = Some(made);
        self.offset = begin.offset;
        self.room_end = room_end;
        Ok(())
    }

    fn seal(&self, segment: &SegmentFile) -> Result<(), EngineError> {
        let synced = *self.store.synced.lock();
        let end = write_seal(segment, self.offset, self.next_sequence, synced);
        let end = end.map_err(|error| {
            if is_full(&error) {
                return EngineError::Full;
            }
            self.store
                .gate
                .close(&format!("a segment cannot be sealed: {error}"))
        })?;
        let mut state = self.store.state.write();
        if let Some(segment) = state.segments.get_mut(&segment.number) {
            segment.is_sealed = true;
            segment.end = end;
        }
        Ok(())
    }

    fn ask_free_bytes_now_and_then(&mut self) {
        const EVERY_BYTES: u64 = 32 << 20;
        let appended = self.store.counters.bytes_appended.load(Ordering::Relaxed);
        let free = self.store.counters.free_bytes.load(Ordering::Relaxed);
        let is_due =
            appended >= self.free_asked_at + EVERY_BYTES || free < self.store.options.reserve_bytes;
        if is_due {
            self.store.ask_free_bytes();
            self.free_asked_at = appended;
        }
    }
}

/// Writes a seal at `offset`, cuts the file behind it and syncs; answers where the segment ends.
pub(crate) fn write_seal(
    segment: &SegmentFile,
    offset: u64,
    sequence: u64,
    synced: Position,
) -> io::Result<u64> {
    let encoded = encode(
        &segment.salt,
        &Entry::Seal,
        &[],
        (sequence, false, synced),
        (&[], &[]),
    )
    .ok_or_else(|| io::Error::other("a seal does not fit the format"))?;
    segment
        .file
        .write_all_at(offset, &[IoSlice::new(&encoded.front)])?;
    let end = offset + record_len(encoded.meta_len, encoded.payload_len);
    segment.file.set_len(end)?;
    segment.file.sync()?;
    Ok(end)
}

fn finish_all(commit: Vec<Prepared>, result: &Result<(), EngineError>) {
    for prepared in commit {
        prepared.item.finish(result.clone());
    }
}

/// Either a range of the commit's own buffer, or bytes that a submitter handed in.
enum Piece<'a> {
    Own(Range<usize>),
    Theirs(&'a [u8]),
}

fn write_commit(segment: &SegmentFile, start: u64, commit: &[Prepared]) -> io::Result<()> {
    let mut own: Vec<u8> = Vec::new();
    let mut pieces: Vec<Piece<'_>> = Vec::new();
    let mut own_from = 0;
    for prepared in commit {
        own.extend_from_slice(&prepared.encoded.front);
        for payload in [&prepared.item.first, &prepared.item.second] {
            if payload.len() < COPY_BELOW {
                own.extend_from_slice(payload);
            } else {
                pieces.push(Piece::Own(own_from..own.len()));
                own_from = own.len();
                pieces.push(Piece::Theirs(payload));
            }
        }
        let written = (HEAD_LEN as u64)
            + u64::from(prepared.location.meta_len)
            + u64::from(prepared.location.payload_len);
        let padding = prepared.location.record_len() - written;
        own.resize(own.len() + usize::try_from(padding).unwrap_or(0), 0);
    }
    pieces.push(Piece::Own(own_from..own.len()));
    let slices: Vec<IoSlice<'_>> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Own(range) => IoSlice::new(&own[range.clone()]),
            Piece::Theirs(bytes) => IoSlice::new(bytes),
        })
        .filter(|slice| !slice.is_empty())
        .collect();
    segment.file.write_all_at(start, &slices)
}
