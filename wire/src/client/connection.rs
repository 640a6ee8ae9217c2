//! One connection to a node, shared by many calls at once: answers come in any order and are told apart by id.

use crate::error::{CallError, NodeError, NodeErrorCode};
use crate::frame::{Frame, FrameError, FrameType, Label};
use crate::hello::{CurrentEra, Hello, PROTOCOLS, Welcome};
use crate::id::Payload;
use crate::identity::Name;
use crate::link::{FrameReader, Hold, LinkError, Liveness, Outgoing, write_frames, write_one};
use crate::message::{self, Request, Response};
use crate::metrics;
use crate::transport::Lane;
use bytes::Bytes;
use parking_lot::Mutex;
use ringfort_ring::id::{ClusterId, NodeId};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

/// Frames in the queue of one connection. What is behind waits in its caller.
const QUEUE: usize = 32;

/// How one connection is to behave.
#[derive(Clone)]
pub(crate) struct ConnectionOptions {
    pub(crate) lane: Lane,
    pub(crate) in_flight_max: usize,
    pub(crate) liveness: Liveness,
    pub(crate) era: Arc<CurrentEra>,
}

/// A handle on a connection. The connection closes when the last handle is gone.
#[derive(Clone)]
pub(crate) struct Connection {
    queue: mpsc::Sender<Outgoing<Asked>>,
    shared: Arc<Shared>,
}

struct Shared {
    lane: Lane,
    era: Arc<CurrentEra>,
    next_id: AtomicU64,
    permits: Semaphore,
    pending: Mutex<Pending>,
    /// True: no new calls, please; or the connection has ended.
    leaving: watch::Sender<bool>,
}

#[derive(Default)]
struct Pending {
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    ended: Option<CallError>,
}

/// What came back for a request.
type Answer = Result<(FrameType, u16, Bytes, Payload), CallError>;

/// A request in the queue: not worth sending when its caller has gone.
pub(crate) struct Asked(Option<Arc<AtomicBool>>);

impl Hold for Asked {
    fn is_wanted(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|is_dropped| !is_dropped.load(Ordering::Acquire))
    }
}

impl Connection {
    /// Says hello on a fresh stream, awaits the welcome, and starts the connection's task.
    /// Cancelling drops the stream: nothing else was done.
    pub(crate) async fn open<S>(
        mut stream: S,
        name: Option<&Name>,
        sender: &Name,
        options: ConnectionOptions,
    ) -> Result<Self, CallError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let liveness = options.liveness;
        let (protocol_min, protocol_max) = PROTOCOLS;
        let hello = Hello {
            protocol_min,
            protocol_max,
            cluster: Some(sender.cluster),
            sender: sender.id,
            role: sender.role,
            lane: options.lane.number(),
            extensions: Vec::new(),
        };
        say_hello(&mut stream, &hello, &options.era, liveness.stall_max).await?;
        let (read, write) = tokio::io::split(stream);
        let mut reader = FrameReader::new(read, liveness.silence_max);
        let welcome = read_welcome(&mut reader).await?;
        expect_cluster(&welcome, sender.cluster)?;
        if name.is_some_and(|name| name.id != welcome.node) {
            return Err(broken("the node's certificate and its welcome differ"));
        }
        let (queue, queued) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            lane: options.lane,
            era: options.era,
            next_id: AtomicU64::new(1),
            permits: Semaphore::new(options.in_flight_max),
            pending: Mutex::default(),
            leaving: watch::Sender::new(false),
        });
        tokio::spawn(run(Arc::clone(&shared), reader, write, queued, liveness));
        Ok(Self { queue, shared })
    }

    /// Whether new calls may use it.
    pub(crate) fn is_open(&self) -> bool {
        !*self.shared.leaving.borrow()
    }

    /// Waits until it takes no new calls any more.
    pub(crate) fn left(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut leaving = self.shared.leaving.subscribe();
        async move {
            // An error says that the connection is gone altogether.
            let _ = leaving.wait_for(|is_leaving| *is_leaving).await;
        }
    }

    /// Sends a request and awaits its answer. Cancelling tells the node that nobody waits any more.
    pub(crate) async fn call(
        self,
        request: Request,
        payload: Payload,
        deadline: Instant,
    ) -> Result<(Response, Payload), CallError> {
        let shared = &self.shared;
        let permit = timeout_at(deadline, shared.permits.acquire())
            .await
            .map_err(|_| CallError::TimedOut)?
            .map_err(|_| broken("the connection was closed"))?;
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let left = deadline.saturating_duration_since(Instant::now());
        let label = Label {
            frame_type: FrameType::Request,
            kind: request.kind(),
            id,
            deadline_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1),
            era: shared.era.get(),
        };
        let frame = Frame::new(label, &request.encode(), payload).map_err(too_long)?;
        metrics::sent(shared.lane, frame.head.len() + frame.payload.len());
        let (answer, answered) = oneshot::channel();
        let is_dropped = Arc::new(AtomicBool::new(false));
        let call = OpenCall {
            connection: &self,
            id,
            is_dropped: Arc::clone(&is_dropped),
        };
        {
            let mut pending = shared.pending.lock();
            if let Some(error) = &pending.ended {
                return Err(error.clone());
            }
            pending.waiting.insert(id, answer);
        }
        let outgoing = Outgoing {
            frame,
            hold: Asked(Some(is_dropped)),
        };
        let exchange = async {
            // Where the queue is gone, the connection's end answers below.
            let _ = self.queue.send(outgoing).await;
            answered
                .await
                .unwrap_or_else(|_| Err(broken("the connection was closed")))
        };
        let outcome = timeout_at(deadline, exchange).await;
        drop(call);
        drop(permit);
        let (frame_type, kind, body, payload) = outcome.map_err(|_| CallError::TimedOut)??;
        metrics::received(shared.lane, body.len() + payload.len());
        if frame_type == FrameType::Error {
            return Err(CallError::Refused(message::decode(&body)?));
        }
        if kind != label.kind {
            let what = format!("asked for kind {}, answered with kind {kind}", label.kind);
            return Err(NodeError::new(NodeErrorCode::Malformed, what).into());
        }
        Ok((Response::decode(kind, &body)?, payload))
    }
}

