//! The frame: how one message looks on a connection. Pure: bytes in, bytes out.
//!
//! ```text
//!   0        3      4       6        7       8         16            20     24         28            32         36           40
//!   +--------+------+-------+--------+-------+---------+-------------+------+----------+-------------+----------+------------+------+---------+
//!   | "RFW"  | ver. | kind  | type   | zero  | id      | deadline ms | era  | body len | payload len | data crc | header crc | body | payload |
//!   | 3      | u8   | u16   | u8     | u8    | u64     | u32         | u32  | u32      | u32         | u32      | u32        | …    | …       |
//!   +--------+------+-------+--------+-------+---------+-------------+------+----------+-------------+----------+------------+------+---------+
//! ```
//!
//! Numbers are little-endian. *Header crc* is the CRC-32C of the 36 bytes before it; *data crc* that of the body and
//! the payload together. Both stand in the header, so that a payload is sent from where it lies, with nothing behind
//! it. A length is believed only after the header's checksum and the limits ([`body_max`], [`PAYLOAD_MAX_BYTES`])
//! were checked.
//!
//! What a body means is left to `message/` and `hello.rs`.

use bytes::Bytes;
use ringfort_ring::id::Era;

/// The first bytes of every frame.
const MAGIC: [u8; 3] = *b"RFW";
/// The only version so far. A later release that changes the header speaks this one until both ends have said, in
/// their hello, that they know the new one.
const VERSION: u8 = 1;

const VERSION_AT: usize = MAGIC.len();
const KIND_AT: usize = VERSION_AT + size_of::<u8>();
const TYPE_AT: usize = KIND_AT + size_of::<u16>();
const ZERO_AT: usize = TYPE_AT + size_of::<u8>();
const ID_AT: usize = ZERO_AT + size_of::<u8>();
const DEADLINE_AT: usize = ID_AT + size_of::<u64>();
const ERA_AT: usize = DEADLINE_AT + size_of::<u32>();
const BODY_LEN_AT: usize = ERA_AT + size_of::<u32>();
const PAYLOAD_LEN_AT: usize = BODY_LEN_AT + size_of::<u32>();
const DATA_CRC_AT: usize = PAYLOAD_LEN_AT + size_of::<u32>();
const HEADER_CRC_AT: usize = DATA_CRC_AT + size_of::<u32>();
/// Bytes of a header.
pub const HEADER_BYTES: usize = HEADER_CRC_AT + size_of::<u32>();

/// The longest body, but of the kinds that carry a layout.
pub const BODY_MAX_BYTES: u32 = 4 * 1024 * 1024;
/// The longest body of the kinds that carry a layout. One of 65,536 partitions with five members each takes up to 3 MiB,
/// and twice that while all of them move.
pub const LAYOUT_BODY_MAX_BYTES: u32 = 16 * 1024 * 1024;
/// The longest payload.
pub const PAYLOAD_MAX_BYTES: u32 = 8 * 1024 * 1024;

/// The longest body of a message kind.
#[must_use]
pub const fn body_max(kind: u16) -> u32 {
    match kind {
        21 | 24..=29 => LAYOUT_BODY_MAX_BYTES,
        _ => BODY_MAX_BYTES,
    }
}

/// What a frame is for. Numbers are on the wire and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameType {
    /// The first of a connection, from whoever opened it: who asks.
    Hello = 1,
    /// The answer to a hello: who answers.
    Welcome = 2,
    /// A request.
    Request = 3,
    /// The answer to a request.
    Response = 4,
    /// A refusal, of the request with this id, or (id 0) of the connection.
    Error = 5,
    /// Whoever asked the request with this id does not wait for its answer any more.
    Cancel = 6,
    /// I live.
    Heartbeat = 7,
    /// No new requests on this connection, please.
    GoAway = 8,
}

