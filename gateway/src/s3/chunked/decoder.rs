//! The state machine: line, data, line end, and again, then the trailer.

use super::header_line::{ChunkHeader, LINE_BYTES_MAX, malformed};
use super::trailer::{TrailerSection, Trailers};
use crate::s3::checksum::ChecksumAlgorithm;
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::sigv4::ChunkSigner;
use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};

/// In what form the chunks come.
#[derive(Clone, Debug)]
pub enum ChunkFraming {
    /// Signed chunks, and nothing behind the last.
    Signed(ChunkSigner),
    /// Signed chunks and a signed trailer with this checksum.
    SignedWithTrailer(ChunkSigner, Option<ChecksumAlgorithm>),
    /// Plain chunks and a trailer with this checksum.
    UnsignedWithTrailer(Option<ChecksumAlgorithm>),
}

/// Takes one body apart.
pub struct ChunkedDecoder {
    signer: Option<ChunkSigner>,
    trailer: Option<TrailerSection>,
    state: State,
    decoded_length: u64,
    decoded: u64,
    chunks_seen: u64,
    /// A chunk below the minimum: it has to be the last with data. Its number and size.
    short_chunk: Option<(u64, u64)>,
    hasher: Sha256,
}

enum State {
    Line(Vec<u8>),
    Data {
        remaining: u64,
        signature: Option<[u8; 32]>,
    },
    DataCr {
        signature: Option<[u8; 32]>,
    },
    DataLf {
        signature: Option<[u8; 32]>,
    },
    LastCr,
    LastLf,
    Trailer,
    Done(Trailers),
    Refused(S3Error),
}

/// Chunks below this would cost a signature for little data; S3 allows one, the last.
const SIGNED_CHUNK_BYTES_MIN: u64 = 8192;

impl ChunkedDecoder {
    /// A decoder for a body that holds `decoded_length` bytes of data.
    #[must_use]
    pub fn new(framing: ChunkFraming, decoded_length: u64) -> Self {
        let (signer, trailer) = match framing {
            ChunkFraming::Signed(signer) => (Some(signer), None),
            ChunkFraming::SignedWithTrailer(signer, announced) => {
                (Some(signer), Some(TrailerSection::new(announced, true)))
            }
            ChunkFraming::UnsignedWithTrailer(announced) => {
                (None, Some(TrailerSection::new(announced, false)))
            }
        };
        Self {
            signer,
            trailer,
            state: State::Line(Vec::new()),
            decoded_length,
            decoded: 0,
            chunks_seen: 0,
            short_chunk: None,
            hasher: Sha256::new(),
        }
    }

    /// Takes in raw bytes and appends the data in them to `data`, without copying it.
    ///
    /// # Errors
    /// What S3 answers to a body that is not as announced; the same again on every later call.
    pub fn push(&mut self, mut input: Bytes, data: &mut Vec<Bytes>) -> Result<(), S3Error> {
        if let State::Refused(error) = &self.state {
            return Err(error.clone());
        }
        while !input.is_empty() {
            if let Err(error) = self.step(&mut input, data) {
                self.state = State::Refused(error.clone());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Ends the body.
    ///
    /// # Errors
    /// `IncompleteBody` if it has not come to its end, or an earlier refusal.
    pub fn finish(self) -> Result<Trailers, S3Error> {
        match self.state {
            State::Done(trailers) => Ok(trailers),
            State::Refused(error) => Err(error),
            _ => Err(malformed()),
        }
    }

    fn step(&mut self, input: &mut Bytes, data: &mut Vec<Bytes>) -> Result<(), S3Error> {
        if let State::Data {
            remaining,
            signature,
        } = &mut self.state
        {
            let take = usize::try_from(*remaining).map_or(input.len(), |r| r.min(input.len()));
            let piece = input.split_to(take);
            // Lossless: a piece's length fits in 64 bits.
            *remaining -= u64::try_from(take).unwrap_or(u64::MAX).min(*remaining);
            if *remaining == 0 {
                self.state = State::DataCr {
                    signature: *signature,
                };
            }
            if self.signer.is_some() {
                self.hasher.update(&piece);
            }
            data.push(piece);
            return Ok(());
        }
        let byte = input.get_u8();
        match &mut self.state {
            State::Line(line) if byte == b'\n' => {
                let line = std::mem::take(line);
                let line = line.strip_suffix(b"\r").ok_or_else(malformed)?;
                let header = ChunkHeader::parse(line, self.signer.is_some())?;
                self.begin_chunk(&header)?;
            }
            // One more for the CR.
            State::Line(line) if line.len() > LINE_BYTES_MAX => return Err(malformed()),
            State::Line(line) => line.push(byte),
            State::DataCr { signature } if byte == b'\r' => {
                self.state = State::DataLf {
                    signature: *signature,
                }
            }
            State::DataLf { signature } if byte == b'\n' => {
                let signature = *signature;
                self.check_chunk(signature)?;
                self.state = State::Line(Vec::new());
            }
            State::LastCr if byte == b'\r' => self.state = State::LastLf,
            State::LastLf if byte == b'\n' => self.state = State::Done(Trailers::default()),
            State::Trailer => self.push_trailer(byte)?,
            // Bytes behind the end are as wrong as bytes out of place.
            _ => return Err(malformed()),
        }
        Ok(())
    }

    fn begin_chunk(&mut self, header: &ChunkHeader) -> Result<(), S3Error> {
        let signature = header.signature;
        if header.size == 0 {
            if self.decoded != self.decoded_length {
                return Err(wrong_length());
            }
            // The last chunk is signed too, over no data.
            self.check_chunk(signature)?;
            self.state = if self.trailer.is_some() {
                State::Trailer
            } else {
                State::LastCr
            };
            return Ok(());
        }
        if let Some((chunk, size)) = self.short_chunk {
            return Err(S3Error::new(ErrorCode::InvalidChunkSizeError)
                .with_extra("Chunk", chunk.to_string())
                .with_extra("BadChunkSize", size.to_string()));
        }
        self.decoded = self
            .decoded
            .checked_add(header.size)
            .filter(|decoded| *decoded <= self.decoded_length)
            .ok_or_else(wrong_length)?;
        self.chunks_seen += 1;
        if self.signer.is_some() && header.size < SIGNED_CHUNK_BYTES_MIN {
            self.short_chunk = Some((self.chunks_seen, header.size));
        }
        self.state = State::Data {
            remaining: header.size,
            signature,
        };
        Ok(())
    }

    fn check_chunk(&mut self, signature: Option<[u8; 32]>) -> Result<(), S3Error> {
        let Some(signer) = &mut self.signer else {
            return Ok(());
        };
        let signature = signature.ok_or_else(malformed)?;
        signer.check_chunk(self.hasher.finalize_reset().into(), &signature)
    }

    fn push_trailer(&mut self, byte: u8) -> Result<(), S3Error> {
        let section = self.trailer.as_mut().ok_or_else(malformed)?;
        let Some(complete) = section.push(byte)? else {
            return Ok(());
        };
        if let (Some(signer), Some(signature)) = (&mut self.signer, &complete.signature) {
            signer.check_trailer(&complete.canonical, signature)?;
        }
        self.state = State::Done(complete.trailers);
        Ok(())
    }
}

/// The announced length is of the data, not of the body on the wire.
fn wrong_length() -> S3Error {
    S3Error::with_message(
        ErrorCode::IncompleteBody,
        "You did not provide the number of bytes specified by the x-amz-decoded-content-length HTTP header",
    )
}
