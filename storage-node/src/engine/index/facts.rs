//! Facts, segments and the checkpoint itself in the index.
//!
//! ```text
//! facts:    key := kind 1 (as in records) ‖ partition 4 or bucket 16     value := value 24, location 24 ‖ crc32c
//! segments: key := number 8 (big-endian)      value := end 8, live bytes 8, first sequence 8 ‖ crc32c
//! meta:     key := "checkpoint"               value := version 4, disk id 16, position 16, next sequence 8,
//!                                                     rows 8, parts 8, chunks 8, rebuilding 1 ‖ crc32c
//! ```

use super::{IndexError, doubt, get_location, open_value, put_location, seal_value};
use crate::engine::segment::location::{Location, Position};
use crate::engine::segment::record_format::{FactKey, Fields};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::{DiskId, PartitionId};
use ringfort_wire::id::BucketId;

const VERSION: u32 = 1;

/// A fact as the index holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FactEntry {
    pub(crate) value: Ballot,
    pub(crate) location: Location,
}

/// A segment as the index holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentEntry {
    pub(crate) end: u64,
    pub(crate) live_bytes: u64,
    pub(crate) first_sequence: u64,
}

/// How much there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) objects: u64,
    pub(crate) parts: u64,
    pub(crate) chunks: u64,
}

/// How far the index reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CheckpointFacts {
    pub(crate) disk_id: DiskId,
    /// Every record before it is in the index, and synced.
    pub(crate) position: Position,
    pub(crate) next_sequence: u64,
    pub(crate) counts: Counts,
    /// A rebuild has not come to its end.
    pub(crate) is_rebuilding: bool,
}

pub(super) fn encode_fact_key(key: FactKey) -> Vec<u8> {
    let mut to = Vec::with_capacity(17);
    let (kind, partition) = match key {
        FactKey::Floor(partition) => (5, partition),
        FactKey::Bound(partition) => (6, partition),
        FactKey::Epoch(partition) => (7, partition),
        FactKey::Joined(partition) => (9, partition),
        FactKey::Lost(partition) => (10, partition),
        FactKey::Synced(partition) => (13, partition),
        FactKey::Generation(bucket) => {
            to.push(8);
            to.extend_from_slice(&bucket.0);
            return to;
        }
    };
    to.push(kind);
    to.extend_from_slice(&partition.0.to_le_bytes());
    to
}

pub(super) fn decode_fact_key(bytes: &[u8]) -> Result<FactKey, IndexError> {
    let mut from = Fields(bytes);
    let mut read = || {
        let [kind] = from.array()?;
        if kind == 8 {
            return Some(FactKey::Generation(BucketId(from.array()?)));
        }
        let partition = PartitionId(from.u32()?);
        Some(match kind {
            5 => FactKey::Floor(partition),
            6 => FactKey::Bound(partition),
            7 => FactKey::Epoch(partition),
            9 => FactKey::Joined(partition),
            10 => FactKey::Lost(partition),
            13 => FactKey::Synced(partition),
            _ => return None,
        })
    };
    read().ok_or_else(|| doubt("a fact's key is none"))
}

impl FactEntry {
    pub(super) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut to = self.value.to_bytes().to_vec();
        put_location(&mut to, &self.location);
        seal_value(key, to)
    }

    pub(super) fn decode(key: &[u8], sealed: &[u8]) -> Result<Self, IndexError> {
        let mut from = Fields(open_value(key, sealed)?);
        let mut read = || {
            Some(Self {
                value: Ballot::from_bytes(from.array()?),
                location: get_location(&mut from)?,
            })
        };
        read().ok_or_else(|| doubt("a fact is too short"))
    }
}

impl SegmentEntry {
    pub(super) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut to = Vec::with_capacity(28);
        to.extend_from_slice(&self.end.to_le_bytes());
        to.extend_from_slice(&self.live_bytes.to_le_bytes());
        to.extend_from_slice(&self.first_sequence.to_le_bytes());
        seal_value(key, to)
    }

    pub(super) fn decode(key: &[u8], sealed: &[u8]) -> Result<Self, IndexError> {
        let mut from = Fields(open_value(key, sealed)?);
        let mut read = || {
            Some(Self {
                end: from.u64()?,
                live_bytes: from.u64()?,
                first_sequence: from.u64()?,
            })
        };
        read().ok_or_else(|| doubt("a segment is too short"))
    }
}

impl CheckpointFacts {
    pub(super) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut to = VERSION.to_le_bytes().to_vec();
        to.extend_from_slice(&self.disk_id.0);
        for number in [
            self.position.segment,
            self.position.offset,
            self.next_sequence,
            self.counts.objects,
            self.counts.parts,
            self.counts.chunks,
        ] {
            to.extend_from_slice(&number.to_le_bytes());
        }
        to.push(u8::from(self.is_rebuilding));
        seal_value(key, to)
    }

    pub(super) fn decode(key: &[u8], sealed: &[u8]) -> Result<Self, IndexError> {
        let mut from = Fields(open_value(key, sealed)?);
        let mut read = || {
            if from.u32()? != VERSION {
                return None;
            }
            Some(Self {
                disk_id: DiskId(from.array()?),
                position: Position {
                    segment: from.u64()?,
                    offset: from.u64()?,
                },
                next_sequence: from.u64()?,
                counts: Counts {
                    objects: from.u64()?,
                    parts: from.u64()?,
                    chunks: from.u64()?,
                },
                is_rebuilding: from.array()? != [0],
            })
        };
        read().ok_or_else(|| doubt("the checkpoint is none of this release"))
    }
}
