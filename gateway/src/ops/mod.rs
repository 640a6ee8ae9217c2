//! S3's operations: one file each, with AWS's name: parse, act, respond.
//!
//! Promises: an operation answers from what its bucket's generation vouched for; one that meets a changed bucket looks
//! it up and is judged again. Everything about a key changes by one proposal on its register.

mod abort_multipart_upload;
mod access_control;
mod bucket_configuration;
mod checksums;
mod complete_multipart_upload;
mod complete_parts;
mod copy_object;
mod copy_source;
mod create_bucket;
mod create_multipart_upload;
mod delete_bucket;
mod delete_object;
mod delete_objects;
mod end_upload;
mod failure;
mod get_object;
mod get_object_attributes;
mod head_bucket;
mod invocation;
mod list_buckets;
mod list_multipart_uploads;
mod list_objects;
mod list_parts;
mod list_position;
mod object_answer;
mod put_object;
mod store_object;
mod upload_part;
mod upload_part_copy;
mod uploads;

pub(crate) use failure::{Failure, refusal};

use crate::catalog::{AccessKey, Action, Bucket, policy};
use crate::coordinator::Coordinator;
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::names::BucketName;
use crate::s3::operation::Operation;
use crate::s3::payload::PayloadReader;
use crate::s3::route::Routed;
use crate::s3::sigv4::Verified;
use crate::s3::unsupported::check_expected_owner;
use crate::s3::xml::write::Owner;
use crate::server::{Answer, AnswerBody, Gateway, Incoming};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use ringfort_wire::id::{ObjectKey, RowKey};
use std::sync::Arc;

/// How often an operation is judged again because its bucket has changed under it.
const ATTEMPTS_MAX: usize = 6;

/// The largest body of one PUT or one part
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>).
const PUT_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// The largest object.
const OBJECT_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024 * 1024;

/// A request whose sender and meaning are known.
pub(crate) struct Call {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) parts: Parts,
    pub(crate) routed: Routed,
    pub(crate) verified: Verified,
    pub(crate) key: Arc<AccessKey>,
    pub(crate) request_id: String,
}

impl Call {
    fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    fn coordinator(&self) -> &Arc<Coordinator> {
        self.gateway.coordinator()
    }

    fn now_ms(&self) -> u64 {
        self.coordinator().environment().now_ms()
    }

    fn object_key(&self) -> Result<&ObjectKey, Failure> {
        Ok(self.routed.key.as_ref().ok_or(ErrorCode::InvalidRequest)?)
    }

    /// The register of the request's key.
    fn row(&self, bucket: &Bucket) -> Result<RowKey, Failure> {
        Ok(RowKey::object(
            bucket.reference.id,
            self.object_key()?.clone(),
        ))
    }

    /// Refuses a version that does not exist: there is only `null`.
    fn check_version(&self) -> Result<(), Failure> {
        match &self.routed.version {
            Some(version) => Ok(version.require_exists(self.object_key()?)?),
            None => Ok(()),
        }
    }

    /// Names the version in the answer, where the client named it.
    fn put_version(&self, headers: &mut HeaderMap) {
        if self.routed.version.is_some() {
            headers.insert("x-amz-version-id", HeaderValue::from_static("null"));
        }
    }

    /// The bucket of this name, if it exists and the key may do this with it. `is_fresh`: read from its register now,
    /// for answers that no storage node vouches for.
    async fn judge(
        &self,
        name: &BucketName,
        action: Action,
        is_fresh: bool,
    ) -> Result<Arc<Bucket>, Failure> {
        let catalog = self.gateway.catalog();
        let found = if is_fresh {
            catalog.bucket_fresh(name).await?
        } else {
            catalog.bucket(name).await?
        };
        let bucket = found.ok_or_else(|| no_such_bucket(name))?;
        if !policy::allow(&self.key, action, &bucket) {
            return Err(ErrorCode::AccessDenied.into());
        }
        Ok(bucket)
    }

