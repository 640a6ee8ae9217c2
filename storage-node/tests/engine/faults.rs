//! A disk that fails: syncs, room.
use crate::support::*;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::PartitionId;
use ringfort_storage_node::disk::simulated::SimulatedDisk;
use ringfort_storage_node::engine::{EngineError, EngineOptions, Mutation};

#[test]
fn a_failed_sync_closes_the_disk_for_writes_for_ever() {
    let disk = SimulatedDisk::new(1);
    let engine = create(&disk, options());
    let fatal = engine.watch_fatal();
    write(&engine, row(&object("a"), 10, 100)).unwrap();
    disk.fail_syncs("segment-");
    let refused = write(&engine, row(&object("b"), 20, 100));
    assert!(matches!(refused, Err(EngineError::WritesClosed { .. })));
    assert!(fatal.borrow().is_some() && engine.stats().writes_closed.is_some());
    // Not answered from, though the page cache shows it; what was durable is still read.
    assert!(read_row(&engine, &object("b")).is_none());
    assert!(read_row(&engine, &object("a")).is_some());
    for refused in [
        write(&engine, row(&object("c"), 30, 0)),
        now(engine.record_horizon(Timestamp(5))),
        now(engine.checkpoint()),
    ] {
        assert!(matches!(refused, Err(EngineError::WritesClosed { .. })));
    }
    let operations = disk.operations();
    engine.quiet();
    assert_eq!(
        disk.operations(),
        operations,
        "a closed disk was written to"
    );
}

/// After a failed sync the page cache shows bytes that count as clean and are on no disk: syncing the file again does not
/// bring them there, only writing them again does.
#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_written_again() {
    let disk = SimulatedDisk::new(1);
    let engine = create(&disk, options());
    write(&engine, row(&object("a"), 10, 100)).unwrap();
    disk.fail_syncs("segment-");
    write(&engine, row(&object("b"), 20, 100)).unwrap_err();
    drop(engine);
    disk.kill();
    let (engine, report) = open(&disk, options());
    assert_eq!(report.records_moved, 1);
    assert!(read_row(&engine, &object("b")).is_some());
    drop(engine);
    disk.crash();
    let (engine, _) = open(&disk, options());
    assert!(
        read_row(&engine, &object("b")).is_some(),
        "answered from the page cache"
    );
}

#[test]
fn a_failed_sync_of_the_anchor_closes_too() {
    let disk = SimulatedDisk::new(1);
    let engine = create(&disk, options());
    disk.fail_syncs("anchor");
    let refused = now(engine.record_horizon(Timestamp(5)));
    assert!(matches!(refused, Err(EngineError::WritesClosed { .. })));
    assert!(write(&engine, row(&object("a"), 10, 0)).is_err());
}

#[test]
fn a_full_disk_refuses_and_goes_on() {
    for spare in (0..30_000).step_by(1_500) {
        let disk = SimulatedDisk::new(spare);
        let engine = create(&disk, options());
        write(&engine, row(&object("first"), 1, 100)).unwrap();
        disk.set_capacity(Some(disk.used_bytes() + spare));
        let mut outcomes = Vec::new();
        for number in 0..14_u64 {
            let time = 10 + number * 2;
            let outcome = write(&engine, row(&object(&format!("k{number}")), time, 4000));
            assert!(
                outcome == Ok(()) || outcome == Err(EngineError::Full),
                "{outcome:?}"
            );
            outcomes.push(outcome.is_ok());
        }
        assert!(outcomes.contains(&false), "the disk never filled");
        assert_eq!(engine.stats().writes_closed, None);
        disk.set_capacity(None);
        write(&engine, row(&object("last"), 900, 4000)).unwrap();
        drop(engine);
        disk.crash();
        let (engine, report) = open(&disk, options());
        assert!(report.rot.is_empty());
        for (number, is_there) in outcomes.into_iter().enumerate() {
            let found = read_row(&engine, &object(&format!("k{number}")));
            assert_eq!(found.is_some(), is_there, "k{number} with {spare} spare");
        }
        assert!(read_row(&engine, &object("first")).is_some());
        assert!(read_row(&engine, &object("last")).is_some());
    }
}

