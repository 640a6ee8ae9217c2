//! UploadPart (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html>).
//!
//! Order: a settled read shows the upload open, then chunks, then the part's own register.

use super::put_object::check_size;
use super::uploads::no_such_upload;
use super::{ATTEMPTS_MAX, Call, Failure, checksums, empty, put_header};
use crate::catalog::Bucket;
use crate::coordinator::{Body, Change, InlineBody, Proposed, Seen, StoredBody, WriteError};
use crate::s3::checksum::ChecksumAlgorithm;
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::etag::ETag;
use crate::s3::paging::part_number;
use crate::s3::payload::{BodyDigests, PayloadReader};
use crate::server::{Answer, Incoming, pump};
use http::StatusCode;
use ringfort_wire::id::{RowKey, UploadId};
use ringfort_wire::manifest::{
    BodyOwner, ChunkOwner, OpenUpload, PartHead, PartState, StoredChecksum,
};
use std::sync::Arc;
use std::time::Duration;

/// Stores one part.
pub(super) async fn upload_part(
    call: &Call,
    bucket: Arc<Bucket>,
    incoming: Incoming,
) -> Result<Answer, Failure> {
    let number = require_number(call)?;
    // The form of the body is judged before anything is read, its length too.
    check_size(PayloadReader::new(&call.verified, call.headers(), None)?.length())?;
    let (bucket, upload) = open_upload(call, bucket).await?;
    let wanted = algorithm_of(&upload);
    let reader = PayloadReader::new(&call.verified, call.headers(), Some(wanted))?;
    check_algorithm(&upload, reader.checksums().algorithm())?;
    let mut writer = call
        .coordinator()
        .body_writer(chunk_owner(call, &bucket, upload.id)?, 0);
    let digests = pump(incoming, reader, &mut writer).await?;
    let body = writer.finish().await?;
    let part = store_part(call, bucket, upload.id, number, &digests, body).await?;
    let mut answer = empty(StatusCode::OK);
    put_header(
        answer.headers_mut(),
        "etag",
        &ETag::from_md5(part.md5).quoted(),
    );
    for stored in &part.checksums {
        if let Some(value) = checksums::to_value(stored) {
            put_header(
                answer.headers_mut(),
                value.algorithm().header_name(),
                &value.to_base64(),
            );
        }
    }
    Ok(answer)
}

/// `partNumber`, which routing has seen.
pub(super) fn require_number(call: &Call) -> Result<u16, Failure> {
    Ok(part_number(&call.routed.query)?.ok_or_else(|| {
        S3Error::invalid_argument(
            "Part number must be an integer between 1 and 10000, inclusive",
            "partNumber",
            "",
        )
    })?)
}

/// The open upload; looks the bucket up again where it has changed, for nothing of the body has been read.
async fn open_upload(
    call: &Call,
    mut bucket: Arc<Bucket>,
) -> Result<(Arc<Bucket>, OpenUpload), Failure> {
    for _ in 0..ATTEMPTS_MAX {
        match call.open_upload(&bucket).await {
            Err(Failure::BucketChanged) => bucket = call.rejudge(&bucket).await?,
            Ok(upload) => return Ok((bucket, upload)),
            Err(failure) => return Err(failure),
        }
    }
    Err(ErrorCode::SlowDown.into())
}

pub(super) fn chunk_owner(
    call: &Call,
    bucket: &Bucket,
    upload: UploadId,
) -> Result<ChunkOwner, Failure> {
    let key = call.object_key()?;
    let owner = BodyOwner::Upload(upload);
    Ok(call
        .coordinator()
        .chunk_owner(bucket.reference, key, owner)?)
}

/// The checksum that a part gets where the client sends none.
pub(super) fn algorithm_of(upload: &OpenUpload) -> ChecksumAlgorithm {
    upload
        .checksum
        .map_or(ChecksumAlgorithm::DEFAULT, |(kind, _)| {
            checksums::to_algorithm(kind)
        })
}

/// A part's checksum must be of the algorithm that its upload was begun with.
fn check_algorithm(upload: &OpenUpload, sent: Option<ChecksumAlgorithm>) -> Result<(), S3Error> {
    match (upload.checksum, sent) {
        (Some((kind, _)), Some(sent)) if checksums::to_algorithm(kind) != sent => {
            Err(S3Error::with_message(
                ErrorCode::InvalidRequest,
                format!(
                    "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                    checksums::to_algorithm(kind).name().to_ascii_lowercase(),
                    sent.name().to_ascii_lowercase()
                ),
            ))
        }
        _ => Ok(()),
    }
}

/// Writes the part's register. Its chunks, and those of the part that it replaces, stay until the upload has ended.
pub(super) async fn store_part(
    call: &Call,
    mut bucket: Arc<Bucket>,
    upload: UploadId,
    number: u16,
    digests: &BodyDigests,
    mut body: Body,
) -> Result<PartHead, Failure> {
    let chunks = match body.stored() {
        StoredBody::Chunks(chunks) => chunks.clone(),
        // An empty part: the writer keeps nothing in memory but that.
        StoredBody::Inline(_) => Vec::new(),
    };
    let part = PartHead {
        modified_ms: 0,
        size: digests.size,
        md5: digests.md5,
        checksums: digests
            .checksum
            .iter()
            .map(checksums::to_stored)
            .collect::<Vec<StoredChecksum>>(),
        chunks,
        extensions: Vec::new(),
    };
    let operation = call.coordinator().operation(None);
    // From here on an Accept that names the chunks may leave.
    body.keep();
    for _ in 0..ATTEMPTS_MAX {
        let row = RowKey::part(
            bucket.reference.id,
            call.object_key()?.clone(),
            upload,
            number,
        );
        let decide = |seen: Seen<'_, PartState>| {
            let mut state = seen.state.cloned().unwrap_or_default();
            state.replace(PartHead {
                modified_ms: seen.ballot.time.ms(),
                ..part.clone()
            });
            Change::<_, ()>::Write {
                state,
                body: InlineBody::None,
                answer: Vec::new(),
            }
        };
        let failure = match call
            .coordinator()
            .propose(bucket.reference, &row, &operation, decide)
            .await
        {
            Ok(Proposed::Written { state, .. } | Proposed::AlreadyDone { state, .. }) => {
                return Ok(state.part.unwrap_or(part));
            }
            Ok(Proposed::Refused(())) => ErrorCode::InternalError.into(),
            Err(WriteError::BucketChanged) => match call.rejudge(&bucket).await {
                Ok(again) => {
                    bucket = again;
                    continue;
                }
                // The bucket is gone, and the upload with it.
                Err(Failure::Refused(error)) if error.code == ErrorCode::NoSuchBucket => {
                    no_such_upload(&upload.to_string()).into()
                }
                Err(failure) => failure,
            },
            // It may be the part now: its chunks stay.
            Err(error @ WriteError::OutcomeUnknown(_)) => return Err(error.into()),
            Err(error) => error.into(),
        };
        call.coordinator()
            .delete_chunks(part.chunks.clone(), Duration::ZERO);
        return Err(failure);
    }
    call.coordinator()
        .delete_chunks(part.chunks, Duration::ZERO);
    Err(ErrorCode::SlowDown.into())
}
