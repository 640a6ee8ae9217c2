//! The key that seals continuation tokens: the same at every gateway, made by the first that needs it.

use super::Catalog;
use super::error::CatalogError;
use super::record::SecretRecord;
use super::registers::{Found, Swap};
use std::sync::Arc;

const REGISTER: &str = "secret/list-tokens";
const KEY_BYTES: usize = 32;
const ATTEMPTS_MAX: usize = 8;

impl Catalog {
    /// The key that seals the continuation tokens of listings. Once made it never changes.
    ///
    /// # Errors
    /// Where the register could not be read or written.
    pub async fn token_key(&self) -> Result<Arc<[u8]>, CatalogError> {
        if let Some(key) = self.token_key.get() {
            return Ok(Arc::clone(key));
        }
        for _ in 0..ATTEMPTS_MAX {
            let found: Found<SecretRecord> = self.registers.read(REGISTER).await?;
            if let Some(record) = found.record {
                let key: Arc<[u8]> = record.secret.into();
                return Ok(Arc::clone(self.token_key.get_or_init(|| key)));
            }
            let mut secret = vec![0; KEY_BYTES];
            self.coordinator.environment().fill(&mut secret);
            let record = SecretRecord {
                secret,
                extensions: Vec::new(),
            };
            // Read again either way: what the register holds is the key, whoever wrote it.
            let (Swap::Done | Swap::Changed) =
                self.registers.swap(REGISTER, &found, Some(&record)).await?;
        }
        Err(CatalogError::Busy)
    }
}
