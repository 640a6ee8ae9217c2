//! Drops the old tombstones of one partition: a look at all members, one floor, then the drops (DESIGN 4.10). What may be
//! dropped is `ring`'s to say ([`collect`]); here it is asked for and carried out.

use super::pass::Collector;
use futures_util::future::join_all;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::{Epoch, NodeId, PartitionId};
use ringfort_ring::layout::Layout;
use ringfort_ring::quorum::{QuorumRule, Replica};
use ringfort_ring::register::collect::{self, Holding, Verdict};
use ringfort_wire::id::RowKey;
use ringfort_wire::message::{
    DropRowsReply, DropRowsRequest, RaiseFloorReply, RaiseFloorRequest, SurveyTombstonesReply,
    SurveyTombstonesRequest, TOMBSTONES_MAX,
};

/// Rows and the ballots of their tombstones.
pub(super) type Tombstones = Vec<(RowKey, Ballot)>;

/// How it went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dropped {
    /// So many, on all members.
    Rows(u64),
    /// None, or not on all: a member is away, lacks a tombstone, or the layout has moved on.
    Waits,
    /// None: the rows have been written again.
    Nothing,
}

/// The members of a partition in one epoch: whatever is learnt and done names it.
struct Members {
    partition: PartitionId,
    epoch: Epoch,
    rule: QuorumRule,
    nodes: Vec<(Replica, NodeId)>,
}

impl Members {
    /// `None` while the partition moves.
    fn of(layout: &Layout, partition: PartitionId) -> Option<Self> {
        let (row, rule) = (layout.row(partition)?, layout.rule(partition)?);
        if rule.is_joint() {
            return None;
        }
        let nodes = rule
            .members()
            .into_iter()
            .map(|member| Some((member, layout.node_of(member.disk)?.id)))
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            partition,
            epoch: row.epoch,
            rule,
            nodes,
        })
    }
}

pub(super) async fn collect_partition(
    collector: &Collector,
    layout: &Layout,
    partition: PartitionId,
    rows: &Tombstones,
) -> Dropped {
    let Some(members) = Members::of(layout, partition) else {
        return Dropped::Waits;
    };
    let asked = members.nodes.iter().map(|(member, node)| async {
        let held = survey(collector, &members, *member, *node, rows).await?;
        Some((*member, held))
    });
    let answers: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
    if answers.len() < members.nodes.len() {
        return Dropped::Waits;
    }
    let (floor, rows) = match collect::judge(&members.rule, rows, &answers) {
        Verdict::Collect { floor, rows } => (floor, rows),
        Verdict::Behind => return Dropped::Waits,
        Verdict::No => return Dropped::Nothing,
    };
    let raised = members.nodes.iter().map(|(member, node)| async {
        let is_raised = raise(collector, &members, *member, *node, floor).await;
        is_raised.then_some(*member)
    });
    let raised: Vec<Replica> = join_all(raised).await.into_iter().flatten().collect();
    if !collect::is_on_all(&members.rule, &raised) {
        return Dropped::Waits;
    }
    // All at the same time: the shorter the replicas differ, the less a sweep finds to mend. Where one misses it, the
    // sweep writes the tombstone anew on all, and a later pass drops that.
    let dropped = members
        .nodes
        .iter()
        .map(|(member, node)| drop_on(collector, &members, *member, *node, &rows));
    let dropped = join_all(dropped).await;
    match dropped.iter().flatten().copied().max() {
        Some(count) if dropped.iter().all(Option::is_some) => Dropped::Rows(count),
        _ => Dropped::Waits,
    }
}

async fn survey(
    collector: &Collector,
    members: &Members,
    to: Replica,
    node: NodeId,
    rows: &Tombstones,
) -> Option<Vec<Holding>> {
    let mut held = Vec::with_capacity(rows.len());
    for some in rows.chunks(TOMBSTONES_MAX) {
        let request = SurveyTombstonesRequest {
            to,
            partition: members.partition,
            epoch: members.epoch,
            rows: some.to_vec(),
        };
        match collector.ask(node, request).await {
            Ok(SurveyTombstonesReply::Held(more)) if more.len() == some.len() => held.extend(more),
            Ok(_) | Err(_) => return None,
        }
    }
    Some(held)
}

async fn raise(
    collector: &Collector,
    members: &Members,
    to: Replica,
    node: NodeId,
    floor: Ballot,
) -> bool {
    let request = RaiseFloorRequest {
        to,
        partition: members.partition,
        epoch: members.epoch,
        floor,
    };
    match collector.ask(node, request).await {
        Ok(RaiseFloorReply::Raised) => true,
        Ok(RaiseFloorReply::Refused(_)) => false,
        Err(error) => {
            tracing::debug!(%error, %node, "a floor was not raised");
            false
        }
    }
}

async fn drop_on(
    collector: &Collector,
    members: &Members,
    to: Replica,
    node: NodeId,
    rows: &Tombstones,
) -> Option<u64> {
    let mut dropped = 0;
    for some in rows.chunks(TOMBSTONES_MAX) {
        let request = DropRowsRequest {
            to,
            partition: members.partition,
            epoch: members.epoch,
            rows: some.to_vec(),
        };
        match collector.ask(node, request).await {
            Ok(DropRowsReply::Dropped(count)) => dropped += u64::from(count),
            Ok(DropRowsReply::Refused(_)) | Err(_) => return None,
        }
    }
    Some(dropped)
}
