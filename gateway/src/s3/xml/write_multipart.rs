//! Answers about multipart uploads: Create, Complete, ListParts, ListMultipartUploads.

use super::write::{Checksums, Document, Owner};

/// `InitiateMultipartUploadResult`.
#[must_use]
pub fn create_multipart_upload(bucket: &str, key: &str, upload_id: &str) -> String {
    let mut document = Document::new("InitiateMultipartUploadResult");
    document.text("Bucket", bucket);
    document.text("Key", key);
    document.text("UploadId", upload_id);
    document.finish()
}

/// `CompleteMultipartUploadResult`; the ETag without quotes, `location` the object's URL.
#[must_use]
pub fn complete_multipart_upload(
    location: &str,
    bucket: &str,
    key: &str,
    etag: &str,
    checksums: &Checksums,
) -> String {
    let mut document = Document::new("CompleteMultipartUploadResult");
    document.text("Location", location);
    document.text("Bucket", bucket);
    document.text("Key", key);
    document.etag(etag);
    document.checksums(checksums);
    document.finish()
}

/// One part of ListParts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPart {
    /// 1 to 10,000.
    pub number: u16,
    /// When it was written.
    pub last_modified_ms: u64,
    /// Without quotes.
    pub etag: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its checksums; the type is not written here.
    pub checksums: Checksums,
}

/// The answer of ListParts (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListParts {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The upload.
    pub upload_id: String,
    /// Who began the upload, and whose the object will be.
    pub owner: Owner,
    /// Echo.
    pub part_number_marker: u16,
    /// The last part of the page; 0 for an empty page.
    pub next_part_number_marker: u16,
    /// As capped.
    pub max_parts: u32,
    /// More would follow.
    pub is_truncated: bool,
    /// Whether the key is percent-encoded.
    pub encodes_url: bool,
    /// `CRC32`, … as the upload was begun with.
    pub checksum_algorithm: Option<&'static str>,
    /// `FULL_OBJECT` or `COMPOSITE`.
    pub checksum_type: Option<&'static str>,
    /// Ascending.
    pub parts: Vec<ListedPart>,
}

/// `ListPartsResult`.
#[must_use]
pub fn list_parts(answer: &ListParts) -> String {
    let mut document = Document::new("ListPartsResult");
    document.text("Bucket", &answer.bucket);
    document.name("Key", &answer.key, answer.encodes_url);
    document.text("UploadId", &answer.upload_id);
    document.owner("Initiator", &answer.owner);
    document.owner("Owner", &answer.owner);
    document.text("StorageClass", "STANDARD");
    document.value("PartNumberMarker", answer.part_number_marker);
    document.value("NextPartNumberMarker", answer.next_part_number_marker);
    document.value("MaxParts", answer.max_parts);
    if answer.encodes_url {
        document.text("EncodingType", "url");
    }
    document.value("IsTruncated", answer.is_truncated);
    document.optional("ChecksumAlgorithm", answer.checksum_algorithm);
    document.optional("ChecksumType", answer.checksum_type);
    for part in &answer.parts {
        document.open("Part");
        document.value("PartNumber", part.number);
        document.time("LastModified", part.last_modified_ms);
        document.etag(&part.etag);
        document.value("Size", part.size_bytes);
        document.checksums(&Checksums {
            values: part.checksums.values.clone(),
            kind: None,
        });
        document.close("Part");
    }
    document.finish()
}

/// One upload of ListMultipartUploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUpload {
    /// The key.
    pub key: String,
    /// The upload.
    pub upload_id: String,
    /// Who began it, and whose the object will be.
    pub owner: Owner,
    /// When it was begun.
    pub initiated_ms: u64,
    /// `CRC32`, … as the upload was begun with.
    pub checksum_algorithm: Option<&'static str>,
    /// `FULL_OBJECT` or `COMPOSITE`.
    pub checksum_type: Option<&'static str>,
}

/// The answer of ListMultipartUploads
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListMultipartUploads {
    /// The bucket.
    pub bucket: String,
    /// Echo; empty where none was given.
    pub key_marker: String,
    /// Echo; empty where none was given.
    pub upload_id_marker: String,
    /// The last upload's key, on a page that is not the last.
    pub next_key_marker: Option<String>,
    /// The last upload's id, on a page that is not the last.
    pub next_upload_id_marker: Option<String>,
    /// Echo.
    pub prefix: Option<String>,
    /// Echo.
    pub delimiter: Option<String>,
    /// As capped.
    pub max_uploads: u32,
    /// Whether names are percent-encoded.
    pub encodes_url: bool,
    /// More would follow.
    pub is_truncated: bool,
    /// By key, then by the time they were begun.
    pub uploads: Vec<ListedUpload>,
    /// In byte order.
    pub common_prefixes: Vec<String>,
}

