//! The bytes of a catalog record: one version byte and a postcard body.
//!
//! Fields of later releases (versioning, policy, quota) travel in each record's `extensions`, which a release that
//! does not know them carries on unchanged, or in a new version byte.

use super::policy::Role;
use ringfort_ring::id::Generation;
use ringfort_wire::id::BucketId;
use ringfort_wire::manifest::Extensions;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// Written by a newer release.
    #[error("its format version {0} is newer than this release")]
    Version(u8),
    /// Not what the version says.
    #[error("it is malformed: {0}")]
    Malformed(String),
}

/// What a register of the system bucket holds.
pub(super) trait Record:
    Serialize + DeserializeOwned + Clone + PartialEq + Send + Sync
{
}

/// A bucket, at `bucket/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BucketRecord {
    pub(super) id: BucketId,
    pub(super) name: String,
    /// The account that made it.
    pub(super) owner: String,
    /// Milliseconds since 1970.
    pub(super) created_ms: u64,
    pub(super) region: String,
    /// K, fixed for life.
    pub(super) shard_count: u16,
    pub(super) generation: Generation,
    pub(super) phase: BucketPhase,
    pub(super) extensions: Extensions,
}

/// Where a bucket stands. A bucket that is gone is a tombstone, not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum BucketPhase {
    /// Its generation is held by a majority of each of its partitions.
    Live,
    /// Its generation is being raised; nobody answers from the record before it is.
    Raising,
    /// Its generation is being raised, or is, to see whether it is empty.
    Deleting,
}

/// An access key, at `key/<access key id>`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeyRecord {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) name: String,
    /// The account that it acts for.
    pub(super) owner: String,
    pub(super) role: Role,
    /// `None`: all buckets of its account.
    pub(super) buckets: Option<Vec<String>>,
    /// Milliseconds since 1970.
    pub(super) created_ms: u64,
    pub(super) extensions: Extensions,
}

/// The epoch of all access keys, at `epoch/access-keys`: changed after each change of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EpochRecord {
    pub(super) epoch: u64,
    pub(super) extensions: Extensions,
}

/// A secret of the cluster, at `secret/<purpose>`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SecretRecord {
    pub(super) secret: Vec<u8>,
    pub(super) extensions: Extensions,
}

impl Record for SecretRecord {}
impl Record for BucketRecord {}
impl Record for KeyRecord {}
impl Record for EpochRecord {}

const VERSION_1: u8 = 1;

pub(super) fn encode<T: Record>(record: &T) -> Vec<u8> {
    postcard::to_extend(record, vec![VERSION_1])
        .expect("serialising plain data to a vector does not fail")
}

pub(super) fn decode<T: Record>(bytes: &[u8]) -> Result<T, RecordError> {
    match bytes.split_first() {
        None => Err(RecordError::Empty),
        Some((&VERSION_1, body)) => {
            postcard::from_bytes(body).map_err(|error| RecordError::Malformed(error.to_string()))
        }
        Some((version, _)) => Err(RecordError::Version(*version)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_a_newer_version_is_named() {
        let record = BucketRecord {
            id: BucketId([7; 16]),
            name: "b".to_owned(),
            owner: "o".to_owned(),
            created_ms: 5,
            region: "us-east-1".to_owned(),
            shard_count: 16,
            generation: Generation(3),
            phase: BucketPhase::Deleting,
            extensions: vec![(4, vec![1])],
        };
        let mut bytes = encode(&record);
        assert_eq!(decode::<BucketRecord>(&bytes).unwrap(), record);
        assert!(decode::<BucketRecord>(&bytes[..bytes.len() - 1]).is_err());
        bytes[0] = 2;
        assert_eq!(decode::<BucketRecord>(&bytes), Err(RecordError::Version(2)));
        assert_eq!(decode::<BucketRecord>(&[]), Err(RecordError::Empty));
    }

    /// What was written by the first release stays readable: the bytes are fixed here.
    #[test]
    fn an_epoch_record_has_these_bytes() {
        let record = EpochRecord {
            epoch: 300,
            extensions: Vec::new(),
        };
        assert_eq!(encode(&record), [1, 0xac, 0x02, 0]);
    }
}
