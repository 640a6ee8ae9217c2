//! Joining a cluster: the token that an operator hands over, and the conversation of a process that has no
//! certificate yet.
//!
//! The token names an address, the authority by its fingerprint, and a secret that is good once. The joining process
//! believes only a node whose certificate that authority signed; the cluster believes only who knows the secret, of
//! which it keeps a digest alone. Whether a secret was used before is the authority's matter.

use crate::authority;
use crate::client::{broken, connect, read_welcome, say_hello, too_long, unreachable};
use crate::error::CallError;
use crate::frame::{Frame, FrameType, Label};
use crate::hello::{CurrentEra, Hello, PROTOCOLS};
use crate::id::Payload;
use crate::identity::{Identity, IdentityError, NodeKey};
use crate::link::{FrameReader, Liveness, write_one};
use crate::message::{self, JoinReply, JoinRequest, Request, Response, Role};
use crate::tls::{self, TlsError};
use crate::transport::Lane;
use ringfort_ring::id::{ClusterId, DiskId, NodeId};
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::time::Duration;
use subtle::ConstantTimeEq as _;
use tokio::time::timeout;

const PREFIX: &str = "rfj1-";
const FINGERPRINT_BYTES: usize = 32;
const SECRET_BYTES: usize = 32;
const CRC_BYTES: usize = size_of::<u32>();
/// A host name of 253 bytes, a colon and a port.
const ADDRESS_MAX_BYTES: usize = 259;

/// What lets a process join.
///
/// ```text
///   "rfj1-" + hexadecimal of:
///   +----------------+-----------+--------------+-----------------------------+
///   | fingerprint 32 | secret 32 | address 1..  | CRC-32C of all before, u32  |
///   +----------------+-----------+--------------+-----------------------------+
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Where to join: `host:port` of a node.
    pub address: String,
    /// SHA-256 of the authority's certificate.
    pub authority_fingerprint: [u8; FINGERPRINT_BYTES],
    /// Good once.
    pub secret: [u8; SECRET_BYTES],
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}, secret)", self.address)
    }
}

/// Why a text is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin as one.
    #[error("a join token begins with {PREFIX}")]
    Prefix,
    /// It is not hexadecimal, or too short or long.
    #[error("the join token is cut short or is not one")]
    Malformed,
    /// A digit is wrong.
    #[error("the join token was copied wrongly: its checksum does not fit")]
    Checksum,
}

impl JoinToken {
    /// The text to hand over. It is a secret.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.authority_fingerprint);
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(self.address.as_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        format!("{PREFIX}{}", hex::encode(bytes))
    }

    /// Reads what [`Self::to_text`] wrote; white space around it is ignored.
    ///
    /// # Errors
    /// Where it is not that.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let bytes = hex::decode(digits).map_err(|_| TokenError::Malformed)?;
        let (rest, crc) = bytes
            .split_last_chunk::<CRC_BYTES>()
            .ok_or(TokenError::Malformed)?;
        if crc32c::crc32c(rest) != u32::from_le_bytes(*crc) {
            return Err(TokenError::Checksum);
        }
        let (fingerprint, rest) = rest
            .split_first_chunk::<FINGERPRINT_BYTES>()
            .ok_or(TokenError::Malformed)?;
        let (secret, address) = rest
            .split_first_chunk::<SECRET_BYTES>()
            .ok_or(TokenError::Malformed)?;
        if address.is_empty() || address.len() > ADDRESS_MAX_BYTES {
            return Err(TokenError::Malformed);
        }
        Ok(Self {
            address: String::from_utf8(address.to_vec()).map_err(|_| TokenError::Malformed)?,
            authority_fingerprint: *fingerprint,
            secret: *secret,
        })
    }

    /// What the cluster keeps of the token.
    #[must_use]
    pub fn digest(&self) -> SecretDigest {
        SecretDigest::of(&self.secret)
    }
}

/// SHA-256 of a token's secret: enough to know it again, of no use to join with.
#[derive(Clone, Copy)]
pub struct SecretDigest(pub [u8; 32]);

impl SecretDigest {
    /// The digest of a secret.
    #[must_use]
    pub fn of(secret: &[u8; SECRET_BYTES]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Whether this is the digest of that secret; takes as long for a wrong one as for the right one.
    #[must_use]
    pub fn is_of(&self, secret: &[u8; SECRET_BYTES]) -> bool {
        Self::of(secret).0.ct_eq(&self.0).into()
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretDigest({})", hex::encode(self.0))
    }
}

/// What a joining process says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applicant {
    /// What to be.
    pub role: Role,
    /// Its id.
    pub id: NodeId,
    /// Its name, for people.
    pub name: String,
    /// For a node: where its internode listener is reached.
    pub address: String,
    /// For a node: its failure domain.
    pub zone: String,
    /// For a node: its disks and their capacities in bytes.
    pub disks: Vec<(DiskId, u64)>,
}

