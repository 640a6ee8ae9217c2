//! The cluster's state: the layout, what each node says of itself now, and what follows for the partitions.

use super::{Context, scrub};
use axum::Json;
use axum::extract::State;
use ringfort_admin::message::{
    ClusterStatus, DiskState, GarbageState, NodeState, PartitionsStatus,
};
use ringfort_ring::id::{DiskId, NodeId};
use ringfort_ring::layout::{Layout, Member, Members};
use ringfort_wire::error::CallError;
use ringfort_wire::message::{DiskStatus, GarbageStatusReply, NodeStatusReply};
use std::collections::{BTreeMap, BTreeSet};

type Replies = Vec<(NodeId, Result<NodeStatusReply, CallError>)>;

pub(super) async fn status(State(context): State<Context>) -> Json<ClusterStatus> {
    let coordinator = context.gateway.coordinator();
    let readiness = coordinator.readiness();
    let mut status = match coordinator.layout() {
        Some(layout) => {
            let (replies, scrubs, garbage) = tokio::join!(
                coordinator.node_statuses(),
                scrub::of_disks(coordinator),
                coordinator.garbage_statuses(),
            );
            let mut status = of_layout(&layout, replies);
            for disk in status.nodes.iter_mut().flat_map(|node| &mut node.disks) {
                disk.scrub = scrubs.get(&disk.id).cloned();
            }
            add_garbage(&mut status, garbage);
            status
        }
        None => empty(),
    };
    status.is_ready = readiness.is_ready;
    status.reason = readiness.reason;
    Json(status)
}

fn add_garbage(status: &mut ClusterStatus, garbage: Vec<(NodeId, GarbageStatusReply)>) {
    for (id, reply) in garbage {
        let id = id.to_string();
        if let Some(node) = status.nodes.iter_mut().find(|node| node.id == id) {
            node.garbage = Some(GarbageState {
                passes: reply.passes,
                tombstones: reply.tombstones,
                partitions_waiting: reply.partitions_waiting,
                rows_dropped: reply.rows_dropped,
                rows_emptied: reply.rows_emptied,
                orphans: reply.orphans,
                chunks_deleted: reply.chunks_deleted,
                chunk_bytes_deleted: reply.chunk_bytes_deleted,
                failed: reply.failed,
            });
        }
    }
}

fn empty() -> ClusterStatus {
    ClusterStatus {
        cluster_id: None,
        release: env!("CARGO_PKG_VERSION").to_owned(),
        is_ready: false,
        reason: String::new(),
        era: 0,
        layout_version: 0,
        replicas: 0,
        partitions: PartitionsStatus::default(),
        nodes: Vec::new(),
    }
}

fn of_layout(layout: &Layout, replies: Replies) -> ClusterStatus {
    let mut replies: BTreeMap<NodeId, _> = replies.into_iter().collect();
    let held = partitions_by_disk(layout);
    let mut serving = BTreeSet::new();
    let mut nodes = Vec::new();
    for (index, node) in layout.nodes.iter().enumerate() {
        let own = layout
            .disks
            .iter()
            .filter(|disk| usize::from(disk.node) == index)
            .map(|disk| disk.id);
        let own: BTreeSet<DiskId> = own.collect();
        let mut state = NodeState {
            id: node.id.to_string(),
            name: node.name.clone(),
            address: node.address.clone(),
            zone: node.zone.clone(),
            is_reachable: false,
            error: None,
            release: None,
            uptime_s: None,
            layout_version: None,
            disks: Vec::new(),
            garbage: None,
        };
        match replies.remove(&node.id) {
            Some(Ok(reply)) => {
                for disk in &reply.disks {
                    if own.contains(&disk.id) && disk.writes_closed.is_none() {
                        serving.insert(disk.id);
                    }
                }
                answered(&mut state, reply, &own, &held);
            }
            Some(Err(error)) => silent(&mut state, error.to_string(), &own, &held),
            None => silent(&mut state, "not asked".to_owned(), &own, &held),
        }
        nodes.push(state);
    }
    ClusterStatus {
        cluster_id: Some(layout.cluster.to_string()),
        era: layout.era.0,
        layout_version: layout.version,
        replicas: layout.replicas,
        partitions: judge_partitions(layout, &serving),
        nodes,
        ..empty()
    }
}

fn answered(
    state: &mut NodeState,
    reply: NodeStatusReply,
    own: &BTreeSet<DiskId>,
    held: &BTreeMap<DiskId, u64>,
) {
    state.is_reachable = true;
    state.release = Some(reply.release);
    state.uptime_s = Some(reply.uptime_s);
    state.layout_version = Some(reply.layout_version);
    let shown: BTreeSet<DiskId> = reply.disks.iter().map(|disk| disk.id).collect();
    state.disks = reply
        .disks
        .into_iter()
        .map(|disk| to_state(disk, own, held))
        .collect();
    for lost in own.difference(&shown) {
        let mut disk = unknown(*lost, held);
        disk.writes_closed = Some("the node does not have this disk".to_owned());
        state.disks.push(disk);
    }
}

fn silent(
    state: &mut NodeState,
    why: String,
    own: &BTreeSet<DiskId>,
    held: &BTreeMap<DiskId, u64>,
) {
    state.error = Some(why);
    state.disks = own.iter().map(|disk| unknown(*disk, held)).collect();
}

fn unknown(disk: DiskId, held: &BTreeMap<DiskId, u64>) -> DiskState {
    DiskState {
        id: disk.to_string(),
        is_in_layout: true,
        partitions: held.get(&disk).copied().unwrap_or(0),
        ..DiskState::default()
    }
}

