//! Buckets: found, made, removed, listed.

use super::error::CatalogError;
use super::record::{BucketPhase, BucketRecord};
use super::registers::{Found, Swap};
use super::{Catalog, bucket_register};
use crate::coordinator::BucketRef;
use crate::s3::names::BucketName;
use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use ringfort_ring::id::Generation;
use ringfort_wire::id::BucketId;
use std::sync::Arc;

/// K of a new bucket (DESIGN 3).
const SHARD_COUNT: u16 = 16;

/// How often a change starts over because others changed the same bucket.
pub(super) const ATTEMPTS_MAX: usize = 16;

/// How many registers a listing of buckets reads at once.
const READS_AT_ONCE: usize = 16;

/// Names asked for in one page.
const NAMES_A_PAGE: usize = 1000;

/// A bucket that is Live, as it was when it was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: BucketName,
    /// How requests to its rows name it.
    pub reference: BucketRef,
    /// The account that made it.
    pub owner: String,
    /// The region that it was made in.
    pub region: String,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
}

/// How a creation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is new.
    New(Arc<Bucket>),
    /// The same account has it already; nothing was changed.
    AlreadyYours(Arc<Bucket>),
    /// Another account has it.
    Exists,
}

impl Catalog {
    /// The bucket of this name, from the cache where it is there: safe for whatever names the bucket's generation to
    /// storage nodes afterwards, and for nothing else.
    ///
    /// # Errors
    /// Where the register could not be read, or is between two states.
    pub async fn bucket(&self, name: &BucketName) -> Result<Option<Arc<Bucket>>, CatalogError> {
        match self.live.get(name) {
            Some(bucket) => Ok(Some(bucket)),
            None => self.bucket_fresh(name).await,
        }
    }

    /// The bucket of this name, read from its register now.
    ///
    /// # Errors
    /// As [`Catalog::bucket`].
    pub async fn bucket_fresh(
        &self,
        name: &BucketName,
    ) -> Result<Option<Arc<Bucket>>, CatalogError> {
        self.live.remove(name);
        let found = self.settled_bucket(name).await?;
        let bucket = found
            .record
            .map(|record| Arc::new(to_bucket(name, &record)));
        if let Some(bucket) = &bucket {
            self.live.insert(name.clone(), Arc::clone(bucket));
        }
        Ok(bucket)
    }

    /// Forgets what was cached of the bucket: a node has said that it has changed.
    pub fn forget_bucket(&self, name: &BucketName) {
        self.live.remove(name);
    }

    /// Makes a bucket. Its id is new, whatever the name meant before.
    ///
    /// # Errors
    /// Where the register could not be read or changed.
    pub async fn create_bucket(
        &self,
        name: &BucketName,
        owner: &str,
    ) -> Result<Created, CatalogError> {
        let register = bucket_register::register_name(name);
        for _ in 0..ATTEMPTS_MAX {
            let found = self.settled_bucket(name).await?;
            if let Some(record) = &found.record {
                return Ok(match record.owner == owner {
                    true => Created::AlreadyYours(Arc::new(to_bucket(name, record))),
                    false => Created::Exists,
                });
            }
            let record = self.new_bucket(name, owner);
            if self
                .registers
                .swap(&register, &found, Some(&record))
                .await?
                == Swap::Done
            {
                let bucket = Arc::new(to_bucket(name, &record));
                self.live.insert(name.clone(), Arc::clone(&bucket));
                return Ok(Created::New(bucket));
            }
        }
        Err(CatalogError::Busy)
    }

    /// Removes a bucket that holds no object. Open uploads do not keep it.
    ///
    /// # Errors
    /// `BucketNotEmpty`, `NoSuchBucket`; or where the registers or rows could not be read or changed: then whoever
    /// meets the bucket next ends what was begun.
    pub async fn delete_bucket(&self, bucket: &Bucket) -> Result<(), CatalogError> {
        let name = &bucket.name;
        let register = bucket_register::register_name(name);
        self.live.remove(name);
        for _ in 0..ATTEMPTS_MAX {
            let found = self.settled_bucket(name).await?;
            let record = match &found.record {
                Some(record) if record.id == bucket.reference.id => record,
                // It is gone, or another one has taken its name: not the one that the request was judged by.
                _ => return Err(CatalogError::NoSuchBucket),
            };
            match self.holds_objects(record).await {
                Ok(true) => return Err(CatalogError::BucketNotEmpty),
                Ok(false) => {}
                Err(error) if bucket_register::is_changed(&error) => continue,
                Err(error) => return Err(error),
            }
            let deleting = bucket_register::deleting(record);
            if self
                .registers
                .swap(&register, &found, Some(&deleting))
                .await?
                == Swap::Done
            {
                return self.finish_delete(name, &deleting).await;
            }
        }
        Err(CatalogError::Busy)
    }

    /// Ends a removal that this gateway began, unless somebody who met it has been faster.
    async fn finish_delete(
        &self,
        name: &BucketName,
        deleting: &BucketRecord,
    ) -> Result<(), CatalogError> {
        let register = bucket_register::register_name(name);
        for _ in 0..ATTEMPTS_MAX {
            let found: Found<BucketRecord> = self.registers.read(&register).await?;
            match &found.record {
                Some(record) if record.id != deleting.id => return Ok(()),
                None => return Ok(()),
                Some(record)
                    if record.generation > deleting.generation
                        && record.phase == BucketPhase::Live =>
                {
                    return Err(CatalogError::BucketNotEmpty);
                }
                Some(record) => self.advance_bucket(&register, &found, record).await?,
            }
        }
        Err(CatalogError::Busy)
    }

    /// All buckets, in the byte order of their names.
    ///
    /// # Errors
    /// Where a register could not be read.
    pub async fn list_buckets(&self) -> Result<Vec<Arc<Bucket>>, CatalogError> {
        let mut buckets = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let (names, is_truncated) = self
                .registers
                .names(bucket_register::PREFIX, after.as_deref(), NAMES_A_PAGE)
                .await?;
            after = names.last().cloned();
            let page: Vec<Option<Arc<Bucket>>> = stream::iter(names)
                .map(|register| self.bucket_of(register).boxed())
                .buffered(READS_AT_ONCE)
                .try_collect()
                .await?;
            buckets.extend(page.into_iter().flatten());
            if !is_truncated || after.is_none() {
                return Ok(buckets);
            }
        }
    }

    async fn bucket_of(&self, register: String) -> Result<Option<Arc<Bucket>>, CatalogError> {
        match bucket_register::bucket_name(&register) {
            Some(name) => self.bucket_fresh(&name).await,
            None => Ok(None),
        }
    }

    fn new_bucket(&self, name: &BucketName, owner: &str) -> BucketRecord {
        let environment = self.coordinator.environment();
        BucketRecord {
            id: BucketId(environment.random_id()),
            name: name.as_str().to_owned(),
            owner: owner.to_owned(),
            created_ms: environment.now_ms(),
            region: self.region.to_string(),
            shard_count: SHARD_COUNT,
            // The id is new: no node holds another generation of it, so none needs raising.
            generation: Generation(0),
            phase: BucketPhase::Live,
            extensions: Vec::new(),
        }
    }
}

fn to_bucket(name: &BucketName, record: &BucketRecord) -> Bucket {
    Bucket {
        name: name.clone(),
        reference: bucket_register::reference(record),
        owner: record.owner.clone(),
        region: record.region.clone(),
        created_ms: record.created_ms,
    }
}
