//! The body of DeleteObjects (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>).
//!
//! The whole document is read before anything is deleted. An element that is not known is refused: it could be a
//! condition, and an ignored condition deletes what the client wants kept.

use super::DELETE_BYTES_MAX;
use super::read::{Step, malformed, set_once, walk};
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::names::{self, VersionId};
use crate::s3::time;
use ringfort_wire::id::ObjectKey;

/// Keys in one request.
pub const KEYS_MAX: usize = 1_000;

/// A whole request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRequest {
    /// Only failures are answered.
    pub is_quiet: bool,
    /// 1 to 1,000, in the order sent.
    pub objects: Vec<DeleteEntry>,
}

/// One object to delete, and the conditions on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteEntry {
    /// The key as sent, to be echoed; not empty.
    pub key: String,
    /// The version id as sent.
    pub version_id: Option<String>,
    /// Delete only if the ETag is this one (or `*`); as sent, with or without quotes.
    pub etag: Option<String>,
    /// Delete only if it was last modified at this second.
    pub last_modified_ms: Option<u64>,
    /// Delete only if it has this size.
    pub size_bytes: Option<u64>,
}

impl DeleteEntry {
    /// The key as a key: the same check as for one in a path. Its refusal is this entry's error, not the request's.
    pub fn object_key(&self) -> Result<ObjectKey, S3Error> {
        names::object_key(self.key.clone())
    }

    /// The version, checked as in a query.
    pub fn version(&self) -> Result<Option<VersionId>, S3Error> {
        self.version_id.as_deref().map(VersionId::parse).transpose()
    }
}

#[derive(Default)]
struct Draft {
    key: Option<String>,
    version_id: Option<String>,
    etag: Option<String>,
    last_modified_ms: Option<u64>,
    size_bytes: Option<u64>,
}

/// Reads the body.
pub fn read_delete(body: &[u8]) -> Result<DeleteRequest, S3Error> {
    if body.is_empty() {
        return Err(ErrorCode::MissingRequestBodyError.into());
    }
    let mut quiet = None;
    let mut objects: Vec<DeleteEntry> = Vec::new();
    let mut draft = Draft::default();
    walk(body, DELETE_BYTES_MAX, "Delete", |step| match step {
        Step::Open(["Object"]) if objects.len() == KEYS_MAX => Err(malformed()),
        Step::Open(_) => Ok(()),
        Step::Close(["Quiet"], text) => set_once(&mut quiet, boolean(&text)?),
        Step::Close(["Object", "Key"], text) => set_once(&mut draft.key, text),
        Step::Close(["Object", "VersionId"], text) => set_once(&mut draft.version_id, text),
        Step::Close(["Object", "ETag"], text) => set_once(&mut draft.etag, text),
        Step::Close(["Object", "LastModifiedTime"], text) => {
            let time_ms = time::parse_http_date(&text).or_else(|| time::parse_iso8601(text.trim()));
            set_once(&mut draft.last_modified_ms, time_ms.ok_or_else(malformed)?)
        }
        Step::Close(["Object", "Size"], text) => set_once(&mut draft.size_bytes, number(&text)?),
        Step::Close(["Object"], _) => {
            let draft = std::mem::take(&mut draft);
            objects.push(DeleteEntry {
                key: draft
                    .key
                    .filter(|key| !key.is_empty())
                    .ok_or_else(malformed)?,
                version_id: draft.version_id,
                etag: draft.etag,
                last_modified_ms: draft.last_modified_ms,
                size_bytes: draft.size_bytes,
            });
            Ok(())
        }
        Step::Close(..) => Err(malformed()),
    })?;
    if objects.is_empty() {
        return Err(malformed());
    }
    Ok(DeleteRequest {
        is_quiet: quiet.unwrap_or(false),
        objects,
    })
}

fn boolean(text: &str) -> Result<bool, S3Error> {
    match text.trim() {
        "true" | "True" | "TRUE" | "1" => Ok(true),
        "false" | "False" | "FALSE" | "0" => Ok(false),
        _ => Err(malformed()),
    }
}

