//! Reads payloads back, each 64 KiB frame judged by its checksum before a byte of it is handed on.

use super::location::Location;
use super::record_format::{Entry, FRAME_LEN, HEAD_LEN, Head, frame_count, head_crc, named_crc};
use crate::disk::DiskFile;
use crate::engine::types::EngineError;
use bytes::Bytes;
use std::ops::Range;

/// A record up to this length is read in one go.
const ONE_READ_LEN: usize = 256 << 10;

pub(crate) fn corrupt(what: &str, location: &Location) -> EngineError {
    EngineError::Corrupt {
        what: what.to_owned(),
        place: format!(
            "segment {:016x} offset {}",
            location.position.segment, location.position.offset
        ),
    }
}

fn io_error(what: &str, location: &Location, error: &std::io::Error) -> EngineError {
    // The file ends too early, or a sector cannot be read: this copy is no good, another replica's may be.
    if matches!(error.raw_os_error(), Some(5)) || error.kind() == std::io::ErrorKind::UnexpectedEof
    {
        return corrupt(what, location);
    }
    EngineError::Io {
        what: format!("read {what}"),
        message: error.to_string(),
    }
}

fn to_usize(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// The entry of a record, and the checksums of its frames.
pub(crate) fn read_meta(
    file: &dyn DiskFile,
    salt: &[u8; 16],
    location: &Location,
    what: &str,
) -> Result<Entry, EngineError> {
    let mut front = vec![0; HEAD_LEN + to_usize(location.meta_len)];
    file.read_exact_at(location.position.offset, &mut front)
        .map_err(|error| io_error(what, location, &error))?;
    let (head, fields, _) =
        judge_front(salt, location, &front).ok_or_else(|| corrupt(what, location))?;
    Entry::decode(head.kind, fields).ok_or_else(|| corrupt(what, location))
}

fn judge_front<'a>(
    salt: &[u8; 16],
    location: &Location,
    front: &'a [u8],
) -> Option<(Head, &'a [u8], &'a [u8])> {
    let (head_bytes, meta) = front.split_first_chunk::<HEAD_LEN>()?;
    let meta = meta.get(..to_usize(location.meta_len))?;
    let head = Head::decode(head_bytes)?;
    let is_ours = head.meta_len() == location.meta_len
        && head.payload_len == location.payload_len
        && head_crc(salt, head_bytes, meta) == named_crc(head_bytes);
    let (fields, sums) = meta.split_at_checked(to_usize(head.fields_len))?;
    is_ours.then_some((head, fields, sums))
}

/// A range of a record's payload, verified.
pub(crate) fn read_payload(
    file: &dyn DiskFile,
    salt: &[u8; 16],
    location: &Location,
    range: Range<u32>,
    what: &str,
) -> Result<Bytes, EngineError> {
    let front_len = HEAD_LEN + to_usize(location.meta_len);
    let payload_len = to_usize(location.payload_len);
    let range = to_usize(range.start)..to_usize(range.end).min(payload_len);
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let frames = range.start / FRAME_LEN..range.end.div_ceil(FRAME_LEN);
    let bytes_from = frames.start * FRAME_LEN;
    let bytes_to = (frames.end * FRAME_LEN).min(payload_len);
    let at = location.position.offset;
    let fail = |error: std::io::Error| io_error(what, location, &error);

    // One read where the record is small or wanted from its start, else head and frames apart.
    let (front, payload) = if bytes_from == 0 || front_len + bytes_to <= ONE_READ_LEN {
        let mut all = vec![0; front_len + bytes_to];
        file.read_exact_at(at, &mut all).map_err(fail)?;
        let mut front = Bytes::from(all);
        let payload = front.split_off(front_len).slice(bytes_from..);
        (front, payload)
    } else {
        let mut front = vec![0; front_len];
        file.read_exact_at(at, &mut front).map_err(fail)?;
        let mut payload = vec![0; bytes_to - bytes_from];
        file.read_exact_at(at + (front_len + bytes_from) as u64, &mut payload)
            .map_err(fail)?;
        (Bytes::from(front), Bytes::from(payload))
    };
    let (_, _, sums) =
        judge_front(salt, location, &front).ok_or_else(|| corrupt(what, location))?;
    debug_assert_eq!(sums.len(), 4 * to_usize(frame_count(location.payload_len)));
    let wanted = sums.chunks_exact(4).skip(frames.start);
    for (frame, sum) in payload.chunks(FRAME_LEN).zip(wanted) {
        if crc32c::crc32c(frame).to_le_bytes() != sum {
            return Err(corrupt(what, location));
        }
    }
    Ok(payload.slice(range.start - bytes_from..range.end - bytes_from))
}
