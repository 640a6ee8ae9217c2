//! The trailer: lines behind the last chunk, of which S3 knows a checksum and the signature over it.

use crate::s3::checksum::{ChecksumAlgorithm, ChecksumValue};
use crate::s3::error::{ErrorCode, S3Error};

/// What the trailer brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trailers {
    /// The checksum that `x-amz-trailer` announced, and no other.
    pub checksum: Option<ChecksumValue>,
}

/// The whole section, line ends included, may have this many bytes.
const SECTION_BYTES_MAX: usize = 8 * 1024;

const SIGNATURE_NAME: &str = "x-amz-trailer-signature";

/// Takes in a trailer section byte by byte.
pub(super) struct TrailerSection {
    announced: Option<ChecksumAlgorithm>,
    is_signed: bool,
    line: Vec<u8>,
    bytes_seen: usize,
    checksum: Option<ChecksumValue>,
    /// The lines as they were signed.
    canonical: Vec<u8>,
    signature: Option<[u8; 32]>,
    has_blank: bool,
}

/// A complete section.
pub(super) struct Complete {
    pub(super) trailers: Trailers,
    pub(super) canonical: Vec<u8>,
    pub(super) signature: Option<[u8; 32]>,
}

impl TrailerSection {
    pub(super) fn new(announced: Option<ChecksumAlgorithm>, is_signed: bool) -> Self {
        Self {
            announced,
            is_signed,
            line: Vec::new(),
            bytes_seen: 0,
            checksum: None,
            canonical: Vec::new(),
            signature: None,
            has_blank: false,
        }
    }

    /// Takes in one byte; gives the section back once it is complete.
    ///
    /// Some clients end a trailer line with a bare LF and set the signature off with an empty line; S3 takes both, and
    /// neither can change what is read.
    pub(super) fn push(&mut self, byte: u8) -> Result<Option<Complete>, S3Error> {
        self.bytes_seen += 1;
        if self.bytes_seen > SECTION_BYTES_MAX {
            return Err(malformed());
        }
        if byte != b'\n' {
            self.line.push(byte);
            return Ok(None);
        }
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if !line.is_empty() {
            self.take_line(line)?;
            return Ok(None);
        }
        let awaits_signature = self.is_signed && self.signature.is_none();
        if awaits_signature && !self.has_blank && self.checksum.is_some() {
            self.has_blank = true;
            return Ok(None);
        }
        self.complete().map(Some)
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), S3Error> {
        let text = std::str::from_utf8(line).map_err(|_| malformed())?;
        let (name, value) = text.split_once(':').ok_or_else(malformed)?;
        let (name, value) = (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']));
        if self.signature.is_some() {
            return Err(malformed());
        }
        if self.is_signed && name == SIGNATURE_NAME {
            let mut signature = [0; 32];
            hex::decode_to_slice(value, &mut signature)
                .map_err(|_| S3Error::new(ErrorCode::SignatureDoesNotMatch))?;
            self.signature = Some(signature);
            return Ok(());
        }
        let algorithm = ChecksumAlgorithm::from_header_name(&name)
            .filter(|algorithm| {
                self.announced == Some(*algorithm) && self.checksum.is_none() && !self.has_blank
            })
            .ok_or_else(malformed)?;
        let checksum = ChecksumValue::parse(algorithm, value).ok_or_else(|| {
            S3Error::with_message(
                ErrorCode::InvalidRequest,
                format!("Value for {name} trailing header is invalid."),
            )
        })?;
        self.checksum = Some(checksum);
        self.canonical
            .extend_from_slice(format!("{name}:{value}\n").as_bytes());
        Ok(())
    }

    fn complete(&mut self) -> Result<Complete, S3Error> {
        if self.announced.is_some() && self.checksum.is_none() {
            return Err(malformed());
        }
        if self.is_signed && self.announced.is_some() && self.signature.is_none() {
            return Err(S3Error::new(ErrorCode::SignatureDoesNotMatch));
        }
        Ok(Complete {
            trailers: Trailers {
                checksum: self.checksum.take(),
            },
            canonical: std::mem::take(&mut self.canonical),
            signature: self.signature,
        })
    }
}

fn malformed() -> S3Error {
    S3Error::new(ErrorCode::MalformedTrailerError)
}
