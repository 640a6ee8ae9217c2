//! Why an operation has no good answer, and what the client is told: the one place where the coordinator's and the
//! catalog's errors become S3's.

use crate::catalog::CatalogError;
use crate::coordinator::{ReadError, WriteError};
use crate::s3::error::{ErrorCode, S3Error};

/// Why an operation ended without a good answer.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// S3's own refusal.
    Refused(S3Error),
    /// Nothing was done: the bucket is no longer what the request was judged by.
    BucketChanged,
    /// A write went wrong.
    Write(WriteError),
    /// A read went wrong.
    Read(ReadError),
    /// The catalog has no answer.
    Catalog(CatalogError),
}

impl Failure {
    /// What the log should know beyond the answer's code.
    pub(crate) fn to_log(&self) -> Option<String> {
        match self {
            Self::Refused(_) | Self::BucketChanged => None,
            Self::Write(error) => Some(error.to_string()),
            Self::Read(error) => Some(error.to_string()),
            Self::Catalog(
                CatalogError::Busy
                | CatalogError::NoSuchBucket
                | CatalogError::BucketNotEmpty
                | CatalogError::NoSuchKey
                | CatalogError::KeyExists
                | CatalogError::Invalid(_),
            ) => None,
            Self::Catalog(error) => Some(error.to_string()),
        }
    }

    /// The failure of a request with a condition, where losing a race has its own code.
    pub(crate) fn of_conditional(error: WriteError) -> Self {
        match error {
            WriteError::Conflict => ErrorCode::ConditionalRequestConflict.into(),
            other => other.into(),
        }
    }
}

impl From<S3Error> for Failure {
    fn from(error: S3Error) -> Self {
        Self::Refused(error)
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self::Refused(code.into())
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::BucketChanged => Self::BucketChanged,
            other => Self::Write(other),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::BucketChanged => Self::BucketChanged,
            other => Self::Read(other),
        }
    }
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Self {
        Self::Catalog(error)
    }
}

/// What the client is told.
pub(crate) fn refusal(failure: &Failure) -> S3Error {
    match failure {
        Failure::Refused(error) => error.clone(),
        Failure::BucketChanged => ErrorCode::SlowDown.into(),
        Failure::Write(error) => write_refusal(error),
        Failure::Read(error) => read_refusal(error),
        Failure::Catalog(error) => catalog_refusal(error),
    }
}

/// 5xx: it may have happened, once, or nothing did; an SDK tries again either way.
fn write_refusal(error: &WriteError) -> S3Error {
    match error {
        WriteError::NotEnoughReplicas(_) => S3Error::with_message(
            ErrorCode::ServiceUnavailable,
            "Not enough replicas answer. Nothing was written. Please try again.",
        ),
        WriteError::OutcomeUnknown(_) => S3Error::with_message(
            ErrorCode::ServiceUnavailable,
            "Not enough replicas confirmed the write. It may have been applied. Please try again.",
        ),
        WriteError::Full => S3Error::with_message(
            ErrorCode::SlowDown,
            "The storage nodes' disks are full. Nothing was written.",
        ),
        WriteError::Conflict | WriteError::BucketChanged | WriteError::TooOld => {
            ErrorCode::SlowDown.into()
        }
        WriteError::Corrupt(_) => ErrorCode::InternalError.into(),
    }
}

fn read_refusal(error: &ReadError) -> S3Error {
    match error {
        ReadError::NotEnoughReplicas(_) => S3Error::with_message(
            ErrorCode::ServiceUnavailable,
            "Not enough replicas answer. Please try again.",
        ),
        ReadError::BucketChanged => ErrorCode::SlowDown.into(),
        ReadError::Corrupt(_) => ErrorCode::InternalError.into(),
    }
}

fn catalog_refusal(error: &CatalogError) -> S3Error {
    match error {
        CatalogError::Read(error) => read_refusal(error),
        CatalogError::Write(error) => write_refusal(error),
        CatalogError::Busy => ErrorCode::SlowDown.into(),
        CatalogError::NoSuchBucket => ErrorCode::NoSuchBucket.into(),
        CatalogError::BucketNotEmpty => ErrorCode::BucketNotEmpty.into(),
        CatalogError::Record { .. } => ErrorCode::InternalError.into(),
        // These belong to the admin API; no S3 request makes or removes a key.
        CatalogError::NoSuchKey | CatalogError::KeyExists | CatalogError::Invalid(_) => {
            ErrorCode::InvalidRequest.into()
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_may_have_happened_is_never_a_4xx() {
        for error in [
            WriteError::OutcomeUnknown(String::new()),
            WriteError::NotEnoughReplicas(String::new()),
            WriteError::Full,
            WriteError::Conflict,
            WriteError::TooOld,
        ] {
            assert_eq!(refusal(&error.into()).status(), 503);
        }
    }

    #[test]
    fn only_a_conditional_request_is_told_of_a_conflict() {
        let conditional = refusal(&Failure::of_conditional(WriteError::Conflict));
        assert_eq!(conditional.code, ErrorCode::ConditionalRequestConflict);
        assert_eq!(
            refusal(&WriteError::Conflict.into()).code,
            ErrorCode::SlowDown
        );
        let unknown = refusal(&Failure::of_conditional(WriteError::OutcomeUnknown(
            String::new(),
        )));
        assert_eq!(unknown.status(), 503);
    }

    #[test]
    fn what_replicas_said_stays_in_the_log() {
        let failure = Failure::from(ReadError::Corrupt("node 10.0.0.7 disk /data".to_owned()));
        assert!(
            !refusal(&failure)
                .to_xml("/b/k", "r", "h")
                .contains("10.0.0.7")
        );
        assert!(failure.to_log().unwrap().contains("10.0.0.7"));
    }
}
