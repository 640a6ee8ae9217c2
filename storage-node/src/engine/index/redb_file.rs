//! redb on a [`Disk`](crate::disk::Disk): so that it meets the same faults as the segments, and reads only what it wrote.
//!
//! ```text
//! file  := block*                     block := 4096 bytes of redb's file ‖ crc32c 4 ‖ 1 as 4 bytes
//! crc32c over: number of the block 8 ‖ its bytes.  A block of zeros throughout was never written.
//! ```
//!
//! redb does not check pages that it reads: a flipped bit in a branch would make it answer "there is no such row", which
//! no checksum of a value can catch. So every block carries one. Block 0, redb's header, is left to redb's own sums: it
//! is written in place, and a power loss in the middle of it must not cost the whole index.

use crate::disk::DiskFile;
use redb::StorageBackend;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const DATA_LEN: usize = 4096;
const TRAILER_LEN: usize = 8;
const BLOCK_LEN: usize = DATA_LEN + TRAILER_LEN;

/// Why the last operation failed, beyond what redb passes on.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    pub(crate) is_full: AtomicBool,
    pub(crate) is_sync_failed: AtomicBool,
}

/// The index file as redb sees it.
#[derive(Debug)]
pub(crate) struct RedbFile {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) failures: Arc<Failures>,
}

fn trailer(number: u64, data: &[u8]) -> [u8; TRAILER_LEN] {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), data);
    let mut trailer = [0; TRAILER_LEN];
    trailer[..4].copy_from_slice(&crc.to_le_bytes());
    trailer[4..].copy_from_slice(&1_u32.to_le_bytes());
    trailer
}

fn is_good(number: u64, block: &[u8]) -> bool {
    let (data, said) = block.split_at(DATA_LEN);
    number == 0 || said == trailer(number, data) || block.iter().all(|byte| *byte == 0)
}

/// Looks at some blocks of the file itself, past every cache: how many there were, and how many do not match their
/// checksum. redb's header is judged like the others, for nobody is in the middle of writing it while this is asked.
/// Nothing may be written meanwhile.
pub(crate) fn count_bad_blocks(
    file: &dyn DiskFile,
    first: u64,
    count: usize,
) -> io::Result<(usize, usize)> {
    let blocks_in_file = file.len()? / BLOCK_LEN as u64;
    let count = to_usize(blocks_in_file.saturating_sub(first))?.min(count);
    let mut bad = 0;
    let mut block = vec![0; BLOCK_LEN];
    for number in first..first + count as u64 {
        let is_read = file.read_exact_at(number * BLOCK_LEN as u64, &mut block);
        let (data, said) = block.split_at(DATA_LEN);
        let is_whole = is_read.is_ok()
            && (said == trailer(number, data) || block.iter().all(|byte| *byte == 0));
        bad += usize::from(!is_whole);
    }
    Ok((count, bad))
}

fn to_usize(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl RedbFile {
    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            if crate::disk::is_full(error) {
                self.failures.is_full.store(true, Ordering::SeqCst);
            }
        })
    }

    /// The bytes of redb's file in some whole blocks, verified.
    fn read_blocks(&self, first: u64, count: usize) -> io::Result<Vec<u8>> {
        let mut blocks = vec![0; count * BLOCK_LEN];
        self.file
            .read_exact_at(first * BLOCK_LEN as u64, &mut blocks)?;
        let mut bytes = Vec::with_capacity(count * DATA_LEN);
        for (number, block) in (first..).zip(blocks.chunks_exact(BLOCK_LEN)) {
            if !is_good(number, block) {
                let what = format!("block {number} of the index does not match its checksum");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            bytes.extend_from_slice(&block[..DATA_LEN]);
        }
        Ok(bytes)
    }

    fn write_blocks(&self, first: u64, bytes: &[u8]) -> io::Result<()> {
        let trailers: Vec<_> = (first..)
            .zip(bytes.chunks(DATA_LEN))
            .map(|(number, data)| trailer(number, data))
            .collect();
        let parts: Vec<IoSlice<'_>> = bytes
            .chunks(DATA_LEN)
            .zip(&trailers)
            .flat_map(|(data, trailer)| [IoSlice::new(data), IoSlice::new(trailer)])
            .collect();
        self.file.write_all_at(first * BLOCK_LEN as u64, &parts)
    }

    fn write_range(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let block = DATA_LEN as u64;
        let (first, skip) = (offset / block, to_usize(offset % block)?);
        if skip == 0 && data.len().is_multiple_of(DATA_LEN) {
            return self.write_blocks(first, data);
        }
        let count = (skip + data.len()).div_ceil(DATA_LEN);
        let mut bytes = self.read_blocks(first, count)?;
        bytes[skip..skip + data.len()].copy_from_slice(data);
        self.write_blocks(first, &bytes)
    }
}

impl StorageBackend for RedbFile {
    fn len(&self) -> io::Result<u64> {
        let len = self.note(self.file.len())?;
        Ok(len / BLOCK_LEN as u64 * DATA_LEN as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (first, skip) = (
            offset / DATA_LEN as u64,
            to_usize(offset % DATA_LEN as u64)?,
        );
        let count = (skip + out.len()).div_ceil(DATA_LEN);
        let bytes = self.note(self.read_blocks(first, count))?;
        out.copy_from_slice(&bytes[skip..skip + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if !len.is_multiple_of(DATA_LEN as u64) {
            let what = "redb's file has whole pages only";
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        let blocks = len / DATA_LEN as u64;
        self.note(self.file.set_len(blocks * BLOCK_LEN as u64))
    }

    fn sync_data(&self) -> io::Result<()> {
        let result = self.file.sync();
        if result.is_err() {
            self.failures.is_sync_failed.store(true, Ordering::SeqCst);
        }
        self.note(result)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.note(self.write_range(offset, data))
    }
}
