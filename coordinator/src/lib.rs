//! Coordinates quorums: from "write this object" to requests to replicas, and back to what may be answered.
//!
//! A coordinator keeps no state that a cluster needs: any number of them may run against the same nodes, in gateways and
//! in the repair of storage nodes.

mod body_reader;
mod body_writer;
mod chunks;
#[cfg(test)]
mod fake;
mod fanout;
mod garbage;
mod health;
mod hints;
mod key_queue;
mod list;
pub mod metrics;
mod owners;
mod parts;
mod propose;
mod raise;
mod read;
mod read_repair;
#[cfg(test)]
mod tests;
mod types;
mod view;

pub use body_reader::BodyStream;
pub use body_writer::{Body, BodyWriter, PlacedBody};
pub use health::Readiness;
pub use owners::Owned;
pub use types::*;

use bytes::Bytes;
use health::Health;
use hints::Hints;
use key_queue::KeyQueue;
use parking_lot::Mutex;
use read_repair::LookedAtAgain;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::{Incarnation, NodeId};
use ringfort_ring::layout::Layout;
use ringfort_wire::environment::Environment;
use ringfort_wire::error::{CallError, NodeErrorCode};
use ringfort_wire::id::{InvocationDigest, OperationId};
use ringfort_wire::message::{
    Call, ChangeLayoutReply, ChangeLayoutRequest, GarbageStatusReply, GarbageStatusRequest,
    NodeStatusReply, NodeStatusRequest,
};
use ringfort_wire::transport::{Lane, Transport, call};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use view::ClusterView;

/// How a coordinator behaves. Plain values; [`Default`] is what a cluster runs with.
#[derive(Clone, Debug)]
pub struct CoordinatorOptions {
    /// Bodies up to so many bytes ride with the Accept.
    pub inline_max_bytes: usize,
    /// A body is cut into chunks of so many bytes, at most [`ringfort_wire::manifest::ChunkRef::MAX_BYTES`].
    pub chunk_bytes: usize,
    /// So many chunks of one body are on their way to replicas at once.
    pub chunks_in_flight: usize,
    /// How long an operation may take, from its proposal on.
    pub operation_timeout: Duration,
    /// How long one request to one replica may take.
    pub call_timeout: Duration,
    /// How long readers under way keep the chunks of a replaced object.
    pub delete_grace: Duration,
    /// So many repairs found by reads run at once; beyond, they are left to the next reader.
    pub repairs_max: usize,
}

impl Default for CoordinatorOptions {
    fn default() -> Self {
        Self {
            inline_max_bytes: 128 * 1024,
            chunk_bytes: 4 * 1024 * 1024,
            chunks_in_flight: 2,
            operation_timeout: Duration::from_secs(20),
            call_timeout: Duration::from_secs(5),
            delete_grace: Duration::from_secs(60),
            repairs_max: 32,
        }
    }
}

/// Coordinates operations over the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Arc<dyn Transport>,
    layout: watch::Receiver<Option<Arc<Layout>>>,
    /// Told when a replica shows a newer epoch than ours, so that whoever fetches layouts hurries.
    layout_wanted: Arc<Notify>,
    view: Mutex<Option<Arc<ClusterView>>>,
    environment: Environment,
    incarnation: Incarnation,
    options: CoordinatorOptions,
    queue: KeyQueue,
    health: Health,
    hints: Hints,
    repairs: Arc<Semaphore>,
    looked_at_again: LookedAtAgain,
    /// Bytes of chunks that are on a majority and still on their way to a slower replica.
    straggling: Arc<Semaphore>,
}

impl Coordinator {
    /// A coordinator over a transport. `layout` is `None` until the cluster has formed.
    #[must_use]
    pub fn new(
        transport: Arc<dyn Transport>,
        layout: watch::Receiver<Option<Arc<Layout>>>,
        environment: Environment,
        options: CoordinatorOptions,
    ) -> Self {
        let incarnation = Incarnation(environment.random_id());
        Self {
            inner: Arc::new(Inner {
                transport,
                layout,
                layout_wanted: Arc::new(Notify::new()),
                view: Mutex::new(None),
                incarnation,
                queue: KeyQueue::default(),
                health: Health::default(),
                hints: Hints::default(),
                repairs: Arc::new(Semaphore::new(options.repairs_max)),
                looked_at_again: LookedAtAgain::default(),
                straggling: Arc::new(Semaphore::new(chunks::STRAGGLING_BYTES)),
                environment,
                options,
            }),
        }
    }

