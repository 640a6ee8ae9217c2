//! What a request's headers say about checksums: `Content-MD5`, `x-amz-checksum-*`, `x-amz-trailer`,
//! `x-amz-sdk-checksum-algorithm`, and a multipart upload's `x-amz-checksum-algorithm` and `-type`.
//!
//! Everything named is understood or refused; nothing is passed over. Leaves out comparing (`payload`).

use super::checksum::{
    ChecksumAlgorithm, ChecksumType, ChecksumValue, MultipartChecksum, unsupported_type,
};
use super::error::{ErrorCode, S3Error};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderValue};

const CONTENT_MD5: &str = "content-md5";
const TRAILER: &str = "x-amz-trailer";
const SDK_ALGORITHM: &str = "x-amz-sdk-checksum-algorithm";
const CHECKSUM_PREFIX: &str = "x-amz-checksum-";
const ALGORITHM: &str = "x-amz-checksum-algorithm";
const TYPE: &str = "x-amz-checksum-type";
const MODE: &str = "x-amz-checksum-mode";

/// What a request promises about its body. Invariant: at most one of `declared` and `trailer` is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestChecksums {
    content_md5: Option<[u8; 16]>,
    declared: Option<ChecksumValue>,
    trailer: Option<ChecksumAlgorithm>,
}

impl RequestChecksums {
    /// Reads the headers of any request that has a body.
    ///
    /// # Errors
    /// `InvalidDigest` for a malformed `Content-MD5`; `InvalidRequest` for a malformed, unknown or second checksum, and
    /// for an announcement that nothing follows.
    pub fn parse(headers: &HeaderMap) -> Result<Self, S3Error> {
        let declared = declared(headers)?;
        let trailer = announced(headers)?;
        if declared.is_some() && trailer.is_some() {
            return Err(several());
        }
        let named = declared.as_ref().map(ChecksumValue::algorithm).or(trailer);
        check_sdk_algorithm(headers, named)?;
        Ok(Self {
            content_md5: content_md5(headers)?,
            declared,
            trailer,
        })
    }

    /// Reads `Content-MD5` alone, for a request whose checksum headers do not speak of its body.
    ///
    /// # Errors
    /// `InvalidDigest`.
    pub fn parse_content_md5(headers: &HeaderMap) -> Result<Self, S3Error> {
        Ok(Self {
            content_md5: content_md5(headers)?,
            ..Self::default()
        })
    }

    /// The MD5 that `Content-MD5` names.
    #[must_use]
    pub const fn content_md5(&self) -> Option<[u8; 16]> {
        self.content_md5
    }

    /// The value that a header declares.
    #[must_use]
    pub const fn declared(&self) -> Option<&ChecksumValue> {
        self.declared.as_ref()
    }

    /// The algorithm whose value the trailer is to bring.
    #[must_use]
    pub const fn trailer(&self) -> Option<ChecksumAlgorithm> {
        self.trailer
    }

    /// The algorithm that the client chose, in whichever way.
    #[must_use]
    pub fn algorithm(&self) -> Option<ChecksumAlgorithm> {
        self.declared
            .as_ref()
            .map(ChecksumValue::algorithm)
            .or(self.trailer)
    }

    /// Whether the body is vouched for at all, as DeleteObjects and some configuration calls demand.
    #[must_use]
    pub fn is_some(&self) -> bool {
        self.content_md5.is_some() || self.algorithm().is_some()
    }
}

/// The checksum that CreateMultipartUpload settles for its parts and its object; `None`: none was named.
///
/// # Errors
/// `InvalidRequest` for an unknown name, a type without an algorithm, or a pair that S3 does not have.
pub fn multipart_checksum(
    headers: &HeaderMap,
) -> Result<Option<(ChecksumAlgorithm, ChecksumType)>, S3Error> {
    let algorithm = single(headers, ALGORITHM)?
        .map(|name| {
            ChecksumAlgorithm::from_name(name).ok_or_else(|| {
                invalid(
                    "Checksum algorithm provided is unsupported. Please try again with any of the valid types: \
                     [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
                )
            })
        })
        .transpose()?;
    let checksum_type = multipart_checksum_type(headers)?;
    match (algorithm, checksum_type) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(invalid(
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
        )),
        (Some(algorithm), named) => {
            let checksum_type = named.unwrap_or(algorithm.default_type());
            if !algorithm.supports(checksum_type) {
                return Err(unsupported_type(algorithm, checksum_type));
            }
            Ok(Some((algorithm, checksum_type)))
        }
    }
}

