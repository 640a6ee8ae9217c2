//! Random mutations against a simple model, power lost at any operation, also in the middle of recovery.
//!
//! What was acknowledged is there; what was not is wholly there or wholly absent, and once seen after a start it stays
//! so; the highest ballot counts; an index built anew from the segments says the same.

use crate::support::*;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{Generation, PartitionId};
use ringfort_storage_node::disk::simulated::{Random, SimulatedDisk};
use ringfort_storage_node::engine::{Engine, EngineOptions, Mutation};
use ringfort_wire::id::RowKey;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

const KEYS: u64 = 6;
const CHUNKS: u8 = 5;

/// All states that a thing may be in.
#[derive(Clone, Debug)]
struct Possible<T>(BTreeSet<T>);

impl<T: Ord + Clone> Possible<T> {
    fn only(state: T) -> Self {
        Self(BTreeSet::from([state]))
    }

    /// A change that happened, or that may have happened.
    fn change(&mut self, is_sure: bool, change: impl Fn(&T) -> T) {
        let mut changed: BTreeSet<T> = self.0.iter().map(change).collect();
        if !is_sure {
            changed.extend(self.0.iter().cloned());
        }
        self.0 = changed;
    }
}

#[derive(Clone, Debug)]
struct Model {
    /// Ballot and body length.
    rows: BTreeMap<RowKey, Possible<Option<(Ballot, usize)>>>,
    /// Tag and length.
    chunks: BTreeMap<u8, Possible<Option<(u64, usize)>>>,
    floor: Possible<Ballot>,
    bound: Possible<Timestamp>,
    generation: Possible<Generation>,
    horizon: Timestamp,
    horizon_tried: Timestamp,
}

#[derive(Clone, Debug)]
enum Change {
    Row(RowKey, Ballot, usize),
    Drop(RowKey, Ballot),
    Chunk(u8, u64, usize),
    DeleteChunk(u8),
    Floor(Ballot),
    Bound(Timestamp),
    Generation(Generation),
}

impl Model {
    fn new() -> Self {
        let keys = (0..KEYS).map(key);
        Self {
            rows: keys.map(|key| (key, Possible::only(None))).collect(),
            chunks: (0..CHUNKS).map(|id| (id, Possible::only(None))).collect(),
            floor: Possible::only(Ballot::ZERO),
            bound: Possible::only(Timestamp::ZERO),
            generation: Possible::only(Generation(0)),
            horizon: Timestamp::ZERO,
            horizon_tried: Timestamp::ZERO,
        }
    }

    fn change(&mut self, change: &Change, is_sure: bool) {
        match change {
            Change::Row(key, ballot, len) => {
                let row = self.rows.get_mut(key).unwrap();
                row.change(is_sure, |old| match old {
                    Some((higher, _)) if higher > ballot => *old,
                    _ => Some((*ballot, *len)),
                });
            }
            Change::Drop(key, ballot) => {
                let row = self.rows.get_mut(key).unwrap();
                row.change(is_sure, |old| old.filter(|(held, _)| held != ballot));
            }
            Change::Chunk(id, tag, len) => {
                let chunk = self.chunks.get_mut(id).unwrap();
                chunk.change(is_sure, |_| Some((*tag, *len)));
            }
            Change::DeleteChunk(id) => {
                self.chunks.get_mut(id).unwrap().change(is_sure, |_| None);
            }
            Change::Floor(floor) => self.floor.change(is_sure, |old| *old.max(floor)),
            Change::Bound(bound) => self.bound.change(is_sure, |old| *old.max(bound)),
            Change::Generation(new) => self.generation.change(is_sure, |old| *old.max(new)),
        }
    }
}

fn key(number: u64) -> RowKey {
    if number % 3 == 2 {
        part("k", u16::try_from(number).unwrap())
    } else {
        object(&format!("k{number}"))
    }
}

fn partition_of_facts() -> PartitionId {
    PartitionId(11)
}

fn random_change(random: &mut Random, step: u64, model: &Model) -> Change {
    let key = key(random.below(KEYS));
    let len_max = if random.chance(1, 4) { 9_000 } else { 300 };
    let len = usize::try_from(random.below(len_max)).unwrap();
    // Mostly rising ballots, some from the past.
    let time = 1 + step * 4 - random.below(step * 4 + 1).min(random.below(12));
    match random.below(12) {
        0..5 => {
            // The engine is told one value a ballot, as the protocol does.
            Change::Row(key, ballot(time * 64 + random.below(64)), len)
        }
        5 => {
            let held = model.rows[&key].0.iter().flatten().next_back();
            let held = held.map_or(ballot(1), |(ballot, _)| *ballot);
            Change::Drop(
                key,
                if random.chance(3, 4) {
                    held
                } else {
                    ballot(time)
                },
            )
        }
        6 | 7 => {
            let id = u8::try_from(random.below(u64::from(CHUNKS))).unwrap();
            Change::Chunk(id, step * 100 + random.below(100), len * 3)
        }
        8 | 9 => Change::DeleteChunk(u8::try_from(random.below(u64::from(CHUNKS))).unwrap()),
        10 => Change::Floor(ballot(time)),
        _ if random.chance(1, 2) => Change::Bound(Timestamp(time)),
        _ => Change::Generation(Generation(random.below(step + 1))),
    }
}

