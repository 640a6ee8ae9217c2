//! The identities of nodes, disks and partitions.
//!
//! Every id is a newtype: two integers side by side are an accident waiting.

use core::fmt;
use serde::{Deserialize, Serialize};

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// Makes the id from 128 bits, most significant byte first.
            #[must_use]
            pub const fn from_u128(bits: u128) -> Self {
                Self(bits.to_be_bytes())
            }

            /// Reads the form that `Display` writes: 32 hexadecimal digits.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return None;
                }
                u128::from_str_radix(text, 16).ok().map(Self::from_u128)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for byte in self.0 {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

random_id! {
    /// One `ringfort node` process and its disks; random, drawn once when the node's folder is made.
    NodeId
}
random_id! {
    /// One disk (data folder); random, drawn once when the folder is made. A disk is the unit of failure.
    DiskId
}
random_id! {
    /// One cluster; random, drawn by `cluster init`.
    ClusterId
}
random_id! {
    /// One life of a proposing process; random, drawn at each start.
    Incarnation
}

/// Index of a partition, `0..partition_count`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug, Default,
)]
pub struct PartitionId(pub u32);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The layout version that last changed a row (or, for a member, the one at which it joined).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug, Default,
)]
pub struct Epoch(pub u64);

/// Raised by `unsafe-recover` only; frames of an older era are refused.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug, Default,
)]
pub struct Era(pub u32);

/// The generation of a bucket's rules: raised by every change that a request is judged by.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug, Default,
)]
pub struct Generation(pub u64);

/// An index shard of a bucket, `0..K`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug, Default,
)]
pub struct Shard(pub u16);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn an_id_reads_back_from_its_text() {
        let id = DiskId::from_u128(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(id.to_string(), "0123456789abcdef0011223344556677");
        assert_eq!(DiskId::parse(&id.to_string()), Some(id));
        assert_eq!(DiskId::parse("+123456789abcdef0011223344556677"), None);
        assert_eq!(DiskId::parse(""), None);
    }
}
