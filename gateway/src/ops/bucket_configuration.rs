//! GetBucketLocation, GetBucketVersioning, GetBucketAcl, and the settings that nothing can have: what is fixed for every
//! bucket.

use super::object_answer::require_object;
use super::{Call, Failure, owner, xml};
use crate::catalog::Bucket;
use crate::s3::configuration::{Configuration, Owner};
use crate::s3::xml::write_bucket::{access_control_private, location, versioning_never_enabled};
use crate::server::Answer;
use ringfort_wire::manifest::KeyState;

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

/// Says that there is no such setting, of a bucket or an object that exists.
pub(super) async fn get_configuration(
    call: &Call,
    bucket: &Bucket,
    configuration: &Configuration,
) -> Result<Answer, Failure> {
    match configuration.of {
        Owner::Bucket => {
            let absent = configuration.absent();
            Ok(xml(absent.map_err(|error| {
                error.with_extra("BucketName", bucket.name.as_str())
            })?))
        }
        Owner::Object => {
            call.check_version()?;
            let read = call
                .coordinator()
                .read::<KeyState>(bucket.reference, &call.row(bucket)?, false)
                .await?;
            require_object(read.state, call.object_key()?)?;
            Ok(xml(configuration.absent()?))
        }
    }
}
