//! The body of CompleteMultipartUpload
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>).
//!
//! The list is checked for form and order; whether the parts exist is judged by who holds them.

use super::COMPLETE_BYTES_MAX;
use super::read::{Step, malformed, set_once, walk};
use crate::s3::error::{ErrorCode, S3Error};

/// Parts of one upload.
pub const PARTS_MAX: usize = 10_000;
/// An ETag of a part is 32 hexadecimal digits; a longer text names no part.
const ETAG_BYTES_MAX: usize = 128;
/// The longest checksum, SHA-256 in base64, has 44 bytes, and a composite one its count behind a dash.
const CHECKSUM_BYTES_MAX: usize = 64;
const CHECKSUMS: [&str; 5] = [
    "ChecksumCRC32",
    "ChecksumCRC32C",
    "ChecksumCRC64NVME",
    "ChecksumSHA1",
    "ChecksumSHA256",
];

/// One part as the client lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletePart {
    /// 1 to 10,000; the list is strictly ascending.
    pub number: u16,
    /// The ETag without its quotes.
    pub etag: String,
    /// Checksums given with the part: element name (`ChecksumCRC32`, …) and base64 text, each name once.
    pub checksums: Vec<(&'static str, String)>,
}

#[derive(Default)]
struct Draft {
    number: Option<u16>,
    etag: Option<String>,
    checksums: Vec<(&'static str, String)>,
}

/// Reads the body: 1 to 10,000 parts in ascending order.
pub fn read_complete(body: &[u8]) -> Result<Vec<CompletePart>, S3Error> {
    let mut parts: Vec<CompletePart> = Vec::new();
    let mut draft = Draft::default();
    walk(
        body,
        COMPLETE_BYTES_MAX,
        "CompleteMultipartUpload",
        |step| match step {
            Step::Open(["Part"]) if parts.len() == PARTS_MAX => Err(malformed()),
            Step::Open(_) => Ok(()),
            Step::Close(["Part", "PartNumber"], text) => {
                set_once(&mut draft.number, part_number(text.trim())?)
            }
            Step::Close(["Part", "ETag"], text) => set_once(&mut draft.etag, text),
            Step::Close(["Part", name], text) => {
                let name = CHECKSUMS
                    .iter()
                    .find(|known| *known == name)
                    .ok_or_else(malformed)?;
                let is_new = draft.checksums.iter().all(|(known, _)| known != name);
                if !is_new || text.len() > CHECKSUM_BYTES_MAX {
                    return Err(malformed());
                }
                draft.checksums.push((name, text.trim().to_owned()));
                Ok(())
            }
            Step::Close(["Part"], _) => {
                let draft = std::mem::take(&mut draft);
                let number = draft.number.ok_or_else(malformed)?;
                let etag = etag(&draft.etag.ok_or_else(malformed)?, number)?;
                if parts.last().is_some_and(|last| last.number >= number) {
                    return Err(ErrorCode::InvalidPartOrder.into());
                }
                parts.push(CompletePart {
                    number,
                    etag,
                    checksums: draft.checksums,
                });
                Ok(())
            }
            Step::Close(..) => Err(malformed()),
        },
    )?;
    if parts.is_empty() {
        return Err(malformed());
    }
    Ok(parts)
}

fn part_number(text: &str) -> Result<u16, S3Error> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(number @ 1..=10_000) if is_number => Ok(number),
        _ => Err(malformed()),
    }
}

fn etag(text: &str, number: u16) -> Result<String, S3Error> {
    let text = text.trim();
    let bare = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(text);
    let is_plain =
        (1..=ETAG_BYTES_MAX).contains(&bare.len()) && bare.bytes().all(|b| b.is_ascii_graphic());
    if !is_plain {
        return Err(
            S3Error::new(ErrorCode::InvalidPart).with_extra("PartNumber", number.to_string())
        );
    }
    Ok(bare.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    fn code(parts: &str) -> ErrorCode {
        let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        read_complete(body.as_bytes()).unwrap_err().code
    }

    fn part(number: &str, etag: &str) -> String {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
    }

    #[test]
    fn a_list_is_read_with_its_checksums() {
        let body = "<CompleteMultipartUpload xmlns=\"u\"><Part><ETag>&quot;e1&quot;</ETag>\
            <ChecksumCRC32>AAAAAA==</ChecksumCRC32><PartNumber>1</PartNumber></Part>\
            <Part><PartNumber>10000</PartNumber><ETag>e2</ETag></Part></CompleteMultipartUpload>";
        let parts = read_complete(body.as_bytes()).unwrap();
        assert_eq!(
            parts[0].checksums,
            [("ChecksumCRC32", "AAAAAA==".to_owned())]
        );
        assert_eq!((parts[0].number, parts[0].etag.as_str()), (1, "e1"));
        assert_eq!((parts[1].number, parts[1].etag.as_str()), (10_000, "e2"));
    }

    #[test]
    fn row_128_an_odd_document_is_refused() {
        for body in [
            "",
            "garbage",
            "<Other/>",
            "<CompleteMultipartUpload/>",
            "<CompleteMultipartUpload></CompleteMultipartUpload>",
        ] {
            assert_eq!(
                read_complete(body.as_bytes()).unwrap_err().code,
                ErrorCode::MalformedXML,
                "{body}"
            );
        }
        for number in [
            "0",
            "-1",
            "+1",
            "10001",
            "99999999999999999999",
            "",
            "x",
            "1.0",
            "0x1",
        ] {
            assert_eq!(
                code(&part(number, "e")),
                ErrorCode::MalformedXML,
                "{number}"
            );
        }
        assert_eq!(code("<Part><ETag>e</ETag></Part>"), ErrorCode::MalformedXML);
        assert_eq!(
            code("<Part><PartNumber>1</PartNumber></Part>"),
            ErrorCode::MalformedXML
        );
        assert_eq!(
            code("<Part><PartNumber>1</PartNumber><PartNumber>2</PartNumber><ETag>e</ETag></Part>"),
            ErrorCode::MalformedXML
        );
        assert_eq!(
            code("<Part><PartNumber>1</PartNumber><ETag>e</ETag><Other/></Part>"),
            ErrorCode::MalformedXML
        );
    }

    #[test]
    fn row_129_an_odd_etag_names_no_part() {
        for etag in [
            "",
            "&quot;&quot;",
            &"e".repeat(100 * 1024),
            "&lt;b&gt;&#13;&#10;x",
            "a b",
            "\u{e9}",
        ] {
            assert_eq!(code(&part("1", etag)), ErrorCode::InvalidPart);
        }
    }

    #[test]
    fn parts_come_in_ascending_order() {
        assert_eq!(
            code(&(part("2", "e") + &part("1", "e"))),
            ErrorCode::InvalidPartOrder
        );
        assert_eq!(
            code(&(part("1", "e") + &part("1", "e"))),
            ErrorCode::InvalidPartOrder
        );
    }

    #[test]
    fn row_132_10000_parts_with_checksums_are_read_and_one_more_is_not() {
        let sum = "<ChecksumSHA256>AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=</ChecksumSHA256>";
        let list: String = (1..=10_000)
            .map(|n| {
                format!(
                    "<Part><PartNumber>{n}</PartNumber><ETag>\"{}\"</ETag>{sum}</Part>",
                    "0".repeat(32)
                )
            })
            .collect();
        let body = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        assert!(body.len() > 1 << 20);
        assert_eq!(read_complete(body.as_bytes()).unwrap().len(), 10_000);
        assert_eq!(code(&(list + &part("10001", "e"))), ErrorCode::MalformedXML);
    }
}
