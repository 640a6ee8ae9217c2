//! A cluster in memory for the coordinator's tests: three replicas of one partition that go by `ring`'s acceptor, and
//! answer otherwise where a test says so. No disk, no restart, no lists of its own.

use super::{Coordinator, CoordinatorOptions};
use bytes::Bytes;
use parking_lot::Mutex;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{ClusterId, DiskId, Epoch, Era, Generation, NodeId};
use ringfort_ring::layout::{DiskEntry, Layout, Member, Members, NodeEntry, Row};
use ringfort_ring::register::acceptor::{self, Accepting, Guard, Slot};
use ringfort_wire::environment::Environment;
use ringfort_wire::error::{CallError, NodeError, NodeErrorCode};
use ringfort_wire::id::{ChunkId, Payload, RowKey};
use ringfort_wire::message::*;
use ringfort_wire::transport::{BoxFuture, Lane, Transport};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What a node answers.
pub(super) type Reply = Result<(Response, Bytes), CallError>;
/// Answers instead of a node, where it answers at all.
type Script = dyn Fn(usize, &Request) -> Option<Reply> + Send + Sync;

#[derive(Default)]
pub(super) struct FakeNode {
    pub(super) rows: BTreeMap<RowKey, FakeRow>,
    pub(super) chunks: HashMap<ChunkId, Bytes>,
    pub(super) noted: Vec<ChunkId>,
    pub(super) is_full: bool,
}

#[derive(Default)]
pub(super) struct FakeRow {
    slot: Slot,
    pub(super) state: Bytes,
    pub(super) body: Bytes,
}

#[derive(Clone)]
pub(super) struct FakeCluster {
    pub(super) nodes: Arc<Mutex<[FakeNode; 3]>>,
    script: Arc<Mutex<Arc<Script>>>,
    environment: Environment,
}

impl FakeCluster {
    /// The cluster, and a coordinator over it. The sender keeps the layout in force.
    pub(super) fn new(
        options: CoordinatorOptions,
    ) -> (Self, Coordinator, watch::Sender<Option<Arc<Layout>>>) {
        let cluster = Self {
            nodes: Arc::default(),
            script: Arc::new(Mutex::new(Arc::new(|_, _| None))),
            environment: Environment::os(),
        };
        let (sender, known) = watch::channel(Some(Arc::new(layout())));
        let environment = cluster.environment.clone();
        let coordinator = Coordinator::new(Arc::new(cluster.clone()), known, environment, options);
        (cluster, coordinator, sender)
    }

    /// From now on asked before any node.
    pub(super) fn script(
        &self,
        script: impl Fn(usize, &Request) -> Option<Reply> + Send + Sync + 'static,
    ) {
        *self.script.lock() = Arc::new(script);
    }
}

pub(super) fn node_id(index: usize) -> NodeId {
    NodeId::from_u128(index as u128 + 1)
}

pub(super) fn full() -> CallError {
    NodeError::new(NodeErrorCode::Full, "full").into()
}

fn layout() -> Layout {
    let member = |disk| Member {
        disk,
        joined: Epoch(1),
    };
    Layout {
        cluster: ClusterId::from_u128(7),
        era: Era(0),
        version: 1,
        replicas: 3,
        control_epoch: Epoch(1),
        control: vec![0],
        control_before: Vec::new(),
        is_balancing_paused: false,
        nodes: (0..3)
            .map(|index| {
                NodeEntry::new(node_id(index), String::new(), String::new(), String::new())
            })
            .collect(),
        disks: (0..3_u8)
            .map(|node| DiskEntry::new(DiskId([node + 1; 16]), u16::from(node), 1))
            .collect(),
        rows: vec![Row {
            epoch: Epoch(1),
            members: Members::Stable(vec![member(0), member(1), member(2)]),
        }],
    }
}

