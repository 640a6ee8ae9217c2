//! From the parts that a client lists and the parts that there are to the object they make. Pure.

use super::OBJECT_BYTES_MAX;
use super::checksums::{to_algorithm, to_kind, to_type, to_value};
use crate::coordinator::ListedPart;
use crate::s3::checksum::{ChecksumAlgorithm, ChecksumType, PartChecksum, combine};
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::etag::ETag;
use crate::s3::xml::read_complete::CompletePart;
use ringfort_wire::manifest::{BodyList, OpenUpload, PartHead, PartSummary, StoredChecksum};
use std::collections::BTreeMap;

/// What every part but the last has at least
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>).
const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;

/// The object that the parts make.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) checksums: Vec<StoredChecksum>,
    pub(super) part_count: u16,
    pub(super) list: BodyList,
}

/// Judges the client's list against the parts that there are.
///
/// # Errors
/// `InvalidPart`, `EntityTooSmall`, `EntityTooLarge`; `InvalidRequest` for checksums that cannot be combined.
pub(super) fn assemble(
    upload: &OpenUpload,
    asked: &[CompletePart],
    there: Vec<ListedPart>,
) -> Result<Assembled, S3Error> {
    let mut there: BTreeMap<u16, PartHead> = there
        .into_iter()
        .map(|listed| (listed.number, listed.part))
        .collect();
    let mut used: Vec<(u16, PartHead)> = Vec::with_capacity(asked.len());
    for part in asked {
        let head = there
            .remove(&part.number)
            .ok_or_else(|| invalid_part(upload, part))?;
        check_named(upload, part, &head)?;
        used.push((part.number, head));
    }
    check_sizes(&used)?;
    let size = used
        .iter()
        .map(|(_, head)| head.size)
        .fold(0, u64::saturating_add);
    if size > OBJECT_BYTES_MAX {
        return Err(S3Error::new(ErrorCode::EntityTooLarge)
            .with_extra("ProposedSize", size.to_string())
            .with_extra("MaxSizeAllowed", OBJECT_BYTES_MAX.to_string()));
    }
    let md5s: Vec<[u8; 16]> = used.iter().map(|(_, head)| head.md5).collect();
    Ok(Assembled {
        size,
        etag: ETag::multipart(&md5s).as_str().to_owned(),
        checksums: object_checksum(upload, &used)?.into_iter().collect(),
        part_count: u16::try_from(used.len()).map_err(|_| ErrorCode::MalformedXML)?,
        list: to_list(used),
    })
}

fn to_list(used: Vec<(u16, PartHead)>) -> BodyList {
    let mut list = BodyList::default();
    for (number, head) in used {
        list.chunks.extend(head.chunks);
        list.parts.push(PartSummary {
            number,
            size: head.size,
            checksums: head.checksums,
        });
    }
    list
}

fn invalid_part(upload: &OpenUpload, part: &CompletePart) -> S3Error {
    // An entity tag has some 40 characters; what is longer is none, and is not worth repeating.
    let etag: String = part.etag.chars().take(64).collect();
    S3Error::new(ErrorCode::InvalidPart)
        .with_extra("UploadId", upload.id.to_string())
        .with_extra("PartNumber", part.number.to_string())
        .with_extra("ETag", etag)
}

fn check_named(upload: &OpenUpload, part: &CompletePart, head: &PartHead) -> Result<(), S3Error> {
    if ETag::from_text(&part.etag).as_str() != ETag::from_md5(head.md5).as_str() {
        return Err(invalid_part(upload, part));
    }
    for (name, text) in &part.checksums {
        let stored = head
            .checksums
            .iter()
            .filter_map(to_value)
            .find(|value| value.algorithm().element_name() == *name);
        if stored.is_none_or(|value| value.to_base64() != *text) {
            return Err(invalid_part(upload, part));
        }
    }
    Ok(())
}

