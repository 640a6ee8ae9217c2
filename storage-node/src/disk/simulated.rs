//! A disk in memory, for tests: it keeps what was synced, and under a seed loses what was not.
//!
//! Faults that it injects, each of which the engine must survive as stated:
//! - power loss ([`SimulatedDisk::crash`], at once or after a number of operations): of each unsynced 512-byte block
//!   either the old or the new content stays, unsynced lengths, creations and removals hold or do not; nothing
//!   acknowledged may be missing afterwards;
//! - a failed sync ([`SimulatedDisk::fail_syncs`]): the dirty blocks count as clean and are lost at the next crash, as on
//!   Linux; the engine must write nothing more;
//! - no room ([`SimulatedDisk::set_capacity`]): refused changes leave no trace;
//! - rot ([`SimulatedDisk::flip_bit`], [`SimulatedDisk::fail_reads`]): no reader ever gets wrong bytes.
//!
//! The same seed and the same calls give the same disk. Only synced bytes survive, whatever the page cache showed.

use crate::disk::{Disk, DiskFile};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::Arc;

/// The unit that a power loss keeps or drops.
pub const BLOCK_LEN: usize = 512;

/// A small generator of pseudo-random numbers (SplitMix64, Steele et al., 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 where that is 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// True `times` in `of` times.
    pub fn chance(&mut self, times: u64, of: u64) -> bool {
        self.below(of) < times
    }
}

#[derive(Debug, Default)]
struct Content {
    /// What readers see.
    current: Vec<u8>,
    /// What a power loss leaves.
    synced: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl Content {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.current.len() < end {
            self.current.resize(end, 0);
        }
        self.current[offset..end].copy_from_slice(bytes);
        if !bytes.is_empty() {
            self.dirty
                .extend(offset / BLOCK_LEN..=(end - 1) / BLOCK_LEN);
        }
    }

    fn sync(&mut self) {
        self.synced.resize(self.current.len(), 0);
        for block in std::mem::take(&mut self.dirty) {
            let start = (block * BLOCK_LEN).min(self.current.len());
            let end = (start + BLOCK_LEN).min(self.current.len());
            self.synced[start..end].copy_from_slice(&self.current[start..end]);
        }
    }

    fn crash(&mut self, random: &mut Random) {
        let mut left = std::mem::take(&mut self.synced);
        if self.current.len() != left.len() && random.chance(1, 2) {
            left.resize(self.current.len(), 0);
        }
        for block in std::mem::take(&mut self.dirty) {
            let start = block * BLOCK_LEN;
            let end = (start + BLOCK_LEN).min(self.current.len()).min(left.len());
            if start < end && random.chance(1, 2) {
                left[start..end].copy_from_slice(&self.current[start..end]);
            }
        }
        self.current = left.clone();
        self.synced = left;
    }
}

type Inode = u64;

#[derive(Debug, Default)]
struct World {
    inodes: BTreeMap<Inode, Content>,
    names: BTreeMap<String, Inode>,
    synced_names: BTreeMap<String, Inode>,
    next_inode: Inode,
    /// Handles of an earlier life are dead.
    life: u64,
    operations: u64,
    crash_at: Option<u64>,
    is_down: bool,
    failing_syncs: BTreeSet<String>,
    full_writes: BTreeSet<String>,
    failing_reads: BTreeMap<String, std::ops::Range<u64>>,
    capacity: Option<u64>,
    seed: u64,
}

fn power_loss() -> io::Error {
    io::Error::other("simulated power loss")
}

impl World {
    /// Counts a changing operation; answers whether it is the one at which the power goes.
    fn begin(&mut self) -> io::Result<bool> {
        if self.is_down {
            return Err(power_loss());
        }
        self.operations += 1;
        let is_last = self.crash_at.is_some_and(|at| self.operations >= at);
        self.is_down |= is_last;
        Ok(is_last)
    }

    fn used(&self) -> u64 {
        let lens = self.inodes.values().map(|content| content.current.len());
        lens.sum::<usize>() as u64
    }

    fn check_room(&self, grow: usize) -> io::Result<()> {
        let is_full = self
            .capacity
            .is_some_and(|capacity| self.used() + grow as u64 > capacity);
        if is_full && grow > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn drop_unnamed(&mut self) {
        let named: BTreeSet<Inode> = self.names.values().copied().collect();
        self.inodes.retain(|inode, _| named.contains(inode));
    }
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk {
    world: Arc<Mutex<World>>,
}

impl SimulatedDisk {
    /// An empty disk; the seed decides what power losses leave.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let disk = Self::default();
        disk.world.lock().seed = seed;
        disk
    }

    /// Changing operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.world.lock().operations
    }

    /// The power goes at the `n`th changing operation from now (1: the next), which may take effect in part.
    pub fn crash_after(&self, operations: u64) {
        let mut world = self.world.lock();
        world.crash_at = Some(world.operations + operations);
    }

