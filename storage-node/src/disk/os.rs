//! A folder of the operating system as a [`Disk`].
//!
//! Promises: one process at a time (an exclusive `flock` on the file `lock`, which the kernel drops with the process);
//! a created file's room is reserved by `fallocate` where the file system can; `sync` is `fdatasync`, and the folder
//! itself is fsynced for names. Leaves out: `O_DIRECT`, which was not measured to help here.

#![allow(
    clippy::disallowed_methods,
    reason = "the one file that touches the file system"
)]

use crate::disk::{Disk, DiskFile};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, fdatasync, flock, fstatvfs, fsync};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOCK_FILE: &str = "lock";

/// A data folder, locked for as long as this value lives.
#[derive(Debug)]
pub struct OsDisk {
    folder: PathBuf,
    directory: File,
    // Held for its lock only.
    _lock: File,
}

impl OsDisk {
    /// Makes the folder if it is absent (its parent must be there), and locks it.
    ///
    /// # Errors
    /// `WouldBlock` where another process holds the folder, or whatever the system says.
    pub fn open(folder: &Path) -> io::Result<Self> {
        if !folder.is_dir() {
            std::fs::create_dir(folder)?;
            // Without this, a crash could leave fsynced files in a folder that has no name.
            if let Some(parent) = folder.parent() {
                let parent = if parent.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    parent
                };
                fsync(File::open(parent)?)?;
            }
        }
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(LOCK_FILE))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            if error == rustix::io::Errno::WOULDBLOCK {
                io::Error::new(
                    io::ErrorKind::WouldBlock,
                    format!("{} is in use by another process", folder.display()),
                )
            } else {
                error.into()
            }
        })?;
        Ok(Self {
            directory: File::open(folder)?,
            folder: folder.to_path_buf(),
            _lock: lock,
        })
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a file's name in a data folder is flat",
            ));
        }
        Ok(self.folder.join(name))
    }
}

impl Disk for OsDisk {
    fn create(&self, name: &str, len_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path(name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        if len_bytes > 0
            && let Err(error) = fallocate(&file, FallocateFlags::empty(), 0, len_bytes)
        {
            let is_unsupported = matches!(
                error,
                rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS
            );
            let result = if is_unsupported {
                file.set_len(len_bytes)
            } else {
                Err(error.into())
            };
            if let Err(error) = result {
                // Best effort: the caller learns the first error, and an empty file is harmless.
                drop(std::fs::remove_file(&path));
                return Err(error);
            }
        }
        Ok(Arc::new(OsFile { file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path(name)?)?;
        Ok(Arc::new(OsFile { file }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            if let Ok(name) = entry?.file_name().into_string()
                && name != LOCK_FILE
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from)?, self.path(to)?)
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(fsync(&self.directory)?)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let facts = fstatvfs(&self.directory)?;
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }
}

#[derive(Debug)]
struct OsFile {
    file: File,
}

impl DiskFile for OsFile {
    fn read_exact_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    fn write_all_at(&self, mut offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        // Linux takes at most 1,024 parts in one call.
        const PARTS_AT_ONCE: usize = 1024;
        let mut parts = parts.to_vec();
        let mut rest = parts.as_mut_slice();
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let some = &rest[..rest.len().min(PARTS_AT_ONCE)];
            match rustix::io::pwritev(&self.file, some, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(fdatasync(&self.file)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.file.set_len(len_bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;

    #[test]
    fn a_folder_is_held_by_one_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("disk");
        let first = OsDisk::open(&folder).unwrap();
        let second = OsDisk::open(&folder).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        drop(first);
        OsDisk::open(&folder).unwrap();
    }

    #[test]
    fn many_parts_are_written_one_behind_the_other() {
        let parent = tempfile::tempdir().unwrap();
        let disk = OsDisk::open(&parent.path().join("disk")).unwrap();
        let file = disk.create("a", 4096).unwrap();
        let bytes: Vec<u8> = (0..5000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let parts: Vec<IoSlice<'_>> = bytes.chunks(2).map(IoSlice::new).collect();
        file.write_all_at(100, &parts).unwrap();
        file.sync().unwrap();
        let mut back = vec![0; bytes.len()];
        disk.open("a")
            .unwrap()
            .read_exact_at(100, &mut back)
            .unwrap();
        assert_eq!(back, bytes);
        assert_eq!(disk.list().unwrap(), ["a"]);
        disk.create("a", 0).unwrap_err();
        disk.create("../a", 0).unwrap_err();
    }
}
