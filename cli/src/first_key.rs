//! The first access key reaches the catalog, over any crash: it is in the folder before it is proposed, proposing it
//! again is the same key, and a mark says when it need not be proposed any more. So an operator may delete it later.

use crate::failure::Failure;
use crate::folder;
use crate::folder::RootKey;
use ringfort_gateway::catalog::{Catalog, CatalogError, NewKey, Role};
use ringfort_storage_node::control::file::{self, Secrecy};
use std::path::Path;
use std::time::Duration;

/// The account of the first key.
pub(crate) const ROOT_ACCOUNT: &str = "root";
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Whether the first key still has to reach the catalog.
pub(crate) fn is_owed(folder: &Path) -> Result<bool, Failure> {
    let made = file::read(&folder.join("root-key.made")).map_err(Failure::usage)?;
    Ok(made.is_none() && folder::root_key(folder)?.is_some())
}

/// Proposes the folder's first key until a quorum has it; being cancelled is safe, the next start goes on.
pub(crate) async fn propose(folder: &Path, catalog: &Catalog) -> Result<(), Failure> {
    if !is_owed(folder)? {
        return Ok(());
    }
    let Some(key) = folder::root_key(folder)? else {
        return Ok(());
    };
    let mut last = String::new();
    loop {
        match catalog.create_key(spec(&key)).await {
            Ok(_) => break,
            Err(error @ (CatalogError::KeyExists | CatalogError::Invalid(_))) => {
                return Err(Failure::failed(format!(
                    "the first access key {} cannot be made: {error}",
                    key.access_key
                )));
            }
            Err(error) => {
                // A cluster that forms says so many times a second.
                let why = error.to_string();
                if why != last {
                    tracing::info!(%why, "the first access key waits for a quorum");
                    last = why;
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }
    let mark = folder.join("root-key.made");
    file::write_durably(&mark, b"", Secrecy::Plain).map_err(Failure::failed)?;
    tracing::info!(access_key = %key.access_key, "the first access key is in the catalog");
    Ok(())
}

fn spec(key: &RootKey) -> NewKey {
    NewKey {
        id: Some(key.access_key.clone()),
        secret: Some(key.secret_key.clone()),
        name: "root".to_owned(),
        role: Role::Admin,
        buckets: None,
        owner: Some(ROOT_ACCOUNT.to_owned()),
    }
}
