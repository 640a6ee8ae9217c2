//! S3's object checksums: the five algorithms, their headers, and how parts' checksums become an object's.
//!
//! Rules from <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>. Leaves out the
//! headers of a request (`checksum_headers`) and the feeding of bodies (`payload`).

use super::error::{ErrorCode, S3Error};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::CrcAlgorithm;
use sha2::Digest as _;
use std::fmt;

/// A checksum algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumAlgorithm {
    /// CRC-32 as in zip.
    Crc32,
    /// CRC-32C (Castagnoli).
    Crc32c,
    /// CRC-64/NVME, S3's default.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl ChecksumAlgorithm {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    /// What S3 computes and keeps when the client names none.
    pub const DEFAULT: Self = Self::Crc64Nvme;

    /// The name in headers and documents, and of the XML element behind `Checksum`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The header, or trailer, that carries a value.
    #[must_use]
    pub const fn header_name(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// The XML element that carries a value.
    #[must_use]
    pub const fn element_name(self) -> &'static str {
        match self {
            Self::Crc32 => "ChecksumCRC32",
            Self::Crc32c => "ChecksumCRC32C",
            Self::Crc64Nvme => "ChecksumCRC64NVME",
            Self::Sha1 => "ChecksumSHA1",
            Self::Sha256 => "ChecksumSHA256",
        }
    }

    /// The algorithm of this name, in any case as S3 takes it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|a| a.name().eq_ignore_ascii_case(name))
    }

    /// The algorithm whose value this header or trailer carries.
    #[must_use]
    pub fn from_header_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|a| a.header_name().eq_ignore_ascii_case(name))
    }

    /// How many bytes a value has.
    #[must_use]
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// The kind of checksum a multipart upload has unless it says otherwise.
    #[must_use]
    pub const fn default_type(self) -> ChecksumType {
        match self {
            Self::Crc64Nvme => ChecksumType::FullObject,
            Self::Crc32 | Self::Crc32c | Self::Sha1 | Self::Sha256 => ChecksumType::Composite,
        }
    }

    /// Whether S3 has this kind for this algorithm: a SHA cannot be combined, CRC-64/NVME is never composite.
    #[must_use]
    pub const fn supports(self, checksum_type: ChecksumType) -> bool {
        match (self, checksum_type) {
            (Self::Crc64Nvme, ChecksumType::Composite)
            | (Self::Sha1 | Self::Sha256, ChecksumType::FullObject) => false,
            (Self::Crc32 | Self::Crc32c, _)
            | (Self::Crc64Nvme, ChecksumType::FullObject)
            | (Self::Sha1 | Self::Sha256, ChecksumType::Composite) => true,
        }
    }

    const fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }
}

/// Over what a multipart object's checksum goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumType {
    /// The checksum of the parts' checksums.
    Composite,
    /// The checksum of all bytes.
    FullObject,
}

impl ChecksumType {
    /// The name in headers and documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Composite => "COMPOSITE",
            Self::FullObject => "FULL_OBJECT",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Composite, Self::FullObject]
            .into_iter()
            .find(|t| t.name().eq_ignore_ascii_case(name))
    }
}

/// One checksum. Invariant: as many bytes as the algorithm has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChecksumValue {
    algorithm: ChecksumAlgorithm,
    bytes: Vec<u8>,
}

impl ChecksumValue {
    /// Reads a value's base64; `None` if it is not base64 or not of the right length.
    #[must_use]
    pub fn parse(algorithm: ChecksumAlgorithm, text: &str) -> Option<Self> {
        // The longest legal text has 44 characters: nothing longer is worth decoding.
        if text.len() > 64 {
            return None;
        }
        Self::from_bytes(algorithm, BASE64.decode(text).ok()?)
    }

    /// The value with these raw bytes; `None` if their number is not the algorithm's.
    #[must_use]
    pub fn from_bytes(algorithm: ChecksumAlgorithm, bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        (bytes.len() == algorithm.digest_bytes()).then_some(Self { algorithm, bytes })
    }

    fn from_crc(algorithm: ChecksumAlgorithm, crc: u64) -> Self {
        let all = crc.to_be_bytes();
        let bytes = all[all.len() - algorithm.digest_bytes()..].to_vec();
        Self { algorithm, bytes }
    }

    fn to_crc(&self) -> u64 {
        self.bytes
            .iter()
            .fold(0, |crc, byte| (crc << 8) | u64::from(*byte))
    }

