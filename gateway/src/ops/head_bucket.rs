//! HeadBucket (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html>).

use super::{empty, put_header};
use crate::catalog::Bucket;
use crate::server::Answer;
use http::StatusCode;

/// That it exists, and where.
pub(super) fn head_bucket(bucket: &Bucket) -> Answer {
    let mut answer = empty(StatusCode::OK);
    put_header(answer.headers_mut(), "x-amz-bucket-region", &bucket.region);
    put_header(answer.headers_mut(), "x-amz-access-point-alias", "false");
    answer
}