impl FrameType {
    const ALL: [Self; 8] = [
        Self::Hello,
        Self::Welcome,
        Self::Request,
        Self::Response,
        Self::Error,
        Self::Cancel,
        Self::Heartbeat,
        Self::GoAway,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Welcome => 2,
            Self::Request => 3,
            Self::Response => 4,
            Self::Error => 5,
            Self::Cancel => 6,
            Self::Heartbeat => 7,
            Self::GoAway => 8,
        }
    }

    fn of_number(number: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|frame_type| frame_type.number() == number)
    }
}

/// Why bytes are not a frame. After any of these the connection is out of step, and is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Something else speaks here.
    #[error("not a Ringfort frame")]
    Magic,
    /// A newer release's frame.
    #[error("frame version {0} is not known")]
    Version(u8),
    /// The header was damaged on its way.
    #[error("the header fails its checksum")]
    HeaderChecksum,
    /// A frame of a type that this release does not know.
    #[error("frame type {0} is not known")]
    Type(u8),
    /// The body is longer than may be.
    #[error("a body of {0} bytes is too long")]
    BodyTooLong(u32),
    /// The payload is longer than may be.
    #[error("a payload of {0} bytes is too long")]
    PayloadTooLong(u32),
    /// Body or payload were damaged on their way.
    #[error("body or payload fail their checksum")]
    DataChecksum,
}

/// A header that was read and may be believed.
///
/// Invariants: `body_len` and `payload_len` are within their limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is for.
    pub frame_type: FrameType,
    /// The request's kind; 0 where there is none.
    pub kind: u16,
    /// Which request; unique among those under way on one connection. 0 where there is none.
    pub id: u64,
    /// How long the asker still waits, in milliseconds. Of requests only.
    pub deadline_ms: u32,
    /// The era that the sender lives in.
    pub era: Era,
    /// Bytes of the body.
    pub body_len: u32,
    /// Bytes of the payload.
    pub payload_len: u32,
    data_crc: u32,
}

/// A frame to be sent: the header and the body in one piece, the payload as it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Header and body.
    pub head: Bytes,
    /// The payload.
    pub payload: Bytes,
}

/// What a frame's header says of it, before lengths and checksums are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// What the frame is for.
    pub frame_type: FrameType,
    /// The request's kind; 0 where there is none.
    pub kind: u16,
    /// Which request; 0 where there is none.
    pub id: u64,
    /// How long the asker still waits, in milliseconds.
    pub deadline_ms: u32,
    /// The era that the sender lives in.
    pub era: Era,
}

impl Label {
    /// A frame that belongs to no request.
    #[must_use]
    pub const fn plain(frame_type: FrameType, era: Era) -> Self {
        Self {
            frame_type,
            kind: 0,
            id: 0,
            deadline_ms: 0,
            era,
        }
    }
}

impl Frame {
    /// A frame of these parts.
    ///
    /// # Errors
    /// `BodyTooLong` or `PayloadTooLong`; nothing was made then.
    pub fn new(label: Label, body: &[u8], payload: Bytes) -> Result<Self, FrameError> {
        let body_len =
            limited(body.len(), body_max(label.kind)).map_err(FrameError::BodyTooLong)?;
        let payload_len =
            limited(payload.len(), PAYLOAD_MAX_BYTES).map_err(FrameError::PayloadTooLong)?;
        let mut head = Vec::with_capacity(HEADER_BYTES + body.len());
        head.extend_from_slice(&MAGIC);
        head.push(VERSION);
        head.extend_from_slice(&label.kind.to_le_bytes());
        head.push(label.frame_type.number());
        head.push(0);
        head.extend_from_slice(&label.id.to_le_bytes());
        head.extend_from_slice(&label.deadline_ms.to_le_bytes());
        head.extend_from_slice(&label.era.0.to_le_bytes());
        head.extend_from_slice(&body_len.to_le_bytes());
        head.extend_from_slice(&payload_len.to_le_bytes());
        head.extend_from_slice(&data_crc(body, &payload).to_le_bytes());
        let header_crc = crc32c::crc32c(&head);
        head.extend_from_slice(&header_crc.to_le_bytes());
        head.extend_from_slice(body);
        Ok(Self {
            head: head.into(),
            payload,
        })
    }

