//! Walks a segment record by record, trusting nothing: what reads back, what does not, and where it ends.

use super::file::{HEADER_LEN, SegmentFile};
use super::location::{Location, Position};
use super::record_format::{
    COMMIT_ALIGN, Entry, FRAME_LEN, HEAD_LEN, Head, MAGIC, RECORD_ALIGN, head_crc,
    is_known_version, named_crc,
};
use bytes::Bytes;
use std::io;

const WINDOW_LEN: usize = 1 << 20;
/// Fills the place of bytes that the disk refuses to read: neither zeros nor a record.
const UNREADABLE: u8 = 0xee;

/// A record that was found.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) location: Location,
    pub(crate) head: Head,
    pub(crate) entry: Entry,
    /// Whether every frame of the payload reads back; `true` where the scan does not verify.
    pub(crate) is_payload_good: bool,
    /// A row's state (empty where the payload is bad).
    pub(crate) state: Bytes,
    /// BLAKE3 of a chunk's bytes, where the scan was told to sum them up and they are good.
    pub(crate) blake3: Option<[u8; 32]>,
}

/// One thing that a scan meets.
#[derive(Debug)]
pub(crate) enum Found {
    Record(Box<Record>),
    /// Bytes that are neither a record nor unwritten, with a record behind them or nothing.
    Bad {
        from: u64,
        to: u64,
    },
    /// The end of what was written.
    End {
        at: u64,
        is_sealed: bool,
    },
}

/// The walk.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    segment: &'a SegmentFile,
    file_len: u64,
    offset: u64,
    verifies: bool,
    hashes_chunks: bool,
    window: Vec<u8>,
    window_at: u64,
    pending: Option<Found>,
    is_done: bool,
}

fn newer(kind: u8, version: u8) -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("record kind {kind}, version {version}, was written by a newer release"),
    )
}

fn to_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

impl<'a> Scanner<'a> {
    /// Walks from `offset` (0: from the first record). `verifies`: reads and judges payloads too.
    pub(crate) fn new(segment: &'a SegmentFile, offset: u64, verifies: bool) -> io::Result<Self> {
        Ok(Self {
            segment,
            file_len: segment.file.len()?,
            offset: offset.max(HEADER_LEN),
            verifies,
            hashes_chunks: false,
            window: Vec::new(),
            window_at: 0,
            pending: None,
            is_done: false,
        })
    }

    /// Walks from `offset` up to `end` and no further: for a segment that is being appended to. Payloads are judged, and
    /// chunks summed up.
    pub(crate) fn up_to(segment: &'a SegmentFile, offset: u64, end: u64) -> io::Result<Self> {
        let mut scanner = Self::new(segment, offset, true)?;
        scanner.file_len = scanner.file_len.min(end);
        scanner.hashes_chunks = true;
        Ok(scanner)
    }

