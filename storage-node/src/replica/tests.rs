#![allow(clippy::unwrap_used, reason = "test code")]
//! One disk's replica against the rules of DESIGN 4: what is promised, accepted, shown and refused, also after a
//! crash.

mod garbage;

use super::*;
use crate::disk::Disk;
use crate::disk::simulated::SimulatedDisk;
use crate::engine::EngineOptions;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{ClusterId, Epoch, Era, Incarnation, NodeId, Shard};
use ringfort_ring::layout::{DiskEntry, Member, Members as RowMembers, NodeEntry, Row};
use ringfort_ring::register::acceptor::Claim;
use ringfort_wire::environment::{OsEntropy, WallClock};
use ringfort_wire::id::{ObjectKey, Payload, RowKey};
use ringfort_wire::manifest::{BodyOwner, BodyPlace, KeyState, ObjectHead};
use ringfort_wire::message::*;
use std::sync::atomic::{AtomicU64, Ordering};

const PARTITION: PartitionId = PartitionId(0);
const START_MS: u64 = 1_800_000_000_000;

struct HandClock(AtomicU64);

impl WallClock for HandClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

struct Rig {
    disk: SimulatedDisk,
    clock: Arc<HandClock>,
    replica: DiskReplica,
}

fn options() -> EngineOptions {
    EngineOptions {
        segment_bytes: 1 << 20,
        reserve_bytes: 0,
        ..EngineOptions::default()
    }
}

fn layout(disk: DiskId) -> Layout {
    Layout {
        cluster: ClusterId::from_u128(7),
        era: Era(0),
        version: 1,
        replicas: 1,
        control_epoch: Epoch(1),
        control: vec![0],
        control_before: Vec::new(),
        is_balancing_paused: false,
        nodes: vec![NodeEntry::new(
            NodeId::from_u128(1),
            "n1".into(),
            String::new(),
            String::new(),
        )],
        disks: vec![DiskEntry::new(disk, 0, 1)],
        rows: vec![Row {
            epoch: Epoch(1),
            members: RowMembers::Stable(vec![Member {
                disk: 0,
                joined: Epoch(1),
            }]),
        }],
    }
}

impl Rig {
    async fn new() -> Self {
        Self::with(options()).await
    }

    async fn with(options: EngineOptions) -> Self {
        let disk = SimulatedDisk::new(1);
        let clock = Arc::new(HandClock(AtomicU64::new(START_MS)));
        let engine = Engine::create(
            Arc::new(disk.clone()) as Arc<dyn Disk>,
            DiskId::from_u128(5),
            ClusterId::from_u128(7),
            options,
        )
        .unwrap();
        let replica = Self::replica(engine, RecoveryReport::default(), &clock).await;
        Self {
            disk,
            clock,
            replica,
        }
    }

    async fn replica(
        engine: Engine,
        report: RecoveryReport,
        clock: &Arc<HandClock>,
    ) -> DiskReplica {
        let environment = Environment::new(clock.clone(), Arc::new(OsEntropy));
        let replica = DiskReplica::new(engine, report, environment, 500);
        replica.adopt_layout(&layout(replica.id())).await.unwrap();
        replica
    }

    /// The power goes, and comes back.
    async fn crash(self) -> Self {
        let Self {
            disk,
            clock,
            replica,
        } = self;
        let disk = disk.copy_of_synced();
        drop(replica);
        let (engine, report) =
            Engine::open(Arc::new(disk.clone()) as Arc<dyn Disk>, options()).unwrap();
        let replica = Self::replica(engine, report, &clock).await;
        Self {
            disk,
            clock,
            replica,
        }
    }

