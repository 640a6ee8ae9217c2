//! GetObjectAttributes (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAttributes.html>).

use super::object_answer::require_object;
use super::{Call, Failure, checksums, put_header, xml};
use crate::catalog::Bucket;
use crate::s3::error::S3Error;
use crate::s3::paging::PAGE_MAX;
use crate::s3::time::http_date;
use crate::s3::xml::write_object::{
    AttributesPart, AttributesParts, ObjectAttributes, WantedAttributes, object_attributes,
};
use crate::server::Answer;
use http::HeaderMap;
use ringfort_wire::manifest::{KeyState, ObjectHead, PartSummary};

/// Shows what the client asks of the object, without its bytes.
pub(super) async fn get_object_attributes(call: &Call, bucket: &Bucket) -> Result<Answer, Failure> {
    call.check_version()?;
    let wanted = WantedAttributes::from_headers(call.headers())?;
    let parts_max = number(call.headers(), "x-amz-max-parts")?
        .unwrap_or(PAGE_MAX)
        .min(PAGE_MAX);
    let marker = number(call.headers(), "x-amz-part-number-marker")?.unwrap_or(0);
    let read = call
        .coordinator()
        .read::<KeyState>(bucket.reference, &call.row(bucket)?, false)
        .await?;
    let head = require_object(read.state, call.object_key()?)?;
    let parts = if wanted.parts && head.part_count > 0 {
        let list = call.coordinator().body_list(&head.body).await?;
        Some(page(
            &head,
            list.parts,
            u16::try_from(marker).unwrap_or(u16::MAX),
            parts_max,
        ))
    } else {
        None
    };
    let attributes = ObjectAttributes {
        etag: head.etag.clone(),
        checksums: checksums::to_document(&head.checksums, head.part_count),
        parts,
        size_bytes: head.size,
    };
    let mut answer = xml(object_attributes(wanted, &attributes));
    put_header(
        answer.headers_mut(),
        "last-modified",
        &http_date(head.modified_ms),
    );
    call.put_version(answer.headers_mut());
    Ok(answer)
}

/// S3 lists parts only for objects whose parts have checksums that the client chose: here, all have some. They are
/// counted as GET counts them.
fn page(
    head: &ObjectHead,
    parts: Vec<PartSummary>,
    marker: u16,
    parts_max: u32,
) -> AttributesParts {
    let limit = usize::try_from(parts_max).unwrap_or(0);
    let mut behind = (1..=u16::MAX)
        .zip(parts)
        .filter(|(number, _)| *number > marker);
    let shown: Vec<AttributesPart> = behind
        .by_ref()
        .take(limit)
        .map(|(number, part)| AttributesPart {
            number,
            size_bytes: part.size,
            checksums: checksums::to_document(&part.checksums, 0),
        })
        .collect();
    AttributesParts {
        total: u32::from(head.part_count),
        part_number_marker: marker,
        next_part_number_marker: shown.last().map_or(0, |part| part.number),
        max_parts: parts_max,
        is_truncated: behind.next().is_some(),
        parts: shown,
    }
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<u32>, S3Error> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("");
    match text
        .parse::<i32>()
        .ok()
        .and_then(|number| u32::try_from(number).ok())
    {
        Some(number) if !text.starts_with('+') => Ok(Some(number)),
        _ => Err(S3Error::invalid_argument(
            format!("Provided {name} not an integer or within integer range"),
            name,
            text,
        )),
    }
}
