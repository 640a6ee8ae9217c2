//! Speaks S3; coordinates quorums.

pub mod s3;
