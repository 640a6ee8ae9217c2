//! A client of the admin API: one connection a call, bounded in time and size.

use crate::change::{ChangeRequest, LAYOUT_CHANGES_PATH, LAYOUT_PLAN_PATH};
use crate::layout::{Changed, LAYOUT_PATH, LayoutPlan, LayoutState};
use crate::message::{
    BUCKETS_PATH, BucketInfo, BucketList, ClusterStatus, CreateKey, CreateToken, CreatedKey,
    CreatedToken, Deleted, KEYS_PATH, KeyList, Problem, SCRUB_PATH, STATUS_PATH, ScrubStarted,
    ScrubState, StartScrub, TOKENS_PATH, TokenRole,
};
use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::net::TcpStream;

/// A status of thousands of disks is far below.
const ANSWER_MAX_BYTES: usize = 64 << 20;

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The endpoint is not one.
    #[error("`{0}` is not an admin endpoint: it looks like http://127.0.0.1:9001")]
    Endpoint(String),
    /// Nobody answers.
    #[error(
        "no answer from the admin API at {endpoint} ({why}): is the process running, and is this its --admin-listen?"
    )]
    Unreachable {
        /// Who was asked.
        endpoint: String,
        /// What happened.
        why: String,
    },
    /// The API said no.
    #[error("{} ({})", problem.message, problem.code)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The refusal.
        problem: Problem,
    },
    /// Whatever answered is not the admin API.
    #[error("what answers at {endpoint} is not Ringfort's admin API: {why}")]
    Foreign {
        /// Who was asked.
        endpoint: String,
        /// What was odd.
        why: String,
    },
}

/// A client.
#[derive(Clone)]
pub struct AdminClient {
    endpoint: String,
    authority: String,
    token: String,
    timeout: Duration,
}

impl std::fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AdminClient({})", self.endpoint)
    }
}

