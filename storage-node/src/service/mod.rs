//! One exhaustive match from request to the disk that carries it out.

use crate::node::Node;
use crate::replica::{DiskReplica, list};
use ringfort_ring::id::DiskId;
use ringfort_wire::error::{NodeError, NodeErrorCode};
use ringfort_wire::id::Payload;
use ringfort_wire::message::{
    DeleteChunksReply, DeleteChunksRequest, DigestsReply, GarbageStatusReply, GetLayoutReply,
    LeafSet, NodeStatusReply, NoteChunksReply, PingReply, RaiseReply, RaiseRequest, Request,
    Response, ScrubStatusReply, SyncStatusReply,
};
use ringfort_wire::transport::{BoxFuture, Peer, Service};
use std::sync::Arc;
use std::time::Duration;

impl Service for Node {
    fn handle(
        &self,
        peer: Peer,
        request: Request,
        payload: Payload,
    ) -> BoxFuture<Result<(Response, Payload), NodeError>> {
        let node = self.clone();
        Box::pin(async move {
            if peer == Peer::Stranger {
                return Err(NodeError::new(
                    NodeErrorCode::Unauthorised,
                    "only members may ask this",
                ));
            }
            answer(&node, request, payload).await
        })
    }
}

async fn answer(
    node: &Node,
    request: Request,
    payload: Payload,
) -> Result<(Response, Payload), NodeError> {
    let plain = |response| Ok((response, Payload::new()));
    match request {
        Request::Prepare(request) => {
            let disk = node.disk(request.to.disk)?;
            plain(Response::Prepare(disk.prepare(request).await?))
        }
        Request::Accept(request) => {
            let disk = node.disk(request.to.disk)?;
            plain(Response::Accept(disk.accept(request, payload).await?))
        }
        Request::Read(request) => {
            let disk = node.disk(request.to.disk)?;
            let (reply, body) = disk.read(request).await?;
            Ok((Response::Read(reply), body))
        }
        Request::ReadParts(request) => {
            let disk = node.disk(request.to.disk)?;
            plain(Response::ReadParts(disk.read_parts(request).await?))
        }
        Request::List(request) => plain(Response::List(
            list::list(node.disks_open(), request).await?,
        )),
        Request::Raise(request) => plain(Response::Raise(raise(node, request).await?)),
        Request::StoreChunk(request) => {
            let disk = node.disk(request.to.disk)?;
            plain(Response::StoreChunk(
                disk.store_chunk(request, payload).await?,
            ))
        }
        Request::FetchChunk(request) => {
            let disk = node.disk(request.to.disk)?;
            let (reply, data) = disk.fetch_chunk(request).await?;
            Ok((Response::FetchChunk(reply), data))
        }
        Request::DeleteChunks(request) => {
            plain(Response::DeleteChunks(delete_chunks(node, &request)))
        }
        Request::NoteChunks(request) => {
            let mut noted = 0;
            for (replica, chunk, owner) in request.chunks {
                if let Ok(disk) = node.disk(replica.disk) {
                    noted += u32::from(disk.note_chunk(chunk, owner));
                }
            }
            plain(Response::NoteChunks(NoteChunksReply { noted }))
        }
        Request::Digests(request) => {
            let Some((first, ..)) = request.replicas.first() else {
                return plain(Response::Digests(DigestsReply {
                    digests: Vec::new(),
                }));
            };
            plain(Response::Digests(node.disk(first.disk)?.digests(&request)?))
        }
        Request::ScanRows(request) => {
            let disk = disk_of(node, &request.wanted)?;
            plain(Response::ScanRows(disk.scan_rows(request).await?))
        }
        Request::ScanChunks(request) => {
            let disk = disk_of(node, &request.wanted)?;
            plain(Response::ScanChunks(disk.scan_chunks(request).await?))
        }
        Request::SyncFacts(request) => {
            let disk = disk_named(node, request.replicas.first().map(|(to, ..)| to.disk))?;
            plain(Response::SyncFacts(disk.sync_facts(&request)?))
        }
        Request::FetchRows(request) => {
            let disk = disk_named(node, request.rows.first().map(|(to, ..)| to.disk))?;
            let (reply, bodies) = disk.fetch_rows(request).await?;
            Ok((Response::FetchRows(reply), bodies))
        }
        Request::SyncStatus(_) => plain(Response::SyncStatus(sync_status(node))),
        Request::StartScrub(request) => plain(Response::StartScrub(node.start_scrub(&request))),
        Request::ScrubStatus(_) => plain(Response::ScrubStatus(ScrubStatusReply {
            disks: node.scrub_status(),
        })),
        Request::SurveyTombstones(request) => {
            let disk = node.disk(request.to.disk)?;
            plain(Response::SurveyTombstones(
                disk.survey_tombstones(request).await?,
            ))
        }
        Request::RaiseFloor(request) => {
            let disk = node.disk(request.to.disk)?;
            let age_ms = node.garbage_pace().tombstone_age_ms();
            plain(Response::RaiseFloor(
                disk.raise_floor(request, age_ms).await?,
            ))
        }
        Request::DropRows(request) => {
            let disk = node.disk(request.to.disk)?;
            plain(Response::DropRows(disk.drop_rows(request).await?))
        }
        Request::PrepareBound(request) => {
            let disk = node.disk(request.prepare.to.disk)?;
            let age_ms = node.garbage_pace().orphan_age_ms();
            plain(Response::PrepareBound(
                disk.prepare_bound(request, age_ms).await?,
            ))
        }
        Request::GarbageStatus(_) => plain(Response::GarbageStatus(garbage_status(node))),
        Request::Ping(_) => plain(Response::Ping(ping(node))),
        Request::GetLayout(request) => plain(Response::GetLayout(GetLayoutReply {
            layout: node
                .layout()
                .filter(|layout| layout.version > request.have_version)
                .map(|layout| (*layout).clone()),
        })),
        Request::NodeStatus(_) => plain(Response::NodeStatus(status(node))),
        Request::Join(_) => Err(NodeError::new(
            NodeErrorCode::Unauthorised,
            "this node does not admit members",
        )),
        Request::ControlPrepare(_)
        | Request::ControlAccept(_)
        | Request::OfferLayout(_)
        | Request::ChangeLayout(_) => Err(NodeError::new(
            NodeErrorCode::Unavailable,
            "the control register is answered in front of the node",
        )),
    }
}

