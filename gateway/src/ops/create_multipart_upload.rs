//! CreateMultipartUpload (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html>).

use super::invocation::Invocation;
use super::uploads::{self, OPEN_MAX};
use super::{Call, Failure, checksums, put_header, xml};
use crate::catalog::Bucket;
use crate::coordinator::{Change, Proposed, Seen};
use crate::s3::checksum_headers::multipart_checksum;
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::headers::ObjectHeaders;
use crate::s3::xml::write_multipart::create_multipart_upload as write_created;
use crate::server::Answer;
use ringfort_wire::id::UploadId;
use ringfort_wire::manifest::{KeyState, OpenUpload};

/// Opens an upload: a row of its key.
pub(super) async fn create_multipart_upload(
    call: &Call,
    bucket: &Bucket,
) -> Result<Answer, Failure> {
    let object = ObjectHeaders::from_request(call.headers())?;
    let checksum = multipart_checksum(call.headers())?;
    let key = call.object_key()?;
    let id = UploadId(call.coordinator().environment().random_id());
    let upload = OpenUpload {
        id,
        initiated_ms: call.now_ms(),
        initiator: call.key.owner.clone(),
        headers: object.headers,
        metadata: object.metadata,
        checksum: checksum.map(|(algorithm, kind)| {
            (
                checksums::to_kind(algorithm),
                kind == crate::s3::checksum::ChecksumType::Composite,
            )
        }),
        extensions: Vec::new(),
    };
    let invocation = Invocation::of(call, bucket, key)
        .with_pairs(&upload.headers)
        .with_pairs(&upload.metadata)
        .with(format!("{checksum:?}").as_bytes())
        .digest();
    let operation = call.coordinator().operation(invocation);
    let row = call.row(bucket)?;
    let decide = |seen: Seen<'_, KeyState>| {
        let mut state = seen.state.cloned().unwrap_or_default();
        if state.uploads.len() >= OPEN_MAX {
            return Change::Refuse(too_many());
        }
        uploads::trim_ended(&mut state, upload.initiated_ms);
        state.uploads.push(upload.clone());
        let body = uploads::body_kept(&state);
        Change::Write {
            state,
            body,
            answer: id.0.to_vec(),
        }
    };
    let id = match call
        .coordinator()
        .propose(bucket.reference, &row, &operation, decide)
        .await?
    {
        Proposed::Written { .. } => id,
        // The upload that the SDK's earlier try opened.
        Proposed::AlreadyDone { record, .. } => UploadId(
            <[u8; 16]>::try_from(record.answer.as_slice()).map_err(|_| ErrorCode::InternalError)?,
        ),
        Proposed::Refused(error) => return Err(error.into()),
    };
    let mut answer = xml(write_created(
        bucket.name.as_str(),
        key.as_str(),
        &id.to_string(),
    ));
    if let Some((algorithm, kind)) = checksum {
        put_header(
            answer.headers_mut(),
            "x-amz-checksum-algorithm",
            algorithm.name(),
        );
        put_header(answer.headers_mut(), "x-amz-checksum-type", kind.name());
    }
    Ok(answer)
}

fn too_many() -> S3Error {
    S3Error::with_message(
        ErrorCode::SlowDown,
        format!(
            "The key has {OPEN_MAX} open multipart uploads. Complete or abort some of them first."
        ),
    )
}
