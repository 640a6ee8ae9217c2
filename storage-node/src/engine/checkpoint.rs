//! Checkpoints: what came since the last one moves from memory to the index file, in the background.
//!
//! The table is frozen in a moment; reads go through both tables and the file. Nothing waits for the slow part, except
//! a writer that has run four tables ahead.

use super::index::digest::Digest;
use super::index::facts::{CheckpointFacts, FactEntry, SegmentEntry};
use super::index::table::Table;
use super::index::{Changes, IndexError};
use super::segment::location::Position;
use super::segment::record_format::FactKey;
use super::store::Store;
use super::types::EngineError;
use parking_lot::{Condvar, Mutex};
use ringfort_ring::id::PartitionId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// How often a full disk is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How many due tables the writer may be ahead.
const OVERRUN: usize = 4;

/// All of one moment that a checkpoint writes.
struct Frozen {
    table: Arc<Table>,
    facts: Vec<(FactKey, FactEntry)>,
    digests: Vec<(PartitionId, Digest)>,
    segments: BTreeMap<u64, SegmentEntry>,
    checkpoint: CheckpointFacts,
}

type Waiter = oneshot::Sender<Result<(), EngineError>>;

#[derive(Debug, Default)]
struct Orders {
    is_due: bool,
    is_stopping: bool,
    is_stuck: bool,
    waiters: Vec<Waiter>,
}

/// Takes orders for checkpoints, and carries them out one at a time.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    store: Arc<Store>,
    orders: Mutex<Orders>,
    wake: Condvar,
    finished: Condvar,
    running: Mutex<()>,
    bytes_since: AtomicU64,
    /// How far the index file reaches.
    reached: Mutex<Position>,
}

