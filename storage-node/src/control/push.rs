//! Tells nodes of a chosen layout: each at once, and again those that did not take it, until they do.
//!
//! Only the newest counts: whoever takes it needs none before. A node that learns of it in another way takes the offer
//! as what it is, old news. Bounded: so many offers at once, and a node that has left the layout is told a number of
//! times and then given up, for it can always ask.

use super::plane::Introduce;
use futures_util::StreamExt as _;
use futures_util::stream;
use parking_lot::Mutex;
use ringfort_ring::control::place;
use ringfort_ring::id::NodeId;
use ringfort_ring::layout::Layout;
use ringfort_wire::id::Payload;
use ringfort_wire::message::OfferLayoutRequest;
use ringfort_wire::transport::{Lane, Transport, call};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

/// Offers under way at once.
const AT_ONCE: usize = 16;
/// So often is a node told that has left the layout.
const TRIES_FOR_LEAVERS: u32 = 100;

/// What is owed to whom.
pub(super) struct Push {
    transport: Arc<dyn Transport>,
    introduce: Introduce,
    call_timeout: Duration,
    again_after: Duration,
    owed: Mutex<Owed>,
    wake: Notify,
}

#[derive(Default)]
struct Owed {
    layout: Option<Arc<Layout>>,
    nodes: BTreeMap<NodeId, Debt>,
}

#[derive(Clone)]
struct Debt {
    /// Of a node that the layout does not name: where it was, and how often it is still told.
    left: Option<(String, u32)>,
}

impl Push {
    pub(super) fn new(
        transport: Arc<dyn Transport>,
        introduce: Introduce,
        call_timeout: Duration,
        again_after: Duration,
    ) -> Self {
        Self {
            transport,
            introduce,
            call_timeout,
            again_after,
            owed: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Owes a chosen layout to its nodes and to those of the one before it.
    pub(super) fn offer(&self, before: &Layout, layout: &Arc<Layout>) {
        let mut owed = self.owed.lock();
        if owed
            .layout
            .as_ref()
            .is_some_and(|known| place(known) >= place(layout))
        {
            return;
        }
        owed.layout = Some(Arc::clone(layout));
        for node in &before.nodes {
            let debt = Debt {
                left: Some((node.address.clone(), TRIES_FOR_LEAVERS)),
            };
            owed.nodes.insert(node.id, debt);
        }
        for node in &layout.nodes {
            owed.nodes.insert(node.id, Debt { left: None });
        }
        drop(owed);
        self.wake.notify_one();
    }

    /// Works off what is owed, for ever. Dropping it loses offers, which followers make good by asking.
    pub(super) async fn run(&self) {
        loop {
            let (layout, nodes) = {
                let owed = self.owed.lock();
                (owed.layout.clone(), owed.nodes.clone())
            };
            let Some(layout) = layout.filter(|_| !nodes.is_empty()) else {
                self.wake.notified().await;
                continue;
            };
            let offers = stream::iter(nodes)
                .map(|(node, debt)| self.offer_to(node, debt, &layout))
                .buffer_unordered(AT_ONCE)
                .for_each(async |()| {});
            // A newer layout does not wait for a node that is slow to take this one.
            tokio::select! {
                () = offers => {}
                () = self.wake.notified() => continue,
            }
            if !self.owed.lock().nodes.is_empty() {
                tokio::select! {
                    () = sleep(self.again_after) => {}
                    () = self.wake.notified() => {}
                }
            }
        }
    }

    async fn offer_to(&self, node: NodeId, debt: Debt, layout: &Arc<Layout>) {
        if let Some((address, _)) = &debt.left {
            (self.introduce)(node, address);
        }
        let request = OfferLayoutRequest {
            layout: Layout::clone(layout),
        };
        let (lane, payload) = (Lane::Metadata, Payload::new());
        let offered = call(
            self.transport.as_ref(),
            node,
            lane,
            request,
            payload,
            self.call_timeout,
        );
        let outcome = offered.await;
        let mut owed = self.owed.lock();
        if !owed
            .layout
            .as_ref()
            .is_some_and(|newest| Arc::ptr_eq(newest, layout))
        {
            return;
        }
        match outcome {
            Ok(_) => {
                owed.nodes.remove(&node);
            }
            Err(error) => {
                tracing::debug!(%node, %error, "a node does not take the layout yet");
                match debt.left {
                    Some((_, 0 | 1)) => {
                        owed.nodes.remove(&node);
                    }
                    Some((address, tries)) => {
                        let left = Some((address, tries - 1));
                        owed.nodes.insert(node, Debt { left });
                    }
                    None => {}
                }
            }
        }
    }

    /// Who has not taken the newest layout yet.
    #[cfg(test)]
    pub(super) fn owed(&self) -> Vec<NodeId> {
        self.owed.lock().nodes.keys().copied().collect()
    }
}
