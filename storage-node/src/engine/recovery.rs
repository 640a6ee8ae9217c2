//! Opening a disk: what is on it after a clean stop, a crash, or worse.
//!
//! 1. The anchor names disk, horizon and a known-synced position; checkpoint and records may prove a later one, since
//!    each record names the position synced before its commit.
//! 2. Every record above the checkpoint is read and judged. Bad bytes below the known-synced position are *rot*; above
//!    it they are a *tear*, and the log is cut there. (One commit is on its way at a time, so a record behind bad bytes
//!    that does not prove them synced belongs to the same commit, and was not acknowledged either.)
//! 3. The old segments are cut and sealed. What lies above the known-synced position and was not cut is appended anew to
//!    a fresh segment and synced before it enters the index: it may have been in the page cache only.
//! 4. Rot is named: by the record's own fields, or by the index. What cannot be named ends the disk.
//!
//! A crash anywhere in here leaves a disk for which the same steps hold. A rebuild is the same from the first segment
//! on, after a pass that collects removals: compaction may have moved them ahead of what they removed.

mod rot;
mod survey;

use super::anchor::{ANCHOR_NAME, Anchor};
use super::checkpoint::Checkpointer;
use super::index::digest::{Digest, Digests};
use super::index::facts::{CheckpointFacts, SegmentEntry};
use super::index::redb_index::{INDEX_NAME, RENEWED_NAME, RedbIndex};
use super::index::table::Table;
use super::index::{Index, IndexError};
use super::queue::{Item, Origin, Queue};
use super::segment::file::{HEADER_LEN, SegmentFile, segment_number};
use super::segment::location::Position;
use super::segment::reader::read_payload;
use super::segment::record_format::{COMMIT_ALIGN, FactKey, record_len};
use super::segment::scan::{Found, Record};
use super::segment::writer::{Writer, write_seal};
use super::store::{DOUBT_NAME, Durable, SegmentState, State, Store};
use super::types::{EngineError, EngineOptions, PartitionFacts, RecoveryReport};
use super::write_gate::WriteGate;
use crate::disk::Disk;
use parking_lot::{Mutex, RwLock};
use ringfort_ring::id::{Epoch, PartitionId};
use rot::lost_partitions;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;
use survey::Survey;

/// What an opened engine is made of.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Arc<Store>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) checkpointer: Arc<Checkpointer>,
    pub(crate) writer: Writer,
    pub(crate) report: RecoveryReport,
}

pub(crate) fn io_failure(what: &str) -> impl Fn(io::Error) -> EngineError {
    let what = what.to_owned();
    move |error| EngineError::Io {
        what: what.clone(),
        message: error.to_string(),
    }
}

fn lost(what: String, place: String) -> EngineError {
    EngineError::Corrupt {
        what: format!("{what}: the identity of this disk is lost"),
        place,
    }
}

/// Opens a disk; `rebuild` says why the index is to be built anew, if it is.
pub(crate) fn open(
    disk: &Arc<dyn Disk>,
    options: &EngineOptions,
    rebuild: Option<String>,
) -> Result<Opened, EngineError> {
    let names = disk.list().map_err(io_failure("list the data folder"))?;
    let mut rebuild = rebuild;
    if names.iter().any(|name| name == DOUBT_NAME) {
        rebuild.get_or_insert_with(|| "a doubt was noted in an earlier run".to_owned());
    }
    let is_first = rebuild.is_none();
    match Opening::begin(disk, options, &names, rebuild)? {
        Ok(opening) => match opening.finish() {
            Err((_, Some(doubt))) if is_first => reopen(disk, options, doubt),
            Err((error, _)) => Err(error),
            Ok(opened) => Ok(opened),
        },
        Err(doubt) if is_first => reopen(disk, options, doubt),
        Err(doubt) => Err(EngineError::Io {
            what: "build the index anew".to_owned(),
            message: doubt,
        }),
    }
}

fn reopen(
    disk: &Arc<dyn Disk>,
    options: &EngineOptions,
    doubt: String,
) -> Result<Opened, EngineError> {
    tracing::warn!(doubt, "the index is built anew from the segments");
    open(disk, options, Some(doubt))
}

struct Opening {
    store: Arc<Store>,
    queue: Arc<Queue>,
    checkpointer: Arc<Checkpointer>,
    /// Where replay begins.
    from: Position,
    is_rebuild: bool,
    /// Segments of the index's list whose files are gone.
    missing: Vec<(u64, SegmentEntry)>,
    report: RecoveryReport,
}

