//! A real folder, real threads.
#![allow(
    clippy::disallowed_methods,
    reason = "a measurement by hand takes real time; no test depends on it"
)]

use crate::support::{BUCKET, ballot, chunk, chunk_id, object, pattern, row};
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{ClusterId, DiskId};
use ringfort_storage_node::disk::Disk;
use ringfort_storage_node::disk::os::OsDisk;
use ringfort_storage_node::engine::{Engine, EngineOptions};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

fn options() -> EngineOptions {
    EngineOptions {
        segment_bytes: 8 << 20,
        checkpoint_rows: 500,
        reserve_bytes: 0,
        ..EngineOptions::default()
    }
}

fn disk(folder: &std::path::Path) -> Arc<dyn Disk> {
    Arc::new(OsDisk::open(folder).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("disk");
    let engine = Engine::create(
        disk(&folder),
        DiskId([1; 16]),
        ClusterId([2; 16]),
        options(),
    )
    .unwrap();
    let writes = (0..2_000_u64).map(|number| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let _permit = engine.reserve(4096).await.unwrap();
            let key = object(&format!("k{number:05}"));
            engine.submit(row(&key, 10 + number, 700)).await.unwrap();
            assert!(
                engine.row(&key).unwrap().is_some(),
                "acknowledged before it could be read"
            );
        })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap();
    }
    engine.submit(chunk(chunk_id(1), 5, 4 << 20)).await.unwrap();
    engine.record_horizon(Timestamp(99)).await.unwrap();
    engine.checkpoint().await.unwrap();
    while engine.compact_once(1 << 20).await.unwrap().has_more {}
    drop(engine);
    let (engine, report) = Engine::open(disk(&folder), options()).unwrap();
    assert_eq!(engine.horizon_found(), Timestamp(99));
    assert_eq!(
        (report.records_moved, report.bytes_cut),
        (0, 0),
        "a clean stop leaves no doubt"
    );
    let rows = engine
        .scan_objects(BUCKET, Bound::Unbounded, 5_000)
        .unwrap();
    assert_eq!(rows.len(), 2_000);
    for (number, (key, stored)) in (0..).zip(rows) {
        assert_eq!(key.as_str(), format!("k{number:05}"));
        assert_eq!(stored.ballot, ballot(10 + number));
        assert_eq!(
            engine.body(&stored).await.unwrap(),
            pattern(11 + number, 700)
        );
    }
    let part = engine
        .chunk(chunk_id(1), 100_000..3_000_000)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(part, pattern(5, 4 << 20)[100_000..3_000_000]);
    let facts = engine.chunk_facts(chunk_id(1)).await.unwrap().unwrap();
    assert_eq!((facts.len_bytes, facts.blake3), (4 << 20, [5; 32]));
}

/// Figures, no judgement: `cargo test -p ringfort-storage-node --release --test engine -- --ignored --nocapture throughput`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn throughput() {
    const ROWS: u64 = 40_000;
    const AT_ONCE: u64 = 64;
    let parent = match std::env::var_os("RINGFORT_BENCH_FOLDER") {
        Some(folder) => tempfile::tempdir_in(folder).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let engine = Engine::create(
        disk(&parent.path().join("disk")),
        DiskId([1; 16]),
        ClusterId([2; 16]),
        EngineOptions::default(),
    )
    .unwrap();
    let start = Instant::now();
    let workers = (0..AT_ONCE).map(|worker| {
        let engine = engine.clone();
        tokio::spawn(async move {
            for number in 0..ROWS / AT_ONCE {
                let key = object(&format!(
                    "{:016x}",
                    (worker * 1_000_003 + number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                ));
                engine.submit(row(&key, 10 + number, 4096)).await.unwrap();
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    let took = start.elapsed();
    println!(
        "{ROWS} rows of 4 KiB, {AT_ONCE} at once: {:.0} a second; {:?}",
        ROWS as f64 / took.as_secs_f64(),
        engine.stats()
    );

    let data = pattern(3, 4 << 20);
    let start = Instant::now();
    let mut waiting = std::collections::VecDeque::new();
    for number in 0..256_u64 {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        let permit = engine.reserve(4 << 20).await.unwrap();
        let mut mutation = chunk(chunk_id(0), 0, 0);
        if let ringfort_storage_node::engine::Mutation::Chunk {
            id: chunk,
            data: bytes,
            ..
        } = &mut mutation
        {
            chunk.0 = id;
            *bytes = data.clone();
        }
        waiting.push_back((engine.submit(mutation), permit));
        if waiting.len() >= 8 {
            let (commit, _permit) = waiting.pop_front().unwrap();
            commit.await.unwrap();
        }
    }
    for (commit, _permit) in waiting {
        commit.await.unwrap();
    }
    let took = start.elapsed();
    println!(
        "1 GiB of 4 MiB chunks: {:.0} MB/s",
        (1_u64 << 30) as f64 / 1e6 / took.as_secs_f64()
    );
}
