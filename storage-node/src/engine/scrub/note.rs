//! A small file beside the segments, for whoever scrubs to keep its place in.
//!
//! ```text
//! scrub := magic "RFSCRUB1" 8, length 4, crc32c of the bytes 4, the bytes
//! ```
//!
//! Nothing depends on it: a torn or rotten one is none.

use crate::engine::Engine;
use crate::engine::recovery::io_failure;
use crate::engine::types::EngineError;
use std::io::{self, IoSlice};

const NOTE_NAME: &str = "scrub";
const MAGIC: [u8; 8] = *b"RFSCRUB1";
const HEAD_LEN: usize = MAGIC.len() + 4 + 4;
/// A longer one is a damaged one.
const LEN_MAX: usize = 1 << 20;

impl Engine {
    /// What was written last, if it reads back. Blocks.
    #[must_use]
    pub fn read_note(&self) -> Option<Vec<u8>> {
        let file = self.inner.store.disk.open(NOTE_NAME).ok()?;
        let mut head = [0; HEAD_LEN];
        file.read_exact_at(0, &mut head).ok()?;
        let (magic, rest) = head.split_first_chunk::<8>()?;
        let (len, crc) = rest.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        if *magic != MAGIC || len > LEN_MAX {
            return None;
        }
        let mut bytes = vec![0; len];
        file.read_exact_at(HEAD_LEN as u64, &mut bytes).ok()?;
        (crc == crc32c::crc32c(&bytes).to_le_bytes()).then_some(bytes)
    }

    /// Writes it anew.
    ///
    /// # Errors
    /// `WritesClosed`, `Io`.
    pub async fn write_note(&self, bytes: Vec<u8>) -> Result<(), EngineError> {
        self.blocking(move |inner| {
            inner.store.gate.check()?;
            let disk = &inner.store.disk;
            let write = || -> io::Result<()> {
                let file = match disk.open(NOTE_NAME) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        disk.create(NOTE_NAME, 0)?
                    }
                    opened => opened?,
                };
                let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
                let mut head = MAGIC.to_vec();
                head.extend_from_slice(&len.to_le_bytes());
                head.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
                file.write_all_at(0, &[IoSlice::new(&head), IoSlice::new(&bytes)])?;
                file.sync()
            };
            write().map_err(io_failure("write down how far a scrub is"))
        })
        .await
    }
}
