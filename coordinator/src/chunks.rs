//! One chunk: on a majority of its partition's replicas before it counts, and read from any of them.

use super::fanout::{Answers, first_of};
use super::propose::NO_QUORUM_PATIENCE;
use super::view::Place;
use super::{Coordinator, ReadError, WriteError};
use bytes::Bytes;
use parking_lot::Mutex;
use ringfort_ring::id::NodeId;
use ringfort_ring::quorum::{Replica, Tally, Verdict};
use ringfort_ring::register::acceptor::Reason;
use ringfort_wire::error::{CallError, NodeErrorCode};
use ringfort_wire::manifest::{ChunkOwner, ChunkRef};
use ringfort_wire::message::{
    DeleteChunksRequest, FetchChunkReply, FetchChunkRequest, StoreChunkReply, StoreChunkRequest,
};
use ringfort_wire::transport::Lane;
use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

/// How many bytes may be on their way to replicas that are slower than their majority. Beyond, the slow ones get a hint
/// instead and fetch the chunk from their peers: a paused node must not fill the gateway's memory.
pub(super) const STRAGGLING_BYTES: usize = 32 << 20;

/// Why a replica did not give a chunk.
struct NotFetched {
    is_missing: bool,
    /// The layout that it was asked by is not the newest.
    is_stale: bool,
    why: String,
}

impl NotFetched {
    const fn because(why: String) -> Self {
        Self {
            is_missing: false,
            is_stale: false,
            why,
        }
    }
}

