//! A whole connection, hyper included, over a stream in memory: what is answered, and what ends it. The cluster behind
//! never forms. Where silence is judged, the limits are short, and the test waits for the verdict alone.

use super::*;
use crate::config::GatewayConfig;
use crate::coordinator::{Coordinator, CoordinatorOptions};
use ringfort_wire::environment::Environment;
use ringfort_wire::error::CallError;
use ringfort_wire::id::Payload;
use ringfort_wire::message::{Request, Response};
use ringfort_wire::transport::{BoxFuture, Lane, Transport};
use tokio::io::DuplexStream;

struct Nobody;

impl Transport for Nobody {
    fn send(
        &self,
        _: ringfort_ring::id::NodeId,
        _: Lane,
        _: Request,
        _: Payload,
        _: Duration,
    ) -> BoxFuture<Result<(Response, Payload), CallError>> {
        Box::pin(async { Err(CallError::TimedOut) })
    }
}

struct Client {
    stream: DuplexStream,
    shutdown: watch::Sender<bool>,
}

impl Client {
    fn connect() -> Self {
        Self::connect_with(GatewayConfig::default())
    }

    fn connect_with(config: GatewayConfig) -> Self {
        let (_layout, known) = watch::channel(None);
        let coordinator = Coordinator::new(
            Arc::new(Nobody),
            known,
            Environment::os(),
            CoordinatorOptions::default(),
        );
        let gateway = Gateway::new(Arc::new(coordinator), config);
        let (stream, server) = tokio::io::duplex(4 * 1024 * 1024);
        let (shutdown, until) = watch::channel(false);
        tokio::spawn(serve(gateway, server, None, until));
        Self { stream, shutdown }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// One answer: its head in lower case, and its body.
    async fn answer(&mut self) -> (String, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// Everything until the connection is closed.
    async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).await.unwrap();
        String::from_utf8(rest).unwrap()
    }
}

const READY: &[u8] = b"GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn a_connection_serves_request_after_request() {
    let mut client = Client::connect();
    for _ in 0..3 {
        client.send(READY).await;
        let (head, body) = client.answer().await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        for name in [
            "x-amz-request-id: ",
            "x-amz-id-2: ",
            "date: ",
            "server: ringfort",
        ] {
            assert!(head.contains(name), "{name} in {head}");
        }
        assert_eq!(body, "alive\n");
    }
    drop(client.shutdown);
}

#[tokio::test]
async fn an_anonymous_request_is_denied_with_a_document_and_the_connection_stays_in_step() {
    let mut client = Client::connect();
    client
        .send(b"GET /bucket/k%3Cy HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    let (head, body) = client.answer().await;
    assert!(head.starts_with("http/1.1 403"), "{head}");
    assert!(
        body.contains("<Code>AccessDenied</Code>")
            && body.contains("<Resource>/bucket/k%3Cy</Resource>"),
        "{body}"
    );
    let id = head
        .lines()
        .find_map(|line| line.strip_prefix("x-amz-request-id: "))
        .unwrap()
        .to_uppercase();
    assert!(
        body.contains(&format!("<RequestId>{id}</RequestId>")),
        "{body}"
    );
    client
        .send(b"HEAD /bucket/key HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    let (head, body) = client.answer().await;
    assert!(
        head.starts_with("http/1.1 403") && body.is_empty(),
        "{head}"
    );
    client.send(READY).await;
    assert!(client.answer().await.0.starts_with("http/1.1 200"));
}

#[tokio::test]
async fn rows_164_to_168_a_refused_head_is_answered_in_xml_and_ends_the_connection() {
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "PUT /b/k HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "PUT /b/k HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        let mut client = Client::connect();
        client.send(READY).await;
        client.send(head.as_bytes()).await;
        client.send(READY).await;
        assert!(
            client.answer().await.0.starts_with("http/1.1 200"),
            "the good request before it is served"
        );
        let (refusal, body) = client.answer().await;
        assert!(
            refusal.starts_with("http/1.1 400") && refusal.contains("connection: close"),
            "{refusal}"
        );
        assert!(body.contains("<Code>BadRequest</Code>"), "{body}");
        assert_eq!(
            client.rest().await,
            "",
            "nothing behind a refused head is answered"
        );
    }
}

#[tokio::test]
async fn rows_103_and_171_a_long_head_is_refused_with_its_own_code() {
    let long = "x".repeat(100 * 1024);
    for (request, status, code) in [
        (
            format!("GET / HTTP/1.1\r\nHost: h\r\nA: {long}\r\n\r\n"),
            "400",
            "RequestHeaderSectionTooLarge",
        ),
        (
            format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"),
            "414",
            "URITooLong",
        ),
    ] {
        let mut client = Client::connect();
        client.send(request.as_bytes()).await;
        let (head, body) = client.answer().await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        assert!(body.contains(code), "{body}");
    }
}

#[tokio::test]
async fn row_176_the_body_of_a_refused_request_is_never_answered() {
    let mut client = Client::connect();
    let hidden = READY.repeat(100);
    let head = format!(
        "PUT /bucket/key HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
        hidden.len() + 1
    );
    client.send(head.as_bytes()).await;
    client.send(&hidden).await;
    let (head, _) = client.answer().await;
    assert!(
        head.starts_with("http/1.1 403") && head.contains("connection: close"),
        "{head}"
    );
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn row_135_a_refused_request_is_not_asked_for_its_body() {
    let mut client = Client::connect();
    client.send(b"PUT /bucket/key HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999999\r\nExpect: 100-continue\r\n\r\n").await;
    let (head, _) = client.answer().await;
    assert!(head.starts_with("http/1.1 403"), "{head}");
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn row_172_a_head_that_does_not_get_finished_is_refused() {
    let mut client = Client::connect_with(GatewayConfig {
        head_timeout: Duration::from_millis(20),
        ..GatewayConfig::default()
    });
    client.send(b"GET / HT").await;
    let (head, body) = client.answer().await;
    assert!(
        head.starts_with("http/1.1 400") && body.contains("<Code>RequestTimeout</Code>"),
        "{head}{body}"
    );
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let mut client = Client::connect_with(GatewayConfig {
        idle_timeout: Duration::from_millis(20),
        ..GatewayConfig::default()
    });
    client.send(READY).await;
    client.answer().await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_clients_refusal_header_without_the_token_means_nothing() {
    let mut client = Client::connect();
    client
        .send(b"GET / HTTP/1.1\r\nHost: h\r\nx-ringfort-refusal: 00\r\n\r\n")
        .await;
    let (head, body) = client.answer().await;
    assert!(
        head.starts_with("http/1.1 403") && body.contains("AccessDenied"),
        "{head}"
    );
}

#[tokio::test]
async fn shutdown_ends_an_idle_connection() {
    let mut client = Client::connect();
    client.send(READY).await;
    client.answer().await;
    client.shutdown.send_replace(true);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_client_that_ends_its_side_behind_its_requests_gets_their_answers() {
    let mut client = Client::connect();
    client.send(READY).await;
    client
        .send(b"GET /bucket/key HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    client.stream.shutdown().await.unwrap();
    assert!(client.answer().await.0.starts_with("http/1.1 200"));
    assert!(client.answer().await.0.starts_with("http/1.1 403"));
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_client_that_ends_its_side_in_the_middle_of_a_request_is_not_waited_for() {
    for cut in [
        &READY[..10],
        b"",
        b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf",
    ] {
        let mut client = Client::connect();
        client.send(cut).await;
        client.stream.shutdown().await.unwrap();
        let rest = client.rest().await;
        assert!(!rest.contains("HTTP/1.1 200"), "{rest}");
    }
}
