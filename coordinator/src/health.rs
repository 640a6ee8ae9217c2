//! Which nodes answer, as this gateway sees it: to ask the quick ones first, and to know whether it is ready.
//!
//! Nothing here decides what is true: a suspect node's answer counts like any other's.

use super::Coordinator;
use crate::metrics::PartitionCounts;
use bytes::Bytes;
use parking_lot::Mutex;
use ringfort_ring::id::{DiskId, NodeId, PartitionId};
use ringfort_ring::layout::Layout;
use ringfort_ring::quorum::Replica;
use ringfort_wire::error::CallError;
use ringfort_wire::message::{PingReply, PingRequest};
use ringfort_wire::transport::Lane;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a node that failed to answer is asked last.
const SUSPECT: Duration = Duration::from_secs(2);
/// How often nodes are asked whether they are there.
const PING_EVERY: Duration = Duration::from_millis(500);

/// Whether requests can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Whether every partition has a majority of replicas that serve.
    pub is_ready: bool,
    /// A sentence that says why not, or that all is well.
    pub reason: String,
}

pub(super) struct Health {
    began: Instant,
    heard: Mutex<HashMap<NodeId, Instant>>,
    failed: Mutex<HashMap<NodeId, Instant>>,
    readiness: Mutex<Option<Readiness>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            heard: Mutex::default(),
            failed: Mutex::default(),
            readiness: Mutex::default(),
        }
    }
}

impl Health {
    /// Notes how a call went.
    pub(super) fn note<T>(&self, node: NodeId, reply: &Result<T, CallError>) {
        match reply {
            Ok(_) | Err(CallError::Refused(_)) => {
                self.heard.lock().insert(node, Instant::now());
                let mut failed = self.failed.lock();
                if !failed.is_empty() {
                    failed.remove(&node);
                }
            }
            Err(CallError::Unreachable(_) | CallError::TimedOut) => {
                self.failed.lock().insert(node, Instant::now());
            }
        }
    }

    /// Whether the node failed to answer a moment ago.
    pub(super) fn is_suspect(&self, node: NodeId) -> bool {
        let failed = self.failed.lock();
        failed.get(&node).is_some_and(|at| at.elapsed() < SUSPECT)
    }
}

impl Coordinator {
    /// For how long, in milliseconds, each node of the layout has not answered this process. Nodes are asked every half
    /// second ([`Coordinator::watch_nodes`]); one that never answered is silent since this process began.
    #[must_use]
    pub fn silences(&self) -> Vec<(NodeId, u64)> {
        let Some(layout) = self.layout() else {
            return Vec::new();
        };
        let health = &self.inner.health;
        let heard = health.heard.lock();
        let silent_ms = |node: NodeId| {
            let since = heard.get(&node).copied().unwrap_or(health.began);
            u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
        };
        let nodes = layout.nodes.iter();
        nodes.map(|node| (node.id, silent_ms(node.id))).collect()
    }

