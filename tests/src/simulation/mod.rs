//! The register's state machines under one seed: a discrete-event simulator.
//!
//! It drives `ring`'s proposer, reader, acceptor, horizon and operation memory as a gateway and a storage node
//! would, over a network that loses, delays, doubles, reorders and cuts one way, on disks that lose what was not
//! fsynced, with clocks that stray within and beyond the bound, processes that crash, tombstones that are dropped
//! under a floor, chunks whose writers are late or never come back, and one member that is replaced in the middle of it.
//! Then it holds what clients saw against [`crate::checkers`], and that no value that was chosen names a chunk that was
//! deleted.
//!
//! The same seed gives the same events in the same order: [`Report::trace_hash`] says so.
//!
//! Left out: where chunks are and on how many replicas, versions, multipart, generations, LIST, the layout register itself
//! (layouts here are committed by an oracle), boot ids, bit rot.

mod chunks;
mod collector;
mod gateway;
mod gatherer;
mod message;
mod mover;
mod mutation;
mod replica;
mod run;
mod settings;
mod workload;
mod world;

pub use mutation::Mutation;
pub use run::{LIVENESS, Report, describe, run};
