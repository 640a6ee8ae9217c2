//! A client for tests: signs requests, rightly or as wrongly as a test wishes.

use super::canonical::{canonical_request, decode};
use super::chunk_signer::ChunkSigner;
use super::parse::parse;
use super::query::Query;
use super::request_time::RequestTime;
use super::verify::{Verified, Verifier};
use crate::s3::error::S3Error;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use http::header::HeaderName;
use http::request::Parts;
use sha2::{Digest, Sha256};
use std::time::{Duration, SystemTime};

pub(crate) const ACCESS_KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
pub(crate) const REGION: &str = "us-east-1";
pub(crate) const NOW: &str = "20130524T000000Z";

pub(crate) fn now() -> SystemTime {
    RequestTime::parse_basic(NOW).unwrap().to_system_time()
}

/// A request in the making. Public fields: a test bends what it wants.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) method: &'static str,
    pub(crate) uri: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// `None`: all of `headers`.
    pub(crate) signed_headers: Option<String>,
    pub(crate) credential: String,
    pub(crate) secret: &'static str,
    pub(crate) time: String,
    pub(crate) expires: String,
}

impl Client {
    pub(crate) fn new(method: &'static str, uri: &str) -> Self {
        Self {
            method,
            uri: uri.to_owned(),
            headers: vec![("host", "s3.example.com:9000".to_owned())],
            signed_headers: None,
            credential: format!("{ACCESS_KEY_ID}/20130524/{REGION}/s3/aws4_request"),
            secret: SECRET,
            time: NOW.to_owned(),
            expires: "3600".to_owned(),
        }
    }