    fn pass_ms(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    fn to(&self) -> Replica {
        Replica {
            disk: self.replica.id(),
            joined: Epoch(1),
        }
    }

    async fn prepare(&self, name: &str, claim: Claim) -> PrepareReply {
        let request = PrepareRequest {
            to: self.to(),
            partition: PARTITION,
            key: row(name),
            claim,
        };
        self.replica.prepare(request).await.unwrap()
    }

    async fn accept(&self, name: &str, claim: Claim, body: &str) -> AcceptReply {
        let request = AcceptRequest {
            to: self.to(),
            partition: PARTITION,
            key: row(name),
            claim,
            state: state(claim.ballot, body.len()),
        };
        let body = Payload::copy_from_slice(body.as_bytes());
        self.replica.accept(request, body).await.unwrap()
    }

    async fn read(&self, name: &str, generation: u64) -> (ReadReply, Payload) {
        let request = ReadRequest {
            to: self.to(),
            partition: PARTITION,
            epoch: Epoch(1),
            generation: Generation(generation),
            key: row(name),
            wants_body: true,
        };
        self.replica.read(request).await.unwrap()
    }
}

fn row(name: &str) -> RowKey {
    RowKey::object(BucketId([3; 16]), ObjectKey::parse(name).unwrap())
}

fn ballot(ms: u64) -> Ballot {
    Ballot {
        time: Timestamp::from_ms(START_MS + ms),
        incarnation: Incarnation([1; 16]),
    }
}

fn claim(ballot: Ballot) -> Claim {
    Claim {
        epoch: Epoch(1),
        generation: Generation(0),
        ballot,
        born: None,
    }
}

fn state(version: Ballot, len: usize) -> bytes::Bytes {
    KeyState {
        head: Some(Box::new(ObjectHead {
            version,
            owner: BodyOwner::Upload(ringfort_wire::id::UploadId([0; 16])),
            modified_ms: 0,
            size: u64::try_from(len).unwrap(),
            etag: String::new(),
            headers: Vec::new(),
            metadata: Vec::new(),
            checksums: Vec::new(),
            part_count: 0,
            body: BodyPlace::Inline,
            extensions: Vec::new(),
        })),
        ..KeyState::default()
    }
    .encode()
}

fn refusal(reply: PrepareReply) -> Reason {
    match reply {
        PrepareReply::Refused(refusal) => refusal.reason,
        PrepareReply::Promised { .. } => panic!("promised"),
    }
}

fn promised(reply: PrepareReply) -> Ballot {
    match reply {
        PrepareReply::Promised { accepted, .. } => accepted,
        PrepareReply::Refused(refusal) => panic!("{refusal:?}"),
    }
}

#[tokio::test]
async fn an_accepted_value_is_shown_to_the_next_prepare_and_to_reads() {
    let rig = Rig::new().await;
    assert_eq!(
        promised(rig.prepare("k", claim(ballot(1))).await),
        Ballot::ZERO
    );
    assert_eq!(
        rig.accept("k", claim(ballot(1)), "one").await,
        AcceptReply::Accepted
    );
    assert_eq!(
        promised(rig.prepare("k", claim(ballot(2))).await),
        ballot(1)
    );
    let (reply, body) = rig.read("k", 0).await;
    assert!(matches!(reply, ReadReply::Row { accepted, state: Some(_) } if accepted == ballot(1)));
    assert_eq!(body, "one");
}

#[tokio::test]
async fn a_lower_ballot_is_refused_by_promise_and_by_accept() {
    let rig = Rig::new().await;
    promised(rig.prepare("k", claim(ballot(5))).await);
    assert_eq!(
        refusal(rig.prepare("k", claim(ballot(4))).await),
        Reason::Promised
    );
    let reply = rig.accept("k", claim(ballot(4)), "x").await;
    assert!(matches!(reply, AcceptReply::Refused(refusal) if refusal.past >= ballot(5)));
    // Another key is another register.
    promised(rig.prepare("other", claim(ballot(4))).await);
}

#[tokio::test]
async fn the_same_accept_again_is_acknowledged_again() {
    let rig = Rig::new().await;
    assert_eq!(
        rig.accept("k", claim(ballot(5)), "x").await,
        AcceptReply::Accepted
    );
    assert_eq!(
        rig.accept("k", claim(ballot(5)), "x").await,
        AcceptReply::Accepted
    );
}

#[tokio::test]
async fn a_ballot_beyond_the_clock_bound_is_refused() {
    let rig = Rig::new().await;
    assert_eq!(
        refusal(rig.prepare("k", claim(ballot(501))).await),
        Reason::ClockAhead
    );
    promised(rig.prepare("k", claim(ballot(500))).await);
}

#[tokio::test]
async fn a_promise_outlives_a_crash_and_an_accepted_ballot_is_acknowledged_again() {
    let rig = Rig::new().await;
    assert_eq!(
        rig.accept("k", claim(ballot(1)), "one").await,
        AcceptReply::Accepted
    );
    promised(rig.prepare("k", claim(ballot(5))).await);
    let rig = rig.crash().await;
    // The promise is not on disk, and must count: the horizon refuses all that it may cover.
    assert_eq!(
        refusal(rig.prepare("k", claim(ballot(4))).await),
        Reason::Horizon
    );
    let late = rig.accept("k", claim(ballot(4)), "late").await;
    assert!(matches!(late, AcceptReply::Refused(refusal) if refusal.reason == Reason::Horizon));
    assert_eq!(
        rig.accept("k", claim(ballot(1)), "one").await,
        AcceptReply::Accepted
    );
    assert!(rig.replica.horizon_wait_ms() > 0);
    rig.pass_ms(2_000);
    assert_eq!(rig.replica.horizon_wait_ms(), 0);
    assert_eq!(
        promised(rig.prepare("k", claim(ballot(2_000))).await),
        ballot(1)
    );
    let (_, body) = rig.read("k", 0).await;
    assert_eq!(body, "one");
}

#[tokio::test]
async fn another_identity_of_the_disk_is_no_member() {
    let rig = Rig::new().await;
    let request = ReadRequest {
        to: Replica {
            disk: rig.replica.id(),
            joined: Epoch(2),
        },
        partition: PARTITION,
        epoch: Epoch(1),
        generation: Generation(0),
        key: row("k"),
        wants_body: false,
    };
    let error = rig.replica.read(request).await.unwrap_err();
    assert_eq!(error.code, NodeErrorCode::NotMember);
}

#[tokio::test]
async fn a_raised_generation_fences_what_is_older_for_ever() {
    let rig = Rig::new().await;
    assert_eq!(
        rig.accept("k", claim(ballot(1)), "x").await,
        AcceptReply::Accepted
    );
    let shard = ShardClaim {
        shard: Shard(0),
        partition: PARTITION,
        to: rig.to(),
        epoch: Epoch(1),
    };
    let raise = RaiseRequest {
        bucket: BucketId([3; 16]),
        generation: Generation(1),
        shards: vec![shard],
    };
    assert_eq!(rig.replica.raise(&raise, &shard).await.unwrap(), None);
    assert_eq!(
        refusal(rig.prepare("k", claim(ballot(2))).await),
        Reason::Generation
    );
    let reply = rig.accept("k", claim(ballot(2)), "y").await;
    assert!(matches!(reply, AcceptReply::Refused(refusal) if refusal.generation == Generation(1)));
    assert!(matches!(rig.read("k", 0).await.0, ReadReply::Refused(_)));
    assert!(matches!(rig.read("k", 1).await.0, ReadReply::Row { .. }));
    let rig = rig.crash().await;
    assert!(matches!(rig.read("k", 0).await.0, ReadReply::Refused(_)));
    // Who shows a higher one teaches it.
    assert!(matches!(rig.read("k", 9).await.0, ReadReply::Row { .. }));
    assert!(matches!(rig.read("k", 1).await.0, ReadReply::Refused(_)));
}

#[tokio::test]
async fn an_accept_that_finds_no_room_is_not_queued_and_chunks_do_not_take_it() {
    let rig = Rig::new().await;
    let engine = rig.replica.inner.engine.clone();
    let _chunks = engine.reserve(u32::MAX).await.unwrap();
    assert_eq!(
        rig.accept("other", claim(ballot(1)), "x").await,
        AcceptReply::Accepted
    );
    let rows = engine.reserve_row(u32::MAX).await.unwrap();
    let accept = rig.accept("k", claim(ballot(1)), "one");
    tokio::pin!(accept);
    assert!(futures_util::poll!(&mut accept).is_pending());
    assert!(
        rig.replica
            .inner
            .slots
            .lock(&row("k"))
            .pending(&row("k"))
            .is_none()
    );
    drop(rows);
    assert_eq!(accept.await, AcceptReply::Accepted);
}

#[tokio::test]
async fn a_full_disk_says_so_at_prepare_and_takes_deletes_and_repair() {
    let rig = Rig::with(EngineOptions {
        reserve_bytes: 64 << 20,
        ..options()
    })
    .await;
    let is_full = async |name: &str, at| match rig.prepare(name, claim(at)).await {
        PrepareReply::Promised { is_full, .. } => is_full,
        PrepareReply::Refused(refusal) => panic!("{refusal:?}"),
    };
    assert!(!is_full("k", ballot(1)).await);
    rig.disk
        .set_capacity(Some(rig.disk.used_bytes() + (48 << 20)));
    // A new segment asks what is free.
    for at in 2..5 {
        let body = "b".repeat(600 << 10);
        rig.accept("probe", claim(ballot(at)), &body).await;
    }
    assert!(is_full("k", ballot(5)).await);
    let new = Claim {
        born: Some(Timestamp::from_ms(START_MS)),
        ..claim(ballot(6))
    };
    let accept = |state: bytes::Bytes, body: &'static [u8], claim| {
        let request = AcceptRequest {
            to: rig.to(),
            partition: PARTITION,
            key: row("k"),
            claim,
            state,
        };
        rig.replica.accept(request, Payload::from_static(body))
    };
    let refused = accept(state(ballot(6), 1), b"x", new).await;
    assert_eq!(refused.unwrap_err().code, NodeErrorCode::Full);
    let deleted = accept(KeyState::default().encode(), b"", new).await;
    assert_eq!(deleted.unwrap(), AcceptReply::Accepted);
    let repaired = accept(state(ballot(7), 1), b"x", claim(ballot(7))).await;
    assert_eq!(repaired.unwrap(), AcceptReply::Accepted);
}

