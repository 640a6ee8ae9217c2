//! Answers about objects: CopyObject, UploadPartCopy, DeleteObjects, GetObjectAttributes.

use super::write::{Checksums, Document};
use crate::s3::error::{ErrorCode, S3Error};

fn copy_result(
    root: &'static str,
    etag: &str,
    last_modified_ms: u64,
    checksums: &Checksums,
) -> String {
    let mut document = Document::new(root);
    document.time("LastModified", last_modified_ms);
    document.etag(etag);
    document.checksums(checksums);
    document.finish()
}

/// `CopyObjectResult`; the ETag without quotes.
#[must_use]
pub fn copy_object(etag: &str, last_modified_ms: u64, checksums: &Checksums) -> String {
    copy_result("CopyObjectResult", etag, last_modified_ms, checksums)
}

/// `CopyPartResult`; the ETag without quotes.
#[must_use]
pub fn copy_part(etag: &str, last_modified_ms: u64, checksums: &Checksums) -> String {
    copy_result("CopyPartResult", etag, last_modified_ms, checksums)
}

/// What became of one entry of a DeleteObjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteOutcome {
    /// The key as sent.
    pub key: String,
    /// The version id as sent.
    pub version_id: Option<String>,
    /// Gone, or why not.
    pub result: Result<(), S3Error>,
}

/// `DeleteResult`; a quiet one leaves out what succeeded.
#[must_use]
pub fn delete_objects(outcomes: &[DeleteOutcome], is_quiet: bool) -> String {
    let mut document = Document::new("DeleteResult");
    for outcome in outcomes {
        match &outcome.result {
            Ok(()) if is_quiet => {}
            Ok(()) => {
                document.open("Deleted");
                document.text("Key", &outcome.key);
                document.optional("VersionId", outcome.version_id.as_deref());
                document.close("Deleted");
            }
            Err(error) => {
                document.open("Error");
                document.text("Key", &outcome.key);
                document.optional("VersionId", outcome.version_id.as_deref());
                document.text("Code", error.code.as_str());
                document.text("Message", &error.message);
                document.close("Error");
            }
        }
    }
    document.finish()
}

/// Which attributes were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WantedAttributes {
    /// `ETag`.
    pub etag: bool,
    /// `Checksum`.
    pub checksum: bool,
    /// `ObjectParts`.
    pub parts: bool,
    /// `StorageClass`.
    pub storage_class: bool,
    /// `ObjectSize`.
    pub size: bool,
}

impl WantedAttributes {
    /// Reads `x-amz-object-attributes`: at least one known name, several lines or commas. Unknown ones are refused.
    pub fn from_headers(headers: &http::HeaderMap) -> Result<Self, S3Error> {
        const NAME: &str = "x-amz-object-attributes";
        let refuse = |value: &str| {
            S3Error::invalid_argument("Invalid attribute name specified.", NAME, value)
        };
        let mut wanted = Self::default();
        for line in headers.get_all(NAME) {
            let line = line.to_str().map_err(|_| refuse(""))?;
            for name in line
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
            {
                match name {
                    "ETag" => wanted.etag = true,
                    "Checksum" => wanted.checksum = true,
                    "ObjectParts" => wanted.parts = true,
                    "StorageClass" => wanted.storage_class = true,
                    "ObjectSize" => wanted.size = true,
                    other => return Err(refuse(other)),
                }
            }
        }
        if wanted == Self::default() {
            return Err(S3Error::with_message(
                ErrorCode::InvalidRequest,
                "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty",
            ));
        }
        Ok(wanted)
    }
}

/// One part in `ObjectParts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributesPart {
    /// 1 to 10,000.
    pub number: u16,
    /// Its size.
    pub size_bytes: u64,
    /// Its checksums; the type is not written here.
    pub checksums: Checksums,
}

/// `ObjectParts`: the count, and one page of parts where they have checksums of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributesParts {
    /// Parts of the object.
    pub total: u32,
    /// Echo.
    pub part_number_marker: u16,
    /// The last part of the page.
    pub next_part_number_marker: u16,
    /// As capped.
    pub max_parts: u32,
    /// More would follow.
    pub is_truncated: bool,
    /// The page.
    pub parts: Vec<AttributesPart>,
}

/// What there is to answer; what was not asked for is left out by the writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectAttributes {
    /// Without quotes, and written without: this answer alone has them bare.
    pub etag: String,
    /// Of the whole object.
    pub checksums: Checksums,
    /// `None` for an object that was not uploaded in parts.
    pub parts: Option<AttributesParts>,
    /// Its size.
    pub size_bytes: u64,
}

/// `GetObjectAttributesResponse`
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAttributes.html>).
#[must_use]
pub fn object_attributes(wanted: WantedAttributes, object: &ObjectAttributes) -> String {
    let mut document = Document::new("GetObjectAttributesResponse");
    if wanted.etag {
        document.text("ETag", &object.etag);
    }
    if wanted.checksum && !object.checksums.values.is_empty() {
        document.open("Checksum");
        document.checksums(&object.checksums);
        document.close("Checksum");
    }
    if let Some(parts) = object.parts.as_ref().filter(|_| wanted.parts) {
        object_parts(&mut document, parts);
    }
    if wanted.storage_class {
        document.text("StorageClass", "STANDARD");
    }
    if wanted.size {
        document.value("ObjectSize", object.size_bytes);
    }
    document.finish()
}

