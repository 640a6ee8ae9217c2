//! GetBucketLocation, GetBucketVersioning and GetBucketAcl: what is fixed for every bucket.

use super::{owner, xml};
use crate::catalog::Bucket;
use crate::s3::xml::write_bucket::{access_control_private, location, versioning_never_enabled};
use crate::server::Answer;

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLocation.html>
pub(super) fn get_bucket_location(bucket: &Bucket) -> Answer {
    xml(location(&bucket.region))
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketVersioning.html>
pub(super) fn get_bucket_versioning() -> Answer {
    xml(versioning_never_enabled())
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketAcl.html>
pub(super) fn get_bucket_acl(bucket: &Bucket) -> Answer {
    xml(access_control_private(&owner(&bucket.owner)))
}