    /// Whether the power is gone.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.world.lock().is_down
    }

    /// Power loss (if it has not happened yet) and power back: what was not synced stays by block or not at all.
    pub fn crash(&self) {
        let mut world = self.world.lock();
        let world = &mut *world;
        world.seed = world.seed.wrapping_add(1);
        let mut random = Random::new(world.seed);
        // Each unsynced creation or removal holds or does not.
        let all: BTreeSet<String> = world
            .names
            .keys()
            .chain(world.synced_names.keys())
            .cloned()
            .collect();
        let mut names = BTreeMap::new();
        for name in all {
            let (now, synced) = (world.names.get(&name), world.synced_names.get(&name));
            let kept = if now == synced || random.chance(1, 2) {
                now
            } else {
                synced
            };
            if let Some(inode) = kept {
                names.insert(name, *inode);
            }
        }
        world.names = names.clone();
        world.synced_names = names;
        for content in world.inodes.values_mut() {
            content.crash(&mut random);
        }
        world.drop_unnamed();
        world.life += 1;
        world.is_down = false;
        world.crash_at = None;
        world.failing_syncs.clear();
    }

    /// The process dies (where [`SimulatedDisk::crash_after`] said) and the power stays: what was written and not synced is
    /// still shown to the next process, and still only in the page cache.
    pub fn kill(&self) {
        let mut world = self.world.lock();
        world.life += 1;
        world.is_down = false;
        world.crash_at = None;
        world.failing_syncs.clear();
    }

    /// Every sync of files whose name begins so fails from now on, until the next crash.
    pub fn fail_syncs(&self, name_begins: &str) {
        self.world
            .lock()
            .failing_syncs
            .insert(name_begins.to_owned());
    }

    /// The next write to a file whose name begins so says that there is no room, after all its bytes were taken.
    pub fn fail_next_write(&self, name_begins: &str) {
        self.world.lock().full_writes.insert(name_begins.to_owned());
    }

    /// Reads of these bytes of a file fail with EIO.
    pub fn fail_reads(&self, name: &str, bytes: std::ops::Range<u64>) {
        self.world
            .lock()
            .failing_reads
            .insert(name.to_owned(), bytes);
    }

    /// Most bytes that all files together may take; `None`: any number.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world.lock().capacity = bytes;
    }

    /// Bytes that all files together take.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.world.lock().used()
    }

    /// Turns one bit of a file, durably; whether there was such a byte.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) -> bool {
        self.damage(name, |content| {
            let Ok(offset) = usize::try_from(offset) else {
                return false;
            };
            for bytes in [&mut content.current, &mut content.synced] {
                let Some(byte) = bytes.get_mut(offset) else {
                    return false;
                };
                *byte ^= 1 << (bit % 8);
            }
            true
        })
    }

    /// The bytes of a file, as readers see them.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let world = self.world.lock();
        let inode = world.names.get(name)?;
        Some(world.inodes.get(inode)?.current.clone())
    }

    /// A copy of the whole disk as it is synced now: what a power loss that keeps nothing else would leave.
    #[must_use]
    pub fn copy_of_synced(&self) -> Self {
        let world = self.world.lock();
        let inodes = world.inodes.iter().map(|(inode, content)| {
            let copy = Content {
                current: content.synced.clone(),
                synced: content.synced.clone(),
                dirty: BTreeSet::new(),
            };
            (*inode, copy)
        });
        let copy = World {
            inodes: inodes.collect(),
            names: world.synced_names.clone(),
            synced_names: world.synced_names.clone(),
            next_inode: world.next_inode,
            seed: world.seed,
            ..World::default()
        };
        Self {
            world: Arc::new(Mutex::new(copy)),
        }
    }

    fn damage(&self, name: &str, how: impl FnOnce(&mut Content) -> bool) -> bool {
        let mut world = self.world.lock();
        let Some(inode) = world.names.get(name).copied() else {
            return false;
        };
        world.inodes.get_mut(&inode).is_some_and(how)
    }

    fn handle(&self, name: &str, inode: Inode, life: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimulatedFile {
            disk: self.clone(),
            name: name.to_owned(),
            inode,
            life,
        })
    }
}