    /// Whether requests can be served, as the last round of pings saw it.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let known = self.inner.health.readiness.lock().clone();
        known.unwrap_or_else(|| Readiness {
            is_ready: false,
            reason: "starting: the nodes have not been asked yet".to_owned(),
        })
    }

    /// Asks the nodes every half second whether they serve, until `shutdown` turns true.
    pub async fn watch_nodes(&self, mut shutdown: watch::Receiver<bool>) {
        loop {
            let readiness = self.ask_nodes().await;
            *self.inner.health.readiness.lock() = Some(readiness);
            tokio::select! {
                () = tokio::time::sleep(PING_EVERY) => {}
                changed = shutdown.wait_for(|stop| *stop) => {
                    // A dropped sender is the end of the process too.
                    let _ = changed;
                    return;
                }
            }
        }
    }

    async fn ask_nodes(&self) -> Readiness {
        let Some(view) = self.view() else {
            return Readiness {
                is_ready: false,
                reason: "the cluster has not formed yet: not all expected nodes have joined"
                    .to_owned(),
            };
        };
        let pings = view.layout.nodes.iter().map(|node| async move {
            let call = self.call(node.id, Lane::Metadata, PingRequest {}, Bytes::new());
            // A node that needs longer than this is no use to a load balancer's decision.
            let reply = tokio::time::timeout(Duration::from_secs(1), call).await;
            if reply.is_err() {
                self.inner
                    .health
                    .note::<()>(node.id, &Err(CallError::TimedOut));
            }
            match reply {
                Ok(Ok((reply, _))) => (node, Some(reply)),
                Ok(Err(_)) | Err(_) => (node, None),
            }
        });
        let replies = futures_util::future::join_all(pings).await;
        if replies
            .iter()
            .flat_map(|(_, reply)| reply)
            .any(|reply: &PingReply| reply.layout_version > view.layout.version)
        {
            self.inner.layout_wanted.notify_one();
        }
        let serving: HashSet<DiskId> = replies
            .iter()
            .flat_map(|(_, reply)| reply)
            .filter(|reply| reply.horizon_wait_ms == 0)
            .flat_map(|reply| reply.serving.iter().copied())
            .collect();
        self.deliver_hints(&serving);
        let (rows, chunks) = self.hints_waiting();
        crate::metrics::hints_waiting(rows, chunks);
        let counts = count_partitions(&view.layout, &serving);
        crate::metrics::partitions(counts);
        let lacking = counts.without_quorum;
        if lacking == 0 {
            return Readiness {
                is_ready: true,
                reason: "every partition has a quorum".to_owned(),
            };
        }
        let silent: Vec<_> = replies
            .iter()
            .filter(|(_, reply)| reply.is_none())
            .map(|(node, _)| node.name.as_str())
            .collect();
        let wait_ms = replies
            .iter()
            .flat_map(|(_, reply)| reply)
            .map(|reply| reply.horizon_wait_ms)
            .max()
            .unwrap_or(0);
        Readiness {
            is_ready: false,
            reason: format!(
                "{lacking} of {} partitions lack a quorum; nodes that do not answer: [{}]; longest wait after a restart: {wait_ms} ms",
                view.layout.partition_count(),
                silent.join(", "),
            ),
        }
    }
}

/// How many partitions have how many of their members on disks that serve.
fn count_partitions(layout: &Layout, serving: &HashSet<DiskId>) -> PartitionCounts {
    let mut counts = PartitionCounts::default();
    for number in 0..layout.partition_count() {
        let Some(rule) = layout.rule(PartitionId(number)) else {
            continue;
        };
        let serves = |replica: Replica| serving.contains(&replica.disk);
        counts.moving += u32::from(rule.is_joint());
        if !rule.holds(serves) {
            counts.without_quorum += 1;
        } else if rule.members().into_iter().all(serves) {
            counts.whole += 1;
        } else {
            counts.degraded += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfort_ring::id::{ClusterId, Epoch, Era};
    use ringfort_ring::layout::{DiskEntry, Member, Members, NodeEntry, Row};

    #[test]
    fn partitions_are_counted_by_what_serves() {
        let members = |disks: &[u16]| -> Vec<Member> {
            let member = |disk: &u16| Member {
                disk: *disk,
                joined: Epoch(1),
            };
            disks.iter().map(member).collect()
        };
        let row = |members| Row {
            epoch: Epoch(1),
            members,
        };
        let disk = |number: u8| DiskId([number; 16]);
        let layout = Layout {
            cluster: ClusterId::from_u128(1),
            era: Era(0),
            version: 1,
            replicas: 3,
            control_epoch: Epoch(1),
            control: vec![0],
            control_before: Vec::new(),
            is_balancing_paused: false,
            nodes: vec![NodeEntry::new(
                NodeId::from_u128(1),
                String::new(),
                String::new(),
                String::new(),
            )],
            disks: (0..5)
                .map(|number| DiskEntry::new(disk(number), 0, 1))
                .collect(),
            rows: vec![
                row(Members::Stable(members(&[0, 1, 2]))),
                row(Members::Stable(members(&[0, 1, 4]))),
                row(Members::Stable(members(&[0, 3, 4]))),
                row(Members::Joint {
                    old: members(&[0, 1, 2]),
                    new: members(&[0, 3, 4]),
                }),
            ],
        };
        let serving = [disk(0), disk(1), disk(2)].into();
        let counted = PartitionCounts {
            whole: 1,
            degraded: 1,
            without_quorum: 2,
            moving: 1,
        };
        assert_eq!(count_partitions(&layout, &serving), counted);
    }
}