#[test]
fn a_refused_commit_does_not_come_back() {
    for seed in 0..32 {
        let disk = SimulatedDisk::new(seed);
        let engine = create(&disk, options());
        write(&engine, row(&object("first"), 1, 100)).unwrap();
        disk.fail_next_write("segment-");
        assert_eq!(
            write(&engine, row(&object("refused"), 10, 100)),
            Err(EngineError::Full)
        );
        if seed % 2 == 0 {
            write(&engine, row(&object("next"), 20, 10)).unwrap();
        }
        drop(engine);
        disk.crash();
        let (engine, _) = open(&disk, options());
        assert!(
            read_row(&engine, &object("refused")).is_none(),
            "seed {seed}"
        );
        assert!(read_row(&engine, &object("first")).is_some());
        assert_eq!(read_row(&engine, &object("next")).is_some(), seed % 2 == 0);
    }
}

#[test]
fn below_the_reserve_bodies_are_refused_and_deletes_go_through() {
    let disk = SimulatedDisk::new(1);
    let options = EngineOptions {
        reserve_bytes: 2 << 20,
        ..options()
    };
    let engine = create(&disk, options);
    write(&engine, chunk(chunk_id(1), 5, 1000)).unwrap();
    disk.set_capacity(Some(disk.used_bytes() + (1 << 19)));
    for refused in [chunk(chunk_id(2), 5, 10), row(&object("a"), 10, 10)] {
        // What is free is asked now and then, so the first may pass.
        drop(write(&engine, row(&object("probe"), 1, 9000)));
        drop(write(&engine, row(&object("probe"), 2, 9000)));
        drop(write(&engine, row(&object("probe"), 3, 9000)));
        assert_eq!(write(&engine, refused), Err(EngineError::Full));
    }
    assert!(engine.is_full());
    write(&engine, row(&object("tombstone"), 10, 0)).unwrap();
    write(&engine, Mutation::DeleteChunk { id: chunk_id(1) }).unwrap();
    write(
        &engine,
        Mutation::Floor {
            partition: PartitionId(1),
            ballot: ballot(3),
        },
    )
    .unwrap();
    assert_eq!(engine.partition(PartitionId(1)).floor, ballot(3));
    // Nothing is written any more; room is made behind the engine's back.
    disk.set_capacity(None);
    assert!(!engine.is_full());
}

#[test]
fn the_upper_half_of_the_reserve_is_for_repair() {
    let disk = SimulatedDisk::new(1);
    let options = EngineOptions {
        reserve_bytes: 2 << 20,
        ..options()
    };
    let engine = create(&disk, options);
    disk.set_capacity(Some(disk.used_bytes() + (3 << 19)));
    // What is free is asked now and then, with each new segment too.
    for at in 1..10 {
        write(&engine, row(&object("probe"), at, 9000)).unwrap();
    }
    assert!(engine.is_full());
    write(&engine, chunk(chunk_id(2), 5, 10)).unwrap();
}

#[test]
fn a_checkpoint_without_room_is_made_up_for_later() {
    let disk = SimulatedDisk::new(1);
    let engine = create(&disk, options());
    now(engine.checkpoint()).unwrap();
    for number in 0..60_u64 {
        write(
            &engine,
            row(&object(&format!("k{number}")), 10 + number, 600),
        )
        .unwrap();
    }
    for spare in 0..4 {
        disk.set_capacity(Some(disk.used_bytes() + spare * 4096));
        let full = now(engine.checkpoint());
        assert!(full == Ok(()) || full == Err(EngineError::Full), "{full:?}");
        assert!((0..60).all(|number| read_row(&engine, &object(&format!("k{number}"))).is_some()));
    }
    disk.set_capacity(None);
    now(engine.checkpoint()).unwrap();
    assert!((0..60).all(|number| read_row(&engine, &object(&format!("k{number}"))).is_some()));
    let stats = engine.stats();
    assert_eq!((stats.table_rows, stats.index_doubt), (0, None));
}
