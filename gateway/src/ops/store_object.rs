//! The proposal that makes a stored body an object: PutObject's and CopyObject's last step.

use super::invocation::Invocation;
use super::{Call, Failure, uploads};
use crate::catalog::Bucket;
use crate::coordinator::{
    Body, Change, InlineBody, OperationContext, PlacedBody, Proposed, Seen, StoredBody, WriteError,
};
use crate::s3::condition::{WriteCondition, WriteVerdict, evaluate_write};
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::etag::ETag;
use bytes::Bytes;
use http::HeaderMap;
use ringfort_wire::id::{ObjectKey, RowKey};
use ringfort_wire::manifest::{
    BodyList, BodyOwner, BodyPlace, ChunkOwner, KeyState, ObjectHead, StoredChecksum,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An object to be, but for its body.
pub(super) struct Draft {
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) metadata: Vec<(String, String)>,
    pub(super) checksums: Vec<StoredChecksum>,
}

/// What the client is told of a stored object; kept with the operation, so that a retry is told the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) etag: String,
    pub(super) modified_ms: u64,
    pub(super) checksums: Vec<StoredChecksum>,
    pub(super) part_count: u16,
}

const TOLD_VERSION_1: u8 = 1;

impl Told {
    pub(super) fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![TOLD_VERSION_1])
            .expect("serialising plain data to a vector does not fail")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        match bytes.split_first() {
            Some((&TOLD_VERSION_1, body)) => postcard::from_bytes(body).ok(),
            _ => None,
        }
        .ok_or_else(|| {
            Failure::Write(WriteError::Corrupt(
                "the answer kept for a retry cannot be read".to_owned(),
            ))
        })
    }
}

/// One write of an object: its identity is the owner of its chunks.
pub(super) struct Storing<'a> {
    call: &'a Call,
    bucket: Arc<Bucket>,
    key: ObjectKey,
    operation: OperationContext,
    condition: WriteCondition,
}

impl<'a> Storing<'a> {
    /// Begins a write of the request's key.
    pub(super) fn begin(call: &'a Call, bucket: &Arc<Bucket>) -> Result<Self, Failure> {
        Ok(Self {
            call,
            bucket: Arc::clone(bucket),
            key: call.object_key()?.clone(),
            operation: call.coordinator().operation(None),
            condition: WriteCondition::parse(call.headers())?,
        })
    }

    /// Spares a client that waits for `100 Continue` its body, where a linearizable read shows the condition false
    /// already. It decides nothing for the others: where it has no answer, the register's round has.
    pub(super) async fn refuse_early(&self) -> Result<(), Failure> {
        let headers = self.call.headers();
        if self.condition == WriteCondition::None || !may_refuse_early(headers) {
            return Ok(());
        }
        let row = RowKey::object(self.bucket.reference.id, self.key.clone());
        let coordinator = self.call.coordinator();
        let Ok(read) = coordinator
            .read::<KeyState>(self.bucket.reference, &row, false)
            .await
        else {
            return Ok(());
        };
        let Some(head) = read.state.as_ref().and_then(|state| state.head.as_ref()) else {
            return Ok(());
        };
        if !is_by_another(headers, head.modified_ms, self.call.now_ms()) {
            return Ok(());
        }
        Ok(check_condition(
            &self.condition,
            read.state.as_ref(),
            &self.key,
        )?)
    }

    /// Who owns the chunks of the body.
    pub(super) fn chunk_owner(&self) -> Result<ChunkOwner, Failure> {
        let owner = BodyOwner::Operation(self.operation.id);
        let coordinator = self.call.coordinator();
        Ok(coordinator.chunk_owner(self.bucket.reference, &self.key, owner)?)
    }

    /// Makes the body the object of the key, if the condition holds.
    pub(super) async fn store(mut self, draft: Draft, mut body: Body) -> Result<Told, Failure> {
        let fresh = self.call.coordinator().operation(self.invocation(&draft));
        // The identity is as old as the chunks; the time to answer in begins only now that the body is in.
        self.operation.invocation = fresh.invocation;
        self.operation.deadline = fresh.deadline;
        let (mut place, inline) = self.place(&body).await?;
        // From here on an Accept that names the body may leave, and whoever drops this task must not take the chunks.
        body.keep();
        place.keep();
        let stored = self.propose(&draft, place.place(), &inline).await;
        if matches!(stored, Stored::No(_) | Stored::Earlier(_)) {
            // Definite: nothing names these chunks, and nothing will.
            body.give_up();
            place.give_up();
        }
        match stored {
            Stored::Yes(told) | Stored::Earlier(told) => Ok(told),
            Stored::No(failure) | Stored::Perhaps(failure) => Err(failure),
        }
    }