    /// Where the walk stands: everything before was looked at.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next thing; `None` after the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Found>> {
        if let Some(found) = self.pending.take() {
            self.is_done = matches!(found, Found::End { .. });
            return Ok(Some(found));
        }
        if self.is_done {
            return Ok(None);
        }
        if let Some(record) = self.record_at(self.offset)? {
            return Ok(Some(self.step_over(record)));
        }
        let end_of_last = self.offset;
        // Zeros up to where a commit may begin are the gap behind the last one, and no part of what is bad.
        let gap_end = end_of_last
            .next_multiple_of(COMMIT_ALIGN)
            .min(self.file_len.max(end_of_last));
        let from = match self.last_written(end_of_last, gap_end)? {
            None => gap_end,
            Some(_) => end_of_last,
        };
        let next = self.find_record(end_of_last + RECORD_ALIGN)?;
        match next {
            Some(record) => {
                let to = record.location.position.offset;
                let found = self.step_over(record);
                if to == from {
                    return Ok(Some(found));
                }
                self.is_done = false;
                self.pending = Some(found);
                Ok(Some(Found::Bad { from, to }))
            }
            None => {
                let end = Found::End {
                    at: end_of_last,
                    is_sealed: false,
                };
                let Some(to) = self.last_written(from, self.file_len)? else {
                    self.is_done = true;
                    return Ok(Some(end));
                };
                self.pending = Some(end);
                Ok(Some(Found::Bad { from, to }))
            }
        }
    }

    fn step_over(&mut self, record: Record) -> Found {
        let end = record.location.position.offset + record.location.record_len();
        if matches!(record.entry, Entry::Seal) {
            self.is_done = true;
            return Found::End {
                at: end,
                is_sealed: true,
            };
        }
        self.offset = end;
        Found::Record(Box::new(record))
    }

    fn find_record(&mut self, from: u64) -> io::Result<Option<Record>> {
        let mut offset = from;
        while offset + HEAD_LEN as u64 <= self.file_len {
            if self.bytes(offset, MAGIC.len())? == MAGIC
                && let Some(record) = self.record_at(offset)?
            {
                return Ok(Some(record));
            }
            offset += RECORD_ALIGN;
        }
        Ok(None)
    }

    /// The end of the last byte in a range that is not zero.
    fn last_written(&mut self, from: u64, to: u64) -> io::Result<Option<u64>> {
        let (mut at, mut last) = (from, None);
        while at < to {
            let len = to_usize(to - at).min(WINDOW_LEN);
            let bytes = self.bytes(at, len)?;
            if let Some(index) = bytes.iter().rposition(|byte| *byte != 0) {
                last = Some(at + index as u64 + 1);
            }
            at += len as u64;
        }
        Ok(last)
    }

    fn record_at(&mut self, offset: u64) -> io::Result<Option<Record>> {
        if offset + HEAD_LEN as u64 > self.file_len {
            return Ok(None);
        }
        let mut head_bytes = [0; HEAD_LEN];
        head_bytes.copy_from_slice(self.bytes(offset, HEAD_LEN)?);
        let Some(head) = Head::decode(&head_bytes) else {
            return Ok(None);
        };
        let meta_len = head.meta_len();
        let payload_at = offset + HEAD_LEN as u64 + u64::from(meta_len);
        if payload_at + u64::from(head.payload_len) > self.file_len {
            return Ok(None);
        }
        let salt = self.segment.salt;
        let meta = self
            .bytes(offset + HEAD_LEN as u64, to_usize(u64::from(meta_len)))?
            .to_vec();
        if head_crc(&salt, &head_bytes, &meta) != named_crc(&head_bytes) {
            return Ok(None);
        }
        let (fields, sums) = meta.split_at(to_usize(u64::from(head.fields_len)));
        let entry = match Entry::decode(head.kind, fields) {
            Some(entry) if is_known_version(head.version) => entry,
            _ => return Err(newer(head.kind, head.version)),
        };
        let mut record = Record {
            location: Location {
                position: Position {
                    segment: self.segment.number,
                    offset,
                },
                meta_len,
                payload_len: head.payload_len,
            },
            head,
            entry,
            is_payload_good: true,
            state: Bytes::new(),
            blake3: None,
        };
        if self.verifies {
            let is_summed_up = self.hashes_chunks && matches!(record.entry, Entry::Chunk { .. });
            let mut hasher = is_summed_up.then(blake3::Hasher::new);
            record.is_payload_good =
                self.is_payload_good(payload_at, head.payload_len, sums, hasher.as_mut())?;
            record.blake3 = hasher
                .filter(|_| record.is_payload_good)
                .map(|hasher| *hasher.finalize().as_bytes());
        }
        if let Entry::Row { state_len, .. } = &record.entry {
            if *state_len > head.payload_len {
                return Ok(None);
            }
            if record.is_payload_good {
                record.state = Bytes::copy_from_slice(
                    self.bytes(payload_at, to_usize(u64::from(*state_len)))?,
                );
            }
        }
        Ok(Some(record))
    }

    fn is_payload_good(
        &mut self,
        at: u64,
        len: u32,
        sums: &[u8],
        mut hasher: Option<&mut blake3::Hasher>,
    ) -> io::Result<bool> {
        let mut rest = to_usize(u64::from(len));
        let mut frame_at = at;
        for sum in sums.chunks(4) {
            let frame = rest.min(FRAME_LEN);
            let bytes = self.bytes(frame_at, frame)?;
            if crc32c::crc32c(bytes).to_le_bytes() != sum {
                return Ok(false);
            }
            if let Some(hasher) = &mut hasher {
                hasher.update(bytes);
            }
            frame_at += frame as u64;
            rest -= frame;
        }
        Ok(true)
    }

    /// Bytes of the file, through a window. The range lies inside the file.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let is_inside =
            at >= self.window_at && at + len as u64 <= self.window_at + self.window.len() as u64;
        if !is_inside {
            let want = to_usize(self.file_len - at).min(WINDOW_LEN.max(len));
            self.window.resize(want, 0);
            self.window_at = at;
            if let Err(error) = self.segment.file.read_exact_at(at, &mut self.window) {
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    return Err(error);
                }
                self.read_around_bad_sectors(at)?;
            }
        }
        let start = to_usize(at - self.window_at);
        Ok(&self.window[start..start + len])
    }

    /// A disk answers EIO for a sector that it cannot read: to us that is rot of that sector, not of the whole file.
    fn read_around_bad_sectors(&mut self, at: u64) -> io::Result<()> {
        const SECTOR: usize = 4096;
        let (mut start, mut good) = (0, 0);
        let mut last = None;
        while start < self.window.len() {
            let absolute = at + start as u64;
            let to_boundary = SECTOR - to_usize(absolute % SECTOR as u64);
            let end = (start + to_boundary).min(self.window.len());
            let sector = &mut self.window[start..end];
            match self.segment.file.read_exact_at(absolute, sector) {
                Ok(()) => good += 1,
                Err(error) => {
                    sector.fill(UNREADABLE);
                    last = Some(error);
                }
            }
            start = end;
        }
        match last {
            // Nothing at all can be read: the device is gone rather than rotten.
            Some(error) if good == 0 => Err(error),
            _ => Ok(()),
        }
    }
}
