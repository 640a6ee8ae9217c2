//! The conductor: drives the layout towards what its tables ask for, and takes nodes and disks out that are gone.
//!
//! Every node of the control set runs one; the first of them that answers acts, the others look on. That is a hint, not
//! a promise: two that act at once are kept apart by the control register, where each step is judged on the layout that
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
use ringfort_wire::message::{PingRequest, SyncStatusRequest};
use ringfort_wire::transport::{Lane, Transport, call};
use std::sync::Arc;
use std::time::Duration;
use step::{Step, next_step};
use tokio::sync::watch;

/// How long a node has to say how it is.
const ASK_WITHIN: Duration = Duration::from_secs(2);
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
        let mut liveness = Liveness::new(self.settings.liveness);
        loop {
            tokio::select! {
                () = self.tick(&mut liveness) => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
            tokio::select! {
                () = tokio::time::sleep(self.settings.every) => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn tick(&self, liveness: &mut Liveness) {
        for _ in 0..STEPS_MAX {
            let Some(layout) = self.layouts.current() else {
                return;
            };
            if !self.leads(&layout).await {
                return;
            }
            let reports = self.ask(&layout).await;
            let now_ms = self.environment.now_ms();
            reports.tell(&layout, liveness, now_ms);
            let closed = reports.closed_disks();
            let known = liveness::Facts {
                lost: &closed,
                used_bytes: &[],
            };
            let verdicts = liveness.tick(now_ms, &layout, &known);
            log(&layout, &verdicts);
            let facts = reports.facts(&layout, liveness, verdicts, self.settings.joint_max);
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

    /// Whether this is the first node of the control set that answers.
    async fn leads(&self, layout: &Layout) -> bool {
        let (control, _) = layout.control_ids();
        for node in control {
            if node == self.node {
                return true;
            }
            let (lane, transport) = (Lane::Metadata, self.transport.as_ref());
            let asked = call(
                transport,
                node,
                lane,
                PingRequest {},
                Payload::new(),
                ASK_WITHIN,
            );
            if asked.await.is_ok() {
                return false;
            }
        }
        false
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
    async fn act(&self, facts: &step::Facts) -> Result<bool, ControlError> {
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
