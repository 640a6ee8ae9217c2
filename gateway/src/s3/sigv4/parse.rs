//! What a request claims about its signer, read from the `Authorization` header or the query. Proves nothing.

use super::chunk_signer::decode_signature;
use super::payload::PayloadClaim;
use super::query::Query;
use super::request_time::RequestTime;
use super::scope::Credential;
use super::{ALGORITHM, ALGORITHM_V4A};
use crate::s3::error::{ErrorCode, S3Error};
use http::HeaderValue;
use http::header::{AUTHORIZATION, HeaderName};
use http::request::Parts;

/// Who a request says it comes from.
#[derive(Debug)]
pub enum AuthRequest {
    /// No credentials at all.
    Anonymous,
    /// Signed in the `Authorization` header.
    Header(HeaderAuth),
    /// Signed in the query: a presigned URL.
    Presigned(PresignedAuth),
}

impl AuthRequest {
    /// The access key id whose secret proves the claim; `None` for an anonymous request.
    #[must_use]
    pub fn access_key_id(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::Header(HeaderAuth(claim)) | Self::Presigned(PresignedAuth { claim, .. }) => {
                Some(&claim.credential.access_key_id)
            }
        }
    }
}

/// A claim made in the `Authorization` header.
#[derive(Debug)]
pub struct HeaderAuth(pub(super) Claim);

/// A claim made in the query, good for a while.
#[derive(Debug)]
pub struct PresignedAuth {
    pub(super) claim: Claim,
    pub(super) expires_s: u32,
}

/// What both ways have in common.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) credential: Credential,
    pub(super) time: RequestTime,
    /// Sorted, without duplicates.
    pub(super) signed_headers: Vec<HeaderName>,
    /// `None` if what was sent cannot be any request's signature.
    pub(super) signature: Option<[u8; 32]>,
    pub(super) payload: PayloadClaim,
}

/// A longer list costs more than any client needs.
const SIGNED_HEADERS_MAX: usize = 100;

const CONTENT_SHA256: &str = "x-amz-content-sha256";

const PRESIGNED_PARAMETERS: [&str; 6] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
];

/// The longest a presigned URL may live: a week.
const EXPIRES_S_MAX: u32 = 604_800;

/// Reads a request's claim.
///
/// # Errors
/// What S3 answers to a claim that cannot be read, before any secret is looked up.
pub fn parse(parts: &Parts) -> Result<AuthRequest, S3Error> {
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    let is_presigned = PRESIGNED_PARAMETERS
        .iter()
        .any(|name| query.get(name).is_some());
    let is_presigned_v2 = query.get("AWSAccessKeyId").is_some();
    let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
    match (headers.next(), headers.next()) {
        (Some(_), _) if is_presigned || is_presigned_v2 => Err(only_one_mechanism()),
        (Some(_), Some(_)) => Err(only_one_mechanism()),
        (Some(value), None) => parse_header(value, parts).map(AuthRequest::Header),
        (None, _) if is_presigned => parse_presigned(&query, parts).map(AuthRequest::Presigned),
        (None, _) if is_presigned_v2 => Err(use_version_4()),
        (None, _) => Ok(AuthRequest::Anonymous),
    }
}

/// The payload claim of a request's header, if it has one.
pub(super) fn payload_header(parts: &Parts) -> Result<Option<PayloadClaim>, S3Error> {
    let mut values = parts.headers.get_all(CONTENT_SHA256).iter();
    match (values.next(), values.next()) {
        (Some(_), Some(_)) => Err(S3Error::with_message(
            ErrorCode::InvalidArgument,
            "x-amz-content-sha256 must not be repeated.",
        )),
        (value, _) => value.map(|v| PayloadClaim::parse(v.as_bytes())).transpose(),
    }
}

fn parse_header(value: &HeaderValue, parts: &Parts) -> Result<HeaderAuth, S3Error> {
    let text = value
        .to_str()
        .map_err(|_| invalid_authorization("Authorization header is invalid."))?;
    let Some((scheme, fields)) = text.split_once(' ') else {
        return Err(invalid_authorization(
            "Authorization header is invalid -- one and only one ' ' (space) required",
        ));
    };
    match scheme {
        ALGORITHM => {}
        ALGORITHM_V4A => return Err(S3Error::new(ErrorCode::NotImplemented)),
        "AWS" => return Err(use_version_4()),
        _ => return Err(invalid_authorization("Unsupported Authorization Type")),
    }
    let fields = HeaderFields::parse(fields)?;
    let credential = Credential::parse(fields.credential).map_err(malformed_header)?;
    let signed_headers = signed_headers(fields.signed_headers).map_err(malformed_header)?;
    let time = RequestTime::from_headers(&parts.headers).ok_or_else(|| {
        S3Error::with_message(
            ErrorCode::AccessDenied,
            "AWS authentication requires a valid Date or x-amz-date header",
        )
    })?;
    if time.day() != credential.day {
        return Err(malformed_header(&format!(
            "Invalid credential date \"{}\". This date is not the same as X-Amz-Date: \"{}\".",
            credential.day,
            time.day()
        )));
    }
    let payload = payload_header(parts)?.ok_or_else(|| {
        S3Error::with_message(
            ErrorCode::InvalidRequest,
            "Missing required header for this request: x-amz-content-sha256",
        )
    })?;
    Ok(HeaderAuth(Claim {
        credential,
        time,
        signed_headers,
        signature: decode_signature(fields.signature.as_bytes()),
        payload,
    }))
}

