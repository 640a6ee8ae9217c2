//! Access keys: made, found, revoked.

use super::Catalog;
use super::error::CatalogError;
use super::key_cache::{HOLDS_FOR, Moment};
use super::policy::Role;
use super::record::{EpochRecord, KeyRecord};
use super::registers::{Found, Swap};
use crate::s3::names::BucketName;
use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

const PREFIX: &str = "key/";
const EPOCH: &str = "epoch/access-keys";
const ATTEMPTS_MAX: usize = 16;
const READS_AT_ONCE: usize = 16;
const NAMES_A_PAGE: usize = 1000;

/// How often a gateway looks at the epoch of the keys.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a revocation waits beyond [`HOLDS_FOR`], for clocks that do not tick alike.
const REVOKE_MARGIN: Duration = Duration::from_millis(100);

/// An access key.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Its public half.
    pub id: String,
    /// Its secret half.
    pub secret: String,
    /// What people call it.
    pub name: String,
    /// The account that it acts for: shown as Owner/ID.
    pub owner: String,
    /// What it may do.
    pub role: Role,
    /// The buckets that it is good for; `None`: all of its account's.
    pub buckets: Option<Vec<String>>,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
}

impl fmt::Debug for AccessKey {
    /// Without the secret: it must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .field("owner", &self.owner)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// The key to make.
#[derive(Clone)]
pub struct NewKey {
    /// `None`: one is drawn.
    pub id: Option<String>,
    /// `None`: one is drawn.
    pub secret: Option<String>,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The buckets that it is good for; `None`: all of its account's.
    pub buckets: Option<Vec<String>>,
    /// The account that it acts for; `None`: that of the first key, `root`.
    pub owner: Option<String>,
}

/// The account of the first key, and of every key that names no other.
pub(crate) const ROOT_ACCOUNT: &str = "root";

impl Catalog {
    /// Makes an access key. The same id and secret again is the same key, whatever was lost on the way.
    ///
    /// # Errors
    /// `KeyExists` where the id has another secret, role or list; `Invalid`; or where registers could not be changed.
    pub async fn create_key(&self, spec: NewKey) -> Result<AccessKey, CatalogError> {
        let record = self.new_key(spec)?;
        let register = register_name(&record.id)?;
        for _ in 0..ATTEMPTS_MAX {
            let found: Found<KeyRecord> = self.registers.read(&register).await?;
            if let Some(known) = &found.record {
                return match is_same_key(known, &record) {
                    true => Ok(to_key(known.clone())),
                    false => Err(CatalogError::KeyExists),
                };
            }
            if self
                .registers
                .swap(&register, &found, Some(&record))
                .await?
                == Swap::Done
            {
                self.keys.start_over();
                self.raise_epoch().await?;
                return Ok(to_key(record));
            }
        }
        Err(CatalogError::Busy)
    }

    /// All access keys, in the byte order of their ids.
    ///
    /// # Errors
    /// Where a register could not be read.
    pub async fn list_keys(&self) -> Result<Vec<AccessKey>, CatalogError> {
        let mut keys = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let (names, is_truncated) = self
                .registers
                .names(PREFIX, after.as_deref(), NAMES_A_PAGE)
                .await?;
            after = names.last().cloned();
            let page: Vec<Found<KeyRecord>> = stream::iter(names)
                .map(|register| async move { self.registers.read(&register).await }.boxed())
                .buffered(READS_AT_ONCE)
                .try_collect()
                .await?;
            keys.extend(
                page.into_iter()
                    .filter_map(|found| found.record)
                    .map(to_key),
            );
            if !is_truncated || after.is_none() {
                return Ok(keys);
            }
        }
    }

