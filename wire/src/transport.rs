//! How a request reaches a node: over a socket, or, within one process, by a function call.

use crate::error::{CallError, NodeError, NodeErrorCode};
use crate::id::Payload;
use crate::message::{Call, Request, Response};
use ringfort_ring::id::NodeId;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A boxed future.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// Which pool a call belongs to: repair must never starve clients, nor chunks the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Small requests: registers, lists, control.
    Metadata,
    /// Chunks of clients' bodies.
    Chunks,
    /// Repair.
    Repair,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Self; 3] = [Self::Metadata, Self::Chunks, Self::Repair];

    /// Its number on the wire, never used again.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Metadata => 1,
            Self::Chunks => 2,
            Self::Repair => 3,
        }
    }

    /// The lane of a number.
    #[must_use]
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.number() == number)
    }

    /// Its name, for logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Chunks => "chunks",
            Self::Repair => "repair",
        }
    }
}

/// Carries requests to nodes.
pub trait Transport: Send + Sync + 'static {
    /// Sends a request and awaits its answer, for at most `deadline`.
    fn send(
        &self,
        node: NodeId,
        lane: Lane,
        request: Request,
        payload: Payload,
        deadline: Duration,
    ) -> BoxFuture<Result<(Response, Payload), CallError>>;
}

/// Carries out requests.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. Dropping the future (the caller has gone) must be safe at any point.
    fn handle(
        &self,
        peer: Peer,
        request: Request,
        payload: Payload,
    ) -> BoxFuture<Result<(Response, Payload), NodeError>>;
}

/// Who asks, as the connection proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A member of the cluster: its id, from its certificate; or this very process.
    Member(NodeId),
    /// Nobody known: may only join.
    Stranger,
}

/// Sends a typed request.
///
/// # Errors
/// As [`Transport::send`]; an answer of another kind is `Malformed`.
pub async fn call<C: Call>(
    transport: &dyn Transport,
    node: NodeId,
    lane: Lane,
    request: C,
    payload: Payload,
    deadline: Duration,
) -> Result<(C::Reply, Payload), CallError> {
    let (response, payload) = transport
        .send(node, lane, request.into_request(), payload, deadline)
        .await?;
    let reply = C::reply(response)
        .ok_or_else(|| NodeError::new(NodeErrorCode::Malformed, "an answer of another kind"))?;
    Ok((reply, payload))
}
