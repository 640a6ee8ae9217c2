//! Scrub: whatever bit turns in what counts is found, named, and gone for good once it was written anew.
use crate::support::*;
use bytes::Bytes;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{Epoch, Generation, PartitionId};
use ringfort_storage_node::disk::Disk;
use ringfort_storage_node::disk::simulated::{Random, SimulatedDisk};
use ringfort_storage_node::engine::scrub::{Rotten, RottenRecord, ScrubCursor};
use ringfort_storage_node::engine::{Engine, EngineError, EngineOptions, Mutation};
use ringfort_wire::id::ChunkId;
use std::collections::BTreeMap;

/// What a whole pass found.
#[derive(Debug, Default)]
struct Found {
    records: u64,
    rotten: Vec<Rotten>,
    /// Places that hold nothing which counts.
    places: u64,
    /// Segments with bytes that are no record.
    bad_segments: Vec<u64>,
}

impl Found {
    fn is_nothing(&self) -> bool {
        self.rotten.is_empty() && self.bad_segments.is_empty()
    }

    fn rows(&self) -> Vec<String> {
        let rows = self.rotten.iter().filter_map(|it| match &it.record {
            RottenRecord::Row { key, .. } => Some(key.key.as_str().to_owned()),
            _ => None,
        });
        rows.collect()
    }

    fn chunks(&self) -> Vec<ChunkId> {
        let chunks = self.rotten.iter().filter_map(|it| match &it.record {
            RottenRecord::Chunk { id } => Some(*id),
            _ => None,
        });
        chunks.collect()
    }

    fn facts(&self) -> usize {
        let is_fact = |it: &&Rotten| it.record == RottenRecord::Fact;
        self.rotten.iter().filter(is_fact).count()
    }
}

/// Reads everything back, in pieces of this size.
fn scrub_in(engine: &Engine, piece_bytes: u64) -> Found {
    let mut found = Found::default();
    let until = engine.newest_segment();
    let mut next = Some(ScrubCursor::default());
    let mut places = Vec::new();
    let mut bytes = 0;
    let expected = engine.bytes_from(ScrubCursor::default());
    while let Some(at) = next {
        let piece = now(engine.scrub_piece(at, until, piece_bytes)).unwrap();
        found.records += piece.records;
        bytes += piece.bytes;
        found.rotten.extend(piece.rotten);
        places.extend(piece.bad_places);
        assert!(piece.next.is_none_or(|next| next > at));
        next = piece.next;
    }
    assert_eq!(bytes, expected, "not every byte was read once");
    let held = now(engine.live_in(places.clone())).unwrap();
    for place in &places {
        found.bad_segments.push(place.segment);
        found.places += u64::from(!held.iter().any(|it| it.lies_in(place)));
    }
    found.rotten.extend(held);
    found
}

fn scrub(engine: &Engine) -> Found {
    scrub_in(engine, 10_000)
}

/// A chunk with the digest that it has.
fn whole_chunk(id: ChunkId, tag: u64, len: usize) -> Mutation {
    match chunk(id, tag, len) {
        Mutation::Chunk {
            id,
            partition,
            epoch,
            owner,
            data,
            ..
        } => Mutation::Chunk {
            id,
            partition,
            epoch,
            owner,
            blake3: *blake3::hash(&data).as_bytes(),
            data,
        },
        other => other,
    }
}