impl Checkpointer {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        let reached = store.state.read().applied;
        Self {
            reached: Mutex::new(reached),
            store,
            orders: Mutex::default(),
            wake: Condvar::new(),
            finished: Condvar::new(),
            running: Mutex::new(()),
            bytes_since: AtomicU64::new(0),
        }
    }

    /// Orders a checkpoint where enough has come together.
    pub(crate) fn note_appended(&self, bytes: u64) {
        let since = self.bytes_since.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let options = &self.store.options;
        let is_due = since >= options.checkpoint_bytes || {
            let state = self.store.state.read();
            state.active.len() >= options.checkpoint_rows
                || state.active.bytes() >= options.checkpoint_table_bytes
        };
        if is_due {
            self.orders.lock().is_due = true;
            self.wake.notify_one();
        }
    }

    /// Whether a checkpoint was ordered and not begun; for engines that are driven by their caller.
    pub(crate) fn is_due(&self) -> bool {
        self.orders.lock().is_due
    }

    pub(crate) fn order(&self, waiter: Waiter) {
        self.orders.lock().waiters.push(waiter);
        self.wake.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.orders.lock().is_stopping = true;
        self.wake.notify_all();
        self.finished.notify_all();
    }

    /// Whether so much waits for its checkpoint that memory is at stake.
    pub(crate) fn is_overrun(&self) -> bool {
        let options = &self.store.options;
        let state = self.store.state.read();
        state.active.len() >= options.checkpoint_rows.saturating_mul(OVERRUN)
            || state.active.bytes() >= options.checkpoint_table_bytes.saturating_mul(OVERRUN)
    }

    /// Holds the writer until a checkpoint has made room; returns at once where none can.
    pub(crate) fn wait_or_give_up(&self) {
        if self.store.options.is_driven_by_caller {
            // Whoever drives learns the outcome from the next thing that fails.
            drop(self.run_one());
            return;
        }
        let mut orders = self.orders.lock();
        while self.is_overrun() && !orders.is_stuck && !orders.is_stopping {
            orders.is_due = true;
            self.wake.notify_one();
            self.finished.wait_for(&mut orders, RETRY_AFTER);
        }
    }

    /// Every record before it is in the index file.
    pub(crate) fn reached(&self) -> Position {
        *self.reached.lock()
    }

    /// The checkpoint thread.
    pub(crate) fn run(&self) {
        loop {
            let waiters = {
                let mut orders = self.orders.lock();
                while !orders.is_due && orders.waiters.is_empty() && !orders.is_stopping {
                    self.wake.wait(&mut orders);
                }
                if orders.is_stopping {
                    return;
                }
                if orders.is_stuck && orders.waiters.is_empty() {
                    self.wake.wait_for(&mut orders, RETRY_AFTER);
                }
                orders.is_due = false;
                std::mem::take(&mut orders.waiters)
            };
            let result = self.run_one();
            let mut orders = self.orders.lock();
            orders.is_stuck = result.is_err();
            // A disk without room may get some; a doubt or a closed gate stays until the next start.
            orders.is_due |= result == Err(EngineError::Full);
            drop(orders);
            self.finished.notify_all();
            for waiter in waiters {
                drop(waiter.send(result.clone()));
            }
        }
    }

    /// One checkpoint, on this thread.
    pub(crate) fn run_one(&self) -> Result<(), EngineError> {
        self.run_one_with(false)
    }

    /// Runs something while no checkpoint writes the index file. A checkpoint that is due meanwhile waits.
    pub(crate) fn while_none_runs<T>(&self, run: impl FnOnce() -> T) -> T {
        let _running = self.running.lock();
        run()
    }

    pub(crate) fn run_one_with(&self, is_rebuilding: bool) -> Result<(), EngineError> {
        let _running = self.running.lock();
        let store = &self.store;
        store.gate.check()?;
        self.orders.lock().is_due = false;
        let frozen = self.freeze(is_rebuilding);
        let written = store.index.write(&Changes {
            table: &frozen.table,
            facts: frozen.facts,
            digests: frozen.digests,
            segments: frozen.segments,
            checkpoint: frozen.checkpoint,
        });
        match written {
            Ok(()) => {
                store.state.write().frozen = None;
                *self.reached.lock() = frozen.checkpoint.position;
            }
            Err(IndexError::Full) => return Err(EngineError::Full),
            Err(error) => return Err(store.doubt(error)),
        }
        store.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Freezes the table with everything that must be of the same moment.
    fn freeze(&self, is_rebuilding: bool) -> Frozen {
        let _applying = self.store.apply_gate.lock();
        let mut state = self.store.state.write();
        if let Some(frozen) = state.frozen.take() {
            // The older table never reached the file. The newer one on top of it is one table again, so that position
            // and counts, which are of now, fit.
            let newer = std::mem::take(&mut state.active);
            let mut whole = Arc::try_unwrap(frozen).unwrap_or_else(|shared| Table::clone(&shared));
            whole.absorb(newer);
            state.active = whole;
        }
        self.bytes_since.store(0, Ordering::Relaxed);
        let table = Arc::new(std::mem::take(&mut state.active));
        state.frozen = Some(Arc::clone(&table));
        let facts = table
            .facts
            .iter()
            .filter_map(|key| state.facts.get(key).map(|fact| (*key, *fact)))
            .collect();
        let digests = table
            .digests
            .iter()
            .map(|partition| (*partition, state.digests.of(*partition)))
            .collect();
        let segments = state
            .segments
            .iter()
            .map(|(number, segment)| {
                let entry = SegmentEntry {
                    end: segment.end,
                    live_bytes: segment.live_bytes,
                    first_sequence: segment.file.first_sequence,
                };
                (*number, entry)
            })
            .collect();
        Frozen {
            table,
            facts,
            digests,
            segments,
            checkpoint: CheckpointFacts {
                disk_id: self.store.disk_id,
                position: state.applied,
                next_sequence: state.next_sequence,
                counts: state.counts,
                is_rebuilding,
            },
        }
    }
}