/// A call under way; dropped before its answer, it is forgotten here and cancelled there.
struct OpenCall<'a> {
    connection: &'a Connection,
    id: u64,
    is_dropped: Arc<AtomicBool>,
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        let shared = &self.connection.shared;
        let was_waiting = shared.pending.lock().waiting.remove(&self.id).is_some();
        if was_waiting {
            self.is_dropped.store(true, Ordering::Release);
            let cancel = Label {
                id: self.id,
                ..Label::plain(FrameType::Cancel, shared.era.get())
            };
            // A full queue drops the cancellation: the request then ends there by its own deadline.
            let _ = self.connection.queue.try_send(Outgoing {
                frame: Frame::bare(cancel),
                hold: Asked(None),
            });
        }
    }
}

/// Opens the conversation.
pub(crate) async fn say_hello<S: AsyncWrite + Unpin>(
    stream: &mut S,
    hello: &Hello,
    era: &CurrentEra,
    stall_max: Duration,
) -> Result<(), CallError> {
    let label = Label::plain(FrameType::Hello, era.get());
    let frame = Frame::new(label, &message::encode(hello), Bytes::new()).map_err(too_long)?;
    write_one(stream, frame, stall_max)
        .await
        .map_err(unreachable)
}

/// Reads the answer to a hello.
pub(crate) async fn read_welcome<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
) -> Result<Welcome, CallError> {
    let header = reader.header().await.map_err(unreachable)?;
    let (body, _) = reader.data(&header).await.map_err(unreachable)?;
    match header.frame_type {
        FrameType::Welcome => Ok(message::decode(&body)?),
        FrameType::Error => Err(CallError::Refused(message::decode(&body)?)),
        other => Err(broken(&format!("a {other:?} where a welcome should be"))),
    }
}

fn expect_cluster(welcome: &Welcome, cluster: ClusterId) -> Result<(), CallError> {
    if welcome.cluster == cluster {
        return Ok(());
    }
    let what = format!("the node is of cluster {}, not {cluster}", welcome.cluster);
    Err(NodeError::new(NodeErrorCode::WrongCluster, what).into())
}

async fn run<R, W>(
    shared: Arc<Shared>,
    mut reader: FrameReader<R>,
    mut write: W,
    mut queued: mpsc::Receiver<Outgoing<Asked>>,
    liveness: Liveness,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let _open = metrics::OpenConnection::new(shared.lane);
    // Both halves live in one task: they share the TLS state, and would wait for each other's lock otherwise.
    // The half that does not end first is dropped with the connection.
    let end = tokio::select! {
        end = read_answers(&shared, &mut reader) => end,
        end = write_frames(&mut write, &mut queued, liveness, &shared.era) => end,
    };
    let error = match end {
        Ok(()) => broken("the connection was closed"),
        Err(error) => unreachable(error),
    };
    let waiting = {
        let mut pending = shared.pending.lock();
        pending.ended = Some(error.clone());
        std::mem::take(&mut pending.waiting)
    };
    shared.leaving.send_replace(true);
    for (_, answer) in waiting {
        // A caller that has gone needs no answer.
        let _ = answer.send(Err(error.clone()));
    }
    // A farewell, so that the node does not take the end for an accident.
    let _ = timeout(liveness.stall_max, write.shutdown()).await;
}

async fn read_answers<R: AsyncRead + Unpin>(
    shared: &Shared,
    reader: &mut FrameReader<R>,
) -> Result<(), LinkError> {
    loop {
        let header = reader.header().await?;
        let (body, payload) = reader.data(&header).await?;
        match header.frame_type {
            FrameType::Response | FrameType::Error if header.id != 0 => {
                let answer = shared.pending.lock().waiting.remove(&header.id);
                // None: the caller has gone; some answers were under way already.
                if let Some(answer) = answer {
                    let _ = answer.send(Ok((header.frame_type, header.kind, body, payload)));
                }
            }
            FrameType::Heartbeat => {}
            FrameType::GoAway => {
                shared.leaving.send_replace(true);
            }
            other => return Err(LinkError::Protocol(format!("an unexpected {other:?}"))),
        }
    }
}

pub(crate) fn broken(why: &str) -> CallError {
    CallError::Unreachable(why.to_owned())
}

#[allow(clippy::needless_pass_by_value, reason = "shaped for `map_err`")]
pub(crate) fn unreachable(error: LinkError) -> CallError {
    CallError::Unreachable(error.to_string())
}

#[allow(clippy::needless_pass_by_value, reason = "shaped for `map_err`")]
pub(crate) fn too_long(error: FrameError) -> CallError {
    NodeError::new(NodeErrorCode::Malformed, error.to_string()).into()
}

/// The node that a handshake proved.
pub(crate) fn node_of(name: Option<Name>) -> Result<NodeId, CallError> {
    name.map(|name| name.id)
        .ok_or_else(|| broken("the node showed no certificate"))
}
