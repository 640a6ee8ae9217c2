#![allow(clippy::unwrap_used, reason = "test code")]
//! Moves of partitions between real nodes in one process: nothing that was acknowledged is lost by one, whoever is away
//! afterwards.

use super::*;
use crate::engine::{EngineOptions, Mutation};
use crate::node::{Node, NodeConfig};
use crate::repair::{Leaver, SweepPace};
use bytes::Bytes;
use futures_util::StreamExt;
use ringfort_coordinator::{
    BucketRef, Change, CoordinatorOptions, InlineBody, Proposed, StoredBody,
};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{ClusterId, Epoch, Era, Generation};
use ringfort_ring::layout::{DiskEntry, Member, Members, NodeEntry, Row};
use ringfort_ring::register::acceptor::Claim;
use ringfort_wire::environment::Environment;
use ringfort_wire::id::{BucketId, ObjectKey, RowKey};
use ringfort_wire::local::LocalTransport;
use ringfort_wire::manifest::{BodyList, BodyOwner, BodyPlace, KeyState, ObjectHead};
use ringfort_wire::message::{
    AcceptReply, AcceptRequest, ReadRequest, StoreChunkReply, StoreChunkRequest,
};
use tokio::sync::watch;

const PARTITIONS: u32 = 8;
const BUCKET: BucketRef = BucketRef {
    id: BucketId([3; 16]),
    generation: Generation(0),
    shard_count: 4,
    partition: None,
};

struct Cluster {
    folders: tempfile::TempDir,
    nodes: Vec<Arc<Node>>,
    transport: Arc<LocalTransport>,
    layouts: watch::Sender<Option<Arc<Layout>>>,
    coordinator: Arc<Coordinator>,
}

fn node_id(index: u16) -> NodeId {
    NodeId::from_u128(u128::from(index) + 1)
}

/// Disks by index and the epochs at which they joined.
fn members(of: &[(u16, u64)]) -> Vec<Member> {
    let member = |(disk, joined): &(u16, u64)| Member {
        disk: *disk,
        joined: Epoch(*joined),
    };
    of.iter().map(member).collect()
}

impl Cluster {
    /// Four nodes of one disk each; the first three hold everything.
    async fn new() -> Self {
        let folders = tempfile::tempdir().unwrap();
        let (layouts, shown) = watch::channel(None);
        let transport = LocalTransport::new();
        let environment = Environment::os();
        let mut nodes = Vec::new();
        for index in 0..4 {
            let config = NodeConfig {
                id: node_id(index),
                name: format!("n{index}"),
                cluster: ClusterId::from_u128(7),
                disks: vec![folders.path().join(format!("d{index}"))],
                max_clock_skew_ms: 500,
                engine: EngineOptions {
                    segment_bytes: 4 << 20,
                    reserve_bytes: 0,
                    ..EngineOptions::default()
                },
                sweep: SweepPace::default(),
                join: JoinPace::default(),
                scrub: crate::repair::ScrubPace::default(),
                garbage: crate::repair::GarbagePace::default(),
            };
            crate::control::file::create_folder(&config.disks[0]).unwrap();
            let (environment, shown) = (environment.clone(), shown.clone());
            let opened = tokio::task::spawn_blocking(|| Node::open(config, environment, shown));
            let node = opened.await.unwrap().unwrap();
            transport.insert(node.id(), Arc::clone(&node) as _);
            nodes.push(node);
        }
        let options = CoordinatorOptions {
            inline_max_bytes: 1_000,
            chunk_bytes: 10_000,
            ..CoordinatorOptions::default()
        };
        let carried: Arc<dyn Transport> = transport.clone();
        let coordinator = Coordinator::new(carried, shown, environment, options);
        let cluster = Self {
            folders,
            nodes,
            transport,
            layouts,
            coordinator: Arc::new(coordinator),
        };
        let first = Members::Stable(members(&[(0, 1), (1, 1), (2, 1)]));
        cluster.take_in(1, first).await;
        cluster
    }

