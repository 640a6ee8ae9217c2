//! Sends one request to many replicas and hands the answers on as they come.
//!
//! Every call is a task of its own that runs to its end: an answer is enough at a majority, but the rest of the
//! replicas are not to miss the write because the client has its answer.

use super::Coordinator;
use bytes::Bytes;
use ringfort_ring::id::NodeId;
use ringfort_ring::quorum::Replica;
use ringfort_wire::error::CallError;
use ringfort_wire::message::Call;
use ringfort_wire::transport::Lane;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// A replica's answer, with its payload.
pub(super) type Answer<R> = (Replica, Result<(R, Bytes), CallError>);

/// The answers to come.
pub(super) struct Answers<R> {
    receiver: mpsc::UnboundedReceiver<Answer<R>>,
    calls: Vec<AbortHandle>,
}

impl<R> Answers<R> {
    /// The next answer; `None` when all have answered. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<Answer<R>> {
        self.receiver.recv().await
    }

    /// Ends the calls that are still under way, unheard and unwatched.
    pub(super) fn abort(self) {
        for call in self.calls {
            call.abort();
        }
    }
}

impl Coordinator {
    /// Sends `request(replica)` to every target.
    pub(super) fn fan_out<C: Call>(
        &self,
        lane: Lane,
        targets: &[(Replica, NodeId)],
        request: impl FnMut(Replica) -> (C, Bytes),
    ) -> Answers<C::Reply> {
        self.fan_out_watched(lane, targets, request, |_, _| {})
    }

    /// As [`Coordinator::fan_out`]; `watch` sees every answer, those too that come when nobody waits any more.
    pub(super) fn fan_out_watched<C: Call>(
        &self,
        lane: Lane,
        targets: &[(Replica, NodeId)],
        mut request: impl FnMut(Replica) -> (C, Bytes),
        watch: impl Fn(Replica, &Result<(C::Reply, Bytes), CallError>) + Clone + Send + 'static,
    ) -> Answers<C::Reply> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut calls = Vec::with_capacity(targets.len());
        for (replica, node) in targets {
            let (replica, node) = (*replica, *node);
            let (request, payload) = request(replica);
            let (coordinator, sender, watch) = (self.clone(), sender.clone(), watch.clone());
            let call = tokio::spawn(async move {
                let reply = coordinator.call(node, lane, request, payload).await;
                watch(replica, &reply);
                // Nobody waits any more once a majority has answered.
                let _ = sender.send((replica, reply));
            });
            calls.push(call.abort_handle());
        }
        Answers { receiver, calls }
    }
}
