//! Keeps and repairs: the storage engine, its services and jobs.

pub mod control;
pub mod disk;
pub mod engine;
pub mod node;
pub mod repair;
mod replica;
pub mod service;