fn check_sizes(used: &[(u16, PartHead)]) -> Result<(), S3Error> {
    let Some((_, all_but_last)) = used.split_last() else {
        return Err(ErrorCode::MalformedXML.into());
    };
    match all_but_last
        .iter()
        .find(|(_, head)| head.size < PART_BYTES_MIN)
    {
        None => Ok(()),
        Some((number, head)) => Err(S3Error::new(ErrorCode::EntityTooSmall)
            .with_extra("ETag", ETag::from_md5(head.md5).as_str())
            .with_extra("MinSizeAllowed", PART_BYTES_MIN.to_string())
            .with_extra("PartNumber", number.to_string())
            .with_extra("ProposedSize", head.size.to_string())),
    }
}

/// The whole object's checksum: as the upload was begun, else over all bytes where the parts' algorithm allows it.
fn object_checksum(
    upload: &OpenUpload,
    used: &[(u16, PartHead)],
) -> Result<Option<StoredChecksum>, S3Error> {
    let (algorithm, kind) = match upload.checksum {
        Some((kind, is_composite)) => (to_algorithm(kind), to_type(is_composite)),
        None => match common_algorithm(used)
            .filter(|algorithm| algorithm.supports(ChecksumType::FullObject))
        {
            Some(algorithm) => (algorithm, ChecksumType::FullObject),
            None => return Ok(None),
        },
    };
    let mut parts = Vec::with_capacity(used.len());
    for (_, head) in used {
        let Some(value) = head
            .checksums
            .iter()
            .filter_map(to_value)
            .find(|value| value.algorithm() == algorithm)
        else {
            return Ok(None);
        };
        parts.push(PartChecksum {
            value,
            size: head.size,
        });
    }
    let combined = combine(algorithm, kind, &parts)?;
    Ok(Some(StoredChecksum {
        algorithm: to_kind(algorithm),
        is_composite: kind == ChecksumType::Composite,
        value: combined.value.as_bytes().to_vec(),
    }))
}

