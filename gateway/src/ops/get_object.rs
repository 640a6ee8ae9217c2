//! GetObject and HeadObject (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>).
//!
//! The first bytes are there before the answer begins: a body that cannot be read is a 5xx where that can still be
//! said, and a cut connection where it cannot.

use super::object_answer::{
    modified, require_object, write_checksums, write_object, write_validators,
};
use super::{Call, Failure, checksums, empty, put_header};
use crate::catalog::Bucket;
use crate::coordinator::BodyStream;
use crate::s3::condition::{ReadCondition, ReadVerdict, evaluate_read, range_counts};
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::etag::ETag;
use crate::s3::headers::ResponseOverrides;
use crate::s3::operation::Operation;
use crate::s3::paging::part_number;
use crate::s3::range::{Extent, resolve_range};
use crate::server::{Answer, AnswerBody};
use futures_util::{StreamExt as _, stream};
use http::header::{CONTENT_LENGTH, HeaderValue, RANGE};
use http::{HeaderMap, StatusCode};
use ringfort_wire::manifest::{KeyState, ObjectHead, PartSummary, StoredChecksum};
use std::ops::Range;

const CHECKSUM_TYPE: &str = "x-amz-checksum-type";

/// Which bytes are answered, and as what.
#[derive(Debug, PartialEq, Eq)]
struct Selected {
    bytes: Range<u64>,
    is_partial: bool,
    /// Of exactly these bytes; none where there is none.
    checksums: Vec<StoredChecksum>,
    /// Parts of the object, for the composite checksum's text and `x-amz-mp-parts-count`.
    part_count: u16,
    names_part_count: bool,
}

/// Answers the object, or what the conditions say of it.
pub(super) async fn get_object(call: &Call, bucket: &Bucket) -> Result<Answer, Failure> {
    let is_get = call.routed.operation == Operation::GetObject;
    let overrides = ResponseOverrides::from_query(&call.routed.query)?;
    let part = part_number(&call.routed.query)?;
    if part.is_some() && call.headers().contains_key(RANGE) {
        return Err(S3Error::with_message(
            ErrorCode::InvalidRequest,
            "Cannot specify both Range header and partNumber query parameter",
        )
        .into());
    }
    call.check_version()?;
    let read = call
        .coordinator()
        .read::<KeyState>(bucket.reference, &call.row(bucket)?, is_get)
        .await?;
    let head = require_object(read.state, call.object_key()?)?;
    match evaluate_read(
        &ReadCondition::parse(call.headers()),
        &ETag::from_text(&head.etag),
        modified(&head),
    ) {
        ReadVerdict::Proceed => {}
        ReadVerdict::PreconditionFailed => return Err(ErrorCode::PreconditionFailed.into()),
        ReadVerdict::NotModified => {
            let mut answer = empty(StatusCode::NOT_MODIFIED);
            write_validators(&head, answer.headers_mut());
            return Ok(answer);
        }
    }
    let selected = match part {
        Some(number) if head.part_count > 0 => {
            let list = call.coordinator().body_list(&head.body).await?;
            select_part(&head, &list.parts, number)?
        }
        Some(number) => select_only_part(&head, number)?,
        None => select_range(&head, range_of(call.headers(), &head))?,
    };
    let length = selected.bytes.end - selected.bytes.start;
    let body = if is_get && length > 0 {
        let body = call.coordinator().read_body(
            bucket.reference,
            &call.row(bucket)?,
            &head,
            read.body,
            selected.bytes.clone(),
        );
        AnswerBody::Stream {
            stream: begun(body).await?,
            left: length,
        }
    } else {
        AnswerBody::Empty
    };
    Ok(respond(call, &head, &overrides, &selected, body))
}

fn respond(
    call: &Call,
    head: &ObjectHead,
    overrides: &ResponseOverrides,
    selected: &Selected,
    body: AnswerBody,
) -> Answer {
    let mut answer = Answer::new(body);
    if selected.is_partial {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    let length = selected.bytes.end - selected.bytes.start;
    let headers = answer.headers_mut();
    write_object(head, overrides, headers);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if selected.is_partial && length > 0 {
        let range = format!(
            "bytes {}-{}/{}",
            selected.bytes.start,
            selected.bytes.end - 1,
            head.size
        );
        put_header(headers, "content-range", &range);
    }
    if selected.names_part_count {
        put_header(
            headers,
            "x-amz-mp-parts-count",
            &selected.part_count.to_string(),
        );
    }
    write_checksums(
        call.headers(),
        &selected.checksums,
        selected.part_count,
        headers,
    );
    if selected.names_part_count
        && let Some(object) = head.checksums.first()
        && headers.contains_key(CHECKSUM_TYPE)
    {
        // The value is the part's; the type is the object's, as S3 has it.
        put_header(
            headers,
            CHECKSUM_TYPE,
            checksums::to_type(object.is_composite).name(),
        );
    }
    call.put_version(headers);
    answer
}

/// The range that the client asks for of this very object.
fn range_of<'a>(headers: &'a HeaderMap, head: &ObjectHead) -> Option<&'a [u8]> {
    range_counts(headers, &ETag::from_text(&head.etag), modified(head))
        .then(|| headers.get(RANGE).map(HeaderValue::as_bytes))
        .flatten()
}

