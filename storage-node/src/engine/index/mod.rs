//! What is where: the state as of the last checkpoint, behind a trait; [`table`] holds what came since, in memory.
//!
//! Nothing here is the truth: the segments are. Whatever looks wrong is a [`Doubt`], and a doubt ends in an index built
//! anew from the segments alone.

pub(crate) mod chunks;
pub(crate) mod digest;
pub(crate) mod facts;
pub(crate) mod redb_file;
pub(crate) mod redb_index;
pub(crate) mod rows;
pub(crate) mod table;

use super::segment::location::{Location, Position};
use super::segment::record_format::{FactKey, Fields};
use chunks::ChunkEntry;
use digest::Digest;
use facts::{CheckpointFacts, FactEntry, SegmentEntry};
use ringfort_ring::id::PartitionId;
use ringfort_wire::id::ChunkId;
use rows::{RowEntry, RowTable};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Bound;

/// Why the index cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum IndexError {
    /// It may be wrong: build it anew.
    Doubt(String),
    /// No room for its next state; the last one is whole.
    Full,
    /// A sync of it failed.
    Sync(String),
}

/// A range of rows in key order.
pub(crate) type RowRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// One moment of the index.
pub(crate) trait Snapshot: Send {
    fn row(&self, table: RowTable, key: &[u8]) -> Result<Option<RowEntry>, IndexError>;
    fn rows(
        &self,
        table: RowTable,
        range: RowRange<'_>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, RowEntry)>, IndexError>;
    fn chunk(&self, id: ChunkId) -> Result<Option<ChunkEntry>, IndexError>;
    fn chunks(
        &self,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<(ChunkId, ChunkEntry)>, IndexError>;
    fn facts(&self) -> Result<Vec<(FactKey, FactEntry)>, IndexError>;
    fn segments(&self) -> Result<BTreeMap<u64, SegmentEntry>, IndexError>;
    fn digests(&self) -> Result<Vec<(PartitionId, Digest)>, IndexError>;
    /// `None` in an index that never saw a checkpoint.
    fn checkpoint(&self) -> Result<Option<CheckpointFacts>, IndexError>;
}

/// All that one checkpoint writes.
#[derive(Debug)]
pub(crate) struct Changes<'a> {
    pub(crate) table: &'a table::Table,
    pub(crate) facts: Vec<(FactKey, FactEntry)>,
    /// Of the partitions that the table touches, as they are with it.
    pub(crate) digests: Vec<(PartitionId, Digest)>,
    /// The whole list.
    pub(crate) segments: BTreeMap<u64, SegmentEntry>,
    pub(crate) checkpoint: CheckpointFacts,
}

/// An index that survives.
pub(crate) trait Index: Send + Sync + Debug {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, IndexError>;
    /// Durable and whole, or not at all. Blocks; for the checkpoint thread only.
    fn write(&self, changes: &Changes<'_>) -> Result<(), IndexError>;
    /// Of some blocks of the file, as they are on the disk: how many there were, and how many are rotten. Nothing may be
    /// written meanwhile.
    fn count_bad_blocks(&self, first: u64, count: usize) -> Result<(usize, usize), IndexError>;
    /// Copies everything that still reads back to a new file, which takes the place of the old one: all of it, or the old
    /// one stays. Nothing may be written meanwhile. Blocks.
    fn renew(&self) -> Result<(), IndexError>;
}

const LOCATION_LEN: usize = 24;

fn put_location(to: &mut Vec<u8>, location: &Location) {
    to.extend_from_slice(&location.position.segment.to_le_bytes());
    to.extend_from_slice(&location.position.offset.to_le_bytes());
    to.extend_from_slice(&location.meta_len.to_le_bytes());
    to.extend_from_slice(&location.payload_len.to_le_bytes());
}

fn get_location(from: &mut Fields<'_>) -> Option<Location> {
    Some(Location {
        position: Position {
            segment: from.u64()?,
            offset: from.u64()?,
        },
        meta_len: from.u32()?,
        payload_len: from.u32()?,
    })
}

/// Closes a value with the checksum over key and value, which redb does not have.
fn seal_value(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), &value);
    value.extend_from_slice(&crc.to_le_bytes());
    value
}

/// Opens a sealed value.
fn open_value<'a>(key: &[u8], sealed: &'a [u8]) -> Result<&'a [u8], IndexError> {
    sealed
        .split_last_chunk::<4>()
        .filter(|(value, crc)| {
            crc32c::crc32c_append(crc32c::crc32c(key), value).to_le_bytes() == **crc
        })
        .map(|(value, _)| value)
        .ok_or_else(|| doubt("a value does not match its checksum"))
}

pub(crate) fn doubt(why: &str) -> IndexError {
    IndexError::Doubt(why.to_owned())
}
