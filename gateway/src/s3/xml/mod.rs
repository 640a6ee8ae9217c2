//! S3's documents: writers for every answer, readers for every body that is XML.
//!
//! Writers take plain values and cannot fail; readers take a whole body and trust nothing in it.

pub mod escape;
pub mod read;
pub mod read_complete;
pub mod read_create_bucket;
pub mod read_delete;
pub mod write;
pub mod write_bucket;
pub mod write_list;
pub mod write_multipart;
pub mod write_object;

/// A CompleteMultipartUpload document: 10,000 parts with every checksum, and room for pretty printing.
pub const COMPLETE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A Delete document: 1,000 keys of 1,024 bytes.
pub const DELETE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Any other document.
pub const OTHER_BYTES_MAX: usize = 64 * 1024;
