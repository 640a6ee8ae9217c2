//! The words two Ringfort processes exchange, and their bytes.

pub mod authority;
pub mod environment;
pub mod error;
pub mod frame;
pub mod hello;
pub mod id;
pub mod identity;
pub mod manifest;
pub mod message;
pub mod tls;
pub mod transport;
