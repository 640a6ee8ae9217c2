//! `x-amz-copy-source`: which object a copy reads
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>).
//!
//! The version is split off before the rest is decoded, so an encoded `?` belongs to the key. Parsed once: the
//! permission check and the read see the same result.

use super::error::{ErrorCode, S3Error};
use super::headers::MetadataDirective;
use super::names::{self, BucketName, VersionId};
use http::HeaderMap;
use ringfort_wire::id::ObjectKey;

/// The header's name.
pub const COPY_SOURCE: &str = "x-amz-copy-source";

/// The object that a copy reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopySource {
    /// Its bucket.
    pub bucket: BucketName,
    /// Its key.
    pub key: ObjectKey,
    /// The version asked for, if any.
    pub version: Option<VersionId>,
}

impl CopySource {
    /// Reads the header's value: `bucket/key` or `/bucket/key`, percent-encoded, with `?versionId=` at the end or not.
    pub fn parse(value: &str) -> Result<Self, S3Error> {
        let refuse = |message: &'static str| S3Error::invalid_argument(message, COPY_SOURCE, value);
        let (path, version) = match value.split_once("?versionId=") {
            Some((path, version)) => (path, Some(VersionId::parse(version)?)),
            None => (value, None),
        };
        // Any other raw `?` is a query that S3 does not know here; taking it for a part of the key would be a guess.
        if path.contains('?') {
            return Err(refuse("Invalid copy source query string"));
        }
        // Tools encode the whole value, slashes too, so the split into bucket and key comes after the decoding.
        let decoded = names::percent_decode(path)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| refuse("Invalid copy source encoding"))?;
        let decoded = decoded.strip_prefix('/').unwrap_or(&decoded);
        let Some((bucket, key)) = decoded.split_once('/') else {
            return Err(refuse("Invalid copy source object key"));
        };
        if key.is_empty() || key.contains('\0') {
            return Err(refuse("Invalid copy source object key"));
        }
        Ok(Self {
            bucket: BucketName::parse(bucket)
                .map_err(|_| refuse("Invalid copy source bucket name"))?,
            key: names::object_key(key.to_owned())?,
            version,
        })
    }

    /// Refuses a copy of an object onto itself that changes nothing.
    pub fn refuse_onto_itself(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        directive: MetadataDirective,
    ) -> Result<(), S3Error> {
        if directive == MetadataDirective::Copy && self.bucket == *bucket && self.key == *key {
            return Err(S3Error::with_message(
                ErrorCode::InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the \
                 object's metadata, storage class, website redirect location or encryption attributes.",
            ));
        }
        Ok(())
    }

    /// The source that the headers name. `None` where the request is no copy; an empty or repeated header is refused,
    /// for a copy taken for a plain PUT would empty the object.
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, S3Error> {
        let mut values = headers.get_all(COPY_SOURCE).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(S3Error::with_message(
                ErrorCode::InvalidArgument,
                "The copy source header was given more than once",
            ));
        }
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| {
            S3Error::invalid_argument("Invalid copy source encoding", COPY_SOURCE, "")
        })?;
        Self::parse(value).map(Some)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<(String, String), ErrorCode> {
        CopySource::parse(value)
            .map(|s| (s.bucket.as_str().to_owned(), s.key.as_str().to_owned()))
            .map_err(|e| e.code)
    }

    fn is(bucket: &str, key: &str) -> Result<(String, String), ErrorCode> {
        Ok((bucket.to_owned(), key.to_owned()))
    }

    #[test]
    fn a_source_is_read_with_and_without_its_slash() {
        assert_eq!(parse("bucket/a/b"), is("bucket", "a/b"));
        assert_eq!(parse("/bucket/a/b"), is("bucket", "a/b"));
        assert_eq!(parse("%2Fbucket%2Fa%2Fb"), is("bucket", "a/b"));
        assert_eq!(parse("bucket//a"), is("bucket", "/a"));
        assert_eq!(parse("bucket/a+b%20c%2Bd"), is("bucket", "a+b c+d"));
        assert_eq!(parse("bucket/ключ"), is("bucket", "ключ"));
    }

    #[test]
    fn row_119_an_empty_source_is_refused() {
        for value in ["", "/", "//"] {
            assert_eq!(parse(value), Err(ErrorCode::InvalidArgument), "{value:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(COPY_SOURCE, "".parse().unwrap());
        assert_eq!(
            CopySource::from_headers(&headers).unwrap_err().code,
            ErrorCode::InvalidArgument
        );
        headers.insert(COPY_SOURCE, "bucket/a".parse().unwrap());
        assert!(CopySource::from_headers(&headers).unwrap().is_some());
        headers.append(COPY_SOURCE, "bucket/b".parse().unwrap());
        assert_eq!(
            CopySource::from_headers(&headers).unwrap_err().code,
            ErrorCode::InvalidArgument
        );
    }

    #[test]
    fn row_120_odd_sources_are_refused() {
        for value in [
            "bucket",
            "bucket/",
            "/bucket/",
            "//bucket/a",
            "bucket/a%ZZ",
            "bucket/%",
            "http://host/bucket/a",
            "../bucket/a",
            "%2e%2e/b/a",
            "bucket/a%00b",
            "bucket/%ff",
            "bucket/a?versionId=zz",
            "bucket/a?versionId=",
            "bucket/a?x=1",
        ] {
            assert_eq!(parse(value), Err(ErrorCode::InvalidArgument), "{value}");
        }
        assert_eq!(
            parse(&format!("bucket/{}", "a".repeat(1025))),
            Err(ErrorCode::KeyTooLongError)
        );
    }

    #[test]
    fn row_79_dots_in_a_source_stay_inside_its_bucket() {
        assert_eq!(parse("bucket/../other/a"), is("bucket", "../other/a"));
        assert_eq!(parse("bucket/%2e%2e%2fother/a"), is("bucket", "../other/a"));
    }

    #[test]
    fn row_121_an_encoded_question_mark_belongs_to_the_key() {
        assert_eq!(
            parse("bucket/k%3FversionId=zz"),
            is("bucket", "k?versionId=zz")
        );
        let source = CopySource::parse("bucket/k%3Fa?versionId=null").unwrap();
        assert_eq!(
            (source.key.as_str(), source.version),
            ("k?a", Some(VersionId::Null))
        );
    }

    #[test]
    fn row_123_a_copy_onto_itself_must_change_something() {
        let source = CopySource::parse("bucket/a").unwrap();
        let (bucket, key) = (source.bucket.clone(), source.key.clone());
        let check = |bucket: &BucketName, key: &ObjectKey, directive| {
            source
                .refuse_onto_itself(bucket, key, directive)
                .map_err(|e| e.code)
        };
        let other_bucket = BucketName::parse("other").unwrap();
        let other_key = ObjectKey::parse("a/").unwrap();
        assert_eq!(
            check(&bucket, &key, MetadataDirective::Copy),
            Err(ErrorCode::InvalidRequest)
        );
        assert_eq!(check(&bucket, &key, MetadataDirective::Replace), Ok(()));
        assert_eq!(check(&other_bucket, &key, MetadataDirective::Copy), Ok(()));
        assert_eq!(check(&bucket, &other_key, MetadataDirective::Copy), Ok(()));
    }
}