    /// Which algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> ChecksumAlgorithm {
        self.algorithm
    }

    /// The raw bytes, the most significant first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The base64 that headers and documents carry.
    #[must_use]
    pub fn to_base64(&self) -> String {
        BASE64.encode(&self.bytes)
    }
}

/// The checksum of an object put together from parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultipartChecksum {
    /// The value, over the parts' values or over all bytes.
    pub value: ChecksumValue,
    /// Which of the two.
    pub checksum_type: ChecksumType,
    /// How many parts.
    pub parts: usize,
}

impl fmt::Display for MultipartChecksum {
    /// As headers and documents carry it: a composite value says how many parts it is made of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.value.to_base64())?;
        match self.checksum_type {
            ChecksumType::Composite => write!(f, "-{}", self.parts),
            ChecksumType::FullObject => Ok(()),
        }
    }
}

/// A part's checksum and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartChecksum {
    /// The checksum of the part's bytes.
    pub value: ChecksumValue,
    /// How many bytes the part has.
    pub size: u64,
}

/// The checksum of an object from those of its parts, in order.
///
/// # Errors
/// `InvalidRequest` if S3 does not have the kind for the algorithm, or a part has another algorithm.
pub fn combine(
    algorithm: ChecksumAlgorithm,
    checksum_type: ChecksumType,
    parts: &[PartChecksum],
) -> Result<MultipartChecksum, S3Error> {
    if !algorithm.supports(checksum_type) {
        return Err(unsupported_type(algorithm, checksum_type));
    }
    if let Some(part) = parts.iter().find(|p| p.value.algorithm != algorithm) {
        return Err(S3Error::with_message(
            ErrorCode::InvalidRequest,
            format!(
                "The upload was created using the {} checksum algorithm, but a part has a {} checksum.",
                algorithm.name(),
                part.value.algorithm.name()
            ),
        ));
    }
    let value = match (checksum_type, algorithm.crc()) {
        (ChecksumType::FullObject, Some(crc)) => {
            let empty = crc_fast::checksum(crc, b"");
            let whole = parts.iter().fold(empty, |whole, part| {
                crc_fast::checksum_combine(crc, whole, part.value.to_crc(), part.size)
            });
            ChecksumValue::from_crc(algorithm, whole)
        }
        (ChecksumType::FullObject, None) => return Err(unsupported_type(algorithm, checksum_type)),
        (ChecksumType::Composite, _) => {
            let mut hasher = Hasher::new(algorithm);
            for part in parts {
                hasher.update(&part.value.bytes);
            }
            hasher.finish()
        }
    };
    Ok(MultipartChecksum {
        value,
        checksum_type,
        parts: parts.len(),
    })
}

/// The refusal of a kind that S3 does not have for the algorithm.
pub(super) fn unsupported_type(
    algorithm: ChecksumAlgorithm,
    checksum_type: ChecksumType,
) -> S3Error {
    S3Error::with_message(
        ErrorCode::InvalidRequest,
        format!(
            "The {} checksum type cannot be used with the {} checksum algorithm.",
            checksum_type.name(),
            algorithm.name().to_ascii_lowercase()
        ),
    )
}

/// Computes one checksum as bytes arrive.
#[derive(Clone)]
pub struct Hasher {
    algorithm: ChecksumAlgorithm,
    state: HasherState,
}

#[derive(Clone)]
enum HasherState {
    Crc(Box<crc_fast::Digest>),
    Sha1(Box<sha1::Sha1>),
    Sha256(Box<sha2::Sha256>),
}