    /// A frame without body or payload.
    #[must_use]
    pub fn bare(label: Label) -> Self {
        Self::new(label, &[], Bytes::new()).expect("nothing is within every limit")
    }
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// Where it is not one, is damaged, or names a length above the limits.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        if bytes[..VERSION_AT] != MAGIC {
            return Err(FrameError::Magic);
        }
        if bytes[VERSION_AT] != VERSION {
            return Err(FrameError::Version(bytes[VERSION_AT]));
        }
        if crc32c::crc32c(&bytes[..HEADER_CRC_AT]) != u32_at(bytes, HEADER_CRC_AT) {
            return Err(FrameError::HeaderChecksum);
        }
        let frame_type =
            FrameType::of_number(bytes[TYPE_AT]).ok_or(FrameError::Type(bytes[TYPE_AT]))?;
        let header = Self {
            frame_type,
            kind: u16::from_le_bytes(array_at(bytes, KIND_AT)),
            id: u64::from_le_bytes(array_at(bytes, ID_AT)),
            deadline_ms: u32_at(bytes, DEADLINE_AT),
            era: Era(u32_at(bytes, ERA_AT)),
            body_len: u32_at(bytes, BODY_LEN_AT),
            payload_len: u32_at(bytes, PAYLOAD_LEN_AT),
            data_crc: u32_at(bytes, DATA_CRC_AT),
        };
        if header.body_len > body_max(header.kind) {
            return Err(FrameError::BodyTooLong(header.body_len));
        }
        if header.payload_len > PAYLOAD_MAX_BYTES {
            return Err(FrameError::PayloadTooLong(header.payload_len));
        }
        Ok(header)
    }

    /// Checks what came behind the header against it.
    ///
    /// # Errors
    /// `DataChecksum`.
    pub fn check(&self, body: &[u8], payload: &[u8]) -> Result<(), FrameError> {
        if data_crc(body, payload) == self.data_crc {
            Ok(())
        } else {
            Err(FrameError::DataChecksum)
        }
    }
}

fn data_crc(body: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(body), payload)
}

fn limited(len: usize, max: u32) -> Result<u32, u32> {
    match u32::try_from(len) {
        Ok(len) if len <= max => Ok(len),
        Ok(len) => Err(len),
        Err(_) => Err(u32::MAX),
    }
}

