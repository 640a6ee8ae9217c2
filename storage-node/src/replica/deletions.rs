//! Chunks whose end is decided, waiting for the readers under way.
//!
//! In memory: what a crash forgets is garbage that names its owner, and is found by that.

use crate::engine::{Engine, Mutation};
use parking_lot::Mutex;
use ringfort_wire::id::ChunkId;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Deletions that wait at most; beyond, the oldest are carried out early.
const WAITING_MAX: usize = 1_000_000;

pub(crate) struct Deletions {
    engine: Engine,
    waiting: Mutex<BTreeMap<(Instant, ChunkId), ()>>,
}

impl Deletions {
    pub(super) fn new(engine: Engine) -> Self {
        Self {
            engine,
            waiting: Mutex::default(),
        }
    }

    pub(crate) fn add(&self, chunk: ChunkId, grace: Duration) {
        let mut waiting = self.waiting.lock();
        waiting.insert((Instant::now() + grace, chunk), ());
        if waiting.len() > WAITING_MAX
            && let Some(((_, oldest), ())) = waiting.pop_first()
        {
            drop(waiting);
            self.delete(oldest);
        }
    }

    /// Carries out what is due; everything, where the node is stopping and its readers are gone.
    pub(crate) fn run_due(&self, is_stopping: bool) {
        let now = Instant::now();
        loop {
            let due = {
                let mut waiting = self.waiting.lock();
                match waiting.first_key_value() {
                    Some(((at, _), ())) if *at <= now || is_stopping => waiting.pop_first(),
                    _ => None,
                }
            };
            let Some(((_, chunk), ())) = due else { return };
            self.delete(chunk);
        }
    }

    fn delete(&self, chunk: ChunkId) {
        let commit = self.engine.submit(Mutation::DeleteChunk { id: chunk });
        tokio::spawn(async move {
            if let Err(error) = commit.await {
                tracing::warn!(%error, %chunk, "a chunk was not deleted; it is garbage until it is collected");
            }
        });
    }
}
