//! One request: named, judged, handled, answered, noted.
//!
//! A handler runs as its own task: a client that goes away in the middle of a commit must not stop it halfway.

use super::Gateway;
use super::answer::{Answer, AnswerBody, Held, Outgoing};
use super::audit::Audit;
use super::body::{Incoming, Progress};
use super::guard::{ConnectionState, REFUSAL_HEADER};
use super::health::health;
use crate::metrics::{self, InHand};
use crate::ops;
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::headers::check_section_size;
use crate::s3::query::Query;
use crate::s3::query_headers::with_query_headers;
use crate::s3::route::route;
use crate::s3::sigv4;
use crate::s3::unsupported::refuse_unsupported_headers;
use futures_util::FutureExt as _;
use http::header::{CONNECTION, CONTENT_TYPE, EXPECT, HOST, HeaderValue, SERVER};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// Answers a request. Never fails: what goes wrong becomes an error document.
pub(super) async fn answer(
    gateway: Arc<Gateway>,
    connection: Arc<ConnectionState>,
    peer: Option<SocketAddr>,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Outgoing>, Infallible> {
    let random = gateway.coordinator().environment().random_id();
    let audit = Audit {
        request_id: hex::encode_upper(&random[..8]),
        peer,
        method: request.method().as_str().to_owned(),
        path: request.uri().path().to_owned(),
        ..Audit::default()
    };
    let mark = connection.mark();
    let in_hand = InHand::request();
    let request_id = audit.request_id.clone();
    // The library sends no 100 where there is no body to ask for. botocore then misreads the *next* answer on the
    // connection, and waits for a body without end: such a connection gets no next answer.
    let has_waited_in_vain =
        request.headers().contains_key(EXPECT) && request.body().is_end_stream();
    let task = tokio::spawn(respond(
        gateway,
        connection,
        request,
        audit,
        (mark, in_hand),
    ));
    let answered = task.await.map(|mut response| {
        if has_waited_in_vain {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    });
    Ok(answered.unwrap_or_else(|error| {
        // Handlers' panics are caught inside; this is one outside of them, or the runtime's end.
        tracing::error!(%request_id, %error, "a request's task ended early");
        metrics::panicked();
        let mut response = Response::new(Outgoing::detached());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    }))
}

async fn respond(
    gateway: Arc<Gateway>,
    connection: Arc<ConnectionState>,
    request: Request<hyper::body::Incoming>,
    mut audit: Audit,
    (mark, in_hand): (super::guard::UnderWay, InHand),
) -> Response<Outgoing> {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let is_head = parts.method == Method::HEAD;
    let (incoming, progress) = Incoming::new(body, gateway.config());
    let mut permit = None;
    let handled = if is_refusal(&parts, &connection) {
        audit.operation = "Refused";
        Err(connection.take_refusal())
    } else if let Some((status, body)) = health(&gateway, &parts.method, &parts.uri, &parts.headers)
    {
        audit.operation = "Health";
        Ok(plain(status, body))
    } else {
        match Arc::clone(&gateway.requests).try_acquire_owned() {
            Ok(acquired) => {
                permit = Some(acquired);
                handle_caught(&gateway, parts, incoming, &mut audit).await
            }
            Err(_) => Err(ErrorCode::SlowDown.into()),
        }
    };
    let code = handled
        .as_ref()
        .err()
        .map_or("", |error| error.code.as_str());
    let must_close = audit.operation == "Refused" || gateway.is_draining();
    let answer = finish(&gateway, handled, is_head, must_close, &progress, &audit);
    let took = began.elapsed();
    metrics::request_done(audit.operation(), answer.status().as_u16(), took);
    metrics::bytes_received(audit.operation(), progress.received());
    if audit.operation != "Health" {
        audit.write(answer.status().as_u16(), code, progress.received(), took);
    }
    let held: Held = (mark, in_hand, permit.take() as Option<OwnedSemaphorePermit>);
    answer.map(|body| Outgoing::new(body, audit.operation(), audit.request_id.clone(), held))
}

fn is_refusal(parts: &Parts, connection: &ConnectionState) -> bool {
    parts
        .headers
        .get(REFUSAL_HEADER)
        .is_some_and(|value| value.as_bytes() == connection.token.as_bytes())
}

fn plain(status: StatusCode, body: AnswerBody) -> Answer {
    let mut answer = Answer::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}

/// A panic in a handler is a bug, told to the log and not to the client.
async fn handle_caught(
    gateway: &Arc<Gateway>,
    parts: Parts,
    incoming: Incoming,
    audit: &mut Audit,
) -> Result<Answer, S3Error> {
    let request_id = audit.request_id.clone();
    let handled = AssertUnwindSafe(handle(gateway, parts, incoming, audit))
        .catch_unwind()
        .await;
    handled.unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("not a text");
        tracing::error!(%request_id, panic = ?message, "a handler panicked");
        metrics::panicked();
        Err(ErrorCode::InternalError.into())
    })
}

