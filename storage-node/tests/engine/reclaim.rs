//! Compaction keeps everything that counts, and room really comes back.
use crate::support::*;
use ringfort_storage_node::disk::simulated::SimulatedDisk;
use ringfort_storage_node::engine::{Engine, Mutation};

fn compact_all(engine: &Engine) -> u64 {
    let mut freed = 0;
    for _ in 0..1000 {
        let report = now(engine.compact_once(10_000)).unwrap();
        assert!(report.rot.is_empty());
        freed += report.bytes_freed;
        if !report.has_more {
            return freed;
        }
    }
    panic!("compaction never ends");
}

#[test]
fn room_comes_back_and_nothing_is_lost() {
    let disk = SimulatedDisk::new(1);
    let engine = create(&disk, options());
    for round in 0..30_u64 {
        for number in 0..5_u8 {
            let time = 10 + round * 10 + u64::from(number);
            write(&engine, row(&object(&format!("k{number}")), time, 1500)).unwrap();
            write(&engine, chunk(chunk_id(number), time, 2000)).unwrap();
        }
    }
    write(
        &engine,
        Mutation::DropRow {
            key: object("k0"),
            ballot: ballot(300),
        },
    )
    .unwrap();
    write(&engine, Mutation::DeleteChunk { id: chunk_id(0) }).unwrap();
    let kept_open = read_row(&engine, &object("k1")).unwrap();
    let freed = compact_all(&engine);
    assert!(freed > 300_000, "{freed} bytes freed");
    // The file that a reader holds open counts until it lets go; here the simulation keeps it for ever.
    assert_eq!(now(engine.body(&kept_open)).unwrap(), pattern(302, 1500));
    let stats = engine.stats();
    assert!(stats.garbage_bytes < stats.live_bytes, "{stats:?}");
    assert!(segments(&disk).len() < 6, "{:?}", segments(&disk));
    drop(engine);
    disk.crash();
    let rebuilt = disk.copy_of_synced();
    let (engine, _) = open(&disk, options());
    let (rebuilt, _) = Engine::rebuild_index(shared(&rebuilt), options()).unwrap();
    for engine in [&engine, &rebuilt] {
        assert!(
            read_row(engine, &object("k0")).is_none() && read_chunk(engine, chunk_id(0)).is_none()
        );
        for number in 1..5_u8 {
            let time = 300 + u64::from(number);
            let stored = read_row(engine, &object(&format!("k{number}"))).unwrap();
            assert_eq!(stored.ballot, ballot(time));
            assert_eq!(now(engine.body(&stored)).unwrap(), pattern(time + 1, 1500));
            assert_eq!(
                read_chunk(engine, chunk_id(number)).unwrap(),
                pattern(time, 2000)
            );
        }
    }
}

/// A removal's record moves to a later segment than a row that was written after it under a lower ballot. A rebuild that
/// took records by position would lose that row, or bring the removed one back.
#[test]
fn a_moved_removal_removes_only_what_was_before_it() {
    let disk = SimulatedDisk::new(1);
    let engine = create(&disk, options());
    let filler = |from: u64, to: u64| {
        for time in from..to {
            write(&engine, row(&object("filler"), time, 4000)).unwrap();
        }
    };
    // The first segment keeps enough alive to stay.
    for number in 0..3_u8 {
        write(&engine, chunk(chunk_id(number), 1, 4500)).unwrap();
    }
    write(&engine, row(&object("a"), 50, 100)).unwrap();
    filler(1000, 1010);
    write(
        &engine,
        Mutation::DropRow {
            key: object("a"),
            ballot: ballot(50),
        },
    )
    .unwrap();
    filler(1010, 1018);
    // This segment stays where it is too.
    for number in 3..6_u8 {
        write(&engine, chunk(chunk_id(number), 1, 4500)).unwrap();
    }
    write(&engine, row(&object("a"), 40, 100)).unwrap();
    for number in 6..9_u8 {
        write(&engine, chunk(chunk_id(number), 1, 4500)).unwrap();
    }
    filler(1012, 1030);
    compact_all(&engine);
    drop(engine);
    let (engine, _) = Engine::rebuild_index(shared(&disk), options()).unwrap();
    assert_eq!(read_row(&engine, &object("a")).unwrap().ballot, ballot(40));
    assert!(
        !find(&disk, &pattern(51, 100)).is_empty(),
        "the removed row's bytes are gone: the test shows nothing"
    );
}