impl Opening {
    /// Everything up to the checkpoint. The inner error is a doubt about the index.
    fn begin(
        disk: &Arc<dyn Disk>,
        options: &EngineOptions,
        names: &[String],
        rebuild: Option<String>,
    ) -> Result<Result<Self, String>, EngineError> {
        let anchor = Anchor::open(&**disk)
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    lost("there is no anchor".to_owned(), ANCHOR_NAME.to_owned())
                }
                _ => io_failure("read the anchor")(error),
            })?
            .ok_or_else(|| {
                lost(
                    "both anchor slots are bad".to_owned(),
                    ANCHOR_NAME.to_owned(),
                )
            })?;
        let ids = (anchor.facts.disk_id, anchor.facts.cluster);
        let mut files = BTreeMap::new();
        for number in names.iter().filter_map(|name| segment_number(name)) {
            let file =
                SegmentFile::open(&**disk, ids, number).map_err(io_failure("open a segment"))?;
            files.insert(number, Arc::new(file));
        }
        if names.iter().any(|name| name == RENEWED_NAME) {
            disk.remove(RENEWED_NAME)
                .map_err(io_failure("remove an unfinished index"))?;
        }
        let has_index = names.iter().any(|name| name == INDEX_NAME);
        if rebuild.is_some() && has_index {
            disk.remove(INDEX_NAME)
                .and_then(|()| disk.sync_directory())
                .map_err(io_failure("remove the index"))?;
        }
        let mut report = RecoveryReport {
            is_anchor_slot_bad: anchor.is_slot_bad,
            index_rebuilt: rebuild.clone(),
            ..RecoveryReport::default()
        };
        let opened = RedbIndex::open(Arc::clone(disk), options.index_cache_bytes)
            .and_then(|index| read_index(&index).map(|read| (index, read)));
        let (index, read) = match opened {
            Ok(opened) => opened,
            Err(IndexError::Doubt(why)) => return Ok(Err(why)),
            Err(error) => {
                return Err(EngineError::Io {
                    what: "open the index".to_owned(),
                    message: format!("{error:?}"),
                });
            }
        };
        let first = files.first_key_value().map_or(0, |(number, _)| *number);
        let mut state = State {
            active: Table::default(),
            frozen: None,
            facts: HashMap::new(),
            segments: BTreeMap::new(),
            counts: Default::default(),
            digests: Digests::default(),
            applied: Position {
                segment: first,
                offset: HEADER_LEN,
            },
            next_sequence: 1,
        };
        let mut missing = Vec::new();
        let is_rebuild = read.is_none();
        if let Some((checkpoint, facts, listed, digests)) = read {
            if checkpoint.disk_id != ids.0 {
                return Ok(Err("the index belongs to another disk".to_owned()));
            }
            if checkpoint.is_rebuilding {
                return Ok(Err("an earlier rebuild did not come to its end".to_owned()));
            }
            let counts = checkpoint.counts;
            if digests.is_empty() && counts.objects + counts.parts + counts.chunks > 0 {
                return Ok(Err("it has no sums of what it holds".to_owned()));
            }
            for (partition, digest) in digests {
                state.digests.set(partition, digest);
            }
            state.applied = checkpoint.position;
            state.next_sequence = checkpoint.next_sequence;
            state.counts = checkpoint.counts;
            state.facts = facts.into_iter().collect();
            for (number, entry) in listed {
                match files.get(&number) {
                    Some(file) => {
                        let segment = SegmentState {
                            file: Arc::clone(file),
                            end: entry.end,
                            live_bytes: entry.live_bytes,
                            is_sealed: number < checkpoint.position.segment,
                            is_damaged: false,
                            is_to_be_left: false,
                        };
                        state.segments.insert(number, segment);
                    }
                    // Without a live record it is one that compaction had done with.
                    None if entry.live_bytes == 0 => {}
                    None => missing.push((number, entry)),
                }
            }
        } else if !has_index && rebuild.is_none() && !files.is_empty() {
            report.index_rebuilt = Some("there is no index file".to_owned());
        }
        for (number, file) in files {
            let is_below = number < state.applied.segment;
            state
                .segments
                .entry(number)
                .or_insert_with(|| SegmentState {
                    end: HEADER_LEN,
                    live_bytes: 0,
                    is_sealed: is_below,
                    is_damaged: false,
                    is_to_be_left: false,
                    file,
                });
        }
        let from = state.applied;
        let known = anchor.facts.synced.max(from);
        let store = Arc::new(Store {
            disk: Arc::clone(disk),
            disk_id: ids.0,
            cluster: ids.1,
            options: options.clone(),
            index: Box::new(index),
            index_doubt: Mutex::new(None),
            state: RwLock::new(state),
            apply_gate: Mutex::new(()),
            synced: Mutex::new(known),
            anchor: Mutex::new(anchor),
            gate: WriteGate::new(),
            counters: Default::default(),
            gone: missing.iter().map(|(number, _)| *number).collect(),
        });
        Ok(Ok(Self {
            queue: Arc::default(),
            checkpointer: Arc::new(Checkpointer::new(Arc::clone(&store))),
            store,
            from,
            is_rebuild,
            missing,
            report,
        }))
    }

    /// Everything above the checkpoint. An error comes with the doubt about the index that caused it, if one did.
    fn finish(mut self) -> Result<Opened, (EngineError, Option<String>)> {
        let store = Arc::clone(&self.store);
        let doubted = |error| (error, store.index_doubt.lock().clone());
        match self.run() {
            Ok(writer) => Ok(Opened {
                store: self.store,
                queue: self.queue,
                checkpointer: self.checkpointer,
                writer,
                report: self.report,
            }),
            Err(error) => Err(doubted(error)),
        }
    }

    fn run(&mut self) -> Result<Writer, EngineError> {
        let segments: Vec<Arc<SegmentFile>> = {
            let state = self.store.state.read();
            let above = state.segments.range(self.from.segment..);
            above
                .map(|(_, segment)| Arc::clone(&segment.file))
                .collect()
        };
        let survey = self.survey(&segments)?;
        let cut = self.judge(&segments, &survey)?;
        *self.store.synced.lock() = survey.known;
        self.close_segments(&segments, &survey, cut)?;
        let tail = self.replay(&segments, &survey, cut)?;
        self.name_rot(&survey)?;
        self.name_missing()?;
        let lowest = tail.iter().map(sequence_of).min();
        for item in tail {
            self.queue.push(item);
        }
        self.note_lost_partitions();
        let mut writer = Writer::new(
            Arc::clone(&self.store),
            Arc::clone(&self.queue),
            Arc::clone(&self.checkpointer),
        );
        writer.recover(lowest)?;
        let horizon = self.store.anchor.lock().facts.horizon;
        self.store.write_anchor(horizon)?;
        if self.report.index_rebuilt.is_some() {
            self.end_rebuild()?;
        }
        self.report.lost_partitions = lost_partitions(&self.store);
        Ok(writer)
    }

    /// Cuts and seals what a crash left open, durably, before anything is appended behind it.
    fn close_segments(
        &self,
        segments: &[Arc<SegmentFile>],
        survey: &Survey,
        cut: Option<Position>,
    ) -> Result<(), EngineError> {
        for segment in segments {
            let (mut end, mut is_sealed) = survey
                .ends
                .get(&segment.number)
                .copied()
                .unwrap_or((HEADER_LEN, false));
            if is_sealed && segment.number >= survey.known.segment {
                // Nothing proves this seal synced: a process that was killed may have left it in the page cache only,
                // and what is appended next will rely on it. It is written anew.
                (end, is_sealed) = (end - record_len(0, 0), false);
            }
            if let Some(cut) = cut.filter(|cut| cut.segment <= segment.number) {
                let kept = if cut.segment == segment.number {
                    cut.offset
                } else {
                    HEADER_LEN
                };
                if kept < end || !is_sealed {
                    (end, is_sealed) = (kept.min(end), false);
                }
            }
            if !is_sealed {
                let offset = end.next_multiple_of(COMMIT_ALIGN);
                let sequence = self.store.state.read().next_sequence;
                let seal = || {
                    // First the cut alone: a seal behind torn bytes must never be on disk without it.
                    segment.file.set_len(end)?;
                    segment.file.sync()?;
                    write_seal(segment, offset, sequence, survey.known)
                };
                end = seal().map_err(io_failure("seal a segment"))?;
            }
            let mut state = self.store.state.write();
            if let Some(state) = state.segments.get_mut(&segment.number) {
                state.end = end;
                state.is_sealed = true;
            }
        }
        Ok(())
    }

    /// Applies what lies below the known-synced position; answers what lies above it and was not cut.
    fn replay(
        &mut self,
        segments: &[Arc<SegmentFile>],
        survey: &Survey,
        cut: Option<Position>,
    ) -> Result<Vec<Item>, EngineError> {
        let bad: HashSet<Position> = survey
            .bad_payloads
            .iter()
            .map(|record| record.location.position)
            .collect();
        let mut tail = Vec::new();
        for segment in segments {
            let mut scanner = self.scanner(segment, false)?;
            while let Some(found) = scanner.next().map_err(io_failure("replay a segment"))? {
                let Found::Record(record) = found else {
                    continue;
                };
                let at = record.location.position;
                if cut.is_some_and(|cut| at >= cut) || bad.contains(&at) {
                    continue;
                }
                if at >= survey.known {
                    tail.push(self.tail_item(segment, &record)?);
                    continue;
                }
                if self.is_rebuild && survey.removals.have_removed(&record) {
                    continue;
                }
                self.apply(&record)?;
            }
        }
        // Not beyond the last segment that is there: what is known synced may be an empty one that a roll left.
        self.store.set_applied(survey.known);
        Ok(tail)
    }

    fn apply(&mut self, record: &Record) -> Result<(), EngineError> {
        self.report.records_replayed += 1;
        self.store.apply(&Durable {
            entry: &record.entry,
            sequence: record.head.sequence,
            location: record.location,
            state: &record.state,
        })?;
        let end = Position {
            offset: record.location.position.offset + record.location.record_len(),
            ..record.location.position
        };
        // The next record may belong to the same commit: then the position is only a place between two records, which
        // is as good for a replay.
        {
            let mut state = self.store.state.write();
            state.applied = state.applied.max(end);
        }
        let is_due = {
            let state = self.store.state.read();
            let options = &self.store.options;
            state.active.len() >= options.checkpoint_rows
                || state.active.bytes() >= options.checkpoint_table_bytes
        };
        if is_due {
            self.checkpointer.run_one_with(self.is_rebuild)?;
        }
        Ok(())
    }

    fn tail_item(&mut self, segment: &SegmentFile, record: &Record) -> Result<Item, EngineError> {
        self.report.records_moved += 1;
        let location = record.location;
        let payload = read_payload(
            &*segment.file,
            &segment.salt,
            &location,
            0..location.payload_len,
            "a record of the log's tail",
        )?;
        Ok(Item {
            entry: record.entry.clone(),
            first: payload,
            second: bytes::Bytes::new(),
            origin: Origin::Recovered {
                sequence: record.head.sequence,
            },
            done: None,
        })
    }

    fn end_rebuild(&self) -> Result<(), EngineError> {
        match self.checkpointer.run_one() {
            // No room for an index on disk: memory holds it, and the next start tries again.
            Err(EngineError::Full) => return Ok(()),
            result => result?,
        }
        match self.store.disk.remove(DOUBT_NAME) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed
                .and_then(|()| self.store.disk.sync_directory())
                .map_err(io_failure("take back the index's doubt")),
        }
    }
}

