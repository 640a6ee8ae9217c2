//! The anchor: a small file of its own that holds the promise horizon and the known-synced position.
//!
//! ```text
//! anchor := slot at 0 ‖ zeros ‖ slot at 4096 ‖ zeros     (8192 bytes)
//! slot   :=  0  8  magic "RFANCHOR"
//!            8  4  version (1)
//!           12  8  counter: the slot with the higher one counts; slots are written in turn
//!           20 16  disk id
//!           36 16  cluster id
//!           52  8  promise horizon
//!           60 16  known-synced position: segment, offset
//!           76  4  crc32c of the bytes before
//! ```
//!
//! Both slots bad: nobody knows what this disk promised, so its identity is lost.

use super::segment::location::Position;
use super::segment::record_format::Fields;
use crate::disk::{Disk, DiskFile};
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{ClusterId, DiskId};
use std::io::{self, IoSlice};
use std::sync::Arc;

pub(crate) const ANCHOR_NAME: &str = "anchor";
const MAGIC: [u8; 8] = *b"RFANCHOR";
const VERSION: u32 = 1;
const SLOT_LEN: usize = 80;
const CRC_AT: usize = SLOT_LEN - 4;
const SLOTS_AT: [u64; 2] = [0, 4096];
const FILE_LEN: u64 = 8192;

/// What a slot says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AnchorFacts {
    pub(crate) counter: u64,
    pub(crate) disk_id: DiskId,
    pub(crate) cluster: ClusterId,
    pub(crate) horizon: Timestamp,
    pub(crate) synced: Position,
}

/// The open anchor.
#[derive(Debug)]
pub(crate) struct Anchor {
    file: Arc<dyn DiskFile>,
    pub(crate) facts: AnchorFacts,
    pub(crate) is_slot_bad: bool,
}

impl Anchor {
    /// Makes the file; it is the last thing that makes a folder a disk.
    pub(crate) fn create(disk: &dyn Disk, facts: AnchorFacts) -> io::Result<()> {
        let file = disk.create(ANCHOR_NAME, FILE_LEN)?;
        for (at, counter) in SLOTS_AT.into_iter().zip(1..) {
            let slot = encode(&AnchorFacts { counter, ..facts });
            file.write_all_at(at, &[IoSlice::new(&slot)])?;
        }
        file.sync()?;
        disk.sync_directory()
    }

    /// Reads the file; `None` where neither slot reads back.
    pub(crate) fn open(disk: &dyn Disk) -> io::Result<Option<Self>> {
        let file = disk.open(ANCHOR_NAME)?;
        let slots = SLOTS_AT.map(|at| {
            let mut slot = [0; SLOT_LEN];
            // A sector that cannot be read is a bad slot.
            file.read_exact_at(at, &mut slot).ok()?;
            decode(&slot)
        });
        let newest = slots.iter().flatten().max_by_key(|facts| facts.counter);
        Ok(newest.map(|facts| Self {
            facts: *facts,
            is_slot_bad: slots.iter().any(Option::is_none),
            file: Arc::clone(&file),
        }))
    }

    /// Whether both slots still read back, and the newer one says what is known.
    pub(crate) fn is_good(&self) -> bool {
        let slots = SLOTS_AT.map(|at| {
            let mut slot = [0; SLOT_LEN];
            self.file.read_exact_at(at, &mut slot).ok()?;
            decode(&slot)
        });
        let newest = slots.iter().flatten().max_by_key(|facts| facts.counter);
        slots.iter().all(Option::is_some) && newest == Some(&self.facts)
    }

    /// Writes both slots anew, one after the other: at any moment one of them is good, or the memory of this process is.
    pub(crate) fn write_both(&mut self) -> io::Result<()> {
        for _ in SLOTS_AT {
            self.write(self.facts.horizon, self.facts.synced)?;
        }
        Ok(())
    }

    /// Makes horizon and position durable in the older slot. Neither ever goes back.
    pub(crate) fn write(&mut self, horizon: Timestamp, synced: Position) -> io::Result<()> {
        let facts = AnchorFacts {
            counter: self.facts.counter + 1,
            horizon: horizon.max(self.facts.horizon),
            synced: synced.max(self.facts.synced),
            ..self.facts
        };
        // Counters 1, 2 lie in slots 0, 1: odd ones in the first slot.
        let at = SLOTS_AT[usize::from(facts.counter.is_multiple_of(2))];
        self.file
            .write_all_at(at, &[IoSlice::new(&encode(&facts))])?;
        self.file.sync()?;
        self.facts = facts;
        Ok(())
    }
}

fn encode(facts: &AnchorFacts) -> Vec<u8> {
    let mut slot = Vec::with_capacity(SLOT_LEN);
    slot.extend_from_slice(&MAGIC);
    slot.extend_from_slice(&VERSION.to_le_bytes());
    slot.extend_from_slice(&facts.counter.to_le_bytes());
    slot.extend_from_slice(&facts.disk_id.0);
    slot.extend_from_slice(&facts.cluster.0);
    slot.extend_from_slice(&facts.horizon.0.to_le_bytes());
    slot.extend_from_slice(&facts.synced.segment.to_le_bytes());
    slot.extend_from_slice(&facts.synced.offset.to_le_bytes());
    slot.extend_from_slice(&crc32c::crc32c(&slot).to_le_bytes());
    slot
}

fn decode(slot: &[u8; SLOT_LEN]) -> Option<AnchorFacts> {
    let (said, crc) = slot.split_at(CRC_AT);
    if crc != crc32c::crc32c(said).to_le_bytes() {
        return None;
    }
    let mut from = Fields(said);
    if from.array()? != MAGIC || from.u32()? != VERSION {
        return None;
    }
    Some(AnchorFacts {
        counter: from.u64()?,
        disk_id: DiskId(from.array()?),
        cluster: ClusterId(from.array()?),
        horizon: Timestamp(from.u64()?),
        synced: Position {
            segment: from.u64()?,
            offset: from.u64()?,
        },
    })
}
