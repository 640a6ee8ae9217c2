//! Short words for what the tests write, and how they wait: an engine driven by its caller never makes them wait.

use bytes::Bytes;
use futures_util::FutureExt;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{ClusterId, DiskId, Epoch, Incarnation, PartitionId};
use ringfort_storage_node::disk::Disk;
use ringfort_storage_node::disk::simulated::SimulatedDisk;
use ringfort_storage_node::engine::{
    ChunkOwner, Engine, EngineError, EngineOptions, Mutation, RecoveryReport, StoredRow,
};
use ringfort_wire::id::{BucketId, ChunkId, ObjectKey, OperationId, RowKey, UploadId};
use ringfort_wire::manifest::BodyOwner;
use std::future::Future;
use std::sync::Arc;

pub(crate) const BUCKET: BucketId = BucketId([7; 16]);
pub(crate) const UPLOAD: UploadId = UploadId([9; 16]);
pub(crate) const DISK_ID: DiskId = DiskId([1; 16]);

/// Small files and frequent checkpoints, nothing on threads.
pub(crate) fn options() -> EngineOptions {
    EngineOptions {
        segment_bytes: 24 << 10,
        commit_bytes: 8 << 10,
        checkpoint_bytes: 1 << 30,
        reserve_bytes: 0,
        index_cache_bytes: 1 << 20,
        is_driven_by_caller: true,
        ..EngineOptions::default()
    }
}

pub(crate) fn shared(disk: &SimulatedDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

pub(crate) fn create(disk: &SimulatedDisk, options: EngineOptions) -> Engine {
    Engine::create(shared(disk), DISK_ID, ClusterId([2; 16]), options).unwrap()
}

pub(crate) fn open(disk: &SimulatedDisk, options: EngineOptions) -> (Engine, RecoveryReport) {
    Engine::open(shared(disk), options).unwrap()
}

/// The outcome of something asynchronous that a driven engine finishes at once.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("a driven engine never waits")
}

pub(crate) fn write(engine: &Engine, mutation: Mutation) -> Result<(), EngineError> {
    let mut commit = engine.submit(mutation);
    while engine.step() {}
    commit.now().expect("driven to its end")
}

pub(crate) fn ballot(time: u64) -> Ballot {
    Ballot {
        time: Timestamp(time),
        incarnation: Incarnation([3; 16]),
    }
}

pub(crate) fn object(name: &str) -> RowKey {
    RowKey::object(BUCKET, ObjectKey::parse(name).unwrap())
}

pub(crate) fn part(name: &str, number: u16) -> RowKey {
    RowKey::part(BUCKET, ObjectKey::parse(name).unwrap(), UPLOAD, number)
}

/// Bytes that say where they belong.
pub(crate) fn pattern(tag: u64, len: usize) -> Bytes {
    let words = (0_u64..).flat_map(|n| (n ^ tag.wrapping_mul(0x9e37_79b9)).to_le_bytes());
    words.take(len).collect::<Vec<u8>>().into()
}

pub(crate) fn row(key: &RowKey, time: u64, body_len: usize) -> Mutation {
    Mutation::Row {
        partition: PartitionId(5),
        epoch: Epoch(1),
        key: key.clone(),
        ballot: ballot(time),
        state: pattern(time, 40),
        body: pattern(time + 1, body_len),
    }
}

pub(crate) fn chunk_id(number: u8) -> ChunkId {
    ChunkId([number; 16])
}

pub(crate) fn chunk(id: ChunkId, tag: u64, len: usize) -> Mutation {
    let data = pattern(tag, len);
    Mutation::Chunk {
        id,
        partition: PartitionId(6),
        epoch: Epoch(1),
        owner: ChunkOwner {
            bucket: BUCKET,
            partition: PartitionId(5),
            key: ObjectKey::parse("owner").unwrap(),
            owner: BodyOwner::Operation(OperationId {
                id: [4; 16],
                born: Timestamp(77),
            }),
        },
        blake3: [tag.to_le_bytes()[0]; 32],
        data,
    }
}

pub(crate) fn read_row(engine: &Engine, key: &RowKey) -> Option<StoredRow> {
    engine.row(key).unwrap()
}

pub(crate) fn read_chunk(engine: &Engine, id: ChunkId) -> Option<Bytes> {
    now(engine.chunk(id, 0..u32::MAX)).unwrap()
}

/// Names and numbers of the segment files.
pub(crate) fn segments(disk: &SimulatedDisk) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.starts_with("segment-"));
    names
}

/// Where a pattern of bytes lies: file and offset.
pub(crate) fn find(disk: &SimulatedDisk, needle: &[u8]) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for name in segments(disk) {
        let bytes = disk.bytes(&name).unwrap();
        let at = bytes.windows(needle.len()).position(|it| it == needle);
        found.extend(at.map(|at| (name, at as u64)));
    }
    found
}
