//! The chain of chunk signatures: each is made over the one before it, the first over the request's own.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html> and `sigv4-streaming-trailers.html`.

use crate::s3::error::{ErrorCode, S3Error};
use aws_sigv4::sign::v4::calculate_signature;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;

/// Checks the signatures of one body's chunks, in order.
#[derive(Clone)]
pub struct ChunkSigner {
    signing_key: [u8; 32],
    scope: String,
    time_basic: String,
    previous_signature: String,
}

impl fmt::Debug for ChunkSigner {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkSigner")
            .field("scope", &self.scope)
            .field("time_basic", &self.time_basic)
            .finish_non_exhaustive()
    }
}

impl ChunkSigner {
    pub(super) fn new(
        signing_key: [u8; 32],
        scope: String,
        time_basic: String,
        seed_signature: &[u8; 32],
    ) -> Self {
        Self {
            signing_key,
            scope,
            time_basic,
            previous_signature: hex::encode(seed_signature),
        }
    }

    /// Checks a chunk by the SHA-256 of its data.
    ///
    /// # Errors
    /// `SignatureDoesNotMatch`.
    pub fn check_chunk(
        &mut self,
        data_sha256: [u8; 32],
        signature: &[u8; 32],
    ) -> Result<(), S3Error> {
        let string_to_sign = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{}\n{}\n{}",
            self.time_basic,
            self.scope,
            self.previous_signature,
            hex::encode(Sha256::digest(b"")),
            hex::encode(data_sha256),
        );
        self.check(&string_to_sign, signature)
    }

    /// Checks the trailer, spelt `name:value\n` for each line of it.
    ///
    /// # Errors
    /// `SignatureDoesNotMatch`.
    pub fn check_trailer(
        &mut self,
        canonical_trailer: &[u8],
        signature: &[u8; 32],
    ) -> Result<(), S3Error> {
        let string_to_sign = format!(
            "AWS4-HMAC-SHA256-TRAILER\n{}\n{}\n{}\n{}",
            self.time_basic,
            self.scope,
            self.previous_signature,
            hex::encode(Sha256::digest(canonical_trailer)),
        );
        self.check(&string_to_sign, signature)
    }

    fn check(&mut self, string_to_sign: &str, signature: &[u8; 32]) -> Result<(), S3Error> {
        let expected = calculate_signature(self.signing_key, string_to_sign.as_bytes());
        if !is_signature(&expected, signature) {
            return Err(S3Error::new(ErrorCode::SignatureDoesNotMatch));
        }
        self.previous_signature = expected;
        Ok(())
    }
}

/// Compares in constant time, on raw bytes.
pub(super) fn is_signature(expected_hex: &str, signature: &[u8; 32]) -> bool {
    decode_signature(expected_hex.as_bytes())
        .is_some_and(|expected| expected.ct_eq(signature).into())
}

/// A signature's 64 hex digits; `None` for anything else.
pub(super) fn decode_signature(hex_digits: &[u8]) -> Option<[u8; 32]> {
    let mut signature = [0; 32];
    hex::decode_to_slice(hex_digits, &mut signature).ok()?;
    Some(signature)
}
