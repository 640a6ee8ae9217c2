//! S3's protocol as pure functions: no IO, no clock, no cluster.

pub mod checksum;
pub mod checksum_headers;
pub mod chunked;
pub mod condition;
pub mod configuration;
pub mod copy_source;
pub mod error;
pub mod error_code;
pub mod etag;
pub mod headers;
pub mod names;
pub mod operation;
pub mod paging;
pub mod payload;
pub mod query;
pub mod query_headers;
pub mod range;
pub mod route;
pub mod sigv4;
pub mod time;
pub mod token;
pub mod unsupported;
pub mod xml;
