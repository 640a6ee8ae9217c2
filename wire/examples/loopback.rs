//! How fast the transport is by itself: client and server in one process, over TLS on the loopback device.
//!
//! `cargo run --release -p ringfort-wire --example loopback`: small calls a second with 64 at once, and bytes a second
//! of 4 MiB payloads each way with 8 at once. What it leaves out: disks, and the network.

#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot start has nothing to say"
)]

use ringfort_ring::id::{ClusterId, Epoch, NodeId, PartitionId};
use ringfort_ring::quorum::Replica;
use ringfort_wire::authority::Authority;
use ringfort_wire::client::{ClientOptions, TcpTransport};
use ringfort_wire::environment::Environment;
use ringfort_wire::error::NodeError;
use ringfort_wire::id::{ChunkId, Payload};
use ringfort_wire::identity::{Identity, NodeKey};
use ringfort_wire::message::{
    FetchChunkReply, FetchChunkRequest, PingReply, PingRequest, Request, Response, Role,
};
use ringfort_wire::server::{ServerOptions, serve};
use ringfort_wire::transport::{BoxFuture, Lane, Peer, Service, Transport};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

const NODE: NodeId = NodeId([1; 16]);
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
const FOR: Duration = Duration::from_secs(5);

struct Answers(Payload);

impl Service for Answers {
    fn handle(
        &self,
        _peer: Peer,
        request: Request,
        _payload: Payload,
    ) -> BoxFuture<Result<(Response, Payload), NodeError>> {
        let answer = match request {
            Request::FetchChunk(_) => {
                (Response::FetchChunk(FetchChunkReply::Found), self.0.clone())
            }
            _ => (
                Response::Ping(PingReply {
                    clock_ms: 0,
                    layout_version: 0,
                    horizon_wait_ms: 0,
                    serving: Vec::new(),
                }),
                Payload::new(),
            ),
        };
        Box::pin(std::future::ready(Ok(answer)))
    }
}

fn identity(authority: &Authority, id: NodeId, role: Role) -> Identity {
    let key = NodeKey::generate().unwrap();
    let certificate = authority
        .issue(&key.signing_request().unwrap(), id, role)
        .unwrap();
    Identity::new(key, certificate, authority.certificate().to_vec()).unwrap()
}

fn ping() -> Request {
    Request::Ping(PingRequest {})
}

fn fetch() -> Request {
    Request::FetchChunk(FetchChunkRequest {
        to: Replica {
            disk: ringfort_ring::id::DiskId([1; 16]),
            joined: Epoch(1),
        },
        partition: PartitionId(1),
        epoch: Epoch(1),
        id: ChunkId([1; 16]),
        from: 0,
        len: u32::try_from(CHUNK_BYTES).unwrap(),
    })
}

/// Calls a second, with so many at once.
async fn calls_per_s(
    transport: &Arc<TcpTransport>,
    lane: Lane,
    at_once: usize,
    request: fn() -> Request,
    payload: &Payload,
) -> f64 {
    let done = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..at_once {
        let transport = Arc::clone(transport);
        let payload = payload.clone();
        let done = Arc::clone(&done);
        callers.spawn(async move {
            while started.elapsed() < FOR {
                transport
                    .send(NODE, lane, request(), payload.clone(), FOR * 4)
                    .await
                    .unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let calls = u32::try_from(done.load(Ordering::Relaxed)).unwrap();
    f64::from(calls) / started.elapsed().as_secs_f64()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let authority = Authority::create(ClusterId([1; 16])).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let node = identity(&authority, NODE, Role::Node);
    let chunk = Payload::from(vec![7; CHUNK_BYTES]);
    let service = Arc::new(Answers(chunk.clone()));
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        let options = ServerOptions::default();
        serve(listener, &node, service, Arc::default(), options, stopped)
            .await
            .unwrap();
    });
    let gateway = identity(&authority, NodeId([2; 16]), Role::Gateway);
    let options = ClientOptions::default();
    let transport =
        TcpTransport::new(&gateway, Arc::default(), options, Environment::os()).unwrap();
    transport.set_address(NODE, &address);

    let nothing = Payload::new();
    let mib = 4.0;
    for at_once in [1, 64] {
        let rate = calls_per_s(&transport, Lane::Metadata, at_once, ping, &nothing).await;
        println!("small calls, {at_once} at once: {rate:.0} calls/s");
    }
    let rate = calls_per_s(&transport, Lane::Chunks, 8, ping, &chunk).await;
    println!("4 MiB sent, 8 at once: {:.0} MiB/s", rate * mib);
    let rate = calls_per_s(&transport, Lane::Chunks, 8, fetch, &nothing).await;
    println!("4 MiB fetched, 8 at once: {:.0} MiB/s", rate * mib);
}
