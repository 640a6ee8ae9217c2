//! Small files that a process cannot do without: who it is, its keys, its layout. All of `control` and the command
//! line write through here, and through nothing else.
//!
//! A write is whole or absent after any crash: new file, fsync, rename, fsync of the folder. A *sealed* file carries a
//! checksum, so that rot is told apart from content. Left out: large files and logs, which are the engine's.
//!
//! ```text
//! sealed file:  magic "RFCF" (4) | kind (1) | format version (1) | body length, u32 BE (4) | crc32c of body, u32 BE (4) | body
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"RFCF";
const KIND_AT: usize = MAGIC.len();
const VERSION_AT: usize = KIND_AT + 1;
const LENGTH_AT: usize = VERSION_AT + 1;
const CRC_AT: usize = LENGTH_AT + 4;
const BODY_AT: usize = CRC_AT + 4;

/// More than any file of this kind needs: a layout of 65,536 partitions takes about 2 MiB.
const MAX_BYTES: u64 = 64 << 20;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// Its owner only (0600).
    Secret,
    /// Anyone that the umask lets (0644).
    Plain,
}

/// What a sealed file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A layout.
    Layout = 1,
    /// The authority's state.
    Authority = 2,
    /// What a node has promised and accepted as a member of the control set.
    Control = 3,
}

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The content is not what was written.
    #[error(
        "{} is damaged ({why}); put back a copy of it, or make the folder anew",
        path.display()
    )]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Writes a file wholly or not at all; when it returns, the content survives a power cut.
///
/// # Errors
/// The system's. Then the old content, if any, is still there.
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the one file of control that touches the file system"
)]
pub fn write_durably(path: &Path, bytes: &[u8], secrecy: Secrecy) -> Result<(), FileError> {
    let folder = parent(path);
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let fresh = folder.join(format!("{}.new", name.unwrap_or_default()));
    let mode = match secrecy {
        Secrecy::Secret => 0o600,
        Secrecy::Plain => 0o644,
    };
    // A leftover of a crashed write may have other permissions.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("remove", &fresh)(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh)
        .map_err(io_error("create", &fresh))?;
    file.write_all(bytes).map_err(io_error("write", &fresh))?;
    file.sync_all().map_err(io_error("sync", &fresh))?;
    fs::rename(&fresh, path).map_err(io_error("rename", &fresh))?;
    sync_folder(folder)
}

/// Reads a file; `None` where there is none.
///
/// # Errors
/// The system's, or a file of absurd size.
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the one file of control that touches the file system"
)]
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io_error("read", path))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(damaged(path, "it is larger than any such file"));
    }
    Ok(Some(bytes))
}

/// Makes a folder and those above it, closed to other users, and makes that durable.
///
/// # Errors
/// The system's.
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the one file of control that touches the file system"
)]
pub fn create_folder(path: &Path) -> Result<(), FileError> {
    if fs::metadata(path).is_ok_and(|found| found.is_dir()) {
        return Ok(());
    }
    let above = parent(path);
    if above != path {
        create_folder(above)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(io_error("create folder", path)(error));
        }
        _ => {}
    }
    sync_folder(above)
}

/// Whether others than the owner may read a file.
///
/// # Errors
/// The system's.
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the one file of control that touches the file system"
)]
pub fn is_readable_by_others(path: &Path) -> Result<bool, FileError> {
    let found = fs::metadata(path).map_err(io_error("look at", path))?;
    Ok(found.permissions().mode() & 0o077 != 0)
}

/// A folder that this process alone may use, as long as the value lives.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// Takes a folder for this process.
///
/// # Errors
/// `None` inside: another process has it.
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the one file of control that touches the file system"
)]
pub fn lock_folder(folder: &Path) -> Result<Option<FolderLock>, FileError> {
    let path = folder.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(FolderLock { _file: file })),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(io_error("lock", &path)(error.into())),
    }
}

/// Puts a seal around a body.
#[must_use]
pub fn seal(kind: Kind, format_version: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BODY_AT + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.push(kind as u8);
    bytes.push(format_version);
    let length = u32::try_from(body.len()).expect("control files are far below 4 GiB");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(body).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Takes the seal off: format version and body.
///
/// # Errors
/// What does not fit, in words.
pub fn unseal(kind: Kind, bytes: &[u8]) -> Result<(u8, &[u8]), &'static str> {
    let head = bytes.get(..BODY_AT).ok_or("it is too short")?;
    let body = &bytes[BODY_AT..];
    if head[..KIND_AT] != MAGIC {
        return Err("it does not begin as such a file does");
    }
    if head[KIND_AT] != kind as u8 {
        return Err("it is a file of another kind");
    }
    let word = |at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(&head[at..at + 4]);
        u32::from_be_bytes(word)
    };
    if usize::try_from(word(LENGTH_AT)) != Ok(body.len()) {
        return Err("its length is not what it says");
    }
    if word(CRC_AT) != crc32c::crc32c(body) {
        return Err("its checksum does not match");
    }
    Ok((head[VERSION_AT], body))
}

/// A damaged file.
pub(crate) fn damaged(path: &Path, why: impl Into<String>) -> FileError {
    FileError::Damaged {
        path: path.to_owned(),
        why: why.into(),
    }
}

#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the one file of control that touches the file system"
)]
fn sync_folder(folder: &Path) -> Result<(), FileError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error("sync folder", folder))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => path,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_body_reads_back_and_any_flipped_bit_is_seen() {
        let sealed = seal(Kind::Layout, 1, b"who holds what");
        assert_eq!(
            unseal(Kind::Layout, &sealed),
            Ok((1, &b"who holds what"[..]))
        );
        assert!(unseal(Kind::Authority, &sealed).is_err());
        for bit in 0..sealed.len() * 8 {
            // The format version is the reader's to judge.
            if bit / 8 == VERSION_AT {
                continue;
            }
            let mut bent = sealed.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(Kind::Layout, &bent).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(unseal(Kind::Layout, &sealed[..length]).is_err());
        }
    }

    #[test]
    fn a_write_replaces_a_leftover_and_keeps_a_secret_to_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(folder.path().join("key.new"), b"half").unwrap();
        write_durably(&path, b"one", Secrecy::Secret).unwrap();
        write_durably(&path, b"two", Secrecy::Secret).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert!(!is_readable_by_others(&path).unwrap());
        assert!(!folder.path().join("key.new").exists());
        assert!(read(&folder.path().join("none")).unwrap().is_none());
    }

    #[test]
    fn a_folder_has_one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock_folder(folder.path()).unwrap();
        assert!(first.is_some());
        assert!(lock_folder(folder.path()).unwrap().is_none());
        drop(first);
        assert!(lock_folder(folder.path()).unwrap().is_some());
    }
}
