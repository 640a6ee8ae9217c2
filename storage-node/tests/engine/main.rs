//! The storage engine on a simulated disk (one seed, one run) and on a real folder.
#![allow(clippy::unwrap_used, reason = "test code")]

mod faults;
mod folder;
mod model;
mod reclaim;
mod recovery;
mod scrub;
mod support;
