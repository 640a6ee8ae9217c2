//! The names of what a cluster stores: buckets, keys, chunks, uploads, operations.

use bytes::Bytes;
use ringfort_ring::hlc::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// Reads the form that `Display` writes: 32 lower-case hexadecimal digits, and nothing else.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                if text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return None;
                }
                let mut bytes = [0; 16];
                hex::decode_to_slice(text, &mut bytes).ok()?;
                Some(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

random_id! {
    /// One bucket's whole life. The same name made anew is a new id.
    BucketId
}
random_id! {
    /// One immutable chunk of a body; random, drawn by the gateway that writes it.
    ChunkId
}
random_id! {
    /// One multipart upload; random, drawn by CreateMultipartUpload.
    UploadId
}

impl BucketId {
    /// The bucket that holds buckets, access keys and policies. No S3 request can name it.
    pub const SYSTEM: Self = Self([0; 16]);
}

/// An object's key: 1 to 1,024 bytes of UTF-8, opaque, compared byte by byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// S3's limit, in bytes of UTF-8
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>).
    pub const MAX_BYTES: usize = 1024;

    /// `None` where the text is empty or longer than [`ObjectKey::MAX_BYTES`].
    #[must_use]
    pub fn parse(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        (!text.is_empty() && text.len() <= Self::MAX_BYTES).then_some(Self(text))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// The address of one register: a key's own, or that of one part of an open upload of the key.
///
/// Both live in the key's partition.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
pub struct RowKey {
    /// The bucket.
    pub bucket: BucketId,
    /// The object's key.
    pub key: ObjectKey,
    /// `None`: the key's register. `Some`: the register of one part.
    pub part: Option<PartKey>,
}

impl RowKey {
    /// The register of a key.
    #[must_use]
    pub fn object(bucket: BucketId, key: ObjectKey) -> Self {
        Self {
            bucket,
            key,
            part: None,
        }
    }

    /// The register of a part.
    #[must_use]
    pub fn part(bucket: BucketId, key: ObjectKey, upload: UploadId, number: u16) -> Self {
        Self {
            bucket,
            key,
            part: Some(PartKey { upload, number }),
        }
    }
}

/// One part of one upload.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
pub struct PartKey {
    /// The upload.
    pub upload: UploadId,
    /// 1 to 10,000.
    pub number: u16,
}

/// One operation of one client, the same over all its attempts (DESIGN 4.8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
pub struct OperationId {
    /// Random, drawn at the operation's start.
    pub id: [u8; 16],
    /// The clock's stamp at the operation's start.
    pub born: Timestamp,
}

/// A digest that lets an SDK's retry of its own success be known: of account, operation, key, version, entry
/// number, body, conditions, metadata and the SDK's invocation id.
pub type InvocationDigest = [u8; 16];

/// Bytes on their way: shared, not copied.
pub type Payload = Bytes;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_1_to_1024_bytes() {
        assert!(ObjectKey::parse("").is_none());
        assert!(ObjectKey::parse("a".repeat(1024)).is_some());
        assert!(ObjectKey::parse("a".repeat(1025)).is_none());
        assert!(ObjectKey::parse("\u{20ac}".repeat(342)).is_none());
    }

    #[test]
    fn an_upload_id_has_one_spelling() {
        let id = UploadId([0xab; 16]);
        assert_eq!(UploadId::parse(&id.to_string()), Some(id));
        assert_eq!(UploadId::parse(&id.to_string().to_uppercase()), None);
        assert_eq!(UploadId::parse("../etc"), None);
    }
}
