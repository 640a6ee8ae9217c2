//! Keeps and repairs: the storage engine, its services and jobs.

pub mod disk;
pub mod engine;
