//! The answers of ListObjects, ListObjectsV2 and ListObjectVersions
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>).
//!
//! A key may hold characters that XML 1.0 cannot say. Without `encoding-type=url` they are written as U+FFFD; with it
//! (every AWS SDK's listing asks for it) nothing is lost.

use super::write::{Document, Owner};

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// When it was written.
    pub last_modified_ms: u64,
    /// Without quotes.
    pub etag: String,
    /// Its size.
    pub size_bytes: u64,
    /// `CRC32`, `CRC32C`, `CRC64NVME`, `SHA1`, `SHA256`: those it was stored with.
    pub checksum_algorithms: Vec<&'static str>,
    /// `FULL_OBJECT` or `COMPOSITE`.
    pub checksum_type: Option<&'static str>,
    /// Its owner: always in V1, on request in V2.
    pub owner: Option<Owner>,
}

/// What both versions of the listing have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The bucket.
    pub bucket: String,
    /// Echo; empty where none was asked for.
    pub prefix: String,
    /// Echo.
    pub delimiter: Option<String>,
    /// As capped.
    pub max_keys: u32,
    /// Whether names are percent-encoded.
    pub encodes_url: bool,
    /// More would follow.
    pub is_truncated: bool,
    /// In byte order.
    pub objects: Vec<ListedObject>,
    /// In byte order.
    pub common_prefixes: Vec<String>,
}

/// `ListBucketResult` of version 1. `next_marker` is written where a delimiter was given and the page is not the last.
#[must_use]
pub fn list_objects(page: &ListPage, marker: &str, next_marker: Option<&str>) -> String {
    let mut document = Document::new("ListBucketResult");
    document.text("Name", &page.bucket);
    document.name("Prefix", &page.prefix, page.encodes_url);
    document.name("Marker", marker, page.encodes_url);
    if let Some(next) = next_marker {
        document.name("NextMarker", next, page.encodes_url);
    }
    rest_of_page(document, page)
}

/// What version 2 adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListV2 {
    /// Echo of the token this page was asked with.
    pub continuation_token: Option<String>,
    /// The next page's; `None` on the last.
    pub next_continuation_token: Option<String>,
    /// Echo.
    pub start_after: Option<String>,
}

/// `ListBucketResult` of version 2.
#[must_use]
pub fn list_objects_v2(page: &ListPage, v2: &ListV2) -> String {
    let mut document = Document::new("ListBucketResult");
    document.text("Name", &page.bucket);
    document.name("Prefix", &page.prefix, page.encodes_url);
    document.optional("ContinuationToken", v2.continuation_token.as_deref());
    document.optional(
        "NextContinuationToken",
        v2.next_continuation_token.as_deref(),
    );
    if let Some(start_after) = &v2.start_after {
        document.name("StartAfter", start_after, page.encodes_url);
    }
    document.value("KeyCount", page.objects.len() + page.common_prefixes.len());
    rest_of_page(document, page)
}

/// Where a page of versions begins and ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionMarkers {
    /// Echo.
    pub key_marker: String,
    /// Echo.
    pub version_id_marker: String,
    /// The last key or prefix of a page that is not the last.
    pub next_key_marker: Option<String>,
    /// Whether that is a key: its version is `null`. A prefix has none.
    pub next_is_version: bool,
}

/// `ListVersionsResult` of a bucket that never had versions: every object is its own latest version, `null`
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html>).
#[must_use]
pub fn list_object_versions(page: &ListPage, markers: &VersionMarkers) -> String {
    let mut document = Document::new("ListVersionsResult");
    document.text("Name", &page.bucket);
    document.name("Prefix", &page.prefix, page.encodes_url);
    document.name("KeyMarker", &markers.key_marker, page.encodes_url);
    document.text("VersionIdMarker", &markers.version_id_marker);
    if let Some(next) = &markers.next_key_marker {
        document.name("NextKeyMarker", next, page.encodes_url);
        if markers.next_is_version {
            document.text("NextVersionIdMarker", NULL_VERSION);
        }
    }
    entries(document, page, "Version")
}

const NULL_VERSION: &str = "null";

fn rest_of_page(document: Document, page: &ListPage) -> String {
    entries(document, page, "Contents")
}

