//! The gate that closes a disk for writes: once, for ever, with a reason that everybody can read.

use super::types::EngineError;
use tokio::sync::watch;

/// Open until something happened after which a write could not be trusted.
#[derive(Debug)]
pub(crate) struct WriteGate {
    why: watch::Sender<Option<String>>,
}

impl WriteGate {
    pub(crate) fn new() -> Self {
        Self {
            why: watch::Sender::new(None),
        }
    }

    /// Closes; the first reason stays. Answers the error for whoever was writing.
    pub(crate) fn close(&self, why: &str) -> EngineError {
        let closed_now = self.why.send_if_modified(|slot| {
            let is_first = slot.is_none();
            if is_first {
                *slot = Some(why.to_owned());
            }
            is_first
        });
        if closed_now {
            tracing::error!(why, "the disk is closed for writes");
        }
        EngineError::WritesClosed {
            why: why.to_owned(),
        }
    }

    /// The reason, if it is closed.
    pub(crate) fn why(&self) -> Option<String> {
        self.why.borrow().clone()
    }

    pub(crate) fn check(&self) -> Result<(), EngineError> {
        match self.why() {
            None => Ok(()),
            Some(why) => Err(EngineError::WritesClosed { why }),
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<String>> {
        self.why.subscribe()
    }
}