/// `x-amz-checksum-type` alone, as CompleteMultipartUpload may repeat it.
///
/// # Errors
/// `InvalidRequest` for an unknown name.
pub fn multipart_checksum_type(headers: &HeaderMap) -> Result<Option<ChecksumType>, S3Error> {
    single(headers, TYPE)?
        .map(|name| ChecksumType::from_name(name).ok_or_else(|| invalid_value(TYPE)))
        .transpose()
}

/// The checksum that CompleteMultipartUpload says its object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectChecksum {
    /// The value.
    pub value: ChecksumValue,
    /// How many parts a composite value says it is made of; it may leave that out.
    pub parts: Option<usize>,
}

impl ObjectChecksum {
    /// Whether the object has this checksum.
    #[must_use]
    pub fn matches(&self, computed: &MultipartChecksum) -> bool {
        let parts_match = match self.parts {
            None => true,
            Some(parts) => {
                computed.checksum_type == ChecksumType::Composite && parts == computed.parts
            }
        };
        parts_match && self.value == computed.value
    }
}

/// The one `x-amz-checksum-<algorithm>` header of CompleteMultipartUpload, which speaks of the object.
///
/// # Errors
/// `InvalidRequest` for a malformed, unknown or second checksum.
pub fn object_checksum(headers: &HeaderMap) -> Result<Option<ObjectChecksum>, S3Error> {
    only_checksum(headers, |algorithm, text| {
        let (value, parts) = match text.rsplit_once('-') {
            Some((value, parts)) if parts.bytes().all(|b| b.is_ascii_digit()) => {
                (value, Some(parts.parse().ok()?))
            }
            Some(_) => return None,
            None => (text, None),
        };
        let value = ChecksumValue::parse(algorithm, value)?;
        Some(ObjectChecksum { value, parts })
    })
}

/// `Content-MD5`, decoded.
fn content_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, S3Error> {
    let invalid = || S3Error::new(ErrorCode::InvalidDigest);
    let mut values = headers.get_all(CONTENT_MD5).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() || value.len() > 64 {
        return Err(invalid());
    }
    let bytes = BASE64.decode(value.as_bytes()).map_err(|_| invalid())?;
    bytes.try_into().map(Some).map_err(|_| invalid())
}

/// The one `x-amz-checksum-<algorithm>` header of a body.
fn declared(headers: &HeaderMap) -> Result<Option<ChecksumValue>, S3Error> {
    only_checksum(headers, ChecksumValue::parse)
}

/// The one `x-amz-checksum-<algorithm>` header, read by `read`.
fn only_checksum<T>(
    headers: &HeaderMap,
    read: impl Fn(ChecksumAlgorithm, &str) -> Option<T>,
) -> Result<Option<T>, S3Error> {
    let mut only = None;
    for (name, value) in headers {
        let name = name.as_str();
        if !name.starts_with(CHECKSUM_PREFIX) || [ALGORITHM, TYPE, MODE].contains(&name) {
            continue;
        }
        let value = ChecksumAlgorithm::from_header_name(name)
            .and_then(|algorithm| read(algorithm, value.to_str().ok()?))
            .ok_or_else(|| invalid_value(name))?;
        if only.replace(value).is_some() {
            return Err(several());
        }
    }
    Ok(only)
}

/// The one checksum that `x-amz-trailer` announces. S3 knows no other trailers.
fn announced(headers: &HeaderMap) -> Result<Option<ChecksumAlgorithm>, S3Error> {
    let mut announced = None;
    for value in headers.get_all(TRAILER) {
        let text = value.to_str().map_err(|_| unknown_trailer())?;
        for name in text.split(',') {
            let algorithm =
                ChecksumAlgorithm::from_header_name(name.trim()).ok_or_else(unknown_trailer)?;
            if announced.replace(algorithm).is_some() {
                return Err(several());
            }
        }
    }
    Ok(announced)
}

