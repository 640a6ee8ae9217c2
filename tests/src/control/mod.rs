//! The control register's state machines under one seed: seven nodes, any of which may propose, over a network that
//! loses, doubles, reorders and holds back, with nodes that crash (what they promised, accepted and know to be chosen
//! is on disk) and nodes that sleep through changes of the control set.
//!
//! What must hold: one chosen layout a version; each the successor of the chosen one before it; whoever has asked a
//! majority sees everything that was chosen before it began; and when the network is whole again, a change gets through.
//!
//! The same seed gives the same events in the same order. Left out: time (ballots only order here), wrong bytes, and
//! members that lose their disk, which stand aside in the storage node.

mod mutation;
mod world;

pub use mutation::ControlMutation;
pub use world::{ControlReport, LIVENESS, run};
