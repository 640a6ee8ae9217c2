//! Messages and client of the admin API.
//!
//! The API is JSON over HTTP under `/admin/v1/`, on a listener of its own, with a bearer token of its own. Every
//! refusal is an [`message::Problem`]. Left out: the handlers (gateway) and how a table looks (cli).

pub mod change;
pub mod client;
pub mod layout;
pub mod message;
