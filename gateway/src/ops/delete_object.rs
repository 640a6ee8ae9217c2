//! DeleteObject (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html>).

use super::invocation::Invocation;
use super::store_object::check_condition;
use super::{ATTEMPTS_MAX, Call, Failure, empty, uploads};
use crate::catalog::Bucket;
use crate::coordinator::{Change, InlineBody, Proposed, Seen, WriteError};
use crate::s3::condition::WriteCondition;
use crate::s3::error::{ErrorCode, S3Error};
use crate::server::Answer;
use http::StatusCode;
use ringfort_wire::id::{InvocationDigest, ObjectKey, RowKey};
use ringfort_wire::manifest::KeyState;
use std::sync::Arc;

/// Removes the object. Removing what is not there is a success too.
pub(super) async fn delete_object(call: &Call, bucket: &Arc<Bucket>) -> Result<Answer, Failure> {
    call.check_version()?;
    let condition = WriteCondition::parse(call.headers())?;
    let key = call.object_key()?;
    let invocation = Invocation::of(call, bucket, key)
        .with_condition(&condition)
        .digest();
    delete_key(call, bucket, key, &condition, invocation).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

enum No {
    /// There is no object, and no condition that minds: nothing to write.
    NothingThere,
    Refused(S3Error),
}

/// Writes that the key has no object, if the condition holds. Its open uploads stay.
pub(super) async fn delete_key(
    call: &Call,
    bucket: &Arc<Bucket>,
    key: &ObjectKey,
    condition: &WriteCondition,
    invocation: Option<InvocationDigest>,
) -> Result<(), Failure> {
    let operation = call.coordinator().operation(invocation);
    let mut bucket = Arc::clone(bucket);
    for _ in 0..ATTEMPTS_MAX {
        let row = RowKey::object(bucket.reference.id, key.clone());
        let now_ms = call.now_ms();
        let decide = |seen: Seen<'_, KeyState>| {
            if let Err(error) = check_condition(condition, seen.state, key) {
                return Change::Refuse(No::Refused(error));
            }
            match seen.state {
                Some(state) if state.head.is_some() => {
                    let mut state = state.clone();
                    state.head = None;
                    uploads::trim_ended(&mut state, now_ms);
                    Change::Write {
                        state,
                        body: InlineBody::None,
                        answer: Vec::new(),
                    }
                }
                _ => Change::Refuse(No::NothingThere),
            }
        };
        match call
            .coordinator()
            .propose(bucket.reference, &row, &operation, decide)
            .await
        {
            Ok(Proposed::Written { replaced, .. }) => {
                if let Some(head) = replaced.and_then(|state| state.head) {
                    call.coordinator().delete_replaced(&head);
                }
                return Ok(());
            }
            Ok(Proposed::AlreadyDone { .. } | Proposed::Refused(No::NothingThere)) => return Ok(()),
            Ok(Proposed::Refused(No::Refused(error))) => return Err(error.into()),
            Err(WriteError::BucketChanged) => bucket = call.rejudge(&bucket).await?,
            Err(error) if *condition != WriteCondition::None => {
                return Err(Failure::of_conditional(error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(ErrorCode::SlowDown.into())
}