fn list_request(rig: &Rig, prefix: &str, delimiter: Option<&str>, limit: u32) -> ListRequest {
    ListRequest {
        bucket: BucketId([3; 16]),
        generation: Generation(0),
        shard_count: 1,
        shards: vec![ShardClaim {
            shard: Shard(0),
            partition: PARTITION,
            to: rig.to(),
            epoch: Epoch(1),
        }],
        prefix: prefix.to_owned(),
        after: After::Start,
        delimiter: delimiter.map(str::to_owned),
        limit,
        examine_limit: 10_000,
        what: ListWhat::Objects,
    }
}

async fn names(rig: &Rig, request: ListRequest) -> (Vec<String>, Option<After>) {
    let page = list::list(std::slice::from_ref(&rig.replica), request);
    match page.await.unwrap() {
        ListReply::Page {
            entries,
            examined_to,
        } => {
            let names = entries.into_iter().map(|entry| match entry {
                ListEntry::Row {
                    key,
                    object: Some(_),
                    ..
                } => key.as_str().to_owned(),
                ListEntry::Row { key, .. } => format!("-{key}"),
                ListEntry::Prefix {
                    prefix, witness, ..
                } => format!("{prefix}>{witness}"),
            });
            (names.collect(), examined_to)
        }
        refused @ ListReply::Refused { .. } => panic!("{refused:?}"),
    }
}