    /// Revokes a key. Answers once no gateway takes it any more.
    ///
    /// # Errors
    /// `NoSuchKey`; or where registers could not be changed: then the key may work or not, until this is repeated.
    pub async fn delete_key(&self, id: &str) -> Result<(), CatalogError> {
        let register = register_name(id)?;
        for _ in 0..ATTEMPTS_MAX {
            let found: Found<KeyRecord> = self.registers.read(&register).await?;
            let was_there = found.record.is_some();
            if was_there && self.registers.swap(&register, &found, None).await? == Swap::Changed {
                continue;
            }
            self.keys.start_over();
            // Also for a key that is gone already: an earlier try may have ended before this.
            self.raise_epoch().await?;
            tokio::time::sleep(HOLDS_FOR + REVOKE_MARGIN).await;
            return match was_there {
                true => Ok(()),
                false => Err(CatalogError::NoSuchKey),
            };
        }
        Err(CatalogError::Busy)
    }

    /// The access key of this id. From the cache only while the last look at the keys' epoch holds.
    ///
    /// # Errors
    /// Where the register could not be read.
    pub async fn access_key(&self, id: &str) -> Result<Option<Arc<AccessKey>>, CatalogError> {
        let Ok(register) = register_name(id) else {
            return Ok(None);
        };
        if let Some(key) = self.keys.get(id, self.moment()) {
            return Ok(Some(key));
        }
        let turn = self.keys.turn();
        let found: Found<KeyRecord> = self.registers.read(&register).await?;
        let key = found.record.map(|record| Arc::new(to_key(record)));
        if let Some(key) = &key {
            self.keys.keep(turn, key);
        }
        Ok(key)
    }

    /// Looks at the keys' epoch each half second, until shutdown.
    pub async fn watch_keys(&self, mut shutdown: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_over = tokio::select! {
                over = shutdown.wait_for(|is_over| *is_over) => over.map_or(true, |is_over| *is_over),
                _ = ticks.tick() => false,
            };
            if is_over {
                return;
            }
            // A look that fails proves nothing: what is cached ends by itself.
            if let Err(error) = self.look_at_keys().await {
                tracing::debug!(%error, "the access keys' epoch could not be read");
            }
        }
    }

    async fn look_at_keys(&self) -> Result<(), CatalogError> {
        let began = self.moment();
        let found: Found<EpochRecord> = self.registers.read(EPOCH).await?;
        self.keys.looked(began, found.version());
        Ok(())
    }

    async fn raise_epoch(&self) -> Result<(), CatalogError> {
        for _ in 0..ATTEMPTS_MAX {
            let found: Found<EpochRecord> = self.registers.read(EPOCH).await?;
            let mut record = found.record.clone().unwrap_or(EpochRecord {
                epoch: 0,
                extensions: Vec::new(),
            });
            record.epoch = record.epoch.wrapping_add(1);
            if self.registers.swap(EPOCH, &found, Some(&record)).await? == Swap::Done {
                return Ok(());
            }
        }
        Err(CatalogError::Busy)
    }

    fn moment(&self) -> Moment {
        Moment {
            steady: Instant::now(),
            wall_ms: self.coordinator.environment().now_ms(),
        }
    }

    fn new_key(&self, spec: NewKey) -> Result<KeyRecord, CatalogError> {
        let environment = self.coordinator.environment();
        let mut random = [0; 64];
        environment.fill(&mut random);
        let id = spec
            .id
            .unwrap_or_else(|| format!("RF{}", draw(&random[..18], ID_ALPHABET)));
        let secret = spec
            .secret
            .unwrap_or_else(|| draw(&random[18..58], SECRET_ALPHABET));
        check_id(&id)?;
        check_secret(&secret)?;
        check_buckets(spec.buckets.as_deref())?;
        check_shown("a name", &spec.name)?;
        if let Some(owner) = &spec.owner {
            check_owner(owner)?;
        }
        Ok(KeyRecord {
            id,
            secret,
            name: spec.name,
            owner: spec.owner.unwrap_or_else(|| ROOT_ACCOUNT.to_owned()),
            role: spec.role,
            buckets: spec.buckets,
            created_ms: environment.now_ms(),
            extensions: Vec::new(),
        })
    }
}

/// What a name or an account has at most.
const SHOWN_BYTES_MAX: usize = 256;

/// 32 characters: five bits each.
const ID_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// 64 characters: six bits each. None needs escaping in a shell, a URL or a file.
const SECRET_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// One character a random byte. The alphabet's length divides 256, so all are equally likely.
fn draw(random: &[u8], alphabet: &[u8]) -> String {
    random
        .iter()
        .map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()]))
        .collect()
}

