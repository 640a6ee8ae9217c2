//! Conditional requests: what a client demands of the object that is there, and the verdict.
//!
//! Reads follow S3's precedence (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-reads.html>);
//! writes know `If-Match` and `If-None-Match: *` only
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>). Pure: the coordinator evaluates
//! a write's condition inside its round. Dates have whole seconds, as HTTP's have.

use super::error::{ErrorCode, S3Error};
use super::etag::{ETag, ETagMatch};
use http::HeaderMap;
use http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
};
use std::time::{SystemTime, UNIX_EPOCH};

const COPY_IF_MATCH: HeaderName = HeaderName::from_static("x-amz-copy-source-if-match");
const COPY_IF_NONE_MATCH: HeaderName = HeaderName::from_static("x-amz-copy-source-if-none-match");
const COPY_IF_MODIFIED_SINCE: HeaderName =
    HeaderName::from_static("x-amz-copy-source-if-modified-since");
const COPY_IF_UNMODIFIED_SINCE: HeaderName =
    HeaderName::from_static("x-amz-copy-source-if-unmodified-since");
const IF_MATCH_LAST_MODIFIED_TIME: HeaderName =
    HeaderName::from_static("x-amz-if-match-last-modified-time");
const IF_MATCH_SIZE: HeaderName = HeaderName::from_static("x-amz-if-match-size");

/// What a read demands. Empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadCondition {
    if_match: Option<ETagMatch>,
    if_none_match: Option<ETagMatch>,
    if_modified_since_unix_s: Option<u64>,
    if_unmodified_since_unix_s: Option<u64>,
}

/// The verdict on a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadVerdict {
    /// Serve it.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
}

impl ReadCondition {
    /// The conditions of GET and HEAD. A date that cannot be read is ignored (RFC 9110, 13.1.3).
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> Self {
        Self::from_headers(
            headers,
            &IF_MATCH,
            &IF_NONE_MATCH,
            &IF_MODIFIED_SINCE,
            &IF_UNMODIFIED_SINCE,
        )
    }

    /// The conditions of a copy on its source: `x-amz-copy-source-if-*`.
    #[must_use]
    pub fn parse_copy_source(headers: &HeaderMap) -> Self {
        Self::from_headers(
            headers,
            &COPY_IF_MATCH,
            &COPY_IF_NONE_MATCH,
            &COPY_IF_MODIFIED_SINCE,
            &COPY_IF_UNMODIFIED_SINCE,
        )
    }

    fn from_headers(
        headers: &HeaderMap,
        if_match: &HeaderName,
        if_none_match: &HeaderName,
        if_modified_since: &HeaderName,
        if_unmodified_since: &HeaderName,
    ) -> Self {
        Self {
            if_match: tags(headers, if_match),
            if_none_match: tags(headers, if_none_match),
            if_modified_since_unix_s: date(headers, if_modified_since),
            if_unmodified_since_unix_s: date(headers, if_unmodified_since),
        }
    }