fn body_len_of(change: &Change) -> Mutation {
    match change {
        Change::Row(key, ballot, len) => row(key, ballot.time.0, *len),
        Change::Drop(key, ballot) => Mutation::DropRow {
            key: key.clone(),
            ballot: *ballot,
        },
        Change::Chunk(id, tag, len) => chunk(chunk_id(*id), *tag, *len),
        Change::DeleteChunk(id) => Mutation::DeleteChunk { id: chunk_id(*id) },
        Change::Floor(ballot) => Mutation::Floor {
            partition: partition_of_facts(),
            ballot: *ballot,
        },
        Change::Bound(bound) => Mutation::Bound {
            partition: partition_of_facts(),
            bound: *bound,
        },
        Change::Generation(generation) => Mutation::Generation {
            bucket: BUCKET,
            generation: *generation,
        },
    }
}

/// What an engine holds, read through its public surface, bytes checked.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Held {
    rows: BTreeMap<RowKey, Option<(Ballot, usize)>>,
    chunks: BTreeMap<u8, Option<(u64, usize)>>,
    floor: Ballot,
    bound: Timestamp,
    generation: Generation,
}

fn held(engine: &Engine, model: &Model) -> Held {
    let mut rows = BTreeMap::new();
    for key in model.rows.keys() {
        let found = read_row(engine, key).map(|stored| {
            let time = stored.ballot.time.0;
            assert_eq!(stored.state, pattern(time, 40));
            let body = now(engine.body(&stored)).unwrap();
            assert_eq!(body, pattern(time + 1, body.len()));
            (stored.ballot, body.len())
        });
        rows.insert(key.clone(), found);
    }
    let mut chunks = BTreeMap::new();
    for (id, possible) in &model.chunks {
        let found = read_chunk(engine, chunk_id(*id)).map(|bytes| {
            // The facts beside it say which tag it must be; the bytes must be that one's.
            let states = possible.0.iter().flatten();
            let mut fitting =
                states.filter(|(tag, len)| *len == bytes.len() && bytes == pattern(*tag, *len));
            *fitting
                .next()
                .expect("a chunk holds bytes that nobody wrote")
        });
        assert_eq!(engine.has_chunk(chunk_id(*id)).unwrap(), found.is_some());
        chunks.insert(*id, found);
    }
    let facts = engine.partition(partition_of_facts());
    let held = Held {
        rows,
        chunks,
        floor: facts.floor,
        bound: facts.bound,
        generation: engine.generation(BUCKET),
    };
    check_lists(engine, &held);
    held
}

/// Lists and counts say what single reads say.
fn check_lists(engine: &Engine, held: &Held) {
    let rows: Vec<_> = held.rows.iter().filter(|(_, row)| row.is_some()).collect();
    let (parts, objects): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|(key, _)| key.part.is_some());
    let listed = engine.scan_objects(BUCKET, Bound::Unbounded, 100).unwrap();
    let listed: Vec<_> = listed
        .into_iter()
        .map(|(key, row)| (key, row.ballot))
        .collect();
    let mut wanted: Vec<_> = objects
        .iter()
        .map(|(key, row)| (key.key.clone(), row.unwrap().0))
        .collect();
    wanted.sort();
    assert_eq!(listed, wanted);
    // The same in pages of one.
    let mut paged = Vec::new();
    let mut from: Bound<Vec<u8>> = Bound::Unbounded;
    loop {
        let bound = match &from {
            Bound::Excluded(key) => Bound::Excluded(&key[..]),
            _ => Bound::Unbounded,
        };
        let page = engine.scan_objects(BUCKET, bound, 1).unwrap();
        let Some((key, row)) = page.into_iter().next() else {
            break;
        };
        from = Bound::Excluded(key.as_bytes().to_vec());
        paged.push((key, row.ballot));
    }
    assert_eq!(paged, wanted);
    let listed_parts = engine
        .scan_parts(BUCKET, &part("k", 1).key, UPLOAD, 0, 100)
        .unwrap();
    assert_eq!(listed_parts.len(), parts.len());
    let chunks = held.chunks.values().flatten().count();
    assert_eq!(engine.scan_chunks(None, 100).unwrap().len(), chunks);
    for page in [1, 7, 1_000] {
        assert_eq!(engine.wrong_digests(page).unwrap(), [], "pages of {page}");
    }
    let stats = engine.stats();
    assert_eq!(
        (stats.rows, stats.parts, stats.chunks),
        (objects.len() as u64, parts.len() as u64, chunks as u64)
    );
}

