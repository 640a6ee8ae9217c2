//! One record of a segment: its bytes, written and read here only.
//!
//! ```text
//! record  := head ‖ fields ‖ frame sums ‖ payload ‖ zeros up to a multiple of 64
//! head    :=  0  4  magic "RFr1"
//!             4  1  kind (never reused)
//!             5  1  version of the format (1)
//!             6  2  flags: bit 0 = copied on by compaction or recovery, with its old sequence
//!             8  8  sequence: the order of changes on this disk; a copy keeps it
//!            16  4  length of fields
//!            20  4  length of payload
//!            24 16  position synced before this commit: segment, offset
//!            40 20  zero, for later
//!            60  4  crc32c over salt ‖ head[0..60] ‖ fields ‖ frame sums
//! fields  := by kind, below; a reader ignores what follows the fields it knows (room for later ones)
//! sums    := crc32c of each 64 KiB frame of the payload
//! payload := Row: state ‖ inline body.  Chunk: its bytes.  Others: nothing.
//! ```
//!
//! All numbers little-endian, except inside a ballot (24 bytes that sort). The salt is the segment's own (see
//! `segment::file`), so that bytes which a client stored, if a scan ever lands among them, cannot pass for a record.
//!
//! | kind | fields |
//! |---|---|
//! | 1 Row | partition 4, epoch 8, ballot 24, state length 4, row key |
//! | 2 DropRow | ballot 24, row key |
//! | 3 Chunk | id 16, partition 4, epoch 8, BLAKE3 32, owner |
//! | 4 DeleteChunk | id 16 |
//! | 5 Floor | partition 4, ballot 24 |
//! | 6 Bound, 7 Epoch, 9 Joined, 10 Lost, 13 Synced | partition 4, number 8 (of Lost: the join epoch and one) |
//! | 8 Generation | bucket 16, number 8 |
//! | 15 Seal | nothing: the segment ends here |
//!
//! `row key := bucket 16, key length 2, key, part? 1 (upload 16, number 2)`;
//! `owner := 1, bucket 16, partition 4, key length 2, key, operation 16, born 8`, or `2, …, upload 16`; the partition is the
//! key's.

use crate::engine::types::Mutation;
use bytes::Bytes;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{Epoch, Incarnation, PartitionId};
use ringfort_wire::id::{BucketId, ChunkId, ObjectKey, OperationId, PartKey, RowKey, UploadId};

use ringfort_wire::manifest::{BodyOwner, ChunkOwner};

use super::location::{Location, Position};

/// Records begin at multiples of this.
pub(crate) const RECORD_ALIGN: u64 = 64;
/// Commits begin at multiples of this: a torn sector never holds bytes of two commits.
pub(crate) const COMMIT_ALIGN: u64 = 512;
/// Length of the fixed head.
pub(crate) const HEAD_LEN: usize = 64;
/// Payload bytes under one checksum.
pub(crate) const FRAME_LEN: usize = 64 << 10;
const FRAME_LEN_U32: u32 = 64 << 10;
/// No fields are longer; a longer length is a damaged one.
pub(crate) const FIELDS_LEN_MAX: usize = 16 << 10;

pub(crate) const MAGIC: [u8; 4] = *b"RFr1";
const VERSION: u8 = 1;
const FLAG_COPY: u16 = 1;
const CRC_AT: usize = HEAD_LEN - 4;

/// The fixed head, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub(crate) kind: u8,
    pub(crate) version: u8,
    pub(crate) is_copy: bool,
    pub(crate) sequence: u64,
    pub(crate) fields_len: u32,
    pub(crate) payload_len: u32,
    pub(crate) synced: Position,
}

impl Head {
    /// Reads a head's numbers; `None` where the magic or a length cannot be. The checksum is not judged here.
    pub(crate) fn decode(bytes: &[u8; HEAD_LEN]) -> Option<Self> {
        let mut from = Fields(bytes);
        if from.array::<4>()? != MAGIC {
            return None;
        }
        let [kind, version] = from.array()?;
        let head = Self {
            kind,
            version,
            is_copy: u16::from_le_bytes(from.array()?) & FLAG_COPY != 0,
            sequence: from.u64()?,
            fields_len: from.u32()?,
            payload_len: from.u32()?,
            synced: Position {
                segment: from.u64()?,
                offset: from.u64()?,
            },
        };
        (usize::try_from(head.fields_len).ok()? <= FIELDS_LEN_MAX).then_some(head)
    }

    /// Length of fields and frame sums.
    pub(crate) fn meta_len(&self) -> u32 {
        self.fields_len + 4 * frame_count(self.payload_len)
    }
}