/// Rows with and without a body, parts, chunks of more than a frame, facts, and what superseded and removed others.
fn filled(disk: &SimulatedDisk) -> (Engine, BTreeMap<u64, Mutation>) {
    let engine = create(disk, options());
    let mut written = BTreeMap::new();
    let mut put = |number: u64, mutation: Mutation| {
        write(&engine, mutation.clone()).unwrap();
        written.insert(number, mutation);
    };
    for number in 0..12_u64 {
        let name = format!("k{number}");
        let body_len = if number % 3 == 0 { 0 } else { 700 };
        put(number, row(&object(&name), 100 + number, 900));
        put(number, row(&object(&name), 200 + number, body_len));
        put(
            100 + number,
            row(
                &part("multi", 1 + u16::try_from(number).unwrap()),
                300 + number,
                0,
            ),
        );
        let id = chunk_id(u8::try_from(number).unwrap() + 1);
        let len = if number % 4 == 0 { 70_000 } else { 3_000 };
        put(200 + number, whole_chunk(id, 400 + number, len));
    }
    let partition = PartitionId(5);
    put(
        300,
        Mutation::Floor {
            partition,
            ballot: ballot(7),
        },
    );
    put(
        301,
        Mutation::Bound {
            partition,
            bound: Timestamp(8),
        },
    );
    let epoch = Epoch(9);
    put(302, Mutation::Epoch { partition, epoch });
    put(303, Mutation::Joined { partition, epoch });
    put(304, Mutation::Synced { partition, epoch });
    put(
        305,
        Mutation::Generation {
            bucket: BUCKET,
            generation: Generation(4),
        },
    );
    write(
        &engine,
        Mutation::DeleteChunk {
            id: chunk_id(u8::MAX),
        },
    )
    .unwrap();
    (engine, written)
}

/// Everything that was written last is there, and reads back.
fn check_whole(engine: &Engine, written: &BTreeMap<u64, Mutation>) {
    for mutation in written.values() {
        match mutation {
            Mutation::Row {
                key,
                ballot,
                state,
                body,
                ..
            } => {
                let stored = read_row(engine, key).unwrap();
                assert_eq!((stored.ballot, &stored.state), (*ballot, state));
                assert_eq!(now(engine.body(&stored)).unwrap(), *body);
            }
            Mutation::Chunk { id, data, .. } => {
                assert_eq!(read_chunk(engine, *id).as_ref(), Some(data));
            }
            _ => {}
        }
    }
    let facts = engine.partition(PartitionId(5));
    assert_eq!((facts.floor, facts.bound), (ballot(7), Timestamp(8)));
    assert_eq!(
        (facts.epoch, facts.joined, facts.synced),
        (Epoch(9), Epoch(9), Epoch(9))
    );
    assert_eq!(engine.generation(BUCKET), Generation(4));
}

/// What other replicas would give: the same record once more.
fn mend(engine: &Engine, written: &BTreeMap<u64, Mutation>, rotten: &Rotten) {
    if let Some(mut commit) = engine.restate(rotten).unwrap() {
        while engine.step() {}
        commit.now().unwrap().unwrap();
    } else {
        let is_it = |mutation: &&Mutation| match (mutation, &rotten.record) {
            (Mutation::Row { key, .. }, RottenRecord::Row { key: wanted, .. }) => key == wanted,
            (Mutation::Chunk { id, .. }, RottenRecord::Chunk { id: wanted }) => id == wanted,
            _ => false,
        };
        let mutation = written.values().find(is_it).unwrap();
        write(engine, mutation.clone()).unwrap();
    }
    assert!(!engine.still_counts(rotten).unwrap(), "{rotten:?}");
}

fn leave(engine: &Engine, segments: &[u64]) {
    now(engine.checkpoint()).unwrap();
    now(engine.leave_segments(segments)).unwrap();
    for _ in 0..1000 {
        if engine.segments_left(segments) == 0 {
            return;
        }
        let report = now(engine.compact_once(1 << 20)).unwrap();
        assert!(report.rot.is_empty(), "{report:?}");
    }
    panic!("the segments are never left");
}

#[test]
fn what_is_well_is_read_whole_in_pieces_of_any_size() {
    let disk = SimulatedDisk::new(1);
    let (engine, written) = filled(&disk);
    let whole = scrub_in(&engine, u64::MAX);
    assert!(whole.is_nothing(), "{whole:?}");
    for piece_bytes in [1, 5_000, 100_000] {
        let pieces = scrub_in(&engine, piece_bytes);
        assert_eq!((pieces.is_nothing(), pieces.records), (true, whole.records));
    }
    assert!(!now(engine.check_anchor(false)).unwrap());
    now(engine.checkpoint()).unwrap();
    assert_eq!(now(engine.walk_index()).unwrap(), None);
    check_whole(&engine, &written);
}

