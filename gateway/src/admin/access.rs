//! The admin token: known to processes only as its hash, compared in constant time.

use super::problem::ProblemAnswer;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What is kept of an admin token.
#[must_use]
pub fn hash_token(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

pub(super) async fn check_token(
    State(hash): State<[u8; 32]>,
    request: Request,
    next: Next,
) -> Response {
    if is_authorised(&request, &hash) {
        next.run(request).await
    } else {
        ProblemAnswer::unauthorised().into_response()
    }
}

/// Two headers are none: which of them counts must not be anyone's guess.
fn is_authorised(request: &Request, hash: &[u8; 32]) -> bool {
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let token = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    match token {
        Some(token) if !token.is_empty() => bool::from(hash_token(token).ct_eq(hash)),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use axum::body::Body;

    fn request(values: &[&str]) -> Request {
        let mut request = Request::builder();
        for value in values {
            request = request.header(AUTHORIZATION, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn only_the_one_token_opens() {
        let hash = hash_token("s3cret");
        for good in ["Bearer s3cret", "bearer s3cret", "Bearer  s3cret "] {
            assert!(is_authorised(&request(&[good]), &hash), "{good}");
        }
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "s3cret",
            "Basic s3cret",
            "Bearer s3cre",
            "Bearer s3cret2",
        ] {
            assert!(!is_authorised(&request(&[bad]), &hash), "{bad}");
        }
        assert!(!is_authorised(&request(&[]), &hash));
        assert!(!is_authorised(
            &request(&["Bearer s3cret", "Bearer s3cret"]),
            &hash
        ));
        // The hash of nothing opens nothing.
        assert!(!is_authorised(&request(&["Bearer "]), &hash_token("")));
    }
}
