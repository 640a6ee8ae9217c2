//! GetObjectAcl (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAcl.html>), PutObjectAcl and PutBucketAcl
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketAcl.html>).
//!
//! There is one access list, the owner's full control. Setting that one is a success; any other is a 501.

use super::object_answer::require_object;
use super::{Call, Failure, empty, owner, xml};
use crate::catalog::Bucket;
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::operation::Operation;
use crate::s3::xml::write_bucket::access_control_private;
use crate::server::Answer;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use ringfort_wire::manifest::KeyState;

const CANNED: &str = "x-amz-acl";

/// Every object is its bucket owner's alone.
pub(super) async fn get_object_acl(call: &Call, bucket: &Bucket) -> Result<Answer, Failure> {
    require(call, bucket).await?;
    Ok(xml(access_control_private(&owner(&bucket.owner))))
}

/// Sets the list that there is.
pub(super) async fn put_acl(
    call: &Call,
    bucket: &Bucket,
    document: &Bytes,
) -> Result<Answer, Failure> {
    check_asked(call.headers(), document)?;
    if call.routed.operation == Operation::PutObjectAcl {
        require(call, bucket).await?;
    }
    Ok(empty(StatusCode::OK))
}

/// Which canned lists are no change was judged with the other headers ([`crate::s3::unsupported`]), and so were grants.
fn check_asked(headers: &HeaderMap, document: &Bytes) -> Result<(), S3Error> {
    match (headers.contains_key(CANNED), document.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(ErrorCode::UnexpectedContent.into()),
        (false, false) => {
            Err(S3Error::new(ErrorCode::NotImplemented).with_extra("Header", "AccessControlPolicy"))
        }
        (false, true) => {
            Err(S3Error::new(ErrorCode::MissingSecurityHeader)
                .with_extra("MissingHeaderName", CANNED))
        }
    }
}

async fn require(call: &Call, bucket: &Bucket) -> Result<(), Failure> {
    call.check_version()?;
    let read = call
        .coordinator()
        .read::<KeyState>(bucket.reference, &call.row(bucket)?, false)
        .await?;
    require_object(read.state, call.object_key()?)?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_named_in_a_header_and_no_other_is_kept() {
        let mut canned = HeaderMap::new();
        canned.insert(CANNED, "private".parse().unwrap());
        let xml = Bytes::from_static(b"<AccessControlPolicy/>");
        let check = |headers: &HeaderMap, document: &Bytes| {
            check_asked(headers, document).map_err(|error| error.code)
        };
        assert_eq!(check(&canned, &Bytes::new()), Ok(()));
        assert_eq!(check(&canned, &xml), Err(ErrorCode::UnexpectedContent));
        assert_eq!(
            check(&HeaderMap::new(), &xml),
            Err(ErrorCode::NotImplemented)
        );
        assert_eq!(
            check(&HeaderMap::new(), &Bytes::new()),
            Err(ErrorCode::MissingSecurityHeader)
        );
    }
}
