//! Where a page of a listing begins: the one meaning of markers and tokens.

use crate::s3::error::S3Error;
use ringfort_wire::message::After;

/// Behind this marker. One that is itself a folded prefix stands for all keys under it: they were shown as one.
pub(super) fn after_marker(marker: &str, prefix: &str, delimiter: Option<&str>) -> After {
    if marker.is_empty() {
        return After::Start;
    }
    let is_folded = delimiter.is_some_and(|delimiter| {
        marker
            .strip_prefix(prefix)
            .and_then(|rest| {
                rest.find(delimiter)
                    .map(|at| at + delimiter.len() == rest.len())
            })
            .unwrap_or(false)
    });
    if is_folded {
        After::Prefix(marker.to_owned())
    } else {
        After::Key(marker.to_owned())
    }
}

const KEY: u8 = b'k';
const AT: u8 = b'a';
const PREFIX: u8 = b'p';

/// A token's payload for the position behind the last entry of a page.
pub(super) fn to_payload(after: &After) -> Vec<u8> {
    let (tag, text) = match after {
        After::Prefix(text) => (PREFIX, text.as_str()),
        After::Key(text) => (KEY, text.as_str()),
        After::At(text) => (AT, text.as_str()),
        After::Start => (KEY, ""),
    };
    [&[tag], text.as_bytes()].concat()
}

pub(super) fn from_payload(payload: Vec<u8>) -> Result<After, S3Error> {
    let refused = || {
        S3Error::invalid_argument(
            "The continuation token provided is incorrect",
            "continuation-token",
            "",
        )
    };
    let text = String::from_utf8(payload).map_err(|_| refused())?;
    match text.split_at_checked(1) {
        Some(("k", "")) => Ok(After::Start),
        Some(("k", key)) => Ok(After::Key(key.to_owned())),
        Some(("a", text)) => Ok(After::At(text.to_owned())),
        Some(("p", prefix)) => Ok(After::Prefix(prefix.to_owned())),
        _ => Err(refused()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn a_marker_that_is_a_folded_prefix_skips_what_was_folded() {
        let prefix = |text: &str| After::Prefix(text.to_owned());
        let key = |text: &str| After::Key(text.to_owned());
        assert_eq!(after_marker("", "", Some("/")), After::Start);
        assert_eq!(after_marker("a/", "", Some("/")), prefix("a/"));
        assert_eq!(after_marker("a/", "", None), key("a/"));
        assert_eq!(after_marker("a/b", "", Some("/")), key("a/b"));
        assert_eq!(after_marker("a/b/", "a/", Some("/")), prefix("a/b/"));
        assert_eq!(after_marker("a/", "a/", Some("/")), key("a/"));
        assert_eq!(after_marker("a/b/c/", "a/", Some("/")), key("a/b/c/"));
        assert_eq!(after_marker("aXY", "", Some("XY")), prefix("aXY"));
    }

    #[test]
    fn a_position_reads_back_from_a_token() {
        for after in [
            After::Start,
            After::Key("a\u{e9}".to_owned()),
            After::At("b".to_owned()),
            After::Prefix("a/".to_owned()),
        ] {
            assert_eq!(from_payload(to_payload(&after)).unwrap(), after);
        }
        for bad in [&b""[..], b"x", b"\xff", b"pa\xff"] {
            assert!(from_payload(bad.to_vec()).is_err());
        }
    }
}
