//! Chunks in the index.
//!
//! ```text
//! key := chunk id 16        value := partition 4, epoch 8, sequence 8, location 24 ‖ crc32c over key and value
//! ```

use super::{IndexError, doubt, get_location, open_value, put_location, seal_value};
use crate::engine::segment::location::Location;
use crate::engine::segment::record_format::Fields;
use ringfort_ring::id::{Epoch, PartitionId};
use ringfort_wire::id::ChunkId;

/// A chunk as the index holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ChunkEntry {
    pub(crate) partition: PartitionId,
    pub(crate) epoch: Epoch,
    pub(crate) sequence: u64,
    pub(crate) location: Location,
}

impl ChunkEntry {
    pub(super) fn encode(&self, id: ChunkId) -> Vec<u8> {
        let mut to = Vec::with_capacity(48);
        to.extend_from_slice(&self.partition.0.to_le_bytes());
        to.extend_from_slice(&self.epoch.0.to_le_bytes());
        to.extend_from_slice(&self.sequence.to_le_bytes());
        put_location(&mut to, &self.location);
        seal_value(&id.0, to)
    }

    pub(super) fn decode(id: &[u8], sealed: &[u8]) -> Result<Self, IndexError> {
        let mut from = Fields(open_value(id, sealed)?);
        let mut read = || {
            Some(Self {
                partition: PartitionId(from.u32()?),
                epoch: Epoch(from.u64()?),
                sequence: from.u64()?,
                location: get_location(&mut from)?,
            })
        };
        read().ok_or_else(|| doubt("a chunk is too short"))
    }
}