fn sequence_of(item: &Item) -> u64 {
    match item.origin {
        Origin::Recovered { sequence } | Origin::Copied { sequence, .. } => sequence,
        Origin::Submitted => u64::MAX,
    }
}

/// The facts of a partition.
pub(crate) fn partition_facts(store: &Store, partition: PartitionId) -> PartitionFacts {
    let state = store.state.read();
    let value = |key| {
        state
            .facts
            .get(&key)
            .map(|fact| fact.value)
            .unwrap_or_default()
    };
    PartitionFacts {
        floor: value(FactKey::Floor(partition)),
        bound: value(FactKey::Bound(partition)).time,
        epoch: Epoch(value(FactKey::Epoch(partition)).time.0),
        joined: Epoch(value(FactKey::Joined(partition)).time.0),
        synced: Epoch(value(FactKey::Synced(partition)).time.0),
        lost: value(FactKey::Lost(partition))
            .time
            .0
            .checked_sub(1)
            .map(Epoch),
    }
}

type ReadIndex = (
    CheckpointFacts,
    Vec<(FactKey, super::index::facts::FactEntry)>,
    BTreeMap<u64, SegmentEntry>,
    Vec<(PartitionId, Digest)>,
);

fn read_index(index: &RedbIndex) -> Result<Option<ReadIndex>, IndexError> {
    let snapshot = index.snapshot()?;
    let Some(checkpoint) = snapshot.checkpoint()? else {
        return Ok(None);
    };
    Ok(Some((
        checkpoint,
        snapshot.facts()?,
        snapshot.segments()?,
        snapshot.digests()?,
    )))
}