fn entries(mut document: Document, page: &ListPage, element: &'static str) -> String {
    document.value("MaxKeys", page.max_keys);
    if let Some(delimiter) = &page.delimiter {
        document.name("Delimiter", delimiter, page.encodes_url);
    }
    if page.encodes_url {
        document.text("EncodingType", "url");
    }
    document.value("IsTruncated", page.is_truncated);
    for object in &page.objects {
        document.open(element);
        document.name("Key", &object.key, page.encodes_url);
        if element == "Version" {
            document.text("VersionId", NULL_VERSION);
            document.value("IsLatest", true);
        }
        document.time("LastModified", object.last_modified_ms);
        document.etag(&object.etag);
        for algorithm in &object.checksum_algorithms {
            document.text("ChecksumAlgorithm", algorithm);
        }
        document.optional("ChecksumType", object.checksum_type);
        document.value("Size", object.size_bytes);
        if let Some(owner) = &object.owner {
            document.owner("Owner", owner);
        }
        document.text("StorageClass", "STANDARD");
        document.close(element);
    }
    for prefix in &page.common_prefixes {
        document.open("CommonPrefixes");
        document.name("Prefix", prefix, page.encodes_url);
        document.close("CommonPrefixes");
    }
    document.finish()
}

#[cfg(test)]
mod tests {
    use super::super::write::tests::leaves;
    use super::*;

    fn page(encodes_url: bool) -> ListPage {
        ListPage {
            bucket: "bkt".into(),
            prefix: "a b".into(),
            delimiter: Some("/".into()),
            max_keys: 2,
            encodes_url,
            is_truncated: true,
            objects: vec![ListedObject {
                key: "a b<\u{1}>".into(),
                last_modified_ms: 1_500,
                etag: "e-2".into(),
                size_bytes: 7,
                checksum_algorithms: vec!["CRC32"],
                checksum_type: Some("COMPOSITE"),
                owner: Some(Owner {
                    id: "i".into(),
                    display_name: "d".into(),
                }),
            }],
            common_prefixes: vec!["a b/".into()],
        }
    }

    #[test]
    fn version_2_is_written_in_full() {
        let v2 = ListV2 {
            continuation_token: Some("t1".into()),
            next_continuation_token: Some("t2".into()),
            start_after: Some("a b".into()),
        };
        assert_eq!(
            leaves(&list_objects_v2(&page(true), &v2)),
            [
                "Name=bkt",
                "Prefix=a%20b",
                "ContinuationToken=t1",
                "NextContinuationToken=t2",
                "StartAfter=a%20b",
                "KeyCount=2",
                "MaxKeys=2",
                "Delimiter=/",
                "EncodingType=url",
                "IsTruncated=true",
                "Contents/Key=a%20b%3C%01%3E",
                "Contents/LastModified=1970-01-01T00:00:01.000Z",
                "Contents/ETag=\"e-2\"",
                "Contents/ChecksumAlgorithm=CRC32",
                "Contents/ChecksumType=COMPOSITE",
                "Contents/Size=7",
                "Contents/Owner/ID=i",
                "Contents/Owner/DisplayName=d",
                "Contents/StorageClass=STANDARD",
                "CommonPrefixes/Prefix=a%20b/",
            ]
        );
    }

    #[test]
    fn every_object_is_its_own_latest_version() {
        let markers = VersionMarkers {
            key_marker: "a b".into(),
            version_id_marker: "null".into(),
            next_key_marker: Some("a b/".into()),
            next_is_version: false,
        };
        let seen = leaves(&list_object_versions(&page(true), &markers));
        assert_eq!(
            seen[..9],
            [
                "Name=bkt",
                "Prefix=a%20b",
                "KeyMarker=a%20b",
                "VersionIdMarker=null",
                "NextKeyMarker=a%20b/",
                "MaxKeys=2",
                "Delimiter=/",
                "EncodingType=url",
                "IsTruncated=true",
            ]
        );
        assert_eq!(
            seen[9..12],
            [
                "Version/Key=a%20b%3C%01%3E",
                "Version/VersionId=null",
                "Version/IsLatest=true"
            ]
        );
        assert!(seen.contains(&"CommonPrefixes/Prefix=a%20b/".to_owned()));
        let markers = VersionMarkers {
            next_is_version: true,
            ..markers
        };
        assert!(
            leaves(&list_object_versions(&page(true), &markers))
                .contains(&"NextVersionIdMarker=null".to_owned())
        );
    }

    #[test]
    fn version_1_has_markers_and_plain_names() {
        let seen = leaves(&list_objects(&page(false), "m&", Some("n")));
        assert_eq!(
            seen[..4],
            ["Name=bkt", "Prefix=a b", "Marker=m&", "NextMarker=n"]
        );
        assert!(seen.contains(&"Contents/Key=a b<\u{fffd}>".to_owned()));
        assert!(
            !seen
                .iter()
                .any(|leaf| leaf.starts_with("EncodingType") || leaf.starts_with("KeyCount"))
        );
    }
}
