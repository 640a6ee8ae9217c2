//! `/health/live` and `/health/ready`, for load balancers: answered without credentials, before routing.
//!
//! Ready means: every partition has a quorum, and no shutdown has begun.

use super::Gateway;
use super::answer::AnswerBody;
use http::{HeaderMap, Method, StatusCode};

/// The answer to a health check; `None` for every other request. What carries credentials or a query is an S3 request:
/// a bucket may be called `health`.
pub(super) fn health(
    gateway: &Gateway,
    method: &Method,
    uri: &http::Uri,
    headers: &HeaderMap,
) -> Option<(StatusCode, AnswerBody)> {
    if ![Method::GET, Method::HEAD].contains(method)
        || uri.query().is_some()
        || headers.contains_key(http::header::AUTHORIZATION)
    {
        return None;
    }
    match uri.path() {
        "/health/live" => Some((StatusCode::OK, text("alive"))),
        "/health/ready" => Some(ready(gateway)),
        _ => None,
    }
}

/// Whether this gateway should get traffic, and why not.
pub(super) fn ready(gateway: &Gateway) -> (StatusCode, AnswerBody) {
    if gateway.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, text("shutting down"));
    }
    let readiness = gateway.coordinator().readiness();
    let status = if readiness.is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, text(&readiness.reason))
}

fn text(line: &str) -> AnswerBody {
    AnswerBody::Full(format!("{line}\n").into())
}
