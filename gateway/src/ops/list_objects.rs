//! ListObjects and ListObjectsV2 (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>).

use super::list_position::{after_marker, from_payload, to_payload};
use super::{Call, Failure, checksums, owner, xml};
use crate::catalog::Bucket;
use crate::coordinator::{ListQuery, Listed};
use crate::s3::error::S3Error;
use crate::s3::paging::{delimiter, encodes_url, fetches_owner, max_keys};
use crate::s3::token;
use crate::s3::xml::write_list::{
    ListPage, ListV2, ListedObject, list_objects as write_v1, list_objects_v2 as write_v2,
};
use crate::server::Answer;
use ringfort_wire::message::{After, ListWhat, ObjectSummary};

/// Version 1: from `marker`.
pub(super) async fn list_objects(call: &Call, bucket: &Bucket) -> Result<Answer, Failure> {
    let asked = Asked::parse(call, true)?;
    let marker = call.routed.query.get("marker").unwrap_or("");
    let after = after_marker(marker, &asked.prefix, asked.delimiter.as_deref());
    let (page, last) = asked.page(call, bucket, after).await?;
    // S3 names the next marker only where folded prefixes may be the last entry; else it is the last key.
    let next = last.filter(|_| page.is_truncated && page.delimiter.is_some());
    Ok(xml(write_v1(&page, marker, next.as_ref().map(name_of))))
}

/// Version 2: from a token, or from `start-after`.
pub(super) async fn list_objects_v2(call: &Call, bucket: &Bucket) -> Result<Answer, Failure> {
    let query = &call.routed.query;
    let asked = Asked::parse(call, fetches_owner(query))?;
    let scope = format!("objects of {}", bucket.reference.id);
    let after = match query.get("continuation-token") {
        Some("") => {
            return Err(S3Error::invalid_argument(
                "The continuation token provided is incorrect",
                "continuation-token",
                "",
            )
            .into());
        }
        Some(text) => {
            let key = call.gateway.catalog().token_key().await?;
            from_payload(token::open(&key, &scope, text)?)?
        }
        None => match query.get("start-after") {
            None | Some("") => After::Start,
            Some(key) => after_marker(key, &asked.prefix, asked.delimiter.as_deref()),
        },
    };
    let (page, last) = asked.page(call, bucket, after).await?;
    let next = match last.filter(|_| page.is_truncated) {
        Some(last) => {
            let key = call.gateway.catalog().token_key().await?;
            Some(token::seal(&key, &scope, &to_payload(&last)))
        }
        None => None,
    };
    let v2 = ListV2 {
        continuation_token: query.get("continuation-token").map(str::to_owned),
        next_continuation_token: next,
        start_after: query.get("start-after").map(str::to_owned),
    };
    Ok(xml(write_v2(&page, &v2)))
}

fn name_of(after: &After) -> &str {
    match after {
        After::Key(text) | After::At(text) | After::Prefix(text) => text,
        After::Start => "",
    }
}

struct Asked {
    prefix: String,
    delimiter: Option<String>,
    max_keys: u32,
    encodes_url: bool,
    shows_owner: bool,
}

impl Asked {
    fn parse(call: &Call, shows_owner: bool) -> Result<Self, Failure> {
        let query = &call.routed.query;
        Ok(Self {
            prefix: query.get("prefix").unwrap_or("").to_owned(),
            delimiter: delimiter(query).map(str::to_owned),
            max_keys: max_keys(query)?,
            encodes_url: encodes_url(query)?,
            shows_owner,
        })
    }

    /// One page, and the position behind its last entry.
    async fn page(
        self,
        call: &Call,
        bucket: &Bucket,
        after: After,
    ) -> Result<(ListPage, Option<After>), Failure> {
        let mut page = ListPage {
            bucket: bucket.name.as_str().to_owned(),
            prefix: self.prefix.clone(),
            delimiter: self.delimiter.clone(),
            max_keys: self.max_keys,
            encodes_url: self.encodes_url,
            ..ListPage::default()
        };
        // An empty page is asked for and given; saying "truncated" would send some clients round for ever.
        if self.max_keys == 0 {
            return Ok((page, None));
        }
        let query = ListQuery {
            prefix: self.prefix,
            after,
            delimiter: self.delimiter,
            limit: usize::try_from(self.max_keys).unwrap_or(1),
            what: ListWhat::Objects,
        };
        let found = call.coordinator().list(bucket.reference, &query).await?;
        page.is_truncated = found.is_truncated;
        let last = found.entries.last().map(|entry| match entry {
            Listed::Object { key, .. } | Listed::Uploads { key, .. } => After::Key(key.clone()),
            Listed::Prefix(prefix) => After::Prefix(prefix.clone()),
        });
        for entry in found.entries {
            match entry {
                Listed::Object { key, summary } => {
                    page.objects
                        .push(listed(key, summary, &bucket.owner, self.shows_owner))
                }
                Listed::Prefix(prefix) => page.common_prefixes.push(prefix),
                Listed::Uploads { .. } => {}
            }
        }
        Ok((page, last))
    }
}

fn listed(key: String, summary: ObjectSummary, account: &str, shows_owner: bool) -> ListedObject {
    ListedObject {
        key,
        last_modified_ms: summary.modified_ms,
        etag: summary.etag,
        size_bytes: summary.size,
        checksum_algorithms: summary
            .checksums
            .iter()
            .map(|(kind, _)| checksums::to_algorithm(*kind).name())
            .collect(),
        checksum_type: summary
            .checksums
            .first()
            .map(|(_, is_composite)| checksums::to_type(*is_composite).name()),
        owner: shows_owner.then(|| owner(account)),
    }
}
