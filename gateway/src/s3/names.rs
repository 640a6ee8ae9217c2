//! The names a request brings: buckets, keys, version ids, and the percent-encoding they travel in.
//!
//! Promises: a name is decoded exactly once and never normalised, so that `a`, `a/`, `a//b`, `/a`, `./a` and `//` are
//! all different keys; keys from every source (path, copy source, XML) pass [`object_key`]. Leaves out whether the
//! named thing exists.

use super::error::{ErrorCode, S3Error};
use ringfort_wire::id::ObjectKey;
use std::fmt;

/// A bucket's name by S3's rules
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>).
///
/// - 3 to 63 bytes of `a-z`, `0-9`, `.` and `-`, the first and last a letter or digit;
/// - no two adjacent periods, not formed as an IPv4 address;
/// - none of the prefixes and suffixes that S3 keeps for itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketName(String);

const RESERVED_PREFIXES: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
const RESERVED_SUFFIXES: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

impl BucketName {
    /// The name, or `InvalidBucketName`.
    pub fn parse(text: &str) -> Result<Self, S3Error> {
        if is_bucket_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(S3Error::new(ErrorCode::InvalidBucketName).with_extra("BucketName", text))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

fn is_bucket_name(text: &str) -> bool {
    let is_alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| is_alphanumeric(b) || matches!(b, b'.' | b'-'))
        && bytes.first().is_some_and(is_alphanumeric)
        && bytes.last().is_some_and(is_alphanumeric)
        && !text.contains("..")
        && !is_like_ipv4(text)
        && !RESERVED_PREFIXES
            .iter()
            .any(|prefix| text.starts_with(prefix))
        && !RESERVED_SUFFIXES
            .iter()
            .any(|suffix| text.ends_with(suffix))
}

/// Four groups of one to three digits: the form alone counts, `999.999.999.999` is refused as well.
fn is_like_ipv4(text: &str) -> bool {
    let mut groups = 0;
    for group in text.split('.') {
        groups += 1;
        if !(1..=3).contains(&group.len()) || !group.bytes().all(|b| b.is_ascii_digit()) {
            return false;
        }
    }
    groups == 4
}

/// A `%` that two hexadecimal digits do not follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPercent;

/// Decodes percent-encoding once. `+` stays a plus.
pub fn percent_decode(raw: &str) -> Result<Vec<u8>, BadPercent> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            decoded.push(byte);
            rest = after;
            continue;
        }
        let [high, low, after @ ..] = after else {
            return Err(BadPercent);
        };
        let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low)) else {
            return Err(BadPercent);
        };
        decoded.push(high << 4 | low);
        rest = after;
    }
    Ok(decoded)
}

const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Decodes a piece of the request target to text; `InvalidURI` on a bad percent or bytes that are not UTF-8.
pub fn decode_text(raw: &str) -> Result<String, S3Error> {
    percent_decode(raw)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| S3Error::new(ErrorCode::InvalidURI).with_extra("URI", raw))
}

/// The bucket in a raw path segment or host label.
pub fn decode_bucket(raw: &str) -> Result<BucketName, S3Error> {
    BucketName::parse(&decode_text(raw)?)
}

/// The key in the raw rest of a path, the bucket and its slash taken off.
pub fn decode_key(raw: &str) -> Result<ObjectKey, S3Error> {
    object_key(decode_text(raw)?)
}

/// A decoded text as a key.
///
/// A NUL is refused: an XML document cannot name such a key, so it could be written and never be deleted in bulk.
pub fn object_key(text: String) -> Result<ObjectKey, S3Error> {
    if text.contains('\0') {
        return Err(S3Error::new(ErrorCode::InvalidURI));
    }
    let size_bytes = text.len();
    ObjectKey::parse(text).ok_or_else(|| {
        if size_bytes == 0 {
            S3Error::with_message(ErrorCode::InvalidRequest, "A key must be specified")
        } else {
            S3Error::new(ErrorCode::KeyTooLongError)
                .with_extra("Size", size_bytes.to_string())
                .with_extra("MaxSizeAllowed", ObjectKey::MAX_BYTES.to_string())
        }
    })
}

/// What a `versionId` asks for, in a store whose buckets are not versioned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionId {
    /// `null`: the only version there is.
    Null,
    /// Formed as S3's ids are (32 letters, digits, `.`, `_` or `-`), so it names a version that does not exist.
    Unknown(String),
}

