//! Why the catalog has no answer.

use super::record::RecordError;
use crate::coordinator::{ReadError, WriteError};

/// Why the catalog has no answer, or says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// A register of the system bucket could not be read.
    #[error("reading the catalog: {0}")]
    Read(#[from] ReadError),
    /// A register of the system bucket could not be changed, or perhaps was.
    #[error("changing the catalog: {0}")]
    Write(#[from] WriteError),
    /// What a register holds cannot be read by this release.
    #[error("the catalog's record {register:?} cannot be read: {source}")]
    Record {
        /// Which register.
        register: String,
        /// Why.
        source: RecordError,
    },
    /// Somebody else is changing the same thing all the time. Nothing was changed by this request.
    #[error("others are changing it; try again")]
    Busy,
    /// The bucket does not exist.
    #[error("no such bucket")]
    NoSuchBucket,
    /// The bucket holds objects.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// The access key does not exist.
    #[error("no such access key")]
    NoSuchKey,
    /// An access key of this id exists, with another secret or other rights.
    #[error("an access key of this id exists already, with another secret or other rights")]
    KeyExists,
    /// What was asked for cannot be.
    #[error("{0}")]
    Invalid(String),
}
