//! ListParts (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html>).

use super::{Call, Failure, checksums, owner, xml};
use crate::catalog::Bucket;
use crate::coordinator::UploadRef;
use crate::s3::etag::ETag;
use crate::s3::paging::{encodes_url, max_parts, part_number_marker};
use crate::s3::xml::write_multipart::{ListParts, ListedPart, list_parts as write_parts};
use crate::server::Answer;

/// Shows the parts of an open upload.
pub(super) async fn list_parts(call: &Call, bucket: &Bucket) -> Result<Answer, Failure> {
    let query = &call.routed.query;
    let parts_max = max_parts(query)?;
    let marker = part_number_marker(query)?;
    let encodes_url = encodes_url(query)?;
    let upload = call.open_upload(bucket).await?;
    let key = call.object_key()?;
    let (parts, is_truncated) = match usize::try_from(parts_max) {
        Ok(limit @ 1..) => {
            let reference = UploadRef {
                key: key.clone(),
                upload: upload.id,
            };
            call.coordinator()
                .parts(bucket.reference, &reference, marker, limit)
                .await?
        }
        _ => (Vec::new(), false),
    };
    // Parts are emptied once their upload has ended: those of one that is still open are all there.
    let upload = call.open_upload(bucket).await?;
    let named = upload.checksum.map(|(kind, is_composite)| {
        (
            checksums::to_algorithm(kind).name(),
            checksums::to_type(is_composite).name(),
        )
    });
    Ok(xml(write_parts(&ListParts {
        bucket: bucket.name.as_str().to_owned(),
        key: key.as_str().to_owned(),
        upload_id: upload.id.to_string(),
        owner: owner(&upload.initiator),
        part_number_marker: marker,
        next_part_number_marker: parts.last().map_or(0, |part| part.number),
        max_parts: parts_max,
        is_truncated,
        encodes_url,
        checksum_algorithm: named.map(|(algorithm, _)| algorithm),
        checksum_type: named.map(|(_, kind)| kind),
        parts: parts
            .into_iter()
            .map(|listed| ListedPart {
                number: listed.number,
                last_modified_ms: listed.part.modified_ms,
                etag: ETag::from_md5(listed.part.md5).as_str().to_owned(),
                size_bytes: listed.part.size,
                checksums: checksums::to_document(&listed.part.checksums, 0),
            })
            .collect(),
    })))
}
