//! Time and randomness, handed in: what a simulation must control, nobody else may touch.

use parking_lot::Mutex;
use ringfort_ring::hlc::{Clock, Timestamp};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What time it is.
pub trait WallClock: Send + Sync + 'static {
    /// Milliseconds since 1970, by the system's clock.
    fn now_ms(&self) -> u64;
}

/// Where random bits come from.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the buffer with bits that nobody can guess.
    fn fill(&self, buffer: &mut [u8]);
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsClock;

impl WallClock for OsClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the system's clock"
    )]
    fn now_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| u64::try_from(since.as_millis()).ok())
            .unwrap_or(0)
    }
}

/// The operating system's random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the system's randomness"
    )]
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the system's random source answers");
    }
}

/// Time, randomness and the process's hybrid clock, as one cheap handle.
#[derive(Clone)]
pub struct Environment {
    wall: Arc<dyn WallClock>,
    entropy: Arc<dyn Entropy>,
    hybrid: Arc<Mutex<Clock>>,
}

impl Environment {
    /// An environment of these parts.
    #[must_use]
    pub fn new(wall: Arc<dyn WallClock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            wall,
            entropy,
            hybrid: Arc::default(),
        }
    }

    /// The operating system's.
    #[must_use]
    pub fn os() -> Self {
        Self::new(Arc::new(OsClock), Arc::new(OsEntropy))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.wall.now_ms()
    }

    /// 16 random bytes.
    #[must_use]
    pub fn random_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        self.entropy.fill(&mut id);
        id
    }

    /// Fills the buffer with random bytes.
    pub fn fill(&self, buffer: &mut [u8]) {
        self.entropy.fill(buffer);
    }

    /// A random number below `bound` (which is at least 1), for jitter.
    #[must_use]
    pub fn random_below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.entropy.fill(&mut bytes);
        u64::from_be_bytes(bytes) % bound.max(1)
    }

    /// A fresh stamp of the hybrid clock.
    #[must_use]
    pub fn tick(&self) -> Timestamp {
        self.hybrid.lock().tick(self.wall.now_ms())
    }

    /// Moves the hybrid clock past a stamp that a peer showed.
    pub fn observe(&self, seen: Timestamp) {
        self.hybrid.lock().observe(seen);
    }
}
