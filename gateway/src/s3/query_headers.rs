//! `x-amz-*` headers that stand in the query: presigners move them there, so that whoever holds the URL need not send
//! them, and S3 reads them as headers (metadata, access list, storage class, encryption, copy source, …).
//!
//! Promises: none is passed over, so one that asks for what Ringfort does not offer is refused like the header; a
//! header and a parameter never contradict each other. Leaves out the fields of the signature itself.

use super::checksum::{ChecksumAlgorithm, ChecksumValue, Hasher};
use super::error::S3Error;
use super::query::Query;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Fields of the signature, read where signatures are judged.
const SIGNATURE_FIELDS: [&str; 8] = [
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];
const SDK_ALGORITHM: &str = "x-amz-sdk-checksum-algorithm";

/// The request's headers together with those in its query; `None` where the query has none.
///
/// # Errors
/// `InvalidArgument` for a parameter that cannot be a header, or that is a header too with another value.
pub fn with_query_headers(
    headers: &HeaderMap,
    query: &Query,
) -> Result<Option<HeaderMap>, S3Error> {
    let mut moved = HeaderMap::new();
    for (name, value) in query.iter() {
        let lower = name.to_ascii_lowercase();
        if !lower.starts_with("x-amz-") || SIGNATURE_FIELDS.contains(&lower.as_str()) {
            continue;
        }
        let refuse = |message: &'static str| S3Error::invalid_argument(message, name, value);
        let cannot = || refuse("The parameter cannot be taken as a header.");
        let field = HeaderName::from_bytes(lower.as_bytes()).map_err(|_| cannot())?;
        let text = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| cannot())?;
        if is_of_no_body(&lower, value) {
            continue;
        }
        let sent: Vec<&HeaderValue> = headers.get_all(&field).iter().collect();
        let contradicts = !sent.is_empty() && sent != [&text];
        if contradicts || moved.insert(field, text).is_some() {
            return Err(refuse(
                "The header and the query parameter of one name differ.",
            ));
        }
    }
    if moved.contains_key(SDK_ALGORITHM) && !has_checksum(&moved) && !has_checksum(headers) {
        // It names the algorithm of the value that was passed over above.
        moved.remove(SDK_ALGORITHM);
    }
    if moved.is_empty() {
        return Ok(None);
    }
    let mut all = headers.clone();
    for (name, value) in &moved {
        all.insert(name.clone(), value.clone());
    }
    Ok(Some(all))
}

/// The JavaScript SDK puts a checksum into every URL that it presigns for an upload, and computes it before there is a
/// body: over nothing. It says nothing of the body to come, and S3 ignores it
/// (<https://github.com/localstack/localstack/pull/12164>). A checksum of some bytes was put there on purpose.
fn is_of_no_body(name: &str, value: &str) -> bool {
    let Some(algorithm) = ChecksumAlgorithm::from_header_name(name) else {
        return false;
    };
    ChecksumValue::parse(algorithm, value)
        .is_some_and(|value| value == Hasher::new(algorithm).finish())
}

fn has_checksum(headers: &HeaderMap) -> bool {
    headers.contains_key("x-amz-trailer")
        || ChecksumAlgorithm::ALL
            .iter()
            .any(|algorithm| headers.contains_key(algorithm.header_name()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use crate::s3::error::ErrorCode;

    fn merged(headers: &[(&'static str, &str)], query: &str) -> Result<HeaderMap, ErrorCode> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        with_query_headers(&headers, &Query::parse(query).unwrap())
            .map(|all| all.unwrap_or(headers))
            .map_err(|error| error.code)
    }

    #[test]
    fn a_header_in_the_query_is_a_header() {
        let all = merged(
            &[("host", "h")],
            "prefix=x-amz-acl&X-Amz-Meta-Colour=d%C3%BCster&x-amz-acl=public-read&x-amz-tagging=a%3Db",
        )
        .unwrap();
        assert_eq!(all["x-amz-meta-colour"].as_bytes(), "düster".as_bytes());
        assert_eq!(all["x-amz-acl"], "public-read");
        assert_eq!(all["x-amz-tagging"], "a=b");
        assert_eq!(all["host"], "h");
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn the_fields_of_a_signature_are_no_headers() {
        let query = Query::parse(
            "X-Amz-Algorithm=a&X-Amz-Credential=c&X-Amz-Date=d&X-Amz-Expires=1&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=s&X-Amz-Security-Token=t&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD&acl&x-id=GetObject",
        )
        .unwrap();
        assert_eq!(with_query_headers(&HeaderMap::new(), &query), Ok(None));
    }

    #[test]
    fn a_checksum_over_nothing_says_nothing_and_any_other_is_kept() {
        let of_nothing = "x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32";
        assert!(merged(&[], of_nothing).unwrap().is_empty());
        let all = merged(&[("x-amz-checksum-crc32", "y/Q5Jg==")], of_nothing).unwrap();
        assert_eq!(all["x-amz-checksum-crc32"], "y/Q5Jg==");
        assert_eq!(all["x-amz-sdk-checksum-algorithm"], "CRC32");
        let all = merged(
            &[],
            "x-amz-checksum-crc32=y%2FQ5Jg%3D%3D&x-amz-sdk-checksum-algorithm=CRC32",
        )
        .unwrap();
        assert_eq!(all["x-amz-checksum-crc32"], "y/Q5Jg==");
        assert_eq!(all["x-amz-sdk-checksum-algorithm"], "CRC32");
        let all = merged(&[], "x-amz-checksum-crc32=junk").unwrap();
        assert_eq!(all["x-amz-checksum-crc32"], "junk");
    }

    #[test]
    fn a_header_and_a_parameter_do_not_contradict_each_other() {
        let acl = [("x-amz-acl", "private")];
        assert_eq!(merged(&acl, "x-amz-acl=private").unwrap().len(), 1);
        for query in [
            "x-amz-acl=public-read",
            "X-Amz-Acl=",
            "x-amz-acl=private&X-AMZ-ACL=private",
        ] {
            assert_eq!(
                merged(&acl, query),
                Err(ErrorCode::InvalidArgument),
                "{query}"
            );
        }
    }

    #[test]
    fn row_69_a_parameter_never_makes_a_header_line() {
        for query in [
            "x-amz-meta-a=b%0D%0Ax-evil:%201",
            "x-amz-meta-a=%00",
            "x-amz-meta-a%0D%0Ab=c",
            "x-amz-meta-%20=c",
        ] {
            assert_eq!(
                merged(&[], query),
                Err(ErrorCode::InvalidArgument),
                "{query}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_parameter_panics(name in "[xX]-[aA]mz-.{0,20}", value in ".{0,40}") {
            let raw: String = [name, value]
                .map(|text| text.bytes().map(|b| format!("%{b:02x}")).collect::<String>())
                .join("=");
            let _ = with_query_headers(&HeaderMap::new(), &Query::parse(&raw).unwrap());
        }
    }
}
