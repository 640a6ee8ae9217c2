//! What the engine asks of a disk: one flat folder of files, and a way to know that bytes are on it.
//!
//! [`os::OsDisk`] is a folder of the operating system; [`simulated::SimulatedDisk`] is one in memory that loses what
//! was not synced. Nothing else in the engine touches a file.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::sync::Arc;

pub mod os;
pub mod simulated;

/// One data folder, held by one process at a time. Names are flat: no separators.
pub trait Disk: Send + Sync + Debug {
    /// Makes a file with `len_bytes` of zeros, its room reserved where the file system can.
    ///
    /// # Errors
    /// `AlreadyExists`, `StorageFull`, or whatever the system says.
    fn create(&self, name: &str, len_bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, or whatever the system says.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// The names of all files.
    ///
    /// # Errors
    /// Whatever the system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Removes a file; who has it open goes on reading it.
    ///
    /// # Errors
    /// `NotFound`, or whatever the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name, in place of the file that has it: at any moment one of the two has the name.
    ///
    /// # Errors
    /// `NotFound`, or whatever the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes creations and removals durable.
    ///
    /// # Errors
    /// Whatever the system says; the folder is not to be trusted afterwards.
    fn sync_directory(&self) -> io::Result<()>;

    /// Bytes that may still be written.
    ///
    /// # Errors
    /// Whatever the system says.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One open file.
pub trait DiskFile: Send + Sync + Debug {
    /// Fills the buffer from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` where the file ends before, or whatever the system says.
    fn read_exact_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes all parts, one behind the other, from `offset`; the file grows as needed.
    ///
    /// # Errors
    /// `StorageFull` or `QuotaExceeded`, or whatever the system says. Some bytes may be written all the same.
    fn write_all_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()>;

    /// Returns when every byte written before is on stable storage.
    ///
    /// # Errors
    /// Whatever the system says; then nothing written since the last success can be trusted.
    fn sync(&self) -> io::Result<()>;

    /// The file's length.
    ///
    /// # Errors
    /// Whatever the system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file holds no byte.
    ///
    /// # Errors
    /// Whatever the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file, or grows it with zeros.
    ///
    /// # Errors
    /// Whatever the system says.
    fn set_len(&self, len_bytes: u64) -> io::Result<()>;
}

/// Whether an error says that there is no room (ENOSPC, EDQUOT).
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
