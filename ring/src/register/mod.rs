//! One CASPaxos register a key (Rystsov, 2018), as state machines: DESIGN section 4.
//!
//! - [`acceptor`]: what a replica promises, accepts and refuses;
//! - [`horizon`]: promises that survive a restart without an fsync each;
//! - [`proposer`]: the rounds of one operation over all its attempts;
//! - [`reader`]: when a read may be answered;
//! - [`operations`]: which operations a value has seen;
//! - [`collect`]: when a tombstone may be dropped;
//! - [`bound`]: when the chunks of an operation that never happened may go.

pub mod acceptor;
pub mod bound;
pub mod collect;
pub mod horizon;
pub mod operations;
pub mod proposer;
pub mod reader;
