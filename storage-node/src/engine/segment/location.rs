//! Where things are: positions in the log, locations of records, bodies.

use super::file::SegmentFile;
use std::sync::Arc;

/// A place in the log. Orders as the log was written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position {
    /// The segment's number.
    pub segment: u64,
    /// Bytes from the start of the segment's file.
    pub offset: u64,
}

/// Where one record is, and how long its pieces are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Location {
    /// Its first byte.
    pub position: Position,
    /// Length of its meta, which follows the fixed head.
    pub meta_len: u32,
    /// Length of its payload, which follows the meta.
    pub payload_len: u32,
}

/// Where a row's inline body is: nowhere, or in a segment file that it holds open.
#[derive(Clone, Debug, Default)]
pub struct BodyLocation {
    pub(crate) at: Option<BodyAt>,
}

#[derive(Clone, Debug)]
pub(crate) struct BodyAt {
    /// Absent where the file was gone at start.
    pub(crate) segment: Option<Arc<SegmentFile>>,
    pub(crate) record: Location,
    /// Where in the payload the body begins.
    pub(crate) skip: u32,
}

impl BodyLocation {
    /// No body.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Length of the body.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.at
            .as_ref()
            .map_or(0, |at| at.record.payload_len.saturating_sub(at.skip))
    }

    /// Whether there is no body.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