fn common_algorithm(used: &[(u16, PartHead)]) -> Option<ChecksumAlgorithm> {
    let mut algorithms = used.iter().map(|(_, head)| {
        head.checksums
            .first()
            .map(|stored| to_algorithm(stored.algorithm))
    });
    let first = algorithms.next()??;
    algorithms
        .all(|algorithm| algorithm == Some(first))
        .then_some(first)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::super::checksums::to_stored;
    use super::*;
    use crate::s3::checksum::Hasher;
    use ringfort_wire::id::{ChunkId, UploadId};
    use ringfort_wire::manifest::{ChecksumKind, ChunkRef};

    const MIB: u64 = 1024 * 1024;

    fn upload(checksum: Option<(ChecksumKind, bool)>) -> OpenUpload {
        OpenUpload {
            id: UploadId([1; 16]),
            initiated_ms: 0,
            initiator: String::new(),
            headers: Vec::new(),
            metadata: Vec::new(),
            checksum,
            extensions: Vec::new(),
        }
    }

    fn there(number: u16, size: u64, algorithm: ChecksumAlgorithm) -> ListedPart {
        let seed = u8::try_from(number).unwrap();
        let mut hasher = Hasher::new(algorithm);
        hasher.update(&[seed]);
        ListedPart {
            number,
            part: PartHead {
                modified_ms: 0,
                size,
                md5: [seed; 16],
                checksums: vec![to_stored(&hasher.finish())],
                chunks: vec![ChunkRef {
                    id: ChunkId([seed; 16]),
                    len: 1,
                    blake3: [0; 32],
                }],
                extensions: Vec::new(),
            },
            replaced: Vec::new(),
        }
    }

    fn asked(number: u16) -> CompletePart {
        let seed = u8::try_from(number).unwrap();
        CompletePart {
            number,
            etag: hex::encode([seed; 16]),
            checksums: Vec::new(),
        }
    }

    fn refused(asked: &[CompletePart], there: Vec<ListedPart>) -> ErrorCode {
        assemble(&upload(None), asked, there).unwrap_err().code
    }

    #[test]
    fn parts_become_one_object_in_order() {
        let crc = ChecksumAlgorithm::Crc64Nvme;
        let made = assemble(
            &upload(None),
            &[asked(2), asked(5)],
            vec![there(1, MIB, crc), there(2, 5 * MIB, crc), there(5, 1, crc)],
        )
        .unwrap();
        assert_eq!((made.size, made.part_count), (5 * MIB + 1, 2));
        assert!(made.etag.ends_with("-2"));
        let ids: Vec<ChunkId> = made.list.chunks.iter().map(|chunk| chunk.id).collect();
        assert_eq!(ids, [ChunkId([2; 16]), ChunkId([5; 16])]);
        assert_eq!(
            made.list
                .parts
                .iter()
                .map(|part| part.number)
                .collect::<Vec<_>>(),
            [2, 5]
        );
        assert!(!made.checksums[0].is_composite);
    }

    #[test]
    fn row_129_a_part_that_is_missing_or_another_is_invalid() {
        let crc = ChecksumAlgorithm::Crc32;
        assert_eq!(
            refused(&[asked(2)], vec![there(1, 1, crc)]),
            ErrorCode::InvalidPart
        );
        for etag in ["", "x", &"a".repeat(100_000), "<a>\r\n"] {
            let mut part = asked(1);
            part.etag = etag.to_owned();
            let error = assemble(&upload(None), &[part], vec![there(1, 1, crc)]).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidPart);
            assert!(error.to_xml("", "", "").len() < 2000);
        }
        let mut part = asked(1);
        part.checksums = vec![("ChecksumCRC32", "AAAAAA==".to_owned())];
        assert_eq!(
            refused(&[part], vec![there(1, 1, crc)]),
            ErrorCode::InvalidPart
        );
        let mut quoted = asked(1);
        quoted.etag = format!("\"{}\"", quoted.etag);
        assert!(assemble(&upload(None), &[quoted], vec![there(1, 1, crc)]).is_ok());
    }

    #[test]
    fn row_131_only_the_last_part_may_be_small() {
        let crc = ChecksumAlgorithm::Crc32;
        let small = vec![there(1, 5 * MIB - 1, crc), there(2, 1, crc)];
        assert_eq!(
            refused(&[asked(1), asked(2)], small.clone()),
            ErrorCode::EntityTooSmall
        );
        assert!(assemble(&upload(None), &[asked(1)], small).is_ok());
    }

    #[test]
    fn a_checksum_is_of_the_kind_that_the_upload_was_begun_with() {
        let sha = ChecksumAlgorithm::Sha256;
        let made = assemble(
            &upload(Some((ChecksumKind::Sha256, true))),
            &[asked(1)],
            vec![there(1, 1, sha)],
        )
        .unwrap();
        assert!(made.checksums[0].is_composite);
        // Nobody asked for a checksum, and a SHA cannot be combined.
        let made = assemble(&upload(None), &[asked(1)], vec![there(1, 1, sha)]).unwrap();
        assert!(made.checksums.is_empty());
        // Parts of two algorithms have none in common.
        let mixed = vec![
            there(1, 5 * MIB, ChecksumAlgorithm::Crc32),
            there(2, 1, ChecksumAlgorithm::Crc64Nvme),
        ];
        assert!(
            assemble(&upload(None), &[asked(1), asked(2)], mixed)
                .unwrap()
                .checksums
                .is_empty()
        );
    }

    #[test]
    fn an_object_has_at_most_5_tib() {
        let crc = ChecksumAlgorithm::Crc32;
        let parts = (1..=3)
            .map(|n| there(n, 2 * OBJECT_BYTES_MAX / 5, crc))
            .collect();
        assert_eq!(
            refused(&[asked(1), asked(2), asked(3)], parts),
            ErrorCode::EntityTooLarge
        );
    }
}
