//! CompleteMultipartUpload (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>).
//!
//! One proposal sets the object and ends the upload, its condition judged in the same round: there is no second step
//! to crash before, of two Completes one wins, and a failed condition leaves the upload open. No data moves.

use super::complete_parts::{Assembled, assemble};
use super::end_upload::{all_parts, clear_parts};
use super::invocation::Invocation;
use super::store_object::{Told, check_condition};
use super::uploads::{self, find_ended, find_open, no_such_upload};
use super::{Call, Failure, checksums, xml};
use crate::catalog::Bucket;
use crate::coordinator::{Change, InlineBody, Proposed, Seen, WriteError};
use crate::s3::checksum::{ChecksumAlgorithm, ChecksumType};
use crate::s3::checksum_headers::multipart_checksum_type;
use crate::s3::condition::WriteCondition;
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::xml::read_complete::{CompletePart, read_complete};
use crate::s3::xml::write_multipart::complete_multipart_upload as write_completed;
use crate::server::Answer;
use bytes::Bytes;
use http::HeaderMap;
use ringfort_wire::id::UploadId;
use ringfort_wire::manifest::{
    BodyOwner, BodyPlace, EndedUpload, KeyState, ObjectHead, OpenUpload, UploadEnd,
};

/// Makes the parts named the object of the key.
pub(super) async fn complete_multipart_upload(
    call: &Call,
    bucket: &Bucket,
    document: &Bytes,
) -> Result<Answer, Failure> {
    let id = call.upload_id()?;
    let asked = read_complete(document)?;
    let condition = WriteCondition::parse(call.headers())?;
    let digest = digest_of(&asked);
    let read = call
        .coordinator()
        .read::<KeyState>(bucket.reference, &call.row(bucket)?, false)
        .await?;
    let Some(upload) = find_open(read.state.as_ref(), id).cloned() else {
        // Before anything else is judged: a retry must not fail on its own success.
        return respond(call, bucket, &told_of_end(read.state.as_ref(), id, digest)?);
    };
    let there = all_parts(call, bucket, id).await?;
    let made = match assemble(&upload, &asked, there) {
        Ok(made) => made,
        Err(error) => {
            // Parts are emptied once their upload has ended, by this very list perhaps: what was met may be such
            // remains. An upload that is still open was so while its parts were read, and the verdict holds.
            let again = call
                .coordinator()
                .read::<KeyState>(bucket.reference, &call.row(bucket)?, false)
                .await?;
            if find_open(again.state.as_ref(), id).is_some() {
                return Err(error.into());
            }
            let told = told_of_end(again.state.as_ref(), id, digest)?;
            return respond(call, bucket, &told);
        }
    };
    check_promises(call.headers(), &upload, &made)?;
    let completion = Completion {
        id,
        digest,
        condition,
        upload,
        made,
    };
    let told = completion.propose(call, bucket).await?;
    respond(call, bucket, &told)
}

/// Takes away the headers that promise a checksum: of the object to come, not of the document.
pub(super) fn remove_object_checksums(headers: &mut HeaderMap) {
    for algorithm in ChecksumAlgorithm::ALL {
        headers.remove(algorithm.header_name());
    }
}

