//! A member's connection: many requests at once, answered in any order.

use super::limits::{Leave, acquire, semaphore};
use super::{Shared, Stream, error_frame, expect, finish, stopped, unavailable};
use crate::error::{NodeError, NodeErrorCode};
use crate::frame::{Frame, FrameType, Header, Label};
use crate::id::Payload;
use crate::identity::Name;
use crate::link::{FrameReader, Hold, LinkError, Outgoing, write_frames};
use crate::message::{Request, Response};
use crate::metrics;
use crate::transport::{Lane, Peer};
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

/// Answers in the queue of one connection; more wait in their tasks, bounded by the connection's permits.
const QUEUE: usize = 32;

type Queue = mpsc::Sender<Outgoing<Option<Leave>>>;

impl Hold for Option<Leave> {
    fn is_wanted(&self) -> bool {
        true
    }
}

struct Connection {
    shared: Arc<Shared>,
    name: Name,
    lane: Lane,
    permits: Arc<Semaphore>,
    queue: Queue,
    under_way: Arc<Mutex<HashMap<u64, AbortHandle>>>,
    is_draining: AtomicBool,
}

/// Serves until the peer leaves, the connection breaks, or the server has been drained. When it returns, whatever
/// was still under way for this peer is dropped: nobody awaits it.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    name: Name,
    lane: Lane,
    mut reader: FrameReader<ReadHalf<Stream>>,
    mut write: WriteHalf<Stream>,
) -> Result<(), LinkError> {
    let on_connection_max = shared.options.lane(lane).on_connection_max;
    let (queue, mut queued) = mpsc::channel(QUEUE);
    let connection = Connection {
        shared: Arc::clone(shared),
        name,
        lane,
        permits: semaphore(on_connection_max),
        queue,
        under_way: Arc::default(),
        is_draining: AtomicBool::new(false),
    };
    let liveness = shared.options.liveness;
    // One task for both halves: they share the TLS state, and would wait for each other's lock otherwise.
    let end = tokio::select! {
        end = connection.read_requests(&mut reader) => end,
        end = write_frames(&mut write, &mut queued, liveness, &shared.era) => end,
        () = connection.drain() => Ok(()),
    };
    match end {
        Ok(()) | Err(LinkError::Closed) => finish(&mut write, liveness.stall_max).await,
        Err(error) => Err(error),
    }
}

