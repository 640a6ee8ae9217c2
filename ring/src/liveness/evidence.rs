//! What the reports about one node come to.

use super::LivenessSettings;
use crate::id::NodeId;
use crate::layout::{Layout, NodeStanding};
use alloc::collections::{BTreeMap, BTreeSet};

/// The last report of each reporter.
#[derive(Clone, Debug)]
pub(super) struct Reports(BTreeMap<NodeId, Report>);

#[derive(Clone, Copy, Debug)]
struct Report {
    at_ms: u64,
    silent_ms: u64,
}

/// What they come to. Where no report is fresh, all of it is false.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    /// More reporters hear it than miss it.
    pub(super) is_heard: bool,
    /// At least as many miss it as hear it.
    pub(super) is_suspect: bool,
    /// Enough have missed it for long, and more than hear it.
    pub(super) is_down: bool,
    /// How long all of the former have missed it.
    pub(super) agreed_ms: u64,
}

impl Reports {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn take(&mut self, at_ms: u64, reporter: NodeId, silent_ms: u64) {
        self.0.insert(reporter, Report { at_ms, silent_ms });
    }

    /// Judges the reports about `about`. A reporter that is down itself does not count: what it says may be true of
    /// its own network only.
    pub(super) fn judge(
        &self,
        now_ms: u64,
        about: NodeId,
        layout: &Layout,
        is_down: &impl Fn(NodeId) -> bool,
        settings: &LivenessSettings,
    ) -> Evidence {
        let others = layout.nodes.iter().filter(|node| node.id != about);
        let mut zones_of_all = BTreeSet::new();
        let mut zones = BTreeSet::new();
        let (mut hearing, mut missing, mut agreeing) = (0_usize, 0_usize, 0_usize);
        let mut agreed_ms = u64::MAX;
        for node in others {
            if node.standing != NodeStanding::Out {
                zones_of_all.insert(node.zone.as_str());
            }
            let report = self.0.get(&node.id).filter(|_| !is_down(node.id));
            let is_fresh =
                |report: &&Report| now_ms.saturating_sub(report.at_ms) <= settings.report_ttl_ms;
            let Some(report) = report.filter(is_fresh) else {
                continue;
            };
            if report.silent_ms < settings.suspect_after_ms {
                hearing += 1;
            } else {
                missing += 1;
            }
            if report.silent_ms >= settings.down_after_ms {
                agreeing += 1;
                zones.insert(node.zone.as_str());
                agreed_ms = agreed_ms.min(report.silent_ms);
            }
        }
        let (reporters, distinct_zones) = if layout.nodes.len() < 3 {
            (1, 1)
        } else {
            (2, zones_of_all.len().min(2))
        };
        let is_down = agreeing >= reporters && zones.len() >= distinct_zones && agreeing > hearing;
        Evidence {
            is_heard: hearing > missing,
            is_suspect: missing > 0 && missing >= hearing,
            is_down,
            agreed_ms: if is_down { agreed_ms } else { 0 },
        }
    }
}