impl Transport for FakeCluster {
    fn send(
        &self,
        node: NodeId,
        _: Lane,
        request: Request,
        payload: Payload,
        _: Duration,
    ) -> BoxFuture<Result<(Response, Payload), CallError>> {
        let cluster = self.clone();
        Box::pin(async move {
            // As over a network: nobody answers within the call.
            tokio::task::yield_now().await;
            let index = (0..3).find(|index| node_id(*index) == node).unwrap_or(0);
            let script = cluster.script.lock().clone();
            if let Some(reply) = script(index, &request) {
                return reply;
            }
            let now_ms = cluster.environment.now_ms();
            let node = &mut cluster.nodes.lock()[index];
            node.answer(request, payload, now_ms)
        })
    }
}

impl FakeNode {
    fn answer(&mut self, request: Request, payload: Bytes, now_ms: u64) -> Reply {
        let guard = Guard {
            epoch: Epoch(1),
            generation: Generation(0),
            floor: Ballot::ZERO,
            bound: Timestamp::ZERO,
            horizon: Timestamp::ZERO,
            now_ms,
            max_skew_ms: 500,
        };
        let plain = |response| Ok((response, Bytes::new()));
        match request {
            Request::Prepare(request) => {
                let row = self.rows.entry(request.key).or_default();
                if let Err(refusal) = acceptor::prepare(&row.slot, &guard, &request.claim) {
                    return plain(Response::Prepare(PrepareReply::Refused(refusal)));
                }
                row.slot.promised = request.claim.ballot;
                plain(Response::Prepare(PrepareReply::Promised {
                    accepted: row.slot.durable,
                    state: row.state(),
                    floor: Ballot::ZERO,
                    is_full: self.is_full,
                }))
            }
            Request::Accept(request) => {
                let row = self.rows.entry(request.key).or_default();
                match acceptor::accept(&row.slot, &guard, &request.claim) {
                    Err(refusal) => {
                        return plain(Response::Accept(AcceptReply::Refused(refusal)));
                    }
                    Ok(Accepting::Append) => {
                        row.slot = Slot {
                            promised: request.claim.ballot,
                            accepted: request.claim.ballot,
                            durable: request.claim.ballot,
                        };
                        (row.state, row.body) = (request.state, payload);
                    }
                    Ok(_) => {}
                }
                plain(Response::Accept(AcceptReply::Accepted))
            }
            Request::Read(request) => {
                let row = self.rows.entry(request.key).or_default();
                let reply = ReadReply::Row {
                    accepted: row.slot.durable,
                    state: row.state(),
                };
                let body = request.wants_body.then(|| row.body.clone());
                Ok((Response::Read(reply), body.unwrap_or_default()))
            }
            Request::StoreChunk(_) if self.is_full => Err(full()),
            Request::StoreChunk(request) => {
                self.chunks.insert(request.chunk.id, payload);
                plain(Response::StoreChunk(StoreChunkReply::Stored))
            }
            Request::FetchChunk(request) => match self.chunks.get(&request.id) {
                None => plain(Response::FetchChunk(FetchChunkReply::Missing)),
                Some(data) => {
                    let range = request.from as usize..(request.from + request.len) as usize;
                    let reply = Response::FetchChunk(FetchChunkReply::Found);
                    Ok((reply, data.slice(range)))
                }
            },
            Request::DeleteChunks(request) => {
                for (_, _, chunk) in &request.chunks {
                    self.chunks.remove(chunk);
                }
                let accepted = 0;
                plain(Response::DeleteChunks(DeleteChunksReply { accepted }))
            }
            Request::NoteChunks(request) => {
                self.noted
                    .extend(request.chunks.iter().map(|(_, chunk, _)| chunk.id));
                plain(Response::NoteChunks(NoteChunksReply { noted: 0 }))
            }
            other => Err(NodeError::new(NodeErrorCode::UnknownRequest, other.name()).into()),
        }
    }
}

impl FakeRow {
    fn state(&self) -> Option<Bytes> {
        (!self.slot.durable.is_zero()).then(|| self.state.clone())
    }
}