    fn disk(&self, index: u16) -> &DiskReplica {
        &self.nodes[usize::from(index)].disks_open()[0]
    }

    fn layout(&self, version: u64, row: Members) -> Arc<Layout> {
        let disks = (0..4).map(|index| DiskEntry::new(self.disk(index).id(), index, 1));
        let nodes = (0..4).map(|index| {
            let name = format!("n{index}");
            NodeEntry::new(node_id(index), name, String::new(), String::new())
        });
        let row = Row {
            epoch: Epoch(version),
            members: row,
        };
        let layout = Layout {
            cluster: ClusterId::from_u128(7),
            era: Era(0),
            version,
            replicas: 3,
            control_epoch: Epoch(1),
            control: vec![0],
            control_before: Vec::new(),
            is_balancing_paused: false,
            nodes: nodes.collect(),
            disks: disks.collect(),
            rows: vec![row; usize::try_from(PARTITIONS).unwrap()],
        };
        layout.check().unwrap();
        Arc::new(layout)
    }

    /// Every partition gets this row, on all disks and in the coordinator.
    async fn take_in(&self, version: u64, row: Members) -> Arc<Layout> {
        let layout = self.layout(version, row);
        for index in 0..4 {
            self.disk(index).adopt_layout(&layout).await.unwrap();
        }
        self.layouts.send_replace(Some(Arc::clone(&layout)));
        layout
    }

    fn joiner(&self) -> Joiner {
        Joiner {
            transport: self.transport.clone(),
            coordinator: Arc::clone(&self.coordinator),
            repair: Spending::new(u64::MAX),
            balance: Spending::new(u64::MAX),
            totals: Arc::default(),
        }
    }

    async fn put(&self, name: &str, body: &[u8]) {
        let operation = self.coordinator.operation(None);
        let key = ObjectKey::parse(name).unwrap();
        let owner = BodyOwner::Operation(operation.id);
        let chunk_owner = self.coordinator.chunk_owner(BUCKET, &key, owner).unwrap();
        let mut writer = self.coordinator.body_writer(chunk_owner, 1_000);
        writer.push(Bytes::copy_from_slice(body)).await.unwrap();
        let mut stored = writer.finish().await.unwrap();
        stored.keep();
        let (place, inline) = match stored.stored() {
            StoredBody::Inline(body) => (BodyPlace::Inline, InlineBody::New(body.clone())),
            StoredBody::Chunks(chunks) => {
                let list = BodyList {
                    chunks: chunks.clone(),
                    ..BodyList::default()
                };
                (BodyPlace::Chunks(list), InlineBody::None)
            }
        };
        let size = u64::try_from(body.len()).unwrap();
        let written: Proposed<KeyState, ()> = self
            .coordinator
            .propose(BUCKET, &row(name), &operation, |seen| Change::Write {
                state: state(seen.ballot, owner, size, place.clone()),
                body: inline.clone(),
                answer: Vec::new(),
            })
            .await
            .unwrap();
        assert!(matches!(written, Proposed::Written { .. }));
    }

    async fn delete(&self, name: &str) {
        let operation = self.coordinator.operation(None);
        let written: Proposed<KeyState, ()> = self
            .coordinator
            .propose(BUCKET, &row(name), &operation, |_| Change::Write {
                state: KeyState::default(),
                body: InlineBody::None,
                answer: Vec::new(),
            })
            .await
            .unwrap();
        assert!(matches!(written, Proposed::Written { .. }));
    }

    /// `None`: there is no such object.
    async fn get(&self, name: &str) -> Option<Vec<u8>> {
        let row = row(name);
        let read = self.coordinator.read::<KeyState>(BUCKET, &row, true);
        let read = read.await.unwrap();
        let head = read.state.and_then(|state| state.head)?;
        let bytes = self
            .coordinator
            .read_body(BUCKET, &row, &head, read.body, 0..head.size);
        let pieces: Vec<_> = bytes.collect().await;
        let pieces: Vec<Bytes> = pieces.into_iter().map(Result::unwrap).collect();
        Some(pieces.concat())
    }

