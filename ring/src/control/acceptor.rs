//! What one node promises, accepts and refuses for the control register.

use super::place;
use crate::ballot::Ballot;
use crate::hlc::Timestamp;
use crate::id::Era;
use crate::layout::Layout;
use alloc::boxed::Box;
use serde::{Deserialize, Serialize};

/// An acceptor's state: small, and durable before anything that it says.
///
/// Invariant: `accepted` is at most `promised`, and zero exactly where there is no `value`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Acceptor {
    /// The highest ballot promised.
    promised: Ballot,
    /// The highest ballot accepted.
    accepted: Ballot,
    /// What was accepted at it.
    value: Option<Layout>,
}

/// A promise: nothing below the asked ballot will be accepted from here on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Promise {
    /// The ballot accepted last; zero: none.
    pub accepted: Ballot,
    /// What was accepted at it, where it is newer than what the asker knows to be chosen.
    pub newer: Option<Layout>,
}

/// A refusal, and what to move past.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The highest ballot promised here.
    pub past: Ballot,
    /// A chosen layout, where one newer than the asker's is known here.
    pub newer: Option<Box<Layout>>,
    /// Whether the ballot is further ahead of this node's clock than clocks may differ.
    pub is_ahead: bool,
}

impl Acceptor {
    /// The layout accepted last.
    #[must_use]
    pub fn value(&self) -> Option<&Layout> {
        self.value.as_ref()
    }

    /// Whether something was accepted that is newer than `chosen`: it may be chosen, and nobody has said so.
    #[must_use]
    pub fn is_ahead_of(&self, chosen: Option<&Layout>) -> bool {
        let accepted = self.value.as_ref().map(place);
        accepted.is_some() && accepted > chosen.map(place)
    }

    /// Answers a Prepare of an asker that knows `known` to be chosen; `chosen` is what this node knows to be. A changed
    /// state must be durable before the promise leaves.
    ///
    /// The same Prepare again gets its promise again: whoever holds a ballot is one proposer.
    ///
    /// # Errors
    /// The refusal to send back.
    pub fn prepare(
        &mut self,
        ballot: Ballot,
        known: (Era, u64),
        chosen: Option<&Layout>,
    ) -> Result<Promise, Refusal> {
        let newer = chosen.filter(|chosen| place(chosen) > known);
        if newer.is_some() || ballot < self.promised || ballot.is_zero() {
            return Err(self.refusal(newer));
        }
        self.promised = ballot;
        let value = self.value.as_ref();
        Ok(Promise {
            accepted: self.accepted,
            newer: value.filter(|value| place(value) > known).cloned(),
        })
    }

    /// Takes an Accept; `chosen` is what this node knows to be chosen. A changed state must be durable before the answer
    /// leaves.
    ///
    /// # Errors
    /// The refusal to send back. A chosen layout of the same version that is another one refuses too.
    pub fn accept(
        &mut self,
        ballot: Ballot,
        layout: &Layout,
        chosen: Option<&Layout>,
    ) -> Result<(), Refusal> {
        let newer = chosen.filter(|chosen| place(chosen) >= place(layout) && *chosen != layout);
        if newer.is_some() || ballot < self.promised || ballot.is_zero() {
            return Err(self.refusal(newer));
        }
        self.promised = ballot;
        self.accepted = ballot;
        self.value = Some(layout.clone());
        Ok(())
    }

    /// Refuses a ballot that is further ahead of this node's clock than clocks may differ: taken, it would push every
    /// proposer's clock as far. Asked before [`Self::prepare`] and [`Self::accept`].
    ///
    /// # Errors
    /// The refusal to send back.
    pub fn check_clock(
        &self,
        ballot: Ballot,
        now_ms: u64,
        max_skew_ms: u64,
    ) -> Result<(), Refusal> {
        if ballot.time > Timestamp::from_ms(now_ms).plus_ms(max_skew_ms) {
            return Err(Refusal {
                is_ahead: true,
                ..self.refusal(None)
            });
        }
        Ok(())
    }

    fn refusal(&self, newer: Option<&Layout>) -> Refusal {
        Refusal {
            past: self.promised,
            newer: newer.cloned().map(Box::new),
            is_ahead: false,
        }
    }
}