impl AdminClient {
    /// A client of an endpoint such as `http://127.0.0.1:9001`.
    ///
    /// # Errors
    /// The endpoint is not one: https and paths are not supported.
    pub fn new(endpoint: &str, token: &str) -> Result<Self, AdminError> {
        let wrong = || AdminError::Endpoint(endpoint.to_owned());
        let uri: Uri = endpoint.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let is_plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/");
        if !is_plain || uri.query().is_some() || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            authority: format!("{}:{port}", authority.host()),
            token: token.to_owned(),
            timeout: Duration::from_secs(30),
        })
    }

    /// The cluster's state.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn status(&self) -> Result<ClusterStatus, AdminError> {
        self.call(Method::GET, STATUS_PATH, None::<&()>).await
    }

    /// Begins scrubs.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn start_scrub(&self, wanted: &StartScrub) -> Result<ScrubStarted, AdminError> {
        self.call(Method::POST, SCRUB_PATH, Some(wanted)).await
    }

    /// How far scrubs are, and what they found.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn scrub(&self) -> Result<ScrubState, AdminError> {
        self.call(Method::GET, SCRUB_PATH, None::<&()>).await
    }

    /// Makes an access key.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn create_key(&self, key: &CreateKey) -> Result<CreatedKey, AdminError> {
        self.call(Method::POST, KEYS_PATH, Some(key)).await
    }

    /// The access keys, without secrets.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn list_keys(&self) -> Result<KeyList, AdminError> {
        self.call(Method::GET, KEYS_PATH, None::<&()>).await
    }

    /// Deletes an access key; when it returns, no gateway takes it any more.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn delete_key(&self, id: &str) -> Result<Deleted, AdminError> {
        let path = format!("{KEYS_PATH}/{}", segment(id));
        self.call(Method::DELETE, &path, None::<&()>).await
    }

    /// The buckets.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn list_buckets(&self) -> Result<BucketList, AdminError> {
        self.call(Method::GET, BUCKETS_PATH, None::<&()>).await
    }

    /// One bucket.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn bucket(&self, name: &str) -> Result<BucketInfo, AdminError> {
        let path = format!("{BUCKETS_PATH}/{}", segment(name));
        self.call(Method::GET, &path, None::<&()>).await
    }

    /// Makes a join token. Only the bootstrap node can.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn create_token(&self, role: TokenRole) -> Result<CreatedToken, AdminError> {
        self.call(Method::POST, TOKENS_PATH, Some(&CreateToken { role }))
            .await
    }

    /// The layout.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn layout(&self) -> Result<LayoutState, AdminError> {
        self.call(Method::GET, LAYOUT_PATH, None::<&()>).await
    }

    /// What changes of the layout come to. None are made.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn plan_layout(&self, wanted: &ChangeRequest) -> Result<LayoutPlan, AdminError> {
        self.call(Method::POST, LAYOUT_PLAN_PATH, Some(wanted))
            .await
    }

    /// Changes the layout.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn change_layout(&self, wanted: &ChangeRequest) -> Result<Changed, AdminError> {
        self.call(Method::POST, LAYOUT_CHANGES_PATH, Some(wanted))
            .await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, AdminError> {
        let body = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| self.foreign(error))?,
            None => Vec::new(),
        };
        let exchange = self.exchange(method, path, body);
        let (status, bytes) = match tokio::time::timeout(self.timeout, exchange).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.unreachable("no answer in time")),
        };
        if (200..300).contains(&status) {
            return serde_json::from_slice(&bytes).map_err(|error| self.foreign(error));
        }
        match serde_json::from_slice(&bytes) {
            Ok(problem) => Err(AdminError::Refused { status, problem }),
            Err(_) => Err(self.foreign(format!("status {status}"))),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(u16, Bytes), AdminError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            // A token with a line break in it, for one.
            .map_err(|_| AdminError::Refused {
                status: 401,
                problem: Problem {
                    code: "Unauthorised".to_owned(),
                    message: "the admin token has characters that none has: copy it again"
                        .to_owned(),
                },
            })?;
        let stream = TcpStream::connect(&self.authority)
            .await
            .map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(error))?;
        let driving = tokio::spawn(connection);
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| self.unreachable(error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES);
        let bytes = body
            .collect()
            .await
            .map_err(|error| self.foreign(error))?
            .to_bytes();
        driving.abort();
        Ok((status, bytes))
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> AdminError {
        AdminError::Unreachable {
            endpoint: self.endpoint.clone(),
            why: why.to_string(),
        }
    }

    fn foreign(&self, why: impl std::fmt::Display) -> AdminError {
        AdminError::Foreign {
            endpoint: self.endpoint.clone(),
            why: why.to_string(),
        }
    }
}

/// A path segment, percent-encoded (RFC 3986, 2.3).
fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    // `.` and `..` would be taken for a walk.
    match encoded.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => encoded,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_http_host_and_port_and_nothing_else() {
        for good in [
            "http://127.0.0.1:9001",
            "http://[::1]:9001/",
            "http://admin",
        ] {
            assert!(AdminClient::new(good, "t").is_ok(), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1:9001",
            "https://a:1",
            "http://a:1/b",
            "http://u:p@a:1",
            "http://a?b",
        ] {
            assert!(AdminClient::new(bad, "t").is_err(), "{bad}");
        }
        assert_eq!(
            AdminClient::new("http://admin", "t").unwrap().authority,
            "admin:80"
        );
    }

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(segment("a/../b?c"), "a%2F..%2Fb%3Fc");
        assert_eq!(segment(".."), "%2E%2E");
        assert_eq!(segment("AKIA-1_2.3~"), "AKIA-1_2.3~");
    }

    #[test]
    fn the_debug_forms_keep_secrets() {
        let client = AdminClient::new("http://a:1", "s3cret").unwrap();
        assert!(!format!("{client:?}").contains("s3cret"));
    }
}