fn object_parts(document: &mut Document, parts: &AttributesParts) {
    document.open("ObjectParts");
    // The member is called TotalPartsCount in the SDKs and PartsCount on the wire.
    document.value("PartsCount", parts.total);
    if !parts.parts.is_empty() {
        document.value("PartNumberMarker", parts.part_number_marker);
        document.value("NextPartNumberMarker", parts.next_part_number_marker);
        document.value("MaxParts", parts.max_parts);
        document.value("IsTruncated", parts.is_truncated);
        for part in &parts.parts {
            document.open("Part");
            document.value("PartNumber", part.number);
            document.value("Size", part.size_bytes);
            document.checksums(&Checksums {
                values: part.checksums.values.clone(),
                kind: None,
            });
            document.close("Part");
        }
    }
    document.close("ObjectParts");
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::super::write::tests::leaves;
    use super::*;

    fn crc() -> Checksums {
        Checksums {
            values: vec![("ChecksumCRC32", "AAAAAA==".into())],
            kind: Some("FULL_OBJECT"),
        }
    }

    #[test]
    fn a_copy_is_answered_with_its_checksums() {
        let expected = [
            "LastModified=1970-01-01T00:00:00.000Z",
            "ETag=\"e\"",
            "ChecksumCRC32=AAAAAA==",
            "ChecksumType=FULL_OBJECT",
        ];
        assert_eq!(leaves(&copy_object("e", 0, &crc())), expected);
        assert_eq!(leaves(&copy_part("e", 0, &crc())), expected);
    }

    #[test]
    fn a_quiet_delete_answers_only_failures() {
        let outcomes = [
            DeleteOutcome {
                key: "a<".into(),
                version_id: Some("null".into()),
                result: Ok(()),
            },
            DeleteOutcome {
                key: "b".into(),
                version_id: None,
                result: Err(ErrorCode::AccessDenied.into()),
            },
        ];
        let failure = [
            "Error/Key=b",
            "Error/Code=AccessDenied",
            "Error/Message=Access Denied",
        ];
        assert_eq!(leaves(&delete_objects(&outcomes, true)), failure);
        let all = leaves(&delete_objects(&outcomes, false));
        assert_eq!(all[..2], ["Deleted/Key=a<", "Deleted/VersionId=null"]);
        assert_eq!(all[2..], failure);
    }

    #[test]
    fn only_the_attributes_asked_for_are_answered() {
        let object = ObjectAttributes {
            etag: "e-1".into(),
            checksums: crc(),
            parts: Some(AttributesParts {
                total: 1,
                part_number_marker: 0,
                next_part_number_marker: 1,
                max_parts: 1000,
                is_truncated: false,
                parts: vec![AttributesPart {
                    number: 1,
                    size_bytes: 5,
                    checksums: crc(),
                }],
            }),
            size_bytes: 5,
        };
        let mut headers = http::HeaderMap::new();
        headers.append(
            "x-amz-object-attributes",
            "ETag, ObjectSize".parse().unwrap(),
        );
        let wanted = WantedAttributes::from_headers(&headers).unwrap();
        assert_eq!(
            leaves(&object_attributes(wanted, &object)),
            ["ETag=e-1", "ObjectSize=5"]
        );
        headers.append(
            "x-amz-object-attributes",
            "Checksum,ObjectParts,StorageClass".parse().unwrap(),
        );
        let wanted = WantedAttributes::from_headers(&headers).unwrap();
        assert_eq!(
            leaves(&object_attributes(wanted, &object)),
            [
                "ETag=e-1",
                "Checksum/ChecksumCRC32=AAAAAA==",
                "Checksum/ChecksumType=FULL_OBJECT",
                "ObjectParts/PartsCount=1",
                "ObjectParts/PartNumberMarker=0",
                "ObjectParts/NextPartNumberMarker=1",
                "ObjectParts/MaxParts=1000",
                "ObjectParts/IsTruncated=false",
                "ObjectParts/Part/PartNumber=1",
                "ObjectParts/Part/Size=5",
                "ObjectParts/Part/ChecksumCRC32=AAAAAA==",
                "StorageClass=STANDARD",
                "ObjectSize=5",
            ]
        );
    }

    #[test]
    fn unknown_and_missing_attributes_are_refused() {
        let read = |value: &str| {
            let mut headers = http::HeaderMap::new();
            headers.append("x-amz-object-attributes", value.parse().unwrap());
            WantedAttributes::from_headers(&headers).unwrap_err().code
        };
        assert_eq!(read("Etag"), ErrorCode::InvalidArgument);
        assert_eq!(read("ETag,Colour"), ErrorCode::InvalidArgument);
        assert_eq!(read(""), ErrorCode::InvalidRequest);
        let none = WantedAttributes::from_headers(&http::HeaderMap::new()).unwrap_err();
        assert_eq!(none.code, ErrorCode::InvalidRequest);
    }
}
