//! DeleteBucket (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucket.html>).

use super::{Call, Failure, empty};
use crate::catalog::Bucket;
use crate::server::Answer;
use http::StatusCode;

/// Removes the bucket if it holds no object, also under concurrent writes.
pub(super) async fn delete_bucket(call: &Call, bucket: &Bucket) -> Result<Answer, Failure> {
    call.gateway.catalog().delete_bucket(bucket).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