fn disk_named(node: &Node, disk: Option<DiskId>) -> Result<&DiskReplica, NodeError> {
    let disk = disk.ok_or_else(|| NodeError::new(NodeErrorCode::Malformed, "nothing is asked"))?;
    node.disk(disk)
}

/// The one disk that a scan is for.
fn disk_of<'a>(node: &'a Node, wanted: &[LeafSet]) -> Result<&'a DiskReplica, NodeError> {
    let disk = wanted.first().map(|set| set.to.disk);
    disk.filter(|disk| wanted.iter().all(|set| set.to.disk == *disk))
        .ok_or_else(|| {
            NodeError::new(
                NodeErrorCode::Malformed,
                "a scan is for the replicas of one disk",
            )
        })
        .and_then(|disk| node.disk(disk))
}

async fn raise(node: &Node, request: RaiseRequest) -> Result<RaiseReply, NodeError> {
    let mut refusals = Vec::with_capacity(request.shards.len());
    for claim in &request.shards {
        let disk = node.disk(claim.to.disk)?;
        refusals.push(disk.raise(&request, claim).await?);
    }
    Ok(RaiseReply { refusals })
}

fn delete_chunks(node: &Node, request: &DeleteChunksRequest) -> DeleteChunksReply {
    let grace = Duration::from_millis(u64::from(request.grace_ms));
    let mut accepted = 0;
    for (replica, _, chunk) in &request.chunks {
        if let Ok(disk) = node.disk(replica.disk) {
            disk.deletions().add(*chunk, grace);
            accepted += 1;
        }
    }
    DeleteChunksReply { accepted }
}

fn ping(node: &Node) -> PingReply {
    let disks = node.disks_open();
    PingReply {
        clock_ms: node.environment().now_ms(),
        layout_version: node.layout().map_or(0, |layout| layout.version),
        horizon_wait_ms: disks
            .iter()
            .map(DiskReplica::horizon_wait_ms)
            .max()
            .unwrap_or(0),
        serving: disks
            .iter()
            .filter(|disk| disk.is_serving())
            .map(DiskReplica::id)
            .collect::<Vec<DiskId>>(),
    }
}

fn sync_status(node: &Node) -> SyncStatusReply {
    let mut reply = SyncStatusReply {
        layout_version: 0,
        synced: Vec::new(),
        learning: Vec::new(),
        lost: Vec::new(),
        silent: node.silences(),
        used: Vec::new(),
        closed: Vec::new(),
        copied: 0,
        copied_bytes: 0,
    };
    if let Some(layout) = node.layout() {
        reply.layout_version = layout.version;
        for disk in node.disks_open() {
            disk.sync_status(&layout, &mut reply);
            let status = disk.status();
            reply.used.push((disk.id(), status.live_bytes));
            if let Some(why) = status.writes_closed {
                reply.closed.push((disk.id(), why));
            }
        }
        let totals = node.join_totals();
        reply.copied = totals.rows + totals.chunks;
        reply.copied_bytes = totals.bytes;
    }
    reply
}

fn status(node: &Node) -> NodeStatusReply {
    NodeStatusReply {
        node: node.id(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: node.uptime_s(),
        layout_version: node.layout().map_or(0, |layout| layout.version),
        disks: node.disk_statuses(),
    }
}

fn garbage_status(node: &Node) -> GarbageStatusReply {
    let totals = node.garbage_totals();
    GarbageStatusReply {
        passes: totals.passes,
        tombstones: totals.last.tombstones,
        partitions_waiting: totals.last.partitions_waiting,
        rows_dropped: totals.all.rows_dropped,
        rows_emptied: totals.all.parts_emptied + totals.all.rows_buried,
        orphans: totals.all.orphans,
        chunks_deleted: totals.all.chunks_deleted,
        chunk_bytes_deleted: totals.all.chunk_bytes_deleted,
        failed: totals.last.failed,
    }
}

/// Lets an `Arc<Node>` be handed out as a service.
#[must_use]
pub fn as_service(node: &Node) -> Arc<dyn Service> {
    Arc::new(node.clone())
}
