//! The conductor: drives the layout towards what its tables ask for, and takes nodes and disks out that are gone.
//!
//! Every node of the control set runs one; the first of them that answers acts, the others look on, and step in where it
//! does not bring itself to act. That is a hint, not a promise: two that act at once are kept apart by the control register, where each step is judged on the layout that
//! it follows. What it knows is what nodes say of themselves and of each other, asked anew each tick; it keeps nothing
//! that another conductor would need.

mod reports;
mod step;

use super::layout_store::LayoutStore;
use super::plane::{ControlError, ControlPlane};
use reports::Reports;
use ringfort_ring::id::NodeId;
use ringfort_ring::layout::Layout;
use ringfort_ring::liveness::{self, Liveness, LivenessSettings, Verdict};
use ringfort_wire::environment::Environment;
use ringfort_wire::id::Payload;
use ringfort_wire::message::SyncStatusRequest;
use ringfort_wire::transport::{Lane, Transport, call};
use std::sync::Arc;
use std::time::Duration;
use step::{Facts, Step, next_step};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a node has to say how it is.
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// How long a step may wait before the next node of the control set takes it.
const OVERDUE_AFTER: Duration = Duration::from_secs(15);
/// Steps that follow each other at once, at most: each needs what the one before has brought about.
const STEPS_MAX: usize = 4;

/// How a conductor behaves.
#[derive(Clone, Debug)]
pub struct ConductorSettings {
    /// Between two looks at the nodes.
    pub every: Duration,
    /// Rows that move at a time.
    pub joint_max: usize,
    /// When a node is down, and when it is out.
    pub liveness: LivenessSettings,
}

impl Default for ConductorSettings {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(1),
            joint_max: 512,
            liveness: LivenessSettings::default(),
        }
    }
}

/// What a conductor has seen so far.
struct Watching {
    liveness: Liveness,
    /// What was known when there was nothing to do: asked again only when something else is known, for a look at a large
    /// layout takes its time.
    at_rest: Option<(u64, Facts)>,
    /// Since when, and for which version of the layout, a step waits for those before this one.
    owed_since: Option<(u64, Instant)>,
}

impl Watching {
    /// Whether there is a step to take.
    fn owes_step(&mut self, layout: &Layout, facts: &Facts) -> bool {
        let is_as_before = self
            .at_rest
            .as_ref()
            .is_some_and(|(version, known)| *version == layout.version && known == facts);
        if is_as_before {
            return false;
        }
        self.at_rest = None;
        let is_owed = next_step(layout, facts).is_some();
        if !is_owed {
            self.at_rest = Some((layout.version, facts.clone()));
            self.owed_since = None;
        }
        is_owed
    }

    /// Whether those before this one have let a step wait for so long that they cannot take it: a node may answer and be
    /// unable to decide. The control register keeps two that act at once apart.
    fn is_overdue(&mut self, version: u64, rank: usize) -> bool {
        let now = Instant::now();
        let since = match self.owed_since {
            Some((of, since)) if of == version => since,
            _ => now,
        };
        self.owed_since = Some((version, since));
        let rank = u32::try_from(rank).unwrap_or(u32::MAX);
        now.duration_since(since) >= OVERDUE_AFTER.saturating_mul(rank)
    }
}

/// Drives the layout. One a node.
pub struct Conductor {
    node: NodeId,
    layouts: Arc<LayoutStore>,
    plane: ControlPlane,
    transport: Arc<dyn Transport>,
    environment: Environment,
    settings: ConductorSettings,
}

impl std::fmt::Debug for Conductor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Conductor({})", self.node)
    }
}

impl Conductor {
    /// The conductor of a node.
    #[must_use]
    pub fn new(
        node: NodeId,
        layouts: Arc<LayoutStore>,
        plane: ControlPlane,
        transport: Arc<dyn Transport>,
        environment: Environment,
        settings: ConductorSettings,
    ) -> Self {
        Self {
            node,
            layouts,
            plane,
            transport,
            environment,
            settings,
        }
    }

