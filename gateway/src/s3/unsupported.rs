//! Request headers that ask for features which Ringfort does not offer.
//!
//! A silent drop would be a false promise of secrecy, retention or access, so each is refused, on every operation; a
//! value that asks for what is the case anyway (`private`, `STANDARD`) is taken.

use super::error::{ErrorCode, S3Error};
use super::operation::{Operation, not_implemented};
use http::HeaderMap;

/// Refuses headers whose meaning Ringfort cannot keep.
pub fn refuse_unsupported_headers(
    operation: Operation,
    headers: &HeaderMap,
) -> Result<(), S3Error> {
    for (name, value) in headers {
        let name = name.as_str();
        if let Some(feature) = name.strip_prefix("x-amz-") {
            // Bytes outside ASCII are no value that S3 knows for any of these headers.
            let value = value.to_str().unwrap_or("\u{fffd}");
            refuse_header(operation, name, feature, value)?;
        }
    }
    Ok(())
}

fn refuse_header(
    operation: Operation,
    name: &str,
    feature: &str,
    value: &str,
) -> Result<(), S3Error> {
    if feature.starts_with("grant-")
        || feature.starts_with("object-lock-")
        || feature.starts_with("server-side-encryption-")
        || feature.starts_with("copy-source-server-side-encryption-")
        || feature.starts_with("rename-source")
    {
        return Err(not_implemented(name));
    }
    match feature {
        "server-side-encryption" => refuse_encryption(name, value),
        "acl" => refuse_acl(name, value),
        "storage-class" => match value {
            "STANDARD" => Ok(()),
            _ => Err(S3Error::new(ErrorCode::InvalidStorageClass)
                .with_extra("StorageClassRequested", value)),
        },
        // No object has tags: an empty set, and copying or replacing one without a new one, are the case anyway.
        "tagging" if value.is_empty() => Ok(()),
        "tagging-directive" => match value {
            "COPY" | "REPLACE" => Ok(()),
            _ => Err(S3Error::invalid_argument(
                "Unknown tagging directive.",
                name,
                value,
            )),
        },
        "website-redirect-location" => {
            if ["/", "http://", "https://"]
                .iter()
                .any(|prefix| value.starts_with(prefix))
            {
                Err(not_implemented(name))
            } else {
                Err(ErrorCode::InvalidRedirectLocation.into())
            }
        }
        "bucket-object-lock-enabled" => match value.to_ascii_lowercase().as_str() {
            "false" => Ok(()),
            "true" => Err(not_implemented(name)),
            _ => Err(S3Error::invalid_argument(
                "Invalid value for the object lock header",
                name,
                value,
            )),
        },
        "bypass-governance-retention" => match value.to_ascii_lowercase().as_str() {
            "false" => Ok(()),
            _ => Err(S3Error::invalid_argument(
                "x-amz-bypass-governance-retention is only applicable to Object Lock enabled buckets.",
                name,
                value,
            )),
        },
        // Access lists are never consulted beyond the owner's, which is what this setting says.
        "object-ownership" => match value {
            "BucketOwnerEnforced" => Ok(()),
            "BucketOwnerPreferred" | "ObjectWriter" => Err(not_implemented(name)),
            _ => Err(S3Error::invalid_argument(
                "Invalid x-amz-object-ownership header",
                name,
                value,
            )),
        },
        // Never a silent part of a whole copy, never a plain PUT that was meant to be a copy.
        "copy-source-range" if operation != Operation::UploadPartCopy => {
            Err(S3Error::invalid_argument(
                "The copy source range is only for copies of a part",
                name,
                value,
            ))
        }
        // S3 offers these on directory buckets only; ignoring a condition would delete what the client wants kept.
        "if-match-last-modified-time" | "if-match-size" if operation == Operation::DeleteObject => {
            Err(not_implemented(name))
        }
        "if-match-initiated-time" if operation == Operation::AbortMultipartUpload => {
            Err(not_implemented(name))
        }
        "tagging"
        | "mfa"
        | "write-offset-bytes"
        | "create-session-mode"
        | "client-token"
        | "bucket-namespace" => Err(not_implemented(name)),
        _ => Ok(()),
    }
}

fn refuse_encryption(name: &str, value: &str) -> Result<(), S3Error> {
    match value {
        "AES256" | "aws:kms" | "aws:kms:dsse" | "aws:fsx" => Err(not_implemented(name)),
        _ => Err(S3Error::new(ErrorCode::InvalidEncryptionAlgorithmError)
            .with_extra("ArgumentName", name)
            .with_extra("ArgumentValue", value)),
    }
}

/// Canned lists (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html#canned-acl>).
fn refuse_acl(name: &str, value: &str) -> Result<(), S3Error> {
    match value {
        // Everything in a bucket belongs to its owner, so both say what holds.
        "private" | "bucket-owner-full-control" => Ok(()),
        "public-read" | "public-read-write" | "aws-exec-read" | "authenticated-read"
        | "bucket-owner-read" | "log-delivery-write" => Err(not_implemented(name)),
        _ => Err(S3Error::invalid_argument("Invalid canned ACL", name, value)),
    }
}

