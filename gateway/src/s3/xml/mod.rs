//! S3's documents: writers for every answer, readers for every body that is XML.

pub mod escape;
