//! The headers that S3 keeps with an object: what is stored, what a request may override, and how they are answered.
//!
//! A stored value is the header's bytes, each as the character of the same number (U+0000 to U+00FF): UTF-8 and Latin-1
//! both come back exactly as they were sent, RFC 2047 words included. Promises: no stored value and no override ever
//! makes a new header line.

use super::error::{ErrorCode, S3Error};
use super::query::Query;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, header};

/// What S3 answers for an object that was stored without a type.
pub const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";
/// Names (without `x-amz-meta-`) and values together
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>).
pub const METADATA_BYTES_MAX: usize = 2 * 1024;
/// The header section of a request; S3's own limit.
pub const SECTION_BYTES_MAX: usize = 8 * 1024;
/// The prefix of user metadata.
pub const METADATA_PREFIX: &str = "x-amz-meta-";

/// The standard headers that are stored, by lower-case name.
pub const STORED: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
];

/// What a request asks to be stored with the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectHeaders {
    /// Standard headers: lower-case name and value, in the order of [`STORED`]; `content-type` is always there.
    pub headers: Vec<(String, String)>,
    /// User metadata: lower-case name without its prefix, and value; sorted, each name once.
    pub metadata: Vec<(String, String)>,
}

impl ObjectHeaders {
    /// Takes them from a PUT, a CreateMultipartUpload, or a copy that replaces metadata.
    pub fn from_request(headers: &HeaderMap) -> Result<Self, S3Error> {
        Ok(Self {
            headers: standard_headers(headers),
            metadata: user_metadata(headers)?,
        })
    }
}

fn standard_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut stored = Vec::new();
    for name in STORED {
        let mut value = joined(headers, name);
        if name == "content-encoding" {
            value = value.and_then(|value| without_aws_chunked(&value));
        }
        if name == "content-type" {
            value = value
                .filter(|value| !value.is_empty())
                .or_else(|| Some(DEFAULT_CONTENT_TYPE.to_owned()));
        }
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            stored.push((name.to_owned(), value));
        }
    }
    stored
}

/// `aws-chunked` describes the request's body, not the object's bytes
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>).
fn without_aws_chunked(value: &str) -> Option<String> {
    if !value
        .split(',')
        .any(|coding| coding.trim().eq_ignore_ascii_case("aws-chunked"))
    {
        return Some(value.to_owned());
    }
    let kept: Vec<&str> = value
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

fn user_metadata(headers: &HeaderMap) -> Result<Vec<(String, String)>, S3Error> {
    let mut metadata = Vec::new();
    let mut size_bytes = 0;
    for name in headers.keys() {
        let Some(short) = name.as_str().strip_prefix(METADATA_PREFIX) else {
            continue;
        };
        if short.is_empty() {
            return Err(S3Error::invalid_argument(
                "A metadata header must have a name",
                name.as_str(),
                "",
            ));
        }
        let value = joined(headers, name.as_str()).unwrap_or_default();
        // One character of the text is one byte of the header.
        size_bytes += short.len() + value.chars().count();
        metadata.push((short.to_owned(), value));
    }
    if size_bytes > METADATA_BYTES_MAX {
        return Err(S3Error::new(ErrorCode::MetadataTooLarge)
            .with_extra("Size", size_bytes.to_string())
            .with_extra("MaxSizeAllowed", METADATA_BYTES_MAX.to_string()));
    }
    metadata.sort();
    Ok(metadata)
}

/// The header's value as text; several lines of one name are one list (RFC 9110, 5.3), joined as S3 joins them.
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let mut text: String = text_of(values.next()?.as_bytes());
    for value in values {
        text.push(',');
        text.push_str(&text_of(value.as_bytes()));
    }
    Some(text)
}

fn text_of(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// What a copy does with the source's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataDirective {
    /// The source's headers and metadata, the request's ignored.
    Copy,
    /// The request's, the source's ignored.
    Replace,
}

impl MetadataDirective {
    /// Reads `x-amz-metadata-directive`; copying is the default.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, S3Error> {
        match joined(headers, "x-amz-metadata-directive").as_deref() {
            None | Some("COPY") => Ok(Self::Copy),
            Some("REPLACE") => Ok(Self::Replace),
            Some(other) => Err(S3Error::invalid_argument(
                "Unknown metadata directive.",
                "x-amz-metadata-directive",
                other,
            )),
        }
    }
}