    /// Time and randomness.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.inner.environment
    }

    /// Told whenever a newer layout than the one known is known to exist.
    #[must_use]
    pub fn layout_wanted(&self) -> Arc<Notify> {
        self.inner.layout_wanted.clone()
    }

    /// The layout that requests are placed by; `None` until the cluster has formed.
    #[must_use]
    pub fn layout(&self) -> Option<Arc<Layout>> {
        self.inner.layout.borrow().clone()
    }

    /// Bodies up to so many bytes ride with the Accept.
    #[must_use]
    pub fn inline_max(&self) -> usize {
        self.inner.options.inline_max_bytes
    }

    /// A fresh operation, due within the options' time.
    #[must_use]
    pub fn operation(&self, invocation: Option<InvocationDigest>) -> OperationContext {
        OperationContext {
            id: OperationId {
                id: self.inner.environment.random_id(),
                born: self.inner.environment.tick(),
            },
            invocation,
            deadline: Instant::now() + self.inner.options.operation_timeout,
        }
    }

    /// Asks every node how it is.
    pub async fn node_statuses(&self) -> Vec<(NodeId, Result<NodeStatusReply, CallError>)> {
        self.ask_all_nodes(&NodeStatusRequest {}).await
    }

    /// Asks every node the same.
    pub async fn ask_all_nodes<C: Call + Clone + Sync>(
        &self,
        request: &C,
    ) -> Vec<(NodeId, Result<C::Reply, CallError>)> {
        let Some(layout) = self.layout() else {
            return Vec::new();
        };
        let asked = layout.nodes.iter().map(|node| async {
            let reply = self.ask_node(node.id, request.clone()).await;
            (node.id, reply)
        });
        futures_util::future::join_all(asked).await
    }

    /// Asks one node, as an operator does: about itself, not about rows or chunks.
    ///
    /// # Errors
    /// Where it does not answer, or refuses.
    pub async fn ask_node<C: Call>(&self, node: NodeId, request: C) -> Result<C::Reply, CallError> {
        let reply = self.call(node, Lane::Metadata, request, Bytes::new()).await;
        reply.map(|(reply, _)| reply)
    }

    /// Has a node of the control set change the layout; answers the version that has the change in it.
    ///
    /// # Errors
    /// In a sentence: why the change was refused, or that nobody who decides answers.
    pub async fn change_layout(&self, change: Bytes) -> Result<u64, String> {
        /// Longer than a change takes at most.
        const CHANGE_WITHIN: Duration = Duration::from_secs(15);
        let layout = self.layout().ok_or("the cluster has not formed yet")?;
        let (control, _) = layout.control_ids();
        let mut silent = Vec::new();
        for node in control {
            let request = ChangeLayoutRequest {
                change: change.clone(),
            };
            let transport = self.inner.transport.as_ref();
            let (lane, payload) = (Lane::Metadata, Bytes::new());
            match call(transport, node, lane, request, payload, CHANGE_WITHIN).await {
                Ok((ChangeLayoutReply::Changed { version }, _)) => return Ok(version),
                Ok((ChangeLayoutReply::Refused(why), _)) => return Err(why),
                // It has not heard of it: another one may be asked.
                Err(CallError::Unreachable(why)) => silent.push(why),
                Err(error) => {
                    return Err(format!(
                        "whether the layout was changed is not known ({error}): look at `ringfort layout show`"
                    ));
                }
            }
        }
        Err(format!(
            "no node of the control set answers: {}",
            silent.join("; ")
        ))
    }

    /// Asks every node what it has collected; one that does not say, or is of an older release, is left out.
    pub async fn garbage_statuses(&self) -> Vec<(NodeId, GarbageStatusReply)> {
        let Some(layout) = self.layout() else {
            return Vec::new();
        };
        let asked = layout.nodes.iter().map(|node| async {
            let request = GarbageStatusRequest {};
            let reply = self
                .call(node.id, Lane::Metadata, request, Bytes::new())
                .await;
            reply.ok().map(|(reply, _)| (node.id, reply))
        });
        let answered = futures_util::future::join_all(asked).await;
        answered.into_iter().flatten().collect()
    }

    async fn call<C: Call>(
        &self,
        node: NodeId,
        lane: Lane,
        request: C,
        payload: Bytes,
    ) -> Result<(C::Reply, Bytes), CallError> {
        let deadline = self.inner.options.call_timeout;
        let reply = call(
            self.inner.transport.as_ref(),
            node,
            lane,
            request,
            payload,
            deadline,
        )
        .await;
        self.inner.health.note(node, &reply);
        if let Err(CallError::Refused(refusal)) = &reply
            && refusal.code == NodeErrorCode::NotMember
        {
            // It has left the partition, or came to it: a newer layout is likely to exist.
            self.inner.layout_wanted.notify_one();
        }
        reply
    }

    /// A ballot that nobody has used: later than all that this process gave out or saw.
    fn fresh_ballot(&self) -> Ballot {
        Ballot {
            time: self.inner.environment.tick(),
            incarnation: self.inner.incarnation,
        }
    }
}
