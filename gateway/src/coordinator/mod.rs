//! Coordinates quorums: from "write this object" to requests to replicas, and back to what may be answered.

mod types;

pub use types::*;