    fn is_synced(&self, index: u16, layout: &Layout) -> bool {
        self.disk(index).learning(layout).is_empty()
    }
}

fn row(name: &str) -> RowKey {
    RowKey::object(BUCKET.id, ObjectKey::parse(name).unwrap())
}

fn state(version: Ballot, owner: BodyOwner, size: u64, body: BodyPlace) -> KeyState {
    let head = ObjectHead {
        version,
        owner,
        modified_ms: 0,
        size,
        etag: String::new(),
        headers: Vec::new(),
        metadata: Vec::new(),
        checksums: Vec::new(),
        part_count: 0,
        body,
        extensions: Vec::new(),
    };
    KeyState {
        head: Some(Box::new(head)),
        ..KeyState::default()
    }
}

fn body(number: usize) -> Vec<u8> {
    let len = [17, 900, 4_000, 25_000][number % 4];
    let byte = u8::try_from(number % 251).unwrap();
    vec![byte; len + number]
}

fn name(number: usize) -> String {
    format!("k{number:03}")
}

/// Objects of all sizes, some of them deleted again.
async fn fill(cluster: &Cluster, numbers: std::ops::Range<usize>) {
    for number in numbers {
        cluster.put(&name(number), &body(number)).await;
        if number % 7 == 0 {
            cluster.delete(&name(number)).await;
        }
    }
}

async fn check(cluster: &Cluster, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let wanted = (number % 7 != 0).then(|| body(number));
        assert_eq!(cluster.get(&name(number)).await, wanted, "{number}");
    }
}

fn joint() -> Members {
    Members::Joint {
        old: members(&[(0, 1), (1, 1), (2, 1)]),
        new: members(&[(0, 1), (1, 1), (3, 2)]),
    }
}

