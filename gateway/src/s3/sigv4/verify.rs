//! Proves a claim with the signer's secret.

use super::MAX_SKEW_S;
use super::canonical::{canonical_request, decode};
use super::chunk_signer::{ChunkSigner, is_signature};
use super::parse::{
    AuthRequest, Claim, HeaderAuth, PresignedAuth, malformed_header, malformed_query,
    payload_header,
};
use super::payload::{PayloadKind, PayloadMode};
use super::query::Query;
use super::request_time::{RequestTime, extended};
use crate::s3::error::{ErrorCode, S3Error};
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use http::header::{HOST, HeaderName};
use http::request::Parts;
use http::{HeaderMap, Method};
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use std::time::SystemTime;

/// A request that is what it says it is. Invariants: only this file makes one; with an access key id, the signature was
/// right, covers `host` and every `x-amz-*` header, and is of this time.
pub struct Verified {
    access_key_id: Option<String>,
    payload: PayloadMode,
    signed_headers: Vec<HeaderName>,
    is_presigned: bool,
}

impl Verified {
    /// Whose signature it is; `None`: nobody's, the request is anonymous.
    #[must_use]
    pub fn access_key_id(&self) -> Option<&str> {
        self.access_key_id.as_deref()
    }

    /// How the body comes.
    #[must_use]
    pub const fn payload(&self) -> &PayloadMode {
        &self.payload
    }

    /// The headers that the signature covers, sorted.
    #[must_use]
    pub fn signed_headers(&self) -> &[HeaderName] {
        &self.signed_headers
    }

    /// Whether it came as a presigned URL.
    #[must_use]
    pub const fn is_presigned(&self) -> bool {
        self.is_presigned
    }

    /// For every operation but PutObject and UploadPart: refuses a body in chunks.
    ///
    /// # Errors
    /// `InvalidRequest`.
    pub fn refuse_streaming(&self) -> Result<(), S3Error> {
        if self.payload.is_streaming() {
            return Err(streaming_not_allowed());
        }
        Ok(())
    }
}

/// Proves claims made to one region; keeps the signing keys of late, which are good for a day.
pub struct Verifier {
    region: String,
    signing_keys: Cache<[u8; 32], [u8; 32]>,
}

/// Some 100 KiB of keys.
const SIGNING_KEYS_MAX: usize = 1024;

impl Verifier {
    /// A verifier for requests to `region`.
    #[must_use]
    pub fn new(region: impl Into<String>) -> Self {
        Self {
            region: region.into(),
            signing_keys: Cache::new(SIGNING_KEYS_MAX),
        }
    }

    /// Proves what [`super::parse`] read from the same request, with the secret of the access key id it named.
    ///
    /// # Errors
    /// What S3 answers to a claim that is false, late, or for another region, and to headers that nobody signed.
    pub fn verify(
        &self,
        auth: &AuthRequest,
        parts: &Parts,
        secret: &str,
        now: SystemTime,
    ) -> Result<Verified, S3Error> {
        let now = RequestTime::from_system_time(now);
        let (claim, is_presigned) = match auth {
            AuthRequest::Anonymous => return Err(S3Error::new(ErrorCode::AccessDenied)),
            AuthRequest::Header(HeaderAuth(claim)) => {
                self.check_region(claim, malformed_header)?;
                check_skew(claim, &now)?;
                (claim, false)
            }
            AuthRequest::Presigned(PresignedAuth { claim, expires_s }) => {
                self.check_region(claim, |why| {
                    malformed_query(format!(
                        "Error parsing the X-Amz-Credential parameter; {why}"
                    ))
                })?;
                check_lifetime(claim, *expires_s, &now)?;
                (claim, true)
            }
        };
        let (signing_key, signature) = self.check_signature(claim, parts, secret)?;
        check_all_signed(&parts.headers, &claim.signed_headers)?;
        check_no_session_token(parts)?;
        check_streaming(claim.payload.kind, &parts.method, is_presigned)?;
        let signer = || {
            let time = claim.time.basic().to_owned();
            ChunkSigner::new(signing_key, claim.credential.scope(), time, &signature)
        };
        Ok(Verified {
            access_key_id: Some(claim.credential.access_key_id.clone()),
            payload: match claim.payload.kind {
                PayloadKind::Hash(hash) => PayloadMode::Hash(hash),
                PayloadKind::Unsigned => PayloadMode::Unsigned,
                PayloadKind::StreamingSigned => PayloadMode::StreamingSigned(signer()),
                PayloadKind::StreamingSignedTrailer => {
                    PayloadMode::StreamingSignedTrailer(signer())
                }
                PayloadKind::StreamingUnsignedTrailer => PayloadMode::StreamingUnsignedTrailer,
            },
            signed_headers: claim.signed_headers.clone(),
            is_presigned,
        })
    }

