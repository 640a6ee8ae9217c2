//! The words two Ringfort processes exchange, and their bytes.

pub mod authority;
pub mod catalog;
pub mod client;
pub mod environment;
pub mod error;
pub mod frame;
pub mod hello;
pub mod id;
pub mod identity;
pub mod join;
pub mod link;
pub mod local;
pub mod manifest;
pub mod message;
pub mod metrics;
pub mod server;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod transport;
