//! Join tokens: made by the bootstrap node, which alone admits members.

use super::Context;
use super::problem::{Body, ProblemAnswer};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use ringfort_admin::message::{CreateToken, CreatedToken, TokenRole};
use std::sync::Arc;

/// Draws a token, or says why not. Blocks on the disk.
pub type IssueToken = Arc<dyn Fn(TokenRole) -> Result<String, String> + Send + Sync>;

pub(super) async fn create(
    State(context): State<Context>,
    Body(wanted): Body<CreateToken>,
) -> Result<(StatusCode, Json<CreatedToken>), ProblemAnswer> {
    let refusal = |message: String| ProblemAnswer::new(StatusCode::CONFLICT, "NoToken", message);
    let issue = context.issue_token.ok_or_else(|| {
        refusal(
            "this process does not admit members: ask the node that `ringfort cluster init` was run for \
             (--admin-endpoint)"
                .to_owned(),
        )
    })?;
    let role = wanted.role;
    let drawn = tokio::task::spawn_blocking(move || issue(role)).await;
    let token = drawn
        .unwrap_or_else(|_| Err("the token could not be drawn".to_owned()))
        .map_err(refusal)?;
    Ok((StatusCode::CREATED, Json(CreatedToken { token, role })))
}