fn to_state(disk: DiskStatus, own: &BTreeSet<DiskId>, held: &BTreeMap<DiskId, u64>) -> DiskState {
    DiskState {
        id: disk.id.to_string(),
        is_in_layout: own.contains(&disk.id),
        partitions: held.get(&disk.id).copied().unwrap_or(0),
        writes_closed: disk.writes_closed,
        rows: disk.rows,
        chunks: disk.chunks,
        live_bytes: disk.live_bytes,
        garbage_bytes: disk.garbage_bytes,
        free_bytes: disk.free_bytes,
        total_bytes: disk.total_bytes,
        missing_chunks: disk.missing_chunks,
        recovery: disk.recovery,
        scrub: None,
    }
}

fn sets(members: &Members) -> Vec<&[Member]> {
    match members {
        Members::Stable(members) => vec![members],
        Members::Joint { old, new } => vec![old, new],
    }
}

fn partitions_by_disk(layout: &Layout) -> BTreeMap<DiskId, u64> {
    let mut held = BTreeMap::new();
    for row in &layout.rows {
        let members = sets(&row.members).concat();
        let disks: BTreeSet<u16> = members.iter().map(|member| member.disk).collect();
        for disk in disks {
            if let Some(entry) = layout.disks.get(usize::from(disk)) {
                *held.entry(entry.id).or_insert(0) += 1;
            }
        }
    }
    held
}

/// A disk that is not in the layout, or whose writes are closed, does not count: its partition has one less.
fn judge_partitions(layout: &Layout, serving: &BTreeSet<DiskId>) -> PartitionsStatus {
    let mut status = PartitionsStatus::default();
    for row in &layout.rows {
        let serves = |member: &&Member| {
            layout
                .disks
                .get(usize::from(member.disk))
                .is_some_and(|disk| serving.contains(&disk.id))
        };
        let sets = sets(&row.members);
        let counts = sets
            .iter()
            .map(|set| (set.iter().filter(serves).count(), set.len()));
        let (mut is_whole, mut has_quorum) = (true, true);
        for (there, all) in counts {
            is_whole &= there == all;
            has_quorum &= there > all / 2;
        }
        status.total += 1;
        status.moving += u64::from(sets.len() > 1);
        match (is_whole, has_quorum) {
            (true, _) => status.whole += 1,
            (false, true) => status.degraded += 1,
            (false, false) => status.without_quorum += 1,
        }
    }
    status
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use ringfort_ring::id::{ClusterId, Epoch, Era};
    use ringfort_ring::layout::{DiskEntry, NodeEntry, Row};

    fn layout() -> Layout {
        let member = |disk| Member {
            disk,
            joined: Epoch(1),
        };
        let row = |disks: &[u16]| Row {
            epoch: Epoch(1),
            members: Members::Stable(disks.iter().map(|disk| member(*disk)).collect()),
        };
        let node = |number: u16| {
            NodeEntry::new(
                NodeId::from_u128(u128::from(number)),
                format!("n{number}"),
                format!("127.0.0.1:{number}"),
                String::new(),
            )
        };
        let disk =
            |number: u16| DiskEntry::new(DiskId::from_u128(u128::from(number) + 10), number, 1);
        Layout {
            cluster: ClusterId::from_u128(1),
            era: Era(0),
            version: 1,
            replicas: 3,
            control_epoch: Epoch(1),
            control: vec![0],
            control_before: Vec::new(),
            is_balancing_paused: false,
            nodes: (0..4).map(node).collect(),
            disks: (0..4).map(disk).collect(),
            rows: vec![
                row(&[0, 1, 2]),
                row(&[1, 2, 3]),
                row(&[2, 3, 0]),
                row(&[0, 1, 3]),
            ],
        }
    }

    fn reply(number: u128, closed: Option<&str>) -> (NodeId, Result<NodeStatusReply, CallError>) {
        let disk = DiskStatus {
            id: DiskId::from_u128(number + 10),
            writes_closed: closed.map(str::to_owned),
            rows: 5,
            chunks: 0,
            live_bytes: 0,
            garbage_bytes: 0,
            free_bytes: 0,
            total_bytes: 0,
            missing_chunks: 0,
            recovery: Vec::new(),
        };
        let node = NodeId::from_u128(number);
        let reply = NodeStatusReply {
            node,
            release: "x".to_owned(),
            uptime_s: 1,
            layout_version: 1,
            disks: vec![disk],
        };
        (node, Ok(reply))
    }

    #[test]
    fn partitions_are_judged_by_the_disks_that_serve() {
        let down = (NodeId::from_u128(1), Err(CallError::TimedOut));
        let replies = vec![
            reply(0, None),
            down,
            reply(2, Some("a sync failed")),
            reply(3, None),
        ];
        let status = of_layout(&layout(), replies);
        let partitions = status.partitions;
        assert_eq!(
            (
                partitions.total,
                partitions.whole,
                partitions.degraded,
                partitions.without_quorum
            ),
            (4, 0, 2, 2)
        );
        assert_eq!(status.nodes[1].error.as_deref(), Some("timed out"));
        assert_eq!(status.nodes[1].disks[0].partitions, 3);
        assert!(status.nodes[0].is_reachable);
        assert_eq!(status.nodes[0].disks[0].rows, 5);
    }

    #[test]
    fn a_disk_that_its_node_lost_is_shown_and_does_not_count() {
        let (node, mut lost) = reply(0, None);
        lost.as_mut().unwrap().disks.clear();
        let replies = vec![(node, lost), reply(1, None), reply(2, None), reply(3, None)];
        let status = of_layout(&layout(), replies);
        assert_eq!(
            (status.partitions.whole, status.partitions.degraded),
            (1, 3)
        );
        let disk = &status.nodes[0].disks[0];
        assert!(disk.is_in_layout && disk.writes_closed.is_some());
    }
}
