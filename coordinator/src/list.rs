//! LIST (DESIGN 4.15): one request a node for all the shards asked of it, every row judged like a GET.
//!
//! A page merges the answers of a majority of each shard's replicas, and counts only up to the smallest position
//! that they examined. A row is what a majority agrees on; where they do not agree, a read of that one row decides,
//! which settles it. A common prefix is shown for a witness: a live key under it, judged likewise; a dead witness
//! means to look behind it.

use super::view::{ClusterView, Place};
use super::{BucketRef, Coordinator, ListPage, ListQuery, Listed, ReadError};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::{DiskId, NodeId, Shard};
use ringfort_ring::placement;
use ringfort_ring::quorum::Replica;
use ringfort_ring::register::acceptor::{Reason, Refusal};
use ringfort_ring::register::reader::{Reader, Reading};
use ringfort_wire::error::CallError;
use ringfort_wire::id::{ObjectKey, RowKey};
use ringfort_wire::manifest::KeyState;
use ringfort_wire::message::{
    After, ListEntry, ListReply, ListRequest, ListWhat, ObjectSummary, ShardClaim, UploadSummary,
    common_prefix,
};
use ringfort_wire::transport::Lane;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// Rows that one answer may look at, found or not.
const EXAMINE_LIMIT: u32 = 20_000;
/// Rows of a page that are settled or read at the same time.
const READS_AT_ONCE: usize = 16;

/// An exclusive bound in the order of keys; `None`: behind every key.
type UpTo = Option<Vec<u8>>;

/// One node's answer.
struct NodePage {
    replicas: HashMap<Shard, Replica>,
    entries: Vec<ListEntry>,
    up_to: UpTo,
}

/// A page that was merged but not judged.
struct Merged {
    /// In byte order, all below `up_to`. A key and a common prefix may have the same name (a folder's marker), so
    /// each has a place of its own.
    names: BTreeMap<(String, Kind), Candidate>,
    up_to: UpTo,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Prefix,
    Row,
}

/// What the nodes say about one name.
enum Candidate {
    Row(Vec<(Replica, Ballot, Option<Found>)>),
    /// Witnesses, and the nodes that showed them.
    Prefix(Vec<(ObjectKey, Ballot, usize)>),
}

