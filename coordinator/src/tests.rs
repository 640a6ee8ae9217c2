#![allow(clippy::unwrap_used, reason = "test code")]
//! The coordinator over replicas in memory: what is answered, and what is left behind, where some of them fail.

use super::fake::{FakeCluster, full};
use super::*;
use futures_util::StreamExt as _;
use ringfort_ring::id::{DiskId, Generation};
use ringfort_ring::layout::Layout as RingLayout;
use ringfort_wire::id::{BucketId, ChunkId, ObjectKey, RowKey, UploadId};
use ringfort_wire::manifest::{
    BodyList, BodyOwner, BodyPlace, ChunkOwner, ChunkRef, KeyState, ObjectHead,
};
use ringfort_wire::message::{After, ListEntry, ListReply, ListWhat, Request, Response};

const BUCKET: BucketRef = BucketRef {
    id: BucketId([3; 16]),
    generation: Generation(0),
    shard_count: 1,
    partition: None,
};

struct Rig {
    cluster: FakeCluster,
    coordinator: Coordinator,
    _layout: watch::Sender<Option<Arc<RingLayout>>>,
}

impl Rig {
    fn new() -> Self {
        Self::with(CoordinatorOptions::default())
    }

    fn with(options: CoordinatorOptions) -> Self {
        let (cluster, coordinator, layout) = FakeCluster::new(options);
        Self {
            cluster,
            coordinator,
            _layout: layout,
        }
    }

    fn set_full(&self, full: [bool; 3]) {
        for (node, is_full) in self.cluster.nodes.lock().iter_mut().zip(full) {
            node.is_full = is_full;
        }
    }

    async fn put(
        &self,
        name: &str,
        body: &'static str,
    ) -> Result<Proposed<KeyState, ()>, WriteError> {
        let operation = self.coordinator.operation(None);
        self.coordinator
            .propose(BUCKET, &row(name), &operation, |seen| Change::Write {
                state: KeyState {
                    head: Some(Box::new(head(&seen, operation.id, body.len()))),
                    ..KeyState::default()
                },
                body: InlineBody::New(Bytes::from_static(body.as_bytes())),
                answer: Vec::new(),
            })
            .await
    }

    async fn delete(&self, name: &str) -> Result<Proposed<KeyState, ()>, WriteError> {
        let operation = self.coordinator.operation(None);
        self.coordinator
            .propose(BUCKET, &row(name), &operation, |_| Change::Write {
                state: KeyState::default(),
                body: InlineBody::None,
                answer: Vec::new(),
            })
            .await
    }
}

fn row(name: &str) -> RowKey {
    RowKey::object(BUCKET.id, ObjectKey::parse(name).unwrap())
}

fn head(seen: &Seen<'_, KeyState>, owner: OperationId, len: usize) -> ObjectHead {
    ObjectHead {
        version: seen.ballot,
        owner: BodyOwner::Operation(owner),
        modified_ms: 0,
        size: len as u64,
        etag: String::new(),
        headers: Vec::new(),
        metadata: Vec::new(),
        checksums: Vec::new(),
        part_count: 0,
        body: BodyPlace::Inline,
        extensions: Vec::new(),
    }
}

fn is_accept(request: &Request) -> bool {
    matches!(request, Request::Accept(_))
}

#[tokio::test]
async fn full_disks_refuse_a_new_value_definitely_before_any_accept_and_take_a_delete() {
    let rig = Rig::new();
    rig.put("k", "one").await.unwrap();
    rig.set_full([true, true, false]);
    rig.cluster.script(|_, request| {
        assert!(!is_accept(request), "an Accept has left");
        None
    });
    assert_eq!(rig.put("k", "two").await.unwrap_err(), WriteError::Full);
    rig.cluster.script(|_, _| None);
    assert!(matches!(
        rig.delete("k").await,
        Ok(Proposed::Written { .. })
    ));
    rig.set_full([true, false, false]);
    assert!(matches!(
        rig.put("k", "three").await,
        Ok(Proposed::Written { .. })
    ));
}

