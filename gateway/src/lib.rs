//! Speaks S3; coordinates quorums.

pub mod coordinator;
pub mod s3;
