//! What an ended upload leaves behind, and its removal.

use super::{Call, Failure};
use crate::catalog::Bucket;
use crate::coordinator::{Change, InlineBody, ListedPart, Seen, UploadRef};
use futures_util::stream::{self, StreamExt as _};
use ringfort_wire::id::{RowKey, UploadId};
use ringfort_wire::manifest::{ChunkRef, PartState};
use std::sync::Arc;
use std::time::Duration;

/// Parts asked for at once.
const PARTS_A_PAGE: usize = 1_000;
/// Registers of parts that are emptied at once: other clients go first.
const CLEARED_AT_ONCE: usize = 4;
/// Readers of the object that used these chunks before may still be under way.
const GRACE: Duration = Duration::from_secs(60);

/// Every part of the upload, by rising number.
pub(super) async fn all_parts(
    call: &Call,
    bucket: &Bucket,
    id: UploadId,
) -> Result<Vec<ListedPart>, Failure> {
    let upload = UploadRef {
        key: call.object_key()?.clone(),
        upload: id,
    };
    let mut parts: Vec<ListedPart> = Vec::new();
    loop {
        let after = parts.last().map_or(0, |part| part.number);
        let (page, is_truncated) = call
            .coordinator()
            .parts(bucket.reference, &upload, after, PARTS_A_PAGE)
            .await?;
        let is_empty = page.is_empty();
        parts.extend(page);
        if !is_truncated || is_empty {
            return Ok(parts);
        }
    }
}

/// Deletes chunks that no object names, and empties the parts' registers, in the background. What fails is left to
/// the collection of orphans: it is garbage by DESIGN 4.12, and harmless.
pub(super) fn clear_parts(
    call: &Call,
    bucket: &Bucket,
    id: UploadId,
    numbers: Vec<u16>,
    unused: Vec<ChunkRef>,
) {
    let Ok(key) = call.object_key().cloned() else {
        return;
    };
    let coordinator = Arc::clone(call.coordinator());
    coordinator.delete_chunks(unused, GRACE);
    let reference = bucket.reference;
    tokio::spawn(async move {
        stream::iter(numbers)
            .for_each_concurrent(CLEARED_AT_ONCE, |number| {
                let row = RowKey::part(reference.id, key.clone(), id, number);
                let coordinator = Arc::clone(&coordinator);
                async move {
                    let operation = coordinator.operation(None);
                    let decide = |seen: Seen<'_, PartState>| match seen.state {
                        Some(state) if state.part.is_some() => {
                            let state = PartState {
                                part: None,
                                ..state.clone()
                            };
                            Change::Write {
                                state,
                                body: InlineBody::None,
                                answer: Vec::new(),
                            }
                        }
                        _ => Change::Refuse(()),
                    };
                    if let Err(error) = coordinator
                        .propose(reference, &row, &operation, decide)
                        .await
                    {
                        tracing::debug!(%error, "a part's register could not be emptied");
                    }
                }
            })
            .await;
    });
}