#[tokio::test]
async fn a_listing_folds_prefixes_shows_the_dead_and_says_how_far_it_looked() {
    let rig = Rig::new().await;
    for (index, name) in ["a", "a/", "a//b", "a/b", "b/1", "b/2", "c"]
        .iter()
        .enumerate()
    {
        let at = ballot(u64::try_from(index).unwrap() + 1);
        assert_eq!(
            rig.accept(name, claim(at), "x").await,
            AcceptReply::Accepted
        );
    }
    let dead = AcceptRequest {
        to: rig.to(),
        partition: PARTITION,
        key: row("b/1"),
        claim: claim(ballot(50)),
        state: KeyState::default().encode(),
    };
    assert_eq!(
        rig.replica.accept(dead, Payload::new()).await.unwrap(),
        AcceptReply::Accepted
    );
    let all = names(&rig, list_request(&rig, "", None, 100)).await;
    assert_eq!(all.0, ["a", "a/", "a//b", "a/b", "-b/1", "b/2", "c"]);
    assert_eq!(all.1, None);
    let folded = names(&rig, list_request(&rig, "", Some("/"), 100)).await;
    assert_eq!(folded.0, ["a", "a/>a/", "-b/1", "b/>b/2", "c"]);
    let inner = names(&rig, list_request(&rig, "a/", Some("/"), 100)).await;
    assert_eq!(inner.0, ["a/", "a//>a//b", "a/b"]);
    let short = names(&rig, list_request(&rig, "", Some("/"), 2)).await;
    assert_eq!(short.0, ["a", "a/>a/"]);
    assert_eq!(short.1, Some(After::Prefix("a/".to_owned())));
    let mut on = list_request(&rig, "", Some("/"), 100);
    on.after = After::Prefix("a/".to_owned());
    assert_eq!(names(&rig, on).await.0, ["-b/1", "b/>b/2", "c"]);
    let mut bounded = list_request(&rig, "", None, 100);
    bounded.examine_limit = 3;
    let bounded = names(&rig, bounded).await;
    assert_eq!(bounded.0, ["a", "a/", "a//b"]);
    assert_eq!(bounded.1, Some(After::Key("a//b".to_owned())));
}

