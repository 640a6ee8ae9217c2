//! One page of many nodes' answers, as far as all of them have looked. Pure.

use super::super::{BucketRef, ListQuery, Listed};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::Shard;
use ringfort_ring::placement;
use ringfort_ring::quorum::Replica;
use ringfort_wire::id::ObjectKey;
use ringfort_wire::message::{After, ListEntry, ObjectSummary, UploadSummary};
use std::collections::{BTreeMap, HashMap};

/// An exclusive bound in the order of keys; `None`: behind every key.
pub(super) type UpTo = Option<Vec<u8>>;

/// One node's answer.
pub(super) struct NodePage {
    pub(super) replicas: HashMap<Shard, Replica>,
    pub(super) entries: Vec<ListEntry>,
    pub(super) up_to: UpTo,
}

/// A page that was merged but not judged.
pub(super) struct Merged {
    /// In byte order, all below `up_to`. A key and a common prefix may have the same name (a folder's marker), so
    /// each has a place of its own.
    pub(super) names: BTreeMap<(String, Kind), Candidate>,
    pub(super) up_to: UpTo,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Prefix,
    Row,
}

/// What the nodes say about one name.
pub(super) enum Candidate {
    Row(Vec<(Replica, Ballot, Option<Found>)>),
    /// Witnesses, and the nodes that showed them.
    Prefix(Vec<(ObjectKey, Ballot, usize)>),
}

/// What a live row is, for the page.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) object: Option<ObjectSummary>,
    pub(super) uploads: Vec<UploadSummary>,
}

pub(super) fn merge(pages: &[NodePage], query: &ListQuery, bucket: BucketRef) -> Merged {
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
pub(super) fn resume(bound: &[u8], last: Option<&Listed>, query: &ListQuery) -> After {
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
pub(super) fn bound_behind(examined_to: Option<After>) -> UpTo {
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
    use ringfort_wire::message::ListWhat;

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