/// The `response-*` parameters of a GET or HEAD
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseOverrides {
    overrides: Vec<(&'static str, HeaderValue)>,
}

impl ResponseOverrides {
    /// Reads them. A control character is refused: it could end the header line.
    pub fn from_query(query: &Query) -> Result<Self, S3Error> {
        let mut overrides = Vec::new();
        for name in STORED {
            let parameter = format!("response-{name}");
            let Some(value) = query.get(&parameter) else {
                continue;
            };
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
                S3Error::invalid_argument("Header value cannot be represented.", parameter, value)
            })?;
            overrides.push((name, value));
        }
        Ok(Self { overrides })
    }

    /// Overrides need a signature: otherwise anyone could have a stranger's public object served as a web page.
    pub fn refuse_if_anonymous(&self, is_anonymous: bool) -> Result<(), S3Error> {
        if is_anonymous && !self.overrides.is_empty() {
            return Err(S3Error::with_message(
                ErrorCode::InvalidRequest,
                "Request specific response headers cannot be used for anonymous GET requests.",
            ));
        }
        Ok(())
    }

    /// Puts them over what the answer has.
    pub fn apply(&self, answer: &mut HeaderMap) {
        for (name, value) in &self.overrides {
            answer.insert(*name, value.clone());
        }
    }
}

/// Writes an object's stored headers and metadata into an answer.
///
/// A byte that no header may hold (it cannot come from a request, but a disk may hold anything) becomes a space; a name
/// that no header may have is counted in `x-amz-missing-meta`, as S3 does.
pub fn write_stored(
    headers: &[(String, String)],
    metadata: &[(String, String)],
    answer: &mut HeaderMap,
) {
    for (name, value) in headers {
        if let Some(name) = STORED.iter().find(|known| *known == name) {
            answer.insert(*name, value_of(value));
        }
    }
    if !answer.contains_key(header::CONTENT_TYPE) {
        answer.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(DEFAULT_CONTENT_TYPE),
        );
    }
    let mut missing = 0_u32;
    for (name, value) in metadata {
        match HeaderName::from_bytes(format!("{METADATA_PREFIX}{name}").as_bytes()) {
            Ok(name) => {
                answer.insert(name, value_of(value));
            }
            Err(_) => missing += 1,
        }
    }
    if missing > 0 {
        answer.insert("x-amz-missing-meta", HeaderValue::from(missing));
    }
}

