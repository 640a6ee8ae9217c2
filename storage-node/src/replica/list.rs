//! Listing the rows of a bucket's shards on one node: the disks' rows in one order, common prefixes folded and
//! skipped, work bounded by the rows examined and not by those found.

use super::{DiskReplica, node_error};
use crate::engine::{Engine, EngineError, StoredRow};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{Generation, Shard};
use ringfort_ring::placement;
use ringfort_ring::register::acceptor::{self, Reason, Refusal, Slot};
use ringfort_wire::error::{NodeError, NodeErrorCode};
use ringfort_wire::id::{BucketId, ObjectKey};
use ringfort_wire::manifest::KeyState;
use ringfort_wire::message::{
    After, ListEntry, ListReply, ListRequest, ListWhat, ObjectSummary, RaiseRequest, ShardClaim,
    UploadSummary, common_prefix,
};
use std::collections::{HashSet, VecDeque};
use std::ops::Bound;

/// Rows that a cursor fetches at a time.
const BATCH: usize = 256;
/// The most entries of one answer, whatever was asked: it must fit a frame.
const ENTRIES_MAX: usize = 5_000;
/// The most bytes of them: half of what a frame holds.
const BYTES_MAX: usize = 2 * 1024 * 1024;
/// The most rows that one answer looks at, whatever was asked.
const EXAMINE_MAX: u32 = 50_000;

/// Lists over the disks that the request names.
pub(crate) async fn list(
    disks: &[DiskReplica],
    request: ListRequest,
) -> Result<ListReply, NodeError> {
    if request.delimiter.as_deref() == Some("") {
        return Err(NodeError::new(
            NodeErrorCode::Malformed,
            "an empty delimiter",
        ));
    }
    let mut sources = Vec::new();
    for disk in disks {
        let claims: Vec<ShardClaim> = request
            .shards
            .iter()
            .filter(|claim| claim.to.disk == disk.id())
            .copied()
            .collect();
        if claims.is_empty() {
            continue;
        }
        disk.adopt_generation(request.bucket, request.generation)
            .await?;
        for claim in &claims {
            disk.inner.members.settled(claim.partition).await?;
            if let Err(refusal) = disk.admit_shard(request.bucket, request.generation, claim)? {
                return Ok(ListReply::Refused {
                    shard: claim.shard,
                    refusal,
                });
            }
        }
        let shards = claims.iter().map(|claim| claim.shard).collect();
        sources.push((disk.inner.engine.clone(), shards));
    }
    let named: HashSet<_> = request.shards.iter().map(|claim| claim.to.disk).collect();
    if named
        .iter()
        .any(|disk| disks.iter().all(|one| one.id() != *disk))
    {
        return Err(NodeError::new(
            NodeErrorCode::NotMember,
            "a disk that is named is not of this node",
        ));
    }
    let page = tokio::task::spawn_blocking(move || Walk::new(sources, &request).run(&request));
    match page.await {
        Ok(page) => page.map_err(node_error),
        Err(error) => Err(NodeError::new(
            NodeErrorCode::Unavailable,
            format!("the listing was interrupted: {error}"),
        )),
    }
}

impl DiskReplica {
    /// The rules of epoch and generation for one shard. A shard whose replica here is lost is refused too, with the
    /// epoch that was claimed: one such must not keep the others of this node from being listed or raised.
    fn admit_shard(
        &self,
        bucket: BucketId,
        generation: Generation,
        claim: &ShardClaim,
    ) -> Result<Result<(), Refusal>, NodeError> {
        match self.guard(claim.to, claim.partition, bucket) {
            Ok(guard) => Ok(acceptor::admit(
                &Slot::default(),
                &guard,
                claim.epoch,
                generation,
            )),
            Err(error) if error.code == NodeErrorCode::NotMember => Ok(Err(Refusal {
                reason: Reason::Epoch,
                past: Ballot::ZERO,
                floor: Ballot::ZERO,
                bound: Timestamp::ZERO,
                epoch: claim.epoch,
                generation,
                clock_ms: self.inner.environment.now_ms(),
            })),
            Err(error) => Err(error),
        }
    }

    /// Holds a bucket's generation for the shards of this disk; one answer a claim.
    pub(crate) async fn raise(
        &self,
        request: &RaiseRequest,
        claim: &ShardClaim,
    ) -> Result<Option<Refusal>, NodeError> {
        self.adopt_generation(request.bucket, request.generation)
            .await?;
        self.inner.members.settled(claim.partition).await?;
        let admitted = self.admit_shard(request.bucket, request.generation, claim)?;
        Ok(admitted.err())
    }
}

/// Rows of one disk in order, fetched in batches.
struct Cursor {
    engine: Engine,
    shards: HashSet<Shard>,
    batch: VecDeque<(ObjectKey, StoredRow)>,
    next: Option<Bound<Vec<u8>>>,
}

impl Cursor {
    fn peek(&mut self, bucket: BucketId) -> Result<Option<&ObjectKey>, EngineError> {
        while self.batch.is_empty() {
            let Some(from) = self.next.take() else {
                return Ok(None);
            };
            let from = from.as_ref().map(Vec::as_slice);
            let rows = self.engine.scan_objects(bucket, from, BATCH)?;
            if rows.len() == BATCH
                && let Some((last, _)) = rows.last()
            {
                self.next = Some(Bound::Excluded(last.as_bytes().to_vec()));
            }
            self.batch = rows.into();
        }
        Ok(self.batch.front().map(|(key, _)| key))
    }