    fn invocation(&self, draft: &Draft) -> Option<[u8; 16]> {
        Invocation::of(self.call, &self.bucket, &self.key)
            .with_condition(&self.condition)
            .with(draft.etag.as_bytes())
            .with(&draft.size.to_le_bytes())
            .with_pairs(&draft.headers)
            .with_pairs(&draft.metadata)
            .digest()
    }

    async fn place(&self, body: &Body) -> Result<(PlacedBody, Bytes), Failure> {
        match body.stored() {
            StoredBody::Inline(bytes) => Ok((PlacedBody::of(BodyPlace::Inline), bytes.clone())),
            StoredBody::Chunks(chunks) => {
                let list = BodyList {
                    chunks: chunks.clone(),
                    parts: Vec::new(),
                };
                let place = self
                    .call
                    .coordinator()
                    .body_place(&self.chunk_owner()?, list)
                    .await?;
                Ok((place, Bytes::new()))
            }
        }
    }

    async fn propose(&mut self, draft: &Draft, place: &BodyPlace, inline: &Bytes) -> Stored {
        for _ in 0..super::ATTEMPTS_MAX {
            let row = RowKey::object(self.bucket.reference.id, self.key.clone());
            let now_ms = self.call.now_ms();
            let owner = BodyOwner::Operation(self.operation.id);
            let condition = &self.condition;
            let decide = |seen: Seen<'_, KeyState>| {
                if let Err(error) = check_condition(condition, seen.state, &self.key) {
                    return Change::Refuse(error);
                }
                let told = Told {
                    etag: draft.etag.clone(),
                    // The register's own order of writes: time never goes back from one version to the next.
                    modified_ms: seen.ballot.time.ms(),
                    checksums: draft.checksums.clone(),
                    part_count: 0,
                };
                let mut state = seen.state.cloned().unwrap_or_default();
                uploads::trim_ended(&mut state, now_ms);
                state.head = Some(Box::new(ObjectHead {
                    version: seen.ballot,
                    owner,
                    modified_ms: told.modified_ms,
                    size: draft.size,
                    etag: draft.etag.clone(),
                    headers: draft.headers.clone(),
                    metadata: draft.metadata.clone(),
                    checksums: draft.checksums.clone(),
                    part_count: 0,
                    body: place.clone(),
                    extensions: Vec::new(),
                }));
                let body = if inline.is_empty() {
                    InlineBody::None
                } else {
                    InlineBody::New(inline.clone())
                };
                Change::Write {
                    state,
                    body,
                    answer: told.encode(),
                }
            };
            let proposed = self
                .call
                .coordinator()
                .propose(self.bucket.reference, &row, &self.operation, decide)
                .await;
            match proposed {
                Err(WriteError::BucketChanged) => match self.call.rejudge(&self.bucket).await {
                    Ok(bucket) => self.bucket = bucket,
                    Err(failure) => return Stored::No(failure),
                },
                done => return self.judge(done),
            }
        }
        Stored::No(ErrorCode::SlowDown.into())
    }

    fn judge(&self, proposed: Result<Proposed<KeyState, S3Error>, WriteError>) -> Stored {
        match proposed {
            Ok(Proposed::Written {
                state, replaced, ..
            }) => {
                if let Some(head) = replaced.and_then(|state| state.head) {
                    self.call.coordinator().delete_replaced(&head);
                }
                match state.head {
                    Some(head) => Stored::Yes(told_of(&head)),
                    None => Stored::Perhaps(ErrorCode::InternalError.into()),
                }
            }
            Ok(Proposed::AlreadyDone { record, .. }) => match Told::decode(&record.answer) {
                // An earlier attempt of this very write had been applied: the object names our chunks.
                Ok(told) if record.id == self.operation.id.id => Stored::Yes(told),
                // The SDK's earlier try has stored the same body in chunks of its own.
                Ok(told) => Stored::Earlier(told),
                Err(failure) => Stored::Perhaps(failure),
            },
            Ok(Proposed::Refused(error)) => Stored::No(error.into()),
            Err(error @ WriteError::OutcomeUnknown(_)) => Stored::Perhaps(error.into()),
            Err(error) if self.condition != WriteCondition::None => {
                Stored::No(Failure::of_conditional(error))
            }
            Err(error) => Stored::No(error.into()),
        }
    }
}

