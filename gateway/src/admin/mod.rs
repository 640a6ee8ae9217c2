//! The admin API's handlers: state of the cluster, its layout, access keys, buckets, join tokens.
//!
//! Promises: nothing is answered without the bearer token; a refusal is a code and a sentence; no answer but that of
//! a key's creation shows a secret. Left out: the listener, `/metrics` and `/health`, which the process mounts beside
//! these routes.

mod access;
mod buckets;
mod keys;
mod layout;
mod problem;
mod scrub;
mod status;
mod tokens;

pub use access::hash_token;
pub use layout::{ChangeLayout, by_the_control_set};
pub use tokens::IssueToken;

use crate::server::Gateway;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{delete, get, post};
use problem::ProblemAnswer;
use ringfort_admin::change::{LAYOUT_CHANGES_PATH, LAYOUT_PLAN_PATH};
use ringfort_admin::layout::LAYOUT_PATH;
use ringfort_admin::message::{BUCKETS_PATH, KEYS_PATH, SCRUB_PATH, STATUS_PATH, TOKENS_PATH};
use std::sync::Arc;

/// The largest request is a key with a list of buckets.
const BODY_MAX_BYTES: usize = 256 << 10;

#[derive(Clone)]
struct Context {
    gateway: Arc<Gateway>,
    issue_token: Option<IssueToken>,
    change_layout: Option<ChangeLayout>,
}

/// The routes of the admin API. `admin_token_hash` is SHA-256 of the token ([`hash_token`]); `issue_token` is there
/// on the bootstrap node only, `change_layout` where the process can reach whoever decides the layout.
pub fn router(
    gateway: Arc<Gateway>,
    admin_token_hash: [u8; 32],
    issue_token: Option<IssueToken>,
    change_layout: Option<ChangeLayout>,
) -> Router {
    let context = Context {
        gateway,
        issue_token,
        change_layout,
    };
    let key_path = format!("{KEYS_PATH}/{{id}}");
    let bucket_path = format!("{BUCKETS_PATH}/{{name}}");
    Router::new()
        .route(STATUS_PATH, get(status::status))
        .route(KEYS_PATH, get(keys::list).post(keys::create))
        .route(&key_path, delete(keys::delete))
        .route(BUCKETS_PATH, get(buckets::list))
        .route(&bucket_path, get(buckets::info))
        .route(SCRUB_PATH, get(scrub::show).post(scrub::start))
        .route(TOKENS_PATH, post(tokens::create))
        .route(LAYOUT_PATH, get(layout::show))
        .route(LAYOUT_PLAN_PATH, post(layout::plan))
        .route(LAYOUT_CHANGES_PATH, post(layout::change))
        .method_not_allowed_fallback(async || ProblemAnswer::method_not_allowed())
        .fallback(async || ProblemAnswer::no_such_route())
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        // Outermost: whoever has no token learns not even which routes there are.
        .layer(middleware::from_fn_with_state(
            admin_token_hash,
            access::check_token,
        ))
        .with_state(context)
}
