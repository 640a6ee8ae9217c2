//! Checksums between their three forms: as stored, as computed, as answered.

use crate::s3::checksum::{ChecksumAlgorithm, ChecksumType, ChecksumValue};
use crate::s3::xml::write::Checksums;
use http::HeaderMap;
use ringfort_wire::manifest::{ChecksumKind, StoredChecksum};

pub(super) const fn to_kind(algorithm: ChecksumAlgorithm) -> ChecksumKind {
    match algorithm {
        ChecksumAlgorithm::Crc32 => ChecksumKind::Crc32,
        ChecksumAlgorithm::Crc32c => ChecksumKind::Crc32c,
        ChecksumAlgorithm::Crc64Nvme => ChecksumKind::Crc64Nvme,
        ChecksumAlgorithm::Sha1 => ChecksumKind::Sha1,
        ChecksumAlgorithm::Sha256 => ChecksumKind::Sha256,
    }
}

pub(super) const fn to_algorithm(kind: ChecksumKind) -> ChecksumAlgorithm {
    match kind {
        ChecksumKind::Crc32 => ChecksumAlgorithm::Crc32,
        ChecksumKind::Crc32c => ChecksumAlgorithm::Crc32c,
        ChecksumKind::Crc64Nvme => ChecksumAlgorithm::Crc64Nvme,
        ChecksumKind::Sha1 => ChecksumAlgorithm::Sha1,
        ChecksumKind::Sha256 => ChecksumAlgorithm::Sha256,
    }
}

pub(super) const fn to_type(is_composite: bool) -> ChecksumType {
    if is_composite {
        ChecksumType::Composite
    } else {
        ChecksumType::FullObject
    }
}

/// A checksum over all bytes, for keeping.
pub(super) fn to_stored(value: &ChecksumValue) -> StoredChecksum {
    StoredChecksum {
        algorithm: to_kind(value.algorithm()),
        is_composite: false,
        value: value.as_bytes().to_vec(),
    }
}

/// A kept checksum; `None` where what is kept is not one.
pub(super) fn to_value(stored: &StoredChecksum) -> Option<ChecksumValue> {
    ChecksumValue::from_bytes(to_algorithm(stored.algorithm), stored.value.clone())
}

/// The text in headers and documents. A composite one says how many parts it is made of.
fn to_text(stored: &StoredChecksum, part_count: u16) -> Option<String> {
    let base64 = to_value(stored)?.to_base64();
    Some(if stored.is_composite {
        format!("{base64}-{part_count}")
    } else {
        base64
    })
}

/// As a document shows them.
pub(super) fn to_document(stored: &[StoredChecksum], part_count: u16) -> Checksums {
    Checksums {
        values: stored
            .iter()
            .filter_map(|one| {
                Some((
                    to_algorithm(one.algorithm).element_name(),
                    to_text(one, part_count)?,
                ))
            })
            .collect(),
        kind: stored.first().map(|one| to_type(one.is_composite).name()),
    }
}

/// As headers show them.
pub(super) fn write_headers(stored: &[StoredChecksum], part_count: u16, headers: &mut HeaderMap) {
    for one in stored {
        if let Some(text) = to_text(one, part_count) {
            super::put_header(headers, to_algorithm(one.algorithm).header_name(), &text);
        }
    }
    if let Some(one) = stored.first() {
        super::put_header(
            headers,
            "x-amz-checksum-type",
            to_type(one.is_composite).name(),
        );
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_kept_and_shown_as_it_was_computed() {
        for algorithm in ChecksumAlgorithm::ALL {
            let value =
                ChecksumValue::from_bytes(algorithm, vec![7; algorithm.digest_bytes()]).unwrap();
            let stored = to_stored(&value);
            assert_eq!(to_value(&stored), Some(value.clone()));
            let mut headers = HeaderMap::new();
            write_headers(&[stored], 0, &mut headers);
            assert_eq!(headers[algorithm.header_name()], value.to_base64().as_str());
            assert_eq!(headers["x-amz-checksum-type"], "FULL_OBJECT");
        }
    }

    #[test]
    fn a_composite_one_says_how_many_parts_it_is_made_of() {
        let stored = StoredChecksum {
            algorithm: ChecksumKind::Crc32,
            is_composite: true,
            value: vec![0; 4],
        };
        let shown = to_document(&[stored], 3);
        assert_eq!(shown.values, [("ChecksumCRC32", "AAAAAA==-3".to_owned())]);
        assert_eq!(shown.kind, Some("COMPOSITE"));
    }

    #[test]
    fn a_damaged_one_is_not_shown() {
        let stored = StoredChecksum {
            algorithm: ChecksumKind::Crc32,
            is_composite: false,
            value: vec![0; 3],
        };
        assert!(to_document(&[stored], 0).values.is_empty());
    }
}
