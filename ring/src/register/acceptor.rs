//! The acceptor: what one replica promises, accepts and refuses for one register.
//!
//! Pure decisions: the caller hands in what it stores for the register ([`Slot`]) and for the partition replica
//! ([`Guard`]), and carries out what is allowed, in this order: raise the promise in memory, append the record,
//! fsync, only then acknowledge. Every refusal carries all that the proposer must move past.

use crate::ballot::Ballot;
use crate::hlc::Timestamp;
use crate::id::{Epoch, Generation};
use serde::{Deserialize, Serialize};

/// What a replica holds for one register.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Slot {
    /// The highest ballot promised; in memory only, at least `accepted`.
    pub promised: Ballot,
    /// The highest ballot accepted, durable or on its way to disk.
    pub accepted: Ballot,
    /// The highest ballot accepted and fsynced.
    pub durable: Ballot,
}

/// What a replica holds for the register's partition and bucket, and what time it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guard {
    /// The epoch of the partition's row that this replica durably holds.
    pub epoch: Epoch,
    /// The generation of the bucket that this replica durably holds.
    pub generation: Generation,
    /// Refuses everything at or below it; only rises.
    pub floor: Ballot,
    /// Refuses new values of operations born before it; only rises.
    pub bound: Timestamp,
    /// Promises made before the last restart reach up to here: everything at or below is refused.
    pub horizon: Timestamp,
    /// The replica's own wall clock, in milliseconds since 1970.
    pub now_ms: u64,
    /// How far ahead of the wall clock a ballot may be, in milliseconds.
    pub max_skew_ms: u64,
}

/// What every request to a register names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// The epoch of the partition's row, as the proposer knows it.
    pub epoch: Epoch,
    /// The generation of the bucket, as the proposer knows it.
    pub generation: Generation,
    /// The attempt's ballot.
    pub ballot: Ballot,
    /// For a proposal of a new value: the birth of its operation. `None` for identity rounds and repair.
    pub born: Option<Timestamp>,
}

/// A refusal: the reason, and all that the proposer must move past.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The rule that refused.
    pub reason: Reason,
    /// A ballot above this one passes promise and horizon.
    pub past: Ballot,
    /// The replica's floor.
    pub floor: Ballot,
    /// The replica's birth bound.
    pub bound: Timestamp,
    /// The replica's epoch of the partition.
    pub epoch: Epoch,
    /// The replica's generation of the bucket.
    pub generation: Generation,
    /// The replica's wall clock, milliseconds since 1970.
    pub clock_ms: u64,
}

/// Which rule refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reason {
    /// Another ballot was promised or accepted.
    Promised,
    /// Promises from before a restart may reach this far.
    Horizon,
    /// At or below the floor.
    Floor,
    /// The operation was born before the bound.
    Bound,
    /// The epoch is not the replica's.
    Epoch,
    /// The bucket's generation is older than the replica's.
    Generation,
    /// The ballot is too far ahead of the replica's clock.
    ClockAhead,
}

/// What to do with an Accept that is not refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accepting {
    /// Append, fsync, acknowledge.
    Append,
    /// The same ballot is durable already: acknowledge again.
    AlreadyDurable,
    /// The same ballot is on its way to disk: acknowledge when it is there.
    AlreadyQueued,
}

fn refusal(slot: &Slot, guard: &Guard, reason: Reason) -> Refusal {
    Refusal {
        reason,
        past: slot
            .promised
            .max(slot.accepted)
            .max(Ballot::last_at(guard.horizon)),
        floor: guard.floor,
        bound: guard.bound,
        epoch: guard.epoch,
        generation: guard.generation,
        clock_ms: guard.now_ms,
    }
}

/// The rules that hold for every request, reads too: epoch and generation.
///
/// A claim with a *higher* generation must be adopted durably by the caller before it asks.
///
/// # Errors
/// The refusal to send back.
pub fn admit(
    slot: &Slot,
    guard: &Guard,
    epoch: Epoch,
    generation: Generation,
) -> Result<(), Refusal> {
    if epoch != guard.epoch {
        return Err(refusal(slot, guard, Reason::Epoch));
    }
    if generation != guard.generation {
        return Err(refusal(slot, guard, Reason::Generation));
    }
    Ok(())
}

fn admit_ballot(slot: &Slot, guard: &Guard, claim: &Claim) -> Result<(), Refusal> {
    admit(slot, guard, claim.epoch, claim.generation)?;
    if claim.ballot.time > Timestamp::from_ms(guard.now_ms).plus_ms(guard.max_skew_ms) {
        return Err(refusal(slot, guard, Reason::ClockAhead));
    }
    if claim.ballot <= guard.floor {
        return Err(refusal(slot, guard, Reason::Floor));
    }
    if claim.born.is_some_and(|born| born < guard.bound) {
        return Err(refusal(slot, guard, Reason::Bound));
    }
    if claim.ballot.time <= guard.horizon {
        return Err(refusal(slot, guard, Reason::Horizon));
    }
    Ok(())
}

/// Whether a Prepare may be promised. If so, raise `slot.promised` to the claim's ballot.
///
/// # Errors
/// The refusal to send back.
pub fn prepare(slot: &Slot, guard: &Guard, claim: &Claim) -> Result<(), Refusal> {
    admit_ballot(slot, guard, claim)?;
    if claim.ballot <= slot.promised || claim.ballot <= slot.accepted {
        return Err(refusal(slot, guard, Reason::Promised));
    }
    Ok(())
}

/// Whether an Accept (or the replay of one) may be taken. If [`Accepting::Append`], raise `slot.promised` and
/// `slot.accepted` to the claim's ballot at once, and `slot.durable` after the fsync.
///
/// # Errors
/// The refusal to send back.
pub fn accept(slot: &Slot, guard: &Guard, claim: &Claim) -> Result<Accepting, Refusal> {
    admit(slot, guard, claim.epoch, claim.generation)?;
    if !claim.ballot.is_zero() && claim.ballot == slot.durable {
        return Ok(Accepting::AlreadyDurable);
    }
    if !claim.ballot.is_zero() && claim.ballot == slot.accepted {
        return Ok(Accepting::AlreadyQueued);
    }
    admit_ballot(slot, guard, claim)?;
    if claim.ballot < slot.promised || claim.ballot <= slot.accepted {
        return Err(refusal(slot, guard, Reason::Promised));
    }
    Ok(Accepting::Append)
}

#[cfg(test)]
#[path = "acceptor_tests.rs"]
mod tests;
