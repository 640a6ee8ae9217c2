//! What the data folder of a process holds beside its disks: who it is, what it was started with, its first keys.
//!
//! ```text
//! lock                held while a process uses the folder
//! identity.json       the process's id
//! settings.json       the settings of the first start
//! membership.json     cluster and seeds; there once the process is a member
//! layout              the newest layout known
//! control             what a node has promised and accepted for the next layouts
//! admin-token         0600, on the process that made the cluster
//! root-key.json       0600, likewise: the first access key, kept before it is proposed
//! root-key.made       there once the first access key is in the catalog: deleted later, it does not come back
//! ```

use crate::failure::Failure;
use ringfort_storage_node::control::file::{self, FolderLock, Secrecy};
use ringfort_wire::environment::Environment;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Makes the folder if need be, and takes it for this process.
pub(crate) fn open(path: &Path) -> Result<FolderLock, Failure> {
    file::create_folder(path).map_err(Failure::usage)?;
    file::lock_folder(path)
        .map_err(Failure::usage)?
        .ok_or_else(|| {
            Failure::usage(format!(
                "{} is in use by another process: stop that one, or choose another --data folder",
                path.display()
            ))
        })
}

/// Reads a JSON file of the folder; `None` where there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    let Some(bytes) = file::read(path).map_err(Failure::usage)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Failure::usage(format!(
            "{} is damaged ({error}): put back a copy of it, or make the folder anew",
            path.display()
        ))
    })
}

/// Writes a JSON file of the folder, durably.
pub(crate) fn write_json<T: Serialize>(
    path: &Path,
    value: &T,
    secrecy: Secrecy,
) -> Result<(), Failure> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(Failure::failed)?;
    bytes.push(b'\n');
    file::write_durably(path, &bytes, secrecy).map_err(Failure::failed)
}

/// The first access key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootKey {
    /// Its public half.
    pub(crate) access_key: String,
    /// Its secret half.
    pub(crate) secret_key: String,
}

/// Where the first access key lies.
pub(crate) fn root_key_path(folder: &Path) -> PathBuf {
    folder.join("root-key.json")
}

/// Where the admin token lies.
pub(crate) fn admin_token_path(folder: &Path) -> PathBuf {
    folder.join("admin-token")
}

/// The folder's first access key, if it has one.
pub(crate) fn root_key(folder: &Path) -> Result<Option<RootKey>, Failure> {
    let key: Option<RootKey> = read_json(&root_key_path(folder))?;
    match key {
        Some(key) if key.access_key.is_empty() || key.secret_key.is_empty() => {
            Err(Failure::usage(format!(
                "{} holds an empty key: put back a copy of the file",
                root_key_path(folder).display()
            )))
        }
        key => Ok(key),
    }
}

/// A key drawn at random: 20 and 40 characters, as AWS's are; 200 bits of secret, without a character that a shell
/// or an option parser would take for its own.
pub(crate) fn draw_key(environment: &Environment) -> RootKey {
    const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz234567";
    RootKey {
        access_key: format!("RF{}", draw(environment, UPPER, 18)),
        secret_key: draw(environment, LOWER, 40),
    }
}

/// A new admin token: 256 bits.
pub(crate) fn draw_token(environment: &Environment) -> String {
    let mut bytes = [0; 32];
    environment.fill(&mut bytes);
    hex::encode(bytes)
}

/// Both alphabets have a power of two of letters, so that a byte's remainder is fair.
fn draw(environment: &Environment, alphabet: &[u8], length: usize) -> String {
    let mut bytes = vec![0; length];
    environment.fill(&mut bytes);
    bytes
        .iter()
        .map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()]))
        .collect()
}

/// The folder's admin token, made at its first start.
pub(crate) fn admin_token(folder: &Path, environment: &Environment) -> Result<String, Failure> {
    let path = admin_token_path(folder);
    if file::read(&path).map_err(Failure::usage)?.is_some() {
        return crate::secrets::read_secret(&path);
    }
    let token = draw_token(environment);
    let line = format!("{token}\n");
    file::write_durably(&path, line.as_bytes(), Secrecy::Secret).map_err(Failure::failed)?;
    Ok(token)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn keys_and_tokens_are_drawn_once_and_kept_to_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let environment = Environment::os();
        let token = admin_token(folder.path(), &environment).unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(admin_token(folder.path(), &environment).unwrap(), token);
        assert!(!file::is_readable_by_others(&admin_token_path(folder.path())).unwrap());
        let key = draw_key(&environment);
        assert_eq!((key.access_key.len(), key.secret_key.len()), (20, 40));
        assert!(key != draw_key(&environment));
    }

    #[test]
    fn an_empty_token_file_is_a_refusal_and_not_a_new_token() {
        let folder = tempfile::tempdir().unwrap();
        file::write_durably(&admin_token_path(folder.path()), b"\n", Secrecy::Secret).unwrap();
        let refusal = admin_token(folder.path(), &Environment::os()).unwrap_err();
        assert!(refusal.message.contains("is empty"), "{refusal}");
    }

    #[test]
    fn a_folder_in_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let _lock = open(folder.path()).unwrap();
        assert!(open(folder.path()).unwrap_err().message.contains("in use"));
    }
}
