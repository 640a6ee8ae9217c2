//! Writes of one gateway to one key queue up (DESIGN 4.3): two proposers of one process would only kill each
//! other's rounds.

use parking_lot::Mutex;
use ringfort_wire::id::RowKey;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

#[derive(Default)]
pub(super) struct KeyQueue {
    turns: Arc<Mutex<HashMap<RowKey, Arc<AsyncMutex<()>>>>>,
}

/// The turn of one write; the next one's begins when it is dropped.
pub(super) struct Turn {
    key: RowKey,
    guard: Option<OwnedMutexGuard<()>>,
    turns: Arc<Mutex<HashMap<RowKey, Arc<AsyncMutex<()>>>>>,
}

impl KeyQueue {
    /// Waits for the key's turn, first come, first served.
    pub(super) async fn turn(&self, key: &RowKey) -> Turn {
        let lock = self.turns.lock().entry(key.clone()).or_default().clone();
        // Built first, so that a caller who leaves while waiting still tidies up.
        let mut turn = Turn {
            key: key.clone(),
            guard: None,
            turns: self.turns.clone(),
        };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.guard = None;
        let mut turns = self.turns.lock();
        // One reference is the table's own: nobody else holds or awaits it.
        if turns
            .get(&self.key)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            turns.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfort_wire::id::{BucketId, ObjectKey};

    #[tokio::test]
    async fn a_turn_excludes_the_next_and_leaves_nothing_behind() {
        let queue = KeyQueue::default();
        let key = RowKey::object(
            BucketId::SYSTEM,
            ObjectKey::parse("k").expect("a legal key"),
        );
        let first = queue.turn(&key).await;
        let second = queue.turn(&key);
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        let second = second.await;
        drop(second);
        assert!(queue.turns.lock().is_empty());
    }
}