/// Frames of a payload.
pub(crate) fn frame_count(payload_len: u32) -> u32 {
    payload_len.div_ceil(FRAME_LEN_U32)
}

/// Bytes that a record takes, padding included.
pub(crate) fn record_len(meta_len: u32, payload_len: u32) -> u64 {
    (HEAD_LEN as u64 + u64::from(meta_len) + u64::from(payload_len)).next_multiple_of(RECORD_ALIGN)
}

/// The checksum of head, fields and frame sums.
pub(crate) fn head_crc(salt: &[u8; 16], head: &[u8; HEAD_LEN], meta: &[u8]) -> u32 {
    let crc = crc32c::crc32c(salt);
    let crc = crc32c::crc32c_append(crc, &head[..CRC_AT]);
    crc32c::crc32c_append(crc, meta)
}

/// The checksum that a head names.
pub(crate) fn named_crc(head: &[u8; HEAD_LEN]) -> u32 {
    let mut crc = [0; 4];
    crc.copy_from_slice(&head[CRC_AT..]);
    u32::from_le_bytes(crc)
}

/// The checksum of each frame of a payload that comes in two pieces.
pub(crate) fn frame_sums(first: &[u8], second: &[u8]) -> Vec<u32> {
    let mut sums = Vec::with_capacity((first.len() + second.len()).div_ceil(FRAME_LEN));
    let (mut crc, mut filled) = (0, 0);
    for mut piece in [first, second] {
        while !piece.is_empty() {
            let (now, later) = piece.split_at(piece.len().min(FRAME_LEN - filled));
            crc = crc32c::crc32c_append(crc, now);
            filled += now.len();
            piece = later;
            if filled == FRAME_LEN {
                sums.push(crc);
                (crc, filled) = (0, 0);
            }
        }
    }
    if filled > 0 {
        sums.push(crc);
    }
    sums
}

/// What a fact is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum FactKey {
    Floor(PartitionId),
    Bound(PartitionId),
    Epoch(PartitionId),
    Joined(PartitionId),
    Lost(PartitionId),
    Synced(PartitionId),
    Generation(BucketId),
}

/// What a record says, without its payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    Row {
        partition: PartitionId,
        epoch: Epoch,
        ballot: Ballot,
        state_len: u32,
        key: RowKey,
    },
    DropRow {
        key: RowKey,
        ballot: Ballot,
    },
    Chunk {
        id: ChunkId,
        partition: PartitionId,
        epoch: Epoch,
        blake3: [u8; 32],
        owner: ChunkOwner,
    },
    DeleteChunk {
        id: ChunkId,
    },
    /// Only the highest value of a key counts. Numbers stand in the ballot's time.
    Fact {
        key: FactKey,
        value: Ballot,
    },
    Seal,
}

/// A number as a fact's value.
pub(crate) fn number(value: u64) -> Ballot {
    Ballot {
        time: Timestamp(value),
        incarnation: Incarnation::default(),
    }
}

/// A mutation as an entry and its payload's two pieces; `None` where a length does not fit the format.
pub(crate) fn split(mutation: Mutation) -> Option<(Entry, Bytes, Bytes)> {
    let fact = |key, value| (Entry::Fact { key, value }, Bytes::new(), Bytes::new());
    Some(match mutation {
        Mutation::Row {
            partition,
            epoch,
            key,
            ballot,
            state,
            body,
        } => {
            let entry = Entry::Row {
                partition,
                epoch,
                ballot,
                state_len: u32::try_from(state.len()).ok()?,
                key,
            };
            u32::try_from(state.len().checked_add(body.len())?).ok()?;
            (entry, state, body)
        }
        Mutation::DropRow { key, ballot } => {
            (Entry::DropRow { key, ballot }, Bytes::new(), Bytes::new())
        }
        Mutation::Chunk {
            id,
            partition,
            epoch,
            owner,
            blake3,
            data,
        } => {
            u32::try_from(data.len()).ok()?;
            let entry = Entry::Chunk {
                id,
                partition,
                epoch,
                blake3,
                owner,
            };
            (entry, Bytes::new(), data)
        }
        Mutation::DeleteChunk { id } => (Entry::DeleteChunk { id }, Bytes::new(), Bytes::new()),
        Mutation::Floor { partition, ballot } => fact(FactKey::Floor(partition), ballot),
        Mutation::Bound { partition, bound } => fact(FactKey::Bound(partition), number(bound.0)),
        Mutation::Epoch { partition, epoch } => fact(FactKey::Epoch(partition), number(epoch.0)),
        Mutation::Joined { partition, epoch } => fact(FactKey::Joined(partition), number(epoch.0)),
        Mutation::Synced { partition, epoch } => fact(FactKey::Synced(partition), number(epoch.0)),
        Mutation::Lost { partition, joined } => {
            // One above, so that join epoch 0 can be over too.
            fact(FactKey::Lost(partition), number(joined.0.saturating_add(1)))
        }
        Mutation::Generation { bucket, generation } => {
            fact(FactKey::Generation(bucket), number(generation.0))
        }
    })
}

