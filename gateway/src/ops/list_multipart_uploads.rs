//! ListMultipartUploads (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>).
//!
//! By key, then by upload id: ids are random, so that a marker means the same on every page, whatever was opened or
//! ended in between.

use super::list_position::after_marker;
use super::{Call, Failure, checksums, owner, xml};
use crate::catalog::Bucket;
use crate::coordinator::{ListQuery, Listed};
use crate::s3::error::S3Error;
use crate::s3::paging::{delimiter, encodes_url, max_uploads};
use crate::s3::xml::write_multipart::{
    ListMultipartUploads, ListedUpload, list_multipart_uploads as write_uploads,
};
use crate::server::Answer;
use ringfort_wire::id::UploadId;
use ringfort_wire::message::{After, ListWhat, UploadSummary};

/// Shows the open uploads of the bucket.
pub(super) async fn list_multipart_uploads(
    call: &Call,
    bucket: &Bucket,
) -> Result<Answer, Failure> {
    let query = &call.routed.query;
    let uploads_max = max_uploads(query)?;
    let encodes_url = encodes_url(query)?;
    let prefix = query.get("prefix").unwrap_or("");
    let delimiter = delimiter(query);
    let key_marker = query.get("key-marker").unwrap_or("");
    let id_marker = id_marker(key_marker, query.get("upload-id-marker"))?;
    let mut answer = ListMultipartUploads {
        bucket: bucket.name.as_str().to_owned(),
        key_marker: key_marker.to_owned(),
        upload_id_marker: query.get("upload-id-marker").unwrap_or("").to_owned(),
        prefix: query.get("prefix").map(str::to_owned),
        delimiter: delimiter.map(str::to_owned),
        max_uploads: uploads_max,
        encodes_url,
        ..ListMultipartUploads::default()
    };
    let limit = usize::try_from(uploads_max).unwrap_or(0);
    if limit == 0 {
        return Ok(xml(write_uploads(&answer)));
    }
    let after = match id_marker {
        // The marker's key is shown again, for its uploads behind the marker.
        Some(_) => After::At(key_marker.to_owned()),
        None => after_marker(key_marker, prefix, delimiter),
    };
    let list = ListQuery {
        prefix: prefix.to_owned(),
        after,
        delimiter: delimiter.map(str::to_owned),
        // One more than shown: the marker's key may have nothing left.
        limit: limit + 1,
        what: ListWhat::Uploads,
    };
    let found = call.coordinator().list(bucket.reference, &list).await?;
    let mut rows = to_rows(found.entries, key_marker, id_marker);
    answer.is_truncated = found.is_truncated || rows.len() > limit;
    rows.truncate(limit);
    match rows.last().filter(|_| answer.is_truncated) {
        Some(Row::Upload(key, upload)) => {
            answer.next_key_marker = Some(key.clone());
            answer.next_upload_id_marker = Some(upload.id.to_string());
        }
        Some(Row::Prefix(prefix)) => answer.next_key_marker = Some(prefix.clone()),
        None => {}
    }
    for row in rows {
        match row {
            Row::Upload(key, upload) => answer.uploads.push(listed(key, upload)),
            Row::Prefix(prefix) => answer.common_prefixes.push(prefix),
        }
    }
    Ok(xml(write_uploads(&answer)))
}

/// S3 ignores an upload's marker that comes without a key's.
fn id_marker(key_marker: &str, text: Option<&str>) -> Result<Option<UploadId>, S3Error> {
    match text {
        Some(text) if !key_marker.is_empty() && !text.is_empty() => {
            let refused =
                || S3Error::invalid_argument("Invalid uploadId marker", "upload-id-marker", text);
            UploadId::parse(text).map(Some).ok_or_else(refused)
        }
        _ => Ok(None),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Row {
    Upload(String, UploadSummary),
    Prefix(String),
}

fn to_rows(entries: Vec<Listed>, key_marker: &str, id_marker: Option<UploadId>) -> Vec<Row> {
    let mut rows = Vec::new();
    for entry in entries {
        match entry {
            Listed::Uploads { key, mut uploads } => {
                uploads.sort_by_key(|upload| upload.id);
                let behind = id_marker.filter(|_| key == key_marker);
                let shown = uploads
                    .into_iter()
                    .filter(|upload| behind.is_none_or(|marker| upload.id > marker));
                rows.extend(shown.map(|upload| Row::Upload(key.clone(), upload)));
            }
            Listed::Prefix(prefix) => rows.push(Row::Prefix(prefix)),
            Listed::Object { .. } => {}
        }
    }
    rows
}

fn listed(key: String, upload: UploadSummary) -> ListedUpload {
    let named = upload.checksum.map(|(kind, is_composite)| {
        (
            checksums::to_algorithm(kind).name(),
            checksums::to_type(is_composite).name(),
        )
    });
    ListedUpload {
        key,
        upload_id: upload.id.to_string(),
        owner: owner(&upload.initiator),
        initiated_ms: upload.initiated_ms,
        checksum_algorithm: named.map(|(algorithm, _)| algorithm),
        checksum_type: named.map(|(_, kind)| kind),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    fn upload(n: u8) -> UploadSummary {
        UploadSummary {
            id: UploadId([n; 16]),
            initiated_ms: 0,
            initiator: String::new(),
            checksum: None,
        }
    }

    #[test]
    fn a_page_goes_on_behind_an_upload_of_the_same_key() {
        let entries = vec![
            Listed::Uploads {
                key: "a".to_owned(),
                uploads: vec![upload(3), upload(1), upload(2)],
            },
            Listed::Prefix("b/".to_owned()),
            Listed::Uploads {
                key: "c".to_owned(),
                uploads: vec![upload(1)],
            },
        ];
        let rows = to_rows(entries, "a", Some(UploadId([1; 16])));
        let shown = |key: &str, n| Row::Upload(key.to_owned(), upload(n));
        assert_eq!(
            rows,
            [
                shown("a", 2),
                shown("a", 3),
                Row::Prefix("b/".to_owned()),
                shown("c", 1)
            ]
        );
    }

    #[test]
    fn an_upload_marker_counts_only_with_a_key_marker() {
        let text = UploadId([1; 16]).to_string();
        assert_eq!(id_marker("", Some(&text)).unwrap(), None);
        assert_eq!(
            id_marker("a", Some(&text)).unwrap(),
            Some(UploadId([1; 16]))
        );
        assert!(id_marker("a", Some("../x")).is_err());
    }
}
