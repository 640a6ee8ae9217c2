//! Buckets, as an operator sees them: all accounts'.

use super::Context;
use super::problem::ProblemAnswer;
use crate::catalog::{Bucket, CatalogError};
use crate::s3::names::BucketName;
use axum::Json;
use axum::extract::{Path, State};
use ringfort_admin::message::{BucketInfo, BucketList};

pub(super) async fn list(
    State(context): State<Context>,
) -> Result<Json<BucketList>, ProblemAnswer> {
    let buckets = context.gateway.catalog().list_buckets().await?;
    Ok(Json(BucketList {
        buckets: buckets.iter().map(|bucket| to_info(bucket)).collect(),
    }))
}

pub(super) async fn info(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<BucketInfo>, ProblemAnswer> {
    let name = BucketName::parse(&name).map_err(|_| CatalogError::NoSuchBucket)?;
    let bucket = context.gateway.catalog().bucket_fresh(&name).await?;
    let bucket = bucket.ok_or(CatalogError::NoSuchBucket)?;
    Ok(Json(to_info(&bucket)))
}

fn to_info(bucket: &Bucket) -> BucketInfo {
    BucketInfo {
        name: bucket.name.as_str().to_owned(),
        id: bucket.reference.id.to_string(),
        owner: bucket.owner.clone(),
        created_ms: bucket.created_ms,
        generation: bucket.reference.generation.0,
        shards: bucket.reference.shard_count,
    }
}