/// The three fields behind the scheme; each stands there once, in any order, and nothing else does.
struct HeaderFields<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> HeaderFields<'a> {
    fn parse(text: &'a str) -> Result<Self, S3Error> {
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in text.split(',') {
            let (name, value) = field.trim().split_once('=').unwrap_or((field.trim(), ""));
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(malformed_header("it has a field that is not known.")),
            };
            if slot.replace(value).is_some() {
                return Err(malformed_header("a field is there twice."));
            }
        }
        Ok(Self {
            credential: credential.ok_or_else(|| malformed_header("missing Credential."))?,
            signed_headers: signed_headers
                .ok_or_else(|| malformed_header("missing SignedHeaders."))?,
            signature: signature.ok_or_else(|| malformed_header("missing Signature."))?,
        })
    }
}

fn parse_presigned(query: &Query, parts: &Parts) -> Result<PresignedAuth, S3Error> {
    // Of two expiries one could revive the URL, depending on who reads which: none is taken.
    if query.has_repeated_amz_parameter() {
        return Err(S3Error::new(ErrorCode::SignatureDoesNotMatch));
    }
    if PRESIGNED_PARAMETERS
        .iter()
        .any(|name| query.get(name).is_none())
    {
        return Err(malformed_query(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, \
             X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
        ));
    }
    let text = |name: &str| query.get_text(name).unwrap_or_default();
    match text("X-Amz-Algorithm") {
        ALGORITHM => {}
        ALGORITHM_V4A => return Err(S3Error::new(ErrorCode::NotImplemented)),
        _ => {
            return Err(malformed_query(
                "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"",
            ));
        }
    }
    let credential = Credential::parse(text("X-Amz-Credential")).map_err(|why| {
        malformed_query(format!(
            "Error parsing the X-Amz-Credential parameter; {why}"
        ))
    })?;
    let time = RequestTime::parse_basic(text("X-Amz-Date")).ok_or_else(|| {
        malformed_query("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    })?;
    if time.day() != credential.day {
        return Err(malformed_query(format!(
            "Invalid credential date \"{}\". This date is not the same as X-Amz-Date: \"{}\".",
            credential.day,
            time.day()
        )));
    }
    let expires_s = parse_expires(text("X-Amz-Expires"))?;
    let signed_headers = signed_headers(text("X-Amz-SignedHeaders")).map_err(|why| {
        malformed_query(format!(
            "Error parsing the X-Amz-SignedHeaders parameter; {why}"
        ))
    })?;
    // Some SDKs move x-amz-content-sha256 into the query like any other header.
    let payload = match (payload_header(parts)?, query.get("X-Amz-Content-Sha256")) {
        (Some(claim), _) => claim,
        (None, Some(value)) => PayloadClaim::parse(value)?,
        (None, None) => PayloadClaim::unsigned(),
    };
    Ok(PresignedAuth {
        claim: Claim {
            credential,
            time,
            signed_headers,
            signature: query.get("X-Amz-Signature").and_then(decode_signature),
            payload,
        },
        expires_s,
    })
}

fn parse_expires(text: &str) -> Result<u32, S3Error> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed_query("X-Amz-Expires should be a number"));
    }
    match text.parse() {
        Ok(expires_s @ 1..=EXPIRES_S_MAX) => Ok(expires_s),
        Ok(0) => Err(malformed_query("X-Amz-Expires must be positive")),
        _ => Err(malformed_query(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than \
             604800 seconds",
        )),
    }
}

/// Reads `a;b;c`: lower case, sorted, each once. One list, one spelling, so both sides sign the same.
fn signed_headers(text: &str) -> Result<Vec<HeaderName>, &'static str> {
    let mut names: Vec<HeaderName> = Vec::new();
    for name in text.split(';') {
        if name.is_empty() || name.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err("SignedHeaders must name headers in lower case.");
        }
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| "SignedHeaders must name headers.")?;
        if names
            .last()
            .is_some_and(|last| last.as_str() >= name.as_str())
        {
            return Err("SignedHeaders must be sorted, and name each header once.");
        }
        if names.len() == SIGNED_HEADERS_MAX {
            return Err("SignedHeaders names too many headers.");
        }
        names.push(name);
    }
    Ok(names)
}

fn only_one_mechanism() -> S3Error {
    S3Error::with_message(
        ErrorCode::InvalidArgument,
        "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter \
         or the Authorization header should be specified",
    )
}

fn invalid_authorization(message: &'static str) -> S3Error {
    S3Error::with_message(ErrorCode::InvalidArgument, message)
        .with_extra("ArgumentName", "Authorization")
}

fn use_version_4() -> S3Error {
    S3Error::with_message(
        ErrorCode::InvalidRequest,
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
    )
}

pub(super) fn malformed_header(why: &str) -> S3Error {
    S3Error::with_message(
        ErrorCode::AuthorizationHeaderMalformed,
        format!("The authorization header is malformed; {why}"),
    )
}

pub(super) fn malformed_query(why: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    S3Error::with_message(ErrorCode::AuthorizationQueryParametersError, why)
}
