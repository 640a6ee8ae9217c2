//! GetObjectAcl (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAcl.html>).

use super::object_answer::require_object;
use super::{Call, Failure, owner, xml};
use crate::catalog::Bucket;
use crate::s3::xml::write_bucket::access_control_private;
use crate::server::Answer;
use ringfort_wire::manifest::KeyState;

/// Every object is its bucket owner's alone.
pub(super) async fn get_object_acl(call: &Call, bucket: &Bucket) -> Result<Answer, Failure> {
    call.check_version()?;
    let read = call
        .coordinator()
        .read::<KeyState>(bucket.reference, &call.row(bucket)?, false)
        .await?;
    require_object(read.state, call.object_key()?)?;
    Ok(xml(access_control_private(&owner(&bucket.owner))))
}
