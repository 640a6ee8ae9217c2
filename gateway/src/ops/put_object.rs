//! PutObject (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>).

use super::store_object::{Draft, Storing};
use super::{Call, Failure, PUT_BYTES_MAX, checksums, empty, put_header};
use crate::catalog::Bucket;
use crate::s3::checksum::ChecksumAlgorithm;
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::etag::ETag;
use crate::s3::headers::ObjectHeaders;
use crate::s3::payload::PayloadReader;
use crate::server::{Answer, Incoming, pump};
use http::StatusCode;
use std::sync::Arc;

/// Stores the body, then makes it the object.
pub(super) async fn put_object(
    call: &Call,
    bucket: Arc<Bucket>,
    incoming: Incoming,
) -> Result<Answer, Failure> {
    let object = ObjectHeaders::from_request(call.headers())?;
    let reader = PayloadReader::new(
        &call.verified,
        call.headers(),
        Some(ChecksumAlgorithm::DEFAULT),
    )?;
    check_size(reader.length())?;
    let storing = Storing::begin(call, &bucket)?;
    storing.refuse_early().await?;
    let mut writer = call
        .coordinator()
        .body_writer(storing.chunk_owner()?, call.coordinator().inline_max());
    let digests = pump(incoming, reader, &mut writer).await?;
    let body = writer.finish().await?;
    let draft = Draft {
        size: digests.size,
        etag: ETag::from_md5(digests.md5).as_str().to_owned(),
        headers: object.headers,
        metadata: object.metadata,
        checksums: digests.checksum.iter().map(checksums::to_stored).collect(),
    };
    let told = storing.store(draft, body).await?;
    let mut answer = empty(StatusCode::OK);
    put_header(
        answer.headers_mut(),
        "etag",
        &ETag::from_text(&told.etag).quoted(),
    );
    checksums::write_headers(&told.checksums, told.part_count, answer.headers_mut());
    Ok(answer)
}

/// Refuses a body above the limit by its headers alone, before any of it is asked for.
pub(super) fn check_size(size: u64) -> Result<(), S3Error> {
    if size <= PUT_BYTES_MAX {
        return Ok(());
    }
    Err(S3Error::new(ErrorCode::EntityTooLarge)
        .with_extra("ProposedSize", size.to_string())
        .with_extra("MaxSizeAllowed", PUT_BYTES_MAX.to_string()))
}