impl Connection {
    async fn read_requests(
        &self,
        reader: &mut FrameReader<ReadHalf<Stream>>,
    ) -> Result<(), LinkError> {
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            let header = reader.header().await?;
            match header.frame_type {
                FrameType::Request => {
                    let limits = &self.shared.limits;
                    let leave = limits.request(self.lane, &self.permits, &header).await;
                    let (body, payload) = reader.data(&header).await?;
                    metrics::received(self.lane, body.len() + payload.len());
                    self.start(&mut tasks, header, &body, payload, leave)?;
                }
                FrameType::Cancel => {
                    expect(&header, FrameType::Cancel, 0)?;
                    // None: it was answered meanwhile. Dropping a handler is safe by the service's contract.
                    if let Some(task) = self.under_way.lock().remove(&header.id) {
                        task.abort();
                    }
                }
                FrameType::Heartbeat | FrameType::GoAway => {
                    expect(&header, header.frame_type, 0)?;
                }
                other => return Err(LinkError::Protocol(format!("an unexpected {other:?}"))),
            }
        }
    }

    fn start(
        &self,
        tasks: &mut JoinSet<()>,
        header: Header,
        body: &[u8],
        payload: Payload,
        leave: Leave,
    ) -> Result<(), LinkError> {
        let label = Label {
            frame_type: FrameType::Response,
            kind: header.kind,
            id: header.id,
            deadline_ms: 0,
            era: self.shared.era.get(),
        };
        let judged = Request::decode(header.kind, body)
            .and_then(|request| self.judge(&header, &request).map(|()| request));
        let queue = self.queue.clone();
        let request = match judged {
            Ok(request) => request,
            Err(error) => {
                let frame = error_frame(label, &error);
                tasks.spawn(answer(queue, frame, leave));
                return Ok(());
            }
        };
        // The lock is held until the task is known, so that its own removal comes after.
        let mut under_way = self.under_way.lock();
        if under_way.contains_key(&header.id) {
            let what = format!("request {} is under way already", header.id);
            return Err(LinkError::Protocol(what));
        }
        let asked = Duration::from_millis(u64::from(header.deadline_ms));
        let work = Work {
            shared: Arc::clone(&self.shared),
            peer: Peer::Member(self.name.id),
            lane: self.lane,
            label,
            deadline: asked.min(self.shared.options.deadline_max),
        };
        let ended = Ended {
            under_way: Arc::clone(&self.under_way),
            id: header.id,
        };
        let task = tasks.spawn(async move {
            let frame = work.run(request, payload).await;
            drop(ended);
            if let Some(frame) = frame {
                answer(queue, frame, leave).await;
            }
        });
        under_way.insert(header.id, task);
        Ok(())
    }

    fn judge(&self, header: &Header, request: &Request) -> Result<(), NodeError> {
        if self.is_draining.load(Ordering::Acquire) {
            return Err(unavailable("the node is stopping"));
        }
        // Whoever slept through a recovery must be able to learn of it.
        let is_of_any_era = matches!(
            request,
            Request::Ping(_) | Request::GetLayout(_) | Request::NodeStatus(_)
        );
        let era = self.shared.era.get();
        if header.era < era && !is_of_any_era {
            let what = format!("era {} is over: this is era {}", header.era.0, era.0);
            return Err(NodeError::new(NodeErrorCode::WrongCluster, what));
        }
        Ok(())
    }

    /// After the call to stop: asks the peer to go, and waits until everything under way has been answered.
    async fn drain(&self) {
        let mut stop = self.shared.shutdown.clone();
        stopped(&mut stop).await;
        self.is_draining.store(true, Ordering::Release);
        let go_away = Outgoing {
            frame: Frame::bare(Label::plain(FrameType::GoAway, self.shared.era.get())),
            hold: None,
        };
        let drained = async {
            // The queue's other end lives as long as this future.
            let _ = self.queue.send(go_away).await;
            let limit = self.shared.options.lane(self.lane).on_connection_max;
            // Permits come back when answers have been written.
            let all = u32::try_from(limit.max(1)).unwrap_or(u32::MAX);
            drop(acquire(&self.permits, all).await);
        };
        if timeout(self.shared.options.drain_max, drained)
            .await
            .is_err()
        {
            tracing::warn!(peer = %self.name, "requests were dropped: they took longer than the drain may");
        }
    }
}

/// Takes a request off the list, also when its task is aborted.
struct Ended {
    under_way: Arc<Mutex<HashMap<u64, AbortHandle>>>,
    id: u64,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.id);
    }
}

async fn answer(queue: Queue, frame: Frame, leave: Leave) {
    // Where the queue is gone, so is the peer.
    let _ = queue
        .send(Outgoing {
            frame,
            hold: Some(leave),
        })
        .await;
}

/// One request on its way through the service.
struct Work {
    shared: Arc<Shared>,
    peer: Peer,
    lane: Lane,
    label: Label,
    deadline: Duration,
}

impl Work {
    /// The answer's frame; `None`: the deadline passed, and nobody waits for an answer.
    async fn run(self, request: Request, payload: Payload) -> Option<Frame> {
        let name = request.name();
        let started = Instant::now();
        let peer = self.peer.clone();
        let service = Arc::clone(&self.shared.service);
        // The service's own call is inside, so that its panics are caught too.
        let handled = async move { service.handle(peer, request, payload).await };
        let outcome = timeout(self.deadline, AssertUnwindSafe(handled).catch_unwind()).await;
        let took = started.elapsed();
        let (frame, outcome) = match outcome {
            Err(_) => (None, "expired"),
            Ok(Err(_)) => {
                let error = unavailable("the service failed; what it did is not known");
                (Some(error_frame(self.label, &error)), "panicked")
            }
            Ok(Ok(Err(error))) => (Some(error_frame(self.label, &error)), "refused"),
            Ok(Ok(Ok((response, payload)))) => (Some(self.response(&response, payload)), "ok"),
        };
        metrics::served(name, self.lane, took, outcome);
        frame
    }

    fn response(&self, response: &Response, payload: Payload) -> Frame {
        match Frame::new(self.label, &response.encode(), payload) {
            Ok(frame) => {
                metrics::sent(self.lane, frame.head.len() + frame.payload.len());
                frame
            }
            Err(error) => {
                let error = NodeError::new(NodeErrorCode::Malformed, error.to_string());
                error_frame(self.label, &error)
            }
        }
    }
}
