//! One CASPaxos register a key (Rystsov, 2018), as state machines: DESIGN section 4.
//!
//! - [`acceptor`]: what a replica promises, accepts and refuses;
//! - [`horizon`]: promises that survive a restart without an fsync each;
//! - [`proposer`]: the rounds of one operation over all its attempts;
//! - [`reader`]: when a read may be answered;
//! - [`operations`]: which operations a value has seen.

pub mod acceptor;
pub mod horizon;
pub mod operations;
pub mod proposer;
pub mod reader;
