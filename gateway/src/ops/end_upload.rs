//! What an ended upload leaves behind, and its removal.

use super::{Call, Failure};
use crate::catalog::Bucket;
use crate::coordinator::{
    BucketRef, Change, Coordinator, InlineBody, ListedPart, ReadError, Seen, UploadRef,
};
use futures_util::stream::{self, StreamExt as _};
use ringfort_wire::id::{ChunkId, RowKey, UploadId};
use ringfort_wire::manifest::{ChunkRef, PartState};
use std::collections::HashSet;
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
    Ok(parts_of(call.coordinator(), bucket.reference, &upload).await?)
}

async fn parts_of(
    coordinator: &Coordinator,
    bucket: BucketRef,
    upload: &UploadRef,
) -> Result<Vec<ListedPart>, ReadError> {
    let mut parts: Vec<ListedPart> = Vec::new();
    loop {
        let after = parts.last().map_or(0, |part| part.number);
        let (page, is_truncated) = coordinator
            .parts(bucket, upload, after, PARTS_A_PAGE)
            .await?;
        let is_empty = page.is_empty();
        parts.extend(page);
        if !is_truncated || is_empty {
            return Ok(parts);
        }
    }
}

/// Deletes the chunks of the ended upload's parts, replaced ones too, but for those that its object uses, and empties
/// the parts' registers: in the background, and once its end is chosen. The parts are read anew, for one may have been
/// replaced while the end was on its way. What fails is left to the collection of orphans: it is garbage by DESIGN
/// 4.12, and harmless.
pub(super) fn clear_parts(call: &Call, bucket: &Bucket, id: UploadId, used: HashSet<ChunkId>) {
    let Ok(key) = call.object_key().cloned() else {
        return;
    };
    let coordinator = Arc::clone(call.coordinator());
    let reference = bucket.reference;
    let upload = UploadRef { key, upload: id };
    tokio::spawn(async move {
        let parts = match parts_of(&coordinator, reference, &upload).await {
            Ok(parts) => parts,
            Err(error) => {
                tracing::debug!(%error, "the parts of an ended upload could not be listed");
                return;
            }
        };
        let numbers: Vec<u16> = parts.iter().map(|part| part.number).collect();
        coordinator.delete_chunks(unused(parts, &used), GRACE);
        stream::iter(numbers)
            .for_each_concurrent(CLEARED_AT_ONCE, |number| {
                let row = RowKey::part(reference.id, upload.key.clone(), id, number);
                let coordinator = Arc::clone(&coordinator);
                async move {
                    let operation = coordinator.operation(None);
                    let decide = |seen: Seen<'_, PartState>| match seen.state {
                        Some(state) if state.part.is_some() => {
                            let mut state = state.clone();
                            state.clear();
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

/// Every chunk of these parts, and of those that they replaced, that the object does not use.
fn unused(parts: Vec<ListedPart>, used: &HashSet<ChunkId>) -> Vec<ChunkRef> {
    parts
        .into_iter()
        .flat_map(|listed| listed.part.chunks.into_iter().chain(listed.replaced))
        .filter(|chunk| !used.contains(&chunk.id))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfort_wire::manifest::PartHead;

    #[test]
    fn replaced_parts_go_and_what_the_object_uses_stays() {
        let chunk = |n: u8| ChunkRef {
            id: ChunkId([n; 16]),
            len: 1,
            blake3: [n; 32],
        };
        let listed = |number, chunks, replaced| ListedPart {
            number,
            part: PartHead {
                modified_ms: 0,
                size: 1,
                md5: [0; 16],
                checksums: Vec::new(),
                chunks,
                extensions: Vec::new(),
            },
            replaced,
        };
        // The object was made of part 1 as it was before it was replaced a last time.
        let parts = vec![
            listed(1, vec![chunk(3)], vec![chunk(1), chunk(2)]),
            listed(2, vec![chunk(4)], vec![]),
            listed(3, vec![chunk(5)], vec![]),
        ];
        let used = [chunk(2).id, chunk(4).id].into();
        assert_eq!(unused(parts, &used), [chunk(3), chunk(1), chunk(5)]);
    }
}
