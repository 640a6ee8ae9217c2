//! AbortMultipartUpload (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html>).

use super::end_upload::clear_parts;
use super::invocation::Invocation;
use super::uploads::{self, find_open, no_such_upload};
use super::{Call, Failure, empty};
use crate::catalog::Bucket;
use crate::coordinator::{Change, Proposed, Seen};
use crate::server::Answer;
use http::StatusCode;
use ringfort_wire::manifest::{EndedUpload, KeyState, UploadEnd};
use std::collections::HashSet;

/// Ends the upload. Whoever completes it at the same time wins or loses the same round.
pub(super) async fn abort_multipart_upload(
    call: &Call,
    bucket: &Bucket,
) -> Result<Answer, Failure> {
    let id = call.upload_id()?;
    let invocation = Invocation::of(call, bucket, call.object_key()?)
        .with(&id.0)
        .digest();
    let operation = call.coordinator().operation(invocation);
    let row = call.row(bucket)?;
    let now_ms = call.now_ms();
    let decide = |seen: Seen<'_, KeyState>| {
        let Some(state) = seen
            .state
            .filter(|state| find_open(Some(state), id).is_some())
        else {
            return Change::Refuse(no_such_upload(&id.to_string()));
        };
        let mut state = state.clone();
        state.uploads.retain(|open| open.id != id);
        state.ended.push(EndedUpload {
            id,
            ended_ms: now_ms,
            how: UploadEnd::Aborted,
        });
        uploads::trim_ended(&mut state, now_ms);
        let body = uploads::body_kept(&state);
        Change::Write {
            state,
            body,
            answer: Vec::new(),
        }
    };
    match call
        .coordinator()
        .propose(bucket.reference, &row, &operation, decide)
        .await?
    {
        Proposed::Written { .. } | Proposed::AlreadyDone { .. } => {}
        Proposed::Refused(error) => return Err(error.into()),
    }
    // The upload is aborted whatever comes of this.
    clear_parts(call, bucket, id, HashSet::new());
    Ok(empty(StatusCode::NO_CONTENT))
}
