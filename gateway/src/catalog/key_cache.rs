//! Access keys kept in mind (DESIGN 4.14).
//!
//! They hold while the register that is changed after each change of a key stands as it stood, and no longer than a
//! second beyond the start of the last good look at it. Time is what the steady clock or the wall clock counted,
//! whichever is more: a suspended machine must not wake up with old rights. Absent keys are not kept.

use super::access_keys::AccessKey;
use parking_lot::Mutex;
use ringfort_ring::ballot::Ballot;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a good look holds.
pub(super) const HOLDS_FOR: Duration = Duration::from_secs(1);

/// Beyond so many keys the cache starts over.
const KEYS_MAX: usize = 50_000;

/// A moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) steady: Instant,
    pub(super) wall_ms: u64,
}

impl Moment {
    fn elapsed_since(self, earlier: Self) -> Duration {
        let steady = self.steady.saturating_duration_since(earlier.steady);
        let wall = Duration::from_millis(self.wall_ms.saturating_sub(earlier.wall_ms));
        steady.max(wall)
    }
}

/// Which state of the cache a key was read under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn(u64);

#[derive(Default)]
pub(super) struct KeyCache {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    keys: HashMap<String, Arc<AccessKey>>,
    /// When the last good look began, and what it saw.
    looked: Option<(Moment, Option<Ballot>)>,
    turn: u64,
}

impl KeyCache {
    /// The key, where it is kept and the last good look still holds.
    pub(super) fn get(&self, id: &str, now: Moment) -> Option<Arc<AccessKey>> {
        let inner = self.inner.lock();
        let (looked, _) = inner.looked?;
        if now.elapsed_since(looked) >= HOLDS_FOR {
            return None;
        }
        inner.keys.get(id).cloned()
    }

    /// A good look that began at `began` saw the epoch's register in this state.
    pub(super) fn looked(&self, began: Moment, epoch: Option<Ballot>) {
        let mut inner = self.inner.lock();
        if inner.looked.is_none_or(|(_, seen)| seen != epoch) {
            inner.start_over();
        }
        inner.looked = Some((began, epoch));
    }

    /// To be taken before a key is read that is to be kept.
    pub(super) fn turn(&self) -> Turn {
        Turn(self.inner.lock().turn)
    }

    /// Keeps a key that was read after `turn` was taken. Not if the epoch was seen to change meanwhile: the key may
    /// have been read before that change.
    pub(super) fn keep(&self, turn: Turn, key: &Arc<AccessKey>) {
        let mut inner = self.inner.lock();
        if Turn(inner.turn) != turn {
            return;
        }
        if inner.keys.len() >= KEYS_MAX {
            inner.keys.clear();
        }
        inner.keys.insert(key.id.clone(), Arc::clone(key));
    }

    /// Forgets everything: this gateway has changed a key itself.
    pub(super) fn start_over(&self) {
        self.inner.lock().start_over();
    }
}

impl Inner {
    fn start_over(&mut self) {
        self.keys.clear();
        self.turn += 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use crate::catalog::Role;
    use ringfort_ring::hlc::Timestamp;
    use ringfort_ring::id::Incarnation;

    fn key() -> Arc<AccessKey> {
        Arc::new(AccessKey {
            id: "AK".to_owned(),
            secret: "s".to_owned(),
            name: String::new(),
            owner: "a".to_owned(),
            role: Role::Admin,
            buckets: None,
            created_ms: 0,
        })
    }

    fn epoch(n: u64) -> Option<Ballot> {
        Some(Ballot {
            time: Timestamp(n),
            incarnation: Incarnation([0; 16]),
        })
    }

    fn moment(start: Instant, steady_ms: u64, wall_ms: u64) -> Moment {
        Moment {
            steady: start + Duration::from_millis(steady_ms),
            wall_ms,
        }
    }

    fn filled(start: Instant) -> KeyCache {
        let cache = KeyCache::default();
        cache.looked(moment(start, 0, 0), epoch(1));
        cache.keep(cache.turn(), &key());
        cache
    }

    #[test]
    fn a_key_holds_for_a_second_after_the_last_look_began() {
        let start = Instant::now();
        let cache = filled(start);
        assert!(cache.get("AK", moment(start, 999, 999)).is_some());
        assert!(cache.get("AK", moment(start, 1000, 0)).is_none());
        cache.looked(moment(start, 900, 900), epoch(1));
        assert!(cache.get("AK", moment(start, 1500, 1500)).is_some());
    }

    #[test]
    fn a_suspension_that_only_the_wall_clock_counts_ends_it() {
        let start = Instant::now();
        let cache = filled(start);
        assert!(cache.get("AK", moment(start, 10, 60_000)).is_none());
    }

    #[test]
    fn a_changed_epoch_forgets_all_keys() {
        let start = Instant::now();
        let cache = filled(start);
        cache.looked(moment(start, 10, 10), epoch(2));
        assert!(cache.get("AK", moment(start, 20, 20)).is_none());
    }

    #[test]
    fn a_key_read_before_the_epoch_was_seen_to_change_is_not_kept() {
        let start = Instant::now();
        let cache = filled(start);
        let turn = cache.turn();
        cache.looked(moment(start, 10, 10), epoch(2));
        cache.keep(turn, &key());
        assert!(cache.get("AK", moment(start, 20, 20)).is_none());
        cache.keep(cache.turn(), &key());
        assert!(cache.get("AK", moment(start, 20, 20)).is_some());
    }

    #[test]
    fn nothing_holds_before_the_first_look() {
        let cache = KeyCache::default();
        cache.keep(cache.turn(), &key());
        assert!(cache.get("AK", moment(Instant::now(), 0, 0)).is_none());
    }
}
