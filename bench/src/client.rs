//! One kept-alive HTTP/1.1 connection that sends signed requests, one after the other.
//!
//! A connection that the server closed, or that an error left in doubt, is made anew at the next request; the request
//! itself is never repeated, so that every failure is counted.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::body::Checker;
use crate::sign::{Signer, UNSIGNED_PAYLOAD, sha256_hex};

type Body = BoxBody<Bytes, Infallible>;

pub(crate) struct Connection {
    host: String,
    signer: Signer,
    is_payload_signed: bool,
    sender: Option<SendRequest<Body>>,
}

/// What to send. Path and query are encoded already, the query sorted.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) pieces: Vec<Bytes>,
}

impl Connection {
    /// `endpoint` is `http://host:port`; anything else is refused, TLS too.
    pub(crate) fn new(
        endpoint: &str,
        signer: Signer,
        is_payload_signed: bool,
    ) -> Result<Self, String> {
        let host = endpoint
            .strip_prefix("http://")
            .ok_or_else(|| format!("{endpoint}: only http:// endpoints"))?
            .trim_end_matches('/')
            .to_owned();
        Ok(Self {
            host,
            signer,
            is_payload_signed,
            sender: None,
        })
    }

    /// Sends, and reads the whole answer: into `check` when it is given and the status is 200, else into the result.
    pub(crate) async fn send(
        &mut self,
        call: Call<'_>,
        check: Option<&mut Checker>,
    ) -> Result<(StatusCode, Bytes), String> {
        let result = self.exchange(call, check).await;
        if result.is_err() {
            self.sender = None;
        }
        result
    }

    async fn exchange(
        &mut self,
        call: Call<'_>,
        check: Option<&mut Checker>,
    ) -> Result<(StatusCode, Bytes), String> {
        let request = self.request(call)?;
        let sender = self.connected().await?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| format!("sending: {e}"))?;
        let status = response.status();
        let mut body = response.into_body();
        let Some(check) = check.filter(|_| status == StatusCode::OK) else {
            let whole = body.collect().await.map_err(|e| format!("reading: {e}"))?;
            return Ok((status, whole.to_bytes()));
        };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| format!("reading: {e}"))?;
            if let Some(data) = frame.data_ref() {
                check.take(data);
            }
        }
        Ok((status, Bytes::new()))
    }

    fn request(&mut self, call: Call<'_>) -> Result<Request<Body>, String> {
        let length: usize = call.pieces.iter().map(Bytes::len).sum();
        let payload_hash = if length == 0 {
            sha256_hex(b"")
        } else if self.is_payload_signed {
            sha256_hex(&call.pieces.concat())
        } else {
            UNSIGNED_PAYLOAD.to_owned()
        };
        let now = time::OffsetDateTime::now_utc();
        let signed = self.signer.sign(
            call.method.as_str(),
            &self.host,
            call.path,
            call.query,
            &payload_hash,
            now,
        );
        let target = if call.query.is_empty() {
            call.path.to_owned()
        } else {
            format!("{}?{}", call.path, call.query)
        };
        let frames = call.pieces.into_iter().map(|piece| Ok(Frame::data(piece)));
        Request::builder()
            .method(call.method)
            .uri(target)
            .header("host", &self.host)
            .header("x-amz-date", signed.amz_date)
            .header("x-amz-content-sha256", payload_hash)
            .header("authorization", signed.authorization)
            .header("content-length", length)
            .body(StreamBody::new(stream::iter(frames)).boxed())
            .map_err(|e| format!("making a request: {e}"))
    }

    async fn connected(&mut self) -> Result<&mut SendRequest<Body>, String> {
        let is_usable = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !is_usable {
            let stream = TcpStream::connect(&self.host)
                .await
                .map_err(|e| format!("connecting to {}: {e}", self.host))?;
            stream
                .set_nodelay(true)
                .map_err(|e| format!("TCP_NODELAY: {e}"))?;
            let (sender, connection) = handshake(TokioIo::new(stream))
                .await
                .map_err(|e| format!("handshake: {e}"))?;
            // Ends when the sender is dropped or the server closes; its error shows at the next request.
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        self.sender
            .as_mut()
            .ok_or_else(|| "no connection".to_owned())
    }
}
