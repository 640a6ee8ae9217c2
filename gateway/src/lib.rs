//! Speaks S3; coordinates quorums.

pub mod admin;
pub mod catalog;
pub mod config;
pub mod metrics;
pub mod ops;
pub mod s3;
pub mod server;

pub use ringfort_coordinator as coordinator;
