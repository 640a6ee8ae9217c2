//! From the raw bytes of a request's body to verified data and its digests, in whatever mode the body comes.
//!
//! Promises: data goes through in the order it came, without a copy; nothing counts before `finish` has said yes, and
//! `finish` says yes only if length, signatures, SHA-256, `Content-MD5` and checksum are all as promised. Bounded
//! memory. Leaves out reading from the network, and moving the digests to another thread: a reader is `Send`.

mod length;
mod reader;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests;
mod verifier;

pub use length::body_length;
pub use reader::PayloadReader;
pub use verifier::{BodyDigests, BodyExpectation, BodyVerifier};