    /// Goes on behind every key below `bound`.
    fn seek(&mut self, bound: &[u8]) {
        while self
            .batch
            .front()
            .is_some_and(|(key, _)| key.as_bytes() < bound)
        {
            self.batch.pop_front();
        }
        if self.batch.is_empty() && self.next.is_some() {
            self.next = Some(Bound::Included(bound.to_vec()));
        }
    }
}

struct Walk {
    cursors: Vec<Cursor>,
    examined: u32,
}

impl Walk {
    fn new(sources: Vec<(Engine, HashSet<Shard>)>, request: &ListRequest) -> Self {
        let start = start_of(request);
        let cursors = sources
            .into_iter()
            .map(|(engine, shards)| Cursor {
                engine,
                shards,
                batch: VecDeque::new(),
                next: Some(start.clone()),
            })
            .collect();
        Self {
            cursors,
            examined: 0,
        }
    }

    /// The next row of any disk that holds its shard.
    fn next(
        &mut self,
        request: &ListRequest,
    ) -> Result<Option<(ObjectKey, StoredRow, bool)>, EngineError> {
        let mut smallest: Option<(usize, ObjectKey)> = None;
        for (index, cursor) in self.cursors.iter_mut().enumerate() {
            let Some(key) = cursor.peek(request.bucket)? else {
                continue;
            };
            if smallest.as_ref().is_none_or(|(_, known)| key < known) {
                smallest = Some((index, key.clone()));
            }
        }
        let Some((index, key)) = smallest else {
            return Ok(None);
        };
        let cursor = &mut self.cursors[index];
        let Some((_, row)) = cursor.batch.pop_front() else {
            return Ok(None);
        };
        self.examined += 1;
        let shard = placement::shard_of(key.as_bytes(), request.shard_count);
        let is_wanted = cursor.shards.contains(&shard);
        Ok(Some((key, row, is_wanted)))
    }

    fn run(mut self, request: &ListRequest) -> Result<ListReply, EngineError> {
        let limit = usize::try_from(request.limit)
            .unwrap_or(ENTRIES_MAX)
            .min(ENTRIES_MAX);
        let examine_limit = request.examine_limit.clamp(1, EXAMINE_MAX);
        let mut entries: Vec<ListEntry> = Vec::new();
        let (mut live, mut bytes): (usize, usize) = (0, 0);
        let mut position = request.after.clone();
        loop {
            // Dead rows count against the frame as well as live ones.
            let is_page_full = live >= limit || entries.len() >= ENTRIES_MAX || bytes >= BYTES_MAX;
            if is_page_full || self.examined >= examine_limit {
                return Ok(ListReply::Page {
                    entries,
                    examined_to: Some(position),
                });
            }
            let Some((key, row, is_wanted)) = self.next(request)? else {
                break;
            };
            if !key.as_str().starts_with(&request.prefix) {
                // In order, so everything with the prefix lies before.
                break;
            }
            position = After::Key(key.as_str().to_owned());
            if !is_wanted {
                continue;
            }
            let state = KeyState::decode(&row.state).map_err(|error| EngineError::Corrupt {
                what: format!("the state of a row: {error}"),
                place: "the index".to_owned(),
            })?;
            let is_live = match request.what {
                ListWhat::Objects => state.head.is_some(),
                ListWhat::Uploads => !state.uploads.is_empty(),
            };
            live += usize::from(is_live);
            let folded = common_prefix(key.as_str(), &request.prefix, request.delimiter.as_deref());
            if is_live && let Some(prefix) = folded.map(str::to_owned) {
                let behind = successor(prefix.as_bytes());
                for cursor in &mut self.cursors {
                    cursor.seek(&behind);
                }
                position = After::Prefix(prefix.clone());
                let entry = ListEntry::Prefix {
                    prefix,
                    witness: key,
                    accepted: row.ballot,
                };
                bytes += entry.bytes_at_most();
                entries.push(entry);
                continue;
            }
            let entry = ListEntry::Row {
                accepted: row.ballot,
                object: state
                    .head
                    .as_deref()
                    .filter(|_| request.what == ListWhat::Objects)
                    .map(ObjectSummary::from),
                uploads: match request.what {
                    ListWhat::Objects => Vec::new(),
                    ListWhat::Uploads => state.uploads.iter().map(UploadSummary::from).collect(),
                },
                key,
            };
            bytes += entry.bytes_at_most();
            entries.push(entry);
        }
        Ok(ListReply::Page {
            entries,
            examined_to: None,
        })
    }
}

/// Where the walk begins: at the later of prefix and position.
fn start_of(request: &ListRequest) -> Bound<Vec<u8>> {
    let prefix = request.prefix.as_bytes();
    match &request.after {
        After::Start => Bound::Included(prefix.to_vec()),
        After::Key(key) if key.as_bytes() >= prefix => Bound::Excluded(key.as_bytes().to_vec()),
        After::At(text) if text.as_bytes() >= prefix => Bound::Included(text.as_bytes().to_vec()),
        After::Prefix(skipped) => {
            let behind = successor(skipped.as_bytes());
            Bound::Included(if behind.as_slice() >= prefix {
                behind
            } else {
                prefix.to_vec()
            })
        }
        After::Key(_) | After::At(_) => Bound::Included(prefix.to_vec()),
    }
}

/// The smallest byte string behind every one that begins with `prefix`, which is UTF-8 and so holds no 0xff.
fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut bound = prefix.to_vec();
    if let Some(last) = bound.last_mut() {
        *last = last.saturating_add(1);
    }
    bound
}
