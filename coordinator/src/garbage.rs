//! For the collection of garbage on nodes: emptying rows that nobody can reach any more, and which buckets there are.

use super::{
    BucketRef, Change, Coordinator, InlineBody, ListQuery, Listed, Proposed, ReadError, Seen,
    WriteError,
};
use ringfort_wire::catalog;
use ringfort_wire::id::{BucketId, RowKey};
use ringfort_wire::manifest::{KeyState, PartState};
use ringfort_wire::message::{After, ListWhat};
use std::collections::HashSet;

/// Names asked for in one page.
const NAMES_A_PAGE: usize = 1_000;

impl Coordinator {
    /// Empties the register of a part whose upload has ended. Whether there was anything to empty.
    ///
    /// # Errors
    /// As [`Coordinator::propose`].
    pub async fn empty_part(&self, bucket: BucketRef, row: &RowKey) -> Result<bool, WriteError> {
        let decide = |seen: Seen<'_, PartState>| match seen.state {
            Some(state) if !state.is_collectable() => {
                let mut state = state.clone();
                state.clear();
                Change::Write {
                    state,
                    body: InlineBody::None,
                    answer: Vec::new(),
                }
            }
            _ => Change::Refuse(()),
        };
        let operation = self.operation(None);
        let done = self.propose(bucket, row, &operation, decide).await?;
        Ok(!matches!(done, Proposed::Refused(())))
    }

    /// Empties a key's register in a bucket that is finally removed: nobody can reach what it names. Whether there was
    /// anything to empty.
    ///
    /// # Errors
    /// As [`Coordinator::propose`].
    pub async fn empty_key(&self, bucket: BucketRef, row: &RowKey) -> Result<bool, WriteError> {
        let decide = |seen: Seen<'_, KeyState>| match seen.state {
            Some(state) if !state.is_tombstone() || !state.ended.is_empty() => Change::Write {
                state: KeyState::default(),
                body: InlineBody::None,
                answer: Vec::new(),
            },
            _ => Change::Refuse(()),
        };
        let operation = self.operation(None);
        let done = self.propose(bucket, row, &operation, decide).await?;
        Ok(!matches!(done, Proposed::Refused(())))
    }

    /// The buckets that there are, those on their way out too: each register judged like a GET, from the moment of the
    /// call on. An id that a row or chunk named before the call and that is not among them is removed for good, for a
    /// bucket's register is chosen before anything names its id, and an id is never used again.
    ///
    /// # Errors
    /// As listing and reading; and where a record cannot be read: then nothing may be concluded.
    pub async fn bucket_ids(&self) -> Result<HashSet<BucketId>, ReadError> {
        let mut ids = HashSet::new();
        let mut after = After::Start;
        loop {
            let query = ListQuery {
                prefix: catalog::BUCKET_PREFIX.to_owned(),
                after,
                delimiter: None,
                limit: NAMES_A_PAGE,
                what: ListWhat::Objects,
            };
            let page = self.list(BucketRef::SYSTEM, &query).await?;
            for entry in &page.entries {
                ids.extend(self.bucket_id(entry).await?);
            }
            let next = match page.next {
                Some(next) => Some(next),
                None => page
                    .entries
                    .last()
                    .map(|last| After::Key(last.name().to_owned())),
            };
            match next.filter(|_| page.is_truncated) {
                Some(next) => after = next,
                None if page.is_truncated => {
                    return Err(ReadError::NotEnoughReplicas(
                        "a page of buckets does not say where it goes on".to_owned(),
                    ));
                }
                None => return Ok(ids),
            }
        }
    }

    async fn bucket_id(&self, entry: &Listed) -> Result<Option<BucketId>, ReadError> {
        let name = entry.name();
        let corrupt = |why: &str| ReadError::Corrupt(format!("the register {name}: {why}"));
        let key = ringfort_wire::id::ObjectKey::parse(name).ok_or_else(|| corrupt("no key"))?;
        let row = RowKey::object(BucketId::SYSTEM, key);
        let read = self.read::<KeyState>(BucketRef::SYSTEM, &row, true).await?;
        if read.state.is_none_or(|state| state.head.is_none()) {
            // Removed since it was listed.
            return Ok(None);
        }
        let id = catalog::bucket_id(&read.body);
        id.map(Some).ok_or_else(|| corrupt("not a bucket's record"))
    }
}
