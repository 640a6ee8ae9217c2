//! DeleteObject (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html>).

use super::invocation::Invocation;
use super::store_object::check_condition;
use super::{ATTEMPTS_MAX, Call, Failure, empty, put_header, uploads};
use crate::catalog::Bucket;
use crate::coordinator::{Change, InlineBody, Proposed, Seen, WriteError};
use crate::s3::condition::WriteCondition;
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::names::VersionId;
use crate::server::Answer;
use http::StatusCode;
use ringfort_wire::id::{InvocationDigest, ObjectKey, RowKey};
use ringfort_wire::manifest::KeyState;
use std::sync::Arc;

/// Removes the object. Removing what is not there is a success too.
pub(super) async fn delete_object(call: &Call, bucket: &Arc<Bucket>) -> Result<Answer, Failure> {
    let condition = WriteCondition::parse(call.headers())?;
    let key = call.object_key()?;
    if let Some(version) = &call.routed.version
        && is_gone(version, &condition, key)?
    {
        let mut answer = empty(StatusCode::NO_CONTENT);
        put_header(answer.headers_mut(), "x-amz-version-id", version.as_str());
        return Ok(answer);
    }
    let invocation = Invocation::of(call, bucket, key)
        .with_condition(&condition)
        .digest();
    delete_key(call, bucket, key, &condition, invocation).await?;
    let mut answer = empty(StatusCode::NO_CONTENT);
    call.put_version(answer.headers_mut());
    Ok(answer)
}

/// Whether the version is one that never was: removing it is a success, like removing a key that is not there, and
/// leaves the object alone.
///
/// # Errors
/// `NoSuchVersion` where a condition asks something of it.
pub(super) fn is_gone(
    version: &VersionId,
    condition: &WriteCondition,
    key: &ObjectKey,
) -> Result<bool, S3Error> {
    match (version.require_exists(key), condition) {
        (Ok(()), _) => Ok(false),
        (Err(_), WriteCondition::None) => Ok(true),
        (Err(error), _) => Err(error),
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_never_was_is_gone_already_unless_a_condition_asks_for_it() {
        let key = ObjectKey::parse("k").unwrap();
        let unknown = VersionId::parse("v5n1PPUjOCMHLyyfq0ayjoZ5RZLfVQKA").unwrap();
        let check = |version: &VersionId, condition| {
            is_gone(version, &condition, &key).map_err(|error| error.code)
        };
        assert_eq!(check(&VersionId::Null, WriteCondition::None), Ok(false));
        assert_eq!(check(&unknown, WriteCondition::None), Ok(true));
        assert_eq!(
            check(&unknown, WriteCondition::if_match("a")),
            Err(ErrorCode::NoSuchVersion)
        );
        assert_eq!(
            check(&VersionId::Null, WriteCondition::if_match("a")),
            Ok(false)
        );
    }
}