    /// The request's bucket once more, after a node has said that it has changed. What was stored meanwhile belongs
    /// to the bucket's id: another bucket of the same name is not the one that the client meant.
    async fn rejudge(&self, bucket: &Bucket) -> Result<Arc<Bucket>, Failure> {
        self.gateway.catalog().forget_bucket(&bucket.name);
        let again = self
            .judge(&bucket.name, action_of(self.routed.operation), true)
            .await?;
        match again.reference.id == bucket.reference.id {
            true => Ok(again),
            false => Err(no_such_bucket(&bucket.name).into()),
        }
    }
}

fn no_such_bucket(name: &BucketName) -> S3Error {
    S3Error::new(ErrorCode::NoSuchBucket).with_extra("BucketName", name.as_str())
}

fn no_such_key(key: &ObjectKey) -> S3Error {
    S3Error::new(ErrorCode::NoSuchKey).with_extra("Key", key.as_str())
}

/// An account as documents show it.
fn owner(account: &str) -> Owner {
    Owner {
        id: account.to_owned(),
        display_name: account.to_owned(),
    }
}

fn action_of(operation: Operation) -> Action {
    match operation {
        Operation::CreateBucket | Operation::DeleteBucket | Operation::PutBucketAcl => {
            Action::ManageBucket
        }
        other if other.is_write() => Action::Write,
        _ => Action::Read,
    }
}

/// Whether the answer tells of the bucket itself, so that a cached one would not do.
fn answers_from_catalog(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::HeadBucket
            | Operation::DeleteBucket
            | Operation::GetBucketLocation
            | Operation::GetBucketVersioning
            | Operation::GetBucketAcl
            | Operation::PutBucketAcl
            | Operation::GetConfiguration(_)
    )
}

/// Does what the request asks.
///
/// # Errors
/// What the client is told.
pub(crate) async fn run(call: Call, incoming: Incoming) -> Result<Answer, S3Error> {
    run_inner(&call, incoming).await.map_err(|failure| {
        if let Some(why) = failure.to_log() {
            tracing::warn!(request_id = %call.request_id, operation = call.routed.operation.name(), %why, "a request failed");
        }
        refusal(&failure)
    })
}

async fn run_inner(call: &Call, incoming: Incoming) -> Result<Answer, Failure> {
    let operation = call.routed.operation;
    if !operation.streams_body() {
        call.verified.refuse_streaming()?;
    }
    match operation {
        Operation::ListBuckets => {
            refuse_content(operation, &incoming)?;
            return list_buckets::list_buckets(call).boxed().await;
        }
        Operation::CreateBucket => {
            let document = document(call, incoming).await?;
            return create_bucket::create_bucket(call, &document).boxed().await;
        }
        _ => {}
    }
    let name = call
        .routed
        .bucket
        .as_ref()
        .ok_or(ErrorCode::InvalidRequest)?;
    let action = action_of(operation);
    let mut bucket = call
        .judge(name, action, answers_from_catalog(operation))
        .await?;
    check_expected_owner(call.headers(), &bucket.owner, None)?;
    match operation {
        Operation::PutObject => {
            return put_object::put_object(call, bucket, incoming).boxed().await;
        }
        Operation::UploadPart => {
            return upload_part::upload_part(call, bucket, incoming)
                .boxed()
                .await;
        }
        _ => {}
    }
    let document = document(call, incoming).await?;
    for _ in 0..ATTEMPTS_MAX {
        match act(call, &bucket, &document).await {
            Err(Failure::BucketChanged) => {
                call.gateway.catalog().forget_bucket(name);
                bucket = call.judge(name, action, true).await?;
            }
            done => return done,
        }
    }
    Err(ErrorCode::SlowDown.into())
}