    /// Whether nothing is demanded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Judges a read of an object with this tag and time. `If-Match` that holds outranks `If-Unmodified-Since`, and
/// `If-None-Match` outranks `If-Modified-Since`.
#[must_use]
pub fn evaluate_read(
    condition: &ReadCondition,
    etag: &ETag,
    last_modified: SystemTime,
) -> ReadVerdict {
    let modified_unix_s = unix_s(last_modified);
    match (&condition.if_match, condition.if_unmodified_since_unix_s) {
        (Some(wanted), _) if !wanted.matches_strongly(etag) => {
            return ReadVerdict::PreconditionFailed;
        }
        (None, Some(date)) if modified_unix_s > date => return ReadVerdict::PreconditionFailed,
        _ => {}
    }
    match (&condition.if_none_match, condition.if_modified_since_unix_s) {
        (Some(known), _) if known.matches_weakly(etag) => ReadVerdict::NotModified,
        (None, Some(date)) if modified_unix_s <= date => ReadVerdict::NotModified,
        _ => ReadVerdict::Proceed,
    }
}

/// Whether a `Range` counts. `If-Range` names, by its tag or its time, the object that the client has the rest of:
/// where another one is there now, the answer is the whole of that one (RFC 9110, 13.1.5), or the client would put two
/// objects together.
#[must_use]
pub fn range_counts(headers: &HeaderMap, etag: &ETag, last_modified: SystemTime) -> bool {
    let Some(value) = headers.get(IF_RANGE) else {
        return true;
    };
    if let Some(Ok(date)) = value.to_str().ok().map(httpdate::parse_http_date) {
        return unix_s(date) == unix_s(last_modified);
    }
    // One tag, and no list of them. What is neither tag nor date is no object's.
    let wanted = ETagMatch::parse(value.as_bytes());
    matches!(&wanted, ETagMatch::OneOf(tags) if tags.len() == 1) && wanted.matches_strongly(etag)
}

/// Judges a copy's source: what a read would call not modified fails a copy too.
///
/// # Errors
/// `PreconditionFailed` (412).
pub fn evaluate_copy_source(
    condition: &ReadCondition,
    etag: &ETag,
    last_modified: SystemTime,
) -> Result<(), S3Error> {
    match evaluate_read(condition, etag, last_modified) {
        ReadVerdict::Proceed => Ok(()),
        ReadVerdict::NotModified | ReadVerdict::PreconditionFailed => {
            Err(S3Error::new(ErrorCode::PreconditionFailed))
        }
    }
}

/// What a write demands of the object that it replaces or deletes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WriteCondition {
    /// Nothing.
    #[default]
    None,
    /// An object is there, with one of these tags.
    IfMatch(ETagMatch),
    /// No object is there.
    IfAbsent,
}

/// The verdict on a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteVerdict {
    /// Write it.
    Proceed,
    /// 412.
    PreconditionFailed,
    /// 404: `If-Match` on a key without an object.
    NoSuchKey,
}

impl WriteCondition {
    /// The condition of PUT, Copy, Complete or DELETE.
    ///
    /// # Errors
    /// `NotImplemented` for `If-None-Match` with a tag, for both headers at once, for conditions by date, and for the
    /// conditions that only directory buckets have: none is ignored in silence.
    pub fn parse(headers: &HeaderMap) -> Result<Self, S3Error> {
        for header in [
            &IF_MODIFIED_SINCE,
            &IF_UNMODIFIED_SINCE,
            &IF_MATCH_LAST_MODIFIED_TIME,
            &IF_MATCH_SIZE,
        ] {
            if headers.contains_key(header) {
                return Err(not_implemented(header));
            }
        }
        match (tags(headers, &IF_MATCH), tags(headers, &IF_NONE_MATCH)) {
            (None, None) => Ok(Self::None),
            (Some(wanted), None) => Ok(Self::IfMatch(wanted)),
            (None, Some(ETagMatch::Any)) => Ok(Self::IfAbsent),
            (_, Some(_)) => Err(not_implemented(&IF_NONE_MATCH)),
        }
    }

    /// The condition of one entry of a DeleteObjects document, by its `ETag` element.
    #[must_use]
    pub fn if_match(etag: &str) -> Self {
        Self::IfMatch(ETagMatch::parse(etag.as_bytes()))
    }
}

/// Judges a write over `current`, the tag of the object that is there, if any. A delete marker is no object.
#[must_use]
pub fn evaluate_write(condition: &WriteCondition, current: Option<&ETag>) -> WriteVerdict {
    match (condition, current) {
        (WriteCondition::None, _) | (WriteCondition::IfAbsent, None) => WriteVerdict::Proceed,
        (WriteCondition::IfAbsent, Some(_)) => WriteVerdict::PreconditionFailed,
        (WriteCondition::IfMatch(_), None) => WriteVerdict::NoSuchKey,
        (WriteCondition::IfMatch(wanted), Some(etag)) if wanted.matches_strongly(etag) => {
            WriteVerdict::Proceed
        }
        (WriteCondition::IfMatch(_), Some(_)) => WriteVerdict::PreconditionFailed,
    }
}

