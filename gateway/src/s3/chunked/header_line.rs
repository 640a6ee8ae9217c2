//! The line in front of a chunk: its size in hex, and in signed bodies its signature.

use crate::s3::error::{ErrorCode, S3Error};

/// A chunk's line, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ChunkHeader {
    pub(super) size: u64,
    pub(super) signature: Option<[u8; 32]>,
}

const SIGNATURE_FIELD: &[u8] = b";chunk-signature=";
const SIZE_DIGITS_MAX: usize = 16;

/// The longest line there is, without its end.
pub(super) const LINE_BYTES_MAX: usize = SIZE_DIGITS_MAX + SIGNATURE_FIELD.len() + 64;

impl ChunkHeader {
    /// Reads a line without its CRLF. The form is exact: no sign, no blank, no other extension.
    pub(super) fn parse(line: &[u8], is_signed: bool) -> Result<Self, S3Error> {
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let (size, extension) = line.split_at(digits);
        if size.is_empty() || size.len() > SIZE_DIGITS_MAX {
            return Err(malformed());
        }
        // Sixteen hex digits are 64 bits: no overflow.
        let size = size.iter().fold(0, |size: u64, digit| {
            (size << 4) | u64::from(hex_value(*digit))
        });
        let signature = if is_signed {
            let mut signature = [0; 32];
            let digits = extension
                .strip_prefix(SIGNATURE_FIELD)
                .ok_or_else(malformed)?;
            hex::decode_to_slice(digits, &mut signature).map_err(|_| malformed())?;
            Some(signature)
        } else if extension.is_empty() {
            None
        } else {
            return Err(malformed());
        };
        Ok(Self { size, signature })
    }
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

/// The refusal of everything that is no chunk.
pub(super) fn malformed() -> S3Error {
    S3Error::with_message(
        ErrorCode::IncompleteBody,
        "The request body is not well-formed aws-chunked, or it ended too early",
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_to_sixteen_hex_digits() {
        for (line, size) in [
            ("0", 0),
            ("aF", 0xaf),
            ("FFFFFFFFFFFFFFFF", u64::MAX),
            ("0000000000000001", 1),
        ] {
            assert_eq!(
                ChunkHeader::parse(line.as_bytes(), false).unwrap().size,
                size
            );
        }
    }

    #[test]
    fn row_45_other_sizes_are_refused() {
        for line in [
            "",
            "00000000000000001",
            "-5",
            "+5",
            "0x5",
            " 5",
            "5 ",
            "g",
            "5\0",
            "\x005",
            "5;a=b",
            "5;chunk-signature=",
        ] {
            let error = ChunkHeader::parse(line.as_bytes(), false).unwrap_err();
            assert_eq!(error.code, ErrorCode::IncompleteBody, "{line:?}");
        }
    }

    #[test]
    fn row_44_a_signed_chunk_carries_its_signature() {
        let signature = "ab".repeat(32);
        let line = format!("5;chunk-signature={signature}");
        assert_eq!(
            ChunkHeader::parse(line.as_bytes(), true).unwrap().signature,
            Some([0xab; 32])
        );
        for line in [
            "5".to_owned(),
            "5;chunk-signature=".to_owned(),
            format!("5;chunk-signature={}", &signature[1..]),
            format!("{line};a=b"),
            format!("5;Chunk-Signature={signature}"),
        ] {
            assert_eq!(
                ChunkHeader::parse(line.as_bytes(), true).unwrap_err().code,
                ErrorCode::IncompleteBody
            );
        }
    }
}