async fn handle(
    gateway: &Arc<Gateway>,
    mut parts: Parts,
    incoming: Incoming,
    audit: &mut Audit,
) -> Result<Answer, S3Error> {
    check_section_size(&parts.headers)?;
    // The signature covers both where they stand; everything after it sees one set of headers.
    let with_query = with_query_headers(
        &parts.headers,
        &Query::parse(parts.uri.query().unwrap_or(""))?,
    )?;
    let effective = with_query.as_ref().unwrap_or(&parts.headers);
    check_section_size(effective)?;
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let routed = route(
        &parts.method,
        parts.uri.path(),
        parts.uri.query(),
        effective,
        host,
        &gateway.config().base_domains,
    )?;
    audit.operation = routed.operation.name();
    let auth = sigv4::parse(&parts)?;
    let Some(key_id) = auth.access_key_id() else {
        // Its form is judged like any other's; but there is no policy that would let it in.
        sigv4::admit_anonymous(&parts)?;
        return Err(ErrorCode::AccessDenied.into());
    };
    let key = gateway
        .catalog()
        .access_key(key_id)
        .await
        .map_err(|error| ops::refusal(&error.into()))?;
    let Some(key) = key else {
        let shown: String = key_id.chars().take(128).collect();
        return Err(S3Error::new(ErrorCode::InvalidAccessKeyId).with_extra("AWSAccessKeyId", shown));
    };
    let now = UNIX_EPOCH + Duration::from_millis(gateway.coordinator().environment().now_ms());
    let verified = gateway.verifier.verify(&auth, &parts, &key.secret, now)?;
    audit.access_key_id = Some(key.id.clone());
    routed.operation.require_supported()?;
    if let Some(headers) = with_query {
        parts.headers = headers;
    }
    refuse_unsupported_headers(routed.operation, &parts.headers)?;
    let call = ops::Call {
        gateway: Arc::clone(gateway),
        parts,
        routed,
        verified,
        key,
        request_id: audit.request_id.clone(),
    };
    // Boxed: the futures of all operations are in it.
    Box::pin(ops::run(call, incoming)).await
}

/// What every answer carries, and what an error looks like.
fn finish(
    gateway: &Gateway,
    handled: Result<Answer, S3Error>,
    is_head: bool,
    must_close: bool,
    progress: &Progress,
    audit: &Audit,
) -> Answer {
    let mut answer = match handled {
        Ok(answer) => answer,
        Err(error) => error_answer(&error, is_head, audit, &gateway.host_id),
    };
    let headers = answer.headers_mut();
    for (name, value) in [
        ("x-amz-request-id", &audit.request_id),
        ("x-amz-id-2", &gateway.host_id),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    headers.insert(SERVER, HeaderValue::from_static("Ringfort"));
    // What is left of a refused body is not waited for, and never read as a request.
    if must_close || !progress.is_at_end() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

fn error_answer(error: &S3Error, is_head: bool, audit: &Audit, host_id: &str) -> Answer {
    let mut answer = Answer::new(AnswerBody::Empty);
    *answer.status_mut() =
        StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if error.has_body() && !is_head {
        let document = error.to_xml(&audit.path, &audit.request_id, host_id);
        answer
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        *answer.body_mut() = AnswerBody::Full(document.into());
    }
    answer
}
