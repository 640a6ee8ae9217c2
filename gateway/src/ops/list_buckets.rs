//! ListBuckets (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html>).

use super::{Call, Failure, owner, xml};
use crate::catalog::{Bucket, policy};
use crate::s3::error::S3Error;
use crate::s3::names::BucketName;
use crate::s3::paging::max_buckets;
use crate::s3::token;
use crate::s3::xml::write_bucket::{ListBuckets, ListedBucket, list_buckets as write_buckets};
use crate::server::Answer;
use std::sync::Arc;

/// Tokens are bound to the listing and to whose buckets it shows.
fn scope(account: &str) -> String {
    format!("buckets of {account}")
}

/// Shows the buckets that the key is good for.
pub(super) async fn list_buckets(call: &Call) -> Result<Answer, Failure> {
    let query = &call.routed.query;
    let page_max = max_buckets(query)?;
    let prefix = query.get("prefix").unwrap_or("");
    let region = query.get("bucket-region");
    let after = match query.get("continuation-token") {
        Some(token) => Some(read_token(call, token).await?),
        None => None,
    };
    let mut shown: Vec<Arc<Bucket>> = visible(call)
        .await?
        .into_iter()
        .filter(|bucket| {
            let name = bucket.name.as_str();
            name.starts_with(prefix)
                && after.as_deref().is_none_or(|after| name > after)
                && region.is_none_or(|region| bucket.region == region)
        })
        .collect();
    let page_max = page_max
        .and_then(|max| usize::try_from(max).ok())
        .unwrap_or(usize::MAX);
    let is_truncated = shown.len() > page_max;
    shown.truncate(page_max);
    let next = match shown.last().filter(|_| is_truncated) {
        Some(last) => {
            let key = call.gateway.catalog().token_key().await?;
            Some(token::seal(
                &key,
                &scope(&call.key.owner),
                last.name.as_str().as_bytes(),
            ))
        }
        None => None,
    };
    let is_paged =
        query.has("max-buckets") || query.has("continuation-token") || query.has("bucket-region");
    Ok(xml(write_buckets(&ListBuckets {
        owner: owner(&call.key.owner),
        buckets: shown
            .iter()
            .map(|bucket| listed(bucket, is_paged))
            .collect(),
        prefix: query.get("prefix").map(str::to_owned),
        continuation_token: next,
    })))
}

async fn read_token(call: &Call, text: &str) -> Result<String, Failure> {
    let key = call.gateway.catalog().token_key().await?;
    let payload = token::open(&key, &scope(&call.key.owner), text)?;
    Ok(String::from_utf8(payload).map_err(|_| {
        S3Error::invalid_argument(
            "The continuation token provided is incorrect",
            "continuation-token",
            "",
        )
    })?)
}

/// By rising name.
async fn visible(call: &Call) -> Result<Vec<Arc<Bucket>>, Failure> {
    let catalog = call.gateway.catalog();
    let Some(named) = &call.key.buckets else {
        let all = catalog.list_buckets().await?;
        return Ok(all
            .into_iter()
            .filter(|bucket| policy::shows(&call.key, bucket))
            .collect());
    };
    let mut names: Vec<BucketName> = named
        .iter()
        .filter_map(|name| BucketName::parse(name).ok())
        .collect();
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    let mut buckets = Vec::new();
    for name in names {
        buckets.extend(catalog.bucket_fresh(&name).await?);
    }
    Ok(buckets)
}

fn listed(bucket: &Bucket, is_paged: bool) -> ListedBucket {
    ListedBucket {
        name: bucket.name.as_str().to_owned(),
        created_ms: bucket.created_ms,
        region: is_paged.then(|| bucket.region.clone()),
    }
}
