//! The object that CopyObject and UploadPartCopy read.

use super::object_answer::{modified, require_object};
use super::{Call, Failure, PUT_BYTES_MAX};
use crate::catalog::{Action, Bucket};
use crate::coordinator::BucketRef;
use crate::s3::condition::{ReadCondition, evaluate_copy_source};
use crate::s3::copy_source::CopySource;
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::etag::ETag;
use crate::s3::unsupported::check_expected_owner;
use crate::server::Stored;
use bytes::Bytes;
use ringfort_wire::id::RowKey;
use ringfort_wire::manifest::{KeyState, ObjectHead};
use std::ops::Range;

/// A source that may be copied: found, permitted, its conditions held.
pub(super) struct Source {
    pub(super) head: Box<ObjectHead>,
    bucket: BucketRef,
    row: RowKey,
    inline: Bytes,
}

impl Source {
    /// Reads the source that the headers name, for a copy into `target`.
    pub(super) async fn open(
        call: &Call,
        target: &Bucket,
        named: &CopySource,
    ) -> Result<Self, Failure> {
        let mut attempts = 0;
        loop {
            match Self::open_once(call, target, named, attempts > 0).await {
                // The source's bucket has changed, which is not the request's own: it is looked up again here.
                Err(Failure::BucketChanged) if attempts < super::ATTEMPTS_MAX => {
                    call.gateway.catalog().forget_bucket(&named.bucket);
                    attempts += 1;
                }
                done => return done,
            }
        }
    }

    async fn open_once(
        call: &Call,
        target: &Bucket,
        named: &CopySource,
        is_fresh: bool,
    ) -> Result<Self, Failure> {
        let bucket = call.judge(&named.bucket, Action::Read, is_fresh).await?;
        check_expected_owner(call.headers(), &target.owner, Some(&bucket.owner))?;
        if let Some(version) = &named.version {
            version.require_exists(&named.key)?;
        }
        let row = RowKey::object(bucket.reference.id, named.key.clone());
        let read = call
            .coordinator()
            .read::<KeyState>(bucket.reference, &row, true)
            .await?;
        let head = require_object(read.state, &named.key)?;
        let condition = ReadCondition::parse_copy_source(call.headers());
        evaluate_copy_source(&condition, &ETag::from_text(&head.etag), modified(&head))?;
        Ok(Self {
            head,
            bucket: bucket.reference,
            row,
            inline: read.body,
        })
    }

    /// Refuses more than one copy may move.
    pub(super) fn check_size(size: u64) -> Result<(), S3Error> {
        if size <= PUT_BYTES_MAX {
            return Ok(());
        }
        Err(S3Error::with_message(
            ErrorCode::InvalidRequest,
            format!(
                "The specified copy source is larger than the maximum allowable size for a copy source: {PUT_BYTES_MAX}"
            ),
        ))
    }

    /// Some of its bytes.
    pub(super) fn read(&self, call: &Call, range: Range<u64>) -> Stored {
        Stored(call.coordinator().read_body(
            self.bucket,
            &self.row,
            &self.head,
            self.inline.clone(),
            range,
        ))
    }
}
