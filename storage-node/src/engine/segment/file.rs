//! A segment file: its name, its header, its salt.
//!
//! ```text
//! segment-<number, 16 hexadecimal digits>
//! header (4096 bytes) :=  0  8  magic "RFSEGMNT"
//!                         8  4  version (1)
//!                        12 16  disk id
//!                        28 16  cluster id
//!                        44  8  number
//!                        52  8  first sequence: no change with a lower one was first written in a segment from here on
//!                        60  8  number of the segment begun before this one
//!                        68  4  crc32c of the bytes before
//! records from 4096, each at a multiple of 64, each commit at a multiple of 512; then zeros
//! ```
//!
//! Numbers rise and are never reused.

use super::location::Position;
use super::record_format::Fields;
use crate::disk::{Disk, DiskFile};
use ringfort_ring::id::{ClusterId, DiskId};
use std::io::{self, IoSlice};
use std::sync::Arc;

pub(crate) const HEADER_LEN: u64 = 4096;
const MAGIC: [u8; 8] = *b"RFSEGMNT";
const VERSION: u32 = 1;
const PREFIX: &str = "segment-";

/// An open segment file and what its header says.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) number: u64,
    pub(crate) first_sequence: u64,
    pub(crate) previous: u64,
    pub(crate) salt: [u8; 16],
    pub(crate) file: Arc<dyn DiskFile>,
}

/// The file's name.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{PREFIX}{number:016x}")
}

/// The number that a file's name says, if it is a segment's.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (segment_name(number) == name).then_some(number)
}

/// What the checksums of a segment's records begin with. Derived, so that a rotten header costs nothing; unknown to
/// clients, so that no stored body can hold bytes that pass for a record.
pub(crate) fn salt(disk: DiskId, cluster: ClusterId, number: u64) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("ringfort segment record salt, version 1");
    hasher.update(&disk.0);
    hasher.update(&cluster.0);
    hasher.update(&number.to_le_bytes());
    let mut salt = [0; 16];
    salt.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    salt
}

impl SegmentFile {
    /// Makes the file, durably; on failure it is gone again as far as the disk lets it.
    pub(crate) fn create(
        disk: &dyn Disk,
        (disk_id, cluster): (DiskId, ClusterId),
        (number, first_sequence, previous): (u64, u64, u64),
        len_bytes: u64,
    ) -> io::Result<Self> {
        let name = segment_name(number);
        let file = disk.create(&name, len_bytes.max(HEADER_LEN))?;
        let mut header = Vec::with_capacity(72);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&disk_id.0);
        header.extend_from_slice(&cluster.0);
        header.extend_from_slice(&number.to_le_bytes());
        header.extend_from_slice(&first_sequence.to_le_bytes());
        header.extend_from_slice(&previous.to_le_bytes());
        header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        if let Err(error) = file.write_all_at(0, &[IoSlice::new(&header)]) {
            // A file without a record is harmless; the first error is the one that counts.
            drop(disk.remove(&name));
            return Err(error);
        }
        file.sync()?;
        disk.sync_directory()?;
        Ok(Self {
            number,
            first_sequence,
            previous,
            salt: salt(disk_id, cluster, number),
            file,
        })
    }

    /// Opens the file. A header that does not read back counts as "may hold anything": the salt does not need it.
    pub(crate) fn open(
        disk: &dyn Disk,
        (disk_id, cluster): (DiskId, ClusterId),
        number: u64,
    ) -> io::Result<Self> {
        let file = disk.open(&segment_name(number))?;
        let (first_sequence, previous) =
            read_header(&*file, disk_id, cluster, number).unwrap_or((0, 0));
        Ok(Self {
            number,
            first_sequence,
            previous,
            salt: salt(disk_id, cluster, number),
            file,
        })
    }

    /// Whether the header still says what it was opened with.
    pub(crate) fn is_header_good(&self, (disk_id, cluster): (DiskId, ClusterId)) -> bool {
        read_header(&*self.file, disk_id, cluster, self.number)
            == Some((self.first_sequence, self.previous))
    }

    /// Where records begin.
    pub(crate) fn begin(&self) -> Position {
        Position {
            segment: self.number,
            offset: HEADER_LEN,
        }
    }
}

fn read_header(
    file: &dyn DiskFile,
    disk_id: DiskId,
    cluster: ClusterId,
    number: u64,
) -> Option<(u64, u64)> {
    let mut header = [0; 72];
    file.read_exact_at(0, &mut header).ok()?;
    let (said, crc) = header.split_at(68);
    if crc != crc32c::crc32c(said).to_le_bytes() {
        return None;
    }
    let mut from = Fields(said);
    let is_ours = from.array()? == MAGIC
        && from.u32()? == VERSION
        && from.array()? == disk_id.0
        && from.array()? == cluster.0
        && from.u64()? == number;
    is_ours.then_some((from.u64()?, from.u64()?))
}
