//! Who belongs to the cluster and what its layout is: the durable layout, the authority that admits members, and how
//! everyone else learns of both.

pub mod authority;
pub mod file;
pub mod follow;
pub mod layout_store;
mod layout_v1;
pub mod service;
pub mod token;