fn not_implemented(header: &HeaderName) -> S3Error {
    S3Error::with_message(
        ErrorCode::NotImplemented,
        "A header you provided implies functionality that is not implemented",
    )
    .with_extra("Header", header.as_str())
}

/// The tags of a header; several lines are one list (RFC 9110, 5.3).
fn tags(headers: &HeaderMap, name: &HeaderName) -> Option<ETagMatch> {
    let lines: Vec<&[u8]> = headers
        .get_all(name)
        .iter()
        .map(http::HeaderValue::as_bytes)
        .collect();
    (!lines.is_empty()).then(|| ETagMatch::parse(&lines.join(&b", "[..])))
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?;
    httpdate::parse_http_date(text).ok().map(unix_s)
}

fn unix_s(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use std::time::Duration;

    const DATE: &str = "Sat, 26 Oct 1985 08:15:00 GMT";
    const DATE_UNIX_S: u64 = 499_162_500;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    /// Judges a read of object `a`, modified `offset_s` after `DATE` and half a second.
    #[track_caller]
    fn check_read(lines: &[(&'static str, &str)], offset_s: i64, expected: ReadVerdict) {
        let modified = UNIX_EPOCH
            + Duration::from_millis(DATE_UNIX_S.saturating_add_signed(offset_s) * 1000 + 500);
        let condition = ReadCondition::parse(&headers(lines));
        assert_eq!(
            evaluate_read(&condition, &ETag::from_text("a"), modified),
            expected
        );
        let copy: Vec<_> = lines
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::try_from(format!("x-amz-copy-source-{name}")).unwrap(),
                    value.parse().unwrap(),
                )
            })
            .collect();
        let copied = evaluate_copy_source(
            &ReadCondition::parse_copy_source(&copy.into_iter().collect()),
            &ETag::from_text("a"),
            modified,
        );
        assert_eq!(copied.is_ok(), expected == ReadVerdict::Proceed);
    }

    #[test]
    fn reads_obey_each_condition() {
        use ReadVerdict::{NotModified, PreconditionFailed, Proceed};
        check_read(&[], 0, Proceed);
        check_read(&[("if-match", "\"a\"")], 0, Proceed);
        check_read(&[("if-match", "a")], 0, Proceed);
        check_read(&[("if-match", "\"b\"")], 0, PreconditionFailed);
        check_read(&[("if-match", "W/\"a\"")], 0, PreconditionFailed);
        check_read(&[("if-none-match", "W/\"a\"")], 0, NotModified);
        check_read(&[("if-none-match", "*")], 0, NotModified);
        check_read(&[("if-none-match", "\"b\"")], 0, Proceed);
        check_read(&[("if-modified-since", DATE)], 0, NotModified);
        check_read(&[("if-modified-since", DATE)], 1, Proceed);
        check_read(&[("if-unmodified-since", DATE)], 0, Proceed);
        check_read(&[("if-unmodified-since", DATE)], 1, PreconditionFailed);
        check_read(&[("if-unmodified-since", "yesterday")], 1, Proceed);
        check_read(&[("if-modified-since", "yesterday")], -1, Proceed);
    }

    #[test]
    fn tags_outrank_dates() {
        use ReadVerdict::{NotModified, PreconditionFailed, Proceed};
        check_read(
            &[("if-match", "\"a\""), ("if-unmodified-since", DATE)],
            1,
            Proceed,
        );
        check_read(
            &[("if-match", "\"b\""), ("if-unmodified-since", DATE)],
            -1,
            PreconditionFailed,
        );
        check_read(
            &[("if-none-match", "\"a\""), ("if-modified-since", DATE)],
            1,
            NotModified,
        );
        check_read(
            &[("if-none-match", "\"b\""), ("if-modified-since", DATE)],
            -1,
            Proceed,
        );
        check_read(
            &[("if-match", "\"b\""), ("if-none-match", "\"a\"")],
            0,
            PreconditionFailed,
        );
    }

    #[test]
    fn a_range_counts_only_for_the_object_that_if_range_names() {
        let modified = UNIX_EPOCH + Duration::from_millis(DATE_UNIX_S * 1000 + 500);
        let counts = |value: &str| {
            let headers = headers(&[("if-range", value)]);
            range_counts(&headers, &ETag::from_text("a"), modified)
        };
        assert!(range_counts(
            &HeaderMap::new(),
            &ETag::from_text("a"),
            modified
        ));
        for value in ["\"a\"", "a", DATE] {
            assert!(counts(value), "{value}");
        }
        for value in [
            "\"b\"",
            "W/\"a\"",
            "*",
            "\"a\", \"b\"",
            "",
            "garbage",
            "Sat, 26 Oct 1985 08:14:59 GMT",
            "Sat, 26 Oct 1985 08:15:01 GMT",
        ] {
            assert!(!counts(value), "{value}");
        }
    }

    #[test]
    fn two_header_lines_are_one_list() {
        check_read(
            &[("if-match", "\"b\""), ("if-match", "\"a\"")],
            0,
            ReadVerdict::Proceed,
        );
    }

    #[test]
    fn writes_obey_their_condition() {
        let a = ETag::from_text("a");
        let check = |lines: &[(&'static str, &str)], current: Option<&ETag>| {
            evaluate_write(&WriteCondition::parse(&headers(lines)).unwrap(), current)
        };
        assert_eq!(check(&[], None), WriteVerdict::Proceed);
        assert_eq!(check(&[], Some(&a)), WriteVerdict::Proceed);
        assert_eq!(
            check(&[("if-none-match", "*")], None),
            WriteVerdict::Proceed
        );
        assert_eq!(
            check(&[("if-none-match", "*")], Some(&a)),
            WriteVerdict::PreconditionFailed
        );
        assert_eq!(check(&[("if-match", "*")], Some(&a)), WriteVerdict::Proceed);
        assert_eq!(
            check(&[("if-match", "\"a\"")], Some(&a)),
            WriteVerdict::Proceed
        );
        assert_eq!(
            evaluate_write(&WriteCondition::if_match("a"), Some(&a)),
            WriteVerdict::Proceed
        );
    }

    #[test]
    fn row_112_if_match_fails_on_another_tag_and_on_an_absent_key() {
        let condition = WriteCondition::parse(&headers(&[("if-match", "\"b\"")])).unwrap();
        assert_eq!(
            evaluate_write(&condition, Some(&ETag::from_text("a"))),
            WriteVerdict::PreconditionFailed
        );
        assert_eq!(evaluate_write(&condition, None), WriteVerdict::NoSuchKey);
        let any = WriteCondition::parse(&headers(&[("if-match", "*")])).unwrap();
        assert_eq!(evaluate_write(&any, None), WriteVerdict::NoSuchKey);
    }

    #[test]
    fn row_111_conditions_that_writes_do_not_have_are_not_implemented() {
        for lines in [
            &[("if-none-match", "\"a\"")][..],
            &[("if-none-match", "\"a\", *")],
            &[("if-none-match", "")],
            &[("if-match", "\"a\""), ("if-none-match", "*")],
            &[("if-modified-since", DATE)],
            &[("if-unmodified-since", DATE)],
            &[("x-amz-if-match-size", "3")],
            &[("x-amz-if-match-last-modified-time", DATE)],
        ] {
            let error = WriteCondition::parse(&headers(lines)).unwrap_err();
            assert_eq!(
                (error.code, error.status()),
                (ErrorCode::NotImplemented, 501),
                "{lines:?}"
            );
        }
    }
}