    pub(crate) fn at(mut self, time: &str) -> Self {
        self.credential = format!("{ACCESS_KEY_ID}/{}/{REGION}/s3/aws4_request", &time[..8]);
        time.clone_into(&mut self.time);
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn payload(self, value: &str) -> Self {
        self.header("x-amz-content-sha256", value)
    }

    /// The request as it stands, without a signature.
    pub(crate) fn unsigned(&self) -> Parts {
        let mut builder = http::Request::builder().method(self.method).uri(&self.uri);
        for (name, value) in &self.headers {
            builder = builder.header(*name, value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn signed_names(&self) -> Vec<HeaderName> {
        let list = self.signed_headers.clone().unwrap_or_else(|| {
            let mut names: Vec<&str> = self.headers.iter().map(|(name, _)| *name).collect();
            names.sort_unstable();
            names.dedup();
            names.join(";")
        });
        list.split(';')
            .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
            .collect()
    }

    fn signed_list(&self) -> String {
        self.signed_headers.clone().unwrap_or_else(|| {
            self.signed_names()
                .iter()
                .map(HeaderName::as_str)
                .collect::<Vec<_>>()
                .join(";")
        })
    }

    fn signature(&self, parts: &Parts, payload: &str) -> String {
        let query = Query::parse(parts.uri.query().unwrap_or_default()).unwrap();
        let path = decode(parts.uri.path().as_bytes(), false).unwrap();
        let names: Vec<HeaderName> = self
            .signed_names()
            .into_iter()
            .filter(|name| parts.headers.contains_key(name))
            .collect();
        let canonical = canonical_request(
            &parts.method,
            &path,
            &query,
            &parts.headers,
            &names,
            payload,
        )
        .unwrap();
        let scope = self
            .credential
            .split_once('/')
            .map_or("", |(_, scope)| scope);
        let string_to_sign = format!(
            "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
            self.time,
            hex::encode(Sha256::digest(canonical))
        );
        let fields: Vec<&str> = scope.split('/').collect();
        let day = RequestTime::parse_basic(&format!("{}T000000Z", fields[0])).unwrap();
        let key = generate_signing_key(self.secret, day.to_system_time(), fields[1], fields[2]);
        calculate_signature(key, string_to_sign.as_bytes())
    }

    /// Signed in the header.
    pub(crate) fn sign(mut self) -> Parts {
        if !self
            .headers
            .iter()
            .any(|(name, _)| ["x-amz-date", "date"].contains(name))
        {
            self.headers.push(("x-amz-date", self.time.clone()));
        }
        let mut parts = self.unsigned();
        let payload = self
            .headers
            .iter()
            .find(|(name, _)| *name == "x-amz-content-sha256");
        let signature = self.signature(&parts, payload.map_or("", |(_, value)| value));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}, SignedHeaders={}, Signature={signature}",
            self.credential,
            self.signed_list()
        );
        parts
            .headers
            .insert("authorization", authorization.parse().unwrap());
        parts
    }

    /// Signed in the query.
    pub(crate) fn presign(mut self) -> Parts {
        let separator = if self.uri.contains('?') { '&' } else { '?' };
        self.uri = format!(
            "{}{separator}X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={}&X-Amz-Expires={}&\
             X-Amz-SignedHeaders={}",
            self.uri,
            self.credential.replace('/', "%2F"),
            self.time,
            self.expires,
            self.signed_list().replace(';', "%3B")
        );
        let payload = self
            .headers
            .iter()
            .find(|(name, _)| *name == "x-amz-content-sha256");
        let signature = self.signature(
            &self.unsigned(),
            payload.map_or("UNSIGNED-PAYLOAD", |(_, value)| value),
        );
        self.uri = format!("{}&X-Amz-Signature={signature}", self.uri);
        self.unsigned()
    }
}

/// Parses and verifies as the server does.
pub(crate) fn verify(parts: &Parts) -> Result<Verified, S3Error> {
    verify_at(parts, now())
}

pub(crate) fn verify_at(parts: &Parts, now: SystemTime) -> Result<Verified, S3Error> {
    Verifier::new(REGION).verify(&parse(parts)?, parts, SECRET, now)
}

/// Changes the URI of a signed request.
pub(crate) fn with_uri(mut parts: Parts, change: impl FnOnce(String) -> String) -> Parts {
    parts.uri = change(parts.uri.to_string()).parse().unwrap();
    parts
}

/// Changes the `Authorization` header of a signed request.
pub(crate) fn with_authorization(mut parts: Parts, change: impl FnOnce(String) -> String) -> Parts {
    let value = parts.headers["authorization"].to_str().unwrap().to_owned();
    parts
        .headers
        .insert("authorization", change(value).parse().unwrap());
    parts
}

pub(crate) fn seconds_later(seconds: u64) -> SystemTime {
    now() + Duration::from_secs(seconds)
}

fn key() -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(generate_signing_key(SECRET, now(), REGION, "s3").as_ref());
    key
}

const SCOPE: &str = "20130524/us-east-1/s3/aws4_request";

/// The checking side of a chain of chunk signatures that begins with `seed`.
pub(crate) fn streaming_signer(seed: [u8; 32]) -> ChunkSigner {
    ChunkSigner::new(key(), SCOPE.to_owned(), NOW.to_owned(), &seed)
}

/// The signing side: the signature of a chunk behind `previous`.
pub(crate) fn sign_chunk(previous: &str, data: &[u8]) -> String {
    let string_to_sign = format!(
        "AWS4-HMAC-SHA256-PAYLOAD\n{NOW}\n{SCOPE}\n{previous}\n\
         e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n{}",
        hex::encode(Sha256::digest(data))
    );
    calculate_signature(key(), string_to_sign.as_bytes())
}

/// The signing side: the signature of a trailer behind `previous`.
pub(crate) fn sign_trailer(previous: &str, canonical: &str) -> String {
    let string_to_sign = format!(
        "AWS4-HMAC-SHA256-TRAILER\n{NOW}\n{SCOPE}\n{previous}\n{}",
        hex::encode(Sha256::digest(canonical))
    );
    calculate_signature(key(), string_to_sign.as_bytes())
}
