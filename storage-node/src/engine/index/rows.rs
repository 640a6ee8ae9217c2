//! Rows in the index: keys that sort as LIST needs them, and values.
//!
//! ```text
//! objects: key := bucket 16 ‖ object key
//! parts:   key := bucket 16 ‖ key length 2 (big-endian) ‖ object key ‖ upload 16 ‖ number 2 (big-endian)
//! value := partition 4, epoch 8, ballot 24, sequence 8, location 24, state ‖ crc32c over key and value
//! ```

use super::{IndexError, LOCATION_LEN, doubt, get_location, open_value, put_location, seal_value};
use crate::engine::segment::location::Location;
use crate::engine::segment::record_format::Fields;
use bytes::Bytes;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::{Epoch, PartitionId};
use ringfort_wire::id::{BucketId, ObjectKey, RowKey, UploadId};

/// Which of the two tables of rows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum RowTable {
    Objects,
    Parts,
}

/// A row as the index holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RowEntry {
    pub(crate) partition: PartitionId,
    pub(crate) epoch: Epoch,
    pub(crate) ballot: Ballot,
    pub(crate) sequence: u64,
    pub(crate) location: Location,
    pub(crate) state: Bytes,
}

impl RowEntry {
    /// What decides between two states of one register: the ballot, and of two copies of one ballot the later write.
    pub(crate) fn rank(&self) -> (Ballot, u64) {
        (self.ballot, self.sequence)
    }

    pub(super) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut to = Vec::with_capacity(48 + LOCATION_LEN + self.state.len());
        to.extend_from_slice(&self.partition.0.to_le_bytes());
        to.extend_from_slice(&self.epoch.0.to_le_bytes());
        to.extend_from_slice(&self.ballot.to_bytes());
        to.extend_from_slice(&self.sequence.to_le_bytes());
        put_location(&mut to, &self.location);
        to.extend_from_slice(&self.state);
        seal_value(key, to)
    }

    pub(super) fn decode(key: &[u8], sealed: &[u8]) -> Result<Self, IndexError> {
        let mut from = Fields(open_value(key, sealed)?);
        let mut read = || {
            Some(Self {
                partition: PartitionId(from.u32()?),
                epoch: Epoch(from.u64()?),
                ballot: Ballot::from_bytes(from.array()?),
                sequence: from.u64()?,
                location: get_location(&mut from)?,
                state: Bytes::copy_from_slice(from.0),
            })
        };
        read().ok_or_else(|| doubt("a row is too short"))
    }
}

/// The table and key of a register.
pub(crate) fn index_key(key: &RowKey) -> (RowTable, Vec<u8>) {
    match key.part {
        None => (
            RowTable::Objects,
            object_key(key.bucket, key.key.as_bytes()),
        ),
        Some(part) => (
            RowTable::Parts,
            part_key(key.bucket, &key.key, part.upload, part.number),
        ),
    }
}

pub(crate) fn object_key(bucket: BucketId, key: &[u8]) -> Vec<u8> {
    [&bucket.0[..], key].concat()
}

pub(crate) fn part_key(
    bucket: BucketId,
    key: &ObjectKey,
    upload: UploadId,
    number: u16,
) -> Vec<u8> {
    // A key is at most 1,024 bytes.
    let len = u16::try_from(key.as_bytes().len()).unwrap_or(u16::MAX);
    [
        &bucket.0[..],
        &len.to_be_bytes(),
        key.as_bytes(),
        &upload.0,
        &number.to_be_bytes(),
    ]
    .concat()
}

/// The register of a table's key; `None` where the bytes are none.
pub(crate) fn row_key(table: RowTable, bytes: &[u8]) -> Option<RowKey> {
    let mut from = Fields(bytes);
    let bucket = BucketId(from.array()?);
    let text = |bytes: &[u8]| ObjectKey::parse(std::str::from_utf8(bytes).ok()?);
    Some(match table {
        RowTable::Objects => RowKey::object(bucket, text(from.0)?),
        RowTable::Parts => {
            let len = usize::from(u16::from_be_bytes(from.array()?));
            let (key, rest) = from.0.split_at_checked(len)?;
            let mut from = Fields(rest);
            let upload = UploadId(from.array()?);
            RowKey::part(
                bucket,
                text(key)?,
                upload,
                u16::from_be_bytes(from.array()?),
            )
        }
    })
}
