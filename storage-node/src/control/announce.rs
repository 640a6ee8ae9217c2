//! A node tells the layout which disks it has, once after each start: a disk more, or one made anew in the place of a lost
//! one (the rules are in `entries`).

use super::entries::{self, FoundDisks};
use super::layout_store::LayoutStore;
use super::plane::ControlPlane;
use ringfort_ring::id::NodeId;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Between two tries.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Waits until the layout names the node, and makes it name the node's disks. Ends when that is done, or when `shutdown`
/// turns true.
pub async fn announce_disks(
    plane: ControlPlane,
    layouts: Arc<LayoutStore>,
    node: NodeId,
    found: FoundDisks,
    mut shutdown: watch::Receiver<bool>,
) {
    tokio::select! {
        () = announce(&plane, &layouts, node, &found) => {}
        _ = shutdown.wait_for(|ends| *ends) => {}
    }
}

async fn announce(plane: &ControlPlane, layouts: &LayoutStore, node: NodeId, found: &FoundDisks) {
    let mut shown = layouts.subscribe();
    let named = shown.wait_for(|layout| {
        let nodes = layout.iter().flat_map(|layout| &layout.nodes);
        nodes.into_iter().any(|entry| entry.id == node)
    });
    let known = match named.await {
        Ok(layout) => layout.clone(),
        Err(_) => return,
    };
    let Some(known) = known else { return };
    let known = entries::announce(&known, node, found);
    if known.next.is_none() {
        for note in known.notes {
            tracing::error!("{note}");
        }
        return;
    }
    if found.failed > 0 {
        tracing::warn!(
            failed = found.failed,
            "some disk folders cannot be opened: no new disk takes the place of a lost one until they can, or are wiped"
        );
    }
    let mut was_told = false;
    loop {
        let mut notes = Vec::new();
        let changed = plane.update(|layout| {
            let announced = entries::announce(layout, node, found);
            notes = announced.notes;
            Ok::<_, Infallible>(announced.next)
        });
        match changed.await {
            Ok(layout) => {
                for note in notes {
                    tracing::warn!(version = layout.version, "{note}");
                }
                return;
            }
            Err(error) if !was_told => {
                tracing::warn!(%error, "the layout does not know this node's disks yet; trying on");
                was_told = true;
            }
            Err(_) => {}
        }
        sleep(AGAIN_AFTER).await;
    }
}
