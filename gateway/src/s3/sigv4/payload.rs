//! What a request says about its body in `x-amz-content-sha256`, and what is proven about it.

use super::chunk_signer::ChunkSigner;
use crate::s3::error::{ErrorCode, S3Error};

/// What the client claims; the text is signed as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PayloadClaim {
    pub(super) text: String,
    pub(super) kind: PayloadKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PayloadKind {
    Hash([u8; 32]),
    Unsigned,
    StreamingSigned,
    StreamingSignedTrailer,
    StreamingUnsignedTrailer,
}

/// How the body of a verified request comes, and what it has to prove.
#[derive(Clone)]
pub enum PayloadMode {
    /// Plain bytes with this SHA-256.
    Hash([u8; 32]),
    /// Plain bytes that the signature does not cover.
    Unsigned,
    /// `aws-chunked`, each chunk signed.
    StreamingSigned(ChunkSigner),
    /// `aws-chunked`, each chunk and the trailer signed.
    StreamingSignedTrailer(ChunkSigner),
    /// `aws-chunked`, nothing signed, with a trailer.
    StreamingUnsignedTrailer,
}

impl PayloadMode {
    /// Whether the body is `aws-chunked`.
    #[must_use]
    pub const fn is_streaming(&self) -> bool {
        !matches!(self, Self::Hash(_) | Self::Unsigned)
    }
}

impl PayloadKind {
    pub(super) const fn is_streaming(self) -> bool {
        !matches!(self, Self::Hash(_) | Self::Unsigned)
    }
}

impl PayloadClaim {
    /// `UNSIGNED-PAYLOAD`, which is also what a presigned URL means by silence.
    pub(super) fn unsigned() -> Self {
        Self {
            text: "UNSIGNED-PAYLOAD".to_owned(),
            kind: PayloadKind::Unsigned,
        }
    }

    /// Reads the header's or the parameter's value.
    ///
    /// # Errors
    /// `NotImplemented` for Signature Version 4A's keywords, `InvalidArgument` for all that is no keyword or hash.
    pub(super) fn parse(value: &[u8]) -> Result<Self, S3Error> {
        let text = String::from_utf8_lossy(value);
        let kind = match &*text {
            "UNSIGNED-PAYLOAD" => PayloadKind::Unsigned,
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => PayloadKind::StreamingSigned,
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => PayloadKind::StreamingSignedTrailer,
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => PayloadKind::StreamingUnsignedTrailer,
            ecdsa if ecdsa.starts_with("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD") => {
                return Err(S3Error::new(ErrorCode::NotImplemented));
            }
            other => PayloadKind::Hash(sha256(other).ok_or_else(|| {
                S3Error::invalid_argument(
                    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
                     STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 \
                     value.",
                    "x-amz-content-sha256",
                    other.chars().take(128).collect::<String>(),
                )
            })?),
        };
        Ok(Self {
            text: text.into_owned(),
            kind,
        })
    }
}

fn sha256(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).ok()?;
    Some(hash)
}
