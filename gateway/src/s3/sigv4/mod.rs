//! AWS Signature Version 4, as S3 reads it: who signed this request, and for which body.
//!
//! Two steps, with the look-up of the secret between them: [`parse`] reads what the client claims, [`Verifier::verify`]
//! proves it. A [`Verified`] is made nowhere else, so a handler that has one needs no further check. Pure: the time is
//! handed in. Rules from <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html>.
//! Leaves out Signature Version 2 and 4A (refused), session tokens (refused), and permissions.

mod canonical;
mod chunk_signer;
mod parse;
mod payload;
mod policy;
mod query;
mod request_time;
mod scope;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod test_signer;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests;
mod verify;

pub use chunk_signer::ChunkSigner;
pub use parse::{AuthRequest, HeaderAuth, PresignedAuth, parse};
pub use payload::PayloadMode;
pub use policy::verify_policy_signature;
pub use verify::{Verified, Verifier, admit_anonymous};

#[cfg(test)]
pub(crate) use test_signer::{
    Client, sign_chunk, sign_trailer, streaming_signer, verify as verify_for_test,
};

/// How far a request's time may be from ours, either way.
const MAX_SKEW_S: i64 = 15 * 60;

/// The only algorithm.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The asymmetric one, which S3 has for multi-region access points only.
const ALGORITHM_V4A: &str = "AWS4-ECDSA-P256-SHA256";