impl Entry {
    fn kind(&self) -> u8 {
        match self {
            Self::Row { .. } => 1,
            Self::DropRow { .. } => 2,
            Self::Chunk { .. } => 3,
            Self::DeleteChunk { .. } => 4,
            Self::Fact { key, .. } => match key {
                FactKey::Floor(_) => 5,
                FactKey::Bound(_) => 6,
                FactKey::Epoch(_) => 7,
                FactKey::Generation(_) => 8,
                FactKey::Joined(_) => 9,
                FactKey::Lost(_) => 10,
                FactKey::Synced(_) => 13,
            },
            Self::Seal => 15,
        }
    }

    /// The entry's fields.
    pub(crate) fn encode_fields(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(128);
        match self {
            Self::Row {
                partition,
                epoch,
                ballot,
                state_len,
                key,
            } => {
                to.extend_from_slice(&partition.0.to_le_bytes());
                to.extend_from_slice(&epoch.0.to_le_bytes());
                to.extend_from_slice(&ballot.to_bytes());
                to.extend_from_slice(&state_len.to_le_bytes());
                put_row_key(&mut to, key);
            }
            Self::DropRow { key, ballot } => {
                to.extend_from_slice(&ballot.to_bytes());
                put_row_key(&mut to, key);
            }
            Self::Chunk {
                id,
                partition,
                epoch,
                blake3,
                owner,
            } => {
                to.extend_from_slice(&id.0);
                to.extend_from_slice(&partition.0.to_le_bytes());
                to.extend_from_slice(&epoch.0.to_le_bytes());
                to.extend_from_slice(blake3);
                put_owner(&mut to, owner);
            }
            Self::DeleteChunk { id } => to.extend_from_slice(&id.0),
            Self::Fact { key, value } => match key {
                FactKey::Floor(partition) => {
                    to.extend_from_slice(&partition.0.to_le_bytes());
                    to.extend_from_slice(&value.to_bytes());
                }
                FactKey::Bound(partition)
                | FactKey::Epoch(partition)
                | FactKey::Joined(partition)
                | FactKey::Lost(partition)
                | FactKey::Synced(partition) => {
                    to.extend_from_slice(&partition.0.to_le_bytes());
                    to.extend_from_slice(&value.time.0.to_le_bytes());
                }
                FactKey::Generation(bucket) => {
                    to.extend_from_slice(&bucket.0);
                    to.extend_from_slice(&value.time.0.to_le_bytes());
                }
            },
            Self::Seal => {}
        }
        to
    }

    /// Reads the fields of a kind; `None` where they are no such thing.
    pub(crate) fn decode(kind: u8, fields: &[u8]) -> Option<Self> {
        let mut from = Fields(fields);
        let from = &mut from;
        Some(match kind {
            1 => Self::Row {
                partition: PartitionId(from.u32()?),
                epoch: Epoch(from.u64()?),
                ballot: Ballot::from_bytes(from.array()?),
                state_len: from.u32()?,
                key: from.row_key()?,
            },
            2 => Self::DropRow {
                ballot: Ballot::from_bytes(from.array()?),
                key: from.row_key()?,
            },
            3 => Self::Chunk {
                id: ChunkId(from.array()?),
                partition: PartitionId(from.u32()?),
                epoch: Epoch(from.u64()?),
                blake3: from.array()?,
                owner: from.owner()?,
            },
            4 => Self::DeleteChunk {
                id: ChunkId(from.array()?),
            },
            5 => Self::Fact {
                key: FactKey::Floor(PartitionId(from.u32()?)),
                value: Ballot::from_bytes(from.array()?),
            },
            6 | 7 | 9 | 10 | 13 => {
                let partition = PartitionId(from.u32()?);
                let key = match kind {
                    6 => FactKey::Bound(partition),
                    7 => FactKey::Epoch(partition),
                    9 => FactKey::Joined(partition),
                    10 => FactKey::Lost(partition),
                    _ => FactKey::Synced(partition),
                };
                Self::Fact {
                    key,
                    value: number(from.u64()?),
                }
            }
            8 => Self::Fact {
                key: FactKey::Generation(BucketId(from.array()?)),
                value: number(from.u64()?),
            },
            15 => Self::Seal,
            _ => return None,
        })
    }
}

/// A record ready to be written: everything before the payload.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) front: Vec<u8>,
    pub(crate) meta_len: u32,
    pub(crate) payload_len: u32,
}