#[tokio::test]
async fn a_page_of_the_longest_keys_fits_a_frame_and_the_next_goes_on_behind_it() {
    const KEYS: usize = 5_000;
    let rig = Rig::new().await;
    let name = |index: usize| format!("{index:05}{}", "k".repeat(1_019));
    let accepts = (0..KEYS).map(|index| {
        let rig = &rig;
        async move { rig.accept(&name(index), claim(ballot(1)), "").await }
    });
    for accepted in futures_util::future::join_all(accepts).await {
        assert_eq!(accepted, AcceptReply::Accepted);
    }
    let mut request = list_request(&rig, "", None, 100_000);
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let page = list::list(std::slice::from_ref(&rig.replica), request.clone()).await;
        let reply = Response::List(page.unwrap());
        assert!(reply.encode().len() < 4 << 20);
        let (names, examined_to) = names(&rig, request.clone()).await;
        found.extend(names);
        pages += 1;
        match examined_to {
            Some(after) => request.after = after,
            None => break,
        }
    }
    assert_eq!(found, (0..KEYS).map(name).collect::<Vec<_>>());
    assert_eq!(pages, 3);
}

#[tokio::test]
async fn a_row_with_a_rotten_body_is_answered_without_it() {
    let rig = Rig::new().await;
    let body = "b".repeat(5_000);
    assert_eq!(
        rig.accept("k", claim(ballot(1)), &body).await,
        AcceptReply::Accepted
    );
    for name in rig
        .disk
        .list()
        .unwrap()
        .iter()
        .filter(|name| name.starts_with("segment-"))
    {
        rig.disk.fail_reads(name, 0..u64::MAX);
    }
    let (reply, body) = rig.read("k", 0).await;
    assert!(matches!(reply, ReadReply::Row { accepted, state: Some(_) } if accepted == ballot(1)));
    assert!(body.is_empty());
}

#[tokio::test]
async fn a_listing_names_the_shard_that_is_not_held_here() {
    let rig = Rig::new().await;
    let mut request = list_request(&rig, "", None, 100);
    request.shards[0].to.joined = Epoch(2);
    let reply = list::list(std::slice::from_ref(&rig.replica), request).await;
    let ListReply::Refused { shard, refusal } = reply.unwrap() else {
        panic!("listed");
    };
    assert_eq!(
        (shard, refusal.reason, refusal.epoch),
        (Shard(0), Reason::Epoch, Epoch(1))
    );
}

