//! DeleteObjects (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>).
//!
//! Every entry is a deletion of its own, with its own condition and its own outcome; one that fails stops no other.

use super::delete_object::{delete_key, is_gone};
use super::{Call, Failure, refusal, xml};
use crate::catalog::Bucket;
use crate::s3::checksum_headers::RequestChecksums;
use crate::s3::condition::WriteCondition;
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::sigv4::PayloadMode;
use crate::s3::xml::read_delete::{DeleteEntry, read_delete};
use crate::s3::xml::write_object::{DeleteOutcome, delete_objects as write_outcomes};
use crate::server::Answer;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use std::sync::Arc;

/// How many entries are under way at once.
const AT_ONCE: usize = 8;

/// Removes every object named.
pub(super) async fn delete_objects(
    call: &Call,
    bucket: &Arc<Bucket>,
    document: &Bytes,
) -> Result<Answer, Failure> {
    // A flipped bit in a list of deletions would delete what nobody named.
    let is_signed = matches!(call.verified.payload(), PayloadMode::Hash(_));
    if !is_signed && !RequestChecksums::parse(call.headers())?.is_some() {
        return Err(S3Error::with_message(
            ErrorCode::InvalidRequest,
            "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
        )
        .into());
    }
    let request = read_delete(document)?;
    let is_quiet = request.is_quiet;
    let outcomes: Vec<DeleteOutcome> = stream::iter(request.objects)
        .map(|entry| outcome(call, bucket, entry).boxed())
        .buffered(AT_ONCE)
        .collect()
        .await;
    Ok(xml(write_outcomes(&outcomes, is_quiet)))
}

async fn outcome(call: &Call, bucket: &Arc<Bucket>, entry: DeleteEntry) -> DeleteOutcome {
    let result = delete_entry(call, bucket, &entry).await.map_err(|failure| {
        if let Some(why) = failure.to_log() {
            tracing::warn!(request_id = %call.request_id, %why, "an entry of DeleteObjects failed");
        }
        refusal(&failure)
    });
    DeleteOutcome {
        key: entry.key,
        version_id: entry.version_id,
        result,
    }
}

async fn delete_entry(
    call: &Call,
    bucket: &Arc<Bucket>,
    entry: &DeleteEntry,
) -> Result<(), Failure> {
    let key = entry.object_key()?;
    // S3 has these two on directory buckets only; passing over them would delete what the client wants kept.
    if entry.last_modified_ms.is_some() || entry.size_bytes.is_some() {
        return Err(ErrorCode::NotImplemented.into());
    }
    let condition = entry
        .etag
        .as_deref()
        .map_or(WriteCondition::None, WriteCondition::if_match);
    if let Some(version) = entry.version()?
        && is_gone(&version, &condition, &key)?
    {
        return Ok(());
    }
    // Without an entry number of the client's own, two entries of one invocation could not be told apart.
    delete_key(call, bucket, &key, &condition, None).await
}
