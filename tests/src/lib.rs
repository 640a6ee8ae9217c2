//! Tests of the cluster as a whole, and what they stand on.
//!
//! - [`simulation`]: the register's state machines under one seed (ring 1 of the proof);
//! - [`control`]: the control register's machines, likewise;
//! - [`checkers`]: what a history must satisfy, each named for the promise that it guards;
//! - [`random`]: the one source of chance.

pub mod checkers;
pub mod control;
pub mod random;
pub mod simulation;
