//! Buckets and access keys, as registers of the system bucket (DESIGN 4.14).
//!
//! Readable at once through any gateway. Every change is one compare-and-set of a whole value. Only a Live bucket is
//! cached, and a cache of any age is safe: whatever answers for a bucket's rows names the generation it was judged
//! by. Access keys hold in the cache for at most a second beyond the last good look at their epoch.

mod access_keys;
mod bucket_register;
mod buckets;
mod error;
mod key_cache;
pub mod policy;
mod record;
mod registers;
mod token_key;

pub use access_keys::{AccessKey, NewKey};
pub use buckets::{Bucket, Created};
pub use error::CatalogError;
pub use policy::{Action, Role};

use crate::coordinator::Coordinator;
use crate::s3::names::BucketName;
use key_cache::KeyCache;
use quick_cache::sync::Cache;
use registers::Registers;
use std::sync::Arc;

/// How many buckets a gateway keeps in mind.
const BUCKETS_CACHED: usize = 10_000;

/// Buckets and access keys. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    registers: Registers,
    coordinator: Arc<Coordinator>,
    live: Arc<Cache<BucketName, Arc<Bucket>>>,
    keys: Arc<KeyCache>,
    region: Arc<str>,
    token_key: Arc<std::sync::OnceLock<Arc<[u8]>>>,
}

impl Catalog {
    /// A catalog over this coordinator. New buckets are in `region`.
    #[must_use]
    pub fn new(coordinator: Arc<Coordinator>, region: &str) -> Self {
        Self {
            registers: Registers::new(Arc::clone(&coordinator)),
            coordinator,
            live: Arc::new(Cache::new(BUCKETS_CACHED)),
            keys: Arc::default(),
            region: Arc::from(region),
            token_key: Arc::default(),
        }
    }
}
