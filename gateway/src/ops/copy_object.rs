//! CopyObject (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>).
//!
//! The copy has chunks of its own: chunks are never shared between keys (DESIGN 4.13), so deleting one object never
//! has to ask about another.

use super::copy_source::Source;
use super::store_object::{Draft, Storing};
use super::{Call, Failure, checksums, xml};
use crate::catalog::Bucket;
use crate::s3::checksum::ChecksumAlgorithm;
use crate::s3::copy_source::CopySource;
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::etag::ETag;
use crate::s3::headers::{MetadataDirective, ObjectHeaders};
use crate::s3::xml::write_object::copy_object as write_copy;
use crate::server::{Answer, Copied, pump};
use http::HeaderMap;
use ringfort_wire::manifest::{ObjectHead, StoredChecksum};
use std::sync::Arc;

/// Reads the source, stores it anew, then makes it the object.
pub(super) async fn copy_object(call: &Call, bucket: &Arc<Bucket>) -> Result<Answer, Failure> {
    let named = CopySource::from_headers(call.headers())?.ok_or(ErrorCode::InvalidArgument)?;
    let directive = MetadataDirective::from_headers(call.headers())?;
    named.refuse_onto_itself(&bucket.name, call.object_key()?, directive)?;
    let algorithm = asked_algorithm(call.headers())?;
    let replacement = match directive {
        MetadataDirective::Copy => None,
        MetadataDirective::Replace => Some(ObjectHeaders::from_request(call.headers())?),
    };
    let storing = Storing::begin(call, bucket)?;
    let source = Source::open(call, bucket, &named).await?;
    let size = source.head.size;
    Source::check_size(size)?;
    let algorithm = algorithm.unwrap_or_else(|| algorithm_of(&source.head.checksums));
    let mut writer = call
        .coordinator()
        .body_writer(storing.chunk_owner()?, call.coordinator().inline_max());
    let digests = pump(
        source.read(call, 0..size),
        Copied::new(size, algorithm),
        &mut writer,
    )
    .await?;
    let body = writer.finish().await?;
    let object = replacement.unwrap_or_else(|| headers_of(&source.head));
    let draft = Draft {
        size,
        etag: ETag::from_md5(digests.md5).as_str().to_owned(),
        headers: object.headers,
        metadata: object.metadata,
        checksums: digests.checksum.iter().map(checksums::to_stored).collect(),
    };
    let told = storing.store(draft, body).await?;
    let shown = checksums::to_document(&told.checksums, told.part_count);
    Ok(xml(write_copy(&told.etag, told.modified_ms, &shown)))
}

fn headers_of(head: &ObjectHead) -> ObjectHeaders {
    ObjectHeaders {
        headers: head.headers.clone(),
        metadata: head.metadata.clone(),
    }
}

/// `x-amz-checksum-algorithm`: what the copy is to have, whatever the source has.
fn asked_algorithm(headers: &HeaderMap) -> Result<Option<ChecksumAlgorithm>, S3Error> {
    let Some(value) = headers.get("x-amz-checksum-algorithm") else {
        return Ok(None);
    };
    let algorithm = value.to_str().ok().and_then(ChecksumAlgorithm::from_name);
    algorithm.map(Some).ok_or_else(|| {
        S3Error::with_message(
            ErrorCode::InvalidRequest,
            "Checksum algorithm provided is unsupported. Please try again with any of the valid types: \
             [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
        )
    })
}

/// A copy keeps the algorithm of its source.
fn algorithm_of(source: &[StoredChecksum]) -> ChecksumAlgorithm {
    source.first().map_or(ChecksumAlgorithm::DEFAULT, |stored| {
        checksums::to_algorithm(stored.algorithm)
    })
}