/// What a process has when it has joined.
#[derive(Debug)]
pub struct Joined {
    /// To be saved before anything else is done.
    pub identity: Identity,
    /// The cluster.
    pub cluster: ClusterId,
    /// Where members are reached.
    pub seeds: Vec<String>,
    /// The hash of the admin token.
    pub admin_token_hash: [u8; 32],
}

/// Why joining failed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No answer, or an error for an answer. Where it was a timeout, the token may have been used: try again with
    /// the same key.
    #[error("joining at {address}: {source}")]
    Call {
        /// Where.
        address: String,
        /// Why.
        source: CallError,
    },
    /// The cluster said no.
    #[error("the cluster refused: {0}")]
    Refused(String),
    /// Our key, or what was answered, does not serve.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Joins the cluster that a token names, within `deadline`.
///
/// The key should be on disk before (see [`NodeKey::load_or_create`]): then a join whose answer was lost can be
/// repeated, and known for what it is by its key.
///
/// # Errors
/// As [`JoinError`] says. Cancelling may leave the token used.
pub async fn join(
    token: &JoinToken,
    applicant: Applicant,
    key: NodeKey,
    deadline: Duration,
) -> Result<Joined, JoinError> {
    let role = applicant.role;
    let id = applicant.id;
    let request = JoinRequest {
        secret: token.secret,
        role,
        id,
        name: applicant.name,
        address: applicant.address,
        zone: applicant.zone,
        disks: applicant.disks,
        csr: key.signing_request()?,
    };
    let tls = tls::stranger_config(token.authority_fingerprint)?;
    let exchange = ask_as_stranger(&token.address, tls, request, deadline);
    let reply = timeout(deadline, exchange)
        .await
        .unwrap_or(Err(CallError::TimedOut))
        .map_err(|source| JoinError::Call {
            address: token.address.clone(),
            source,
        })?;
    let (cluster, authority, certificate, seeds, admin_token_hash) = match reply {
        JoinReply::Refused(why) => return Err(JoinError::Refused(why)),
        JoinReply::Joined {
            cluster,
            authority,
            certificate,
            seeds,
            admin_token_hash,
        } => (cluster, authority, certificate, seeds, admin_token_hash),
    };
    let malformed = |what: &str| JoinError::Identity(IdentityError::Malformed(what.to_owned()));
    let fingerprint = authority::fingerprint(&CertificateDer::from(authority.as_slice()));
    if !bool::from(fingerprint.ct_eq(&token.authority_fingerprint)) {
        return Err(malformed(
            "the answer names another authority than the token",
        ));
    }
    let identity = Identity::new(key, certificate, authority)?;
    let name = identity.name();
    if (name.id, name.role, name.cluster) != (id, role, cluster) {
        return Err(malformed(
            "the certificate is of another name than was asked for",
        ));
    }
    Ok(Joined {
        identity,
        cluster,
        seeds,
        admin_token_hash,
    })
}

async fn ask_as_stranger(
    address: &str,
    tls: std::sync::Arc<rustls::ClientConfig>,
    request: JoinRequest,
    deadline: Duration,
) -> Result<JoinReply, CallError> {
    let liveness = Liveness::default();
    let era = CurrentEra::default();
    let (protocol_min, protocol_max) = PROTOCOLS;
    let hello = Hello {
        protocol_min,
        protocol_max,
        cluster: None,
        sender: request.id,
        role: request.role,
        lane: Lane::Metadata.number(),
        extensions: Vec::new(),
    };
    let mut stream = connect(address, tls::any_node(), tls).await?;
    say_hello(&mut stream, &hello, &era, liveness.stall_max).await?;
    let (read, mut write) = tokio::io::split(stream);
    // A stranger gets no heartbeats: the authority may take its time, up to the deadline.
    let mut reader = FrameReader::new(read, deadline);
    read_welcome(&mut reader).await?;
    let request = Request::Join(request);
    let label = Label {
        frame_type: FrameType::Request,
        kind: request.kind(),
        id: 1,
        deadline_ms: u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX),
        era: era.get(),
    };
    let frame = Frame::new(label, &request.encode(), Payload::new()).map_err(too_long)?;
    write_one(&mut write, frame, liveness.stall_max)
        .await
        .map_err(unreachable)?;
    let header = reader.header().await.map_err(unreachable)?;
    let (body, _) = reader.data(&header).await.map_err(unreachable)?;
    match header.frame_type {
        FrameType::Error => Err(CallError::Refused(message::decode(&body)?)),
        FrameType::Response => match Response::decode(header.kind, &body)? {
            Response::Join(reply) => Ok(reply),
            _ => Err(broken("an answer of another kind")),
        },
        other => Err(broken(&format!("a {other:?} where an answer should be"))),
    }
}

#[cfg(test)]
mod tests;