/// The heart of it: one bit anywhere in what is written. It is found if it is in anything that counts; once mended, a
/// second pass finds nothing, and neither a start nor an index built anew meets it.
#[test]
fn any_one_bit_is_found_named_and_mended_for_good() {
    let mut random = Random::new(77);
    let mut kinds = [0_u64; 4];
    for round in 0..250 {
        let disk = SimulatedDisk::new(round);
        let (engine, written) = filled(&disk);
        engine.quiet();
        if round % 2 == 0 {
            now(engine.checkpoint()).unwrap();
        }
        let names = segments(&disk);
        // Facts were written last, and are few.
        let is_near_end = round % 5 == 1;
        let at = match is_near_end {
            true => names.len() - 1,
            false => usize::try_from(random.below(names.len() as u64)).unwrap(),
        };
        let len = disk.bytes(&names[at]).unwrap();
        let end = len.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
        let offset = if is_near_end {
            end - 1 - random.below((end - 4096).min(4_000))
        } else if round % 12 == 0 {
            random.below(72)
        } else {
            4096 + random.below(end - 4096)
        };
        assert!(disk.flip_bit(&names[at], offset, u8::try_from(random.below(8)).unwrap()));
        let found = scrub(&engine);
        kinds[0] += found.rows().len() as u64;
        kinds[1] += found.chunks().len() as u64;
        kinds[2] += found.facts() as u64;
        kinds[3] += found.places;
        // No wrong byte is ever read, mended or not.
        for mutation in written.values() {
            if let Mutation::Chunk { id, data, .. } = mutation {
                match now(engine.chunk(*id, 0..u32::MAX)) {
                    Ok(read) => assert_eq!(read.as_ref(), Some(data)),
                    Err(error) => {
                        assert!(matches!(error, EngineError::Corrupt { .. }));
                        assert!(
                            found.chunks().contains(id),
                            "{id} is rotten and was not found"
                        );
                    }
                }
            }
        }
        for rotten in &found.rotten {
            mend(&engine, &written, rotten);
        }
        leave(&engine, &found.bad_segments);
        check_whole(&engine, &written);
        let again = scrub(&engine);
        assert!(again.is_nothing(), "round {round}: {again:?}");
        engine.quiet();
        drop(engine);
        let (engine, report) = open(&disk, options());
        assert!(report.lost_partitions.is_empty() && report.lost_chunks.is_empty());
        check_whole(&engine, &written);
        engine.quiet();
        drop(engine);
        let (engine, report) = Engine::rebuild_index(shared(&disk), options()).unwrap();
        assert!(
            report.lost_partitions.is_empty(),
            "round {round}: {report:?}"
        );
        check_whole(&engine, &written);
    }
    assert!(kinds.iter().all(|count| *count > 2), "{kinds:?}");
}

/// The fields of a record are gone, so only the index knows what it was.
#[test]
fn a_record_without_a_readable_head_is_named_by_the_index() {
    let disk = SimulatedDisk::new(1);
    let (engine, written) = filled(&disk);
    let name = [&BUCKET.0[..], &[2, 0], b"k7"].concat();
    for (file, at) in find(&disk, &name) {
        // The first of the two states of k7; the second, which counts, lies in the same file or a later one.
        let bytes = disk.bytes(&file).unwrap();
        let from = usize::try_from(at).unwrap();
        for (offset, window) in bytes.windows(name.len()).enumerate().skip(from) {
            if window == name {
                assert!(disk.flip_bit(&file, offset as u64, 0));
            }
        }
    }
    let found = scrub(&engine);
    assert_eq!(found.rows(), ["k7"]);
    // The superseded state of it is a place that holds nothing, unless both lie behind each other.
    assert!(found.places <= 1, "{found:?}");
    for rotten in &found.rotten {
        mend(&engine, &written, rotten);
    }
    leave(&engine, &found.bad_segments);
    assert!(scrub(&engine).is_nothing());
    check_whole(&engine, &written);
}

#[test]
fn a_rotten_record_that_is_superseded_before_the_pass_comes_by_is_none() {
    let disk = SimulatedDisk::new(1);
    let (engine, _) = filled(&disk);
    for (file, at) in find(&disk, &pattern(202, 700)) {
        assert!(disk.flip_bit(&file, at + 300, 1));
    }
    write(&engine, row(&object("k1"), 900, 10)).unwrap();
    write(&engine, Mutation::DeleteChunk { id: chunk_id(2) }).unwrap();
    for (file, at) in find(&disk, &pattern(401, 3_000)) {
        assert!(disk.flip_bit(&file, at + 300, 1));
    }
    let found = scrub(&engine);
    assert!(found.is_nothing(), "{found:?}");
}

