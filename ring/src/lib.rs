//! Who holds what, who is alive, what is enough: layout, placement, quorum verdicts and the register, as pure
//! state machines. No clock, no IO, no randomness, no hash order: all of it is handed in.
#![no_std]
extern crate alloc;

pub mod assign;
pub mod ballot;
pub mod change;
pub mod control;
pub mod hlc;
pub mod id;
pub mod layout;
pub mod liveness;
pub mod merkle;
pub mod placement;
pub mod plan;
pub mod quorum;
pub mod register;
pub mod topology;
