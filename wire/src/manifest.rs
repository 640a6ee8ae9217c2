//! What a register holds: a key's state, a part's state, and the list of an object's chunks.
//!
//! Encoded as one version byte and a postcard body. Readers know every version that was ever written; fields that
//! come later (versions, tags, retention, encryption, erasure coding) travel in [`Extensions`], which a reader that
//! does not know them carries on unchanged, or in a new version byte.

use crate::id::{BucketId, ChunkId, ObjectKey, OperationId, UploadId};
use bytes::Bytes;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::PartitionId;
use ringfort_ring::register::operations::RecentOperations;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Why bytes are not a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing at all.
    #[error("an empty value")]
    Empty,
    /// Written by a newer release.
    #[error("format version {0} is newer than this release")]
    Version(u8),
    /// Not what the version says.
    #[error("malformed: {0}")]
    Malformed(postcard::Error),
}

/// Fields of later releases: tag and bytes. Carried on unchanged by whoever does not know the tag.
pub type Extensions = Vec<(u16, Vec<u8>)>;

/// All that one key's register says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct KeyState {
    /// The object, or nothing (a tombstone).
    pub head: Option<Box<ObjectHead>>,
    /// Open multipart uploads, oldest first.
    pub uploads: Vec<OpenUpload>,
    /// Ended ones, oldest first, for the answers to retries.
    pub ended: Vec<EndedUpload>,
    /// Which operations made this value.
    pub operations: RecentOperations,
    /// Fields of later releases.
    pub extensions: Extensions,
}

/// An object as it can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectHead {
    /// The ballot of the proposal that first made this version; it stays through identity rounds.
    pub version: Ballot,
    /// Who owns its chunks.
    pub owner: BodyOwner,
    /// Last-Modified, milliseconds since 1970.
    pub modified_ms: u64,
    /// Bytes of the body.
    pub size: u64,
    /// The ETag without quotes.
    pub etag: String,
    /// Standard headers as they are answered (lower-case name, value): `content-type`, `cache-control`, ….
    pub headers: Vec<(String, String)>,
    /// User metadata: lower-case name without `x-amz-meta-`, value.
    pub metadata: Vec<(String, String)>,
    /// Checksums of the whole object.
    pub checksums: Vec<StoredChecksum>,
    /// For a multipart object: how many parts it has. Zero: it was put in one piece.
    pub part_count: u16,
    /// Where the body is.
    pub body: BodyPlace,
    /// Fields of later releases.
    pub extensions: Extensions,
}

/// Who owns an object's chunks, fixed for life (DESIGN 4.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BodyOwner {
    /// Written by one PUT or Copy.
    Operation(OperationId),
    /// Written by the parts of an upload.
    Upload(UploadId),
}

/// A checksum as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredChecksum {
    /// Which.
    pub algorithm: ChecksumKind,
    /// Whether it is a checksum of the parts' checksums.
    pub is_composite: bool,
    /// The digest, raw.
    pub value: Vec<u8>,
}

/// S3's additional checksums. Discriminants are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum ChecksumKind {
    /// CRC-32 (ISO-HDLC).
    Crc32 = 0,
    /// CRC-32C (Castagnoli).
    Crc32c = 1,
    /// CRC-64/NVME.
    Crc64Nvme = 2,
    /// SHA-1.
    Sha1 = 3,
    /// SHA-256.
    Sha256 = 4,
}

/// Where a body is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyPlace {
    /// Beside the state, in the Accept's own record; also the empty body.
    Inline,
    /// In chunks that the state lists.
    Chunks(BodyList),
    /// In chunks that a list lists, which is itself an encoded [`BodyList`] in these chunks.
    Listed(Vec<ChunkRef>),
}

/// The chunks of a body, in order, and the parts that it was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct BodyList {
    /// The chunks.
    pub chunks: Vec<ChunkRef>,
    /// For a multipart object: its parts, by rising number.
    pub parts: Vec<PartSummary>,
}

impl BodyList {
    /// Above this many encoded bytes the list is stored as chunks itself.
    pub const INLINE_MAX_BYTES: usize = 16 * 1024;
}

/// One immutable chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRef {
    /// Its id, which also places it.
    pub id: ChunkId,
    /// Its length in bytes, 1 to [`ChunkRef::MAX_BYTES`].
    pub len: u32,
    /// BLAKE3 of its bytes.
    pub blake3: [u8; 32],
}

impl ChunkRef {
    /// The largest chunk.
    pub const MAX_BYTES: u32 = 4 * 1024 * 1024;
}

/// A part of a completed multipart object, for GET with `partNumber` and GetObjectAttributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartSummary {
    /// 1 to 10,000.
    pub number: u16,
    /// Bytes.
    pub size: u64,
    /// Its checksums.
    pub checksums: Vec<StoredChecksum>,
}