fn value_of(text: &str) -> HeaderValue {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u8::try_from(c) {
            Ok(byte) if byte < b' ' && byte != b'\t' || byte == 0x7f => bytes.push(b' '),
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    HeaderValue::from_bytes(&bytes).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Refuses a header section above S3's 8 KB, counted as name, value and the four bytes around them.
pub fn check_section_size(headers: &HeaderMap) -> Result<(), S3Error> {
    let size_bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if size_bytes > SECTION_BYTES_MAX {
        return Err(S3Error::new(ErrorCode::RequestHeaderSectionTooLarge)
            .with_extra("MaxSizeAllowed", SECTION_BYTES_MAX.to_string()));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn answer_to(request: &HeaderMap) -> HeaderMap {
        let stored = ObjectHeaders::from_request(request).unwrap();
        let mut answer = HeaderMap::new();
        write_stored(&stored.headers, &stored.metadata, &mut answer);
        answer
    }

    #[test]
    fn what_is_stored_is_answered_byte_by_byte() {
        let pairs: [(&str, &[u8]); 9] = [
            ("content-type", b"text/html; charset=utf-8"),
            ("cache-control", b"max-age=1"),
            (
                "content-disposition",
                "attachment; filename=\"\u{fc}.txt\"".as_bytes(),
            ),
            ("content-language", b"de"),
            ("expires", b"not a date"),
            ("x-amz-meta-latin", b"Hello World\xe9"),
            ("x-amz-meta-utf8", "Hello World\u{e9}\u{1f600}".as_bytes()),
            ("x-amz-meta-word", b"=?UTF-8?B?w6k=?="),
            ("x-amz-meta-empty", b""),
        ];
        assert_eq!(answer_to(&map(&pairs)), map(&pairs));
    }

    #[test]
    fn row_71_the_type_is_answered_as_stored() {
        assert_eq!(
            answer_to(&map(&[("content-type", b"text/html")]))["content-type"],
            "text/html"
        );
        assert_eq!(
            answer_to(&HeaderMap::new())["content-type"],
            DEFAULT_CONTENT_TYPE
        );
    }

    #[test]
    fn aws_chunked_is_no_encoding_of_the_object() {
        for (sent, stored) in [
            ("aws-chunked", None),
            ("AWS-Chunked,", None),
            ("aws-chunked,gzip", Some("gzip")),
            ("gzip, aws-chunked, br", Some("gzip,br")),
            ("gzip, br", Some("gzip, br")),
            ("", None),
        ] {
            let answer = answer_to(&map(&[("content-encoding", sent.as_bytes())]));
            assert_eq!(
                answer.get("content-encoding").map(|v| v.to_str().unwrap()),
                stored,
                "{sent}"
            );
        }
        let two = map(&[
            ("content-encoding", b"aws-chunked"),
            ("content-encoding", b"gzip"),
        ]);
        assert_eq!(answer_to(&two)["content-encoding"], "gzip");
    }

    #[test]
    fn repeated_metadata_is_one_list() {
        assert_eq!(
            answer_to(&map(&[("x-amz-meta-a", b"1"), ("x-amz-meta-a", b"2")]))["x-amz-meta-a"],
            "1,2"
        );
    }

    #[test]
    fn metadata_has_2048_bytes() {
        let fits = map(&[("x-amz-meta-a", &[b'x'; 2047])]);
        assert!(ObjectHeaders::from_request(&fits).is_ok());
        let umlauts = map(&[("x-amz-meta-a", "\u{e9}".repeat(1023).as_bytes())]);
        assert!(ObjectHeaders::from_request(&umlauts).is_ok());
        for value in [vec![b'x'; 2048], "\u{e9}".repeat(1024).into_bytes()] {
            let error = ObjectHeaders::from_request(&map(&[("x-amz-meta-a", &value)])).unwrap_err();
            assert_eq!(error.code, ErrorCode::MetadataTooLarge);
        }
    }

    #[test]
    fn row_69_an_override_never_makes_a_header_line() {
        for name in STORED {
            for value in [
                "a%0D%0Ax-evil:%201",
                "a%0Ab",
                "a%0Db",
                "a%00b",
                "%7F",
                "%01",
            ] {
                let query = Query::parse(&format!("response-{name}={value}")).unwrap();
                let error = ResponseOverrides::from_query(&query).unwrap_err();
                assert_eq!(error.code, ErrorCode::InvalidArgument, "{name} {value}");
            }
        }
        let query = Query::parse(
            "response-content-type=text/plain%3B%20a&response-expires=x&response-foo=y",
        )
        .unwrap();
        let mut answer = map(&[("content-type", b"text/html")]);
        ResponseOverrides::from_query(&query)
            .unwrap()
            .apply(&mut answer);
        assert_eq!(
            answer,
            map(&[("content-type", b"text/plain; a"), ("expires", b"x")])
        );
    }

    #[test]
    fn row_68_overrides_are_not_for_anonymous_callers() {
        let query = Query::parse("response-content-type=text/html").unwrap();
        let overrides = ResponseOverrides::from_query(&query).unwrap();
        assert_eq!(
            overrides.refuse_if_anonymous(true).unwrap_err().code,
            ErrorCode::InvalidRequest
        );
        assert!(overrides.refuse_if_anonymous(false).is_ok());
        assert!(
            ResponseOverrides::default()
                .refuse_if_anonymous(true)
                .is_ok()
        );
    }

    #[test]
    fn a_damaged_stored_value_never_makes_a_header_line() {
        let mut answer = HeaderMap::new();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        write_stored(
            &[
                pair("content-type", "a\r\nx-evil: 1"),
                pair("set-cookie", "x"),
            ],
            &[
                pair("a", "b\0c\u{20ac}"),
                pair("x\r\ny", "z"),
                pair("", "z"),
            ],
            &mut answer,
        );
        assert_eq!(answer["content-type"], "a  x-evil: 1");
        assert_eq!(answer["x-amz-meta-a"].as_bytes(), "b c\u{20ac}".as_bytes());
        assert!(!answer.contains_key("set-cookie") && !answer.contains_key("x-evil"));
        assert_eq!(answer["x-amz-missing-meta"], "1");
    }

    #[test]
    fn row_103_a_large_header_section_is_refused() {
        for size in [16 * 1024, 100 * 1024] {
            let headers = map(&[("x-amz-meta-a", &vec![b'x'; size])]);
            assert_eq!(
                check_section_size(&headers).unwrap_err().code,
                ErrorCode::RequestHeaderSectionTooLarge
            );
        }
        assert!(check_section_size(&map(&[("x-amz-meta-a", &[b'x'; 2048])])).is_ok());
    }

    #[test]
    fn an_unknown_metadata_directive_is_refused() {
        let read = |value: &[u8]| {
            MetadataDirective::from_headers(&map(&[("x-amz-metadata-directive", value)]))
        };
        assert_eq!(read(b"REPLACE").unwrap(), MetadataDirective::Replace);
        assert_eq!(read(b"COPY").unwrap(), MetadataDirective::Copy);
        assert_eq!(
            read(b"replace").unwrap_err().code,
            ErrorCode::InvalidArgument
        );
        assert_eq!(
            MetadataDirective::from_headers(&HeaderMap::new()).unwrap(),
            MetadataDirective::Copy
        );
    }
}
