//! The layout: what it is, what a change comes to, and changes.

use super::Context;
use super::problem::{Body, ProblemAnswer};
use crate::coordinator::Coordinator;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use ringfort_admin::change::ChangeRequest;
use ringfort_admin::layout::{Changed, LayoutPlan, LayoutState, NODE_BYTES_PER_S};
use ringfort_ring::change::{LayoutChange, apply};
use ringfort_ring::id::NodeId;
use ringfort_ring::layout::Layout;
use ringfort_ring::plan::preview;
use ringfort_wire::error::CallError;
use ringfort_wire::message::NodeStatusReply;
use ringfort_wire::transport::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Has a change made by whoever decides the layout: the version that has it, or why not.
pub type ChangeLayout = Arc<dyn Fn(LayoutChange) -> BoxFuture<Result<u64, String>> + Send + Sync>;

/// Has changes made by the control set, whichever process is asked.
#[must_use]
pub fn by_the_control_set(coordinator: Arc<Coordinator>) -> ChangeLayout {
    Arc::new(move |change| {
        let coordinator = Arc::clone(&coordinator);
        Box::pin(async move {
            let change = postcard::to_allocvec(&change).map_err(|error| error.to_string())?;
            coordinator.change_layout(change.into()).await
        })
    })
}

pub(super) async fn show(
    State(context): State<Context>,
) -> Result<Json<LayoutState>, ProblemAnswer> {
    let layout = current(&context)?;
    off_thread(move || LayoutState::new(&layout)).await
}

pub(super) async fn plan(
    State(context): State<Context>,
    Body(wanted): Body<ChangeRequest>,
) -> Result<Json<LayoutPlan>, ProblemAnswer> {
    let layout = current(&context)?;
    let next = if wanted.changes.is_empty() {
        Layout::clone(&layout)
    } else {
        let change = wanted.resolve(&layout).map_err(invalid)?;
        apply(&layout, &change).map_err(|why| refused(why.to_string()))?
    };
    let statuses = context.gateway.coordinator().node_statuses().await;
    let replica_bytes = replica_bytes(&layout, &statuses);
    let rate = wanted.node_bytes_per_s.unwrap_or(NODE_BYTES_PER_S);
    off_thread(move || {
        let preview = preview(&layout, &next, |_| replica_bytes);
        LayoutPlan::new(&layout, &preview, replica_bytes, rate)
    })
    .await
}

pub(super) async fn change(
    State(context): State<Context>,
    Body(wanted): Body<ChangeRequest>,
) -> Result<Json<Changed>, ProblemAnswer> {
    let layout = current(&context)?;
    let change = wanted.resolve(&layout).map_err(invalid)?;
    // Refused here already where it would be: the one who decides need not be asked.
    apply(&layout, &change).map_err(|why| refused(why.to_string()))?;
    let change_layout = context.change_layout.ok_or_else(|| {
        refused(
            "this process cannot change the layout: ask the admin API of a storage node".to_owned(),
        )
    })?;
    let version = change_layout(change).await.map_err(refused)?;
    tracing::info!(version, change = ?wanted.changes, "the layout was changed");
    Ok(Json(Changed { version }))
}

fn current(context: &Context) -> Result<Arc<Layout>, ProblemAnswer> {
    context.gateway.coordinator().layout().ok_or_else(|| {
        ProblemAnswer::new(
            StatusCode::CONFLICT,
            "NoLayout",
            "the cluster has no layout yet: it is formed when all nodes have joined",
        )
    })
}

fn invalid(why: String) -> ProblemAnswer {
    ProblemAnswer::new(StatusCode::BAD_REQUEST, "Invalid", why)
}

fn refused(why: String) -> ProblemAnswer {
    ProblemAnswer::new(StatusCode::CONFLICT, "Refused", why)
}

/// A large layout takes a second to think about: not where requests are served.
async fn off_thread<T: Send + 'static>(
    think: impl FnOnce() -> T + Send + 'static,
) -> Result<Json<T>, ProblemAnswer> {
    match tokio::task::spawn_blocking(think).await {
        Ok(answer) => Ok(Json(answer)),
        Err(error) => Err(ProblemAnswer::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Failed",
            format!("the layout could not be judged: {error}"),
        )),
    }
}

/// What a replica holds on average, by the disks that answered.
fn replica_bytes(
    layout: &Layout,
    statuses: &[(NodeId, Result<NodeStatusReply, CallError>)],
) -> u64 {
    let mut partitions = BTreeMap::new();
    for member in layout.rows.iter().flat_map(|row| row.holders()) {
        if let Some(disk) = layout.disks.get(usize::from(member.disk)) {
            *partitions.entry(disk.id).or_insert(0_u64) += 1;
        }
    }
    let answered = statuses.iter().filter_map(|(_, reply)| reply.as_ref().ok());
    let (mut bytes, mut replicas) = (0_u64, 0_u64);
    for disk in answered.flat_map(|reply| &reply.disks) {
        if let Some(count) = partitions.get(&disk.id) {
            bytes = bytes.saturating_add(disk.live_bytes);
            replicas += count;
        }
    }
    bytes.checked_div(replicas).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use ringfort_ring::assign::first_layout;
    use ringfort_ring::id::{ClusterId, DiskId};
    use ringfort_ring::topology::{DiskSpec, NodeSpec, Topology};
    use ringfort_wire::message::DiskStatus;

    #[test]
    fn a_replica_holds_what_the_disks_that_answer_hold_on_average() {
        let node = |number: u128| NodeSpec {
            id: NodeId::from_u128(number),
            name: format!("n{number}"),
            address: "127.0.0.1:1".to_owned(),
            zone: String::new(),
            disks: vec![DiskSpec {
                id: DiskId::from_u128(number),
                capacity_bytes: 1,
            }],
        };
        let topology = Topology {
            cluster: ClusterId::from_u128(1),
            replicas: 3,
            nodes: (1..=3).map(node).collect(),
            control: vec![NodeId::from_u128(1)],
        };
        let layout = first_layout(&topology, 10).unwrap();
        let disk = |number: u128, live_bytes| DiskStatus {
            id: DiskId::from_u128(number),
            writes_closed: None,
            rows: 0,
            chunks: 0,
            live_bytes,
            garbage_bytes: 0,
            free_bytes: 0,
            total_bytes: 0,
            missing_chunks: 0,
            recovery: Vec::new(),
        };
        let reply = |number: u128, disks| {
            let node = NodeId::from_u128(number);
            let reply = NodeStatusReply {
                node,
                release: String::new(),
                uptime_s: 1,
                layout_version: 1,
                disks,
            };
            (node, Ok(reply))
        };
        // The second is silent; the third shows a disk that the layout does not name.
        let statuses = [
            reply(1, vec![disk(1, 1_000)]),
            (NodeId::from_u128(2), Err(CallError::TimedOut)),
            reply(3, vec![disk(3, 3_000), disk(9, 77_000)]),
        ];
        assert_eq!(replica_bytes(&layout, &statuses), 200);
        assert_eq!(replica_bytes(&layout, &[]), 0);
    }
}