impl Coordinator {
    /// Stores a chunk on a majority of its replicas (of each half, while its partition moves).
    ///
    /// # Errors
    /// Where no majority took it within the operation's time. Replicas may then hold it: delete it.
    pub(super) async fn store_chunk(
        &self,
        chunk: ChunkRef,
        data: Bytes,
        owner: &ChunkOwner,
    ) -> Result<(), WriteError> {
        let began = Instant::now();
        let deadline = began + self.inner.options.operation_timeout;
        let mut why = "no majority answered in time".to_owned();
        let mut attempt: u32 = 0;
        loop {
            let place = self
                .view()
                .and_then(|view| view.place_chunk(chunk.id))
                .ok_or_else(|| {
                    WriteError::NotEnoughReplicas("the cluster has not formed yet".to_owned())
                })?;
            let targets = place.targets();
            let mut tally = Tally::new(place.rule.clone());
            let asked = self.worth_asking(&place, &targets, data.len());
            for (replica, _) in targets.iter().filter(|target| !asked.contains(target)) {
                self.inner.hints.chunk_missed(*replica, chunk, owner);
                tally.record(*replica, false);
            }
            let (coordinator, missed) = (self.clone(), owner.clone());
            let mut answers = self.fan_out_watched(
                Lane::Chunks,
                &asked,
                |to| {
                    let request = StoreChunkRequest {
                        to,
                        partition: place.partition,
                        epoch: place.epoch,
                        chunk,
                        owner: owner.clone(),
                    };
                    (request, data.clone())
                },
                move |replica, reply| {
                    if !matches!(reply, Ok((StoreChunkReply::Stored, _))) {
                        coordinator
                            .inner
                            .hints
                            .chunk_missed(replica, chunk, &missed);
                    }
                },
            );
            let mut errors = Vec::new();
            let mut full = 0;
            let mut is_stale = false;
            // Whether no failure was anything else than a replica that is not there.
            let mut are_gone = true;
            while let Ok(Some((from, reply))) = timeout_at(deadline, answers.next()).await {
                let is_stored = match reply {
                    Ok((StoreChunkReply::Stored, _)) => true,
                    Ok((StoreChunkReply::Refused(refusal), _)) => {
                        is_stale |= refusal.reason == Reason::Epoch;
                        are_gone = false;
                        false
                    }
                    Err(error) => {
                        if matches!(&error, CallError::Refused(node) if node.code == NodeErrorCode::Full)
                        {
                            full += 1;
                        }
                        are_gone &= matches!(error, CallError::Unreachable(_));
                        errors.push(error.to_string());
                        false
                    }
                };
                match tally.record(from, is_stored) {
                    Verdict::Reached => {
                        let late: Vec<Replica> = asked
                            .iter()
                            .map(|(replica, _)| *replica)
                            .filter(|replica| !tally.has_heard(*replica))
                            .collect();
                        self.let_straggle(chunk, owner, &late, answers);
                        return Ok(());
                    }
                    Verdict::Impossible => break,
                    Verdict::Pending => {}
                }
            }
            if full > targets.len() / 2 {
                return Err(WriteError::Full);
            }
            if !errors.is_empty() {
                why = errors.join("; ");
            }
            if is_stale {
                self.await_newer_layout(&place.view).await;
            }
            attempt += 1;
            let wait_ms = 20 * u64::from(attempt.min(10)) + self.environment().random_below(50);
            let wait = Duration::from_millis(wait_ms);
            let is_hopeless = are_gone && began.elapsed() >= NO_QUORUM_PATIENCE;
            if is_hopeless || Instant::now() + wait >= deadline {
                return Err(WriteError::NotEnoughReplicas(why));
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Whom to send a chunk to: everybody, unless too many bytes are on their way to slow replicas already; then not to
    /// those that have just failed to answer, where the others are enough.
    fn worth_asking(
        &self,
        place: &Place,
        targets: &[(Replica, NodeId)],
        len: usize,
    ) -> Vec<(Replica, NodeId)> {
        if self.inner.straggling.available_permits() >= len {
            return targets.to_vec();
        }
        let asked: Vec<_> = targets
            .iter()
            .filter(|(_, node)| !self.inner.health.is_suspect(*node))
            .copied()
            .collect();
        let are_enough = place
            .rule
            .holds(|replica| asked.iter().any(|(asked, _)| *asked == replica));
        if are_enough { asked } else { targets.to_vec() }
    }

    /// Lets the slow replicas of a stored chunk have it too, as far as memory allows; the others get a hint.
    fn let_straggle(
        &self,
        chunk: ChunkRef,
        owner: &ChunkOwner,
        late: &[Replica],
        mut answers: Answers<StoreChunkReply>,
    ) {
        if late.is_empty() {
            return;
        }
        if let Ok(permit) = self
            .inner
            .straggling
            .clone()
            .try_acquire_many_owned(chunk.len)
        {
            tokio::spawn(async move {
                while answers.next().await.is_some() {}
                drop(permit);
            });
            return;
        }
        answers.abort();
        for replica in late {
            self.inner.hints.chunk_missed(*replica, chunk, owner);
        }
    }

    /// Reads a range of a chunk: from one replica, from the next where that fails or is slow. A whole chunk is verified
    /// against its digest here; a range was verified by the node against the disk's checksums, and by the frame's. With
    /// its owner known, a replica that should have it and has not is told so.
    pub(super) async fn fetch_chunk(
        &self,
        chunk: ChunkRef,
        range: Range<u32>,
        owner: Option<&ChunkOwner>,
    ) -> Result<Bytes, ReadError> {
        let without: Mutex<Vec<Replica>> = Mutex::default();
        let mut errors: Vec<String> = Vec::new();
        let mut is_missing_everywhere = true;
        let deadline = Instant::now() + self.inner.options.operation_timeout;
        let mut attempt: u64 = 0;
        while attempt < 3 {
            let place = self
                .view()
                .and_then(|view| view.place_chunk(chunk.id))
                .ok_or_else(|| {
                    ReadError::NotEnoughReplicas("the cluster has not formed yet".to_owned())
                })?;
            let mut targets = place.targets();
            let start = usize::try_from(self.environment().random_below(64)).unwrap_or(0);
            let count = targets.len().max(1);
            targets.rotate_left(start % count);
            targets.sort_by_key(|(_, node)| self.inner.health.is_suspect(*node));
            let asks = targets
                .into_iter()
                .map(|(to, node)| self.fetch_from(&place, (to, node), chunk, &range, &without));
            match first_of(asks).await {
                Ok(data) => {
                    // Found elsewhere, so it was not deleted: with the next hints.
                    for replica in without.into_inner() {
                        if let Some(owner) = owner {
                            self.inner.hints.chunk_missed(replica, chunk, owner);
                        }
                    }
                    return Ok(data);
                }
                Err(failures) => {
                    let is_stale = failures.iter().any(|failure| failure.is_stale);
                    for failure in failures {
                        is_missing_everywhere &= failure.is_missing;
                        errors.push(failure.why);
                    }
                    // The partition moves: who holds the chunk now is in a layout that is on its way.
                    if is_stale && Instant::now() < deadline {
                        is_missing_everywhere = true;
                        errors.clear();
                        self.await_newer_layout(&place.view).await;
                        continue;
                    }
                }
            }
            if is_missing_everywhere {
                break;
            }
            attempt += 1;
            let wait_ms = 50 * attempt + self.environment().random_below(50);
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
        let why = format!("chunk {}: {}", chunk.id, errors.join("; "));
        if is_missing_everywhere {
            Err(ReadError::Corrupt(why))
        } else {
            Err(ReadError::NotEnoughReplicas(why))
        }
    }

    /// From one replica; else whether it said that it has no such chunk, and a word for the error's sentence.
    async fn fetch_from(
        &self,
        place: &Place,
        (to, node): (Replica, NodeId),
        chunk: ChunkRef,
        range: &Range<u32>,
        without: &Mutex<Vec<Replica>>,
    ) -> Result<Bytes, NotFetched> {
        let request = FetchChunkRequest {
            to,
            partition: place.partition,
            epoch: place.epoch,
            id: chunk.id,
            from: range.start,
            len: range.end - range.start,
        };
        match self.call(node, Lane::Chunks, request, Bytes::new()).await {
            Ok((FetchChunkReply::Found, data)) => match self.verified(chunk, range, data).await {
                Some(data) => Ok(data),
                None => {
                    warn!(chunk = %chunk.id, %node, "a replica sent a chunk of another digest");
                    Err(NotFetched::because(format!("{node}: another digest")))
                }
            },
            Ok((FetchChunkReply::Missing, _)) => {
                without.lock().push(to);
                Err(NotFetched {
                    is_missing: true,
                    ..NotFetched::because(format!("{node}: missing"))
                })
            }
            Ok((FetchChunkReply::Refused(refusal), _)) => Err(NotFetched {
                is_stale: refusal.reason == Reason::Epoch,
                ..NotFetched::because(format!("{node}: refused, {:?}", refusal.reason))
            }),
            Err(error) => Err(NotFetched::because(format!("{node}: {error}"))),
        }
    }

    async fn verified(&self, chunk: ChunkRef, range: &Range<u32>, data: Bytes) -> Option<Bytes> {
        let wanted = usize::try_from(range.end - range.start).ok()?;
        if data.len() != wanted {
            return None;
        }
        if range.start != 0 || range.end != chunk.len {
            return Some(data);
        }
        (digest(data.clone()).await == chunk.blake3).then_some(data)
    }

    /// Deletes chunks from all their replicas after `grace`. A replica that is away is told when it is back; what is
    /// missed all the same (this process ends, a node crashes within the grace) is garbage that names its owner, and is
    /// found by that.
    pub fn delete_chunks(&self, chunks: Vec<ChunkRef>, grace: Duration) {
        if chunks.is_empty() {
            return;
        }
        let Some(view) = self.view() else { return };
        self.inner.hints.forget_chunks(&chunks);
        // A chunk may still be on its way to its slowest replica: a deletion that overtakes it would leave it behind.
        let grace = grace.max(self.inner.options.call_timeout);
        let mut by_node: HashMap<_, Vec<_>> = HashMap::new();
        for chunk in chunks {
            let Some(place) = view.place_chunk(chunk.id) else {
                continue;
            };
            for (replica, node) in place.targets() {
                let entry = (replica, place.partition, chunk.id);
                by_node.entry(node).or_default().push(entry);
            }
        }
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        for (node, chunks) in by_node {
            let coordinator = self.clone();
            tokio::spawn(async move {
                for batch in chunks.chunks(10_000) {
                    let request = DeleteChunksRequest {
                        grace_ms,
                        chunks: batch.to_vec(),
                    };
                    let reply = coordinator
                        .call(node, Lane::Repair, request, Bytes::new())
                        .await;
                    if let Err(error) = reply {
                        warn!(%node, %error, count = batch.len(), "chunks were not deleted; the node is told again when it is back");
                        coordinator.inner.hints.deletions_missed(batch);
                    }
                }
            });
        }
    }
}

/// BLAKE3 of a chunk; large ones off the async threads.
pub(super) async fn digest(data: Bytes) -> [u8; 32] {
    if data.len() <= 64 * 1024 {
        return *blake3::hash(&data).as_bytes();
    }
    let hashed = tokio::task::spawn_blocking({
        let data = data.clone();
        move || *blake3::hash(&data).as_bytes()
    });
    // The pool is gone only while the process ends.
    hashed
        .await
        .unwrap_or_else(|_| *blake3::hash(&data).as_bytes())
}
