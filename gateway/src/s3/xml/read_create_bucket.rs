//! The body of CreateBucket (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html>).

use super::OTHER_BYTES_MAX;
use super::read::{Step, malformed, set_once, walk};
use crate::s3::error::{ErrorCode, S3Error};

/// Reads the body: the location asked for, if any. No body at all asks for the default.
///
/// A bucket of another kind (directory buckets) and tags are refused, not ignored.
pub fn read_create_bucket(body: &[u8]) -> Result<Option<String>, S3Error> {
    if body.is_empty() {
        return Ok(None);
    }
    let mut location = None;
    walk(
        body,
        OTHER_BYTES_MAX,
        "CreateBucketConfiguration",
        |step| match step {
            Step::Open(["Location" | "Bucket" | "Tags", ..]) => {
                Err(ErrorCode::NotImplemented.into())
            }
            Step::Open(_) => Ok(()),
            Step::Close(["LocationConstraint"], text) => {
                set_once(&mut location, text.trim().to_owned())
            }
            Step::Close(..) => Err(malformed()),
        },
    )?;
    Ok(location.filter(|text| !text.is_empty()))
}

/// Whether a bucket may be made with the location asked for, in a cluster of the given region.
///
/// `us-east-1` has no name as a location; its own region is the only one that a cluster can keep data in.
pub fn check_location(location: Option<&str>, region: &str) -> Result<(), S3Error> {
    match location {
        None => Ok(()),
        Some(asked) if asked == region => Ok(()),
        Some(asked) => Err(S3Error::new(ErrorCode::InvalidLocationConstraint)
            .with_extra("LocationConstraint", asked)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Option<String>, ErrorCode> {
        read_create_bucket(body.as_bytes()).map_err(|e| e.code)
    }

    #[test]
    fn the_location_is_read() {
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("<CreateBucketConfiguration/>"), Ok(None));
        let body = |inner: &str| {
            format!("<CreateBucketConfiguration xmlns='u'>{inner}</CreateBucketConfiguration>")
        };
        assert_eq!(
            read(&body("<LocationConstraint>eu-west-1</LocationConstraint>")),
            Ok(Some("eu-west-1".into()))
        );
        assert_eq!(read(&body("<LocationConstraint/>")), Ok(None));
        assert!(check_location(Some("eu-west-1"), "eu-west-1").is_ok());
        assert_eq!(
            check_location(Some("mars"), "eu-west-1").unwrap_err().code,
            ErrorCode::InvalidLocationConstraint
        );
    }

    #[test]
    fn row_143_a_setting_twice_or_unknown_is_refused() {
        let body =
            |inner: &str| format!("<CreateBucketConfiguration>{inner}</CreateBucketConfiguration>");
        let twice =
            "<LocationConstraint>a</LocationConstraint><LocationConstraint>b</LocationConstraint>";
        assert_eq!(read(&body(twice)), Err(ErrorCode::MalformedXML));
        assert_eq!(
            read(&body("<Colour>red</Colour>")),
            Err(ErrorCode::MalformedXML)
        );
        assert_eq!(
            read(&body("<Tags><Tag/></Tags>")),
            Err(ErrorCode::NotImplemented)
        );
        assert_eq!(read("<Other/>"), Err(ErrorCode::MalformedXML));
        assert_eq!(read("garbage"), Err(ErrorCode::MalformedXML));
    }
}
