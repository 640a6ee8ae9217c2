//! Reads and changes the layout: the driver of `ring`'s proposer over the transport.
//!
//! Promises: what [`ControlPlane::update`] and [`ControlPlane::read`] answer is chosen, durable in this process's
//! [`LayoutStore`], and at least as new as anything that was chosen before the call. Every member of the cluster may run
//! one; any number of them may change the layout at the same time, and each change is judged on the layout that it
//! follows. Left out: what to change.

use super::acceptor::ControlAcceptor;
use super::layout_store::{LayoutError, LayoutStore};
use super::push::Push;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::control::{Proposer, Step, place};
use ringfort_ring::id::{Incarnation, NodeId};
use ringfort_ring::layout::Layout;
use ringfort_wire::environment::Environment;
use ringfort_wire::error::CallError;
use ringfort_wire::id::Payload;
use ringfort_wire::message::{
    Call, ControlAcceptReply, ControlAcceptRequest, ControlPrepareReply, ControlPrepareRequest,
};
use ringfort_wire::transport::{BoxFuture, Lane, Transport, call};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout_at};

/// Tells the transport where a node is that no chosen layout may have named yet: `host:port`.
pub type Introduce = Arc<dyn Fn(NodeId, &str) + Send + Sync>;

/// How a control plane behaves.
#[derive(Clone, Copy, Debug)]
pub struct ControlOptions {
    /// A call to one member takes at most so long.
    pub call_timeout: Duration,
    /// A change or a read takes at most so long.
    pub deadline: Duration,
    /// After an attempt that failed, the next one waits so long, in the mean; twice as long after each.
    pub backoff_min: Duration,
    /// And at most so long.
    pub backoff_max: Duration,
    /// A layout is offered again so long after a node did not take it.
    pub offer_again_after: Duration,
    /// How often this process looks whether its acceptors hold something that nobody has settled.
    pub settle_every: Duration,
}

impl Default for ControlOptions {
    fn default() -> Self {
        Self {
            call_timeout: Duration::from_secs(3),
            deadline: Duration::from_secs(10),
            backoff_min: Duration::from_millis(40),
            backoff_max: Duration::from_secs(1),
            offer_again_after: Duration::from_secs(1),
            settle_every: Duration::from_secs(2),
        }
    }
}

/// Why the layout was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is none yet.
    #[error("there is no layout yet: not all expected nodes have joined")]
    NoLayout,
    /// Nothing was changed.
    #[error("the layout cannot be decided now: {0}; nothing was changed")]
    NoQuorum(String),
    /// The change may still take place, once.
    #[error("whether the layout was changed is not known: {0}")]
    OutcomeUnknown(String),
    /// The change does not fit the layout as it is; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// The change is not one that a layout may have; nothing was changed.
    #[error("the layout cannot become that: {0}")]
    Invalid(ringfort_ring::layout::LayoutError),
    /// A chosen layout cannot be kept here.
    #[error(transparent)]
    Keep(#[from] LayoutError),
}

/// Reads and changes the layout. Cheap to clone.
#[derive(Clone)]
pub struct ControlPlane {
    inner: Arc<Inner>,
}

struct Inner {
    layouts: Arc<LayoutStore>,
    acceptors: Vec<Arc<ControlAcceptor>>,
    transport: Arc<dyn Transport>,
    introduce: Introduce,
    environment: Environment,
    incarnation: Incarnation,
    options: ControlOptions,
    /// One attempt at a time in a process: two would only refuse each other.
    turn: Mutex<()>,
    push: Push,
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlPlane").finish_non_exhaustive()
    }
}

/// How an attempt ended.
enum Ended {
    /// The newest chosen layout, with the change in it.
    At(Arc<Layout>),
    /// A newer layout than base is chosen, and kept.
    Moved,
    Failed(String),
}

/// A member's answer in the round under way.
enum Reply {
    Prepared(Result<ControlPrepareReply, CallError>),
    Accepted(Result<ControlAcceptReply, CallError>),
}

type Calls = FuturesUnordered<BoxFuture<(NodeId, Reply)>>;

impl ControlPlane {
    /// A control plane over a transport that reaches this process's own nodes too. `acceptors` are theirs.
    #[must_use]
    pub fn new(
        layouts: Arc<LayoutStore>,
        acceptors: Vec<Arc<ControlAcceptor>>,
        transport: Arc<dyn Transport>,
        introduce: Introduce,
        environment: Environment,
        options: ControlOptions,
    ) -> Self {
        let incarnation = Incarnation(environment.random_id());
        let push = Push::new(
            Arc::clone(&transport),
            Arc::clone(&introduce),
            options.call_timeout,
            options.offer_again_after,
        );
        Self {
            inner: Arc::new(Inner {
                layouts,
                acceptors,
                transport,
                introduce,
                environment,
                incarnation,
                options,
                turn: Mutex::new(()),
                push,
            }),
        }
    }

