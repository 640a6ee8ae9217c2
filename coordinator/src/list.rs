//! LIST (DESIGN 4.15): one request a node for all the shards asked of it, every row judged like a GET.
//!
//! A page merges the answers of a majority of each shard's replicas, and counts only up to the smallest position
//! that they examined. A row is what a majority agrees on; where they do not agree, a read of that one row decides,
//! which settles it. A common prefix is shown for a witness: a live key under it, judged likewise; a dead witness
//! means to look behind it.

mod ask;
mod merge;

use super::view::{ClusterView, Place};
use super::{BucketRef, Coordinator, ListPage, ListQuery, Listed, ReadError};
pub(super) use ask::{claims_by_disk, places_of};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use merge::{Candidate, Found, NodePage, resume};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::Shard;
use ringfort_ring::placement;
use ringfort_ring::quorum::Replica;
use ringfort_ring::register::reader::{Reader, Reading};
use ringfort_wire::id::{ObjectKey, RowKey};
use ringfort_wire::manifest::KeyState;
use ringfort_wire::message::{After, ListWhat, ObjectSummary, UploadSummary, common_prefix};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// Rows that one answer may look at, found or not.
const EXAMINE_LIMIT: u32 = 20_000;
/// Rows of a page that are settled or read at the same time.
const READS_AT_ONCE: usize = 16;

impl Coordinator {
    /// Lists a bucket: at most `query.limit` entries behind `query.after`.
    ///
    /// # Errors
    /// [`ReadError::NotEnoughReplicas`] where one shard has no majority, and where nothing but deleted keys was found
    /// in time: a page goes on behind its last entry.
    pub async fn list(&self, bucket: BucketRef, query: &ListQuery) -> Result<ListPage, ReadError> {
        let page = self.list_in_pieces(bucket, query).await?;
        found_or_done(page)
    }

    /// As [`Coordinator::list`], for who can go on from [`ListPage::next`]: very many deleted keys make pages without
    /// an entry.
    ///
    /// # Errors
    /// [`ReadError::NotEnoughReplicas`] where one shard has no majority.
    pub async fn list_in_pieces(
        &self,
        bucket: BucketRef,
        query: &ListQuery,
    ) -> Result<ListPage, ReadError> {
        let deadline = Instant::now() + self.inner.options.operation_timeout;
        self.list_until(bucket, query, deadline).await
    }

    /// At the deadline, what was found so far is a page that ends early.
    async fn list_until(
        &self,
        bucket: BucketRef,
        query: &ListQuery,
        deadline: Instant,
    ) -> Result<ListPage, ReadError> {
        let mut entries: Vec<Listed> = Vec::new();
        let mut after = query.after.clone();
        let wanted = query.limit.saturating_add(1);
        loop {
            let (merged, pages, view) = self.merged_page(bucket, query, &after, wanted).await?;
            let up_to = merged.up_to.clone();
            let judged = stream::iter(merged.names)
                .map(|((name, _), candidate)| {
                    self.judge((bucket, deadline), query, &pages, &view, name, candidate)
                })
                .buffered(READS_AT_ONCE);
            tokio::pin!(judged);
            while let Some(listed) = judged.next().await {
                let Some(listed) = listed? else { continue };
                // A prefix may be shown by its witness and by rows under it that only a read could judge.
                if matches!(listed, Listed::Prefix(_)) && entries.last() == Some(&listed) {
                    continue;
                }
                entries.push(listed);
                if entries.len() == wanted {
                    entries.truncate(query.limit);
                    return Ok(ListPage {
                        entries,
                        is_truncated: true,
                        next: None,
                    });
                }
            }
            let Some(bound) = up_to else {
                return Ok(ListPage {
                    entries,
                    is_truncated: false,
                    next: None,
                });
            };
            after = resume(&bound, entries.last(), query);
            if Instant::now() >= deadline {
                return Ok(ListPage {
                    entries,
                    is_truncated: true,
                    next: Some(after),
                });
            }
        }
    }

