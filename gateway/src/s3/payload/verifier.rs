//! Digests of a body as its data passes, compared at the end with what the request promised.

use crate::s3::checksum::{ChecksumAlgorithm, ChecksumValue, Hasher};
use crate::s3::checksum_headers::RequestChecksums;
use crate::s3::error::{ErrorCode, S3Error};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};

/// What a body has to be.
#[derive(Clone, Debug)]
pub struct BodyExpectation {
    /// How many bytes of data.
    pub length: u64,
    /// The SHA-256 that was signed.
    pub sha256: Option<[u8; 32]>,
    /// What the headers say.
    pub checksums: RequestChecksums,
    /// The checksum to compute when the client chose none.
    pub default_checksum: Option<ChecksumAlgorithm>,
}

/// What a body was, once all of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyDigests {
    /// The MD5, for the entity tag.
    pub md5: [u8; 16],
    /// How many bytes.
    pub size: u64,
    /// The checksum that the client chose, else the default.
    pub checksum: Option<ChecksumValue>,
}

/// Takes in data and judges it. Computes the MD5 always, everything else only where it is wanted.
pub struct BodyVerifier {
    expectation: BodyExpectation,
    size: u64,
    md5: Md5,
    /// For the signed hash; also the checksum, where that is SHA-256.
    sha256: Option<Hasher>,
    checksum: Option<Hasher>,
}

impl BodyVerifier {
    /// A verifier that has seen nothing.
    #[must_use]
    pub fn new(expectation: BodyExpectation) -> Self {
        let algorithm = expectation
            .checksums
            .algorithm()
            .or(expectation.default_checksum);
        let sha256 = expectation
            .sha256
            .map(|_| Hasher::new(ChecksumAlgorithm::Sha256));
        let is_shared = sha256.is_some() && algorithm == Some(ChecksumAlgorithm::Sha256);
        Self {
            checksum: algorithm.filter(|_| !is_shared).map(Hasher::new),
            sha256,
            expectation,
            size: 0,
            md5: Md5::new(),
        }
    }

    /// Takes in more data.
    ///
    /// # Errors
    /// `IncompleteBody` once there is more than announced.
    pub fn update(&mut self, data: &[u8]) -> Result<(), S3Error> {
        self.size = u64::try_from(data.len())
            .ok()
            .and_then(|len| self.size.checked_add(len))
            .filter(|size| *size <= self.expectation.length)
            .ok_or_else(|| S3Error::new(ErrorCode::IncompleteBody))?;
        self.md5.update(data);
        for hasher in [&mut self.sha256, &mut self.checksum].into_iter().flatten() {
            hasher.update(data);
        }
        Ok(())
    }

    /// Judges the whole; `trailing` is the checksum that came behind the data.
    ///
    /// # Errors
    /// `IncompleteBody`, `XAmzContentSHA256Mismatch` or `BadDigest`; `MalformedTrailerError` for an announced checksum
    /// that did not come.
    pub fn finish(self, trailing: Option<&ChecksumValue>) -> Result<BodyDigests, S3Error> {
        let Self {
            expectation,
            size,
            md5,
            sha256,
            checksum,
        } = self;
        if size != expectation.length {
            return Err(S3Error::new(ErrorCode::IncompleteBody));
        }
        let sha256 = sha256.map(Hasher::finish);
        if let (Some(expected), Some(computed)) = (expectation.sha256, &sha256)
            && computed.as_bytes() != expected
        {
            return Err(S3Error::new(ErrorCode::XAmzContentSHA256Mismatch)
                .with_extra("ClientComputedContentSHA256", hex::encode(expected))
                .with_extra("S3ComputedContentSHA256", hex::encode(computed.as_bytes())));
        }
        let md5: [u8; 16] = md5.finalize().into();
        if let Some(expected) = expectation.checksums.content_md5()
            && expected != md5
        {
            return Err(S3Error::new(ErrorCode::BadDigest)
                .with_extra("ExpectedDigest", BASE64.encode(expected))
                .with_extra("CalculatedDigest", BASE64.encode(md5)));
        }
        // Without a hasher of its own the checksum is the SHA-256 that was computed anyway, or none is wanted.
        let wants_checksum = expectation
            .checksums
            .algorithm()
            .or(expectation.default_checksum)
            .is_some();
        let checksum = checksum
            .map(Hasher::finish)
            .or(sha256.filter(|_| wants_checksum));
        if expectation.checksums.trailer().is_some() && trailing.is_none() {
            return Err(S3Error::new(ErrorCode::MalformedTrailerError));
        }
        for expected in [expectation.checksums.declared(), trailing]
            .into_iter()
            .flatten()
        {
            if checksum.as_ref() != Some(expected) {
                return Err(S3Error::with_message(
                    ErrorCode::BadDigest,
                    format!(
                        "The {} you specified did not match the calculated checksum.",
                        expected.algorithm().name()
                    ),
                ));
            }
        }
        Ok(BodyDigests {
            md5,
            size,
            checksum,
        })
    }
}