impl VersionId {
    /// S3 answers 400 to an id that is not formed as its ids are, and 404 to a well-formed one that it has not made.
    pub fn parse(text: &str) -> Result<Self, S3Error> {
        let refuse = |message: &'static str| S3Error::invalid_argument(message, "versionId", text);
        match text {
            "null" => Ok(Self::Null),
            "" => Err(refuse("Version id cannot be the empty string")),
            _ if text.len() == 32
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) =>
            {
                Ok(Self::Unknown(text.to_owned()))
            }
            _ => Err(refuse("Invalid version id specified")),
        }
    }

    /// The id as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Null => "null",
            Self::Unknown(id) => id,
        }
    }

    /// `NoSuchVersion` for every id but `null`. A DELETE of an unknown version is a 204 without effect instead.
    pub fn require_exists(&self, key: &ObjectKey) -> Result<(), S3Error> {
        match self {
            Self::Null => Ok(()),
            Self::Unknown(id) => Err(S3Error::new(ErrorCode::NoSuchVersion)
                .with_extra("Key", key.as_str())
                .with_extra("VersionId", id.as_str())),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    fn key(raw: &str) -> Result<String, ErrorCode> {
        decode_key(raw)
            .map(|k| k.as_str().to_owned())
            .map_err(|e| e.code)
    }

    #[test]
    fn row_72_bad_bucket_names_are_refused() {
        let long = "a".repeat(64);
        for name in [
            "",
            "ab",
            &long,
            "Bucket",
            "a_b",
            "-ab",
            "ab-",
            ".ab",
            "ab.",
            "192.168.5.4",
            "999.1.1.1",
            "..",
            "...",
            "a\0b",
            "a\nb",
            "a b",
            "a/b",
            "bücket",
            "b\u{202e}ucket",
        ] {
            assert_eq!(
                BucketName::parse(name).unwrap_err().code,
                ErrorCode::InvalidBucketName,
                "{name:?}"
            );
        }
        for raw in ["%2e%2e", "%2E%2E%2E", "a%00b", "a%0Ab", "a%20b", "a%2Fb"] {
            assert_eq!(
                decode_bucket(raw).unwrap_err().code,
                ErrorCode::InvalidBucketName,
                "{raw}"
            );
        }
    }

    #[test]
    fn row_73_reserved_bucket_names_are_refused() {
        for name in [
            "a..b",
            "xn--abc",
            "sthree-abc",
            "sthree-configurator",
            "abc-s3alias",
            "abc--ol-s3",
            "abc.mrap",
            "abc--x-s3",
            "abc--table-s3",
            "amzn-s3-demo-x",
        ] {
            assert_eq!(
                BucketName::parse(name).unwrap_err().code,
                ErrorCode::InvalidBucketName,
                "{name}"
            );
        }
    }

    #[test]
    fn good_bucket_names_are_taken() {
        let long = "a".repeat(63);
        for name in [
            "abc",
            &long,
            "0abc",
            "a.b",
            "a-b",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.a",
            "a--b",
            "a.-b",
            "1234.1.1.1",
        ] {
            assert_eq!(BucketName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn row_77_a_key_is_counted_after_decoding() {
        assert_eq!(key(&"a".repeat(1025)), Err(ErrorCode::KeyTooLongError));
        assert_eq!(key(&"a".repeat(10_000)), Err(ErrorCode::KeyTooLongError));
        assert_eq!(
            key(&"%E2%82%AC".repeat(342)),
            Err(ErrorCode::KeyTooLongError)
        );
        assert_eq!(key(&"%61".repeat(1024)), Ok("a".repeat(1024)));
        assert_eq!(key(&"x".repeat(300)), Ok("x".repeat(300)));
    }

    #[test]
    fn row_80_no_path_is_normalised() {
        for name in [
            "a", "a/", "a//b", "a/b", "/a", "./a", "a/./b", "//", "../a", "a/..", "/", ".", "..",
        ] {
            assert_eq!(key(name), Ok(name.to_owned()));
        }
    }

    #[test]
    fn row_81_a_nul_never_cuts_a_key() {
        assert_eq!(key("a%00b"), Err(ErrorCode::InvalidURI));
    }

    #[test]
    fn row_83_bytes_that_are_not_utf8_are_refused() {
        for raw in [
            "%ff",
            "%C0%AF",
            "%ED%A0%80",
            "%F8%88%80%80%80",
            "a%80",
            "%E2%82",
        ] {
            assert_eq!(key(raw), Err(ErrorCode::InvalidURI), "{raw}");
        }
    }

    #[test]
    fn row_84_unicode_is_kept_byte_by_byte() {
        for text in [
            "\u{e9}",
            "e\u{301}",
            "\u{1f600}",
            "\u{202e}x",
            "\u{ff21}",
            "\u{fffe}",
        ] {
            let raw: String = text.bytes().map(|b| format!("%{b:02X}")).collect();
            assert_eq!(key(&raw), Ok(text.to_owned()));
        }
        assert!("\u{ff21}" < "\u{1f600}", "byte order, not UTF-16 order");
    }

    #[test]
    fn row_85_a_plus_in_a_path_is_a_plus() {
        assert_eq!(key("a+b"), Ok("a+b".into()));
        assert_eq!(key("a%2Bb"), Ok("a+b".into()));
        assert_eq!(key("a%20b"), Ok("a b".into()));
    }

    #[test]
    fn row_87_a_key_is_decoded_exactly_once() {
        assert_eq!(key("a%252e%252e"), Ok("a%2e%2e".into()));
        assert_eq!(key("%25%32%35"), Ok("%25".into()));
    }

    #[test]
    fn row_88_a_bad_percent_is_refused() {
        for raw in ["a%ZZ", "%", "a%", "a%4", "%%41", "%-1", "% 1", "%+1"] {
            assert_eq!(key(raw), Err(ErrorCode::InvalidURI), "{raw}");
        }
    }

    #[test]
    fn only_null_names_a_version() {
        assert_eq!(VersionId::parse("null").unwrap(), VersionId::Null);
        for text in [
            "",
            "zz",
            "Null",
            "0",
            "../x",
            &"v".repeat(33),
            &"<".repeat(32),
        ] {
            assert_eq!(
                VersionId::parse(text).unwrap_err().code,
                ErrorCode::InvalidArgument,
                "{text}"
            );
        }
        let unknown = VersionId::parse("v5n1PPUjOCMHLyyfq0ayjoZ5RZLfVQKA").unwrap();
        let key = ObjectKey::parse("k").unwrap();
        assert_eq!(
            unknown.require_exists(&key).unwrap_err().code,
            ErrorCode::NoSuchVersion
        );
        assert!(VersionId::Null.require_exists(&key).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn every_key_survives_its_encoding(text in "[^\0]{1,80}") {
            let raw: String = text.bytes().map(|b| format!("%{b:02x}")).collect();
            proptest::prop_assert_eq!(key(&raw), Ok(text));
        }

        #[test]
        fn no_path_panics(raw in ".*") {
            let _ = decode_key(&raw);
            let _ = decode_bucket(&raw);
        }
    }
}
