//! What can go wrong between two processes.

use serde::{Deserialize, Serialize};

/// A node could not do what it was asked, for a reason that is not the register's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code:?}: {message}")]
pub struct NodeError {
    /// What kind of reason.
    pub code: NodeErrorCode,
    /// A sentence for the log. Never shown to a client of S3.
    pub message: String,
}

impl NodeError {
    /// An error.
    #[must_use]
    pub fn new(code: NodeErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// Kinds of reasons. Discriminants are on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum NodeErrorCode {
    /// Stored bytes fail their checksum.
    Corrupt = 0,
    /// The disk failed.
    Io = 1,
    /// The disk is full.
    Full = 2,
    /// The disk takes no writes any more.
    WritesClosed = 3,
    /// The replica named is not one of this node's.
    NotMember = 4,
    /// This release does not know the request.
    UnknownRequest = 5,
    /// The body is not what the kind says.
    Malformed = 6,
    /// The peer may not ask this.
    Unauthorised = 7,
    /// The frame is of another cluster, or of an older era.
    WrongCluster = 8,
    /// The node is starting or stopping.
    Unavailable = 9,
    /// The bytes received are not of the digest named.
    DigestMismatch = 10,
}

/// A call did not bring an answer of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent, or the connection broke: the request may or may not have been carried out.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// No answer in time: the request may or may not have been carried out.
    #[error("timed out")]
    TimedOut,
    /// The node answered with an error.
    #[error(transparent)]
    Refused(#[from] NodeError),
}