fn to_usize(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl Disk for SimulatedDisk {
    fn create(&self, name: &str, len_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.world.lock();
        let is_last = world.begin()?;
        if world.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let len = to_usize(len_bytes)?;
        world.check_room(len)?;
        let inode = world.next_inode;
        world.next_inode += 1;
        let content = Content {
            current: vec![0; len],
            ..Content::default()
        };
        world.inodes.insert(inode, content);
        world.names.insert(name.to_owned(), inode);
        let life = world.life;
        drop(world);
        if is_last {
            return Err(power_loss());
        }
        Ok(self.handle(name, inode, life))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let world = self.world.lock();
        if world.is_down {
            return Err(power_loss());
        }
        let inode = *world.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let life = world.life;
        drop(world);
        Ok(self.handle(name, inode, life))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let world = self.world.lock();
        if world.is_down {
            return Err(power_loss());
        }
        Ok(world.names.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        let is_last = world.begin()?;
        world.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        if is_last { Err(power_loss()) } else { Ok(()) }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        let is_last = world.begin()?;
        let inode = world.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        world.names.insert(to.to_owned(), inode);
        if is_last { Err(power_loss()) } else { Ok(()) }
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut world = self.world.lock();
        if world.begin()? {
            return Err(power_loss());
        }
        world.synced_names = world.names.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let world = self.world.lock();
        let capacity = world.capacity.unwrap_or(u64::MAX / 2);
        Ok(capacity.saturating_sub(world.used()))
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    name: String,
    inode: Inode,
    life: u64,
}

impl SimulatedFile {
    fn with<T>(&self, run: impl FnOnce(&mut World, Inode) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.disk.world.lock();
        if world.life != self.life || world.is_down {
            return Err(power_loss());
        }
        run(&mut world, self.inode)
    }
}

fn content(world: &mut World, inode: Inode) -> io::Result<&mut Content> {
    let content = world.inodes.get_mut(&inode);
    content.ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl DiskFile for SimulatedFile {
    fn read_exact_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.with(|world, inode| {
            let wanted = offset..offset + into.len() as u64;
            if let Some(bad) = world.failing_reads.get(&self.name)
                && bad.start < wanted.end
                && wanted.start < bad.end
            {
                const EIO: i32 = 5;
                return Err(io::Error::from_raw_os_error(EIO));
            }
            let start = to_usize(offset)?;
            let content = content(world, inode)?;
            let bytes = content
                .current
                .get(start..start + into.len())
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            into.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn write_all_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.with(|world, inode| {
            let is_last = world.begin()?;
            let mut at = to_usize(offset)?;
            let end = at + parts.iter().map(|part| part.len()).sum::<usize>();
            let len = content(world, inode)?.current.len();
            let room = world.check_room(end.saturating_sub(len));
            let content = content(world, inode)?;
            if let Err(error) = room {
                // A write that finds no room may have written its first bytes.
                let mut rest = len.saturating_sub(at);
                for part in parts {
                    let some = &part[..part.len().min(rest)];
                    content.write(at, some);
                    at += some.len();
                    rest -= some.len();
                }
                return Err(error);
            }
            for part in parts {
                content.write(at, part);
                at += part.len();
            }
            let refused = world
                .full_writes
                .iter()
                .find(|begins| self.name.starts_with(begins.as_str()))
                .cloned();
            if let Some(begins) = refused {
                world.full_writes.remove(&begins);
                return Err(io::ErrorKind::StorageFull.into());
            }
            if is_last { Err(power_loss()) } else { Ok(()) }
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|world, inode| {
            if world.begin()? {
                return Err(power_loss());
            }
            let fails = world
                .failing_syncs
                .iter()
                .any(|begins| self.name.starts_with(begins.as_str()));
            let content = content(world, inode)?;
            if fails {
                // As on Linux: the pages count as clean now, and are on no disk.
                content.dirty.clear();
                return Err(io::Error::from_raw_os_error(5));
            }
            content.sync();
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|world, inode| Ok(content(world, inode)?.current.len() as u64))
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.with(|world, inode| {
            let is_last = world.begin()?;
            let len = to_usize(len_bytes)?;
            let now = content(world, inode)?.current.len();
            world.check_room(len.saturating_sub(now))?;
            let content = content(world, inode)?;
            content.current.resize(len, 0);
            // Bytes cut off and grown again read as zeros, also after the next sync.
            if len < now {
                content
                    .dirty
                    .extend(len / BLOCK_LEN..now.div_ceil(BLOCK_LEN));
            }
            if is_last { Err(power_loss()) } else { Ok(()) }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;

    fn left_after_crash(seed: u64) -> Vec<u8> {
        let disk = SimulatedDisk::new(seed);
        let file = disk.create("a", 4096).unwrap();
        file.sync().unwrap();
        disk.sync_directory().unwrap();
        file.write_all_at(0, &[IoSlice::new(&[1; 2048])]).unwrap();
        file.sync().unwrap();
        file.write_all_at(1024, &[IoSlice::new(&[2; 2048])])
            .unwrap();
        disk.crash();
        assert!(file.len().is_err(), "a handle outlived its process");
        disk.bytes("a").unwrap()
    }

    #[test]
    fn synced_bytes_stay_and_others_stay_by_block() {
        let mut kept = BTreeSet::new();
        for seed in 0..64 {
            let left = left_after_crash(seed);
            assert_eq!(left[..1024], [1; 1024]);
            for block in left[1024..3072].chunks(BLOCK_LEN) {
                assert!(
                    block.iter().all(|byte| *byte == block[0]),
                    "torn inside a block"
                );
                kept.insert(block[0]);
            }
            assert_eq!(left, left_after_crash(seed));
        }
        assert_eq!(kept.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn a_name_that_was_not_synced_may_be_gone() {
        let survivals = (0..64).filter(|seed| {
            let disk = SimulatedDisk::new(*seed);
            disk.create("a", 0).unwrap();
            disk.crash();
            disk.open("a").is_ok()
        });
        let survivals = survivals.count();
        assert!(survivals > 0 && survivals < 64);
    }
}
