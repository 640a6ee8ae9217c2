//! Reading everything on a node's disks back: to order it, and to see how far it is.

use ringfort_ring::id::DiskId;
use serde::{Deserialize, Serialize};

/// Begin to read everything back on all disks of a node, one after the other. A pass under way is given up for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartScrubRequest {
    /// At most so many bytes a second; 0: as many as the node takes by itself.
    pub bytes_per_s: u64,
    /// Whether what is rotten is mended; else it is only counted.
    pub is_mending: bool,
}

/// The answer to a StartScrub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartScrubReply {
    /// The number of the pass that will be made, for each disk.
    pub passes: Vec<(DiskId, u64)>,
}

/// How far are scrubs, and what did they find?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatusRequest {}

/// The answer to a ScrubStatus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatusReply {
    /// A node's open disks.
    pub disks: Vec<DiskScrub>,
}

/// The scrubs of one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskScrub {
    /// The disk.
    pub disk: DiskId,
    /// The pass under way, or interrupted for another disk's.
    pub current: Option<ScrubPass>,
    /// The last pass that ended.
    pub last: Option<ScrubPass>,
    /// The sum of all passes since the node started, the one under way included.
    pub total: ScrubCounts,
    /// When the next pass begins by itself, milliseconds since 1970.
    pub next_ms: u64,
}

/// One reading of everything on one disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubPass {
    /// Rises with each pass of the disk.
    pub number: u64,
    /// Whether somebody asked for it.
    pub is_ordered: bool,
    /// Whether what is rotten is mended.
    pub is_mending: bool,
    /// When it began, milliseconds since 1970.
    pub started_ms: u64,
    /// When it ended; 0: it has not.
    pub ended_ms: u64,
    /// About how many bytes there were to read.
    pub bytes_expected: u64,
    /// What it read, found and mended.
    pub counts: ScrubCounts,
    /// Why it ended before its end, or why something was left undone; `None`: nothing was.
    pub trouble: Option<String>,
}

/// What was read, found and mended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubCounts {
    /// Records read.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Registers whose record did not read back.
    pub rotten_rows: u64,
    /// Chunks that did not read back.
    pub rotten_chunks: u64,
    /// Floors, bounds, epochs and generations whose record did not read back.
    pub rotten_facts: u64,
    /// Other places that did not read back: bytes of segments that hold nothing which counts, slots of the anchor, blocks
    /// of the index.
    pub bad_places: u64,
    /// Of all these, those that are well again.
    pub mended: u64,
}

impl ScrubCounts {
    /// Everything that did not read back.
    #[must_use]
    pub const fn found(&self) -> u64 {
        self.rotten_rows
            .saturating_add(self.rotten_chunks)
            .saturating_add(self.rotten_facts)
            .saturating_add(self.bad_places)
    }

    /// What did not read back and is not well yet.
    #[must_use]
    pub const fn unmended(&self) -> u64 {
        self.found().saturating_sub(self.mended)
    }

    /// Adds another pass' counts.
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.rotten_rows += other.rotten_rows;
        self.rotten_chunks += other.rotten_chunks;
        self.rotten_facts += other.rotten_facts;
        self.bad_places += other.bad_places;
        self.mended += other.mended;
    }
}
