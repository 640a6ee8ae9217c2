//! Byte ranges: `Range` on GET and HEAD, and `x-amz-copy-source-range`.
//!
//! S3 serves one range; a header it cannot read, or one that names several ranges, gets the whole object, never more
//! bytes than it has. Only a readable range that lies wholly outside is an error. The copy range is read strictly: a
//! silent part or whole would corrupt the copy.

use super::error::{ErrorCode, S3Error};

/// A single range as the client wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpec {
    /// `a-b`, both inclusive, `a <= b`.
    Between(u64, u64),
    /// `a-`.
    From(u64),
    /// `-n`: the last n bytes.
    Last(u64),
}

/// What part of an object to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it, with status 200.
    Whole,
    /// These bytes, with status 206.
    Part(ByteRange),
}

/// A range that lies inside its object. Invariant: `first <= last < object size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    first: u64,
    last: u64,
}

impl ByteRange {
    /// The first byte's offset.
    #[must_use]
    pub const fn first(self) -> u64 {
        self.first
    }

    /// The last byte's offset.
    #[must_use]
    pub const fn last(self) -> u64 {
        self.last
    }

    /// How many bytes.
    #[must_use]
    pub const fn len(self) -> u64 {
        self.last - self.first + 1
    }

    /// Never: a range holds at least one byte.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// The value of `Content-Range`.
    #[must_use]
    pub fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.first, self.last)
    }
}

impl RangeSpec {
    /// Reads a `Range` header; `None` where S3 ignores it.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.trim();
        let (unit, set) = text.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = set.trim().split_once('-')?;
        let (first, last) = (first.trim(), last.trim());
        match (first.is_empty(), last.is_empty()) {
            (true, true) => None,
            (true, false) => Some(Self::Last(decimal(last)?)),
            (false, true) => Some(Self::From(decimal(first)?)),
            (false, false) => {
                let (first, last) = (decimal(first)?, decimal(last)?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    /// The bytes of an object of `size` that are meant; `None` if there are none.
    #[must_use]
    pub fn within(self, size: u64) -> Option<ByteRange> {
        let end = size.checked_sub(1)?;
        match self {
            Self::Between(first, last) if first <= end => Some(ByteRange {
                first,
                last: last.min(end),
            }),
            Self::From(first) if first <= end => Some(ByteRange { first, last: end }),
            Self::Last(count) if count > 0 => Some(ByteRange {
                first: size.saturating_sub(count),
                last: end,
            }),
            _ => None,
        }
    }
}

/// Judges a `Range` header against an object's size.
///
/// # Errors
/// `InvalidRange` (416) for a readable range without a byte inside the object.
pub fn resolve_range(header: Option<&[u8]>, size: u64) -> Result<Extent, S3Error> {
    let Some((value, spec)) = header.and_then(|v| Some((v, RangeSpec::parse(v)?))) else {
        return Ok(Extent::Whole);
    };
    match spec.within(size) {
        Some(range) => Ok(Extent::Part(range)),
        None => Err(S3Error::new(ErrorCode::InvalidRange)
            .with_extra(
                "RangeRequested",
                String::from_utf8_lossy(value).into_owned(),
            )
            .with_extra("ActualObjectSize", size.to_string())),
    }
}

/// A copy range as the client wrote it; its end is checked once the source's size is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyRange {
    first: u64,
    last: u64,
}

const COPY_RANGE_HEADER: &str = "x-amz-copy-source-range";

impl CopyRange {
    /// Reads `x-amz-copy-source-range`, which has the one form `bytes=first-last`
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html>).
    ///
    /// # Errors
    /// `InvalidArgument` for every other form.
    pub fn parse(value: &[u8]) -> Result<Self, S3Error> {
        let parsed = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.strip_prefix("bytes="))
            .and_then(|set| set.split_once('-'))
            .and_then(|(first, last)| Some((decimal(first)?, decimal(last)?)));
        match parsed {
            Some((first, last)) if first <= last => Ok(Self { first, last }),
            _ => Err(S3Error::invalid_argument(
                "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
                 zero-based offsets of the first and last bytes to copy",
                COPY_RANGE_HEADER,
                String::from_utf8_lossy(value).into_owned(),
            )),
        }
    }

