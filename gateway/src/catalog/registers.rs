//! Reading, comparing and setting the registers of the system bucket.
//!
//! A record is the inline body of the register's head. The head's version is the ballot of the proposal that wrote
//! it, unique and kept through identity rounds: comparing it compares the whole value.

use super::error::CatalogError;
use super::record::{self, Record};
use crate::coordinator::{
    BucketRef, Change, Coordinator, InlineBody, ListQuery, Listed, Proposed, WriteError,
};
use bytes::Bytes;
use ringfort_ring::ballot::Ballot;
use ringfort_wire::id::{ObjectKey, RowKey};
use ringfort_wire::manifest::{BodyOwner, BodyPlace, KeyState, ObjectHead};
use ringfort_wire::message::{After, ListWhat};
use std::sync::Arc;

/// What a register held when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found<T> {
    /// The ballot that wrote it; `None`: there is no record.
    version: Option<Ballot>,
    pub(super) record: Option<T>,
}

impl<T> Found<T> {
    /// The value's identity, for whoever only wants to know whether it has changed.
    pub(super) fn version(&self) -> Option<Ballot> {
        self.version
    }
}

/// How a compare-and-set ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swap {
    /// The new value is chosen.
    Done,
    /// The register holds another value than the one compared with; nothing was written.
    Changed,
}

/// The registers of the system bucket.
#[derive(Clone)]
pub(super) struct Registers {
    coordinator: Arc<Coordinator>,
}

impl Registers {
    pub(super) fn new(coordinator: Arc<Coordinator>) -> Self {
        Self { coordinator }
    }

    /// A linearizable read.
    pub(super) async fn read<T: Record>(&self, name: &str) -> Result<Found<T>, CatalogError> {
        let row = row(name)?;
        let read = self
            .coordinator
            .read::<KeyState>(BucketRef::SYSTEM, &row, true)
            .await?;
        let Some(head) = read.state.and_then(|state| state.head) else {
            return Ok(Found {
                version: None,
                record: None,
            });
        };
        let record = record::decode(&read.body).map_err(|source| CatalogError::Record {
            register: name.to_owned(),
            source,
        })?;
        Ok(Found {
            version: Some(head.version),
            record: Some(record),
        })
    }

    /// Replaces what was found by `new` (`None`: a tombstone), if nothing has changed since.
    pub(super) async fn swap<T: Record>(
        &self,
        name: &str,
        found: &Found<T>,
        new: Option<&T>,
    ) -> Result<Swap, CatalogError> {
        let row = row(name)?;
        let expected = found.version;
        let body = new.map(|record| Bytes::from(record::encode(record)));
        let operation = self.coordinator.operation(None);
        let owner = BodyOwner::Operation(operation.id);
        let now_ms = self.coordinator.environment().now_ms();
        let proposed = self
            .coordinator
            .propose::<KeyState, (), _>(BucketRef::SYSTEM, &row, &operation, |seen| {
                let current = seen.state.and_then(|state| state.head.as_ref());
                if current.map(|head| head.version) != expected {
                    return Change::Refuse(());
                }
                let mut state = seen.state.cloned().unwrap_or_default();
                state.head = body
                    .as_ref()
                    .map(|body| Box::new(head(body, seen.ballot, owner, now_ms)));
                let body = body.clone().map_or(InlineBody::None, InlineBody::New);
                Change::Write {
                    state,
                    body,
                    answer: Vec::new(),
                }
            })
            .await;
        match proposed {
            Ok(Proposed::Written { .. } | Proposed::AlreadyDone { .. }) => Ok(Swap::Done),
            Ok(Proposed::Refused(())) => Ok(Swap::Changed),
            // Nothing was written, and others were: whoever asked looks again.
            Err(WriteError::Conflict) => Ok(Swap::Changed),
            Err(error) => Err(error.into()),
        }
    }

    /// The names of all registers that begin with `prefix` and hold a record, in byte order, behind `after`.
    pub(super) async fn names(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<String>, bool), CatalogError> {
        let query = ListQuery {
            prefix: prefix.to_owned(),
            after: after.map_or(After::Start, |name| After::Key(name.to_owned())),
            delimiter: None,
            limit,
            what: ListWhat::Objects,
        };
        let page = self.coordinator.list(BucketRef::SYSTEM, &query).await?;
        let names = page
            .entries
            .into_iter()
            .filter_map(|entry| match entry {
                Listed::Object { key, .. } => Some(key),
                Listed::Uploads { .. } | Listed::Prefix(_) => None,
            })
            .collect();
        Ok((names, page.is_truncated))
    }
}

fn row(name: &str) -> Result<RowKey, CatalogError> {
    let key = ObjectKey::parse(name)
        .ok_or_else(|| CatalogError::Invalid("the name is too long".to_owned()))?;
    Ok(RowKey::object(BucketRef::SYSTEM.id, key))
}

fn head(body: &Bytes, version: Ballot, owner: BodyOwner, now_ms: u64) -> ObjectHead {
    ObjectHead {
        version,
        owner,
        modified_ms: now_ms,
        size: body.len() as u64,
        etag: String::new(),
        headers: Vec::new(),
        metadata: Vec::new(),
        checksums: Vec::new(),
        part_count: 0,
        body: BodyPlace::Inline,
        extensions: Vec::new(),
    }
}
