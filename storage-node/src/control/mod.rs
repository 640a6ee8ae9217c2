//! Who belongs to the cluster and what its layout is: the register that decides it, the layout's durable copy, the
//! authority that admits members, and how everyone else learns of both.

pub mod acceptor;
pub mod announce;
pub mod authority;
pub mod change;
pub mod conductor;
pub mod entries;
pub mod file;
pub mod follow;
pub mod layout_store;
mod layout_v1;
pub mod plane;
mod push;
pub mod service;
pub mod token;