impl Hasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new(algorithm: ChecksumAlgorithm) -> Self {
        let state = match algorithm.crc() {
            Some(crc) => HasherState::Crc(Box::new(crc_fast::Digest::new(crc))),
            None if algorithm == ChecksumAlgorithm::Sha1 => HasherState::Sha1(Box::default()),
            None => HasherState::Sha256(Box::default()),
        };
        Self { algorithm, state }
    }

    /// Which algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> ChecksumAlgorithm {
        self.algorithm
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            HasherState::Crc(digest) => digest.update(bytes),
            HasherState::Sha1(digest) => digest.update(bytes),
            HasherState::Sha256(digest) => digest.update(bytes),
        }
    }

    /// The checksum of all bytes taken in.
    #[must_use]
    pub fn finish(self) -> ChecksumValue {
        let algorithm = self.algorithm;
        match self.state {
            HasherState::Crc(digest) => ChecksumValue::from_crc(algorithm, digest.finalize()),
            HasherState::Sha1(digest) => ChecksumValue {
                algorithm,
                bytes: digest.finalize().to_vec(),
            },
            HasherState::Sha256(digest) => ChecksumValue {
                algorithm,
                bytes: digest.finalize().to_vec(),
            },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn checksum(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> ChecksumValue {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The published check values of each algorithm over `123456789`.
    #[test]
    fn each_algorithm_gives_its_check_value() {
        for (algorithm, hex) in [
            (ChecksumAlgorithm::Crc32, "cbf43926"),
            (ChecksumAlgorithm::Crc32c, "e3069283"),
            (ChecksumAlgorithm::Crc64Nvme, "ae8b14860a799888"),
            (
                ChecksumAlgorithm::Sha1,
                "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
            ),
            (
                ChecksumAlgorithm::Sha256,
                "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
            ),
        ] {
            let value = checksum(algorithm, b"123456789");
            assert_eq!(hex::encode(value.as_bytes()), hex);
            assert_eq!(
                ChecksumValue::parse(algorithm, &value.to_base64()),
                Some(value)
            );
        }
    }

    #[test]
    fn values_of_the_wrong_form_are_refused() {
        for text in [
            "",
            "AAAA",
            "AAAAAA",
            "!!!!!!==",
            "AAAAAAA=",
            &"A".repeat(10_000),
        ] {
            assert_eq!(
                ChecksumValue::parse(ChecksumAlgorithm::Crc32, text),
                None,
                "{text}"
            );
        }
        assert!(ChecksumValue::parse(ChecksumAlgorithm::Crc32, "AAAAAA==").is_some());
    }

    #[test]
    fn only_the_kinds_that_s3_has_are_combined() {
        for algorithm in ChecksumAlgorithm::ALL {
            for checksum_type in [ChecksumType::Composite, ChecksumType::FullObject] {
                let combined = combine(algorithm, checksum_type, &[]);
                assert_eq!(combined.is_ok(), algorithm.supports(checksum_type));
            }
            assert!(algorithm.supports(algorithm.default_type()));
        }
        let part = PartChecksum {
            value: checksum(ChecksumAlgorithm::Crc32, b""),
            size: 0,
        };
        let mixed = combine(ChecksumAlgorithm::Crc32c, ChecksumType::Composite, &[part]);
        assert_eq!(mixed.unwrap_err().code, ErrorCode::InvalidRequest);
    }

    #[test]
    fn a_composite_checksum_goes_over_raw_values_and_counts_parts() {
        let parts: Vec<_> = [&b"one"[..], b"two"]
            .iter()
            .map(|bytes| PartChecksum {
                value: checksum(ChecksumAlgorithm::Sha256, bytes),
                size: 3,
            })
            .collect();
        let combined = combine(ChecksumAlgorithm::Sha256, ChecksumType::Composite, &parts).unwrap();
        let raw = [parts[0].value.as_bytes(), parts[1].value.as_bytes()].concat();
        let expected = checksum(ChecksumAlgorithm::Sha256, &raw).to_base64();
        assert_eq!(combined.to_string(), format!("{expected}-2"));
    }

    proptest! {
        #[test]
        fn a_full_object_checksum_is_that_of_all_bytes(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6)) {
            for algorithm in [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Crc32c, ChecksumAlgorithm::Crc64Nvme] {
                let checksums: Vec<_> = parts
                    .iter()
                    .map(|p| PartChecksum { value: checksum(algorithm, p), size: p.len() as u64 })
                    .collect();
                let combined = combine(algorithm, ChecksumType::FullObject, &checksums).unwrap();
                prop_assert_eq!(combined.to_string(), checksum(algorithm, &parts.concat()).to_base64());
            }
        }

        #[test]
        fn updates_in_pieces_are_one_update(bytes in proptest::collection::vec(any::<u8>(), 0..500), cut in any::<proptest::sample::Index>()) {
            let cut = cut.index(bytes.len() + 1);
            for algorithm in ChecksumAlgorithm::ALL {
                let mut hasher = Hasher::new(algorithm);
                hasher.update(&bytes[..cut]);
                hasher.update(&bytes[cut..]);
                prop_assert_eq!(hasher.finish(), checksum(algorithm, &bytes));
            }
        }
    }
}
