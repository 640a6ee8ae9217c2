//! Settings of buckets and objects that can be read and never set: what S3 answers for a bucket that has none.
//!
//! Terraform, rclone and `mc` read them all before they do anything. Each answer is a true statement about a store in
//! which nothing of the kind can be in force; the requests that would set one are [`super::operation`]'s 501.

use super::error::{ErrorCode, S3Error};
use super::xml::write::Document;

/// One setting, and what its absence looks like.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Configuration {
    /// The sub-resource that reads it.
    pub sub_resource: &'static str,
    /// AWS's name of the read.
    pub operation: &'static str,
    /// Whose it is.
    pub of: Owner,
    absence: Absence,
}

/// What has the setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A bucket.
    Bucket,
    /// An object.
    Object,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Absence {
    /// 200 with this root and what is in it.
    Document(&'static str, &'static str),
    /// S3's error for it, with the code's own sentence or another.
    Error(ErrorCode, Option<&'static str>),
}

impl Configuration {
    /// The setting of this name, if it can be read.
    #[must_use]
    pub fn find(of: Owner, sub_resource: &str) -> Option<&'static Self> {
        TABLE
            .iter()
            .find(|row| row.of == of && row.sub_resource == sub_resource)
    }

    /// The document that says there is none.
    ///
    /// # Errors
    /// Where S3 says it by an error.
    pub fn absent(&self) -> Result<String, S3Error> {
        match &self.absence {
            Absence::Document(root, inner) => {
                let mut document = Document::new(root);
                document.literal(inner);
                Ok(document.finish())
            }
            Absence::Error(code, None) => Err(S3Error::new(*code)),
            Absence::Error(code, Some(message)) => Err(S3Error::with_message(*code, *message)),
        }
    }
}

const fn document(
    sub_resource: &'static str,
    operation: &'static str,
    root: &'static str,
    inner: &'static str,
) -> Configuration {
    Configuration {
        sub_resource,
        operation,
        of: Owner::Bucket,
        absence: Absence::Document(root, inner),
    }
}

const fn error(
    sub_resource: &'static str,
    operation: &'static str,
    code: ErrorCode,
) -> Configuration {
    Configuration {
        sub_resource,
        operation,
        of: Owner::Bucket,
        absence: Absence::Error(code, None),
    }
}

/// Retention and legal hold exist only under a bucket's object lock.
const fn under_lock(sub_resource: &'static str, operation: &'static str) -> Configuration {
    Configuration {
        sub_resource,
        operation,
        of: Owner::Object,
        absence: Absence::Error(
            ErrorCode::InvalidRequest,
            Some("Bucket is missing Object Lock Configuration"),
        ),
    }
}

/// Each row's page is `https://docs.aws.amazon.com/AmazonS3/latest/API/API_<operation>.html`.
#[rustfmt::skip]
static TABLE: [Configuration; 18] = [
    document("accelerate", "GetBucketAccelerateConfiguration", "AccelerateConfiguration", ""),
    error("cors", "GetBucketCors", ErrorCode::NoSuchCORSConfiguration),
    // AWS encrypts every bucket since 2023 and says so; here nothing is encrypted, which is what this says.
    error("encryption", "GetBucketEncryption", ErrorCode::ServerSideEncryptionConfigurationNotFoundError),
    error("lifecycle", "GetBucketLifecycleConfiguration", ErrorCode::NoSuchLifecycleConfiguration),
    document("logging", "GetBucketLogging", "BucketLoggingStatus", ""),
    document("notification", "GetBucketNotificationConfiguration", "NotificationConfiguration", ""),
    error("object-lock", "GetObjectLockConfiguration", ErrorCode::ObjectLockConfigurationNotFoundError),
    // Everything in a bucket belongs to its owner, and no access list grants anything.
    document(
        "ownershipControls", "GetBucketOwnershipControls", "OwnershipControls",
        "<Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>",
    ),
    error("policy", "GetBucketPolicy", ErrorCode::NoSuchBucketPolicy),
    error("policyStatus", "GetBucketPolicyStatus", ErrorCode::NoSuchBucketPolicy),
    error("publicAccessBlock", "GetPublicAccessBlock", ErrorCode::NoSuchPublicAccessBlockConfiguration),
    error("replication", "GetBucketReplication", ErrorCode::ReplicationConfigurationNotFoundError),
    document("requestPayment", "GetBucketRequestPayment", "RequestPaymentConfiguration", "<Payer>BucketOwner</Payer>"),
    error("tagging", "GetBucketTagging", ErrorCode::NoSuchTagSet),
    error("website", "GetBucketWebsite", ErrorCode::NoSuchWebsiteConfiguration),
    Configuration {
        sub_resource: "tagging",
        operation: "GetObjectTagging",
        of: Owner::Object,
        absence: Absence::Document("Tagging", "<TagSet></TagSet>"),
    },
    under_lock("retention", "GetObjectRetention"),
    under_lock("legal-hold", "GetObjectLegalHold"),
];

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::super::xml::write::tests::leaves;
    use super::*;

    fn bucket(name: &str) -> Result<String, ErrorCode> {
        Configuration::find(Owner::Bucket, name)
            .unwrap()
            .absent()
            .map_err(|error| error.code)
    }

    #[test]
    fn a_setting_that_s3_shows_as_a_document_is_one_of_its_own_root() {
        assert_eq!(
            leaves(&bucket("requestPayment").unwrap()),
            ["Payer=BucketOwner"]
        );
        assert_eq!(
            leaves(&bucket("ownershipControls").unwrap()),
            ["Rule/ObjectOwnership=BucketOwnerEnforced"]
        );
        for (name, root) in [
            ("accelerate", "AccelerateConfiguration"),
            ("logging", "BucketLoggingStatus"),
            ("notification", "NotificationConfiguration"),
        ] {
            let xml = bucket(name).unwrap();
            assert!(leaves(&xml).is_empty(), "{xml}");
            assert!(xml.contains(&format!("<{root} xmlns=")), "{xml}");
        }
        let tags = Configuration::find(Owner::Object, "tagging").unwrap();
        assert!(
            tags.absent()
                .unwrap()
                .ends_with("<TagSet></TagSet></Tagging>")
        );
    }

    #[test]
    fn a_setting_that_s3_misses_by_an_error_is_a_404() {
        for row in &TABLE {
            match row.absent() {
                Ok(_) => {}
                Err(error) if row.of == Owner::Object => {
                    assert_eq!(error.code, ErrorCode::InvalidRequest);
                }
                Err(error) => assert_eq!(error.status(), 404, "{}", row.sub_resource),
            }
        }
        assert_eq!(bucket("tagging"), Err(ErrorCode::NoSuchTagSet));
        assert_eq!(bucket("policy"), Err(ErrorCode::NoSuchBucketPolicy));
    }

    #[test]
    fn a_name_is_a_buckets_or_an_objects() {
        assert!(Configuration::find(Owner::Object, "policy").is_none());
        assert!(Configuration::find(Owner::Bucket, "retention").is_none());
        assert!(Configuration::find(Owner::Bucket, "torrent").is_none());
    }
}
