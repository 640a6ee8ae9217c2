//! Tear or rot: what recovery cuts, what it names, and when it gives up a disk.
use crate::support::*;
use ringfort_ring::id::PartitionId;
use ringfort_storage_node::disk::Disk;
use ringfort_storage_node::disk::simulated::SimulatedDisk;
use ringfort_storage_node::engine::{Engine, EngineError, Held, Mutation};

fn is_lost(result: Result<impl Sized, EngineError>) -> bool {
    matches!(result, Err(EngineError::Corrupt { .. }))
}

/// An engine with a row, a chunk and a later row, all in commits of their own, stopped without a word.
fn written() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let engine = create(&disk, options());
    write(&engine, row(&object("a"), 10, 3000)).unwrap();
    write(&engine, chunk(chunk_id(1), 20, 3000)).unwrap();
    write(&engine, row(&object("b"), 30, 3000)).unwrap();
    disk
}

/// Flips a bit in the middle of these bytes.
fn rot(disk: &SimulatedDisk, bytes: &[u8]) {
    let found = find(disk, bytes);
    assert!(!found.is_empty(), "the bytes are on the disk");
    // A copy that recovery made would heal the original.
    for (name, at) in found {
        assert!(disk.flip_bit(&name, at + bytes.len() as u64 / 2, 3));
    }
}

#[test]
fn a_bad_tail_above_the_known_synced_position_is_cut() {
    let disk = written();
    rot(&disk, &pattern(31, 3000));
    let (engine, report) = open(&disk, options());
    assert!(report.rot.is_empty() && report.records_moved == 0);
    assert!(read_row(&engine, &object("a")).is_some());
    assert!(read_row(&engine, &object("b")).is_none());
}

#[test]
fn the_same_bytes_below_it_are_rot_and_end_the_partition() {
    let disk = written();
    let (engine, _) = open(&disk, options());
    engine.quiet();
    drop(engine);
    rot(&disk, &pattern(31, 3000));
    let (engine, report) = open(&disk, options());
    assert_eq!(report.lost_partitions, [PartitionId(5)].into());
    assert!(
        report
            .rot
            .iter()
            .any(|rot| matches!(&rot.held, Held::Row { key, .. } if *key == object("b")))
    );
    assert!(engine.partition(PartitionId(5)).is_lost());
    assert!(read_row(&engine, &object("a")).is_some());
    // It stays so over checkpoints and starts, until the disk joins anew.
    now(engine.checkpoint()).unwrap();
    drop(engine);
    let (engine, report) = open(&disk, options());
    assert_eq!(report.lost_partitions, [PartitionId(5)].into());
    let epoch = ringfort_ring::id::Epoch(2);
    write(
        &engine,
        Mutation::Joined {
            partition: PartitionId(5),
            epoch,
        },
    )
    .unwrap();
    assert!(!engine.partition(PartitionId(5)).is_lost());
}

#[test]
fn a_rotten_record_before_a_later_commit_is_rot_without_any_anchor() {
    let disk = written();
    rot(&disk, &pattern(20, 3000));
    let (engine, report) = open(&disk, options());
    assert_eq!(report.lost_chunks, [chunk_id(1)]);
    assert!(report.lost_partitions.is_empty());
    assert!(read_chunk(&engine, chunk_id(1)).is_none());
    // A chunk that is fetched again is whole again.
    write(&engine, chunk(chunk_id(1), 20, 3000)).unwrap();
    assert_eq!(read_chunk(&engine, chunk_id(1)).unwrap(), pattern(20, 3000));
}

#[test]
fn a_rotten_superseded_row_means_nothing() {
    let disk = written();
    let (engine, _) = open(&disk, options());
    write(&engine, row(&object("a"), 40, 10)).unwrap();
    write(&engine, Mutation::DeleteChunk { id: chunk_id(1) }).unwrap();
    engine.quiet();
    drop(engine);
    for (tag, len) in [(11, 3000), (20, 3000)] {
        rot(&disk, &pattern(tag, len));
    }
    let (_, report) = open(&disk, options());
    assert_eq!(report.rot.len(), 2);
    assert!(report.rot.iter().all(|rot| rot.held == Held::Superseded));
    assert!(report.lost_partitions.is_empty() && report.lost_chunks.is_empty());
}

#[test]
fn rot_that_nothing_can_name_ends_the_disk() {
    let disk = written();
    // The name itself: the fields of the first row's record.
    let needle = [&BUCKET.0[..], &[1, 0], b"a"].concat();
    rot(&disk, &needle);
    assert!(is_lost(Engine::open(shared(&disk), options())));
}