fn array_at<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[at + index])
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header_of(frame: &Frame) -> [u8; HEADER_BYTES] {
        frame.head[..HEADER_BYTES].try_into().unwrap()
    }

    fn resealed(mut header: [u8; HEADER_BYTES]) -> [u8; HEADER_BYTES] {
        let crc = crc32c::crc32c(&header[..HEADER_CRC_AT]);
        header[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    fn label() -> Label {
        Label {
            frame_type: FrameType::Request,
            kind: 0x0102,
            id: 3,
            deadline_ms: 4,
            era: Era(5),
        }
    }

    #[test]
    fn the_bytes_of_a_frame_stay_what_they_were_in_the_first_release() {
        let frame = Frame::new(label(), b"body", Bytes::from_static(b"payload")).unwrap();
        assert_eq!(
            hex::encode(&frame.head),
            "52465701020103000300000000000000040000000500000004000000070000003fdcce654242071d626f6479"
        );
    }

    #[test]
    fn type_numbers_are_never_used_again() {
        let numbers: Vec<u8> = FrameType::ALL.map(FrameType::number).to_vec();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(FrameType::of_number(0), None);
        assert_eq!(FrameType::of_number(9), None);
    }

    #[test]
    fn a_length_above_the_limit_is_refused_on_both_sides() {
        let long = vec![0; BODY_MAX_BYTES as usize + 1];
        assert_eq!(
            Frame::new(label(), &long, Bytes::new()),
            Err(FrameError::BodyTooLong(BODY_MAX_BYTES + 1))
        );
        let long = Bytes::from(vec![0; PAYLOAD_MAX_BYTES as usize + 1]);
        assert_eq!(
            Frame::new(label(), &[], long),
            Err(FrameError::PayloadTooLong(PAYLOAD_MAX_BYTES + 1))
        );
        // A whole layout is longer.
        let of_layout = Label {
            kind: 25,
            ..label()
        };
        let long = vec![0; BODY_MAX_BYTES as usize + 1];
        let frame = Frame::new(of_layout, &long, Bytes::new()).unwrap();
        assert!(Header::decode(&header_of(&frame)).is_ok());
        let long = vec![0; LAYOUT_BODY_MAX_BYTES as usize + 1];
        assert!(Frame::new(of_layout, &long, Bytes::new()).is_err());
        let good = header_of(&Frame::bare(label()));
        for (at, error) in [
            (BODY_LEN_AT, FrameError::BodyTooLong(u32::MAX)),
            (PAYLOAD_LEN_AT, FrameError::PayloadTooLong(u32::MAX)),
        ] {
            let mut bad = good;
            bad[at..at + 4].copy_from_slice(&[0xff; 4]);
            assert_eq!(Header::decode(&bad), Err(FrameError::HeaderChecksum));
            assert_eq!(Header::decode(&resealed(bad)), Err(error));
        }
    }

    #[test]
    fn an_unknown_version_or_type_is_named() {
        let good = header_of(&Frame::bare(label()));
        let mut newer = good;
        newer[VERSION_AT] = 2;
        assert_eq!(Header::decode(&newer), Err(FrameError::Version(2)));
        let mut other = good;
        other[TYPE_AT] = 99;
        assert_eq!(Header::decode(&resealed(other)), Err(FrameError::Type(99)));
        let mut foreign = good;
        foreign[..3].copy_from_slice(b"GET");
        assert_eq!(Header::decode(&foreign), Err(FrameError::Magic));
    }

    proptest! {
        #[test]
        fn a_frame_reads_back(
            number in 1_u8..=8, kind: u16, id: u64, deadline_ms: u32, era: u32,
            body in proptest::collection::vec(any::<u8>(), 0..300),
            payload in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let label = Label {
                frame_type: FrameType::of_number(number).unwrap(), kind, id, deadline_ms, era: Era(era),
            };
            let frame = Frame::new(label, &body, payload.clone().into()).unwrap();
            let header = Header::decode(&header_of(&frame)).unwrap();
            prop_assert_eq!(header.frame_type, label.frame_type);
            prop_assert_eq!((header.kind, header.id), (kind, id));
            prop_assert_eq!((header.deadline_ms, header.era), (deadline_ms, Era(era)));
            prop_assert_eq!(header.body_len as usize, body.len());
            prop_assert_eq!(header.payload_len as usize, payload.len());
            prop_assert_eq!(&frame.head[HEADER_BYTES..], &body[..]);
            prop_assert_eq!(header.check(&body, &payload), Ok(()));
        }

        #[test]
        fn one_flipped_bit_is_noticed(bit in 0_usize..(HEADER_BYTES + 5 + 7) * 8) {
            let frame = Frame::new(label(), b"abcde", Bytes::from_static(b"fghijkl")).unwrap();
            let mut bytes = [&frame.head[..], &frame.payload[..]].concat();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let noticed = match Header::decode(bytes[..HEADER_BYTES].try_into().unwrap()) {
                Err(_) => true,
                Ok(header) => header.check(&bytes[HEADER_BYTES..HEADER_BYTES + 5], &bytes[HEADER_BYTES + 5..]).is_err(),
            };
            prop_assert!(noticed);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: [u8; 32], tail: [u8; 8], seal: bool) {
            let mut header = [0; HEADER_BYTES];
            header[..32].copy_from_slice(&bytes);
            header[32..].copy_from_slice(&tail);
            if seal {
                header[..3].copy_from_slice(&MAGIC);
                header[VERSION_AT] = VERSION;
                header = resealed(header);
            }
            if let Ok(header) = Header::decode(&header) {
                prop_assert!(header.body_len <= LAYOUT_BODY_MAX_BYTES && header.payload_len <= PAYLOAD_MAX_BYTES);
            }
        }
    }
}