/// The operations on a bucket or an object that stream no body.
fn act<'a>(
    call: &'a Call,
    bucket: &'a Arc<Bucket>,
    document: &'a Bytes,
) -> BoxFuture<'a, Result<Answer, Failure>> {
    match call.routed.operation {
        Operation::HeadBucket => ready(Ok(head_bucket::head_bucket(bucket))).boxed(),
        Operation::DeleteBucket => delete_bucket::delete_bucket(call, bucket).boxed(),
        Operation::GetBucketLocation => {
            ready(Ok(bucket_configuration::get_bucket_location(bucket))).boxed()
        }
        Operation::GetBucketVersioning => {
            ready(Ok(bucket_configuration::get_bucket_versioning())).boxed()
        }
        Operation::GetBucketAcl => ready(Ok(bucket_configuration::get_bucket_acl(bucket))).boxed(),
        Operation::GetConfiguration(configuration) => {
            bucket_configuration::get_configuration(call, bucket, configuration).boxed()
        }
        Operation::PutBucketAcl | Operation::PutObjectAcl => {
            access_control::put_acl(call, bucket, document).boxed()
        }
        Operation::ListObjects => list_objects::list_objects(call, bucket).boxed(),
        Operation::ListObjectsV2 => list_objects::list_objects_v2(call, bucket).boxed(),
        Operation::ListObjectVersions => list_objects::list_object_versions(call, bucket).boxed(),
        Operation::DeleteObjects => delete_objects::delete_objects(call, bucket, document).boxed(),
        Operation::ListMultipartUploads => {
            list_multipart_uploads::list_multipart_uploads(call, bucket).boxed()
        }
        Operation::CopyObject => copy_object::copy_object(call, bucket).boxed(),
        Operation::GetObject | Operation::HeadObject => {
            get_object::get_object(call, bucket).boxed()
        }
        Operation::DeleteObject => delete_object::delete_object(call, bucket).boxed(),
        Operation::GetObjectAttributes => {
            get_object_attributes::get_object_attributes(call, bucket).boxed()
        }
        Operation::GetObjectAcl => access_control::get_object_acl(call, bucket).boxed(),
        Operation::CreateMultipartUpload => {
            create_multipart_upload::create_multipart_upload(call, bucket).boxed()
        }
        Operation::UploadPartCopy => upload_part_copy::upload_part_copy(call, bucket).boxed(),
        Operation::CompleteMultipartUpload => {
            complete_multipart_upload::complete_multipart_upload(call, bucket, document).boxed()
        }
        Operation::AbortMultipartUpload => {
            abort_multipart_upload::abort_multipart_upload(call, bucket).boxed()
        }
        Operation::ListParts => list_parts::list_parts(call, bucket).boxed(),
        // Handled before a bucket is looked up, or with their bodies.
        Operation::ListBuckets
        | Operation::CreateBucket
        | Operation::PutObject
        | Operation::UploadPart => ready(Err(ErrorCode::InternalError.into())).boxed(),
        Operation::Unsupported { .. } => ready(Err(ErrorCode::NotImplemented.into())).boxed(),
    }
}

/// The document of an operation that takes one; empty for the others, which take no body at all.
async fn document(call: &Call, incoming: Incoming) -> Result<Bytes, Failure> {
    let operation = call.routed.operation;
    let bytes_max = operation.document_bytes_max();
    if bytes_max == 0 {
        refuse_content(operation, &incoming)?;
        return Ok(Bytes::new());
    }
    let mut headers = call.headers().clone();
    if operation == Operation::CompleteMultipartUpload {
        // Here they speak of the object to come, not of the document.
        complete_multipart_upload::remove_object_checksums(&mut headers);
    }
    if incoming.is_empty() && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let reader = PayloadReader::new(&call.verified, &headers, None)?;
    Ok(incoming.document(reader, bytes_max).await?)
}

fn refuse_content(operation: Operation, incoming: &Incoming) -> Result<(), S3Error> {
    match operation {
        _ if incoming.is_empty() => Ok(()),
        Operation::CopyObject | Operation::UploadPartCopy => Err(S3Error::with_message(
            ErrorCode::InvalidRequest,
            "A copy request must not have a body.",
        )),
        _ => Err(ErrorCode::UnexpectedContent.into()),
    }
}

/// An answer without a body.
fn empty(status: StatusCode) -> Answer {
    let mut answer = Answer::new(AnswerBody::Empty);
    *answer.status_mut() = status;
    answer
}

/// A document as an answer.
fn xml(document: String) -> Answer {
    let mut answer = Answer::new(AnswerBody::Full(document.into()));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

/// Puts a header whose value we have made ourselves.
fn put_header(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
