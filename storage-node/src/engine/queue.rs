//! What waits for the log: mutations in the order of their submission, and copies, which compaction makes.

use super::segment::location::Location;
use super::segment::record_format::Entry;
use super::types::EngineError;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::oneshot;

/// A record on its way: its payload comes in two pieces (a row's state and body).
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) entry: Entry,
    pub(crate) first: Bytes,
    pub(crate) second: Bytes,
    pub(crate) origin: Origin,
    /// Absent where nobody waits for this one item.
    pub(crate) done: Option<oneshot::Sender<Result<(), EngineError>>>,
}

/// Where a record comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// New: it gets the next sequence.
    Submitted,
    /// Compaction copies the record at this place on, if it still counts.
    Copied { sequence: u64, from: Location },
    /// Recovery appends it anew.
    Recovered { sequence: u64 },
}

impl Item {
    pub(crate) fn payload_len(&self) -> u64 {
        (self.first.len() + self.second.len()) as u64
    }

    pub(crate) fn finish(self, result: Result<(), EngineError>) {
        if let Some(done) = self.done {
            // Who no longer waits does not care.
            drop(done.send(result));
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    submitted: VecDeque<Item>,
    copies: VecDeque<Item>,
    bytes: u64,
    is_stopping: bool,
}

/// What the writer finds when it wakes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wake {
    Work,
    Quiet,
    Stop,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

impl Queue {
    pub(crate) fn push(&self, item: Item) {
        let mut waiting = self.waiting.lock();
        waiting.bytes += item.payload_len();
        match item.origin {
            Origin::Copied { .. } => waiting.copies.push_back(item),
            Origin::Submitted | Origin::Recovered { .. } => waiting.submitted.push_back(item),
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// The next item if `fits` says so. All copies come first: they are judged against what is applied, so nothing that
    /// could overtake them may stand before them in their commit.
    pub(crate) fn pop_if(&self, fits: impl FnOnce(&Item) -> bool) -> Option<Item> {
        let mut waiting = self.waiting.lock();
        let from_copies = !waiting.copies.is_empty();
        let line = if from_copies {
            &mut waiting.copies
        } else {
            &mut waiting.submitted
        };
        if !fits(line.front()?) {
            return None;
        }
        let item = line.pop_front()?;
        waiting.bytes = waiting.bytes.saturating_sub(item.payload_len());
        Some(item)
    }

    /// Waits for work, at most `quiet_after` if given.
    pub(crate) fn wait(&self, quiet_after: Option<Duration>) -> Wake {
        let mut waiting = self.waiting.lock();
        loop {
            if !waiting.submitted.is_empty() || !waiting.copies.is_empty() {
                return Wake::Work;
            }
            if waiting.is_stopping {
                return Wake::Stop;
            }
            match quiet_after {
                None => self.wake.wait(&mut waiting),
                Some(after) => {
                    if self.wake.wait_for(&mut waiting, after).timed_out() {
                        let is_idle = waiting.submitted.is_empty()
                            && waiting.copies.is_empty()
                            && !waiting.is_stopping;
                        if is_idle {
                            return Wake::Quiet;
                        }
                    }
                }
            }
        }
    }

    pub(crate) fn stop(&self) {
        self.waiting.lock().is_stopping = true;
        self.wake.notify_all();
    }

    /// Items and bytes waiting.
    pub(crate) fn size(&self) -> (u64, u64) {
        let waiting = self.waiting.lock();
        (
            (waiting.submitted.len() + waiting.copies.len()) as u64,
            waiting.bytes,
        )
    }
}
