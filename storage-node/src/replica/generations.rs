//! Which generation of each bucket's rules this disk holds (DESIGN 4.14).
//!
//! From the moment a higher one is shown, nothing older is admitted; and nothing is answered in it before it is
//! durable. The log keeps order: when the generation's own record is durable, every Accept that was admitted before
//! it is durable too, or has failed.

use crate::engine::{Commit, Engine, EngineError, Mutation};
use parking_lot::{RwLock, RwLockReadGuard};
use ringfort_ring::id::Generation;
use ringfort_wire::id::BucketId;
use std::collections::HashMap;

#[derive(Default)]
pub(super) struct Generations {
    /// Those shown since the start and perhaps not durable yet; what is not here is what the engine holds.
    shown: RwLock<HashMap<BucketId, Generation>>,
}

/// Held across an Accept's check and its place in the log: no generation rises between the two.
pub(super) struct Admission<'a> {
    shown: RwLockReadGuard<'a, HashMap<BucketId, Generation>>,
}

impl Admission<'_> {
    pub(super) fn held(&self, engine: &Engine, bucket: BucketId) -> Generation {
        let shown = self.shown.get(&bucket).copied().unwrap_or_default();
        shown.max(engine.generation(bucket))
    }
}

impl Generations {
    pub(super) fn admission(&self) -> Admission<'_> {
        Admission {
            shown: self.shown.read(),
        }
    }

    /// The generation that requests are judged by: the highest shown, durable or not.
    pub(super) fn held(&self, engine: &Engine, bucket: BucketId) -> Generation {
        self.admission().held(engine, bucket)
    }

    /// Holds at least `generation`, durably, and with everything older decided.
    pub(super) async fn adopt(
        &self,
        engine: &Engine,
        bucket: BucketId,
        generation: Generation,
    ) -> Result<(), EngineError> {
        if engine.generation(bucket) >= generation {
            return Ok(());
        }
        let commit = self.show(engine, bucket, generation);
        commit.await?;
        // Durable: the engine answers for it from now on.
        let mut shown = self.shown.write();
        if shown
            .get(&bucket)
            .is_some_and(|held| *held <= engine.generation(bucket))
        {
            shown.remove(&bucket);
        }
        Ok(())
    }

    fn show(&self, engine: &Engine, bucket: BucketId, generation: Generation) -> Commit {
        let mut shown = self.shown.write();
        let held = shown.entry(bucket).or_default();
        *held = (*held).max(generation);
        // Under the lock: what was admitted before stands before this in the log.
        engine.submit(Mutation::Generation { bucket, generation })
    }
}
