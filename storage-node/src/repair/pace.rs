//! A bound on bytes a second, shared by whoever copies for one purpose.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes that may be spent at once after a pause, as time.
const BURST: Duration = Duration::from_millis(250);

/// A budget that refills with time.
#[derive(Debug)]
pub(crate) struct Spending {
    bytes_per_s: u64,
    /// When everything spent so far is paid for.
    paid_at: Mutex<Option<Instant>>,
}

impl Spending {
    /// A budget of so many bytes a second, at least one.
    pub(crate) fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s: bytes_per_s.max(1),
            paid_at: Mutex::new(None),
        }
    }

    /// Spends, and waits until it is paid for.
    pub(crate) async fn spend(&self, bytes: usize) {
        let until = self.charge(Instant::now(), bytes);
        tokio::time::sleep_until(until).await;
    }

    /// Until when the spender has to wait.
    fn charge(&self, now: Instant, bytes: usize) -> Instant {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let cost_us = bytes.saturating_mul(1_000_000) / self.bytes_per_s;
        let mut paid_at = self.paid_at.lock();
        let from = paid_at.map_or(now, |at| at.max(now));
        let until = from + Duration::from_micros(cost_us);
        *paid_at = Some(until);
        until.checked_sub(BURST).unwrap_or(now).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_is_waited_for_beyond_the_burst() {
        let now = Instant::now();
        let spending = Spending::new(1_000_000);
        assert_eq!(spending.charge(now, 250_000), now);
        assert_eq!(
            spending.charge(now, 500_000),
            now + Duration::from_millis(500)
        );
        let later = now + Duration::from_secs(60);
        assert_eq!(spending.charge(later, 100_000), later);
    }
}