/// Every frame's checksum was made of bytes that memory had spoilt before they were written.
#[test]
fn a_chunk_that_is_not_what_its_digest_says_is_rotten() {
    let disk = SimulatedDisk::new(1);
    let engine = create(&disk, options());
    write(&engine, whole_chunk(chunk_id(1), 20, 3_000)).unwrap();
    write(&engine, chunk(chunk_id(2), 20, 3_000)).unwrap();
    assert_eq!(scrub(&engine).chunks(), [chunk_id(2)]);
    write(&engine, whole_chunk(chunk_id(2), 20, 3_000)).unwrap();
    assert!(scrub(&engine).is_nothing());
}

#[test]
fn a_sector_that_cannot_be_read_is_rot_of_what_it_held() {
    let disk = SimulatedDisk::new(1);
    let (engine, written) = filled(&disk);
    let (file, at) = find(&disk, &pattern(401, 3_000)).remove(0);
    disk.fail_reads(&file, at + 1_000..at + 1_100);
    let found = scrub(&engine);
    assert!(found.chunks().contains(&chunk_id(2)), "{found:?}");
    for rotten in &found.rotten {
        mend(&engine, &written, rotten);
    }
    check_whole(&engine, &written);
}

/// Compaction copies the very records that are scanned; none of that is rot, and nothing is missed.
#[test]
fn a_pass_beside_writes_and_compaction_finds_the_rot_and_nothing_else() {
    for seed in 0..40 {
        let disk = SimulatedDisk::new(seed);
        let mut random = Random::new(seed);
        let (engine, _) = filled(&disk);
        let (file, at) = find(&disk, &pattern(411, 3_000)).remove(0);
        assert!(disk.flip_bit(&file, at + 77, 4));
        let until = engine.newest_segment();
        let mut next = Some(ScrubCursor::default());
        let mut rotten = Vec::new();
        let mut time = 1_000;
        while let Some(from) = next {
            let piece = now(engine.scrub_piece(from, until, 2_000)).unwrap();
            assert!(piece.bad_places.is_empty());
            rotten.extend(piece.rotten);
            next = piece.next;
            time += 1;
            let number = random.below(12);
            write(&engine, row(&object(&format!("k{number}")), time, 500)).unwrap();
            drop(now(engine.compact_once(4_000)).unwrap());
        }
        rotten.extend(now(engine.live_in(Vec::new())).unwrap());
        let wanted = RottenRecord::Chunk { id: chunk_id(12) };
        assert!(rotten.iter().all(|it| it.record == wanted), "{rotten:?}");
        assert!(!rotten.is_empty(), "seed {seed}");
        for rotten in &rotten {
            assert!(engine.still_counts(rotten).unwrap());
        }
    }
}

#[test]
fn a_bad_slot_of_the_anchor_is_written_anew() {
    for offset in [30, 4096 + 30] {
        let disk = SimulatedDisk::new(1);
        let (engine, _) = filled(&disk);
        now(engine.record_horizon(Timestamp(77))).unwrap();
        assert!(disk.flip_bit("anchor", offset, 2));
        assert!(now(engine.check_anchor(false)).unwrap(), "only looked at");
        assert!(now(engine.check_anchor(true)).unwrap());
        assert!(!now(engine.check_anchor(true)).unwrap());
        drop(engine);
        disk.crash();
        let (engine, report) = open(&disk, options());
        assert!(!report.is_anchor_slot_bad);
        assert_eq!(engine.horizon_found(), Timestamp(77));
    }
}

fn bad_blocks(engine: &Engine) -> u64 {
    let (mut next, mut bad) = (Some(0), 0);
    while let Some(first) = next {
        let piece = now(engine.scrub_index(first)).unwrap();
        bad += piece.bad_blocks;
        next = piece.next;
    }
    bad
}