fn moved() -> Members {
    Members::Stable(members(&[(0, 1), (1, 1), (3, 2)]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_copies_what_is_chosen_and_the_old_one_can_go() {
    let cluster = Cluster::new().await;
    fill(&cluster, 0..40).await;
    let layout = cluster.take_in(2, joint()).await;
    assert_eq!(cluster.disk(3).learning(&layout).len(), 8);
    // Written while it moves, before the new member votes and after.
    fill(&cluster, 40..50).await;
    let joined = cluster.joiner().join(cluster.disk(3), &layout).await;
    assert_eq!(joined, Joined::Idle);
    fill(&cluster, 50..60).await;
    assert!(cluster.is_synced(3, &layout));
    let layout = cluster.take_in(3, moved()).await;
    check(&cluster, 0..60).await;
    // The new member and the one that took part in the least of it.
    cluster.transport.remove(node_id(0));
    check(&cluster, 0..60).await;

    let mut leaver = Leaver::new(Duration::ZERO);
    let (rows, chunks) = leaver.leave(cluster.disk(2), &layout).await.unwrap();
    assert!(rows >= 50 && chunks > 0, "{rows} {chunks}");
    assert_eq!(cluster.disk(2).left_behind(&layout), []);
    assert_eq!(
        leaver.leave(cluster.disk(2), &layout).await.unwrap(),
        (0, 0)
    );
    check(&cluster, 0..60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_state_comes_back_empty_and_copies_again() {
    let cluster = Cluster::new().await;
    fill(&cluster, 0..20).await;
    for number in 0..PARTITIONS {
        let lost = Mutation::Lost {
            partition: PartitionId(number),
            joined: Epoch(1),
        };
        cluster.disk(2).submit_for_test(lost).await;
    }
    // A row that only the lost replica holds was never chosen, and must not come back with it.
    let layout = cluster.take_in(
        2,
        Members::Joint {
            old: members(&[(0, 1), (1, 1), (2, 1)]),
            new: members(&[(0, 1), (1, 1), (2, 2)]),
        },
    );
    let layout = layout.await;
    let joined = cluster.joiner().join(cluster.disk(2), &layout).await;
    assert_eq!(joined, Joined::Idle);
    assert!(cluster.is_synced(2, &layout));
    let stable = Members::Stable(members(&[(0, 1), (1, 1), (2, 2)]));
    cluster.take_in(3, stable).await;
    cluster.transport.remove(node_id(1));
    check(&cluster, 0..20).await;
}

/// Two of the three old members have acknowledged a write between them; the third and the new member know nothing of
/// it. It must not be lost when only these two are asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_a_bare_majority_holds_is_not_lost_by_the_move() {
    let cluster = Cluster::new().await;
    cluster.transport.remove(node_id(2));
    fill(&cluster, 0..12).await;
    cluster
        .transport
        .insert(node_id(2), Arc::clone(&cluster.nodes[2]) as _);
    let row = Members::Joint {
        old: members(&[(0, 1), (1, 1), (2, 1)]),
        new: members(&[(0, 1), (2, 1), (3, 2)]),
    };
    let layout = cluster.take_in(2, row).await;
    // With one holder away the others do not agree: nothing is guessed.
    cluster.transport.remove(node_id(1));
    cluster.joiner().join(cluster.disk(3), &layout).await;
    cluster
        .transport
        .insert(node_id(1), Arc::clone(&cluster.nodes[1]) as _);
    while !cluster.is_synced(3, &layout) {
        cluster.joiner().join(cluster.disk(3), &layout).await;
    }
    let stable = Members::Stable(members(&[(0, 1), (2, 1), (3, 2)]));
    cluster.take_in(3, stable).await;
    cluster.transport.remove(node_id(0));
    check(&cluster, 0..12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_minority_of_holders_nothing_is_copied_for_good() {
    let cluster = Cluster::new().await;
    fill(&cluster, 0..8).await;
    let layout = cluster.take_in(2, joint()).await;
    cluster.transport.remove(node_id(0));
    cluster.transport.remove(node_id(2));
    let joined = cluster.joiner().join(cluster.disk(3), &layout).await;
    assert_eq!(joined, Joined::Stuck);
    assert_eq!(cluster.disk(3).learning(&layout).len(), 8);
    assert!(cluster.disk(3).learning(&layout).iter().all(|one| {
        // It has not adopted, so it does not vote.
        cluster.disk(3).must_adopt(one)
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_refuses_until_it_has_adopted_and_then_what_the_old_ones_might_have_promised_away()
 {
    let cluster = Cluster::new().await;
    fill(&cluster, 0..8).await;
    let key = row(&name(1));
    let partition = cluster.disk(0).held_for_test(&key);
    let layout = cluster.take_in(2, joint()).await;
    let to = Replica {
        disk: cluster.disk(3).id(),
        joined: Epoch(2),
    };
    let read = ReadRequest {
        to,
        partition,
        epoch: Epoch(2),
        generation: Generation(0),
        key: key.clone(),
        wants_body: false,
    };
    assert!(cluster.disk(3).read(read.clone()).await.is_err());
    let joined = cluster.joiner().join(cluster.disk(3), &layout).await;
    assert_eq!(joined, Joined::Idle);
    assert!(cluster.disk(3).read(read).await.is_ok());
    // An Accept whose ballot the old members had promised before the move.
    let environment = Environment::os();
    let claim = Claim {
        epoch: Epoch(2),
        generation: Generation(0),
        ballot: Ballot::last_at(environment.tick()),
        born: None,
    };
    let accept = AcceptRequest {
        to,
        partition,
        key,
        claim,
        state: bytes_of(&KeyState::default()),
    };
    let reply = cluster.disk(3).accept(accept, Bytes::new()).await.unwrap();
    assert!(matches!(reply, AcceptReply::Refused(_)), "{reply:?}");
}

fn bytes_of(state: &KeyState) -> Bytes {
    state.encode()
}

/// Stores a chunk of nines on the first disk alone, in the first epoch.
async fn store_on_the_first(
    cluster: &Cluster,
) -> (ringfort_wire::manifest::ChunkRef, StoreChunkRequest) {
    let data = Bytes::from(vec![9; 5_000]);
    let chunk = ringfort_wire::manifest::ChunkRef {
        id: ringfort_wire::id::ChunkId([8; 16]),
        len: 5_000,
        blake3: *blake3::hash(&data).as_bytes(),
    };
    let disk = cluster.disk(0);
    let partition = disk.partition_of_chunk(chunk.id).unwrap();
    let operation = cluster.coordinator.operation(None);
    let owner = ringfort_wire::manifest::ChunkOwner {
        bucket: BUCKET.id,
        partition,
        key: ObjectKey::parse("k").unwrap(),
        owner: BodyOwner::Operation(operation.id),
    };
    let request = StoreChunkRequest {
        to: Replica {
            disk: disk.id(),
            joined: Epoch(1),
        },
        partition,
        epoch: Epoch(1),
        chunk,
        owner,
    };
    let reply = disk.store_chunk(request.clone(), data).await.unwrap();
    assert_eq!(reply, StoreChunkReply::Stored);
    (chunk, request)
}

/// A chunk that one member has, and that no manifest names yet: its writer may be about to.
#[tokio::test(flavor = "multi_thread")]
async fn an_unnamed_chunk_is_copied_too() {
    let cluster = Cluster::new().await;
    let (chunk, request) = store_on_the_first(&cluster).await;
    let disk = cluster.disk(0);
    let layout = cluster.take_in(2, joint()).await;
    // The epoch in which it was acknowledged is over.
    let late = disk
        .store_chunk(request, Bytes::from(vec![9; 5_000]))
        .await
        .unwrap();
    assert!(matches!(late, StoreChunkReply::Refused(_)), "{late:?}");
    let joined = cluster.joiner().join(cluster.disk(3), &layout).await;
    assert_eq!(joined, Joined::Idle);
    assert!(cluster.disk(3).has_chunk(chunk.id));
}

/// The only copy of a chunk has rotted. There is nothing to copy, and the partition must not wait for it for ever.
#[tokio::test(flavor = "multi_thread")]
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the test rots a segment"
)]
async fn a_chunk_that_no_holder_can_read_does_not_hold_the_move_up() {
    use std::os::unix::fs::FileExt;
    let cluster = Cluster::new().await;
    let (chunk, _) = store_on_the_first(&cluster).await;
    let mut flipped = 0;
    for entry in std::fs::read_dir(cluster.folders.path().join("d0")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else {
            continue;
        };
        if let Some(at) = bytes.windows(64).position(|bytes| bytes == [9; 64]) {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            let at = u64::try_from(at).unwrap() + 32;
            file.write_all_at(&[8], at).unwrap();
            flipped += 1;
        }
    }
    assert_eq!(flipped, 1);
    let layout = cluster.take_in(2, joint()).await;
    // While a holder is not heard, it may be the one that can read it.
    cluster.transport.remove(node_id(2));
    cluster.joiner().join(cluster.disk(3), &layout).await;
    assert_eq!(cluster.disk(3).learning(&layout).len(), 1);
    cluster
        .transport
        .insert(node_id(2), Arc::clone(&cluster.nodes[2]) as _);
    cluster.joiner().join(cluster.disk(3), &layout).await;
    assert!(cluster.is_synced(3, &layout));
    assert!(!cluster.disk(3).has_chunk(chunk.id));
}

/// A disk whose clock once stood a year ahead has promised a year ahead; who copies from it must not refuse for a year.
#[tokio::test(flavor = "multi_thread")]
async fn a_promise_far_ahead_is_not_handed_on() {
    let cluster = Cluster::new().await;
    fill(&cluster, 0..8).await;
    let now = Timestamp::from_ms(Environment::os().now_ms());
    let year = now.plus_ms(365 * 86_400_000);
    cluster.disk(0).promise_up_to_for_test(year).await;
    let layout = cluster.take_in(2, joint()).await;
    let joined = cluster.joiner().join(cluster.disk(3), &layout).await;
    assert_eq!(joined, Joined::Idle);
    for number in 0..PARTITIONS {
        let floor = cluster.disk(3).floor_for_test(PartitionId(number));
        assert!(floor.time >= now && floor.time < now.plus_ms(3_600_000));
    }
}