#[tokio::test]
async fn an_accept_that_every_full_disk_has_refused_is_definitely_not_written() {
    let rig = Rig::new();
    rig.cluster
        .script(|_, request| is_accept(request).then(|| Err(full())));
    assert_eq!(rig.put("k", "one").await.unwrap_err(), WriteError::Full);
    // One may have taken it: its answer was lost.
    rig.cluster.script(|node, request| {
        let lost = if node == 2 {
            CallError::TimedOut
        } else {
            full()
        };
        is_accept(request).then_some(Err(lost))
    });
    let perhaps = rig.put("k", "two").await;
    assert!(matches!(perhaps, Err(WriteError::OutcomeUnknown(_))));
    // One has taken it, and says so.
    rig.cluster
        .script(|node, request| (node != 2 && is_accept(request)).then(|| Err(full())));
    let perhaps = rig.put("k", "three").await;
    assert!(matches!(perhaps, Err(WriteError::OutcomeUnknown(_))));
}

#[tokio::test]
async fn a_list_of_chunks_that_nobody_kept_is_deleted() {
    let rig = Rig::new();
    let owner = ChunkOwner {
        bucket: BUCKET.id,
        partition: ringfort_ring::id::PartitionId(0),
        key: ObjectKey::parse("k").unwrap(),
        owner: BodyOwner::Upload(UploadId([1; 16])),
    };
    let list = BodyList {
        chunks: vec![chunk(9, b"body"); 1_000],
        parts: Vec::new(),
    };
    let chunks = || {
        let nodes = rig.cluster.nodes.lock();
        nodes.iter().map(|node| node.chunks.len()).sum::<usize>()
    };
    let mut kept = rig
        .coordinator
        .body_place(&owner, list.clone())
        .await
        .unwrap();
    assert!(matches!(kept.place(), BodyPlace::Listed(_)));
    kept.keep();
    drop(kept);
    let dropped = rig.coordinator.body_place(&owner, list).await.unwrap();
    until(|| chunks() == 6).await;
    drop(dropped);
    until(|| chunks() == 3).await;
}

#[tokio::test]
async fn a_body_that_one_replica_cannot_read_is_written_anew_there() {
    let rig = Rig::new();
    rig.put("k", "body").await.unwrap();
    until(|| {
        let nodes = rig.cluster.nodes.lock();
        nodes.iter().all(|node| node.rows.len() == 1)
    })
    .await;
    rig.cluster.nodes.lock()[1]
        .rows
        .get_mut(&row("k"))
        .unwrap()
        .body = Bytes::new();
    let is_whole = || {
        let nodes = rig.cluster.nodes.lock();
        nodes[1].rows[&row("k")].body == "body"
    };
    // Any of the three may be asked for the body.
    for _ in 0..1_000 {
        let read = rig
            .coordinator
            .read::<KeyState>(BUCKET, &row("k"), true)
            .await;
        assert_eq!(read.unwrap().body, "body");
        tokio::task::yield_now().await;
        if is_whole() {
            return;
        }
    }
    panic!("not written anew");
}

#[tokio::test]
async fn a_replica_that_lacks_a_chunk_is_told_so() {
    let rig = Rig::new();
    let chunk = chunk(9, b"body");
    let has = |index: usize| rig.cluster.nodes.lock()[index].noted.contains(&chunk.id);
    rig.cluster.nodes.lock()[2]
        .chunks
        .insert(chunk.id, Bytes::from_static(b"body"));
    let list = BodyList {
        chunks: vec![chunk],
        parts: Vec::new(),
    };
    let operation = rig.coordinator.operation(None);
    let seen = Seen {
        state: None,
        ballot: rig.coordinator.fresh_ballot(),
        accepted: ringfort_ring::ballot::Ballot::ZERO,
    };
    let head = ObjectHead {
        body: BodyPlace::Chunks(list),
        ..head(&seen, operation.id, 4)
    };
    let all = [1, 2, 3].map(|n| DiskId([n; 16])).into();
    // Whoever is asked first is a matter of chance.
    for _ in 0..1_000 {
        let read = rig
            .coordinator
            .read_body(BUCKET, &row("k"), &head, Bytes::new(), 0..4);
        let pieces: Vec<_> = read.collect().await;
        assert_eq!(pieces, [Ok(Bytes::from_static(b"body"))]);
        rig.coordinator.deliver_hints(&all);
        tokio::task::yield_now().await;
        if has(0) && has(1) {
            assert!(!has(2));
            return;
        }
    }
    panic!("not told");
}

