//! Made bodies: a function of the key's number, so that a GET can be checked without keeping anything.
//!
//! One random block is made at start; body `n` is that block from an offset that depends on `n`, with `n` in its
//! first eight bytes. So no two bodies are equal, and a checked GET costs one comparison of memory.

use bytes::{Bytes, BytesMut};

const BLOCK_BYTES: usize = 1 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Bodies {
    block: Bytes,
}

impl Bodies {
    pub(crate) fn new() -> Self {
        // xorshift64*: quality does not matter, only that nothing compresses or repeats within a block.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut block = BytesMut::with_capacity(BLOCK_BYTES * 2);
        while block.len() < BLOCK_BYTES {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            block.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        }
        // Twice, so that a whole block can be cut from any offset.
        block.extend_from_within_self();
        Self {
            block: block.freeze(),
        }
    }

    /// The pieces of body `number` of `size_bytes`: a stamp, then slices of the block (no copies).
    pub(crate) fn pieces(&self, number: u64, size_bytes: usize) -> Vec<Bytes> {
        let stamp = number.to_be_bytes();
        let mut pieces = vec![Bytes::copy_from_slice(
            &stamp[..size_bytes.min(stamp.len())],
        )];
        let mut left = size_bytes.saturating_sub(stamp.len());
        let step = usize::try_from(number % 65_536).unwrap_or(0) * 16;
        let mut offset = step % BLOCK_BYTES;
        while left > 0 {
            let take = left.min(BLOCK_BYTES);
            pieces.push(self.block.slice(offset..offset + take));
            left -= take;
            offset = (offset + 16) % BLOCK_BYTES;
        }
        pieces
    }
}

/// `extend_from_within` for the one place that needs it.
trait ExtendFromWithinSelf {
    fn extend_from_within_self(&mut self);
}

impl ExtendFromWithinSelf for BytesMut {
    fn extend_from_within_self(&mut self) {
        let copy = self.clone();
        self.extend_from_slice(&copy);
    }
}

/// Compares an arriving body with the pieces it must be made of.
#[derive(Debug)]
pub(crate) struct Checker {
    pieces: Vec<Bytes>,
    piece: usize,
    offset: usize,
    is_equal: bool,
}

impl Checker {
    pub(crate) fn new(pieces: Vec<Bytes>) -> Self {
        Self {
            pieces,
            piece: 0,
            offset: 0,
            is_equal: true,
        }
    }

    pub(crate) fn take(&mut self, mut data: &[u8]) {
        while !data.is_empty() && self.is_equal {
            let Some(piece) = self.pieces.get(self.piece) else {
                self.is_equal = false;
                return;
            };
            let rest = &piece[self.offset..];
            let count = rest.len().min(data.len());
            self.is_equal = rest[..count] == data[..count];
            data = &data[count..];
            self.offset += count;
            if self.offset == piece.len() {
                self.piece += 1;
                self.offset = 0;
            }
        }
    }

    /// True when exactly the expected bytes came.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_equal
            && self.pieces[self.piece.min(self.pieces.len())..]
                .iter()
                .all(Bytes::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(number: u64, size_bytes: usize) -> Vec<u8> {
        Bodies::new().pieces(number, size_bytes).concat()
    }

    #[test]
    fn bodies_have_their_size_and_differ() {
        for size_bytes in [0, 3, 8, 4096, BLOCK_BYTES + 9, 3 * BLOCK_BYTES] {
            assert_eq!(whole(7, size_bytes).len(), size_bytes);
        }
        assert_ne!(whole(1, 4096), whole(2, 4096));
    }

    #[test]
    fn checker_accepts_the_same_bytes_in_any_pieces() {
        let bodies = Bodies::new();
        let data = bodies.pieces(5, 3_000_000).concat();
        let mut checker = Checker::new(bodies.pieces(5, 3_000_000));
        for piece in data.chunks(70_001) {
            checker.take(piece);
        }
        assert!(checker.is_complete());
    }

    #[test]
    fn checker_sees_short_long_and_changed_bodies() {
        let bodies = Bodies::new();
        let data = bodies.pieces(5, 5000).concat();
        let check = |data: &[u8]| {
            let mut checker = Checker::new(bodies.pieces(5, 5000));
            checker.take(data);
            checker.is_complete()
        };
        let mut changed = data.clone();
        changed[4999] ^= 1;
        let mut long = data.clone();
        long.push(0);
        assert!(check(&data));
        assert!(!check(&data[..4999]));
        assert!(!check(&changed));
        assert!(!check(&long));
    }
}