/// The same list again is the same request.
fn digest_of(asked: &[CompletePart]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in asked {
        hasher.update(&part.number.to_le_bytes());
        hasher.update(&(part.etag.len() as u64).to_le_bytes());
        hasher.update(part.etag.as_bytes());
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}

/// What was told when the upload was completed with this list.
fn ended_as(state: Option<&KeyState>, id: UploadId, digest: [u8; 16]) -> Option<Told> {
    match &find_ended(state, id)?.how {
        UploadEnd::Completed {
            etag,
            version,
            checksums,
            parts_digest,
        } if *parts_digest == digest => Some(Told {
            etag: etag.clone(),
            modified_ms: version.time.ms(),
            checksums: checksums.clone(),
            part_count: etag
                .rsplit_once('-')
                .and_then(|(_, count)| count.parse().ok())
                .unwrap_or(0),
        }),
        UploadEnd::Completed { .. } | UploadEnd::Aborted => None,
    }
}

/// What a Complete with this list is told of an upload that is not open.
fn told_of_end(state: Option<&KeyState>, id: UploadId, digest: [u8; 16]) -> Result<Told, S3Error> {
    ended_as(state, id, digest).ok_or_else(|| no_such_upload(&id.to_string()))
}

/// Size and checksum of the object, as the client expects them.
fn check_promises(
    headers: &HeaderMap,
    upload: &OpenUpload,
    made: &Assembled,
) -> Result<(), S3Error> {
    if let Some(size) = headers.get("x-amz-mp-object-size") {
        let promised: Option<u64> = size.to_str().ok().and_then(|text| text.parse().ok());
        if promised != Some(made.size) {
            return Err(S3Error::with_message(
                ErrorCode::InvalidRequest,
                format!(
                    "The provided 'x-amz-mp-object-size' header does not match what was computed: {}",
                    made.size
                ),
            ));
        }
    }
    if let Some(kind) = multipart_checksum_type(headers)? {
        let actual = match upload.checksum {
            Some((_, is_composite)) => checksums::to_type(is_composite),
            None => ChecksumType::FullObject,
        };
        if kind != actual {
            return Err(S3Error::with_message(
                ErrorCode::InvalidRequest,
                format!(
                    "The upload was created using the {} checksum mode. The complete request must use the same checksum mode.",
                    actual.name()
                ),
            ));
        }
    }
    let shown = checksums::to_document(&made.checksums, made.part_count);
    for algorithm in ChecksumAlgorithm::ALL {
        let Some(promised) = headers.get(algorithm.header_name()) else {
            continue;
        };
        let computed = shown
            .values
            .iter()
            .find(|(name, _)| *name == algorithm.element_name());
        let is_right = computed.is_some_and(|(_, text)| {
            let bare = text.split('-').next().unwrap_or("");
            promised.as_bytes() == text.as_bytes() || promised.as_bytes() == bare.as_bytes()
        });
        if !is_right {
            return Err(S3Error::with_message(
                ErrorCode::BadDigest,
                format!(
                    "The {} you specified did not match the calculated checksum.",
                    algorithm.name().to_ascii_lowercase()
                ),
            ));
        }
    }
    Ok(())
}

struct Completion {
    id: UploadId,
    digest: [u8; 16],
    condition: WriteCondition,
    upload: OpenUpload,
    made: Assembled,
}

enum No {
    /// It was completed with this very list: by an earlier try, or by another client at the same time.
    Already(Told),
    Refused(S3Error),
}

impl Completion {
    /// What is told.
    async fn propose(self, call: &Call, bucket: &Bucket) -> Result<Told, Failure> {
        let coordinator = call.coordinator();
        let key = call.object_key()?;
        let owner = super::upload_part::chunk_owner(call, bucket, self.id)?;
        let invocation = Invocation::of(call, bucket, key)
            .with_condition(&self.condition)
            .with(&self.id.0)
            .with(&self.digest)
            .digest();
        let row = call.row(bucket)?;
        let mut placed = coordinator
            .body_place(&owner, self.made.list.clone())
            .await?;
        placed.keep();
        let place = placed.place().clone();
        let operation = coordinator.operation(invocation);
        let now_ms = call.now_ms();
        let decide = |seen: Seen<'_, KeyState>| {
            if let Some(told) = ended_as(seen.state, self.id, self.digest) {
                return Change::Refuse(No::Already(told));
            }
            let Some(state) = seen
                .state
                .filter(|state| find_open(Some(state), self.id).is_some())
            else {
                return Change::Refuse(No::Refused(no_such_upload(&self.id.to_string())));
            };
            if let Err(error) = check_condition(&self.condition, Some(state), key) {
                return Change::Refuse(No::Refused(error));
            }
            let mut state = state.clone();
            state.uploads.retain(|open| open.id != self.id);
            let head = self.head(&seen, &place);
            state.ended.push(EndedUpload {
                id: self.id,
                ended_ms: now_ms,
                how: UploadEnd::Completed {
                    etag: head.etag.clone(),
                    version: head.version,
                    checksums: head.checksums.clone(),
                    parts_digest: self.digest,
                },
            });
            uploads::trim_ended(&mut state, now_ms);
            let answer = self.told(head.modified_ms).encode();
            state.head = Some(Box::new(head));
            Change::Write {
                state,
                body: InlineBody::None,
                answer,
            }
        };
        let proposed = coordinator
            .propose(bucket.reference, &row, &operation, decide)
            .await;
        let is_ours = match &proposed {
            Ok(Proposed::Written { .. }) | Err(WriteError::OutcomeUnknown(_)) => true,
            Ok(Proposed::AlreadyDone { record, .. }) => record.id == operation.id.id,
            Ok(Proposed::Refused(_)) | Err(_) => false,
        };
        if !is_ours {
            // The list's own chunks: nothing names them. Those of the parts belong to the upload, which goes on.
            placed.give_up();
        }
        match proposed {
            Ok(Proposed::Written {
                ballot, replaced, ..
            }) => {
                if let Some(head) = replaced.and_then(|state| state.head) {
                    coordinator.delete_replaced(&head);
                }
                // Whoever else completes it with the same list may have met other chunks of the same bytes.
                let used = self.made.list.chunks.iter().map(|chunk| chunk.id).collect();
                clear_parts(call, bucket, self.id, used);
                Ok(self.told(ballot.time.ms()))
            }
            Ok(Proposed::AlreadyDone { record, .. }) => Told::decode(&record.answer),
            Ok(Proposed::Refused(No::Already(told))) => Ok(told),
            Ok(Proposed::Refused(No::Refused(error))) => Err(error.into()),
            Err(error @ WriteError::BucketChanged) => Err(error.into()),
            Err(error) if self.condition != WriteCondition::None => {
                Err(Failure::of_conditional(error))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn head(&self, seen: &Seen<'_, KeyState>, place: &BodyPlace) -> ObjectHead {
        ObjectHead {
            version: seen.ballot,
            owner: BodyOwner::Upload(self.id),
            modified_ms: seen.ballot.time.ms(),
            size: self.made.size,
            etag: self.made.etag.clone(),
            headers: self.upload.headers.clone(),
            metadata: self.upload.metadata.clone(),
            checksums: self.made.checksums.clone(),
            part_count: self.made.part_count,
            body: place.clone(),
            extensions: Vec::new(),
        }
    }

    fn told(&self, modified_ms: u64) -> Told {
        Told {
            etag: self.made.etag.clone(),
            modified_ms,
            checksums: self.made.checksums.clone(),
            part_count: self.made.part_count,
        }
    }
}

fn respond(call: &Call, bucket: &Bucket, told: &Told) -> Result<Answer, Failure> {
    let key = call.object_key()?;
    let location = location(call.headers(), call.parts.uri.path());
    let shown = checksums::to_document(&told.checksums, told.part_count);
    Ok(xml(write_completed(
        &location,
        bucket.name.as_str(),
        key.as_str(),
        &told.etag,
        &shown,
    )))
}

/// Where the object is, as the client addressed it: its Host and path, path style or virtual-host style.
///
/// Only the client itself reads this, so a proxy's word (or the client's own) that it came by TLS can be taken: a false
/// one deceives nobody else.
fn location(headers: &HeaderMap, path: &str) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = match text("x-forwarded-proto") {
        Some(proto) if proto.trim().eq_ignore_ascii_case("https") => "https",
        _ => "http",
    };
    format!("{scheme}://{}{path}", text("host").unwrap_or(""))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use ringfort_ring::ballot::Ballot;
    use ringfort_wire::manifest::{ChecksumKind, StoredChecksum};

    fn asked(number: u16, etag: &str) -> CompletePart {
        CompletePart {
            number,
            etag: etag.to_owned(),
            checksums: Vec::new(),
        }
    }

    fn completed(parts_digest: [u8; 16]) -> KeyState {
        KeyState {
            ended: vec![EndedUpload {
                id: UploadId([1; 16]),
                ended_ms: 0,
                how: UploadEnd::Completed {
                    etag: "abc-12".to_owned(),
                    version: Ballot::ZERO,
                    checksums: Vec::new(),
                    parts_digest,
                },
            }],
            ..KeyState::default()
        }
    }

    #[test]
    fn row_133_the_same_list_again_is_told_the_same_and_another_is_not() {
        let digest = digest_of(&[asked(1, "a"), asked(2, "b")]);
        let state = completed(digest);
        let told = ended_as(Some(&state), UploadId([1; 16]), digest).unwrap();
        assert_eq!((told.etag.as_str(), told.part_count), ("abc-12", 12));
        assert_eq!(
            ended_as(Some(&state), UploadId([1; 16]), digest_of(&[asked(1, "a")])),
            None
        );
        assert_eq!(ended_as(Some(&state), UploadId([2; 16]), digest), None);
        assert_ne!(
            digest_of(&[asked(1, "ab"), asked(2, "")]),
            digest_of(&[asked(1, "a"), asked(2, "b")])
        );
    }

    #[test]
    fn the_location_is_what_the_client_addressed() {
        let mut headers = HeaderMap::new();
        headers.insert("host", "bkt.s3.test:9000".parse().unwrap());
        assert_eq!(
            location(&headers, "/a%20b"),
            "http://bkt.s3.test:9000/a%20b"
        );
        headers.insert("x-forwarded-proto", "HTTPS".parse().unwrap());
        assert_eq!(location(&headers, "/b/k"), "https://bkt.s3.test:9000/b/k");
        headers.insert("x-forwarded-proto", "javascript".parse().unwrap());
        assert_eq!(location(&headers, "/b/k"), "http://bkt.s3.test:9000/b/k");
    }

    #[test]
    fn what_the_client_promises_of_the_object_must_hold() {
        let upload = OpenUpload {
            id: UploadId([1; 16]),
            initiated_ms: 0,
            initiator: String::new(),
            headers: Vec::new(),
            metadata: Vec::new(),
            checksum: Some((ChecksumKind::Crc32, true)),
            extensions: Vec::new(),
        };
        let made = Assembled {
            size: 7,
            etag: "e-2".to_owned(),
            checksums: vec![StoredChecksum {
                algorithm: ChecksumKind::Crc32,
                is_composite: true,
                value: vec![0; 4],
            }],
            part_count: 2,
            list: Default::default(),
        };
        let check = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            check_promises(&headers, &upload, &made).map_err(|error| error.code)
        };
        assert_eq!(check("x-amz-mp-object-size", "7"), Ok(()));
        assert_eq!(
            check("x-amz-mp-object-size", "8"),
            Err(ErrorCode::InvalidRequest)
        );
        assert_eq!(
            check("x-amz-mp-object-size", "x"),
            Err(ErrorCode::InvalidRequest)
        );
        assert_eq!(check("x-amz-checksum-crc32", "AAAAAA==-2"), Ok(()));
        assert_eq!(check("x-amz-checksum-crc32", "AAAAAA=="), Ok(()));
        assert_eq!(
            check("x-amz-checksum-crc32", "AAAAAA==-3"),
            Err(ErrorCode::BadDigest)
        );
        assert_eq!(
            check("x-amz-checksum-crc32c", "AAAAAA=="),
            Err(ErrorCode::BadDigest)
        );
        assert_eq!(check("x-amz-checksum-type", "COMPOSITE"), Ok(()));
        assert_eq!(
            check("x-amz-checksum-type", "FULL_OBJECT"),
            Err(ErrorCode::InvalidRequest)
        );
    }
}