    /// The newest chosen layout: at least as new as any that was chosen before the call.
    ///
    /// # Errors
    /// Where a majority of the control set cannot be asked in time.
    pub async fn read(&self) -> Result<Arc<Layout>, ControlError> {
        self.update(|_| Ok::<_, Infallible>(None)).await
    }

    /// Changes the layout. `change` is handed the newest chosen layout and answers what shall follow it (the next
    /// version), or `None` where nothing has to change. It is called again whenever somebody else's change came first,
    /// and where this process lost sight of its own: so it must look whether what it wants is there already.
    ///
    /// Answers the layout that has the change in it, durable here and on a majority; all others are told in the
    /// background. Dropped half-way, it may still take place.
    ///
    /// # Errors
    /// What `change` refuses; where a majority of the control set cannot be asked in time.
    pub async fn update<E: Display>(
        &self,
        mut change: impl FnMut(&Layout) -> Result<Option<Layout>, E> + Send,
    ) -> Result<Arc<Layout>, ControlError> {
        let options = self.inner.options;
        let deadline = Instant::now() + options.deadline;
        let Ok(_turn) = timeout_at(deadline, self.inner.turn.lock()).await else {
            return Err(ControlError::NoQuorum(
                "another change of this process is under way".to_owned(),
            ));
        };
        // The own proposal whose outcome is open.
        let mut sent: Option<Arc<Layout>> = None;
        let mut pause = options.backoff_min;
        loop {
            let base = self.inner.layouts.current().ok_or(ControlError::NoLayout)?;
            // Of base's version it is base or dead; behind several versions it may have been among them, and `change` looks
            // for itself.
            if sent
                .take_if(|open| place(open) <= place(&base))
                .is_some_and(|open| open == base)
            {
                return Ok(base);
            }
            let why = match self.attempt(base, &mut change, &mut sent, deadline).await? {
                Ended::At(layout) => return Ok(layout),
                Ended::Moved => continue,
                Ended::Failed(why) => why,
            };
            tracing::debug!(%why, "an attempt at the layout failed");
            let jitter = self
                .inner
                .environment
                .random_below(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).max(1));
            let pause_now = pause / 2 + Duration::from_millis(jitter);
            if Instant::now() + pause_now >= deadline {
                return Err(match sent {
                    None => ControlError::NoQuorum(why),
                    Some(_) => ControlError::OutcomeUnknown(why),
                });
            }
            sleep(pause_now).await;
            pause = (pause * 2).min(options.backoff_max);
        }
    }

    async fn attempt<E: Display>(
        &self,
        base: Arc<Layout>,
        change: &mut (impl FnMut(&Layout) -> Result<Option<Layout>, E> + Send),
        sent: &mut Option<Arc<Layout>>,
        deadline: Instant,
    ) -> Result<Ended, ControlError> {
        let ballot = Ballot {
            time: self.inner.environment.tick(),
            incarnation: self.inner.incarnation,
        };
        let mut proposer = Proposer::new(ballot, base);
        let mut calls = Calls::new();
        let mut silent = BTreeMap::new();
        let mut step = proposer.start();
        loop {
            match step {
                Step::Prepare(nodes) => {
                    if let Some(unsettled) = proposer.unsettled() {
                        self.introduce(unsettled);
                    }
                    self.prepare(&proposer, nodes, &calls);
                }
                Step::Decide => {
                    let decided = change(proposer.base());
                    let decided = decided.map_err(|why| ControlError::Refused(why.to_string()))?;
                    let Some(next) = decided else {
                        return Ok(Ended::At(Arc::clone(proposer.base())));
                    };
                    step = proposer.propose(next).map_err(ControlError::Invalid)?;
                    if let Step::Accept(layout, _) = &step {
                        *sent = Some(Arc::clone(layout));
                    }
                    continue;
                }
                Step::Accept(layout, nodes) => {
                    self.introduce(&layout);
                    // Prepares that are still under way are of no use: their answers belong to the round before.
                    calls = Calls::new();
                    self.accept(ballot, &layout, nodes, &calls);
                }
                Step::Chosen(layout) => {
                    // The slower members take it too, if they can.
                    tokio::spawn(async move { while calls.next().await.is_some() {} });
                    self.keep(&layout).await?;
                    self.inner.push.offer(proposer.base(), &layout);
                    tracing::info!(version = layout.version, "a layout is chosen");
                    let is_own = sent.as_ref().is_some_and(|own| Arc::ptr_eq(own, &layout));
                    return Ok(if is_own {
                        Ended::At(layout)
                    } else {
                        Ended::Moved
                    });
                }
                Step::Newer(layout) => {
                    self.keep(&layout).await?;
                    return Ok(Ended::Moved);
                }
                Step::Failed { past } => {
                    self.inner.environment.observe(past.time);
                    return Ok(Ended::Failed(in_words(&silent)));
                }
                Step::Wait => {}
            }
            step = match timeout_at(deadline, calls.next()).await {
                Ok(Some((node, reply))) => answered(&mut proposer, node, reply, &mut silent),
                Ok(None) | Err(_) => return Ok(Ended::Failed(in_words(&silent))),
            };
        }
    }

    fn prepare(&self, proposer: &Proposer, nodes: Vec<NodeId>, calls: &Calls) {
        let request = ControlPrepareRequest {
            ballot: proposer.ballot(),
            known: proposer.known(),
        };
        for node in nodes {
            let asked = self.call(node, request.clone());
            calls.push(Box::pin(
                async move { (node, Reply::Prepared(asked.await)) },
            ));
        }
    }

    fn accept(&self, ballot: Ballot, layout: &Layout, nodes: Vec<NodeId>, calls: &Calls) {
        for node in nodes {
            let request = ControlAcceptRequest {
                ballot,
                layout: layout.clone(),
            };
            let asked = self.call(node, request);
            calls.push(Box::pin(
                async move { (node, Reply::Accepted(asked.await)) },
            ));
        }
    }

    fn call<C: Call>(&self, node: NodeId, request: C) -> BoxFuture<Result<C::Reply, CallError>> {
        let transport = Arc::clone(&self.inner.transport);
        let deadline = self.inner.options.call_timeout;
        Box::pin(async move {
            let (lane, payload) = (Lane::Metadata, Payload::new());
            let asked = call(transport.as_ref(), node, lane, request, payload, deadline);
            asked.await.map(|(reply, _)| reply)
        })
    }

    /// Says where the nodes are that the layout known here does not name.
    fn introduce(&self, layout: &Layout) {
        let known = self.inner.layouts.current();
        for node in &layout.nodes {
            let is_known = |known: &Arc<Layout>| known.nodes.iter().any(|one| one.id == node.id);
            if !known.as_ref().is_some_and(is_known) {
                (self.inner.introduce)(node.id, &node.address);
            }
        }
    }

    /// Keeps a chosen layout.
    async fn keep(&self, layout: &Arc<Layout>) -> Result<(), ControlError> {
        let (layouts, layout) = (Arc::clone(&self.inner.layouts), Layout::clone(layout));
        let kept = tokio::task::spawn_blocking(move || layouts.adopt(layout)).await;
        match kept {
            Ok(Ok(_) | Err(LayoutError::Older { .. })) => Ok(()),
            Ok(Err(error)) => {
                tracing::error!(%error, "a chosen layout cannot be kept");
                Err(error.into())
            }
            Err(_) => Err(ControlError::OutcomeUnknown(
                "the layout could not be kept".to_owned(),
            )),
        }
    }

    /// Tells other nodes of what was chosen here, and settles what others left unsettled on this process's acceptors,
    /// until `shutdown` turns true. Run it once.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let jobs = async { tokio::join!(self.inner.push.run(), self.settle_leftovers()) };
        tokio::select! {
            _ = jobs => {}
            _ = shutdown.wait_for(|ends| *ends) => {}
        }
    }

    /// A proposer that stopped half-way leaves a layout that may be chosen and that nobody says is.
    async fn settle_leftovers(&self) {
        let mut was_unsettled = false;
        loop {
            let every = self.inner.options.settle_every;
            let spread = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1);
            let jitter = self.inner.environment.random_below(spread);
            sleep(every + Duration::from_millis(jitter)).await;
            let mut acceptors = self.inner.acceptors.iter();
            let is_unsettled = acceptors.any(|acceptor| acceptor.has_unsettled());
            // Seen once, it is probably under way.
            if is_unsettled
                && was_unsettled
                && let Err(error) = self.read().await
            {
                tracing::debug!(%error, "an unsettled layout stays for now");
            }
            was_unsettled = is_unsettled;
        }
    }
}