/// Refuses a request made for a bucket of another account. `source_owner` is the copy source's, for copies.
///
/// The check protects a client from writing into a stranger's bucket, so an odd value is a refusal too.
pub fn check_expected_owner(
    headers: &HeaderMap,
    owner: &str,
    source_owner: Option<&str>,
) -> Result<(), S3Error> {
    let differs = |name: &str, owner: &str| {
        headers
            .get_all(name)
            .iter()
            .any(|value| value.as_bytes() != owner.as_bytes())
    };
    if differs("x-amz-expected-bucket-owner", owner)
        || source_owner.is_some_and(|owner| differs("x-amz-source-expected-bucket-owner", owner))
    {
        return Err(ErrorCode::AccessDenied.into());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    fn check(operation: Operation, name: &'static str, value: &str) -> Result<(), ErrorCode> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        refuse_unsupported_headers(operation, &headers).map_err(|e| e.code)
    }

    #[test]
    fn row_105_unknown_values_are_refused() {
        for (name, value, code) in [
            (
                "x-amz-storage-class",
                "PURPLE",
                ErrorCode::InvalidStorageClass,
            ),
            (
                "x-amz-storage-class",
                "GLACIER",
                ErrorCode::InvalidStorageClass,
            ),
            (
                "x-amz-storage-class",
                "standard",
                ErrorCode::InvalidStorageClass,
            ),
            ("x-amz-acl", "everyone", ErrorCode::InvalidArgument),
            ("x-amz-acl", "", ErrorCode::InvalidArgument),
            ("x-amz-acl", "public-read", ErrorCode::NotImplemented),
            (
                "x-amz-server-side-encryption",
                "ROT13",
                ErrorCode::InvalidEncryptionAlgorithmError,
            ),
            (
                "x-amz-server-side-encryption",
                "AES256",
                ErrorCode::NotImplemented,
            ),
        ] {
            assert_eq!(
                check(Operation::PutObject, name, value),
                Err(code),
                "{name}: {value}"
            );
            assert_eq!(
                check(Operation::CreateMultipartUpload, name, value),
                Err(code),
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn row_107_a_script_is_no_redirect() {
        let name = "x-amz-website-redirect-location";
        assert_eq!(
            check(Operation::PutObject, name, "javascript:alert(1)"),
            Err(ErrorCode::InvalidRedirectLocation)
        );
        assert_eq!(
            check(Operation::PutObject, name, "/a"),
            Err(ErrorCode::NotImplemented)
        );
    }

    #[test]
    fn row_108_another_owner_is_denied() {
        let mut headers = HeaderMap::new();
        assert!(check_expected_owner(&headers, "111122223333", Some("1")).is_ok());
        headers.insert(
            "x-amz-expected-bucket-owner",
            "111122223333".parse().unwrap(),
        );
        assert!(check_expected_owner(&headers, "111122223333", None).is_ok());
        assert_eq!(
            check_expected_owner(&headers, "999", None)
                .unwrap_err()
                .code,
            ErrorCode::AccessDenied
        );
        headers.insert("x-amz-source-expected-bucket-owner", "2".parse().unwrap());
        assert!(check_expected_owner(&headers, "111122223333", Some("2")).is_ok());
        assert_eq!(
            check_expected_owner(&headers, "111122223333", Some("1"))
                .unwrap_err()
                .code,
            ErrorCode::AccessDenied
        );
        headers.append("x-amz-expected-bucket-owner", "999".parse().unwrap());
        assert_eq!(
            check_expected_owner(&headers, "111122223333", None)
                .unwrap_err()
                .code,
            ErrorCode::AccessDenied
        );
    }

    #[test]
    fn row_109_a_feature_that_is_not_offered_is_not_dropped_in_silence() {
        for (name, value) in [
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "k"),
            ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-copy-source-server-side-encryption-customer-key", "k"),
            ("x-amz-object-lock-mode", "COMPLIANCE"),
            ("x-amz-object-lock-legal-hold", "ON"),
            (
                "x-amz-object-lock-retain-until-date",
                "2030-01-01T00:00:00Z",
            ),
            ("x-amz-bucket-object-lock-enabled", "true"),
            ("x-amz-grant-read", "id=1"),
            ("x-amz-grant-full-control", "id=1"),
            ("x-amz-tagging", "a=b"),
            ("x-amz-mfa", "1 2"),
            ("x-amz-write-offset-bytes", "0"),
        ] {
            assert_eq!(
                check(Operation::PutObject, name, value),
                Err(ErrorCode::NotImplemented),
                "{name}"
            );
        }
        for name in ["x-amz-if-match-size", "x-amz-if-match-last-modified-time"] {
            assert_eq!(
                check(Operation::DeleteObject, name, "1"),
                Err(ErrorCode::NotImplemented)
            );
        }
    }

    #[test]
    fn row_125_a_range_is_only_for_copies_of_a_part() {
        let name = "x-amz-copy-source-range";
        for operation in [
            Operation::CopyObject,
            Operation::PutObject,
            Operation::UploadPart,
            Operation::GetObject,
        ] {
            assert_eq!(
                check(operation, name, "bytes=0-1"),
                Err(ErrorCode::InvalidArgument)
            );
        }
        assert_eq!(check(Operation::UploadPartCopy, name, "bytes=0-1"), Ok(()));
    }

    #[test]
    fn what_holds_anyway_is_taken() {
        for (name, value) in [
            ("x-amz-acl", "private"),
            ("x-amz-acl", "bucket-owner-full-control"),
            ("x-amz-storage-class", "STANDARD"),
            ("x-amz-bucket-object-lock-enabled", "false"),
            ("x-amz-object-ownership", "BucketOwnerEnforced"),
            ("x-amz-tagging-directive", "COPY"),
            ("x-amz-meta-acl", "anything"),
            ("x-amz-checksum-crc32", "AAAAAA=="),
            ("x-amz-request-payer", "requester"),
            ("content-type", "x"),
        ] {
            assert_eq!(check(Operation::PutObject, name, value), Ok(()), "{name}");
        }
    }
}