    /// The range inside a source of `size`.
    ///
    /// # Errors
    /// `InvalidRange` if it reaches beyond the source; S3 has answered `InvalidArgument`, too.
    pub fn within(self, size: u64) -> Result<ByteRange, S3Error> {
        if self.last < size {
            return Ok(ByteRange {
                first: self.first,
                last: self.last,
            });
        }
        Err(S3Error::with_message(
            ErrorCode::InvalidRange,
            format!("Range specified is not valid for source object of size: {size}"),
        )
        .with_extra(
            "RangeRequested",
            format!("bytes={}-{}", self.first, self.last),
        )
        .with_extra("ActualObjectSize", size.to_string()))
    }
}

/// A plain decimal number: no sign, no blanks, no overflow.
fn decimal(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(header: &str, size: u64, expected: Option<(u64, u64)>) {
        let extent = resolve_range(Some(header.as_bytes()), size).unwrap();
        let expected = expected.map_or(Extent::Whole, |(first, last)| {
            Extent::Part(ByteRange { first, last })
        });
        assert_eq!(extent, expected, "{header}");
    }

    #[test]
    fn the_three_forms_are_served() {
        check("bytes=0-4", 10, Some((0, 4)));
        check("bytes=3-", 10, Some((3, 9)));
        check("bytes=-4", 10, Some((6, 9)));
        check("bytes=5-500", 10, Some((5, 9)));
        check("bytes=-500", 10, Some((0, 9)));
    }

    #[test]
    fn row_115_unreadable_ranges_get_the_whole_object() {
        for header in [
            "bytes=5-2",
            "items=0-4",
            "garbage",
            "",
            "bytes=",
            "bytes=-",
            "bytes=1-2-3",
            "bytes=---",
            "bytes=+1-2",
            "bytes=99999999999999999999-",
            "bytes=0-99999999999999999999",
            "bytes=0x0-5",
        ] {
            check(header, 10, None);
        }
        assert_eq!(
            resolve_range(Some(b"bytes=\xff"), 10).unwrap(),
            Extent::Whole
        );
    }

    #[test]
    fn row_116_several_ranges_get_the_whole_object_once() {
        check("bytes=0-1,3-4", 10, None);
        check(&format!("bytes={}", vec!["0-"; 400].join(",")), 10, None);
        check(&format!("bytes={}", vec!["-5"; 400].join(",")), 10, None);
    }

    #[test]
    fn a_range_outside_names_itself_and_the_size() {
        for (header, size) in [
            ("bytes=10-", 10),
            ("bytes=10-20", 10),
            ("bytes=-0", 10),
            ("bytes=0-", 0),
            ("bytes=-5", 0),
        ] {
            let error = resolve_range(Some(header.as_bytes()), size).unwrap_err();
            assert_eq!((error.code, error.status()), (ErrorCode::InvalidRange, 416));
            assert_eq!(
                error.extra,
                [
                    ("RangeRequested", header.to_owned()),
                    ("ActualObjectSize", size.to_string())
                ]
            );
        }
    }

    #[test]
    fn row_125_a_copy_range_is_read_strictly() {
        let range = CopyRange::parse(b"bytes=0-9").unwrap();
        assert_eq!(range.within(10).unwrap().len(), 10);
        assert_eq!(range.within(9).unwrap_err().code, ErrorCode::InvalidRange);
        for bad in [
            "0-9",
            "bytes=0-",
            "bytes=-9",
            "bytes=9-0",
            "bytes=0-1,2-3",
            "bytes=0-9 ",
            "Bytes=0-9",
            "",
            "bytes=0-99999999999999999999",
        ] {
            assert_eq!(
                CopyRange::parse(bad.as_bytes()).unwrap_err().code,
                ErrorCode::InvalidArgument,
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_part_never_leaves_its_object(header in "bytes=[0-9]{0,20}-[0-9]{0,20}", size in any::<u64>()) {
            if let Ok(Extent::Part(range)) = resolve_range(Some(header.as_bytes()), size) {
                prop_assert!(range.first() <= range.last() && range.last() < size);
                prop_assert!(range.len() <= size);
            }
        }

        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..100), size in any::<u64>()) {
            let _ = resolve_range(Some(&bytes), size);
            let _ = CopyRange::parse(&bytes).and_then(|r| r.within(size));
        }
    }
}
