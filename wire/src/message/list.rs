//! Listing a bucket, and raising its generation: requests to all of a node's shards at once.

use crate::id::{BucketId, ObjectKey, UploadId};
use crate::manifest::{ChecksumKind, ObjectHead, OpenUpload};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::{Epoch, Generation, PartitionId, Shard};
use ringfort_ring::quorum::Replica;
use ringfort_ring::register::acceptor::Refusal;
use serde::{Deserialize, Serialize};

/// One shard of the bucket on one replica of the node asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardClaim {
    /// The shard.
    pub shard: Shard,
    /// Its partition.
    pub partition: PartitionId,
    /// The replica that is meant.
    pub to: Replica,
    /// The row's epoch, as the asker knows it.
    pub epoch: Epoch,
}

/// Show rows in the byte order of their keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRequest {
    /// The bucket.
    pub bucket: BucketId,
    /// Its generation, as the asker knows it.
    pub generation: Generation,
    /// K, the number of the bucket's shards.
    pub shard_count: u16,
    /// The shards wanted.
    pub shards: Vec<ShardClaim>,
    /// Only keys that begin so.
    pub prefix: String,
    /// Only keys after this position.
    pub after: After,
    /// Keys that hold it behind the prefix are folded into one entry. Not empty.
    pub delimiter: Option<String>,
    /// At most so many entries.
    pub limit: u32,
    /// At most so many rows are looked at, found or not.
    pub examine_limit: u32,
    /// What counts as live.
    pub what: ListWhat,
}

/// A position in the order of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum After {
    /// Before the first key.
    Start,
    /// Behind this key, which itself is not shown.
    Key(String),
    /// At this text: a key equal to it is shown.
    At(String),
    /// Behind every key that begins so.
    Prefix(String),
}

/// What a listing is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListWhat {
    /// Rows with an object.
    Objects,
    /// Rows with an open upload.
    Uploads,
}

/// The answer to a List.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListReply {
    /// What was found.
    Page {
        /// In the byte order of key or prefix.
        entries: Vec<ListEntry>,
        /// How far was looked: everything at or before this key (as [`After::Key`] or [`After::Prefix`]) was
        /// examined. `None`: to the end.
        examined_to: Option<After>,
    },
    /// A shard's claim was refused; nothing was listed.
    Refused {
        /// Which one.
        shard: Shard,
        /// Why.
        refusal: Refusal,
    },
}

/// One entry of a listing. Rows come in the byte order of their keys, a prefix where its witness stands.
///
/// Every row that was examined is shown, dead ones too, but for those that a [`ListEntry::Prefix`] before them
/// stands for: of the rows under a common prefix the dead ones are shown up to the first live one, which is the
/// witness; what lies behind it is skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListEntry {
    /// A row, live or not: a tombstone hides an older live row of another replica.
    Row {
        /// The key.
        key: ObjectKey,
        /// Its durable ballot.
        accepted: Ballot,
        /// What it holds; nothing: a tombstone.
        object: Option<ObjectSummary>,
        /// Its open uploads (only in a listing of uploads).
        uploads: Vec<UploadSummary>,
    },
    /// Keys folded by the delimiter, and a live one among them as their witness.
    Prefix {
        /// From the key's start up to and with the delimiter.
        prefix: String,
        /// The first live key of this node under the prefix, behind the position asked for.
        witness: ObjectKey,
        /// The witness row's durable ballot.
        accepted: Ballot,
    },
}

impl ListEntry {
    /// Not fewer bytes than it has in an answer: pages are bounded by them.
    #[must_use]
    pub fn bytes_at_most(&self) -> usize {
        /// Tags, lengths, numbers and a ballot, at their longest.
        const FIXED: usize = 96;
        match self {
            Self::Row {
                key,
                object,
                uploads,
                ..
            } => {
                let object = object
                    .as_ref()
                    .map_or(0, |object| object.etag.len() + 8 * object.checksums.len());
                let uploads = uploads.iter().map(|upload| 48 + upload.initiator.len());
                FIXED + key.as_bytes().len() + object + uploads.sum::<usize>()
            }
            Self::Prefix {
                prefix, witness, ..
            } => FIXED + prefix.len() + witness.as_bytes().len(),
        }
    }
}

/// The common prefix that a key is folded into: from its start up to and with the first delimiter behind the prefix
/// asked for. `None`: it stands for itself.
#[must_use]
pub fn common_prefix<'a>(key: &'a str, prefix: &str, delimiter: Option<&str>) -> Option<&'a str> {
    let delimiter = delimiter?;
    let rest = key.strip_prefix(prefix)?;
    let end = prefix.len() + rest.find(delimiter)? + delimiter.len();
    Some(&key[..end])
}

/// What a listing says of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectSummary {
    /// Last-Modified, milliseconds since 1970.
    pub modified_ms: u64,
    /// Bytes.
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    /// Its checksums: which, and whether composite.
    pub checksums: Vec<(ChecksumKind, bool)>,
}

/// What a listing says of an open upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadSummary {
    /// Its id.
    pub id: UploadId,
    /// When it was created, milliseconds since 1970.
    pub initiated_ms: u64,
    /// Who created it.
    pub initiator: String,
    /// The checksum chosen, and whether composite.
    pub checksum: Option<(ChecksumKind, bool)>,
}

/// Hold a bucket's generation on these replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaiseRequest {
    /// The bucket.
    pub bucket: BucketId,
    /// The generation to hold, if it is higher than the one held.
    pub generation: Generation,
    /// The shards whose replicas are meant.
    pub shards: Vec<ShardClaim>,
}

/// The answer to a Raise: given when every Accept admitted under an older generation is durable or dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaiseReply {
    /// One for each shard of the request: `None`, it is held; else why not.
    pub refusals: Vec<Option<Refusal>>,
}

impl From<&ObjectHead> for ObjectSummary {
    fn from(head: &ObjectHead) -> Self {
        Self {
            modified_ms: head.modified_ms,
            size: head.size,
            etag: head.etag.clone(),
            checksums: head
                .checksums
                .iter()
                .map(|checksum| (checksum.algorithm, checksum.is_composite))
                .collect(),
        }
    }
}

impl From<&OpenUpload> for UploadSummary {
    fn from(upload: &OpenUpload) -> Self {
        Self {
            id: upload.id,
            initiated_ms: upload.initiated_ms,
            initiator: upload.initiator.clone(),
            checksum: upload.checksum,
        }
    }
}
