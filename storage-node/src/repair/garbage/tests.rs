#![allow(clippy::unwrap_used, reason = "test code")]
//! Three nodes of one process with a clock that is moved by hand: what passes remove, and what they leave alone.

use super::{Collector, GarbagePace, GarbageReport, Memory, collect_disk};
use crate::engine::EngineOptions;
use crate::node::{Node, NodeConfig};
use crate::repair::SweepPace;
use crate::replica::DiskReplica;
use crate::service::as_service;
use bytes::Bytes;
use ringfort_coordinator::{
    BucketRef, Change, Coordinator, CoordinatorOptions, InlineBody, OperationContext, Proposed,
    Seen, StoredBody, WriteError,
};
use ringfort_ring::id::{ClusterId, DiskId, Epoch, Era, Generation, NodeId};
use ringfort_ring::layout::{DiskEntry, Layout, Member, Members, NodeEntry, Row};
use ringfort_wire::environment::{Environment, OsEntropy, WallClock};
use ringfort_wire::id::{BucketId, ObjectKey, RowKey, UploadId};
use ringfort_wire::local::LocalTransport;
use ringfort_wire::manifest::{
    BodyList, BodyOwner, BodyPlace, KeyState, ObjectHead, OpenUpload, PartHead, PartState,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

const AGE: Duration = Duration::from_secs(3_600);
const BUCKET: BucketRef = BucketRef {
    id: BucketId([3; 16]),
    generation: Generation(0),
    shard_count: 1,
    partition: None,
};

struct HandClock(AtomicU64);

impl WallClock for HandClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

struct Cluster {
    clock: Arc<HandClock>,
    transport: Arc<LocalTransport>,
    nodes: Vec<Arc<Node>>,
    memories: Vec<Memory>,
    layout: Arc<Layout>,
    collector: Collector,
    _layouts: watch::Sender<Option<Arc<Layout>>>,
    _folder: tempfile::TempDir,
}

fn pace() -> GarbagePace {
    GarbagePace {
        tombstone_age: AGE,
        orphan_age: AGE,
        delete_grace: Duration::ZERO,
        pause: Duration::ZERO,
        ..GarbagePace::default()
    }
}

fn layout(disks: &[DiskId]) -> Layout {
    let members: Vec<_> = (0..3)
        .map(|disk| Member {
            disk,
            joined: Epoch(1),
        })
        .collect();
    Layout {
        cluster: ClusterId::from_u128(7),
        era: Era(0),
        version: 1,
        replicas: 3,
        control_epoch: Epoch(1),
        control: vec![0],
        control_before: Vec::new(),
        is_balancing_paused: false,
        nodes: (0_u8..3)
            .map(|n| NodeEntry::new(node_id(n), format!("n{n}"), String::new(), String::new()))
            .collect(),
        disks: (0..)
            .zip(disks)
            .map(|(node, id)| DiskEntry::new(*id, node, 1))
            .collect(),
        rows: (0..4)
            .map(|first| {
                let mut members = members.clone();
                members.rotate_left(first % 3);
                Row {
                    epoch: Epoch(1),
                    members: Members::Stable(members),
                }
            })
            .collect(),
    }
}

fn node_id(n: u8) -> NodeId {
    NodeId::from_u128(u128::from(n) + 1)
}

impl Cluster {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(HandClock(AtomicU64::new(1_800_000_000_000)));
        let environment = Environment::new(clock.clone(), Arc::new(OsEntropy));
        let (layouts, layout_seen) = watch::channel(None);
        let transport = LocalTransport::new();
        let mut nodes = Vec::new();
        for n in 0_u8..3 {
            let config = NodeConfig {
                id: node_id(n),
                name: format!("n{n}"),
                cluster: ClusterId::from_u128(7),
                disks: vec![folder.path().join(format!("n{n}"))],
                max_clock_skew_ms: 500,
                engine: EngineOptions {
                    segment_bytes: 1 << 20,
                    reserve_bytes: 0,
                    is_durable: false,
                    ..EngineOptions::default()
                },
                sweep: SweepPace::default(),
                join: crate::repair::JoinPace::default(),
                scrub: crate::repair::ScrubPace::default(),
                garbage: pace(),
            };
            let node = Node::open(config, environment.clone(), layout_seen.clone()).unwrap();
            transport.insert(node_id(n), as_service(&node));
            nodes.push(node);
        }
        let disks: Vec<_> = nodes.iter().map(|node| node.disks()[0].0).collect();
        let layout = Arc::new(layout(&disks));
        layout.check().unwrap();
        layouts.send_replace(Some(layout.clone()));
        let options = CoordinatorOptions {
            inline_max_bytes: 100,
            chunk_bytes: 64 << 10,
            ..CoordinatorOptions::default()
        };
        let coordinator = Coordinator::new(
            transport.clone(),
            layout_seen.clone(),
            environment.clone(),
            options,
        );
        let cluster = Self {
            collector: Collector {
                transport: transport.clone(),
                coordinator: Arc::new(coordinator),
                environment,
                pace: pace(),
            },
            memories: vec![Memory::default(), Memory::default(), Memory::default()],
            clock,
            transport,
            nodes,
            layout,
            _layouts: layouts,
            _folder: folder,
        };
        for disk in cluster.disks() {
            disk.adopt_layout(&cluster.layout).await.unwrap();
        }
        cluster
    }

    fn coordinator(&self) -> &Coordinator {
        &self.collector.coordinator
    }

    fn disks(&self) -> Vec<DiskReplica> {
        let disks = self.nodes.iter().map(|node| node.disks_open()[0].clone());
        disks.collect()
    }

    fn pass(&self, span: Duration) {
        let ms = u64::try_from(span.as_millis()).unwrap();
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    /// So many passes of every node, what they found together; what they condemned is carried out.
    async fn collect(&mut self, passes: usize) -> GarbageReport {
        let mut whole = GarbageReport::default();
        let disks = self.disks();
        for _ in 0..passes {
            for (disk, memory) in disks.iter().zip(&mut self.memories) {
                whole.add(&collect_disk(&self.collector, memory, disk, &self.layout).await);
            }
            self.delete_due().await;
        }
        whole
    }

    /// Lets deletions that are on their way arrive, and carries them out without waiting for readers.
    async fn delete_due(&self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for disk in self.disks() {
            disk.deletions().run_due(true);
            disk.checkpoint().await.unwrap();
        }
    }

    fn sizes(&self) -> Vec<(u64, u64)> {
        let disks = self.disks();
        let status = disks.iter().map(DiskReplica::status);
        status.map(|it| (it.rows, it.chunks)).collect()
    }

    async fn propose(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        operation: &OperationContext,
        state: KeyState,
        body: InlineBody,
    ) -> Result<(), WriteError> {
        let decide = |_: Seen<'_, KeyState>| Change::<_, ()>::Write {
            state: state.clone(),
            body: body.clone(),
            answer: Vec::new(),
        };
        let done = self
            .coordinator()
            .propose(bucket, row, operation, decide)
            .await?;
        assert!(matches!(
            done,
            Proposed::Written { .. } | Proposed::AlreadyDone { .. }
        ));
        Ok(())
    }

    async fn put(&self, bucket: BucketRef, key: &str, bytes: &[u8]) {
        let operation = self.coordinator().operation(None);
        let owner = BodyOwner::Operation(operation.id);
        let state = state(owner, BodyPlace::Inline, bytes.len());
        let body = InlineBody::New(Bytes::copy_from_slice(bytes));
        self.propose(bucket, &row(bucket.id, key), &operation, state, body)
            .await
            .unwrap();
    }

    async fn delete(&self, bucket: BucketRef, key: &str) {
        let operation = self.coordinator().operation(None);
        let row = row(bucket.id, key);
        let none = InlineBody::None;
        self.propose(bucket, &row, &operation, KeyState::default(), none)
            .await
            .unwrap();
    }

    /// The chunks of a body that is stored, on all replicas, and that nothing names yet.
    async fn store(&self, bucket: BucketRef, key: &str, owner: BodyOwner, len: usize) -> BodyList {
        let list = self.store_on_majority(bucket, key, owner, len).await;
        for disk in self.disks() {
            for chunk in &list.chunks {
                while !disk.has_chunk(chunk.id) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
        list
    }

    async fn store_on_majority(
        &self,
        bucket: BucketRef,
        key: &str,
        owner: BodyOwner,
        len: usize,
    ) -> BodyList {
        let key = ObjectKey::parse(key).unwrap();
        let owner = self.coordinator().chunk_owner(bucket, &key, owner).unwrap();
        let mut writer = self.coordinator().body_writer(owner, 0);
        writer.push(Bytes::from(vec![7; len])).await.unwrap();
        let mut body = writer.finish().await.unwrap();
        body.keep();
        match body.stored() {
            StoredBody::Chunks(chunks) => BodyList {
                chunks: chunks.clone(),
                parts: Vec::new(),
            },
            StoredBody::Inline(_) => panic!("inline"),
        }
    }
}

fn row(bucket: BucketId, key: &str) -> RowKey {
    RowKey::object(bucket, ObjectKey::parse(key).unwrap())
}

fn state(owner: BodyOwner, body: BodyPlace, len: usize) -> KeyState {
    KeyState {
        head: Some(Box::new(ObjectHead {
            version: ringfort_ring::ballot::Ballot::ZERO,
            owner,
            modified_ms: 0,
            size: u64::try_from(len).unwrap(),
            etag: String::new(),
            headers: Vec::new(),
            metadata: Vec::new(),
            checksums: Vec::new(),
            part_count: 0,
            body,
            extensions: Vec::new(),
        })),
        ..KeyState::default()
    }
}

fn with_upload(upload: UploadId) -> KeyState {
    KeyState {
        uploads: vec![OpenUpload {
            id: upload,
            initiated_ms: 0,
            initiator: String::new(),
            headers: Vec::new(),
            metadata: Vec::new(),
            checksum: None,
            extensions: Vec::new(),
        }],
        ..KeyState::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_tombstones_go_from_all_replicas_and_what_they_hid_stays_away() {
    let mut cluster = Cluster::new().await;
    for n in 0..20 {
        cluster.put(BUCKET, &format!("k{n}"), b"value").await;
    }
    let first = {
        let disk = &cluster.disks()[0];
        disk.walk_rows(None, 1).await.unwrap().found.remove(0)
    };
    for n in 0..19 {
        cluster.delete(BUCKET, &format!("k{n}")).await;
    }
    let young = cluster.collect(1).await;
    assert_eq!((young.tombstones, young.rows_dropped), (19, 0));
    cluster.pass(AGE + Duration::from_secs(2));
    let old = cluster.collect(1).await;
    assert_eq!(
        (old.rows_dropped, old.failed, old.partitions_waiting),
        (19, 0, 0)
    );
    assert_eq!(cluster.sizes(), [(1, 0); 3]);
    // The Accept of a deleted value, delayed for so long, and its replay as repair.
    let layout_row = cluster.layout.rule(first.partition).unwrap();
    for (born, disk) in [None, Some(first.ballot.time)]
        .into_iter()
        .zip(cluster.disks())
    {
        let to = layout_row
            .members()
            .into_iter()
            .find(|one| one.disk == disk.id());
        let request = ringfort_wire::message::AcceptRequest {
            to: to.unwrap(),
            partition: first.partition,
            key: first.key.clone(),
            claim: ringfort_ring::register::acceptor::Claim {
                epoch: Epoch(1),
                generation: Generation(0),
                ballot: first.ballot,
                born,
            },
            state: first.state.clone(),
        };
        let reply = disk
            .accept(request, Bytes::from_static(b"value"))
            .await
            .unwrap();
        assert!(matches!(
            reply,
            ringfort_wire::message::AcceptReply::Refused(refusal)
                if refusal.reason == ringfort_ring::register::acceptor::Reason::Floor
        ));
    }
    // The key is as new.
    cluster.put(BUCKET, "k0", b"again").await;
    let key = row(BUCKET.id, "k0");
    let read = cluster.coordinator().read::<KeyState>(BUCKET, &key, true);
    assert_eq!(read.await.unwrap().body, "again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_away_or_missed_the_delete_keeps_the_tombstones() {
    let mut cluster = Cluster::new().await;
    cluster.put(BUCKET, "k", b"value").await;
    cluster.transport.remove(node_id(2));
    cluster.delete(BUCKET, "k").await;
    cluster.pass(AGE + Duration::from_secs(2));
    let away = cluster.collect(1).await;
    assert_eq!((away.rows_dropped, away.floors_raised), (0, 0));
    let node = as_service(&cluster.nodes[2]);
    cluster.transport.insert(node_id(2), node);
    let behind = cluster.collect(1).await;
    assert_eq!((behind.rows_dropped, behind.floors_raised), (0, 0));
    assert_eq!(away.partitions_waiting + behind.partitions_waiting, 2);
    let key = row(BUCKET.id, "k");
    let mended = cluster.coordinator().mend_row(BUCKET, &key);
    mended.await.unwrap();
    let whole = cluster.collect(1).await;
    assert_eq!(whole.rows_dropped, 1);
    assert_eq!(cluster.sizes(), [(0, 0); 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_write_left_behind_goes_when_it_is_old_and_can_never_happen() {
    const LEN: usize = 150 << 10;
    const LEN_BYTES: u64 = 150 << 10;
    let mut cluster = Cluster::new().await;
    let straggler = cluster.coordinator().operation(None);
    let owner = BodyOwner::Operation(straggler.id);
    let left = cluster.store(BUCKET, "k", owner, LEN).await;
    let living = cluster.coordinator().operation(None);
    let owned = BodyOwner::Operation(living.id);
    let list = cluster.store(BUCKET, "k", owned, LEN).await;
    let named = state(owned, BodyPlace::Chunks(list), LEN);
    let key = row(BUCKET.id, "k");
    let put = cluster.propose(BUCKET, &key, &living, named, InlineBody::None);
    put.await.unwrap();
    // Orphans of a key that holds nothing, and one that is young when the others are old.
    let other = BodyOwner::Operation(cluster.coordinator().operation(None).id);
    cluster.store(BUCKET, "never", other, LEN).await;
    let before = cluster.collect(3).await;
    assert_eq!((before.orphans, before.chunks_deleted), (0, 0));
    cluster.pass(AGE + Duration::from_secs(2));
    let young = cluster.coordinator().operation(None);
    let young_owner = BodyOwner::Operation(young.id);
    let young_list = cluster.store(BUCKET, "k", young_owner, LEN).await;
    assert_eq!(cluster.sizes(), [(1, 12); 3]);
    let report = cluster.collect(3).await;
    assert_eq!((report.chunks_deleted, report.failed), (6, 0));
    assert_eq!(report.chunk_bytes_deleted, 2 * LEN_BYTES);
    let sizes = cluster.sizes();
    assert!(sizes.iter().all(|(_, chunks)| *chunks == 6), "{sizes:?}");
    // The straggler wakes up: it cannot name what is gone.
    let late = state(owner, BodyPlace::Chunks(left), LEN);
    let late = cluster.propose(BUCKET, &key, &straggler, late, InlineBody::None);
    assert_eq!(late.await, Err(WriteError::TooOld));
    // The young one can.
    let on_time = state(young_owner, BodyPlace::Chunks(young_list), LEN);
    let on_time = cluster.propose(BUCKET, &key, &young, on_time, InlineBody::None);
    on_time.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_one_node_missed_is_made_good_by_that_node() {
    const LEN: usize = 200 << 10;
    let mut cluster = Cluster::new().await;
    let operation = cluster.coordinator().operation(None);
    let owner = BodyOwner::Operation(operation.id);
    let list = cluster.store(BUCKET, "k", owner, LEN).await;
    let named = state(owner, BodyPlace::Chunks(list.clone()), LEN);
    let key = row(BUCKET.id, "k");
    let put = cluster.propose(BUCKET, &key, &operation, named, InlineBody::None);
    put.await.unwrap();
    cluster.delete(BUCKET, "k").await;
    for disk in &cluster.disks()[..2] {
        for chunk in &list.chunks {
            disk.deletions().add(chunk.id, Duration::ZERO);
        }
    }
    cluster.delete_due().await;
    let chunks = |cluster: &Cluster| {
        cluster
            .sizes()
            .into_iter()
            .map(|it| it.1)
            .collect::<Vec<_>>()
    };
    assert_eq!(chunks(&cluster), [0, 0, 4]);
    cluster.pass(AGE + Duration::from_secs(2));
    let report = cluster.collect(3).await;
    assert_eq!((report.chunks_deleted, report.failed), (4, 0));
    assert_eq!(chunks(&cluster), [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_an_ended_upload_go_and_those_of_an_open_one_stay() {
    const LEN: usize = 100 << 10;
    let mut cluster = Cluster::new().await;
    let mut parts = Vec::new();
    for (n, key) in [(1, "ended"), (2, "open")] {
        let upload = UploadId([n; 16]);
        let operation = cluster.coordinator().operation(None);
        let begun = with_upload(upload);
        let key_row = row(BUCKET.id, key);
        let begin = cluster.propose(BUCKET, &key_row, &operation, begun, InlineBody::None);
        begin.await.unwrap();
        let list = cluster
            .store(BUCKET, key, BodyOwner::Upload(upload), LEN)
            .await;
        let part = RowKey::part(BUCKET.id, ObjectKey::parse(key).unwrap(), upload, 1);
        let operation = cluster.coordinator().operation(None);
        let decide = |_: Seen<'_, PartState>| {
            let mut state = PartState::default();
            state.replace(PartHead {
                modified_ms: 0,
                size: 1,
                md5: [0; 16],
                checksums: Vec::new(),
                chunks: list.chunks.clone(),
                extensions: Vec::new(),
            });
            Change::<_, ()>::Write {
                state,
                body: InlineBody::None,
                answer: Vec::new(),
            }
        };
        let stored = cluster
            .coordinator()
            .propose(BUCKET, &part, &operation, decide);
        stored.await.unwrap();
        parts.push(part);
    }
    let none = cluster.collect(3).await;
    assert_eq!((none.parts_emptied, none.chunks_deleted), (0, 0));
    cluster.delete(BUCKET, "ended").await;
    // The gateway has gone with the rest of what it had to do.
    let some = cluster.collect(3).await;
    assert_eq!((some.parts_emptied, some.chunks_deleted), (1, 2));
    assert!(some.orphans > 0);
    assert!(cluster.sizes().iter().all(|(_, chunks)| *chunks == 2));
    cluster.pass(AGE + Duration::from_secs(2));
    let later = cluster.collect(3).await;
    assert_eq!(later.rows_dropped, 2);
    let engine_rows = async |cluster: &Cluster| {
        let walked = cluster.disks()[0].walk_rows(None, 100).await.unwrap();
        walked
            .found
            .into_iter()
            .map(|row| row.key)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        engine_rows(&cluster).await,
        [row(BUCKET.id, "open"), parts.pop().unwrap()]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_bucket_leaves_nothing_and_one_that_is_there_loses_nothing() {
    const LEN: usize = 100 << 10;
    let mut cluster = Cluster::new().await;
    let live = BucketRef {
        id: BucketId([4; 16]),
        generation: Generation(2),
        ..BUCKET
    };
    for (name, bucket) in [("bucket/gone", BUCKET), ("bucket/live", live)] {
        let record = [&[1][..], &bucket.id.0, b"record"].concat();
        cluster.put(BucketRef::SYSTEM, name, &record).await;
    }
    // A removal that was taken back.
    cluster
        .coordinator()
        .raise(live, Generation(2))
        .await
        .unwrap();
    let upload = UploadId([9; 16]);
    for bucket in [BUCKET, live] {
        let operation = cluster.coordinator().operation(None);
        let begun = with_upload(upload);
        let key = row(bucket.id, "k");
        let begin = cluster.propose(bucket, &key, &operation, begun, InlineBody::None);
        begin.await.unwrap();
        cluster
            .store(bucket, "k", BodyOwner::Upload(upload), LEN)
            .await;
    }
    let raised = BucketRef {
        generation: Generation(1),
        ..BUCKET
    };
    cluster
        .coordinator()
        .raise(raised, Generation(1))
        .await
        .unwrap();
    let deleting = cluster.collect(3).await;
    assert_eq!((deleting.rows_buried, deleting.chunks_deleted), (0, 0));
    cluster.delete(BucketRef::SYSTEM, "bucket/gone").await;
    let gone = cluster.collect(3).await;
    assert_eq!(
        (gone.rows_buried, gone.chunks_deleted, gone.failed),
        (1, 2, 0)
    );
    cluster.pass(AGE + Duration::from_secs(2));
    cluster.collect(3).await;
    // The live bucket's register, its key's row, and its upload's chunks.
    assert_eq!(cluster.sizes(), [(2, 2); 3]);
    let key = row(live.id, "k");
    let read = cluster.coordinator().read::<KeyState>(live, &key, false);
    assert!(read.await.unwrap().state.unwrap().has_open(upload));
}

#[tokio::test(flavor = "multi_thread")]
async fn space_comes_back() {
    let mut cluster = Cluster::new().await;
    let body = vec![5; 90];
    for n in 0..300 {
        cluster.put(BUCKET, &format!("k{n}"), &body).await;
    }
    for n in 0..20 {
        let operation = cluster.coordinator().operation(None);
        let owner = BodyOwner::Operation(operation.id);
        cluster
            .store(BUCKET, &format!("o{n}"), owner, 256 << 10)
            .await;
    }
    let written = |cluster: &Cluster| {
        let disks = cluster.disks();
        let status = disks.iter().map(DiskReplica::status);
        status
            .map(|it| it.live_bytes + it.garbage_bytes)
            .collect::<Vec<_>>()
    };
    let full = written(&cluster);
    assert!(full.iter().all(|bytes| *bytes > 5 << 20), "{full:?}");
    for n in 0..290 {
        cluster.delete(BUCKET, &format!("k{n}")).await;
    }
    cluster.pass(AGE + Duration::from_secs(2));
    // The identity writes on the keys of the orphans leave tombstones of their own.
    cluster.collect(3).await;
    cluster.pass(AGE + Duration::from_secs(2));
    cluster.collect(3).await;
    assert_eq!(cluster.sizes(), [(10, 0); 3]);
    for disk in cluster.disks() {
        while disk.compact(64 << 20).await.unwrap() {}
    }
    // Of segments of 1 MiB only the one that is being written, and markers of what was removed.
    let empty = written(&cluster);
    assert!(
        empty.iter().all(|bytes| *bytes < 1_200 << 10),
        "{empty:?} of {full:?}"
    );
    let walked = cluster.disks()[0].walk_rows(None, 1_000).await.unwrap();
    assert_eq!(walked.found.len(), 10);
}