    /// Looks and acts until `shutdown` turns true. Run it once.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut watching = Watching {
            liveness: Liveness::new(self.settings.liveness),
            at_rest: None,
            owed_since: None,
        };
        loop {
            tokio::select! {
                () = self.tick(&mut watching) => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
            tokio::select! {
                () = tokio::time::sleep(self.settings.every) => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn tick(&self, watching: &mut Watching) {
        for _ in 0..STEPS_MAX {
            let Some(layout) = self.layouts.current() else {
                return;
            };
            let (control, _) = layout.control_ids();
            let Some(rank) = control.iter().position(|node| *node == self.node) else {
                return;
            };
            let reports = self.ask(&layout).await;
            let now_ms = self.environment.now_ms();
            reports.tell(&layout, &mut watching.liveness, now_ms);
            let (closed, used) = (reports.closed_disks(), reports.used_bytes());
            let known = liveness::Facts {
                lost: &closed,
                used_bytes: &used,
            };
            let verdicts = watching.liveness.tick(now_ms, &layout, &known);
            log(&layout, &verdicts);
            let joint_max = self.settings.joint_max;
            let facts = reports.facts(&layout, &watching.liveness, verdicts, joint_max);
            if !watching.owes_step(&layout, &facts) {
                return;
            }
            let mut before_it = control.iter().take(rank);
            let is_first = !before_it.any(|node| reports.has(*node));
            if !is_first && !watching.is_overdue(layout.version, rank) {
                return;
            }
            match self.act(&facts).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, "the layout was not brought on; it is tried again");
                    return;
                }
            }
        }
    }

    async fn ask(&self, layout: &Layout) -> Reports {
        let asked = layout.nodes.iter().map(|node| async {
            let (lane, transport) = (Lane::Metadata, self.transport.as_ref());
            let request = SyncStatusRequest {};
            let reply = call(
                transport,
                node.id,
                lane,
                request,
                Payload::new(),
                ASK_WITHIN,
            )
            .await;
            (node.id, reply.map(|(reply, _)| reply).ok())
        });
        let replies = futures_util::future::join_all(asked).await;
        let replies = replies.into_iter();
        Reports::new(replies.filter_map(|(node, reply)| Some((node, reply?))))
    }

    /// Takes one step, if there is one to take.
    async fn act(&self, facts: &Facts) -> Result<bool, ControlError> {
        let mut taken: Option<Step> = None;
        self.plane
            .update(|layout| {
                taken = next_step(layout, facts);
                Ok::<_, std::convert::Infallible>(taken.as_ref().map(|step| step.layout.clone()))
            })
            .await?;
        if let Some(step) = &taken {
            tracing::info!(version = step.layout.version, what = %step.what, "the layout goes on");
        }
        Ok(taken.is_some())
    }
}

/// Tells what is new about nodes and disks; what changes the layout is told when it is chosen.
fn log(layout: &Layout, verdicts: &[Verdict]) {
    let name = |id: &NodeId| {
        let entry = layout.nodes.iter().find(|node| node.id == *id);
        entry.map_or_else(|| id.to_string(), |node| node.name.clone())
    };
    for verdict in verdicts {
        match verdict {
            Verdict::Suspect(node) => {
                tracing::info!(node = name(node), "a node is missed by some");
            }
            Verdict::Down(node) => tracing::warn!(node = name(node), "a node is down"),
            Verdict::Returning(node) => tracing::info!(node = name(node), "a node is heard again"),
            Verdict::Up(node) => tracing::info!(node = name(node), "a node is up"),
            Verdict::Held(node, brake) => {
                tracing::warn!(node = name(node), %brake, "a node is down and stays in");
            }
            Verdict::Slow(disk) => tracing::warn!(%disk, "a disk's syncs take long"),
            Verdict::Quick(disk) => tracing::info!(%disk, "a disk's syncs are quick again"),
            Verdict::Out(_) | Verdict::BackIn(_) | Verdict::DiskOut(_) => {}
        }
    }
}
