//! The multipart uploads of a key, as its register lists them.

use super::{Call, Failure};
use crate::catalog::Bucket;
use crate::coordinator::InlineBody;
use crate::s3::error::{ErrorCode, S3Error};
use ringfort_wire::id::UploadId;
use ringfort_wire::manifest::{EndedUpload, KeyState, OpenUpload};

/// Open uploads of one key. They travel with every write of the key, so they cannot be without number.
pub(super) const OPEN_MAX: usize = 1_000;
/// How long an ended upload is remembered, for the answers to retries.
const ENDED_KEPT_MS: u64 = EndedUpload::KEPT_MS;
/// And how many of them.
const ENDED_MAX: usize = 64;

/// Forgets ended uploads that are old, or too many.
pub(super) fn trim_ended(state: &mut KeyState, now_ms: u64) {
    state
        .ended
        .retain(|ended| now_ms.saturating_sub(ended.ended_ms) < ENDED_KEPT_MS);
    let surplus = state.ended.len().saturating_sub(ENDED_MAX);
    state.ended.drain(..surplus);
}

/// The inline body of a head that stays what it is; a key without an object has none to keep.
pub(super) fn body_kept(state: &KeyState) -> InlineBody {
    if state.head.is_some() {
        InlineBody::Keep
    } else {
        InlineBody::None
    }
}

pub(super) fn find_open(state: Option<&KeyState>, id: UploadId) -> Option<&OpenUpload> {
    state?.uploads.iter().find(|upload| upload.id == id)
}

pub(super) fn find_ended(state: Option<&KeyState>, id: UploadId) -> Option<&EndedUpload> {
    state?.ended.iter().find(|ended| ended.id == id)
}

pub(super) fn no_such_upload(id: &str) -> S3Error {
    let shown: String = id.chars().take(128).collect();
    S3Error::new(ErrorCode::NoSuchUpload).with_extra("UploadId", shown)
}

impl Call {
    /// The upload that the query names. A text that no upload ever had names none.
    pub(super) fn upload_id(&self) -> Result<UploadId, Failure> {
        let text = self.routed.query.get("uploadId").unwrap_or("");
        Ok(UploadId::parse(text).ok_or_else(|| no_such_upload(text))?)
    }

    /// The open upload that the query names, by a settled read of the key's register.
    pub(super) async fn open_upload(&self, bucket: &Bucket) -> Result<OpenUpload, Failure> {
        let id = self.upload_id()?;
        let row = self.row(bucket)?;
        let read = self
            .coordinator()
            .read::<KeyState>(bucket.reference, &row, false)
            .await?;
        let open = find_open(read.state.as_ref(), id).cloned();
        Ok(open.ok_or_else(|| no_such_upload(&id.to_string()))?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use ringfort_wire::manifest::UploadEnd;

    fn ended(n: u8, ended_ms: u64) -> EndedUpload {
        EndedUpload {
            id: UploadId([n; 16]),
            ended_ms,
            how: UploadEnd::Aborted,
        }
    }

    #[test]
    fn a_key_without_an_object_has_no_body_to_keep() {
        assert_eq!(body_kept(&KeyState::default()), InlineBody::None);
    }

    #[test]
    fn ended_uploads_are_kept_for_seven_days_and_64_at_most() {
        let mut state = KeyState {
            ended: (0..70).map(|n| ended(n, 1000)).collect(),
            ..KeyState::default()
        };
        trim_ended(&mut state, 2000);
        assert_eq!(state.ended.len(), 64);
        assert_eq!(state.ended[0].id, UploadId([6; 16]));
        assert!(find_ended(Some(&state), UploadId([69; 16])).is_some());
        trim_ended(&mut state, 999 + ENDED_KEPT_MS);
        assert_eq!(state.ended.len(), 64);
        trim_ended(&mut state, 1000 + ENDED_KEPT_MS);
        assert!(state.ended.is_empty());
    }
}
