//! Slow disks: those whose syncs take long for long. They are shown and routed around, and nothing else.

use super::LivenessSettings;

/// What is known of one disk's syncs.
#[derive(Clone, Debug, Default)]
pub(super) struct SlowDisk {
    is_slow: bool,
    was_slow: bool,
    /// Since when syncs are what the disk is not said to be: slow, or quick.
    differs_since_ms: Option<u64>,
    last_ms: u64,
}

impl SlowDisk {
    pub(super) const fn is_slow(&self) -> bool {
        self.is_slow
    }

    pub(super) fn take(&mut self, now_ms: u64, median_ms: u64, settings: &LivenessSettings) {
        let has_gap = now_ms.saturating_sub(self.last_ms) > settings.slow_for_ms;
        self.last_ms = now_ms;
        if (median_ms > settings.slow_over_ms) == self.is_slow {
            self.differs_since_ms = None;
            return;
        }
        // What was not watched does not count.
        let since_ms = self.differs_since_ms.filter(|_| !has_gap).unwrap_or(now_ms);
        self.differs_since_ms = Some(since_ms);
        if now_ms.saturating_sub(since_ms) >= settings.slow_for_ms {
            self.is_slow = !self.is_slow;
            self.differs_since_ms = None;
        }
    }

    /// Whether it has become slow, or quick, since this was last asked. A disk that syncs no more is not slow.
    pub(super) fn change(&mut self, now_ms: u64, settings: &LivenessSettings) -> Option<bool> {
        let quiet_ms = now_ms.saturating_sub(self.last_ms);
        if quiet_ms > settings.slow_for_ms.saturating_mul(10) {
            self.is_slow = false;
            self.differs_since_ms = None;
        }
        let is_changed = self.is_slow != self.was_slow;
        self.was_slow = self.is_slow;
        is_changed.then_some(self.is_slow)
    }
}