fn check_id(id: &str) -> Result<(), CatalogError> {
    let is_good = (3..=128).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if is_good {
        return Ok(());
    }
    Err(CatalogError::Invalid(
        "an access key id is 3 to 128 letters, digits, dashes, dots or underscores".to_owned(),
    ))
}

fn check_secret(secret: &str) -> Result<(), CatalogError> {
    if (8..=128).contains(&secret.len()) && secret.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    Err(CatalogError::Invalid(
        "a secret key is 8 to 128 printable ASCII characters without spaces".to_owned(),
    ))
}

/// A bucket need not be there yet, but a name that none can have would make a key that is good for nothing.
fn check_buckets(names: Option<&[String]>) -> Result<(), CatalogError> {
    let wrong = names
        .unwrap_or_default()
        .iter()
        .find(|name| BucketName::parse(name).is_err());
    match wrong {
        None => Ok(()),
        Some(name) => Err(CatalogError::Invalid(format!(
            "{name:?} is not a bucket name that S3 allows"
        ))),
    }
}

/// An account is compared, shown in documents and matched with a header: it must be something.
fn check_owner(owner: &str) -> Result<(), CatalogError> {
    if owner.trim().is_empty() {
        return Err(CatalogError::Invalid("an account has a name".to_owned()));
    }
    check_shown("an account", owner)
}

/// What people and documents are shown.
fn check_shown(what: &str, text: &str) -> Result<(), CatalogError> {
    if text.len() <= SHOWN_BYTES_MAX && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(CatalogError::Invalid(format!(
        "{what} has at most {SHOWN_BYTES_MAX} bytes and no control characters"
    )))
}

fn register_name(id: &str) -> Result<String, CatalogError> {
    check_id(id)?;
    Ok(format!("{PREFIX}{id}"))
}

fn is_same_key(known: &KeyRecord, asked: &KeyRecord) -> bool {
    known.secret == asked.secret && known.role == asked.role && known.buckets == asked.buckets
}

fn to_key(record: KeyRecord) -> AccessKey {
    AccessKey {
        id: record.id,
        secret: record.secret,
        name: record.name,
        owner: record.owner,
        role: record.role,
        buckets: record.buckets,
        created_ms: record.created_ms,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn drawn_keys_have_legal_forms() {
        let id = format!("RF{}", draw(&[255; 18], ID_ALPHABET));
        assert_eq!(id.len(), 20);
        check_id(&id).unwrap();
        check_secret(&draw(&[7; 40], SECRET_ALPHABET)).unwrap();
        assert_eq!(
            (256 % ID_ALPHABET.len(), 256 % SECRET_ALPHABET.len()),
            (0, 0)
        );
    }

    #[test]
    fn odd_ids_name_no_register() {
        for id in ["", "ab", "a/b", "a b", "../x", &"a".repeat(129), "k\n1"] {
            assert!(register_name(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn a_key_is_for_buckets_that_there_can_be() {
        check_buckets(None).unwrap();
        let check = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            check_buckets(Some(&names))
        };
        check(&["not-made-yet", "b.2"]).unwrap();
        for wrong in ["", "Has Spaces", "ab", "UPPER", "bucket/key", "s3://bucket"] {
            assert!(check(&["good-one", wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_account_is_something_that_can_be_shown() {
        check_owner("alice").unwrap();
        check_shown("a name", "").unwrap();
        let longest = "a".repeat(SHOWN_BYTES_MAX);
        check_owner(&longest).unwrap();
        for wrong in [
            "",
            " ",
            "a\n",
            "\u{1b}[31m",
            "a\u{0}",
            &format!("{longest}a"),
        ] {
            assert!(check_owner(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let key = AccessKey {
            id: "AKID".to_owned(),
            secret: "TOPSECRET".to_owned(),
            name: String::new(),
            owner: String::new(),
            role: Role::Admin,
            buckets: None,
            created_ms: 0,
        };
        assert!(!format!("{key:?}").contains("TOPSECRET"));
    }
}
