//! The log: append-only segment files of self-describing records.

pub(crate) mod file;
pub mod location;
pub(crate) mod reader;
pub(crate) mod record_format;
pub(crate) mod scan;
pub(crate) mod writer;