/// A multipart upload that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenUpload {
    /// Its id.
    pub id: UploadId,
    /// When it was created, milliseconds since 1970.
    pub initiated_ms: u64,
    /// Who created it: an access key's owner.
    pub initiator: String,
    /// Standard headers for the object to come.
    pub headers: Vec<(String, String)>,
    /// User metadata for the object to come.
    pub metadata: Vec<(String, String)>,
    /// The checksum that the client chose, and whether it is composite.
    pub checksum: Option<(ChecksumKind, bool)>,
    /// Fields of later releases.
    pub extensions: Extensions,
}

/// A multipart upload that has ended, kept for the answers to retries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedUpload {
    /// Its id.
    pub id: UploadId,
    /// When it ended, milliseconds since 1970.
    pub ended_ms: u64,
    /// How.
    pub how: UploadEnd,
}

impl EndedUpload {
    /// How long it is remembered: so long the same Complete again gets the same answer.
    pub const KEPT_MS: u64 = 7 * 24 * 60 * 60 * 1000;
}

/// How an upload ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UploadEnd {
    /// Aborted.
    Aborted,
    /// Completed, with this answer.
    Completed {
        /// The object's ETag.
        etag: String,
        /// The object's version.
        version: Ballot,
        /// The object's checksums.
        checksums: Vec<StoredChecksum>,
        /// Digest of the list of parts that the request named: another list is another request.
        parts_digest: [u8; 16],
    },
}

/// All that one part's register says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct PartState {
    /// The part, or nothing.
    pub part: Option<PartHead>,
    /// Which operations made this value.
    pub operations: RecentOperations,
    /// Fields of later releases.
    pub extensions: Extensions,
}

/// A part of an open upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartHead {
    /// When it was uploaded, milliseconds since 1970.
    pub modified_ms: u64,
    /// Bytes.
    pub size: u64,
    /// MD5 of its bytes.
    pub md5: [u8; 16],
    /// Its checksums.
    pub checksums: Vec<StoredChecksum>,
    /// Its bytes.
    pub chunks: Vec<ChunkRef>,
    /// Fields of later releases.
    pub extensions: Extensions,
}

/// Who wrote a chunk; fixed for life, and stored with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChunkOwner {
    /// The bucket.
    pub bucket: BucketId,
    /// The key's partition, which never changes: whoever holds the chunk can ask for its owner.
    pub partition: PartitionId,
    /// The key.
    pub key: ObjectKey,
    /// The operation or upload.
    pub owner: BodyOwner,
}

const VERSION_1: u8 = 1;

fn encode<T: Serialize>(value: &T) -> Bytes {
    let bytes = postcard::to_extend(value, vec![VERSION_1])
        .expect("serialising plain data to a vector does not fail");
    Bytes::from(bytes)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match bytes.split_first() {
        None => Err(DecodeError::Empty),
        Some((&VERSION_1, body)) => postcard::from_bytes(body).map_err(DecodeError::Malformed),
        Some((version, _)) => Err(DecodeError::Version(*version)),
    }
}

macro_rules! codec {
    ($($name:ident),*) => {$(
        impl $name {
            /// The bytes that are stored and sent.
            #[must_use]
            pub fn encode(&self) -> Bytes {
                encode(self)
            }

            /// Reads what [`Self::encode`] wrote.
            ///
            /// # Errors
            /// Where the bytes are not of a known version, or not whole.
            pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                decode(bytes)
            }
        }
    )*};
}

codec!(KeyState, PartState, BodyList);

impl KeyState {
    /// Whether nothing is left to tell: no object and no open upload. Such a row counts as a tombstone.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.head.is_none() && self.uploads.is_empty()
    }

    /// Whether the row as a whole may go once it is old enough (DESIGN 4.10): a tombstone that carries nothing. Ended
    /// uploads count while they are remembered, and so do fields of later releases, whatever they mean.
    #[must_use]
    pub fn is_collectable(&self, now_ms: u64) -> bool {
        let is_over =
            |ended: &EndedUpload| now_ms.saturating_sub(ended.ended_ms) >= EndedUpload::KEPT_MS;
        self.is_tombstone() && self.ended.iter().all(is_over) && self.extensions.is_empty()
    }

    /// Whether an upload is open.
    #[must_use]
    pub fn has_open(&self, upload: UploadId) -> bool {
        self.uploads.iter().any(|open| open.id == upload)
    }
}

impl PartState {
    /// The tag of the extension that names replaced chunks.
    const REPLACED: u16 = 1;
    /// More are not remembered: they are left to the collection of orphans.
    const REPLACED_MAX: usize = 8_192;

    /// Makes this the part. The chunks of the one before stay, for a Complete may have it in hand, and are remembered.
    pub fn replace(&mut self, part: PartHead) {
        let before = self.part.replace(part).map(|before| before.chunks);
        let mut replaced = self.replaced();
        replaced.extend(before.unwrap_or_default());
        replaced.truncate(Self::REPLACED_MAX);
        self.extensions.retain(|(tag, _)| *tag != Self::REPLACED);
        if !replaced.is_empty() {
            let bytes = postcard::to_allocvec(&replaced)
                .expect("serialising plain data to a vector does not fail");
            self.extensions.push((Self::REPLACED, bytes));
        }
    }