    /// SDKs read the region from the error and try again there.
    fn check_region(&self, claim: &Claim, error: impl Fn(&str) -> S3Error) -> Result<(), S3Error> {
        let region = &claim.credential.region;
        if *region == self.region {
            return Ok(());
        }
        let why = format!(
            "the region '{region}' is wrong; expecting '{}'",
            self.region
        );
        Err(error(&why).with_extra("Region", self.region.clone()))
    }

    /// Gives back the signing key and the signature, which seed a chain of chunk signatures.
    fn check_signature(
        &self,
        claim: &Claim,
        parts: &Parts,
        secret: &str,
    ) -> Result<([u8; 32], [u8; 32]), S3Error> {
        let invalid_uri = || S3Error::new(ErrorCode::InvalidURI);
        let path = decode(parts.uri.path().as_bytes(), false).ok_or_else(invalid_uri)?;
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        let canonical = canonical_request(
            &parts.method,
            &path,
            &query,
            &parts.headers,
            &claim.signed_headers,
            &claim.payload.text,
        );
        let (Some(canonical), Some(signature)) = (canonical, claim.signature) else {
            return Err(S3Error::new(ErrorCode::SignatureDoesNotMatch)
                .with_extra("AWSAccessKeyId", claim.credential.access_key_id.clone()));
        };
        let string_to_sign = format!(
            "{}\n{}\n{}\n{}",
            super::ALGORITHM,
            claim.time.basic(),
            claim.credential.scope(),
            hex::encode(Sha256::digest(&canonical))
        );
        let key = self.signing_key(secret, claim);
        if is_signature(
            &calculate_signature(key, string_to_sign.as_bytes()),
            &signature,
        ) {
            return Ok((key, signature));
        }
        // What the client sent, spelt as we signed it: the one way to find where the two spellings part.
        let shown = &canonical[..canonical.len().min(CANONICAL_SHOWN_BYTES_MAX)];
        Err(S3Error::new(ErrorCode::SignatureDoesNotMatch)
            .with_extra("AWSAccessKeyId", claim.credential.access_key_id.clone())
            .with_extra("StringToSign", string_to_sign)
            .with_extra("SignatureProvided", hex::encode(signature))
            .with_extra(
                "CanonicalRequest",
                String::from_utf8_lossy(shown).into_owned(),
            ))
    }

    /// The key of a secret, day and region; derived once, then remembered under a hash of the three.
    fn signing_key(&self, secret: &str, claim: &Claim) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for field in [claim.time.day(), &claim.credential.region, secret] {
            // A length in front keeps two triples from running into the same bytes.
            hasher.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(field.as_bytes());
        }
        let id: [u8; 32] = hasher.finalize().into();
        if let Some(key) = self.signing_keys.get(&id) {
            return key;
        }
        let derived = generate_signing_key(
            secret,
            claim.time.to_system_time(),
            &claim.credential.region,
            "s3",
        );
        let mut key = [0; 32];
        key.copy_from_slice(derived.as_ref());
        self.signing_keys.insert(id, key);
        key
    }
}

const CANONICAL_SHOWN_BYTES_MAX: usize = 8 * 1024;

/// Lets an anonymous request in as far as its policy will: reads how its body comes.
///
/// # Errors
/// `InvalidRequest` for signed chunks, which have no seed, and for chunks where no object is uploaded;
/// `InvalidArgument` and `NotImplemented` as for a signed request.
pub fn admit_anonymous(parts: &Parts) -> Result<Verified, S3Error> {
    let kind = payload_header(parts)?.map_or(PayloadKind::Unsigned, |claim| claim.kind);
    check_streaming(kind, &parts.method, true)?;
    let payload = match kind {
        PayloadKind::Hash(hash) => PayloadMode::Hash(hash),
        PayloadKind::Unsigned => PayloadMode::Unsigned,
        PayloadKind::StreamingUnsignedTrailer => PayloadMode::StreamingUnsignedTrailer,
        PayloadKind::StreamingSigned | PayloadKind::StreamingSignedTrailer => {
            return Err(no_seed_signature());
        }
    };
    Ok(Verified {
        access_key_id: None,
        payload,
        signed_headers: Vec::new(),
        is_presigned: false,
    })
}

