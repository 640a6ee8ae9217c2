//! Entity tags: how S3 makes them, quotes them, and reads them back in conditions.
//!
//! A tag is the MD5 of the body in hex, or for a multipart object the MD5 of the parts' MD5s with `-N` behind it
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html>). Stored and compared without quotes.
//! Leaves out what a matching tag means: that is `condition`'s.

use md5::{Digest, Md5};
use std::fmt;

/// An entity tag without its quotes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ETag(String);

impl ETag {
    /// The tag of a body stored in one piece.
    #[must_use]
    pub fn from_md5(md5: [u8; 16]) -> Self {
        Self(hex::encode(md5))
    }

    /// The tag of an object put together from parts with these MD5s, in order.
    #[must_use]
    pub fn multipart(part_md5s: &[[u8; 16]]) -> Self {
        let digest = Md5::digest(part_md5s.as_flattened());
        Self(format!("{}-{}", hex::encode(digest), part_md5s.len()))
    }

    /// A tag as it was stored, or as a client wrote it in a document: quotes around it are dropped.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(unquote(text.trim()).to_owned())
    }

    /// The tag without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag in quotes, as headers and XML carry it.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }

    /// The MD5 of a body stored in one piece, or of a part; `None` for every other tag.
    #[must_use]
    pub fn to_md5(&self) -> Option<[u8; 16]> {
        let mut md5 = [0; 16];
        hex::decode_to_slice(&self.0, &mut md5).ok()?;
        Some(md5)
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What `If-Match` and `If-None-Match` name (RFC 9110, 13.1). S3 also takes a tag without quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ETagMatch {
    /// `*`: any object that exists.
    Any,
    /// One of these.
    OneOf(Vec<NamedTag>),
}

/// One tag of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTag {
    /// `W/` stood before it: it cannot match strongly.
    pub is_weak: bool,
    /// The tag.
    pub tag: ETag,
}

impl ETagMatch {
    /// Reads a header's value. Bytes that are no list become tags that match nothing, which for a condition is the
    /// safe reading.
    #[must_use]
    pub fn parse(value: &[u8]) -> Self {
        let text = String::from_utf8_lossy(value);
        let mut rest = text.trim();
        if matches!(rest, "*" | "\"*\"") {
            return Self::Any;
        }
        let mut tags = Vec::new();
        while !rest.is_empty() {
            let (named, after) = next_tag(rest);
            tags.extend(named);
            rest = after.trim_start_matches([',', ' ', '\t']);
        }
        Self::OneOf(tags)
    }

    /// Strong comparison, as `If-Match` wants it.
    #[must_use]
    pub fn matches_strongly(&self, current: &ETag) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.iter().any(|t| !t.is_weak && t.tag == *current),
        }
    }

    /// Weak comparison, as `If-None-Match` wants it.
    #[must_use]
    pub fn matches_weakly(&self, current: &ETag) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.iter().any(|t| t.tag == *current),
        }
    }
}

/// The first tag of a non-empty list, and what follows it. A comma inside quotes belongs to the tag.
fn next_tag(list: &str) -> (Option<NamedTag>, &str) {
    let (is_weak, list) = match list.strip_prefix("W/") {
        Some(rest) => (true, rest),
        None => (false, list),
    };
    let (text, rest) = if let Some(quoted) = list.strip_prefix('"') {
        quoted.split_once('"').unwrap_or((quoted, ""))
    } else {
        let end = list.find(',').unwrap_or(list.len());
        let (text, rest) = list.split_at(end);
        (text.trim(), rest)
    };
    let named = (!text.is_empty()).then(|| NamedTag {
        is_weak,
        tag: ETag(text.to_owned()),
    });
    (named, rest)
}

fn unquote(text: &str) -> &str {
    text.strip_prefix('"')
        .and_then(|t| t.strip_suffix('"'))
        .unwrap_or(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tag_is_the_md5_in_hex() {
        let etag = ETag::from_md5(Md5::digest(b"hello").into());
        assert_eq!(etag.as_str(), "5d41402abc4b2a76b9719d911017c592");
        assert_eq!(etag.quoted(), "\"5d41402abc4b2a76b9719d911017c592\"");
        assert_eq!(
            etag.to_md5().unwrap(),
            <[u8; 16]>::from(Md5::digest(b"hello"))
        );
    }

    #[test]
    fn a_multipart_tag_is_the_md5_of_md5s_and_the_count() {
        let md5 = <[u8; 16]>::from(Md5::digest(b"hello"));
        let etag = ETag::multipart(&[md5, md5]);
        let joined = [md5, md5].concat();
        assert_eq!(
            etag.as_str(),
            format!("{}-2", hex::encode(Md5::digest(joined)))
        );
        assert_eq!(etag.to_md5(), None);
    }

    #[test]
    fn quotes_are_not_part_of_a_tag() {
        assert_eq!(ETag::from_text("\"abc-2\""), ETag::from_text(" abc-2 "));
    }

    #[test]
    fn lists_are_read_with_and_without_quotes() {
        let a = ETag::from_text("a");
        let b = ETag::from_text("b,c");
        let list = ETagMatch::parse(b"\"x\", W/\"a\" ,\"b,c\"");
        assert!(!list.matches_strongly(&a) && list.matches_weakly(&a));
        assert!(list.matches_strongly(&b));
        assert!(ETagMatch::parse(b"x, a").matches_strongly(&a));
        assert!(ETagMatch::parse(b"*").matches_strongly(&a));
        assert!(!ETagMatch::parse(b"").matches_weakly(&a));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ETagMatch::parse(&bytes);
            let _ = ETag::from_text(&String::from_utf8_lossy(&bytes)).to_md5();
        }

        #[test]
        fn a_quoted_tag_is_found_in_its_list(tags in proptest::collection::vec("[a-f0-9-]{1,40}", 1..8), pick in any::<proptest::sample::Index>()) {
            let header = tags.iter().map(|t| format!("\"{t}\"")).collect::<Vec<_>>().join(", ");
            let wanted = ETag::from_text(&tags[pick.index(tags.len())]);
            prop_assert!(ETagMatch::parse(header.as_bytes()).matches_strongly(&wanted));
        }
    }
}
