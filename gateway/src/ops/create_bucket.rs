//! CreateBucket (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html>).

use super::{Call, Failure, empty, put_header};
use crate::catalog::{Created, policy};
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::xml::read_create_bucket::{check_location, read_create_bucket};
use crate::server::Answer;
use bytes::Bytes;
use http::StatusCode;

/// In this region S3 answers a second creation by the same owner with 200, elsewhere with 409.
const LENIENT_REGION: &str = "us-east-1";

/// Makes the bucket; one that its owner makes again stays as it is.
pub(super) async fn create_bucket(call: &Call, document: &Bytes) -> Result<Answer, Failure> {
    let name = call
        .routed
        .bucket
        .as_ref()
        .ok_or(ErrorCode::InvalidBucketName)?;
    if !policy::allow_create(&call.key, name.as_str()) {
        return Err(ErrorCode::AccessDenied.into());
    }
    let region = &call.gateway.config().region;
    check_location(read_create_bucket(document)?.as_deref(), region)?;
    let refused = |code: ErrorCode| S3Error::new(code).with_extra("BucketName", name.as_str());
    match call
        .gateway
        .catalog()
        .create_bucket(name, &call.key.owner)
        .await?
    {
        Created::New(_) => {}
        Created::AlreadyYours(_) if region == LENIENT_REGION => {}
        Created::AlreadyYours(_) => return Err(refused(ErrorCode::BucketAlreadyOwnedByYou).into()),
        Created::Exists => return Err(refused(ErrorCode::BucketAlreadyExists).into()),
    }
    let mut answer = empty(StatusCode::OK);
    put_header(
        answer.headers_mut(),
        "location",
        &format!("/{}", name.as_str()),
    );
    Ok(answer)
}