fn check_skew(claim: &Claim, now: &RequestTime) -> Result<(), S3Error> {
    if claim.time.unix_s().abs_diff(now.unix_s()) <= MAX_SKEW_S.unsigned_abs() {
        return Ok(());
    }
    Err(S3Error::new(ErrorCode::RequestTimeTooSkewed)
        .with_extra("RequestTime", claim.time.basic())
        .with_extra("ServerTime", extended(now.unix_s()))
        .with_extra(
            "MaxAllowedSkewMilliseconds",
            (MAX_SKEW_S * 1000).to_string(),
        ))
}

fn check_lifetime(claim: &Claim, expires_s: u32, now: &RequestTime) -> Result<(), S3Error> {
    let expiry_unix_s = claim.time.unix_s().saturating_add(i64::from(expires_s));
    if claim.time.unix_s() > now.unix_s().saturating_add(MAX_SKEW_S) {
        return Err(
            S3Error::with_message(ErrorCode::AccessDenied, "Request is not valid yet")
                .with_extra("ServerTime", extended(now.unix_s())),
        );
    }
    if now.unix_s() > expiry_unix_s {
        return Err(
            S3Error::with_message(ErrorCode::AccessDenied, "Request has expired")
                .with_extra("X-Amz-Expires", expires_s.to_string())
                .with_extra("Expires", extended(expiry_unix_s))
                .with_extra("ServerTime", extended(now.unix_s())),
        );
    }
    Ok(())
}

/// Anyone on the way could add meaning to a signed request by a header that the signature does not cover.
/// `x-amz-content-sha256` is covered in any case: its value stands in the canonical request, as S3 knows too.
fn check_all_signed(headers: &HeaderMap, signed: &[HeaderName]) -> Result<(), S3Error> {
    let must_be_signed = |name: &HeaderName| {
        let name = name.as_str();
        name == HOST.as_str() || (name.starts_with("x-amz-") && name != "x-amz-content-sha256")
    };
    let mut unsigned: Vec<&str> = headers
        .keys()
        .chain([&HOST])
        .filter(|name| must_be_signed(name) && !signed.contains(name))
        .map(HeaderName::as_str)
        .collect();
    if unsigned.is_empty() {
        return Ok(());
    }
    unsigned.sort_unstable();
    unsigned.dedup();
    Err(S3Error::with_message(
        ErrorCode::AccessDenied,
        "There were headers present in the request which were not signed",
    )
    .with_extra("HeadersNotSigned", unsigned.join(", ")))
}

/// There is no service that hands out session tokens, so every token is a false one.
fn check_no_session_token(parts: &Parts) -> Result<(), S3Error> {
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    if parts.headers.contains_key("x-amz-security-token")
        || query.get("X-Amz-Security-Token").is_some()
    {
        return Err(S3Error::new(ErrorCode::InvalidToken));
    }
    Ok(())
}

/// Objects and parts, which alone may come in chunks, are PUT; signed chunks hang on an `Authorization` header.
fn check_streaming(kind: PayloadKind, method: &Method, has_no_seed: bool) -> Result<(), S3Error> {
    if kind.is_streaming() && method != Method::PUT {
        return Err(streaming_not_allowed());
    }
    match kind {
        PayloadKind::StreamingSigned | PayloadKind::StreamingSignedTrailer if has_no_seed => {
            Err(no_seed_signature())
        }
        _ => Ok(()),
    }
}

fn streaming_not_allowed() -> S3Error {
    S3Error::with_message(
        ErrorCode::InvalidRequest,
        "A streaming payload is allowed only for uploads of objects and parts.",
    )
}

fn no_seed_signature() -> S3Error {
    S3Error::with_message(
        ErrorCode::InvalidRequest,
        "A signed streaming payload requires an Authorization header.",
    )
}
