//! Chunks and digests together: what the server feeds a request's body to.

use super::length::body_length;
use super::verifier::{BodyDigests, BodyExpectation, BodyVerifier};
use crate::s3::checksum::ChecksumAlgorithm;
use crate::s3::checksum_headers::RequestChecksums;
use crate::s3::chunked::{ChunkFraming, ChunkedDecoder, Trailers};
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::sigv4::{PayloadMode, Verified};
use bytes::Bytes;
use http::HeaderMap;

/// Reads one body: raw bytes in, data out, digests at the end.
pub struct PayloadReader {
    length: u64,
    checksums: RequestChecksums,
    decoder: Option<ChunkedDecoder>,
    verifier: BodyVerifier,
    refusal: Option<S3Error>,
}

impl PayloadReader {
    /// A reader for the body of a verified request, judged by its headers before any of the body is read.
    /// `default_checksum` is computed if the client chose none.
    ///
    /// # Errors
    /// What S3 answers to a body without a length, or with checksum headers that contradict themselves.
    pub fn new(
        verified: &Verified,
        headers: &HeaderMap,
        default_checksum: Option<ChecksumAlgorithm>,
    ) -> Result<Self, S3Error> {
        Self::with_checksums(
            verified,
            headers,
            RequestChecksums::parse(headers)?,
            default_checksum,
        )
    }

    /// A reader for the document of CompleteMultipartUpload, whose `x-amz-checksum-*` header speaks of the object and
    /// not of the document ([`crate::s3::checksum_headers::object_checksum`] reads it).
    ///
    /// # Errors
    /// What S3 answers to a body without a length, or with a malformed `Content-MD5`.
    pub fn for_document_about_an_object(
        verified: &Verified,
        headers: &HeaderMap,
    ) -> Result<Self, S3Error> {
        verified.refuse_streaming()?;
        Self::with_checksums(
            verified,
            headers,
            RequestChecksums::parse_content_md5(headers)?,
            None,
        )
    }

    fn with_checksums(
        verified: &Verified,
        headers: &HeaderMap,
        checksums: RequestChecksums,
        default_checksum: Option<ChecksumAlgorithm>,
    ) -> Result<Self, S3Error> {
        let length = body_length(headers, verified.payload().is_streaming())?;
        let (framing, sha256) = match verified.payload() {
            PayloadMode::Hash(hash) => (None, Some(*hash)),
            PayloadMode::Unsigned => (None, None),
            PayloadMode::StreamingSigned(signer) => {
                (Some(ChunkFraming::Signed(signer.clone())), None)
            }
            PayloadMode::StreamingSignedTrailer(signer) => {
                let framing = ChunkFraming::SignedWithTrailer(signer.clone(), checksums.trailer());
                (Some(framing), None)
            }
            PayloadMode::StreamingUnsignedTrailer => (
                Some(ChunkFraming::UnsignedWithTrailer(checksums.trailer())),
                None,
            ),
        };
        let has_trailer = !matches!(framing, None | Some(ChunkFraming::Signed(_)));
        if checksums.trailer().is_some() && !has_trailer {
            return Err(S3Error::with_message(
                ErrorCode::InvalidRequest,
                "x-amz-trailer was sent, but x-amz-content-sha256 does not announce a trailer",
            ));
        }
        Ok(Self {
            length,
            decoder: framing.map(|framing| ChunkedDecoder::new(framing, length)),
            verifier: BodyVerifier::new(BodyExpectation {
                length,
                sha256,
                checksums: checksums.clone(),
                default_checksum,
            }),
            checksums,
            refusal: None,
        })
    }

    /// How many bytes of data the body holds.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// What the headers say about checksums.
    #[must_use]
    pub const fn checksums(&self) -> &RequestChecksums {
        &self.checksums
    }

    /// Takes in raw bytes and appends the data in them to `data`. The data is not final before `finish`.
    ///
    /// # Errors
    /// What S3 answers to a body that is not as promised; the same again on every later call. `data` then holds nothing
    /// new.
    pub fn push(&mut self, input: Bytes, data: &mut Vec<Bytes>) -> Result<(), S3Error> {
        if let Some(error) = &self.refusal {
            return Err(error.clone());
        }
        let before = data.len();
        let pushed = self.decode(input, data).and_then(|()| {
            let mut fresh = data.iter().skip(before);
            fresh.try_for_each(|piece| self.verifier.update(piece))
        });
        pushed.inspect_err(|error| {
            data.truncate(before);
            self.refusal = Some(error.clone());
        })
    }

    fn decode(&mut self, input: Bytes, data: &mut Vec<Bytes>) -> Result<(), S3Error> {
        match &mut self.decoder {
            Some(decoder) => decoder.push(input, data),
            None => {
                if !input.is_empty() {
                    data.push(input);
                }
                Ok(())
            }
        }
    }

    /// Ends the body and judges it.
    ///
    /// # Errors
    /// What S3 answers to a body that is not as promised. Nothing of it may be kept then.
    pub fn finish(self) -> Result<BodyDigests, S3Error> {
        if let Some(error) = self.refusal {
            return Err(error);
        }
        let trailers = self
            .decoder
            .map_or_else(|| Ok(Trailers::default()), ChunkedDecoder::finish)?;
        self.verifier.finish(trailers.checksum.as_ref())
    }
}
