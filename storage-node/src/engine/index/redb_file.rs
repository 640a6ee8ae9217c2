//! redb on a [`Disk`](crate::disk::Disk): so that it meets the same faults as the segments.

use crate::disk::DiskFile;
use redb::StorageBackend;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

impl RedbFile {
    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            if crate::disk::is_full(&error) {
                self.failures.is_full.store(true, Ordering::SeqCst);
            }
            error
        })
    }
}

impl StorageBackend for RedbFile {
    fn len(&self) -> io::Result<u64> {
        self.note(self.file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.note(self.file.read_exact_at(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.note(self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let result = self.file.sync();
        if result.is_err() {
            self.failures.is_sync_failed.store(true, Ordering::SeqCst);
        }
        self.note(result)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.note(self.file.write_all_at(offset, &[IoSlice::new(data)]))
    }
}