/// redb has every page in memory and would notice after the next start only.
#[test]
fn rotten_blocks_of_the_index_are_copied_away_while_they_can_be_read() {
    let disk = SimulatedDisk::new(1);
    let (engine, written) = filled(&disk);
    now(engine.checkpoint()).unwrap();
    check_whole(&engine, &written);
    assert_eq!(
        (bad_blocks(&engine), now(engine.walk_index()).unwrap()),
        (0, None)
    );
    let mut random = Random::new(5);
    let len = disk.bytes("index.redb").unwrap().len() as u64;
    // The walk has just read all that is in use.
    let flipped = (0..20).filter(|_| {
        let offset = random.below(len);
        disk.flip_bit("index.redb", offset, 3)
    });
    assert_eq!(flipped.count(), 20);
    assert!(bad_blocks(&engine) > 0);
    now(engine.renew_index()).unwrap();
    assert_eq!(
        (bad_blocks(&engine), now(engine.walk_index()).unwrap()),
        (0, None)
    );
    assert_eq!(engine.stats().index_doubt, None);
    write(&engine, row(&object("later"), 5_000, 10)).unwrap();
    now(engine.checkpoint()).unwrap();
    check_whole(&engine, &written);
    drop(engine);
    disk.crash();
    let (engine, report) = open(&disk, options());
    assert_eq!(report.index_rebuilt, None);
    check_whole(&engine, &written);
    assert!(read_row(&engine, &object("later")).is_some());
}

#[test]
fn an_index_that_cannot_be_read_is_in_doubt_and_built_anew_at_the_next_start() {
    let disk = SimulatedDisk::new(1);
    let (engine, written) = filled(&disk);
    now(engine.checkpoint()).unwrap();
    engine.quiet();
    drop(engine);
    let without_cache = EngineOptions {
        index_cache_bytes: 0,
        ..options()
    };
    let (engine, _) = open(&disk, without_cache);
    for block in 1..disk.bytes("index.redb").unwrap().len() as u64 / 4104 {
        assert!(disk.flip_bit("index.redb", block * 4104 + 9, 1));
    }
    assert!(bad_blocks(&engine) > 0);
    let refused = now(engine.renew_index());
    assert!(
        matches!(refused, Err(EngineError::Corrupt { .. })),
        "{refused:?}"
    );
    assert!(
        disk.list()
            .unwrap()
            .iter()
            .all(|name| name != "index-renewed")
    );
    engine.doubt_index("its blocks are rotten");
    assert!(engine.stats().writes_closed.is_some());
    drop(engine);
    let (engine, report) = open(&disk, options());
    assert!(report.index_rebuilt.is_some() && report.lost_partitions.is_empty());
    check_whole(&engine, &written);
}

/// The power goes at each step of the copy and of its taking the old one's place.
#[test]
fn a_crash_while_the_index_is_copied_costs_nothing() {
    for after in (1..5_000).step_by(3) {
        let disk = SimulatedDisk::new(after);
        let (engine, written) = filled(&disk);
        now(engine.checkpoint()).unwrap();
        engine.quiet();
        disk.crash_after(after);
        let renewed = now(engine.renew_index());
        let is_over = renewed.is_ok();
        drop(engine);
        disk.crash();
        let (engine, report) = open(&disk, options());
        assert_eq!(report.index_rebuilt, None, "crash at operation {after}");
        assert!(
            disk.list()
                .unwrap()
                .iter()
                .all(|name| name != "index-renewed")
        );
        check_whole(&engine, &written);
        if is_over {
            assert!(after > 20, "{after}");
            return;
        }
    }
    panic!("it never ends");
}

#[test]
fn a_note_is_kept_and_a_damaged_one_is_none() {
    let disk = SimulatedDisk::new(1);
    let engine = create(&disk, options());
    assert_eq!(engine.read_note(), None);
    now(engine.write_note(vec![1, 2, 3])).unwrap();
    now(engine.write_note(Bytes::from_static(b"ab").to_vec())).unwrap();
    assert_eq!(engine.read_note().unwrap(), b"ab");
    drop(engine);
    disk.crash();
    let (engine, _) = open(&disk, options());
    assert_eq!(engine.read_note().unwrap(), b"ab");
    assert!(disk.flip_bit("scrub", 17, 0));
    assert_eq!(engine.read_note(), None);
    now(engine.write_note(vec![7])).unwrap();
    assert_eq!(engine.read_note().unwrap(), [7]);
}