fn select_range(head: &ObjectHead, header: Option<&[u8]>) -> Result<Selected, S3Error> {
    Ok(match resolve_range(header, head.size)? {
        Extent::Whole => Selected {
            bytes: 0..head.size,
            is_partial: false,
            checksums: head.checksums.clone(),
            part_count: head.part_count,
            names_part_count: false,
        },
        Extent::Part(range) => Selected {
            bytes: range.first()..range.last() + 1,
            is_partial: true,
            // The object's checksum says nothing of some of its bytes, and an SDK would check it against them.
            checksums: if range.len() == head.size {
                head.checksums.clone()
            } else {
                Vec::new()
            },
            part_count: head.part_count,
            names_part_count: false,
        },
    })
}

/// An object put in one piece is its own first part.
fn select_only_part(head: &ObjectHead, number: u16) -> Result<Selected, S3Error> {
    if number > 1 {
        return Err(out_of_reach(head, number));
    }
    Ok(Selected {
        bytes: 0..head.size,
        is_partial: true,
        checksums: head.checksums.clone(),
        part_count: 0,
        names_part_count: false,
    })
}

/// Parts count from 1 to `x-amz-mp-parts-count`, whatever numbers they were uploaded with: SDKs download an object by
/// asking for each of them, and S3's refusal compares with the count (`ActualPartCount`).
fn select_part(head: &ObjectHead, parts: &[PartSummary], number: u16) -> Result<Selected, S3Error> {
    let before = usize::from(number).saturating_sub(1);
    let part = parts
        .get(before)
        .ok_or_else(|| out_of_reach(head, number))?;
    let start = parts[..before]
        .iter()
        .fold(0_u64, |sum, part| sum.saturating_add(part.size));
    Ok(Selected {
        bytes: start..start.saturating_add(part.size),
        is_partial: true,
        checksums: part.checksums.clone(),
        part_count: head.part_count,
        names_part_count: true,
    })
}

fn out_of_reach(head: &ObjectHead, number: u16) -> S3Error {
    S3Error::new(ErrorCode::InvalidPartNumber)
        .with_extra("PartNumberRequested", number.to_string())
        .with_extra("ActualPartCount", head.part_count.max(1).to_string())
}

/// The stream once its first bytes are there.
async fn begun(mut body: BodyStream) -> Result<BodyStream, Failure> {
    match body.next().await {
        Some(Ok(first)) => Ok(Box::pin(stream::iter([Ok(first)]).chain(body))),
        Some(Err(error)) => Err(error.into()),
        None => Ok(body),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use ringfort_ring::ballot::Ballot;
    use ringfort_wire::id::UploadId;
    use ringfort_wire::manifest::{BodyOwner, BodyPlace, ChecksumKind};

    fn head(size: u64) -> ObjectHead {
        ObjectHead {
            version: Ballot::ZERO,
            owner: BodyOwner::Upload(UploadId([0; 16])),
            modified_ms: 0,
            size,
            etag: "e".to_owned(),
            headers: Vec::new(),
            metadata: Vec::new(),
            checksums: vec![StoredChecksum {
                algorithm: ChecksumKind::Crc32,
                is_composite: false,
                value: vec![0; 4],
            }],
            part_count: 0,
            body: BodyPlace::Inline,
            extensions: Vec::new(),
        }
    }

    #[test]
    fn a_range_goes_without_the_whole_objects_checksum() {
        let some = select_range(&head(10), Some(b"bytes=2-4")).unwrap();
        assert_eq!((some.bytes, some.is_partial), (2..5, true));
        assert!(some.checksums.is_empty());
        let all = select_range(&head(10), Some(b"bytes=0-99")).unwrap();
        assert_eq!(
            (all.bytes, all.is_partial, all.checksums.len()),
            (0..10, true, 1)
        );
        let whole = select_range(&head(0), None).unwrap();
        assert_eq!((whole.bytes, whole.is_partial), (0..0, false));
        assert_eq!(
            select_range(&head(0), Some(b"bytes=0-0")).unwrap_err().code,
            ErrorCode::InvalidRange
        );
    }

    #[test]
    fn a_range_of_an_object_that_is_no_more_there_is_passed_over() {
        let asked = |tag: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::from_static("bytes=2-4"));
            headers.insert("if-range", tag.parse().unwrap());
            select_range(&head(10), range_of(&headers, &head(10)))
                .unwrap()
                .bytes
        };
        assert_eq!(asked("\"e\""), 2..5);
        assert_eq!(asked("\"another\""), 0..10);
    }

    #[test]
    fn parts_count_from_1_whatever_numbers_they_were_uploaded_with() {
        let parts: Vec<PartSummary> = [(3, 5), (7, 2), (9, 1)]
            .map(|(number, size)| PartSummary {
                number,
                size,
                checksums: Vec::new(),
            })
            .into();
        let object = ObjectHead {
            part_count: 3,
            ..head(8)
        };
        let bytes = |number| select_part(&object, &parts, number).map(|part| part.bytes);
        assert_eq!(bytes(1).unwrap(), 0..5);
        assert_eq!(bytes(2).unwrap(), 5..7);
        assert_eq!(bytes(3).unwrap(), 7..8);
        for number in [4, 7, 9, 10_000] {
            let error = bytes(number).unwrap_err();
            assert_eq!(
                (error.code, error.status()),
                (ErrorCode::InvalidPartNumber, 416)
            );
            assert!(error.extra.contains(&("ActualPartCount", "3".to_owned())));
        }
        assert_eq!(select_only_part(&head(8), 1).unwrap().bytes, 0..8);
        assert!(select_only_part(&head(8), 2).is_err());
    }
}
