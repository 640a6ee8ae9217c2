//! What GET and HEAD say of an object in headers.

use super::{Failure, checksums, put_header};
use crate::s3::etag::ETag;
use crate::s3::headers::{ResponseOverrides, write_stored};
use crate::s3::time::http_date;
use http::HeaderMap;
use http::header::{ACCEPT_RANGES, HeaderValue};
use ringfort_wire::manifest::{ObjectHead, StoredChecksum};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tag and time: also what a 304 carries (RFC 9110, 15.4.5).
pub(super) fn write_validators(head: &ObjectHead, headers: &mut HeaderMap) {
    put_header(headers, "etag", &ETag::from_text(&head.etag).quoted());
    put_header(headers, "last-modified", &http_date(head.modified_ms));
}

/// Everything but length, range and checksums.
pub(super) fn write_object(
    head: &ObjectHead,
    overrides: &ResponseOverrides,
    headers: &mut HeaderMap,
) {
    write_stored(&head.headers, &head.metadata, headers);
    write_validators(head, headers);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    overrides.apply(headers);
}

/// Checksums, where the client asked for them.
pub(super) fn write_checksums(
    request: &HeaderMap,
    stored: &[StoredChecksum],
    part_count: u16,
    headers: &mut HeaderMap,
) {
    let wanted = request
        .get("x-amz-checksum-mode")
        .is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"enabled"));
    if wanted {
        checksums::write_headers(stored, part_count, headers);
    }
}

/// Last-Modified as conditions compare it.
pub(super) fn modified(head: &ObjectHead) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(head.modified_ms)
}

/// The object of a register, or `NoSuchKey`.
pub(super) fn require_object(
    state: Option<ringfort_wire::manifest::KeyState>,
    key: &ringfort_wire::id::ObjectKey,
) -> Result<Box<ObjectHead>, Failure> {
    Ok(state
        .and_then(|state| state.head)
        .ok_or_else(|| super::no_such_key(key))?)
}