/// What a live row is, for the page.
#[derive(Clone)]
struct Found {
    object: Option<ObjectSummary>,
    uploads: Vec<UploadSummary>,
}

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

    /// One request to every node, merged as far as a majority of each shard has examined.
    async fn merged_page(
        &self,
        bucket: BucketRef,
        query: &ListQuery,
        after: &After,
        wanted: usize,
    ) -> Result<(Merged, Arc<Vec<NodePage>>, Arc<ClusterView>), ReadError> {
        let deadline = Instant::now() + self.inner.options.operation_timeout;
        let mut attempt: u64 = 0;
        loop {
            let view = self.view().ok_or_else(|| {
                ReadError::NotEnoughReplicas("the cluster has not formed yet".to_owned())
            })?;
            match self.ask(bucket, query, after, wanted, &view).await {
                Ok(pages) => {
                    let merged = merge(&pages, query, bucket);
                    return Ok((merged, Arc::new(pages), view));
                }
                Err(Trouble::Refused(refusal)) if refusal.reason == Reason::Generation => {
                    return Err(ReadError::BucketChanged);
                }
                Err(Trouble::Refused(_)) => self.await_newer_layout(&view).await,
                Err(Trouble::Silent(why)) => {
                    if attempt >= 2 {
                        return Err(ReadError::NotEnoughReplicas(why));
                    }
                }
            }
            attempt += 1;
            let wait = std::time::Duration::from_millis(
                50 * attempt + self.environment().random_below(50),
            );
            if Instant::now() + wait >= deadline {
                return Err(ReadError::NotEnoughReplicas(
                    "no majority of some shard answered in time".to_owned(),
                ));
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn ask(
        &self,
        bucket: BucketRef,
        query: &ListQuery,
        after: &After,
        wanted: usize,
        view: &Arc<ClusterView>,
    ) -> Result<Vec<NodePage>, Trouble> {
        let shards = places_of(bucket, view);
        let (sender, mut answers) = tokio::sync::mpsc::unbounded_channel();
        for ((node, _), mut claims) in claims_by_disk(&shards) {
            let mut request = ListRequest {
                bucket: bucket.id,
                generation: bucket.generation,
                shard_count: bucket.shard_count,
                shards: Vec::new(),
                prefix: query.prefix.clone(),
                after: after.clone(),
                delimiter: query.delimiter.clone(),
                limit: u32::try_from(wanted).unwrap_or(u32::MAX),
                examine_limit: EXAMINE_LIMIT,
                what: query.what,
            };
            let (coordinator, sender) = (self.clone(), sender.clone());
            tokio::spawn(async move {
                loop {
                    request.shards.clone_from(&claims);
                    let reply = coordinator
                        .call(node, Lane::Metadata, request.clone(), Bytes::new())
                        .await;
                    match shard_lacking(&reply, &claims) {
                        Some(shard) if claims.len() > 1 => {
                            claims.retain(|claim| claim.shard != shard);
                        }
                        _ => {
                            // Nobody waits any more once a majority has answered.
                            let _ = sender.send((node, claims, reply));
                            return;
                        }
                    }
                }
            });
        }
        drop(sender);
        let mut pages: Vec<NodePage> = Vec::new();
        let mut heard: HashSet<Replica> = HashSet::new();
        let mut refused = None;
        let mut errors = Vec::new();
        let deadline = Instant::now() + self.inner.options.call_timeout;
        while let Ok(Some((node, claims, reply))) = timeout_at(deadline, answers.recv()).await {
            if let Some(Shard(shard)) = shard_lacking(&reply, &claims) {
                errors.push(format!("{node}: holds no shard {shard}"));
                continue;
            }
            match reply {
                Ok((
                    ListReply::Page {
                        entries,
                        examined_to,
                    },
                    _,
                )) => {
                    heard.extend(claims.iter().map(|claim| claim.to));
                    pages.push(NodePage {
                        replicas: claims.iter().map(|claim| (claim.shard, claim.to)).collect(),
                        entries,
                        up_to: bound_behind(examined_to),
                    });
                }
                Ok((ListReply::Refused { refusal, .. }, _)) => {
                    refused.get_or_insert(refusal);
                }
                Err(error) => errors.push(format!("{node}: {error}")),
            }
            let is_enough = shards
                .iter()
                .all(|(_, place)| place.rule.holds(|replica| heard.contains(&replica)));
            if is_enough {
                return Ok(pages);
            }
        }
        Err(match refused {
            Some(refusal) => Trouble::Refused(refusal),
            None => Trouble::Silent(errors.join("; ")),
        })
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

/// Why the nodes' answers do not make a page.
enum Trouble {
    Refused(Refusal),
    Silent(String),
}

pub(super) fn places_of(bucket: BucketRef, view: &Arc<ClusterView>) -> Vec<(Shard, Place)> {
    (0..bucket.shard_count)
        .filter_map(|shard| Some((Shard(shard), view.place_shard(bucket, Shard(shard))?)))
        .collect()
}

/// One request a disk: a node with several may hold more than one replica of a shard, and an answer is one replica's.
pub(super) fn claims_by_disk(
    shards: &[(Shard, Place)],
) -> BTreeMap<(NodeId, DiskId), Vec<ShardClaim>> {
    let mut by_disk: BTreeMap<_, Vec<ShardClaim>> = BTreeMap::new();
    for (shard, place) in shards {
        for (to, node) in place.targets() {
            by_disk
                .entry((node, to.disk))
                .or_default()
                .push(ShardClaim {
                    shard: *shard,
                    partition: place.partition,
                    to,
                    epoch: place.epoch,
                });
        }
    }
    by_disk
}

/// The shard that the answering disk holds no more (or not yet), although the asker's layout says so: the others may be
/// listed without it. Where the disk knows a newer layout, all is asked anew in that one.
fn shard_lacking(
    reply: &Result<(ListReply, Bytes), CallError>,
    claims: &[ShardClaim],
) -> Option<Shard> {
    let Ok((ListReply::Refused { shard, refusal }, _)) = reply else {
        return None;
    };
    let claim = claims.iter().find(|claim| claim.shard == *shard)?;
    let is_lacking = refusal.reason == Reason::Epoch && refusal.epoch <= claim.epoch;
    is_lacking.then_some(*shard)
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

fn merge(pages: &[NodePage], query: &ListQuery, bucket: BucketRef) -> Merged {
    let up_to = pages
        .iter()
        .map(|page| page.up_to.clone())
        .min_by(compare_bounds)
        .unwrap_or(Some(Vec::new()));
    let is_within = |name: &[u8]| up_to.as_deref().is_none_or(|bound| name < bound);
    let mut names: BTreeMap<(String, Kind), Candidate> = BTreeMap::new();
    for (index, page) in pages.iter().enumerate() {
        for entry in &page.entries {
            match entry {
                ListEntry::Row {
                    key,
                    accepted,
                    object,
                    uploads,
                } => {
                    if !is_within(key.as_bytes()) {
                        continue;
                    }
                    let shard = placement::shard_of(key.as_bytes(), bucket.shard_count);
                    let Some(replica) = page.replicas.get(&shard) else {
                        continue;
                    };
                    let found = (object.is_some() || !uploads.is_empty()).then(|| Found {
                        object: object.clone(),
                        uploads: uploads.clone(),
                    });
                    let candidate = names
                        .entry((key.as_str().to_owned(), Kind::Row))
                        .or_insert_with(|| Candidate::Row(Vec::new()));
                    if let Candidate::Row(rows) = candidate {
                        rows.push((*replica, *accepted, found));
                    }
                }
                ListEntry::Prefix {
                    prefix,
                    witness,
                    accepted,
                } => {
                    // A witness behind the bound proves nothing that the others have looked at.
                    if !is_within(witness.as_bytes()) || !prefix.starts_with(&query.prefix) {
                        continue;
                    }
                    let candidate = names
                        .entry((prefix.clone(), Kind::Prefix))
                        .or_insert_with(|| Candidate::Prefix(Vec::new()));
                    if let Candidate::Prefix(witnesses) = candidate {
                        witnesses.push((witness.clone(), *accepted, index));
                    }
                }
            }
        }
    }
    Merged { names, up_to }
}

/// Where the next request begins: at the bound, or behind a prefix that is shown already and reaches over it.
fn resume(bound: &[u8], last: Option<&Listed>, query: &ListQuery) -> After {
    if let Some(Listed::Prefix(prefix)) = last
        && query.delimiter.is_some()
        && bound.starts_with(prefix.as_bytes())
    {
        return After::Prefix(prefix.clone());
    }
    position_at(bound)
}

/// The position whose first key may be `bound` itself.
fn position_at(bound: &[u8]) -> After {
    if let Some((0, key)) = bound.split_last()
        && let Ok(key) = std::str::from_utf8(key)
    {
        return After::Key(key.to_owned());
    }
    match std::str::from_utf8(bound) {
        Ok(text) => After::At(text.to_owned()),
        // The successor of a prefix need not be UTF-8: step back to the prefix it came from.
        Err(_) => {
            let mut prefix = bound.to_vec();
            if let Some(last) = prefix.last_mut() {
                *last = last.wrapping_sub(1);
            }
            match String::from_utf8(prefix) {
                Ok(prefix) => After::Prefix(prefix),
                Err(error) => {
                    let valid = error.utf8_error().valid_up_to();
                    let bytes = error.into_bytes();
                    After::At(String::from_utf8_lossy(&bytes[..valid]).into_owned())
                }
            }
        }
    }
}

/// Everything below the bound was examined.
fn bound_behind(examined_to: Option<After>) -> UpTo {
    match examined_to {
        None => None,
        Some(After::Start) => Some(Vec::new()),
        Some(After::At(text)) => Some(text.into_bytes()),
        Some(After::Key(key)) => {
            let mut bound = key.into_bytes();
            bound.push(0);
            Some(bound)
        }
        Some(After::Prefix(prefix)) => {
            let mut bound = prefix.into_bytes();
            // UTF-8 has no byte 0xff, so the last byte can always be raised.
            if let Some(last) = bound.last_mut() {
                *last = last.saturating_add(1);
            }
            Some(bound)
        }
    }
}

fn compare_bounds(a: &UpTo, b: &UpTo) -> std::cmp::Ordering {
    match (a, b) {
        (None, None) => std::cmp::Ordering::Equal,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (Some(_), None) => std::cmp::Ordering::Less,
        (Some(a), Some(b)) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_and_its_bound_are_one_another() {
        for after in [
            After::Key("a/b".to_owned()),
            After::Key("\u{10ffff}".to_owned()),
            After::Prefix("\u{7f}".to_owned()),
            After::Prefix("a/".to_owned()),
        ] {
            let bound = bound_behind(Some(after.clone())).expect("a bound");
            let again = bound_behind(Some(position_at(&bound)));
            assert_eq!(again, Some(bound), "{after:?}");
        }
        assert_eq!(bound_behind(None), None);
    }

    #[test]
    fn the_smallest_examined_position_counts() {
        let page = |up_to: UpTo, key: &str| NodePage {
            replicas: [(Shard(0), Replica::default_for_test())].into(),
            entries: vec![ListEntry::Row {
                key: ObjectKey::parse(key).expect("a legal key"),
                accepted: Ballot::ZERO,
                object: None,
                uploads: Vec::new(),
            }],
            up_to,
        };
        let query = ListQuery {
            prefix: String::new(),
            after: After::Start,
            delimiter: None,
            limit: 10,
            what: ListWhat::Objects,
        };
        let bucket = BucketRef {
            shard_count: 1,
            ..BucketRef::SYSTEM
        };
        let pages = [
            page(None, "z"),
            page(bound_behind(Some(After::Key("m".to_owned()))), "m"),
        ];
        let merged = merge(&pages, &query, bucket);
        let names: Vec<_> = merged.names.keys().map(|(name, _)| name).collect();
        assert_eq!(names, ["m"]);
    }

    #[test]
    fn a_deleted_folder_marker_does_not_hide_the_folder() {
        let accepted = Ballot::last_at(ringfort_ring::hlc::Timestamp::from_ms(1));
        let key = |text: &str| ObjectKey::parse(text).expect("a legal key");
        let page = NodePage {
            replicas: [(Shard(0), Replica::default_for_test())].into(),
            entries: vec![
                ListEntry::Row {
                    key: key("a/"),
                    accepted,
                    object: None,
                    uploads: Vec::new(),
                },
                ListEntry::Prefix {
                    prefix: "a/".to_owned(),
                    witness: key("a/x"),
                    accepted,
                },
            ],
            up_to: None,
        };
        let query = ListQuery {
            prefix: String::new(),
            after: After::Start,
            delimiter: Some("/".to_owned()),
            limit: 10,
            what: ListWhat::Objects,
        };
        let bucket = BucketRef {
            shard_count: 1,
            ..BucketRef::SYSTEM
        };
        let merged = merge(&[page], &query, bucket);
        let is_prefix = |candidate: &Candidate| matches!(candidate, Candidate::Prefix(_));
        assert_eq!(merged.names.len(), 2);
        assert!(merged.names.values().any(is_prefix));
    }

    #[test]
    fn only_a_shard_that_a_disk_lacks_is_left_out() {
        let to = Replica::default_for_test();
        let claims = [ShardClaim {
            shard: Shard(3),
            partition: ringfort_ring::id::PartitionId(9),
            to,
            epoch: ringfort_ring::id::Epoch(5),
        }];
        let lacking = |reason, epoch| {
            let refusal = Refusal {
                reason,
                past: Ballot::ZERO,
                floor: Ballot::ZERO,
                bound: ringfort_ring::hlc::Timestamp::ZERO,
                epoch: ringfort_ring::id::Epoch(epoch),
                generation: ringfort_ring::id::Generation(0),
                clock_ms: 0,
            };
            let shard = Shard(3);
            let reply = Ok((ListReply::Refused { shard, refusal }, Bytes::new()));
            shard_lacking(&reply, &claims)
        };
        assert_eq!(lacking(Reason::Epoch, 5), Some(Shard(3)));
        assert_eq!(lacking(Reason::Epoch, 6), None);
        assert_eq!(lacking(Reason::Generation, 5), None);
    }

    trait ForTest {
        fn default_for_test() -> Self;
    }

    impl ForTest for Replica {
        fn default_for_test() -> Self {
            Self {
                disk: ringfort_ring::id::DiskId([1; 16]),
                joined: ringfort_ring::id::Epoch(1),
            }
        }
    }
}
