//! Access keys: create, list, delete.

use super::Context;
use super::problem::{Body, ProblemAnswer};
use crate::catalog::{AccessKey, NewKey, Role};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use ringfort_admin::message::{CreateKey, CreatedKey, Deleted, KeyInfo, KeyList, KeyRole};

pub(super) async fn create(
    State(context): State<Context>,
    Body(wanted): Body<CreateKey>,
) -> Result<(StatusCode, Json<CreatedKey>), ProblemAnswer> {
    let spec = NewKey {
        id: wanted.access_key,
        secret: wanted.secret_key,
        name: wanted.name,
        role: to_role(wanted.role),
        buckets: wanted.buckets,
        owner: wanted.owner,
    };
    let key = context.gateway.catalog().create_key(spec).await?;
    tracing::info!(access_key = %key.id, role = key.role.name(), "an access key was made");
    let created = CreatedKey {
        role: of_role(key.role),
        access_key: key.id,
        secret_key: key.secret,
        name: key.name,
        owner: key.owner,
        buckets: key.buckets,
    };
    Ok((StatusCode::CREATED, Json(created)))
}

pub(super) async fn list(State(context): State<Context>) -> Result<Json<KeyList>, ProblemAnswer> {
    let mut keys = context.gateway.catalog().list_keys().await?;
    keys.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(Json(KeyList {
        keys: keys.into_iter().map(to_info).collect(),
    }))
}

pub(super) async fn delete(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Deleted>, ProblemAnswer> {
    let catalog = context.gateway.catalog();
    // Without this, the last way in could be closed by a slip.
    let keys = catalog.list_keys().await?;
    let is_last_admin = keys
        .iter()
        .all(|key| (key.id == id) == (key.role == Role::Admin));
    if is_last_admin {
        return Err(ProblemAnswer::new(
            StatusCode::CONFLICT,
            "LastAdminKey",
            "this is the last key with the role admin: make another with `ringfort key create --role admin` first",
        ));
    }
    catalog.delete_key(&id).await?;
    tracing::info!(access_key = %id, "an access key was deleted");
    Ok(Json(Deleted { deleted: id }))
}

/// Everything but the secret.
fn to_info(key: AccessKey) -> KeyInfo {
    KeyInfo {
        role: of_role(key.role),
        access_key: key.id,
        name: key.name,
        owner: key.owner,
        buckets: key.buckets,
        created_ms: key.created_ms,
    }
}

fn to_role(role: KeyRole) -> Role {
    match role {
        KeyRole::Admin => Role::Admin,
        KeyRole::ReadWrite => Role::ReadWrite,
        KeyRole::ReadOnly => Role::ReadOnly,
    }
}

fn of_role(role: Role) -> KeyRole {
    match role {
        Role::Admin => KeyRole::Admin,
        Role::ReadWrite => KeyRole::ReadWrite,
        Role::ReadOnly => KeyRole::ReadOnly,
    }
}
