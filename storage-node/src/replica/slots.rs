//! What is not on disk of a register: promises, and Accepts on their way there.
//!
//! A promise may be forgotten only upwards: an entry that is dropped leaves its ballot in a mark that stands for
//! every register without an entry. So memory is bounded, and a forgotten promise costs a refusal at worst.

use crate::engine::EngineError;
use parking_lot::{Mutex, MutexGuard};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::register::acceptor::Slot;
use ringfort_wire::id::RowKey;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, watch};

const SHARDS: usize = 64;
/// Entries of a shard above which old promises are forgotten upwards.
const ENTRIES_MAX: usize = 512;

/// How an Accept on its way ended; `None`: still on its way.
pub(super) type Fate = Option<Result<(), EngineError>>;

pub(super) struct Slots {
    shards: Vec<Mutex<Shard>>,
}

#[derive(Default)]
pub(super) struct Shard {
    entries: HashMap<RowKey, Entry>,
    forgotten: Ballot,
}

struct Entry {
    promised: Ballot,
    promised_ms: u64,
    pending: Option<(Ballot, watch::Receiver<Fate>)>,
    /// Told when a pending Accept is decided, or one arrives.
    changed: Arc<Notify>,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Slots {
    pub(super) fn lock(&self, key: &RowKey) -> MutexGuard<'_, Shard> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let index = hasher.finish() % 64;
        self.shards[usize::try_from(index).unwrap_or(0)].lock()
    }
}

impl Shard {
    /// The register's slot; `durable` is what the engine holds.
    pub(super) fn slot(&self, key: &RowKey, durable: Ballot) -> Slot {
        let entry = self.entries.get(key);
        let accepted = entry
            .and_then(|entry| entry.pending.as_ref())
            .map_or(durable, |(ballot, _)| (*ballot).max(durable));
        let promised = entry.map_or(self.forgotten, |entry| entry.promised);
        Slot {
            promised: promised.max(accepted),
            accepted,
            durable,
        }
    }

    /// The Accept on its way to disk.
    pub(super) fn pending(&self, key: &RowKey) -> Option<watch::Receiver<Fate>> {
        let entry = self.entries.get(key)?;
        entry.pending.as_ref().map(|(_, fate)| fate.clone())
    }

    /// A promise younger than `hold_ms` whose Accept has not come: what to wait on, and how long it is young yet.
    pub(super) fn awaited(
        &self,
        key: &RowKey,
        durable: Ballot,
        now_ms: u64,
        hold_ms: u64,
    ) -> Option<(OwnedNotified, u64)> {
        let entry = self.entries.get(key)?;
        if entry.promised <= durable || entry.pending.is_some() {
            return None;
        }
        let left_ms = (entry.promised_ms + hold_ms).checked_sub(now_ms)?;
        (left_ms > 0 && left_ms <= hold_ms).then(|| {
            // Made under the lock: it hears of an Accept that arrives before it is first waited on.
            (entry.changed.clone().notified_owned(), left_ms)
        })
    }

    pub(super) fn promise(&mut self, key: &RowKey, ballot: Ballot, now_ms: u64) {
        self.raise(key, ballot, now_ms);
        self.forget();
    }

    /// Notes an Accept on its way; the promise rises with it, at once.
    pub(super) fn accepting(
        &mut self,
        key: &RowKey,
        ballot: Ballot,
        now_ms: u64,
        fate: watch::Receiver<Fate>,
    ) {
        let entry = self.raise(key, ballot, now_ms);
        entry.pending = Some((ballot, fate));
        entry.changed.notify_waiters();
        // Only now, when the entry says that it must stay: an Accept on its way that was forgotten would be hidden
        // from the next Prepare.
        self.forget();
    }

    fn raise(&mut self, key: &RowKey, ballot: Ballot, now_ms: u64) -> &mut Entry {
        let forgotten = self.forgotten;
        let entry = self.entries.entry(key.clone()).or_insert_with(|| Entry {
            promised: forgotten,
            promised_ms: now_ms,
            pending: None,
            changed: Arc::default(),
        });
        entry.promised = entry.promised.max(ballot);
        entry.promised_ms = now_ms;
        entry
    }