fn chunk_of(id: u8, data: &Payload) -> ringfort_wire::manifest::ChunkRef {
    ringfort_wire::manifest::ChunkRef {
        id: ringfort_wire::id::ChunkId([id; 16]),
        len: u32::try_from(data.len()).unwrap(),
        blake3: *blake3::hash(data).as_bytes(),
    }
}

#[tokio::test]
async fn the_chunks_that_a_stored_list_names_are_missed_too() {
    let rig = Rig::new().await;
    let named = [8, 9].map(|id| chunk_of(id, &Payload::from_static(b"body")));
    let list = ringfort_wire::manifest::BodyList {
        chunks: named.to_vec(),
        parts: Vec::new(),
    }
    .encode();
    let stored = chunk_of(7, &list);
    let owner = ringfort_wire::manifest::ChunkOwner {
        bucket: BucketId([3; 16]),
        partition: PARTITION,
        key: ObjectKey::parse("k").unwrap(),
        owner: BodyOwner::Upload(ringfort_wire::id::UploadId([0; 16])),
    };
    let store = |chunk, data| {
        rig.replica.store_chunk(
            StoreChunkRequest {
                to: rig.to(),
                partition: PARTITION,
                epoch: Epoch(1),
                chunk,
                owner: owner.clone(),
            },
            data,
        )
    };
    store(stored, list).await.unwrap();
    store(named[0], Payload::from_static(b"body"))
        .await
        .unwrap();
    let mut state = KeyState::decode(&state(ballot(1), 8)).unwrap();
    state.head.as_mut().unwrap().body = BodyPlace::Listed(vec![stored]);
    let request = AcceptRequest {
        to: rig.to(),
        partition: PARTITION,
        key: row("k"),
        claim: claim(ballot(1)),
        state: state.encode(),
    };
    let accepted = rig.replica.accept(request, Payload::new()).await;
    assert_eq!(accepted.unwrap(), AcceptReply::Accepted);
    // The note follows the acknowledgement.
    for _ in 0..100_000 {
        if rig.replica.inner.missing.lists_waiting() > 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.replica.inner.missing.count(), 0);
    let transport = ringfort_wire::local::LocalTransport::new();
    let layout = layout(rig.replica.id());
    assert_eq!(rig.replica.expand_all(transport.as_ref(), &layout).await, 1);
    assert_eq!(rig.replica.inner.missing.count(), 1);
}

#[tokio::test]
async fn a_chunk_is_kept_only_if_it_is_what_it_is_named() {
    let rig = Rig::new().await;
    let data = Payload::from_static(b"chunk of bytes");
    let chunk = ringfort_wire::manifest::ChunkRef {
        id: ringfort_wire::id::ChunkId([9; 16]),
        len: 14,
        blake3: *blake3::hash(&data).as_bytes(),
    };
    let request = StoreChunkRequest {
        to: rig.to(),
        partition: PARTITION,
        epoch: Epoch(1),
        chunk,
        owner: ringfort_wire::manifest::ChunkOwner {
            bucket: BucketId([3; 16]),
            partition: PARTITION,
            key: ObjectKey::parse("k").unwrap(),
            owner: BodyOwner::Upload(ringfort_wire::id::UploadId([0; 16])),
        },
    };
    let other = Payload::from_static(b"chunk of bytez");
    let error = rig
        .replica
        .store_chunk(request.clone(), other)
        .await
        .unwrap_err();
    assert_eq!(error.code, NodeErrorCode::DigestMismatch);
    let stored = rig
        .replica
        .store_chunk(request, data.clone())
        .await
        .unwrap();
    assert_eq!(stored, StoreChunkReply::Stored);
    let rig = rig.crash().await;
    let fetch = FetchChunkRequest {
        to: rig.to(),
        partition: PARTITION,
        epoch: Epoch(1),
        id: chunk.id,
        from: 6,
        len: 2,
    };
    let (reply, bytes) = rig.replica.fetch_chunk(fetch).await.unwrap();
    assert_eq!((reply, &bytes[..]), (FetchChunkReply::Found, &data[6..8]));
}