/// The signed bytes of a request are good for 15 minutes before and after their time. What is older than twice that
/// was not written by an earlier sending of them.
const SENT_AGAIN_MAX_MS: u64 = 31 * 60 * 1000;
const INVOCATION_ID: &str = "amz-sdk-invocation-id";

/// Whether the client holds its body back, and this is no later try of a call, which may find its own success.
fn may_refuse_early(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let waits = text("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
    let is_first = text("amz-sdk-request").is_some_and(|fields| {
        fields
            .split(';')
            .any(|field| field.trim().eq_ignore_ascii_case("attempt=1"))
    });
    waits && (is_first || !headers.contains_key(INVOCATION_ID))
}

/// Whether the object cannot be what this very call has written already: a proxy may have sent a first try twice.
fn is_by_another(headers: &HeaderMap, modified_ms: u64, now_ms: u64) -> bool {
    !headers.contains_key(INVOCATION_ID) || now_ms.saturating_sub(modified_ms) > SENT_AGAIN_MAX_MS
}

enum Stored {
    Yes(Told),
    /// By another write of the same invocation.
    Earlier(Told),
    /// Definitely not.
    No(Failure),
    /// It may have happened.
    Perhaps(Failure),
}

fn told_of(head: &ObjectHead) -> Told {
    Told {
        etag: head.etag.clone(),
        modified_ms: head.modified_ms,
        checksums: head.checksums.clone(),
        part_count: head.part_count,
    }
}

/// Judges a write's condition over what the register holds.
pub(super) fn check_condition(
    condition: &WriteCondition,
    state: Option<&KeyState>,
    key: &ObjectKey,
) -> Result<(), S3Error> {
    let current = state
        .and_then(|state| state.head.as_ref())
        .map(|head| ETag::from_text(&head.etag));
    match evaluate_write(condition, current.as_ref()) {
        WriteVerdict::Proceed => Ok(()),
        WriteVerdict::NoSuchKey => Err(super::no_such_key(key)),
        WriteVerdict::PreconditionFailed => {
            let header = match condition {
                WriteCondition::IfAbsent => "If-None-Match",
                WriteCondition::IfMatch(_) | WriteCondition::None => "If-Match",
            };
            Err(S3Error::new(ErrorCode::PreconditionFailed).with_extra("Condition", header))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_told_again() {
        let told = Told {
            etag: "e".to_owned(),
            modified_ms: 9,
            checksums: Vec::new(),
            part_count: 2,
        };
        assert_eq!(Told::decode(&told.encode()).unwrap(), told);
        assert!(Told::decode(&[]).is_err());
        assert!(Told::decode(&[2, 0]).is_err());
    }

    #[test]
    fn only_a_first_try_that_waits_is_refused_early_and_never_for_its_own_success() {
        let map = |lines: &[(&'static str, &str)]| -> HeaderMap {
            lines
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
                .collect()
        };
        let waits = ("expect", "100-Continue");
        let id = (INVOCATION_ID, "i");
        assert!(may_refuse_early(&map(&[waits])));
        assert!(!may_refuse_early(&map(&[])));
        assert!(!may_refuse_early(&map(&[waits, id])));
        assert!(may_refuse_early(&map(&[
            waits,
            id,
            ("amz-sdk-request", "attempt=1; max=3")
        ])));
        for later in ["attempt=2; max=3", "max=3", "ttl=1; attempt=10"] {
            assert!(!may_refuse_early(&map(&[
                waits,
                id,
                ("amz-sdk-request", later)
            ])));
        }
        let half_an_hour_ms = 30 * 60 * 1000;
        assert!(is_by_another(&map(&[]), 5, 5));
        assert!(!is_by_another(&map(&[id]), 0, half_an_hour_ms));
        assert!(!is_by_another(&map(&[id]), 9, 0));
        assert!(is_by_another(&map(&[id]), 0, half_an_hour_ms + 60_001));
    }
}
