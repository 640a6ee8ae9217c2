//! The control register: one CASPaxos register whose value is the whole layout (DESIGN 3, decision 0010).
//!
//! Its acceptors are the *control set* that a layout names, and, while that set changes, the one before it too: whatever
//! is decided takes a majority of each of these sets by itself. [`Acceptor`] is what one node promises, accepts and
//! refuses; [`Proposer`] is one attempt at one ballot. Every promise and every accept is durable before it is answered:
//! layouts change rarely.
//!
//! *Chosen* is a layout that a majority of each of its own sets has accepted at one ballot. The rules, and the interleaving
//! that each closes:
//!
//! - A successor is proposed only from a *base* that is known to be chosen, and only where a majority of each of base's
//!   sets has promised and the highest ballot among these promises shows nothing newer. So of two proposers from one base
//!   the later one meets what the earlier one may have brought through.
//! - What is newer than base is settled first: accepted again as it is, at the own ballot, and only where a majority of
//!   each of *its* sets has promised this ballot too and still nothing with a higher ballot came up. Without the second
//!   half, a proposer that slept while the control set moved on would overwrite, with an old layout, what the new members
//!   have chosen since.
//! - An Accept counts on base's sets and on those of the layout itself. Two layouts that may follow the same one always
//!   share a set with it and with each other ([`check_successor`]), so each version meets the ones beside it.
//! - A node that knows of a chosen layout newer than the asker's says so instead of promising. It may be a member of no
//!   control set any more: this is the forward pointer that a proposer from long ago finds.
//! - A node that has lost what it promised and accepted must not answer as an acceptor; its driver sees to that.
//!
//! What no rule here uses is time: ballots only order.

mod acceptor;
mod proposer;
mod sets;

pub use acceptor::{Acceptor, Promise, Refusal};
pub use proposer::{Proposer, Step};
pub use sets::ControlSets;

use crate::id::{Epoch, Era};
use crate::layout::{Layout, LayoutError};

/// A layout's place in the order of layouts: the era first, then the version.
#[must_use]
pub fn place(layout: &Layout) -> (Era, u64) {
    (layout.era, layout.version)
}

/// Whether a layout may follow another by a proposal: the next version of the same cluster and era, with the same
/// partitions, whose control set is the same, begins to change, ends its change, or turns back.
///
/// # Errors
/// What is not so, in words.
pub fn check_successor(base: &Layout, next: &Layout) -> Result<(), LayoutError> {
    next.check()?;
    let fail = |what: &'static str| Err(LayoutError::from(what));
    if (next.cluster, next.era) != (base.cluster, base.era) {
        return fail("a layout is followed by one of its own cluster and era");
    }
    if base.version.checked_add(1) != Some(next.version) {
        return fail("a layout's version is one more than that of the one before");
    }
    if next.rows.len() != base.rows.len() {
        return fail("the number of partitions never changes");
    }
    let (was, was_before) = ControlSets::ids(base);
    let (is, is_before) = ControlSets::ids(next);
    let is_same = is == was && is_before == was_before;
    let begins = was_before.is_empty() && is_before == was;
    let ends = is == was && is_before.is_empty();
    let turns_back = !was_before.is_empty() && is == was_before && is_before == was;
    if !(is_same || begins || ends || turns_back) {
        return fail(
            "the control set changes in two steps: the new one beside the one before, then the new one alone",
        );
    }
    let epoch = if is == was {
        base.control_epoch
    } else {
        Epoch(next.version)
    };
    if next.control_epoch != epoch {
        return fail("the control set's epoch is the version that last changed the set");
    }
    Ok(())
}

#[cfg(test)]
#[path = "control/tests.rs"]
mod tests;