/// `ListMultipartUploadsResult`.
#[must_use]
pub fn list_multipart_uploads(answer: &ListMultipartUploads) -> String {
    let url = answer.encodes_url;
    let mut document = Document::new("ListMultipartUploadsResult");
    document.text("Bucket", &answer.bucket);
    document.name("KeyMarker", &answer.key_marker, url);
    document.text("UploadIdMarker", &answer.upload_id_marker);
    if let Some(next) = &answer.next_key_marker {
        document.name("NextKeyMarker", next, url);
    }
    document.optional(
        "NextUploadIdMarker",
        answer.next_upload_id_marker.as_deref(),
    );
    if let Some(prefix) = &answer.prefix {
        document.name("Prefix", prefix, url);
    }
    if let Some(delimiter) = &answer.delimiter {
        document.name("Delimiter", delimiter, url);
    }
    document.value("MaxUploads", answer.max_uploads);
    if url {
        document.text("EncodingType", "url");
    }
    document.value("IsTruncated", answer.is_truncated);
    for upload in &answer.uploads {
        document.open("Upload");
        document.name("Key", &upload.key, url);
        document.text("UploadId", &upload.upload_id);
        document.owner("Initiator", &upload.owner);
        document.owner("Owner", &upload.owner);
        document.text("StorageClass", "STANDARD");
        document.time("Initiated", upload.initiated_ms);
        document.optional("ChecksumAlgorithm", upload.checksum_algorithm);
        document.optional("ChecksumType", upload.checksum_type);
        document.close("Upload");
    }
    for prefix in &answer.common_prefixes {
        document.open("CommonPrefixes");
        document.name("Prefix", prefix, url);
        document.close("CommonPrefixes");
    }
    document.finish()
}

#[cfg(test)]
mod tests {
    use super::super::write::tests::leaves;
    use super::*;

    fn owner() -> Owner {
        Owner {
            id: "i".into(),
            display_name: "d".into(),
        }
    }

    fn crc(kind: Option<&'static str>) -> Checksums {
        Checksums {
            values: vec![("ChecksumCRC32", "AAAAAA==".into())],
            kind,
        }
    }

    #[test]
    fn an_upload_begins_and_ends() {
        assert_eq!(
            leaves(&create_multipart_upload("b", "k<", "u")),
            ["Bucket=b", "Key=k<", "UploadId=u"]
        );
        assert_eq!(
            leaves(&complete_multipart_upload(
                "http://h/b/k",
                "b",
                "k&",
                "e-2",
                &crc(Some("COMPOSITE"))
            )),
            [
                "Location=http://h/b/k",
                "Bucket=b",
                "Key=k&",
                "ETag=\"e-2\"",
                "ChecksumCRC32=AAAAAA==",
                "ChecksumType=COMPOSITE",
            ]
        );
    }

    #[test]
    fn parts_are_listed_with_their_checksums() {
        let xml = list_parts(&ListParts {
            bucket: "b".into(),
            key: "k +".into(),
            upload_id: "u".into(),
            owner: owner(),
            part_number_marker: 1,
            next_part_number_marker: 2,
            max_parts: 1,
            is_truncated: true,
            encodes_url: true,
            checksum_algorithm: Some("CRC32"),
            checksum_type: Some("COMPOSITE"),
            parts: vec![ListedPart {
                number: 2,
                last_modified_ms: 0,
                etag: "e".into(),
                size_bytes: 5,
                checksums: crc(Some("COMPOSITE")),
            }],
        });
        let seen = leaves(&xml);
        assert_eq!(seen[..3], ["Bucket=b", "Key=k%20%2B", "UploadId=u"]);
        assert_eq!(
            seen[8..],
            [
                "PartNumberMarker=1",
                "NextPartNumberMarker=2",
                "MaxParts=1",
                "EncodingType=url",
                "IsTruncated=true",
                "ChecksumAlgorithm=CRC32",
                "ChecksumType=COMPOSITE",
                "Part/PartNumber=2",
                "Part/LastModified=1970-01-01T00:00:00.000Z",
                "Part/ETag=\"e\"",
                "Part/Size=5",
                "Part/ChecksumCRC32=AAAAAA==",
            ]
        );
    }

    #[test]
    fn uploads_are_listed_with_their_markers() {
        let xml = list_multipart_uploads(&ListMultipartUploads {
            bucket: "b".into(),
            key_marker: "a b".into(),
            next_key_marker: Some("c d".into()),
            next_upload_id_marker: Some("u2".into()),
            prefix: Some("p q".into()),
            delimiter: Some("/".into()),
            max_uploads: 1,
            encodes_url: true,
            is_truncated: true,
            uploads: vec![ListedUpload {
                key: "c d".into(),
                upload_id: "u2".into(),
                owner: owner(),
                initiated_ms: 0,
                checksum_algorithm: None,
                checksum_type: None,
            }],
            common_prefixes: vec!["x y/".into()],
            ..ListMultipartUploads::default()
        });
        let seen = leaves(&xml);
        assert_eq!(
            seen[..10],
            [
                "Bucket=b",
                "KeyMarker=a%20b",
                "UploadIdMarker=",
                "NextKeyMarker=c%20d",
                "NextUploadIdMarker=u2",
                "Prefix=p%20q",
                "Delimiter=/",
                "MaxUploads=1",
                "EncodingType=url",
                "IsTruncated=true",
            ]
        );
        assert_eq!(seen[10..12], ["Upload/Key=c%20d", "Upload/UploadId=u2"]);
        assert_eq!(
            seen.last().map(String::as_str),
            Some("CommonPrefixes/Prefix=x%20y/")
        );
    }
}
