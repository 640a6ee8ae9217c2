//! UploadPartCopy (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html>).

use super::copy_source::Source;
use super::upload_part::{algorithm_of, chunk_owner, require_number, store_part};
use super::{Call, Failure, checksums, xml};
use crate::catalog::Bucket;
use crate::s3::copy_source::CopySource;
use crate::s3::error::ErrorCode;
use crate::s3::etag::ETag;
use crate::s3::range::CopyRange;
use crate::s3::xml::write_object::copy_part;
use crate::server::{Answer, Copied, pump};
use std::sync::Arc;

/// Stores some bytes of another object as one part.
pub(super) async fn upload_part_copy(call: &Call, bucket: &Arc<Bucket>) -> Result<Answer, Failure> {
    let number = require_number(call)?;
    let named = CopySource::from_headers(call.headers())?.ok_or(ErrorCode::InvalidArgument)?;
    let range = call
        .headers()
        .get("x-amz-copy-source-range")
        .map(|value| CopyRange::parse(value.as_bytes()))
        .transpose()?;
    let upload = call.open_upload(bucket).await?;
    let source = Source::open(call, bucket, &named).await?;
    let bytes = match range {
        Some(range) => {
            let range = range.within(source.head.size)?;
            range.first()..range.last() + 1
        }
        None => 0..source.head.size,
    };
    let size = bytes.end - bytes.start;
    Source::check_size(size)?;
    let mut writer = call
        .coordinator()
        .body_writer(chunk_owner(call, bucket, upload.id)?, 0);
    let copied = Copied::new(size, algorithm_of(&upload));
    let digests = pump(source.read(call, bytes), copied, &mut writer).await?;
    let body = writer.finish().await?;
    let part = store_part(call, Arc::clone(bucket), upload.id, number, &digests, body).await?;
    let mut shown = checksums::to_document(&part.checksums, 0);
    // The type belongs to objects; a part has none.
    shown.kind = None;
    Ok(xml(copy_part(
        ETag::from_md5(part.md5).as_str(),
        part.modified_ms,
        &shown,
    )))
}
