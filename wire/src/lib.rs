//! The words two Ringfort processes exchange, and their bytes.

pub mod id;
