//! What the tests of the transport share: an authority, identities, services, and a server on a loopback port.
#![allow(clippy::unwrap_used, reason = "test code")]

use crate::authority::Authority;
use crate::client::{ClientOptions, TcpTransport};
use crate::environment::Environment;
use crate::error::{NodeError, NodeErrorCode};
use crate::hello::CurrentEra;
use crate::id::{ChunkId, Payload};
use crate::identity::{Identity, NodeKey};
use crate::message::*;
use crate::server::{ServerOptions, serve};
use crate::transport::{BoxFuture, Peer, Service};
use ringfort_ring::id::{ClusterId, Epoch, Era, NodeId, PartitionId};
use ringfort_ring::quorum::Replica;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub(crate) const CLUSTER: ClusterId = ClusterId([9; 16]);
pub(crate) const A: NodeId = NodeId([0xa; 16]);
pub(crate) const B: NodeId = NodeId([0xb; 16]);
pub(crate) const GATEWAY: NodeId = NodeId([0xc; 16]);
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) fn ping() -> Request {
    Request::Ping(PingRequest {})
}

pub(crate) fn pong() -> Response {
    Response::Ping(PingReply {
        clock_ms: 1,
        layout_version: 2,
        horizon_wait_ms: 3,
        serving: Vec::new(),
    })
}

/// A request that only a current era may make. Its `len` tells [`Echo`] what to do.
pub(crate) fn fetch(len: u32) -> Request {
    Request::FetchChunk(FetchChunkRequest {
        to: Replica {
            disk: ringfort_ring::id::DiskId([1; 16]),
            joined: Epoch(1),
        },
        partition: PartitionId(1),
        epoch: Epoch(1),
        id: ChunkId([1; 16]),
        from: 0,
        len,
    })
}

/// A `len` at which [`Echo`] never answers.
pub(crate) const HANG: u32 = u32::MAX;
/// A `len` at which [`Echo`] panics.
pub(crate) const PANIC: u32 = u32::MAX - 1;

pub(crate) fn join_request() -> JoinRequest {
    JoinRequest {
        secret: [5; 32],
        role: Role::Node,
        id: B,
        name: "b".to_owned(),
        address: "127.0.0.1:1".to_owned(),
        zone: "z".to_owned(),
        disks: Vec::new(),
        csr: Vec::new(),
    }
}

/// Gives payloads back, says whom it heard, and can hang.
pub(crate) struct Echo {
    hangs_always: bool,
    seen: mpsc::UnboundedSender<Event>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Started(Peer, &'static str),
    Dropped,
}

impl Echo {
    pub(crate) fn shared() -> Arc<dyn Service> {
        Self::watched().0
    }

    pub(crate) fn watched() -> (Arc<dyn Service>, mpsc::UnboundedReceiver<Event>) {
        Self::of(false)
    }

    pub(crate) fn that_never_answers() -> (Arc<dyn Service>, mpsc::UnboundedReceiver<Event>) {
        Self::of(true)
    }

    fn of(hangs_always: bool) -> (Arc<dyn Service>, mpsc::UnboundedReceiver<Event>) {
        let (seen, events) = mpsc::unbounded_channel();
        (Arc::new(Self { hangs_always, seen }), events)
    }
}

struct OnDrop(mpsc::UnboundedSender<Event>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(Event::Dropped);
    }
}

impl Service for Echo {
    fn handle(
        &self,
        peer: Peer,
        request: Request,
        payload: Payload,
    ) -> BoxFuture<Result<(Response, Payload), NodeError>> {
        let _ = self.seen.send(Event::Started(peer, request.name()));
        let hang = self.hangs_always;
        let seen = self.seen.clone();
        Box::pin(async move {
            match request {
                _ if hang => {
                    let _guard = OnDrop(seen);
                    std::future::pending().await
                }
                Request::Ping(_) => Ok((pong(), payload)),
                Request::FetchChunk(fetch) if fetch.len == HANG => {
                    let _guard = OnDrop(seen);
                    std::future::pending().await
                }
                Request::FetchChunk(fetch) if fetch.len == PANIC => panic!("as asked"),
                Request::FetchChunk(fetch) => {
                    let bytes = vec![fetch.len.to_le_bytes()[0]; fetch.len as usize];
                    Ok((Response::FetchChunk(FetchChunkReply::Found), bytes.into()))
                }
                Request::Join(_) => Ok((
                    Response::Join(JoinReply::Refused("no".to_owned())),
                    Payload::new(),
                )),
                _ => Err(NodeError::new(NodeErrorCode::Full, "as asked")),
            }
        })
    }
}

pub(crate) fn identity(authority: &Authority, id: NodeId, role: Role) -> Identity {
    let key = NodeKey::generate().unwrap();
    let certificate = authority
        .issue(&key.signing_request().unwrap(), id, role)
        .unwrap();
    Identity::new(key, certificate, authority.certificate().to_vec()).unwrap()
}

/// A server on a loopback port.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) task: JoinHandle<()>,
    pub(crate) era: Arc<CurrentEra>,
}

impl Served {
    pub(crate) async fn start(identity: Identity, service: Arc<dyn Service>) -> Self {
        Self::start_with(identity, service, ServerOptions::default()).await
    }

    pub(crate) async fn start_with(
        identity: Identity,
        service: Arc<dyn Service>,
        options: ServerOptions,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let era = Arc::new(CurrentEra::new(Era(1)));
        let its_era = Arc::clone(&era);
        let task = tokio::spawn(async move {
            serve(listener, &identity, service, its_era, options, stopped)
                .await
                .unwrap();
        });
        Self {
            address,
            stop,
            task,
            era,
        }
    }

    /// As a kill does it: everything is dropped at once.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

pub(crate) fn client(identity: &Identity, era: u32, options: ClientOptions) -> Arc<TcpTransport> {
    let era = Arc::new(CurrentEra::new(Era(era)));
    TcpTransport::new(identity, era, options, Environment::os()).unwrap()
}
