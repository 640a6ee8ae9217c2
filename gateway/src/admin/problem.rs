//! A refusal of the admin API: status, code, sentence.

use crate::catalog::CatalogError;
use crate::coordinator::WriteError;
use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use ringfort_admin::message::Problem;
use serde::de::DeserializeOwned;

#[derive(Debug)]
pub(super) struct ProblemAnswer {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ProblemAnswer {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    pub(super) fn unauthorised() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "Unauthorised",
            "the admin token is missing or wrong: give --admin-token, or RINGFORT_ADMIN_TOKEN",
        )
    }

    pub(super) fn no_such_route() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NoSuchRoute",
            "the admin API has no such route; is the client of another release?",
        )
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the route does not take this method",
        )
    }
}

impl IntoResponse for ProblemAnswer {
    fn into_response(self) -> Response {
        let problem = Problem {
            code: self.code.to_owned(),
            message: self.message,
        };
        let mut response = (self.status, Json(problem)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110, 11.6.1: a 401 names what would be taken.
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                header::HeaderValue::from_static("Bearer"),
            );
        }
        response
    }
}

impl From<CatalogError> for ProblemAnswer {
    fn from(error: CatalogError) -> Self {
        let (status, code) = match &error {
            CatalogError::NoSuchBucket => (StatusCode::NOT_FOUND, "NoSuchBucket"),
            CatalogError::NoSuchKey => (StatusCode::NOT_FOUND, "NoSuchKey"),
            CatalogError::KeyExists => (StatusCode::CONFLICT, "KeyExists"),
            CatalogError::BucketNotEmpty => (StatusCode::CONFLICT, "BucketNotEmpty"),
            CatalogError::Invalid(_) => (StatusCode::BAD_REQUEST, "Invalid"),
            CatalogError::Record { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "Corrupt"),
            CatalogError::Write(WriteError::OutcomeUnknown(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "OutcomeUnknown")
            }
            CatalogError::Read(_) | CatalogError::Write(_) | CatalogError::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "Unavailable")
            }
        };
        if status.is_server_error() {
            tracing::warn!(%error, "an admin request failed");
        }
        Self::new(status, code, error.to_string())
    }
}

/// A JSON body; a bad one is refused as a [`Problem`].
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ProblemAnswer;

    async fn from_request(request: Request, state: &S) -> Result<Self, ProblemAnswer> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(ProblemAnswer::new(
                rejection.status(),
                "Malformed",
                rejection.body_text(),
            )),
        }
    }
}