    /// An Accept is durable or has failed; `durable` is what the engine holds now.
    pub(super) fn decided(&mut self, key: &RowKey, ballot: Ballot, durable: Ballot) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.pending.as_ref().is_some_and(|(at, _)| *at == ballot) {
            entry.pending = None;
        }
        entry.changed.notify_waiters();
        // The row itself remembers a promise as high as its ballot.
        if entry.pending.is_none() && entry.promised <= durable.max(self.forgotten) {
            self.entries.remove(key);
        }
    }

    fn forget(&mut self) {
        if self.entries.len() <= ENTRIES_MAX {
            return;
        }
        let mut ages: Vec<u64> = self
            .entries
            .values()
            .map(|entry| entry.promised_ms)
            .collect();
        let middle = ages.len() / 2;
        let (_, median, _) = ages.select_nth_unstable(middle);
        let median = *median;
        let mut forgotten = self.forgotten;
        self.entries.retain(|_, entry| {
            let stays = entry.pending.is_some() || entry.promised_ms > median;
            if !stays {
                forgotten = forgotten.max(entry.promised);
            }
            stays
        });
        self.forgotten = forgotten;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use ringfort_ring::hlc::Timestamp;
    use ringfort_ring::id::Incarnation;
    use ringfort_wire::id::{BucketId, ObjectKey};

    fn key(n: u64) -> RowKey {
        RowKey::object(BucketId::SYSTEM, ObjectKey::parse(format!("k{n}")).unwrap())
    }

    fn ballot(ms: u64) -> Ballot {
        Ballot {
            time: Timestamp::from_ms(ms),
            incarnation: Incarnation([1; 16]),
        }
    }

    #[test]
    fn a_promise_is_forgotten_only_upwards() {
        let mut shard = Shard::default();
        for n in 0..10_000 {
            shard.promise(&key(n), ballot(n + 1), n);
        }
        assert!(shard.entries.len() <= ENTRIES_MAX + 1);
        for n in 0..10_000 {
            let slot = shard.slot(&key(n), Ballot::ZERO);
            assert!(slot.promised >= ballot(n + 1), "{n}");
        }
    }

    #[test]
    fn a_pending_accept_counts_as_accepted_but_not_as_durable() {
        let mut shard = Shard::default();
        let (_fate, seen) = watch::channel(None);
        shard.accepting(&key(1), ballot(5), 0, seen);
        let slot = shard.slot(&key(1), ballot(2));
        assert_eq!(slot.accepted, ballot(5));
        assert_eq!(slot.promised, ballot(5));
        assert_eq!(slot.durable, ballot(2));
        shard.decided(&key(1), ballot(5), ballot(5));
        assert!(shard.entries.is_empty());
    }

    #[test]
    fn an_accept_on_its_way_is_never_forgotten() {
        let mut shard = Shard::default();
        for n in 1..=512 {
            shard.promise(&key(n), ballot(1_000), 1_000);
        }
        // The wall clock has stepped back: this entry looks older than all others.
        let (_fate, seen) = watch::channel(None);
        shard.accepting(&key(0), ballot(1_001), 1, seen);
        assert!(shard.pending(&key(0)).is_some());
        assert_eq!(shard.slot(&key(0), Ballot::ZERO).accepted, ballot(1_001));
    }

    #[test]
    fn an_accept_that_arrives_before_the_first_look_is_heard() {
        let mut shard = Shard::default();
        shard.promise(&key(1), ballot(5), 0);
        let (changed, _) = shard.awaited(&key(1), Ballot::ZERO, 0, 20).unwrap();
        let (_fate, seen) = watch::channel(None);
        shard.accepting(&key(1), ballot(5), 0, seen);
        let mut changed = std::pin::pin!(changed);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(changed.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn a_failed_accept_leaves_its_promise() {
        let mut shard = Shard::default();
        let (_fate, seen) = watch::channel(None);
        shard.accepting(&key(1), ballot(5), 0, seen);
        shard.decided(&key(1), ballot(5), ballot(2));
        let slot = shard.slot(&key(1), ballot(2));
        assert_eq!((slot.promised, slot.accepted), (ballot(5), ballot(2)));
    }
}
