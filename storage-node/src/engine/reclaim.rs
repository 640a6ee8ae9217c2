//! Compaction: gives back the room of segments that hold more than 40 % garbage.
//!
//! Copy what counts to the end of the log, sync, make a durable checkpoint, only then unlink. A kill in between costs
//! nothing but doing it again. Copies keep their sequence and go through the one writer, which drops those that stopped
//! counting on the way.
//!
//! A removal's record is copied on for as long as another segment may hold what it removed: one that was begun before
//! the removal. Without it a rebuild would bring the removed back.

use super::checkpoint::Checkpointer;
use super::queue::{Item, Origin, Queue};
use super::recovery::io_failure;
use super::scrub::{LiveRecord, live_records};
use super::segment::file::{HEADER_LEN, SegmentFile, segment_name};
use super::segment::location::Location;
use super::segment::reader::read_payload;
use super::segment::record_format::Entry;
use super::segment::scan::{Found, Record, Scanner};
use super::store::{SegmentState, Store};
use super::types::{CompactReport, EngineError, Held, Rot};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Garbage of a segment, in hundredths, above which it is worth copying the rest.
const GARBAGE_PERCENT: u64 = 40;
/// Bytes of copies in flight.
const COPY_AT_ONCE: u64 = 4 << 20;

/// Where the last piece of work ended.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    segment: u64,
    offset: u64,
}

/// Compacts piece by piece.
#[derive(Debug)]
pub(crate) struct Reclaimer {
    store: Arc<Store>,
    queue: Arc<Queue>,
    checkpointer: Arc<Checkpointer>,
    cursor: Mutex<Option<Cursor>>,
}

/// Copies on their way.
#[derive(Default)]
struct InFlight {
    commits: Vec<oneshot::Receiver<Result<(), EngineError>>>,
    bytes: u64,
}

fn garbage_percent(segment: &SegmentState) -> u64 {
    let written = segment.end.saturating_sub(HEADER_LEN);
    let garbage = written.saturating_sub(segment.live_bytes);
    (garbage * 100).checked_div(written).unwrap_or(100)
}

impl Reclaimer {
    pub(crate) fn new(
        store: Arc<Store>,
        queue: Arc<Queue>,
        checkpointer: Arc<Checkpointer>,
    ) -> Self {
        Self {
            store,
            queue,
            checkpointer,
            cursor: Mutex::new(None),
        }
    }

    /// One piece of work: copies about `max_bytes`, or ends a segment. Blocks; `drive` makes the writer go on where it
    /// has no thread of its own.
    pub(crate) fn run_once(
        &self,
        max_bytes: u64,
        drive: &dyn Fn(),
    ) -> Result<CompactReport, EngineError> {
        let mut cursor = self.cursor.lock();
        let mut report = CompactReport::default();
        let Some(at) = cursor.or_else(|| self.choose()) else {
            return Ok(report);
        };
        report.segment = Some(at.segment);
        let Some(segment) = self.store.segment(at.segment) else {
            *cursor = None;
            return Ok(report);
        };
        // Only what the index file knows may be judged by it: everything in the victim lies below the checkpoint.
        if self.checkpointer.reached().segment <= at.segment {
            self.checkpointer.run_one()?;
        }
        let reached = self.copy(&segment, at.offset, max_bytes, drive, &mut report)?;
        match reached {
            Some(offset) => {
                *cursor = Some(Cursor { offset, ..at });
                report.has_more = true;
            }
            None => {
                *cursor = None;
                if report.rot.is_empty() {
                    report.bytes_freed = self.unlink(&segment)?;
                } else if let Some(segment) = self.store.state.write().segments.get_mut(&at.segment)
                {
                    segment.is_damaged = true;
                }
                report.has_more = self.choose().is_some();
            }
        }
        Ok(report)
    }

    /// The segment with the most garbage, if one has enough.
    fn choose(&self) -> Option<Cursor> {
        let state = self.store.state.read();
        let (number, _) = state
            .segments
            .iter()
            .filter(|(_, segment)| segment.is_sealed && !segment.is_damaged)
            .map(|(number, segment)| (*number, (segment.is_to_be_left, garbage_percent(segment))))
            .filter(|(_, (is_to_be_left, percent))| *is_to_be_left || *percent > GARBAGE_PERCENT)
            .max_by_key(|(_, why)| *why)?;
        Some(Cursor {
            segment: number,
            offset: HEADER_LEN,
        })
    }

    /// Copies from `offset` on; answers where it stopped, or `None` at the segment's end.
    fn copy(
        &self,
        segment: &SegmentFile,
        offset: u64,
        max_bytes: u64,
        drive: &dyn Fn(),
        report: &mut CompactReport,
    ) -> Result<Option<u64>, EngineError> {
        let mut scanner =
            Scanner::new(segment, offset, false).map_err(io_failure("scan a segment"))?;
        let mut in_flight = InFlight::default();
        while let Some(found) = scanner.next().map_err(io_failure("scan a segment"))? {
            let Found::Record(record) = found else {
                continue;
            };
            if !self.counts(&record)? {
                continue;
            }
            if report.bytes_copied >= max_bytes {
                in_flight.wait(drive)?;
                return Ok(Some(record.location.position.offset));
            }
            match self.copy_record(segment, &record) {
                Ok(commit) => {
                    in_flight.commits.push(commit);
                    in_flight.bytes += record.location.record_len();
                    report.bytes_copied += record.location.record_len();
                }
                Err(EngineError::Corrupt { .. }) => report.rot.push(rot(&record)),
                Err(error) => return Err(error),
            }
            if in_flight.bytes >= COPY_AT_ONCE {
                in_flight.wait(drive)?;
            }
        }
        in_flight.wait(drive)?;
        // A live record that the scan did not come by lies under bytes that do not read back.
        let left = self.live_records_left(segment.number)?;
        report.rot.extend(left);
        Ok(None)
    }

