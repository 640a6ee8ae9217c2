//! The operations of S3, by AWS's names.
//!
//! One variant for each operation that Ringfort answers, and one for all that it knows and does not offer.

use super::configuration::Configuration;
use super::error::{ErrorCode, S3Error};

macro_rules! operations {
    ($($name:ident)+) => {
        /// What a request asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Operation {
            $(#[doc = concat!("<https://docs.aws.amazon.com/AmazonS3/latest/API/API_", stringify!($name), ".html>")] $name,)+
            /// A read of a setting that nothing can have.
            GetConfiguration(&'static Configuration),
            /// A feature of S3 that Ringfort does not offer: 501, never the operation it would be without the name.
            Unsupported {
                /// The sub-resource that asks for it, or the operation's name.
                name: &'static str,
            },
        }

        impl Operation {
            /// AWS's name, for logs and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                    Self::GetConfiguration(configuration) => configuration.operation,
                    Self::Unsupported { name } => name,
                }
            }
        }
    };
}

operations! {
    ListBuckets
    CreateBucket
    HeadBucket
    DeleteBucket
    GetBucketLocation
    GetBucketVersioning
    GetBucketAcl
    PutBucketAcl
    ListObjects
    ListObjectsV2
    ListObjectVersions
    DeleteObjects
    ListMultipartUploads
    PutObject
    CopyObject
    GetObject
    HeadObject
    DeleteObject
    GetObjectAttributes
    GetObjectAcl
    PutObjectAcl
    CreateMultipartUpload
    UploadPart
    UploadPartCopy
    CompleteMultipartUpload
    AbortMultipartUpload
    ListParts
}

impl Operation {
    /// Whether the operation changes what is stored.
    #[must_use]
    pub const fn is_write(self) -> bool {
        matches!(
            self,
            Self::CreateBucket
                | Self::DeleteBucket
                | Self::PutBucketAcl
                | Self::PutObjectAcl
                | Self::DeleteObjects
                | Self::PutObject
                | Self::CopyObject
                | Self::DeleteObject
                | Self::CreateMultipartUpload
                | Self::UploadPart
                | Self::UploadPartCopy
                | Self::CompleteMultipartUpload
                | Self::AbortMultipartUpload
        )
    }

    /// Whether the operation names one version of an object, so that it reads `versionId`.
    #[must_use]
    pub const fn takes_version(self) -> bool {
        match self {
            Self::GetConfiguration(configuration) => {
                matches!(configuration.of, super::configuration::Owner::Object)
            }
            _ => matches!(
                self,
                Self::GetObject
                    | Self::HeadObject
                    | Self::DeleteObject
                    | Self::GetObjectAttributes
                    | Self::GetObjectAcl
                    | Self::PutObjectAcl
            ),
        }
    }

    /// Whether the request's body is the object's or the part's bytes.
    #[must_use]
    pub const fn streams_body(self) -> bool {
        matches!(self, Self::PutObject | Self::UploadPart)
    }

    /// The most bytes of body that the operation reads into memory; 0 where it takes none or streams it.
    #[must_use]
    pub const fn document_bytes_max(self) -> usize {
        match self {
            Self::CompleteMultipartUpload => super::xml::COMPLETE_BYTES_MAX,
            Self::DeleteObjects => super::xml::DELETE_BYTES_MAX,
            Self::CreateBucket | Self::PutBucketAcl | Self::PutObjectAcl => {
                super::xml::OTHER_BYTES_MAX
            }
            _ => 0,
        }
    }

    /// The 501 of an operation that is not offered; `Ok` for every other.
    pub fn require_supported(self) -> Result<(), S3Error> {
        match self {
            Self::Unsupported { name } => Err(not_implemented(name)),
            _ => Ok(()),
        }
    }
}

/// `NotImplemented`, naming the header or query parameter that asks for the missing feature.
pub(super) fn not_implemented(name: impl Into<String>) -> S3Error {
    S3Error::new(ErrorCode::NotImplemented).with_extra("Header", name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_offered_answers_501() {
        let error = Operation::Unsupported { name: "torrent" }
            .require_supported()
            .unwrap_err();
        assert_eq!(
            (error.status(), error.code),
            (501, ErrorCode::NotImplemented)
        );
        assert!(Operation::GetObject.require_supported().is_ok());
        assert_eq!(Operation::ListObjectsV2.name(), "ListObjectsV2");
    }
}