/// What is held must be possible; from now on it is the only possibility.
fn settle(model: &mut Model, held: &Held, seed: u64) {
    for (key, found) in &held.rows {
        let possible = model.rows.get_mut(key).unwrap();
        assert!(
            possible.0.contains(found),
            "seed {seed}: {key:?} is {found:?}, not one of {possible:?}"
        );
        *possible = Possible::only(*found);
    }
    for (id, found) in &held.chunks {
        let possible = model.chunks.get_mut(id).unwrap();
        assert!(
            possible.0.contains(found),
            "seed {seed}: chunk {id} is {found:?}, not one of {possible:?}"
        );
        *possible = Possible::only(*found);
    }
    assert!(
        model.floor.0.contains(&held.floor),
        "seed {seed}: floor {held:?}"
    );
    assert!(
        model.bound.0.contains(&held.bound),
        "seed {seed}: bound {held:?}"
    );
    assert!(
        model.generation.0.contains(&held.generation),
        "seed {seed}: generation {held:?}"
    );
    model.floor = Possible::only(held.floor);
    model.bound = Possible::only(held.bound);
    model.generation = Possible::only(held.generation);
}

fn act(engine: &Engine, model: &mut Model, random: &mut Random, step: u64) {
    match random.below(16) {
        0 => drop(now(engine.checkpoint())),
        1 | 2 => drop(now(engine.compact_once(random.below(20_000)))),
        3 => engine.quiet(),
        4 => {
            let wanted = Timestamp(step * 10);
            model.horizon_tried = model.horizon_tried.max(wanted);
            if now(engine.record_horizon(wanted)).is_ok() {
                model.horizon = model.horizon.max(wanted);
            }
        }
        _ => {
            // A group: what is submitted before the writer's next step shares a commit as far as it fits.
            let group = 1 + random.below(5);
            let changes: Vec<_> = (0..group)
                .map(|n| {
                    let change = random_change(random, step * 8 + n, model);
                    let commit = engine.submit(body_len_of(&change));
                    (change, commit)
                })
                .collect();
            while engine.step() {}
            for (change, mut commit) in changes {
                let outcome = commit.now().expect("driven to its end");
                model.change(&change, outcome.is_ok());
            }
        }
    }
}

fn run(seed: u64) -> (u64, usize) {
    let mut random = Random::new(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
    let disk = SimulatedDisk::new(seed);
    let options = EngineOptions {
        checkpoint_rows: usize::try_from(3 + random.below(40)).unwrap(),
        ..options()
    };
    let mut engine = create(&disk, options.clone());
    let mut model = Model::new();
    let mut step = 1;
    for _life in 0..4 {
        let operations_max = if random.chance(1, 3) { 15 } else { 150 };
        disk.crash_after(1 + random.below(operations_max));
        for _ in 0..60 {
            if disk.is_down() {
                break;
            }
            act(&engine, &mut model, &mut random, step);
            step += 1;
        }
        drop(engine);
        // A process that dies alone leaves its unsynced bytes in the page cache: the next one sees them, and the power
        // may still take them.
        if random.chance(1, 3) {
            disk.kill();
        } else {
            disk.crash();
        }
        // Often the power goes again while the disk is being opened.
        while random.chance(1, 3) {
            disk.crash_after(1 + random.below(25));
            let opened = Engine::open(shared(&disk), options.clone());
            assert!(opened.is_ok() || disk.is_down(), "seed {seed}: {opened:?}");
            drop(opened);
            disk.crash();
        }
        let opened = Engine::open(shared(&disk), options.clone());
        let (opened, report) = opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        engine = opened;
        assert!(report.rot.is_empty(), "seed {seed}: {report:?}");
        assert!(report.lost_partitions.is_empty() && report.lost_chunks.is_empty());
        let horizon = engine.horizon_found();
        assert!(horizon >= model.horizon && horizon <= model.horizon_tried);
        let found = held(&engine, &model);
        settle(&mut model, &found, seed);
        if random.chance(1, 3) {
            drop(engine);
            disk.crash();
            engine = open(&disk, options.clone()).0;
            assert_eq!(
                held(&engine, &model),
                found,
                "seed {seed}: what was seen after a start is gone"
            );
        }
        if random.chance(1, 3) {
            let copy = disk.copy_of_synced();
            let (rebuilt, _) = Engine::rebuild_index(shared(&copy), options.clone()).unwrap();
            assert_eq!(
                held(&rebuilt, &model),
                found,
                "seed {seed}: a rebuild tells another story"
            );
        }
    }
    (step, segments(&disk).len())
}

fn seeds() -> (u64, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|it| it.parse().ok());
    (
        number("RINGFORT_SEED").unwrap_or(0),
        number("RINGFORT_SEEDS").unwrap_or(1_000),
    )
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_goes() {
    let (first, count) = seeds();
    for seed in first..first + count {
        run(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
}
