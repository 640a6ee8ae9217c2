//! What a scrub found rotten, until it is well again.
//!
//! A fact, and a row without an inline body, are written anew from the index. A row with one is written anew by an
//! identity round, which takes the body from a replica that can read its own. A chunk is fetched from another replica
//! (`replica/missing.rs`). What was rotten is garbage as soon as the index points at another record.
//!
//! Nothing here ends a replica: the index names all that rot took, so no accepted state, floor, bound or generation is
//! lost. A body or chunk that nobody else has either stays as it is, counted as not mended: its register's state and
//! ballot still count, and one key that cannot be read is less than a partition without a vote.

use crate::engine::EngineError;
use crate::engine::scrub::{Rotten, RottenRecord};
use crate::replica::DiskReplica;
use futures_util::stream::{self, StreamExt};
use ringfort_coordinator::Coordinator;
use ringfort_wire::message::ScrubCounts;

/// Rows written anew at the same time.
const ROWS_AT_ONCE: usize = 8;

/// What is to be mended on one disk.
#[derive(Debug, Default)]
pub(super) struct Mending {
    open: Vec<Rotten>,
}

impl Mending {
    /// Goes on with what an interrupted pass left open.
    pub(super) fn of(open: Vec<Rotten>) -> Self {
        Self { open }
    }

    pub(super) fn into_open(self) -> Vec<Rotten> {
        self.open
    }

    /// Takes in what was found, and counts it. What was found already counts once.
    pub(super) fn take_in(&mut self, found: Vec<Rotten>, counts: &mut ScrubCounts) -> bool {
        let mut is_news = false;
        for rotten in found {
            if self.open.contains(&rotten) {
                continue;
            }
            is_news = true;
            match &rotten.record {
                RottenRecord::Row { partition, key, .. } => {
                    counts.rotten_rows += 1;
                    tracing::warn!(%partition, bucket = %key.bucket, key = %key.key, "a row's record is rotten");
                }
                RottenRecord::Chunk { id } => {
                    counts.rotten_chunks += 1;
                    tracing::warn!(chunk = %id, "a chunk is rotten");
                }
                RottenRecord::Fact => {
                    counts.rotten_facts += 1;
                    tracing::warn!("the record of a floor, bound, epoch or generation is rotten");
                }
            }
            self.open.push(rotten);
        }
        is_news
    }

    pub(super) fn left(&self) -> usize {
        self.open.len()
    }

    /// One try for everything that is open.
    ///
    /// # Errors
    /// Where the disk takes no writes, or its index does not read back.
    pub(super) async fn run(
        &mut self,
        disk: &DiskReplica,
        coordinator: &Coordinator,
    ) -> Result<(), EngineError> {
        let mut rows = Vec::new();
        let mut commits = Vec::new();
        for rotten in &self.open {
            if !disk.engine().still_counts(rotten)? {
                continue;
            }
            if let Some(commit) = disk.engine().restate(rotten)? {
                commits.push(commit);
                continue;
            }
            match &rotten.record {
                RottenRecord::Chunk { id } => disk.note_rotten_chunk(*id),
                RottenRecord::Row { partition, key, .. } => rows.push((*partition, key.clone())),
                // Its value is gone from memory: so is the need for it.
                RottenRecord::Fact => {}
            }
        }
        stream::iter(rows)
            .map(|(partition, key)| async move {
                let held = disk.generation_of(key.bucket);
                let rewritten = coordinator.rewrite_row(key.bucket, partition, held, &key);
                if let Err(error) = rewritten.await {
                    tracing::debug!(%error, "a rotten row was not written anew; it is tried again");
                }
            })
            .buffer_unordered(ROWS_AT_ONCE)
            .collect::<()>()
            .await;
        for commit in commits {
            commit.await?;
        }
        Ok(())
    }

    /// Forgets what is well again, and counts it.
    ///
    /// # Errors
    /// Where the index does not read back.
    pub(super) fn settle(
        &mut self,
        disk: &DiskReplica,
        counts: &mut ScrubCounts,
    ) -> Result<(), EngineError> {
        let before = self.open.len();
        let mut still = Vec::new();
        for rotten in self.open.drain(..) {
            if disk.engine().still_counts(&rotten)? {
                still.push(rotten);
            }
        }
        self.open = still;
        counts.mended += (before - self.open.len()) as u64;
        Ok(())
    }
}
