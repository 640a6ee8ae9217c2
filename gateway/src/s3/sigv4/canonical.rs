//! The canonical request: the one spelling of a request that both sides sign.
//!
//! S3's way: path and query are decoded once and encoded once, and nothing is normalised
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html#canonical-request>).

use super::query::Query;
use http::HeaderMap;
use http::header::HeaderName;
use std::fmt::Write as _;

/// Undoes percent encoding; `None` for a `%` without two hex digits behind it.
pub(super) fn decode(raw: &[u8], plus_is_space: bool) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        decoded.push(match byte {
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                let mut value = [0];
                hex::decode_to_slice(digits, &mut value).ok()?;
                value[0]
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    Some(decoded)
}

/// Percent-encodes everything but `A–Z a–z 0–9 - . _ ~`, and `/` where it is to be kept.
pub(super) fn encode(out: &mut String, bytes: &[u8], keep_slash: bool) {
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte))
            }
            b'/' if keep_slash => out.push('/'),
            // Writing to a string cannot fail.
            other => drop(write!(out, "%{other:02X}")),
        }
    }
}

/// The canonical request, as bytes: header values need not be UTF-8. `None` if a signed header is absent.
pub(super) fn canonical_request(
    method: &http::Method,
    path: &[u8],
    query: &Query,
    headers: &HeaderMap,
    signed_headers: &[HeaderName],
    payload: &str,
) -> Option<Vec<u8>> {
    let mut text = String::with_capacity(512);
    text.push_str(method.as_str());
    text.push('\n');
    encode(&mut text, path, true);
    text.push('\n');
    text.push_str(&query.canonical());
    text.push('\n');
    let mut bytes = text.into_bytes();
    for name in signed_headers {
        canonical_header(&mut bytes, headers, name)?;
    }
    bytes.push(b'\n');
    for (i, name) in signed_headers.iter().enumerate() {
        if i > 0 {
            bytes.push(b';');
        }
        bytes.extend_from_slice(name.as_str().as_bytes());
    }
    bytes.push(b'\n');
    bytes.extend_from_slice(payload.as_bytes());
    Some(bytes)
}

/// `name:value\n`, several values joined with commas.
fn canonical_header(out: &mut Vec<u8>, headers: &HeaderMap, name: &HeaderName) -> Option<()> {
    let mut values = headers.get_all(name).iter().peekable();
    values.peek()?;
    out.extend_from_slice(name.as_str().as_bytes());
    for (i, value) in values.enumerate() {
        out.push(if i == 0 { b':' } else { b',' });
        squeeze(out, value.as_bytes().trim_ascii());
    }
    out.push(b'\n');
    Some(())
}

/// Appends a value with every run of spaces made one.
fn squeeze(out: &mut Vec<u8>, value: &[u8]) {
    let mut after_space = false;
    for &byte in value {
        if byte != b' ' || !after_space {
            out.push(byte);
        }
        after_space = byte == b' ';
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check_path(raw: &str, expected: &str) {
        let mut out = String::new();
        encode(&mut out, &decode(raw.as_bytes(), false).unwrap(), true);
        assert_eq!(out, expected);
    }

    #[test]
    fn a_path_is_decoded_once_and_encoded_once() {
        check_path("/b/a+b", "/b/a%2Bb");
        check_path("/b/a%2bb", "/b/a%2Bb");
        check_path("/b/a%20b", "/b/a%20b");
        check_path("/b/a%252e%252e", "/b/a%252e%252e");
        check_path("/b//a/./../x/", "/b//a/./../x/");
        check_path("/b/a%2Fb(1)!*'~", "/b/a/b%281%29%21%2A%27~");
        check_path("/b/\u{e9}", "/b/%C3%A9");
    }

    #[test]
    fn a_percent_without_two_hex_digits_is_no_encoding() {
        for raw in ["%", "%4", "a%ZZ", "%%41", "%4G", "%+1"] {
            assert_eq!(decode(raw.as_bytes(), false), None, "{raw}");
        }
    }

    #[test]
    fn header_values_are_trimmed_squeezed_and_joined() {
        let mut headers = HeaderMap::new();
        let name = HeaderName::from_static("x-amz-meta-a");
        headers.append(&name, "  one   two ".parse().unwrap());
        headers.append(&name, "three".parse().unwrap());
        let mut out = Vec::new();
        canonical_header(&mut out, &headers, &name).unwrap();
        assert_eq!(out, b"x-amz-meta-a:one two,three\n");
        assert!(
            canonical_header(&mut out, &headers, &HeaderName::from_static("x-amz-acl")).is_none()
        );
    }

    proptest! {
        #[test]
        fn encoding_is_undone_by_decoding(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut out = String::new();
            encode(&mut out, &bytes, false);
            prop_assert_eq!(decode(out.as_bytes(), true).unwrap(), bytes);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&bytes, true);
        }
    }
}
