//! The words two Ringfort processes exchange, and their bytes.

pub mod environment;
pub mod error;
pub mod id;
pub mod manifest;
pub mod message;
pub mod transport;