    fn live_records_left(&self, number: u64) -> Result<Vec<Rot>, EngineError> {
        let segment = self.store.state.read().segments.get(&number).cloned();
        let Some(segment) = segment else {
            return Ok(Vec::new());
        };
        if segment.is_to_be_left {
            // A removal's record may be among the rotten bytes, and counts as live for ever: only the index tells what
            // else there is. (A removal that is lost so costs little: should the index ever be built anew while an older
            // segment still holds what it removed, that is back as garbage, or as a tombstone.)
            let in_it = |location: &Location| location.position.segment == number;
            let left = live_records(&self.store, &in_it)?;
            return Ok(left.iter().map(LiveRecord::as_rot).collect());
        }
        // Removals that were copied on are counted here still; rows, chunks and facts are not.
        let markers = self.marker_bytes(&segment.file)?;
        if segment.live_bytes <= markers {
            return Ok(Vec::new());
        }
        Ok(vec![Rot {
            segment: number,
            offset: HEADER_LEN,
            len_bytes: segment.live_bytes - markers,
            held: Held::Superseded,
        }])
    }

    fn marker_bytes(&self, segment: &SegmentFile) -> Result<u64, EngineError> {
        let mut scanner = Scanner::new(segment, 0, false).map_err(io_failure("scan a segment"))?;
        let mut bytes = 0;
        while let Some(found) = scanner.next().map_err(io_failure("scan a segment"))? {
            if let Found::Record(record) = found
                && matches!(
                    record.entry,
                    Entry::DropRow { .. } | Entry::DeleteChunk { .. }
                )
            {
                bytes += record.location.record_len();
            }
        }
        Ok(bytes)
    }

    fn counts(&self, record: &Record) -> Result<bool, EngineError> {
        let is_here = |location: &Location| *location == record.location;
        Ok(match &record.entry {
            Entry::Row { key, .. } => {
                let row = self.store.row_of(key)?;
                row.is_some_and(|row| is_here(&row.location))
            }
            Entry::Chunk { id, .. } => {
                let chunk = self.store.chunk(*id)?;
                chunk.is_some_and(|chunk| is_here(&chunk.location))
            }
            Entry::Fact { key, .. } => {
                let state = self.store.state.read();
                state
                    .facts
                    .get(key)
                    .is_some_and(|fact| is_here(&fact.location))
            }
            Entry::DropRow { .. } | Entry::DeleteChunk { .. } => {
                let state = self.store.state.read();
                let mut others = state
                    .segments
                    .iter()
                    .filter(|(number, _)| **number != record.location.position.segment);
                others.any(|(_, other)| other.file.first_sequence <= record.head.sequence)
            }
            Entry::Seal => false,
        })
    }

    fn copy_record(
        &self,
        segment: &SegmentFile,
        record: &Record,
    ) -> Result<oneshot::Receiver<Result<(), EngineError>>, EngineError> {
        let location = record.location;
        let payload = read_payload(
            &*segment.file,
            &segment.salt,
            &location,
            0..location.payload_len,
            "a record to be copied on",
        )?;
        let (done, commit) = oneshot::channel();
        self.queue.push(Item {
            entry: record.entry.clone(),
            first: payload,
            second: Bytes::new(),
            origin: Origin::Copied {
                sequence: record.head.sequence,
                from: location,
            },
            done: Some(done),
        });
        Ok(commit)
    }

    fn unlink(&self, segment: &SegmentFile) -> Result<u64, EngineError> {
        {
            let mut state = self.store.state.write();
            if let Some(state) = state.segments.get_mut(&segment.number) {
                // Its removals are copied on or done with: from this checkpoint on nobody misses the file.
                state.live_bytes = 0;
            }
        }
        self.checkpointer.run_one()?;
        let freed = segment
            .file
            .len()
            .map_err(io_failure("measure a segment"))?;
        self.store.state.write().segments.remove(&segment.number);
        self.store
            .disk
            .remove(&segment_name(segment.number))
            .and_then(|()| self.store.disk.sync_directory())
            .map_err(io_failure("unlink a segment"))?;
        self.store.ask_free_bytes();
        Ok(freed)
    }
}

impl InFlight {
    fn wait(&mut self, drive: &dyn Fn()) -> Result<(), EngineError> {
        drive();
        self.bytes = 0;
        for commit in self.commits.drain(..) {
            commit.blocking_recv().unwrap_or_else(|_| {
                Err(EngineError::WritesClosed {
                    why: "the engine stopped".to_owned(),
                })
            })?;
        }
        Ok(())
    }
}

fn rot(record: &Record) -> Rot {
    let held = match &record.entry {
        Entry::Row {
            partition,
            key,
            ballot,
            ..
        } => Held::Row {
            partition: *partition,
            key: key.clone(),
            ballot: *ballot,
        },
        Entry::Chunk { id, partition, .. } => Held::Chunk {
            partition: *partition,
            id: *id,
        },
        _ => Held::Superseded,
    };
    Rot {
        segment: record.location.position.segment,
        offset: record.location.position.offset,
        len_bytes: record.location.record_len(),
        held,
    }
}
