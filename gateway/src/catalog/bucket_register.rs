//! The steps of one bucket's register: what is between two states is brought to its end by whoever meets it.
//!
//! Live, generation g. Removing writes Deleting at g + 1 and raises it: from then on no node takes a request that was
//! judged under g. Only then the emptiness check counts; the register becomes a tombstone, or Raising at g + 2, which
//! becomes Live once g + 2 is raised.

use super::Catalog;
use super::buckets::ATTEMPTS_MAX;
use super::error::CatalogError;
use super::record::{BucketPhase, BucketRecord};
use super::registers::Found;
use crate::coordinator::{BucketRef, ListQuery, ReadError, WriteError};
use crate::s3::names::BucketName;
use ringfort_ring::id::Generation;
use ringfort_wire::message::{After, ListWhat};

/// What the names of buckets' registers begin with.
pub(super) const PREFIX: &str = ringfort_wire::catalog::BUCKET_PREFIX;

/// The register of a bucket.
pub(super) fn register_name(name: &BucketName) -> String {
    format!("{PREFIX}{}", name.as_str())
}

/// The bucket of a register.
pub(super) fn bucket_name(register: &str) -> Option<BucketName> {
    BucketName::parse(register.strip_prefix(PREFIX)?).ok()
}

pub(super) fn reference(record: &BucketRecord) -> BucketRef {
    BucketRef {
        id: record.id,
        generation: record.generation,
        shard_count: record.shard_count,
        partition: None,
    }
}

/// The record that begins a removal.
pub(super) fn deleting(record: &BucketRecord) -> BucketRecord {
    BucketRecord {
        phase: BucketPhase::Deleting,
        generation: next(record.generation),
        ..record.clone()
    }
}

/// The record that takes a removal back.
fn raising(record: &BucketRecord) -> BucketRecord {
    BucketRecord {
        phase: BucketPhase::Raising,
        generation: next(record.generation),
        ..record.clone()
    }
}

fn live(record: &BucketRecord) -> BucketRecord {
    BucketRecord {
        phase: BucketPhase::Live,
        ..record.clone()
    }
}

fn next(generation: Generation) -> Generation {
    Generation(generation.0.saturating_add(1))
}

/// Whether the error only says that somebody else was faster.
pub(super) fn is_changed(error: &CatalogError) -> bool {
    matches!(
        error,
        CatalogError::Read(ReadError::BucketChanged)
            | CatalogError::Write(WriteError::BucketChanged)
    )
}

impl Catalog {
    /// The bucket's register once it is Live or empty: what others have begun is brought to its end first.
    pub(super) async fn settled_bucket(
        &self,
        name: &BucketName,
    ) -> Result<Found<BucketRecord>, CatalogError> {
        let register = register_name(name);
        for _ in 0..ATTEMPTS_MAX {
            let found: Found<BucketRecord> = self.registers.read(&register).await?;
            match &found.record {
                None => return Ok(found),
                Some(record) if record.phase == BucketPhase::Live => return Ok(found),
                Some(record) => self.advance_bucket(&register, &found, record).await?,
            }
        }
        Err(CatalogError::Busy)
    }

    /// One step of a register that is between two states. Doing nothing because somebody else was faster is no error.
    pub(super) async fn advance_bucket(
        &self,
        register: &str,
        found: &Found<BucketRecord>,
        record: &BucketRecord,
    ) -> Result<(), CatalogError> {
        match self.step(register, found, record).await {
            Err(error) if is_changed(&error) => Ok(()),
            done => done,
        }
    }

    async fn step(
        &self,
        register: &str,
        found: &Found<BucketRecord>,
        record: &BucketRecord,
    ) -> Result<(), CatalogError> {
        let next = match record.phase {
            BucketPhase::Live => return Ok(()),
            BucketPhase::Raising => {
                self.coordinator
                    .raise(reference(record), record.generation)
                    .await?;
                Some(live(record))
            }
            BucketPhase::Deleting => {
                self.coordinator
                    .raise(reference(record), record.generation)
                    .await?;
                self.holds_objects(record).await?.then(|| raising(record))
            }
        };
        self.registers.swap(register, found, next.as_ref()).await?;
        Ok(())
    }

    /// Whether the bucket holds an object, judged at the record's generation.
    pub(super) async fn holds_objects(&self, record: &BucketRecord) -> Result<bool, CatalogError> {
        let query = ListQuery {
            prefix: String::new(),
            after: After::Start,
            delimiter: None,
            limit: 1,
            what: ListWhat::Objects,
        };
        let page = self.coordinator.list(reference(record), &query).await?;
        // A page that says "more" without showing it proves nothing, and a bucket must not vanish on that.
        Ok(!page.entries.is_empty() || page.is_truncated)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use ringfort_wire::id::BucketId;

    fn record() -> BucketRecord {
        BucketRecord {
            id: BucketId([1; 16]),
            name: "bucket".to_owned(),
            owner: "a".to_owned(),
            created_ms: 1,
            region: "r".to_owned(),
            shard_count: 16,
            generation: Generation(4),
            phase: BucketPhase::Live,
            extensions: vec![(1, vec![2])],
        }
    }

    #[test]
    fn a_removal_taken_back_is_two_generations_on_and_otherwise_the_same() {
        let begun = deleting(&record());
        assert_eq!(
            (begun.generation, begun.phase),
            (Generation(5), BucketPhase::Deleting)
        );
        let back = raising(&begun);
        assert_eq!(
            (back.generation, back.phase),
            (Generation(6), BucketPhase::Raising)
        );
        let expected = BucketRecord {
            generation: Generation(6),
            ..record()
        };
        assert_eq!(live(&back), expected);
    }

    #[test]
    fn a_node_finds_the_id_in_a_record() {
        let bytes = crate::catalog::record::encode(&record());
        let id = ringfort_wire::catalog::bucket_id(&bytes);
        assert_eq!(id, Some(record().id));
    }

    #[test]
    fn a_register_names_its_bucket() {
        let name = BucketName::parse("a-bucket").unwrap();
        assert_eq!(bucket_name(&register_name(&name)), Some(name));
        assert_eq!(bucket_name("key/AK"), None);
    }
}
