//! Keeps the promise horizon ahead of need (DESIGN 4.2): one fsync covers a second of promises.

use crate::engine::{Engine, EngineError};
use parking_lot::Mutex;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::register::horizon::Horizon;
use std::sync::Arc;
use tokio::sync::Mutex as AsyncMutex;

pub(super) struct HorizonKeeper {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    state: Mutex<Horizon>,
    /// One record at a time; whoever waits behind it mostly finds itself covered.
    recording: Arc<AsyncMutex<()>>,
}

impl Shared {
    async fn record(&self, now_ms: u64, wanted: Timestamp) -> Result<(), EngineError> {
        let next = self.state.lock().next(now_ms, wanted);
        self.engine.record_horizon(next).await?;
        self.state.lock().on_recorded(next);
        Ok(())
    }
}

impl HorizonKeeper {
    pub(super) fn new(engine: Engine, found: Timestamp) -> Self {
        Self {
            shared: Arc::new(Shared {
                engine,
                state: Mutex::new(Horizon::after_start(found)),
                recording: Arc::default(),
            }),
        }
    }

    pub(super) fn refused_up_to(&self) -> Timestamp {
        self.shared.state.lock().refused_up_to()
    }

    /// Nothing above it has been promised.
    pub(super) fn granted_up_to(&self) -> Timestamp {
        self.shared.state.lock().recorded()
    }

    pub(super) fn wait_ms(&self, now_ms: u64, max_skew_ms: u64) -> u64 {
        self.shared.state.lock().wait_ms(now_ms, max_skew_ms)
    }

    /// Whether a promise at `wanted` may be given now. Under load it also renews ahead of need, off the path.
    pub(super) fn covers(&self, wanted: Timestamp, now_ms: u64) -> bool {
        let state = *self.shared.state.lock();
        if !state.covers(wanted) {
            return false;
        }
        if state.wants_renewal(now_ms)
            && let Ok(guard) = self.shared.recording.clone().try_lock_owned()
        {
            let shared = self.shared.clone();
            tokio::spawn(async move {
                let _guard = guard;
                if let Err(error) = shared.record(now_ms, wanted).await {
                    tracing::warn!(%error, "the promise horizon was not renewed");
                }
            });
        }
        true
    }

    /// Records a horizon that covers `wanted`, a stamp that the clock rule has let pass.
    pub(super) async fn cover(&self, wanted: Timestamp, now_ms: u64) -> Result<(), EngineError> {
        let _recording = self.shared.recording.lock().await;
        if self.shared.state.lock().covers(wanted) {
            return Ok(());
        }
        self.shared.record(now_ms, wanted).await
    }
}
