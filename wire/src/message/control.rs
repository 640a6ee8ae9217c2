//! Who is there, what the layout is, how it changes, and how one becomes a member.

use bytes::Bytes;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::control::{Promise, Refusal};
use ringfort_ring::id::{ClusterId, DiskId, Era, NodeId};
use ringfort_ring::layout::Layout;
use serde::{Deserialize, Serialize};

/// Are you there?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingRequest {}

/// The answer to a Ping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingReply {
    /// The node's wall clock, milliseconds since 1970.
    pub clock_ms: u64,
    /// The version of the layout that it holds; 0 where it has none yet.
    pub layout_version: u64,
    /// For how long, in milliseconds, its disks still refuse new ballots after a restart; 0: none.
    pub horizon_wait_ms: u64,
    /// Its disks that serve.
    pub serving: Vec<DiskId>,
}

/// Show the layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetLayoutRequest {
    /// The version that the asker has; 0: none.
    pub have_version: u64,
}

/// The answer to a GetLayout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetLayoutReply {
    /// The layout, where it is newer than what the asker has.
    pub layout: Option<Layout>,
}

/// How are you?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatusRequest {}

/// The answer to a NodeStatus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatusReply {
    /// The node.
    pub node: NodeId,
    /// Its release.
    pub release: String,
    /// Seconds since its start.
    pub uptime_s: u64,
    /// The version of its layout.
    pub layout_version: u64,
    /// Its disks.
    pub disks: Vec<DiskStatus>,
}

/// How a disk is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// The disk.
    pub id: DiskId,
    /// Why it does not take writes; `None`: it does.
    pub writes_closed: Option<String>,
    /// Rows in its index.
    pub rows: u64,
    /// Chunks in its index.
    pub chunks: u64,
    /// Bytes of live records.
    pub live_bytes: u64,
    /// Bytes of records that nothing needs any more.
    pub garbage_bytes: u64,
    /// Bytes free in its file system.
    pub free_bytes: u64,
    /// Bytes of its file system.
    pub total_bytes: u64,
    /// Chunks that a manifest names and that it does not have yet.
    pub missing_chunks: u64,
    /// What recovery found at the last start, in words; empty: nothing.
    pub recovery: Vec<String>,
}

/// What a joining process is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A storage node.
    Node,
    /// A gateway.
    Gateway,
}

/// Become a member. Sent over a connection that shows no certificate yet.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The token's secret; it is good once.
    pub secret: [u8; 32],
    /// What to be.
    pub role: Role,
    /// The node's (or gateway's) id.
    pub id: NodeId,
    /// Its name, for people.
    pub name: String,
    /// For a node: where its internode listener is reached.
    pub address: String,
    /// For a node: its failure domain.
    pub zone: String,
    /// For a node: its disks and their capacities in bytes.
    pub disks: Vec<(DiskId, u64)>,
    /// A PKCS #10 certificate signing request, DER.
    pub csr: Vec<u8>,
}

impl std::fmt::Debug for JoinRequest {
    /// Without the secret: a log is no place for it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinRequest")
            .field("role", &self.role)
            .field("id", &self.id)
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// The answer to a Join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinReply {
    /// Welcome.
    Joined {
        /// The cluster.
        cluster: ClusterId,
        /// The cluster's certificate authority, DER.
        authority: Vec<u8>,
        /// The certificate, DER.
        certificate: Vec<u8>,
        /// Where members are reached.
        seeds: Vec<String>,
        /// What a gateway needs beside: the hash of the admin token.
        admin_token_hash: [u8; 32],
    },
    /// No.
    Refused(String),
}

/// Promise a ballot of the control register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlPrepareRequest {
    /// The attempt's ballot.
    pub ballot: Ballot,
    /// Era and version of the layout that the asker knows to be chosen.
    pub known: (Era, u64),
}

/// The answer to a ControlPrepare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlPrepareReply {
    /// Durably promised.
    Promised(Promise),
    /// No, and what to move past.
    Refused(Refusal),
}

/// Accept a layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlAcceptRequest {
    /// The attempt's ballot.
    pub ballot: Ballot,
    /// The layout.
    pub layout: Layout,
}

/// The answer to a ControlAccept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlAcceptReply {
    /// Durably accepted.
    Accepted,
    /// No, and what to move past.
    Refused(Refusal),
}

/// Take a chosen layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferLayoutRequest {
    /// The layout. It is chosen.
    pub layout: Layout,
}

/// The answer to an OfferLayout: the node durably holds this layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferLayoutReply {
    /// Its version; at least the one offered, but for a layout of a newer era.
    pub version: u64,
}

/// Change the layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeLayoutRequest {
    /// The change, in the form of whoever carries it out.
    pub change: Bytes,
}

/// The answer to a ChangeLayout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeLayoutReply {
    /// The layout of this version is chosen and has the change in it.
    Changed {
        /// The version.
        version: u64,
    },
    /// No, in words.
    Refused(String),
}