#[tokio::test]
async fn a_value_whose_body_is_another_is_never_sent() {
    let rig = Rig::new();
    rig.cluster.script(|_, request| {
        assert!(!is_accept(request), "an Accept has left");
        None
    });
    let operation = rig.coordinator.operation(None);
    let proposed: Result<Proposed<KeyState, ()>, _> = rig
        .coordinator
        .propose(BUCKET, &row("k"), &operation, |seen| Change::Write {
            state: KeyState {
                head: Some(Box::new(head(&seen, operation.id, 4))),
                ..KeyState::default()
            },
            body: InlineBody::Keep,
            answer: Vec::new(),
        })
        .await;
    assert!(matches!(proposed, Err(WriteError::Corrupt(_))));
}

#[tokio::test]
async fn what_keeps_the_body_of_an_empty_register_has_none() {
    let rig = Rig::new();
    let operation = rig.coordinator.operation(None);
    let proposed: Result<Proposed<KeyState, ()>, _> = rig
        .coordinator
        .propose(BUCKET, &row("k"), &operation, |_| Change::Write {
            state: KeyState::default(),
            body: InlineBody::Keep,
            answer: Vec::new(),
        })
        .await;
    assert!(matches!(proposed, Ok(Proposed::Written { .. })));
}

#[tokio::test]
async fn a_listing_that_meets_only_deleted_keys_in_its_time_goes_on_behind_them() {
    let rig = Rig::with(CoordinatorOptions {
        operation_timeout: Duration::ZERO,
        ..CoordinatorOptions::default()
    });
    let accepted = rig.coordinator.fresh_ballot();
    rig.cluster.script(move |_, request| {
        let Request::List(request) = request else {
            return None;
        };
        let n = match &request.after {
            After::Key(key) => key.trim_start_matches('k').parse::<u32>().unwrap() + 1,
            _ => 0,
        };
        let key = format!("k{n}");
        let page = ListReply::Page {
            entries: vec![ListEntry::Row {
                key: ObjectKey::parse(key.clone()).unwrap(),
                accepted,
                object: None,
                uploads: Vec::new(),
            }],
            examined_to: Some(After::Key(key)),
        };
        Some(Ok((Response::List(page), Bytes::new())))
    });
    let mut query = ListQuery {
        prefix: String::new(),
        after: After::Start,
        delimiter: None,
        limit: 10,
        what: ListWhat::Objects,
    };
    for n in 0..3 {
        let page = rig
            .coordinator
            .list_in_pieces(BUCKET, &query)
            .await
            .unwrap();
        assert_eq!((page.entries.len(), page.is_truncated), (0, true));
        assert_eq!(page.next, Some(After::Key(format!("k{n}"))));
        query.after = page.next.unwrap();
    }
    // Whoever can go on from entries only is not told of an end that is none.
    let page = rig.coordinator.list(BUCKET, &query).await;
    assert!(matches!(page, Err(ReadError::NotEnoughReplicas(_))));
}

fn chunk(id: u8, data: &[u8]) -> ChunkRef {
    ChunkRef {
        id: ChunkId([id; 16]),
        len: u32::try_from(data.len()).unwrap(),
        blake3: *blake3::hash(data).as_bytes(),
    }
}

/// Waits for what happens in the background.
async fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if is_so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it does not happen");
}
