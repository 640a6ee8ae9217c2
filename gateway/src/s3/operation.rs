//! operation.
