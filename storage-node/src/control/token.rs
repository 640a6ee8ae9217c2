//! A join token as an operator carries it: who to ask, how to know that it is really them, and a secret good once.
//!
//! ```text
//! rfjoin1-<hex of: postcard JoinToken | crc32c of that, u32 BE>
//! ```
//! It says more than what goes over the wire: a storage node needs the cluster's id before it joins, to make its
//! disks. The checksum only tells a token that was cut or mistyped from one that is not accepted.

use ringfort_ring::id::ClusterId;
use ringfort_wire::message::Role;
use serde::{Deserialize, Serialize};
use std::fmt;

const PREFIX: &str = "rfjoin1-";
const CRC_BYTES: usize = 4;
/// A token of some twenty addresses is far below.
const MAX_CHARS: usize = 8192;

/// What a token says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// The cluster to join.
    pub cluster: ClusterId,
    /// What the joiner is to be.
    pub role: Role,
    /// Good once.
    pub secret: [u8; 32],
    /// SHA-256 of the cluster's certificate authority (DER): the joiner trusts nobody else.
    pub authority_sha256: [u8; 32],
    /// Internode addresses of those who admit members.
    pub addresses: Vec<String>,
}

/// A text is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Another kind of text.
    #[error(
        "this is not a join token: one begins with `{PREFIX}`; take it from `ringfort cluster init` or make one with \
         `ringfort cluster token`"
    )]
    Foreign,
    /// Cut or mistyped.
    #[error("the join token is incomplete or mistyped: copy it again, whole and in one line")]
    Damaged,
}

impl JoinToken {
    /// Reads a token; white space around it does not count.
    ///
    /// # Errors
    /// The text is not one.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let digits = text.strip_prefix(PREFIX).ok_or(TokenError::Foreign)?;
        if text.len() > MAX_CHARS {
            return Err(TokenError::Damaged);
        }
        let bytes = hex::decode(digits).map_err(|_| TokenError::Damaged)?;
        let (body, crc) = bytes
            .split_last_chunk::<CRC_BYTES>()
            .ok_or(TokenError::Damaged)?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
            return Err(TokenError::Damaged);
        }
        postcard::from_bytes(body).map_err(|_| TokenError::Damaged)
    }

    /// What [`ringfort_wire::join::join`] needs of it, at one of its addresses.
    #[must_use]
    pub fn at(&self, address: &str) -> ringfort_wire::join::JoinToken {
        ringfort_wire::join::JoinToken {
            address: address.to_owned(),
            authority_fingerprint: self.authority_sha256,
            secret: self.secret,
        }
    }
}

/// The whole token, secret included.
impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = postcard::to_allocvec(self).expect("a token is plain data");
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        write!(f, "{PREFIX}{}", hex::encode(bytes))
    }
}

/// Without the secret.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("cluster", &self.cluster)
            .field("role", &self.role)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            cluster: ClusterId::from_u128(5),
            role: Role::Node,
            secret: [7; 32],
            authority_sha256: [9; 32],
            addresses: vec!["127.0.0.1:7000".into()],
        }
    }

    #[test]
    fn a_token_reads_back_and_a_cut_or_mistyped_one_is_told() {
        let text = token().to_string();
        assert_eq!(JoinToken::parse(&format!(" {text}\n")), Ok(token()));
        for length in PREFIX.len()..text.len() {
            assert_eq!(JoinToken::parse(&text[..length]), Err(TokenError::Damaged));
        }
        let other = if text.ends_with('0') { "1" } else { "0" };
        let mistyped = format!("{}{other}", &text[..text.len() - 1]);
        assert_eq!(JoinToken::parse(&mistyped), Err(TokenError::Damaged));
        assert_eq!(JoinToken::parse(""), Err(TokenError::Foreign));
        assert_eq!(JoinToken::parse("deadbeef"), Err(TokenError::Foreign));
    }

    #[test]
    fn the_debug_form_keeps_the_secret() {
        assert!(!format!("{:?}", token()).contains("7, 7"));
    }
}
