//! ListObjects, ListObjectsV2 and ListObjectVersions (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>).

use super::list_position::{after_marker, from_payload, to_payload};
use super::{Call, Failure, checksums, owner, xml};
use crate::catalog::Bucket;
use crate::coordinator::{ListQuery, Listed};
use crate::s3::error::S3Error;
use crate::s3::paging::{delimiter, encodes_url, fetches_owner, max_keys};
use crate::s3::token;
use crate::s3::xml::write_list::{
    ListPage, ListV2, ListedObject, VersionMarkers, list_object_versions as write_versions,
    list_objects as write_v1, list_objects_v2 as write_v2,
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
        Some(text) if !text.is_empty() => {
            let key = call.gateway.catalog().token_key().await?;
            from_payload(token::open(&key, &scope, text)?)?
        }
        // An empty token is none, as clients that begin their loops with one expect; it is echoed all the same.
        _ => match query.get("start-after") {
            None | Some("") => After::Start,
            Some(key) => after_marker(key, &asked.prefix, asked.delimiter.as_deref()),
        },
    };
    // A token names any position; the markers of the other forms name keys that were shown.
    let (page, last) = asked.page_or_piece(call, bucket, after, true).await?;
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

/// Every object as its only version.
pub(super) async fn list_object_versions(call: &Call, bucket: &Bucket) -> Result<Answer, Failure> {
    let query = &call.routed.query;
    let asked = Asked::parse(call, true)?;
    let key_marker = query.get("key-marker").unwrap_or("");
    let version_id_marker = query.get("version-id-marker");
    check_version_marker(key_marker, version_id_marker)?;
    // A key has one version, so that behind the key's marker is behind all of its versions, too.
    let after = after_marker(key_marker, &asked.prefix, asked.delimiter.as_deref());
    let (page, last) = asked.page(call, bucket, after).await?;
    let next = last.filter(|_| page.is_truncated);
    let markers = VersionMarkers {
        key_marker: key_marker.to_owned(),
        version_id_marker: version_id_marker.unwrap_or("").to_owned(),
        next_is_version: matches!(next, Some(After::Key(_))),
        next_key_marker: next.as_ref().map(|next| name_of(next).to_owned()),
    };
    Ok(xml(write_versions(&page, &markers)))
}

/// No version but `null` was ever listed, so none other can be a page's last.
fn check_version_marker(key_marker: &str, marker: Option<&str>) -> Result<(), S3Error> {
    let refuse = |message: &'static str| {
        S3Error::invalid_argument(message, "version-id-marker", marker.unwrap_or(""))
    };
    match marker {
        None => Ok(()),
        Some("") if key_marker.is_empty() => Ok(()),
        Some("") => Err(refuse("A version-id marker cannot be empty.")),
        Some(_) if key_marker.is_empty() => Err(refuse(
            "A version-id marker cannot be specified without a key marker.",
        )),
        Some("null") => Ok(()),
        Some(_) => Err(refuse("Invalid version id specified")),
    }
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
        self.page_or_piece(call, bucket, after, false).await
    }

    /// As [`Asked::page`]; where it may be a piece, one that shows nothing has a position too.
    async fn page_or_piece(
        self,
        call: &Call,
        bucket: &Bucket,
        after: After,
        may_be_piece: bool,
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
        let coordinator = call.coordinator();
        let found = if may_be_piece {
            coordinator.list_in_pieces(bucket.reference, &query).await?
        } else {
            coordinator.list(bucket.reference, &query).await?
        };
        page.is_truncated = found.is_truncated;
        let last = found.entries.last().map(|entry| match entry {
            Listed::Object { key, .. } | Listed::Uploads { key, .. } => After::Key(key.clone()),
            Listed::Prefix(prefix) => After::Prefix(prefix.clone()),
        });
        let last = found.next.filter(|_| may_be_piece).or(last);
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use crate::s3::error::ErrorCode;

    #[test]
    fn a_version_marker_is_null_and_comes_with_a_key() {
        for (key, marker) in [("", None), ("k", None), ("k", Some("null")), ("", Some(""))] {
            assert!(
                check_version_marker(key, marker).is_ok(),
                "{key} {marker:?}"
            );
        }
        for (key, marker) in [("", "null"), ("k", ""), ("k", "zz"), ("", "zz")] {
            let error = check_version_marker(key, Some(marker)).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidArgument, "{key} {marker}");
        }
    }
}
