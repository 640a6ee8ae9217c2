//! The log: append-only segment files of self-describing records.

pub mod location;