    /// What one name of a merged page is, judged like a GET; `None`: nothing to show.
    fn judge<'a>(
        &'a self,
        (bucket, deadline): (BucketRef, Instant),
        query: &'a ListQuery,
        pages: &Arc<Vec<NodePage>>,
        view: &Arc<ClusterView>,
        name: String,
        candidate: Candidate,
    ) -> BoxFuture<'a, Result<Option<Listed>, ReadError>> {
        let (pages, view) = (pages.clone(), view.clone());
        Box::pin(async move {
            match candidate {
                Candidate::Row(rows) => {
                    self.judge_row(bucket, query, &pages, &view, name, rows)
                        .await
                }
                Candidate::Prefix(witnesses) => {
                    let is_live = self
                        .judge_prefix((bucket, deadline), query, &pages, &view, &name, witnesses)
                        .await?;
                    Ok(is_live.then_some(Listed::Prefix(name)))
                }
            }
        })
    }

    async fn judge_row(
        &self,
        bucket: BucketRef,
        query: &ListQuery,
        pages: &[NodePage],
        view: &Arc<ClusterView>,
        name: String,
        rows: Vec<(Replica, Ballot, Option<Found>)>,
    ) -> Result<Option<Listed>, ReadError> {
        let Some((key, shard, place)) = locate(bucket, view, &name) else {
            return Ok(None);
        };
        let mut reader = Reader::new(place.rule);
        for replica in pages.iter().filter_map(|page| page.replicas.get(&shard)) {
            let ballot = rows
                .iter()
                .find(|(from, ..)| from == replica)
                .map_or(Ballot::ZERO, |(_, ballot, _)| *ballot);
            reader.on_answer(*replica, ballot);
        }
        let found = match reader.reading() {
            Reading::Agreed(ballot) => rows
                .into_iter()
                .find(|(_, accepted, _)| *accepted == ballot)
                .and_then(|(.., found)| found),
            _ => self.read_found(bucket, query.what, key).await?,
        };
        let folded =
            common_prefix(&name, &query.prefix, query.delimiter.as_deref()).map(str::to_owned);
        let listed = found.and_then(|found| shown(query.what, name, found));
        Ok(match (listed, folded) {
            (Some(_), Some(prefix)) => Some(Listed::Prefix(prefix)),
            (listed, _) => listed,
        })
    }

    async fn judge_prefix(
        &self,
        (bucket, deadline): (BucketRef, Instant),
        query: &ListQuery,
        pages: &[NodePage],
        view: &Arc<ClusterView>,
        prefix: &str,
        witnesses: Vec<(ObjectKey, Ballot, usize)>,
    ) -> Result<bool, ReadError> {
        let distinct: BTreeMap<&ObjectKey, Ballot> = witnesses
            .iter()
            .map(|(key, ballot, _)| (key, *ballot))
            .collect();
        for (witness, ballot) in &distinct {
            let Some((_, shard, place)) = locate(bucket, view, witness.as_str()) else {
                continue;
            };
            let agrees = |replica: Replica| {
                witnesses.iter().any(|(key, accepted, page)| {
                    key == *witness
                        && accepted == ballot
                        && pages[*page].replicas.get(&shard) == Some(&replica)
                })
            };
            if place.rule.holds(agrees) {
                return Ok(true);
            }
        }
        let mut first_dead = None;
        for (witness, _) in distinct {
            let found = self.read_found(bucket, query.what, witness.clone()).await?;
            if found
                .and_then(|found| shown(query.what, witness.as_str().to_owned(), found))
                .is_some()
            {
                return Ok(true);
            }
            first_dead.get_or_insert_with(|| witness.as_str().to_owned());
        }
        let Some(first_dead) = first_dead else {
            return Ok(false);
        };
        // All shown are dead: whatever lives under the prefix lies behind the first of them.
        let behind = ListQuery {
            prefix: prefix.to_owned(),
            after: After::Key(first_dead),
            delimiter: None,
            limit: 1,
            what: query.what,
        };
        // Not known to be dead where time has run out on the way.
        let page = found_or_done(self.list_until(bucket, &behind, deadline).await?)?;
        Ok(!page.entries.is_empty())
    }

    /// Reads one row; what it is now, settled.
    async fn read_found(
        &self,
        bucket: BucketRef,
        what: ListWhat,
        key: ObjectKey,
    ) -> Result<Option<Found>, ReadError> {
        let row = RowKey::object(bucket.id, key);
        let read = self.read::<KeyState>(bucket, &row, false).await?;
        Ok(read.state.map(|state| Found {
            object: state.head.as_deref().map(ObjectSummary::from),
            uploads: match what {
                ListWhat::Objects => Vec::new(),
                ListWhat::Uploads => state.uploads.iter().map(UploadSummary::from).collect(),
            },
        }))
    }
}

/// Refuses a page that says "more" without showing any.
fn found_or_done(page: ListPage) -> Result<ListPage, ReadError> {
    if page.entries.is_empty() && page.is_truncated {
        return Err(ReadError::NotEnoughReplicas(
            "nothing but deleted keys was found in time".to_owned(),
        ));
    }
    Ok(page)
}

fn locate(
    bucket: BucketRef,
    view: &Arc<ClusterView>,
    key: &str,
) -> Option<(ObjectKey, Shard, Place)> {
    let key = ObjectKey::parse(key)?;
    let shard = placement::shard_of(key.as_bytes(), bucket.shard_count);
    let place = view.place_shard(bucket, shard)?;
    Some((key, shard, place))
}

fn shown(what: ListWhat, key: String, found: Found) -> Option<Listed> {
    match what {
        ListWhat::Objects => {
            let summary = found.object?;
            Some(Listed::Object { key, summary })
        }
        ListWhat::Uploads => {
            let mut uploads = found.uploads;
            uploads.sort_by_key(|upload| upload.id);
            (!uploads.is_empty()).then_some(Listed::Uploads { key, uploads })
        }
    }
}
