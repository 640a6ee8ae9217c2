//! Sends one request to many replicas and hands the answers on as they come.
//!
//! Every call is a task of its own that runs to its end: an answer is enough at a majority, but the rest of the
//! replicas are not to miss the write because the client has its answer.

use super::Coordinator;
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use ringfort_ring::id::NodeId;
use ringfort_ring::quorum::Replica;
use ringfort_wire::error::CallError;
use ringfort_wire::message::Call;
use ringfort_wire::transport::Lane;
use std::time::Duration;
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

    /// An answer that is there already.
    pub(super) fn ready(&mut self) -> Option<Answer<R>> {
        self.receiver.try_recv().ok()
    }

    /// Ends the calls that are still under way, unheard and unwatched.
    pub(super) fn abort(self) {
        for call in self.calls {
            call.abort();
        }
    }
}

#[cfg(test)]
impl<R> Answers<R> {
    /// These, and no more.
    pub(super) fn of(answers: impl IntoIterator<Item = Answer<R>>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        for answer in answers {
            let _ = sender.send(answer);
        }
        Self {
            receiver,
            calls: Vec::new(),
        }
    }
}

/// How long one replica may keep us waiting before the next is asked too.
const HEDGE: Duration = Duration::from_millis(250);

/// Asks one after the other: the next where one has failed, and beside one that is slow. The first good answer wins,
/// and the other questions are taken back.
pub(super) async fn first_of<T, E, F>(asks: impl IntoIterator<Item = F>) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut asks = asks.into_iter();
    let mut under_way = FuturesUnordered::new();
    let mut errors = Vec::new();
    under_way.extend(asks.next());
    loop {
        match tokio::time::timeout(HEDGE, under_way.next()).await {
            Ok(Some(Ok(found))) => return Ok(found),
            Ok(Some(Err(error))) => {
                errors.push(error);
                under_way.extend(asks.next());
            }
            Ok(None) => return Err(errors),
            Err(_) => under_way.extend(asks.next()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_silent_replica_is_overtaken_and_a_failing_one_is_skipped() {
        let silent = std::future::pending::<Result<u8, u8>>();
        let asks = [
            silent.boxed(),
            std::future::ready(Err(7)).boxed(),
            std::future::ready(Ok(3)).boxed(),
        ];
        assert_eq!(first_of(asks).await, Ok(3));
        let asks = [
            std::future::ready(Err::<u8, u8>(1)),
            std::future::ready(Err(2)),
        ];
        assert_eq!(first_of(asks).await, Err(vec![1, 2]));
    }
}
