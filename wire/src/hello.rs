//! The first words on a connection: who asks, who answers, and which protocol they speak.
//!
//! A hello is judged by [`judge`]. What is claimed in it counts only as far as the certificate agrees.

use crate::error::{NodeError, NodeErrorCode};
use crate::identity::Name;
use crate::message::Role;
use crate::transport::Lane;
use ringfort_ring::id::{ClusterId, Era, NodeId};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU32, Ordering};

/// The protocols that this release speaks, oldest and newest. Two releases side by side share at least one.
pub const PROTOCOLS: (u16, u16) = (1, 1);

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest protocol that the sender speaks.
    pub protocol_min: u16,
    /// The newest.
    pub protocol_max: u16,
    /// The sender's cluster; `None`: it has none yet, and wants to join.
    pub cluster: Option<ClusterId>,
    /// The sender.
    pub sender: NodeId,
    /// What the sender is.
    pub role: Role,
    /// The lane of the connection's requests: [`Lane::number`].
    pub lane: u8,
    /// Fields of later releases.
    pub extensions: Vec<(u16, Vec<u8>)>,
}

/// The answer to a hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol that this connection speaks.
    pub protocol: u16,
    /// The cluster.
    pub cluster: ClusterId,
    /// Who answers.
    pub node: NodeId,
    /// Fields of later releases.
    pub extensions: Vec<(u16, Vec<u8>)>,
}

/// A hello that was found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The protocol to speak.
    pub protocol: u16,
    /// The connection's lane.
    pub lane: Lane,
}

/// Judges a hello by what the sender's certificate says of it (`None`: a stranger, who showed none).
///
/// # Errors
/// Why the connection is refused.
pub fn judge(
    hello: &Hello,
    certified: Option<&Name>,
    cluster: ClusterId,
) -> Result<Accepted, NodeError> {
    let (ours_min, ours_max) = PROTOCOLS;
    let protocol = ours_max.min(hello.protocol_max);
    if protocol < ours_min.max(hello.protocol_min) {
        return Err(NodeError::new(
            NodeErrorCode::UnknownRequest,
            format!(
                "this release speaks protocols {ours_min} to {ours_max}, the other {} to {}",
                hello.protocol_min, hello.protocol_max
            ),
        ));
    }
    let lane = Lane::of_number(hello.lane).ok_or_else(|| {
        NodeError::new(
            NodeErrorCode::Malformed,
            format!("lane {} is not known", hello.lane),
        )
    })?;
    if let Some(name) = certified {
        if hello.cluster != Some(cluster) || name.cluster != cluster {
            let theirs = hello
                .cluster
                .map_or_else(|| "no cluster".to_owned(), |id| id.to_string());
            return Err(NodeError::new(
                NodeErrorCode::WrongCluster,
                format!("this is cluster {cluster}, not {theirs}"),
            ));
        }
        if hello.sender != name.id || hello.role != name.role {
            return Err(NodeError::new(
                NodeErrorCode::Unauthorised,
                format!(
                    "the certificate is of {name}, the hello of {}",
                    hello.sender
                ),
            ));
        }
    }
    Ok(Accepted { protocol, lane })
}

/// The era that this process lives in, shared by its client and its server. It only rises.
#[derive(Debug, Default)]
pub struct CurrentEra(AtomicU32);

impl CurrentEra {
    /// An era to begin with.
    #[must_use]
    pub fn new(era: Era) -> Self {
        Self(AtomicU32::new(era.0))
    }

    /// The era now.
    #[must_use]
    pub fn get(&self) -> Era {
        Era(self.0.load(Ordering::Acquire))
    }

    /// Moves up to an era, if it is newer.
    pub fn raise(&self, era: Era) {
        self.0.fetch_max(era.0, Ordering::AcqRel);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    fn hello() -> Hello {
        Hello {
            protocol_min: 1,
            protocol_max: 1,
            cluster: Some(CLUSTER),
            sender: NodeId([1; 16]),
            role: Role::Node,
            lane: Lane::Chunks.number(),
            extensions: Vec::new(),
        }
    }

    fn name() -> Name {
        Name {
            id: NodeId([1; 16]),
            role: Role::Node,
            cluster: CLUSTER,
        }
    }

    fn code(hello: &Hello, name: Option<&Name>) -> Option<NodeErrorCode> {
        judge(hello, name, CLUSTER).err().map(|error| error.code)
    }

    #[test]
    fn releases_meet_at_the_newest_protocol_that_both_speak() {
        let newer = Hello {
            protocol_max: 2,
            ..hello()
        };
        assert_eq!(
            judge(&newer, Some(&name()), CLUSTER).unwrap(),
            Accepted {
                protocol: 1,
                lane: Lane::Chunks
            }
        );
        let too_new = Hello {
            protocol_min: 2,
            protocol_max: 3,
            ..hello()
        };
        assert_eq!(
            code(&too_new, Some(&name())),
            Some(NodeErrorCode::UnknownRequest)
        );
        let reversed = Hello {
            protocol_min: 3,
            protocol_max: 1,
            ..hello()
        };
        assert_eq!(
            code(&reversed, Some(&name())),
            Some(NodeErrorCode::UnknownRequest)
        );
    }

    #[test]
    fn a_hello_that_its_certificate_does_not_bear_out_is_refused() {
        assert_eq!(code(&hello(), Some(&name())), None);
        let other_cluster = Hello {
            cluster: Some(ClusterId([8; 16])),
            ..hello()
        };
        assert_eq!(
            code(&other_cluster, Some(&name())),
            Some(NodeErrorCode::WrongCluster)
        );
        let no_cluster = Hello {
            cluster: None,
            ..hello()
        };
        assert_eq!(
            code(&no_cluster, Some(&name())),
            Some(NodeErrorCode::WrongCluster)
        );
        let other_node = Hello {
            sender: NodeId([2; 16]),
            ..hello()
        };
        assert_eq!(
            code(&other_node, Some(&name())),
            Some(NodeErrorCode::Unauthorised)
        );
        let other_role = Hello {
            role: Role::Gateway,
            ..hello()
        };
        assert_eq!(
            code(&other_role, Some(&name())),
            Some(NodeErrorCode::Unauthorised)
        );
        let no_lane = Hello { lane: 9, ..hello() };
        assert_eq!(
            code(&no_lane, Some(&name())),
            Some(NodeErrorCode::Malformed)
        );
        assert_eq!(code(&no_cluster, None), None);
    }

    #[test]
    fn an_era_only_rises() {
        let era = CurrentEra::new(Era(2));
        era.raise(Era(1));
        assert_eq!(era.get(), Era(2));
        era.raise(Era(3));
        assert_eq!(era.get(), Era(3));
    }
}