#[test]
fn one_bad_anchor_slot_is_reported_and_two_end_the_disk() {
    let disk = written();
    assert!(disk.flip_bit("anchor", 30, 1));
    let (engine, report) = open(&disk, options());
    assert!(report.is_anchor_slot_bad);
    drop(engine);
    let disk = written();
    assert!(disk.flip_bit("anchor", 30, 1) && disk.flip_bit("anchor", 4096 + 30, 1));
    assert!(is_lost(Engine::open(shared(&disk), options())));
    assert!(Engine::exists(&disk).unwrap());
    let again = Engine::create(
        shared(&disk),
        DISK_ID,
        ringfort_ring::id::ClusterId([2; 16]),
        options(),
    );
    assert!(
        matches!(again, Err(EngineError::Io { .. })),
        "a lost disk was made anew"
    );
}

#[test]
fn a_missing_segment_is_named_by_the_index() {
    let disk = SimulatedDisk::new(1);
    let engine = create(&disk, options());
    for number in 0..12 {
        write(
            &engine,
            row(&object(&format!("k{number}")), 10 + number * 2, 6000),
        )
        .unwrap();
    }
    now(engine.checkpoint()).unwrap();
    drop(engine);
    let (name, _) = find(&disk, &pattern(11, 6000)).remove(0);
    disk.remove(&name).unwrap();
    let (engine, report) = open(&disk, options());
    assert_eq!(report.lost_partitions, [PartitionId(5)].into());
    assert!(!report.rot.is_empty());
    let lost = read_row(&engine, &object("k0")).unwrap();
    assert!(is_lost(now(engine.body(&lost))), "a lost body was served");
    let kept = read_row(&engine, &object("k11")).unwrap();
    assert_eq!(now(engine.body(&kept)).unwrap(), pattern(33, 6000));
}

#[test]
fn a_missing_newest_segment_ends_the_disk() {
    let disk = written();
    let name = segments(&disk).pop().unwrap();
    disk.remove(&name).unwrap();
    assert!(is_lost(Engine::open(shared(&disk), options())));
}

#[test]
fn a_damaged_index_is_built_anew() {
    let disk = SimulatedDisk::new(3);
    let engine = create(&disk, options());
    for number in 0..40 {
        write(
            &engine,
            row(&object(&format!("k{number}")), 10 + number, 100),
        )
        .unwrap();
    }
    now(engine.checkpoint()).unwrap();
    drop(engine);
    let len = disk.bytes("index.redb").unwrap().len() as u64;
    let mut rebuilt = 0;
    for at in (0..len).step_by(997) {
        let copy = disk.copy_of_synced();
        assert!(copy.flip_bit("index.redb", at, 5));
        let (engine, report) = open(&copy, options());
        rebuilt += u32::from(report.index_rebuilt.is_some());
        let missing = (0..40)
            .filter(|number| !matches!(engine.row(&object(&format!("k{number}"))), Ok(Some(_))));
        if missing.count() > 0 {
            // Met only when read: said so, never answered wrongly, and mended at the next start.
            assert!(engine.stats().index_doubt.is_some());
            drop(engine);
            let (engine, report) = open(&copy, options());
            assert!(report.index_rebuilt.is_some());
            rebuilt += 1;
            assert!(
                (0..40).all(|number| read_row(&engine, &object(&format!("k{number}"))).is_some())
            );
        }
    }
    assert!(rebuilt > 0);
}

#[test]
fn a_body_that_rots_later_is_not_served() {
    let disk = SimulatedDisk::new(4);
    let engine = create(&disk, options());
    write(&engine, row(&object("a"), 10, 500)).unwrap();
    write(&engine, chunk(chunk_id(1), 20, 150_000)).unwrap();
    rot(&disk, &pattern(11, 500));
    let stored = read_row(&engine, &object("a")).unwrap();
    assert!(is_lost(now(engine.body(&stored))));
    let (name, at) = find(&disk, &pattern(20, 150_000)).remove(0);
    assert!(disk.flip_bit(&name, at + 70_000, 1));
    // Only the second frame is rotten: the others are served.
    assert!(is_lost(now(engine.chunk(chunk_id(1), 65_000..66_000))));
    let good = now(engine.chunk(chunk_id(1), 131_072..140_000))
        .unwrap()
        .unwrap();
    assert_eq!(good, pattern(20, 150_000)[131_072..140_000]);
    // Written again, the newer copy counts.
    write(&engine, chunk(chunk_id(1), 20, 150_000)).unwrap();
    assert_eq!(
        read_chunk(&engine, chunk_id(1)).unwrap(),
        pattern(20, 150_000)
    );
    // A sector that the disk refuses to read is rot too.
    let (name, at) = find(&disk, &pattern(20, 150_000)).pop().unwrap();
    disk.fail_reads(&name, at..at + 512);
    assert!(is_lost(now(engine.chunk(chunk_id(1), 0..10))));
}