fn number(text: &str) -> Result<u64, S3Error> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed());
    }
    text.parse().map_err(|_| malformed())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    fn code(body: &str) -> ErrorCode {
        read_delete(body.as_bytes()).unwrap_err().code
    }

    #[test]
    fn a_request_is_read_with_every_condition() {
        let body = "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key>a&amp;b &#x1;</Key></Object>\
            <Object><Key>../x</Key><VersionId>null</VersionId><ETag>\"e\"</ETag>\
            <LastModifiedTime>Sun, 06 Nov 1994 08:49:37 GMT</LastModifiedTime><Size>7</Size></Object>\
            <Quiet>true</Quiet></Delete>";
        let request = read_delete(body.as_bytes()).unwrap();
        assert!(request.is_quiet);
        assert_eq!(request.objects[0].key, "a&b \u{1}");
        assert_eq!(
            request.objects[1],
            DeleteEntry {
                key: "../x".into(),
                version_id: Some("null".into()),
                etag: Some("\"e\"".into()),
                last_modified_ms: Some(784_111_777_000),
                size_bytes: Some(7),
            }
        );
        assert_eq!(request.objects[1].version().unwrap(), Some(VersionId::Null));
    }

    #[test]
    fn row_79_a_key_in_a_body_is_opaque_text() {
        let entry = |key: &str| {
            let body = format!("<Delete><Object><Key>{key}</Key></Object></Delete>");
            read_delete(body.as_bytes())
                .unwrap()
                .objects
                .remove(0)
                .object_key()
                .map(|k| k.as_str().to_owned())
        };
        assert_eq!(entry("../other/x").unwrap(), "../other/x");
        assert_eq!(entry("a%2e%2e+b").unwrap(), "a%2e%2e+b");
        assert_eq!(entry(" a ").unwrap(), " a ");
        assert_eq!(
            entry(&"k".repeat(1025)).unwrap_err().code,
            ErrorCode::KeyTooLongError
        );
    }

    #[test]
    fn row_144_1001_keys_are_refused_whole() {
        let body = |count| {
            format!(
                "<Delete>{}</Delete>",
                "<Object><Key>k</Key></Object>".repeat(count)
            )
        };
        assert_eq!(
            read_delete(body(1000).as_bytes()).unwrap().objects.len(),
            1000
        );
        assert_eq!(code(&body(1001)), ErrorCode::MalformedXML);
    }

    #[test]
    fn row_145_a_body_of_5_mb_is_refused() {
        let body = format!(
            "<Delete><Object><Key>k</Key></Object>{}</Delete>",
            " ".repeat(5 << 20)
        );
        assert_eq!(code(&body), ErrorCode::MalformedXML);
    }

    #[test]
    fn the_longest_legal_keys_fit() {
        let object = format!("<Object><Key>{}</Key></Object>", "k".repeat(1024));
        assert!(
            read_delete(format!("<Delete>{}</Delete>", object.repeat(1000)).as_bytes()).is_ok()
        );
    }

    #[test]
    fn row_147_an_empty_body_is_refused() {
        assert_eq!(code(""), ErrorCode::MissingRequestBodyError);
    }

    #[test]
    fn row_143_what_is_odd_is_refused() {
        for body in [
            "<Delete/>",
            "<Delete><Quiet>true</Quiet></Delete>",
            "<Delete><Object/></Delete>",
            "<Delete><Object><Key/></Object></Delete>",
            "<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>",
            "<Delete><Object><Key>a</Key></Object><Quiet>true</Quiet><Quiet>false</Quiet></Delete>",
            "<Delete><Object><Key>a</Key></Object><Quiet>maybe</Quiet></Delete>",
            "<Delete><Object><Key>a</Key><Unless>x</Unless></Object></Delete>",
            "<Delete><Object><Key>a<b/></Key></Object></Delete>",
            "<Delete><Object><Key>a</Key><Size>-1</Size></Object></Delete>",
            "<Delete><Object><Key>a</Key><Size>99999999999999999999</Size></Object></Delete>",
            "<Delete><Object><Key>a</Key><LastModifiedTime>soon</LastModifiedTime></Object></Delete>",
            "<Delete><Key>a</Key></Delete>",
            "<Remove><Object><Key>a</Key></Object></Remove>",
            "<!DOCTYPE Delete><Delete><Object><Key>a</Key></Object></Delete>",
        ] {
            assert_eq!(code(body), ErrorCode::MalformedXML, "{body}");
        }
    }
}
