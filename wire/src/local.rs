//! Within one process a hop is a function call: [`LocalTransport`], and [`SwitchTransport`] where some nodes are here
//! and others are not.

use crate::error::CallError;
use crate::id::Payload;
use crate::message::{Request, Response};
use crate::transport::{BoxFuture, Lane, Peer, Service, Transport};
use parking_lot::RwLock;
use ringfort_ring::id::NodeId;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Carries requests to nodes of this process.
#[derive(Default)]
pub struct LocalTransport {
    nodes: RwLock<HashMap<NodeId, Arc<dyn Service>>>,
}

impl LocalTransport {
    /// Without nodes yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds a node, or replaces it.
    pub fn insert(&self, node: NodeId, service: Arc<dyn Service>) {
        self.nodes.write().insert(node, service);
    }

    /// Takes a node away: calls to it are then `Unreachable`.
    pub fn remove(&self, node: NodeId) {
        self.nodes.write().remove(&node);
    }

    fn get(&self, node: NodeId) -> Option<Arc<dyn Service>> {
        self.nodes.read().get(&node).cloned()
    }
}

impl Transport for LocalTransport {
    fn send(
        &self,
        node: NodeId,
        _lane: Lane,
        request: Request,
        payload: Payload,
        deadline: Duration,
    ) -> BoxFuture<Result<(Response, Payload), CallError>> {
        let service = self.get(node);
        Box::pin(async move {
            let Some(service) = service else {
                let why = format!("node {node} is not in this process");
                return Err(CallError::Unreachable(why));
            };
            // The process itself is a member. Dropping the handler at the deadline is safe by its contract.
            let handled = service.handle(Peer::Member(node), request, payload);
            match timeout(deadline, handled).await {
                Ok(answer) => Ok(answer?),
                Err(_) => Err(CallError::TimedOut),
            }
        })
    }
}

/// Carries requests to nodes of this process by a call, and to others over the network.
pub struct SwitchTransport {
    local: Arc<LocalTransport>,
    remote: Arc<dyn Transport>,
}

impl SwitchTransport {
    /// Prefers `local`.
    #[must_use]
    pub fn new(local: Arc<LocalTransport>, remote: Arc<dyn Transport>) -> Arc<Self> {
        Arc::new(Self { local, remote })
    }
}

impl Transport for SwitchTransport {
    fn send(
        &self,
        node: NodeId,
        lane: Lane,
        request: Request,
        payload: Payload,
        deadline: Duration,
    ) -> BoxFuture<Result<(Response, Payload), CallError>> {
        let target: &dyn Transport = if self.local.get(node).is_some() {
            &*self.local
        } else {
            &*self.remote
        };
        target.send(node, lane, request, payload, deadline)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use crate::testing::{Echo, ping, pong};

    const HERE: NodeId = NodeId([1; 16]);
    const THERE: NodeId = NodeId([2; 16]);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_node_of_this_process_is_preferred_and_others_go_over_the_network() {
        let local = LocalTransport::new();
        local.insert(HERE, Echo::shared());
        let remote = LocalTransport::new();
        remote.insert(THERE, Echo::shared());
        let switch = SwitchTransport::new(Arc::clone(&local), remote);
        for node in [HERE, THERE] {
            let payload = Payload::from_static(b"x");
            let answer = switch
                .send(node, Lane::Metadata, ping(), payload.clone(), LONG)
                .await;
            assert_eq!(answer, Ok((pong(), payload)));
        }
        local.remove(HERE);
        let answer = switch
            .send(HERE, Lane::Metadata, ping(), Payload::new(), LONG)
            .await;
        assert!(matches!(answer, Err(CallError::Unreachable(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_local_call_ends_at_its_deadline_too() {
        let local = LocalTransport::new();
        let (service, _started) = Echo::that_never_answers();
        local.insert(HERE, service);
        let answer = local
            .send(HERE, Lane::Metadata, ping(), Payload::new(), LONG)
            .await;
        assert_eq!(answer, Err(CallError::TimedOut));
    }
}
