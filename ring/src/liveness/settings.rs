//! What the state machine goes by.

/// The settings of [`super::Liveness`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LivenessSettings {
    /// Silence after which a node is suspect, in milliseconds.
    pub suspect_after_ms: u64,
    /// Silence after which a node is down, in milliseconds.
    pub down_after_ms: u64,
    /// How long a node is down before it is out, in milliseconds.
    pub out_after_ms: u64,
    /// A report that is older says nothing any more, in milliseconds.
    pub report_ttl_ms: u64,
    /// How long a node is heard again without a break before it counts as back, in milliseconds. Twice as long each
    /// time that it goes down again.
    pub steady_ms: u64,
    /// The most that the former may grow to, in milliseconds.
    pub steady_max_ms: u64,
    /// The time without going down that makes up for having gone down once, in milliseconds.
    pub flap_forget_ms: u64,
    /// At least so many of a hundred nodes stay in.
    pub in_min_percent: u64,
    /// A sync that takes longer is slow, in milliseconds.
    pub slow_over_ms: u64,
    /// How long syncs are slow before the disk is, and quick before it is not any more, in milliseconds.
    pub slow_for_ms: u64,
}

impl Default for LivenessSettings {
    fn default() -> Self {
        Self {
            suspect_after_ms: 2_000,
            down_after_ms: 20_000,
            out_after_ms: 600_000,
            report_ttl_ms: 10_000,
            steady_ms: 30_000,
            steady_max_ms: 3_600_000,
            flap_forget_ms: 3_600_000,
            in_min_percent: 75,
            slow_over_ms: 100,
            slow_for_ms: 30_000,
        }
    }
}

impl LivenessSettings {
    /// How long a node that went down so often has to be heard before it counts as back.
    pub(super) fn steady_for(&self, flaps: u32) -> u64 {
        let doublings = flaps.saturating_sub(1).min(32);
        let steady_ms = self.steady_ms.saturating_mul(1 << doublings);
        steady_ms.min(self.steady_max_ms.max(self.steady_ms))
    }
}