    /// The chunks of the parts that this one has replaced.
    #[must_use]
    pub fn replaced(&self) -> Vec<ChunkRef> {
        let named = self
            .extensions
            .iter()
            .find(|(tag, _)| *tag == Self::REPLACED);
        named
            .and_then(|(_, bytes)| postcard::from_bytes(bytes).ok())
            .unwrap_or_default()
    }

    /// Whether the row as a whole may go once it is old enough: it names no part and no chunks, and carries nothing.
    #[must_use]
    pub fn is_collectable(&self) -> bool {
        self.part.is_none() && self.extensions.is_empty()
    }

    /// Leaves nothing but the operations: the part's upload has ended.
    pub fn clear(&mut self) {
        self.part = None;
        self.extensions.retain(|(tag, _)| *tag != Self::REPLACED);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn a_part_remembers_the_chunks_that_it_replaced() {
        let chunk = |n: u8| ChunkRef {
            id: ChunkId([n; 16]),
            len: 1,
            blake3: [n; 32],
        };
        let part = |n: u8| PartHead {
            modified_ms: 0,
            size: 1,
            md5: [0; 16],
            checksums: Vec::new(),
            chunks: vec![chunk(n)],
            extensions: Vec::new(),
        };
        let mut state = PartState {
            extensions: vec![(9, vec![1])],
            ..PartState::default()
        };
        state.replace(part(1));
        assert_eq!(state.replaced(), []);
        state.replace(part(2));
        state.replace(part(3));
        let mut state = PartState::decode(&state.encode()).unwrap();
        assert_eq!(state.replaced(), [chunk(1), chunk(2)]);
        assert_eq!(state.part, Some(part(3)));
        state.clear();
        assert_eq!((state.replaced(), state.part.clone()), (Vec::new(), None));
        assert_eq!(state.extensions, [(9, vec![1])]);
        for _ in 0..PartState::REPLACED_MAX + 2 {
            state.replace(part(4));
        }
        assert_eq!(state.replaced().len(), PartState::REPLACED_MAX);
    }

    #[test]
    fn a_row_goes_only_when_nothing_is_left_to_tell() {
        const NOW_MS: u64 = 10 * EndedUpload::KEPT_MS;
        let ended = |ended_ms| EndedUpload {
            id: UploadId([1; 16]),
            ended_ms,
            how: UploadEnd::Aborted,
        };
        let empty = KeyState::default();
        assert!(empty.is_collectable(NOW_MS));
        let old = KeyState {
            ended: vec![ended(NOW_MS - EndedUpload::KEPT_MS)],
            ..KeyState::default()
        };
        assert!(old.is_collectable(NOW_MS));
        assert!(!old.is_collectable(NOW_MS - 1));
        let carrying = KeyState {
            extensions: vec![(9, vec![])],
            ..KeyState::default()
        };
        assert!(!carrying.is_collectable(NOW_MS));
        let open = KeyState {
            uploads: vec![OpenUpload {
                id: UploadId([1; 16]),
                initiated_ms: 0,
                initiator: String::new(),
                headers: Vec::new(),
                metadata: Vec::new(),
                checksum: None,
                extensions: Vec::new(),
            }],
            ..KeyState::default()
        };
        assert!(!open.is_collectable(NOW_MS));
        assert!(open.has_open(UploadId([1; 16])) && !open.has_open(UploadId([2; 16])));
        let mut part = PartState::default();
        assert!(part.is_collectable());
        part.replace(PartHead {
            modified_ms: 0,
            size: 0,
            md5: [0; 16],
            checksums: Vec::new(),
            chunks: Vec::new(),
            extensions: Vec::new(),
        });
        assert!(!part.is_collectable());
        part.clear();
        assert!(part.is_collectable());
    }

    #[test]
    fn a_state_reads_back_and_a_newer_version_is_named() {
        let state = KeyState {
            ended: vec![EndedUpload {
                id: UploadId([1; 16]),
                ended_ms: 7,
                how: UploadEnd::Aborted,
            }],
            extensions: vec![(9, vec![1, 2])],
            ..KeyState::default()
        };
        let bytes = state.encode();
        assert_eq!(KeyState::decode(&bytes).unwrap(), state);
        assert!(state.is_tombstone());
        let mut newer = bytes.to_vec();
        newer[0] = 2;
        assert_eq!(KeyState::decode(&newer), Err(DecodeError::Version(2)));
        assert_eq!(KeyState::decode(&[]), Err(DecodeError::Empty));
        assert!(KeyState::decode(&bytes[..bytes.len() - 1]).is_err());
    }
}