/// Feeds an answer to the machine; why there was no yes goes into `silent`.
fn answered(
    proposer: &mut Proposer,
    node: NodeId,
    reply: Reply,
    silent: &mut BTreeMap<NodeId, String>,
) -> Step {
    let refusal = match reply {
        Reply::Prepared(Ok(ControlPrepareReply::Promised(promise))) => {
            return proposer.promised(node, promise);
        }
        Reply::Accepted(Ok(ControlAcceptReply::Accepted)) => return proposer.accepted(node),
        Reply::Prepared(Ok(ControlPrepareReply::Refused(refusal)))
        | Reply::Accepted(Ok(ControlAcceptReply::Refused(refusal))) => refusal,
        Reply::Prepared(Err(error)) | Reply::Accepted(Err(error)) => {
            silent.insert(node, error.to_string());
            return proposer.silent(node);
        }
    };
    silent.insert(
        node,
        match refusal.is_ahead {
            true => "finds this node's clock too far ahead of its own".to_owned(),
            false => "has promised another change".to_owned(),
        },
    );
    proposer.refused(node, refusal)
}

fn in_words(silent: &BTreeMap<NodeId, String>) -> String {
    if silent.is_empty() {
        return "the control set did not answer in time".to_owned();
    }
    let each = silent
        .iter()
        .map(|(node, why)| format!("node {node}: {why}"));
    each.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
#[path = "plane/tests.rs"]
mod tests;