/// Encodes everything before the payload.
pub(crate) fn encode(
    salt: &[u8; 16],
    entry: &Entry,
    fields: &[u8],
    (sequence, is_copy, synced): (u64, bool, Position),
    (first, second): (&[u8], &[u8]),
) -> Option<Encoded> {
    let payload_len = u32::try_from(first.len().checked_add(second.len())?).ok()?;
    let fields_len = u32::try_from(fields.len()).ok()?;
    let mut head = [0; HEAD_LEN];
    head[..4].copy_from_slice(&MAGIC);
    head[4] = entry.kind();
    head[5] = VERSION;
    head[6..8].copy_from_slice(&u16::from(is_copy).to_le_bytes());
    head[8..16].copy_from_slice(&sequence.to_le_bytes());
    head[16..20].copy_from_slice(&fields_len.to_le_bytes());
    head[20..24].copy_from_slice(&payload_len.to_le_bytes());
    head[24..32].copy_from_slice(&synced.segment.to_le_bytes());
    head[32..40].copy_from_slice(&synced.offset.to_le_bytes());
    let sums = frame_sums(first, second);
    let mut front = Vec::with_capacity(HEAD_LEN + fields.len() + 4 * sums.len());
    front.extend_from_slice(&head);
    front.extend_from_slice(fields);
    for sum in sums {
        front.extend_from_slice(&sum.to_le_bytes());
    }
    let crc = head_crc(salt, &head, &front[HEAD_LEN..]);
    front[CRC_AT..HEAD_LEN].copy_from_slice(&crc.to_le_bytes());
    Some(Encoded {
        meta_len: u32::try_from(front.len() - HEAD_LEN).ok()?,
        payload_len,
        front,
    })
}

impl Location {
    /// Bytes that the record takes in its segment.
    pub(crate) fn record_len(&self) -> u64 {
        record_len(self.meta_len, self.payload_len)
    }
}

/// Whether this release knows the format version that a head names.
pub(crate) fn is_known_version(version: u8) -> bool {
    version == VERSION
}

fn put_key(to: &mut Vec<u8>, key: &ObjectKey) {
    let len = u16::try_from(key.as_bytes().len()).unwrap_or(u16::MAX);
    to.extend_from_slice(&len.to_le_bytes());
    to.extend_from_slice(key.as_bytes());
}

fn put_row_key(to: &mut Vec<u8>, key: &RowKey) {
    to.extend_from_slice(&key.bucket.0);
    put_key(to, &key.key);
    match key.part {
        None => to.push(0),
        Some(part) => {
            to.push(1);
            to.extend_from_slice(&part.upload.0);
            to.extend_from_slice(&part.number.to_le_bytes());
        }
    }
}

fn put_owner(to: &mut Vec<u8>, owner: &ChunkOwner) {
    to.push(match owner.owner {
        BodyOwner::Operation(_) => 1,
        BodyOwner::Upload(_) => 2,
    });
    to.extend_from_slice(&owner.bucket.0);
    to.extend_from_slice(&owner.partition.0.to_le_bytes());
    put_key(to, &owner.key);
    match owner.owner {
        BodyOwner::Operation(operation) => {
            to.extend_from_slice(&operation.id);
            to.extend_from_slice(&operation.born.0.to_le_bytes());
        }
        BodyOwner::Upload(upload) => to.extend_from_slice(&upload.0),
    }
}

/// Reads fields from the front; every reader answers `None` where bytes run out.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.array()?))
    }

    fn key(&mut self) -> Option<ObjectKey> {
        let len = usize::from(u16::from_le_bytes(self.array()?));
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        ObjectKey::parse(std::str::from_utf8(text).ok()?)
    }

    fn row_key(&mut self) -> Option<RowKey> {
        let bucket = BucketId(self.array()?);
        let key = self.key()?;
        let part = match self.array::<1>()? {
            [0] => None,
            [1] => Some(PartKey {
                upload: UploadId(self.array()?),
                number: u16::from_le_bytes(self.array()?),
            }),
            _ => return None,
        };
        Some(RowKey { bucket, key, part })
    }

    fn owner(&mut self) -> Option<ChunkOwner> {
        let tag = self.array::<1>()?;
        Some(ChunkOwner {
            bucket: BucketId(self.array()?),
            partition: PartitionId(self.u32()?),
            key: self.key()?,
            owner: match tag {
                [1] => BodyOwner::Operation(OperationId {
                    id: self.array()?,
                    born: Timestamp(self.u64()?),
                }),
                [2] => BodyOwner::Upload(UploadId(self.array()?)),
                _ => return None,
            },
        })
    }
}
