//! The first pass over the log: every record read, and bad bytes judged as tear or rot.

use super::super::index::rows::{RowTable, index_key};
use super::super::segment::file::{HEADER_LEN, SegmentFile};
use super::super::segment::location::Position;
use super::super::segment::record_format::{COMMIT_ALIGN, Entry};
use super::super::segment::scan::{Found, Record, Scanner};
use super::super::types::EngineError;
use super::{Opening, io_failure, lost};
use ringfort_wire::id::ChunkId;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Removals that a pass over the log has met, with their sequences.
#[derive(Debug, Default)]
pub(super) struct Removals {
    rows: HashMap<(RowTable, Vec<u8>), u64>,
    chunks: HashMap<ChunkId, u64>,
}

impl Removals {
    pub(super) fn note(&mut self, record: &Record) {
        let sequence = record.head.sequence;
        let slot = match &record.entry {
            Entry::DropRow { key, .. } => self.rows.entry(index_key(key)).or_default(),
            Entry::DeleteChunk { id } => self.chunks.entry(*id).or_default(),
            _ => return,
        };
        *slot = sequence.max(*slot);
    }

    pub(super) fn have_removed(&self, record: &Record) -> bool {
        let removed_at = match &record.entry {
            Entry::Row { key, .. } => self.rows.get(&index_key(key)),
            Entry::Chunk { id, .. } => self.chunks.get(id),
            _ => None,
        };
        removed_at.is_some_and(|removed_at| *removed_at > record.head.sequence)
    }
}

/// What the first pass found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) known: Position,
    /// Where each segment's records end, and whether a seal says so.
    pub(super) ends: BTreeMap<u64, (u64, bool)>,
    /// Bytes that are no record: segment, from, to.
    pub(super) bad: Vec<(u64, u64, u64)>,
    /// Records whose fields read back and whose payload does not.
    pub(super) bad_payloads: Vec<Record>,
    pub(super) removals: Removals,
}

impl Opening {
    pub(super) fn survey(&self, segments: &[Arc<SegmentFile>]) -> Result<Survey, EngineError> {
        let mut survey = Survey {
            known: *self.store.synced.lock(),
            ..Survey::default()
        };
        for segment in segments {
            let mut scanner = self.scanner(segment, true)?;
            while let Some(found) = scanner.next().map_err(io_failure("scan a segment"))? {
                match found {
                    Found::Record(record) => {
                        survey.known = survey.known.max(record.head.synced);
                        survey.removals.note(&record);
                        if !record.is_payload_good {
                            survey.bad_payloads.push(*record);
                        }
                    }
                    Found::Bad { from, to } => survey.bad.push((segment.number, from, to)),
                    Found::End { at, is_sealed } => {
                        survey.ends.insert(segment.number, (at, is_sealed));
                    }
                }
            }
        }
        Ok(survey)
    }

    pub(super) fn scanner<'a>(
        &self,
        segment: &'a SegmentFile,
        verifies: bool,
    ) -> Result<Scanner<'a>, EngineError> {
        let offset = if segment.number == self.from.segment {
            self.from.offset
        } else {
            HEADER_LEN
        };
        Scanner::new(segment, offset, verifies).map_err(io_failure("scan a segment"))
    }

    /// Tear or rot: where to cut the log, if anywhere. Rot that nothing can name ends the disk.
    pub(super) fn judge(
        &mut self,
        segments: &[Arc<SegmentFile>],
        survey: &Survey,
    ) -> Result<Option<Position>, EngineError> {
        let known = survey.known;
        let place = |segment: u64, offset: u64| format!("segment {segment:016x} offset {offset}");
        let is_there = segments.iter().any(|it| it.number == known.segment);
        if !is_there {
            let what = "a segment with acknowledged records is gone".to_owned();
            return Err(lost(what, place(known.segment, 0)));
        }
        if !self.is_rebuild {
            for pair in segments.windows(2) {
                if pair[1].previous > pair[0].number {
                    let what = "a segment above the checkpoint is gone".to_owned();
                    return Err(lost(what, place(pair[1].previous, 0)));
                }
            }
        }
        for (segment, (end, is_sealed)) in &survey.ends {
            let is_short =
                *segment == known.segment && end.next_multiple_of(COMMIT_ALIGN) < known.offset;
            if is_short || (*segment < known.segment && !is_sealed) {
                let what = "the end of a segment with acknowledged records is gone".to_owned();
                return Err(lost(what, place(*segment, *end)));
            }
        }
        let mut cut: Option<Position> = None;
        let mut tear = |at: Position| cut = Some(cut.map_or(at, |cut| cut.min(at)));
        for (segment, from, to) in &survey.bad {
            let at = Position {
                segment: *segment,
                offset: *from,
            };
            if at < known {
                let what = format!("{} bytes of the log that nothing can name", to - from);
                return Err(lost(what, place(*segment, *from)));
            }
            tear(at);
        }
        for record in &survey.bad_payloads {
            if record.location.position >= known {
                tear(record.location.position);
            }
        }
        if let Some(cut) = cut {
            for (segment, _, to) in &survey.bad {
                let from = if *segment == cut.segment {
                    cut.offset
                } else {
                    HEADER_LEN
                };
                self.report.bytes_cut = self.report.bytes_cut.max(to.saturating_sub(from));
            }
        }
        Ok(cut)
    }
}