/// SDKs name the algorithm they send a value of; a name without its value means the value was lost.
fn check_sdk_algorithm(
    headers: &HeaderMap,
    named: Option<ChecksumAlgorithm>,
) -> Result<(), S3Error> {
    let Some(name) = single(headers, SDK_ALGORITHM)? else {
        return Ok(());
    };
    let algorithm =
        ChecksumAlgorithm::from_name(name).ok_or_else(|| invalid_value(SDK_ALGORITHM))?;
    match named {
        None => Err(invalid(
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers \
             were found.",
        )),
        Some(other) if other != algorithm => Err(invalid_value(SDK_ALGORITHM)),
        Some(_) => Ok(()),
    }
}

/// A header that may stand once, as text.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, S3Error> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(HeaderValue::to_str).transpose();
    match (first, values.next()) {
        (Ok(value), None) => Ok(value.map(str::trim)),
        _ => Err(invalid_value(name)),
    }
}

fn invalid(message: &'static str) -> S3Error {
    S3Error::with_message(ErrorCode::InvalidRequest, message)
}

fn invalid_value(header: &str) -> S3Error {
    S3Error::with_message(
        ErrorCode::InvalidRequest,
        format!("Value for {header} header is invalid."),
    )
}

fn several() -> S3Error {
    invalid("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
}

fn unknown_trailer() -> S3Error {
    invalid("The value specified in the x-amz-trailer header is not supported")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use http::header::HeaderName;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    fn parse(lines: &[(&'static str, &str)]) -> Result<RequestChecksums, S3Error> {
        RequestChecksums::parse(&headers(lines))
    }

    #[track_caller]
    fn check_refused(lines: &[(&'static str, &str)]) {
        let error = parse(lines).unwrap_err();
        assert_eq!(
            (error.code, error.status()),
            (ErrorCode::InvalidRequest, 400),
            "{lines:?}"
        );
    }

    #[test]
    fn a_request_may_promise_nothing_a_value_or_a_trailer() {
        assert!(!parse(&[]).unwrap().is_some());
        let declared = parse(&[
            ("x-amz-checksum-crc32", "y/Q5Jg=="),
            ("x-amz-sdk-checksum-algorithm", "CRC32"),
            ("content-md5", "XrY7u+Ae7tCTyyK7j1rNww=="),
        ])
        .unwrap();
        assert_eq!(declared.declared().unwrap().to_base64(), "y/Q5Jg==");
        assert_eq!(
            hex::encode(declared.content_md5().unwrap()),
            "5eb63bbbe01eeed093cb22bb8f5acdc3"
        );
        let trailer = parse(&[
            ("x-amz-trailer", "x-amz-checksum-crc64nvme"),
            ("x-amz-sdk-checksum-algorithm", "crc64nvme"),
        ])
        .unwrap();
        assert_eq!(trailer.trailer(), Some(ChecksumAlgorithm::Crc64Nvme));
        assert_eq!(trailer.algorithm(), Some(ChecksumAlgorithm::Crc64Nvme));
    }

    #[test]
    fn row_97_a_malformed_content_md5_is_an_invalid_digest() {
        for value in [
            "",
            "not base64",
            "XrY7u+Ae7tCTyyK7",
            "5eb63bbbe01eeed093cb22bb8f5acdc3",
            "XrY7u+Ae7tCTyyK7j1rNww",
        ] {
            let error = parse(&[("content-md5", value)]).unwrap_err();
            assert_eq!(
                (error.code, error.status()),
                (ErrorCode::InvalidDigest, 400),
                "{value}"
            );
        }
        let twice = ("content-md5", "XrY7u+Ae7tCTyyK7j1rNww==");
        assert_eq!(
            parse(&[twice, twice]).unwrap_err().code,
            ErrorCode::InvalidDigest
        );
    }

    #[test]
    fn row_99_a_malformed_checksum_is_an_invalid_request() {
        for algorithm in ChecksumAlgorithm::ALL {
            for value in [
                "",
                "AAAA",
                "?",
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            ] {
                check_refused(&[(algorithm.header_name(), value)]);
            }
        }
        check_refused(&[("x-amz-checksum-md4", "AAAA")]);
    }

    #[test]
    fn row_100_two_checksums_are_refused_even_if_both_are_right() {
        check_refused(&[
            ("x-amz-checksum-crc32", "y/Q5Jg=="),
            ("x-amz-checksum-crc32c", "4waSgw=="),
        ]);
        check_refused(&[
            ("x-amz-checksum-crc32", "y/Q5Jg=="),
            ("x-amz-checksum-crc32", "y/Q5Jg=="),
        ]);
        check_refused(&[
            ("x-amz-checksum-crc32", "y/Q5Jg=="),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ]);
        check_refused(&[("x-amz-trailer", "x-amz-checksum-crc32,x-amz-checksum-sha1")]);
    }

    #[test]
    fn row_101_an_sdk_algorithm_needs_its_value() {
        check_refused(&[("x-amz-sdk-checksum-algorithm", "CRC32")]);
        check_refused(&[
            ("x-amz-sdk-checksum-algorithm", "MD4"),
            ("x-amz-checksum-crc32", "y/Q5Jg=="),
        ]);
        check_refused(&[
            ("x-amz-sdk-checksum-algorithm", "SHA1"),
            ("x-amz-checksum-crc32", "y/Q5Jg=="),
        ]);
        check_refused(&[("x-amz-sdk-checksum-algorithm", "")]);
    }

    #[test]
    fn only_checksums_may_be_announced_as_trailers() {
        for value in [
            "x-amz-meta-a",
            "",
            "x-amz-checksum-crc32,",
            "x-amz-checksum-type",
        ] {
            check_refused(&[("x-amz-trailer", value)]);
        }
    }

    #[test]
    fn an_objects_checksum_may_count_its_parts() {
        let computed = MultipartChecksum {
            value: ChecksumValue::parse(ChecksumAlgorithm::Crc32, "y/Q5Jg==").unwrap(),
            checksum_type: ChecksumType::Composite,
            parts: 3,
        };
        let check = |value: &str| object_checksum(&headers(&[("x-amz-checksum-crc32", value)]));
        assert!(check("y/Q5Jg==").unwrap().unwrap().matches(&computed));
        assert!(
            check(&computed.to_string())
                .unwrap()
                .unwrap()
                .matches(&computed)
        );
        assert!(!check("y/Q5Jg==-2").unwrap().unwrap().matches(&computed));
        assert!(!check("AAAAAA==-3").unwrap().unwrap().matches(&computed));
        let whole = MultipartChecksum {
            checksum_type: ChecksumType::FullObject,
            ..computed
        };
        assert!(!check("y/Q5Jg==-3").unwrap().unwrap().matches(&whole));
        for bad in [
            "",
            "y/Q5Jg==-",
            "y/Q5Jg==-x",
            "-3",
            "y/Q5Jg==-99999999999999999999",
        ] {
            assert_eq!(
                check(bad).unwrap_err().code,
                ErrorCode::InvalidRequest,
                "{bad}"
            );
        }
        assert_eq!(object_checksum(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn a_multipart_upload_settles_algorithm_and_type() {
        let check = |lines: &[(&'static str, &str)]| multipart_checksum(&headers(lines));
        assert_eq!(check(&[]).unwrap(), None);
        assert_eq!(
            check(&[(ALGORITHM, "crc32")]).unwrap(),
            Some((ChecksumAlgorithm::Crc32, ChecksumType::Composite))
        );
        assert_eq!(
            check(&[(ALGORITHM, "CRC64NVME")]).unwrap(),
            Some((ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject))
        );
        assert_eq!(
            check(&[(ALGORITHM, "CRC32C"), (TYPE, "FULL_OBJECT")]).unwrap(),
            Some((ChecksumAlgorithm::Crc32c, ChecksumType::FullObject))
        );
        for lines in [
            &[(ALGORITHM, "MD4")][..],
            &[(TYPE, "FULL_OBJECT")],
            &[(ALGORITHM, "CRC32"), (TYPE, "HALF")],
            &[(ALGORITHM, "SHA1"), (TYPE, "FULL_OBJECT")],
            &[(ALGORITHM, "CRC64NVME"), (TYPE, "COMPOSITE")],
            &[(ALGORITHM, "CRC32"), (ALGORITHM, "CRC32C")],
        ] {
            assert_eq!(
                check(lines).unwrap_err().code,
                ErrorCode::InvalidRequest,
                "{lines:?}"
            );
        }
    }
}
