//! The layout as requests use it: which replicas hold a row or chunk, and on which node each is.

use super::{BucketRef, Coordinator, WriteError};
use ringfort_ring::id::{DiskId, Epoch, NodeId, PartitionId, Shard};
use ringfort_ring::layout::Layout;
use ringfort_ring::placement;
use ringfort_ring::quorum::{QuorumRule, Replica};
use ringfort_wire::id::{BucketId, ChunkId, ObjectKey, RowKey};
use ringfort_wire::manifest::{BodyOwner, ChunkOwner};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// One version of the layout, with the tables that a request needs at hand.
pub(super) struct ClusterView {
    pub(super) layout: Arc<Layout>,
    node_of_disk: HashMap<DiskId, NodeId>,
}

/// Where a row or chunk lives, in one epoch.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) partition: PartitionId,
    pub(super) epoch: Epoch,
    pub(super) rule: QuorumRule,
    pub(super) view: Arc<ClusterView>,
}

impl Place {
    /// The members and their nodes. A member whose node is unknown (impossible in a checked layout) is left out.
    pub(super) fn targets(&self) -> Vec<(Replica, NodeId)> {
        self.rule
            .members()
            .into_iter()
            .filter_map(|replica| Some((replica, self.view.node(replica)?)))
            .collect()
    }
}

impl ClusterView {
    fn new(layout: Arc<Layout>) -> Self {
        let node_of_disk = layout
            .disks
            .iter()
            .filter_map(|disk| Some((disk.id, layout.nodes.get(usize::from(disk.node))?.id)))
            .collect();
        Self {
            layout,
            node_of_disk,
        }
    }

    pub(super) fn node(&self, replica: Replica) -> Option<NodeId> {
        self.node_of_disk.get(&replica.disk).copied()
    }

    pub(super) fn place(self: &Arc<Self>, partition: PartitionId) -> Option<Place> {
        let row = self.layout.row(partition)?;
        Some(Place {
            partition,
            epoch: row.epoch,
            rule: self.layout.rule(partition)?,
            view: self.clone(),
        })
    }

    /// Where a row lives. The system bucket has one shard, which is placed like any other.
    pub(super) fn place_row(self: &Arc<Self>, bucket: BucketRef, row: &RowKey) -> Option<Place> {
        if let Some(partition) = bucket.partition {
            return self.place(partition);
        }
        let shard = placement::shard_of(row.key.as_bytes(), bucket.shard_count);
        self.place_shard(bucket, shard)
    }

    pub(super) fn place_shard(self: &Arc<Self>, bucket: BucketRef, shard: Shard) -> Option<Place> {
        self.place(partition_of_shard(bucket.id, shard, &self.layout))
    }

    pub(super) fn place_chunk(self: &Arc<Self>, chunk: ChunkId) -> Option<Place> {
        self.place(placement::partition_of_chunk(
            chunk.0,
            self.layout.partition_count(),
        ))
    }
}

/// The partition of a bucket's shard.
fn partition_of_shard(bucket: BucketId, shard: Shard, layout: &Layout) -> PartitionId {
    placement::partition_of_shard(bucket.0, shard, layout.partition_count())
}

impl Coordinator {
    /// Who owns the chunks of a body of a key.
    ///
    /// # Errors
    /// Where the cluster has not formed yet.
    pub fn chunk_owner(
        &self,
        bucket: BucketRef,
        key: &ObjectKey,
        owner: BodyOwner,
    ) -> Result<ChunkOwner, WriteError> {
        let row = RowKey::object(bucket.id, key.clone());
        let place = self.view().and_then(|view| view.place_row(bucket, &row));
        let place = place.ok_or_else(|| {
            WriteError::NotEnoughReplicas("the cluster has not formed yet".to_owned())
        })?;
        Ok(ChunkOwner {
            bucket: bucket.id,
            partition: place.partition,
            key: key.clone(),
            owner,
        })
    }

    /// The newest layout, ready for use; `None` until the cluster has formed.
    pub(super) fn view(&self) -> Option<Arc<ClusterView>> {
        let layout = self.inner.layout.borrow().clone()?;
        let mut cached = self.inner.view.lock();
        if let Some(view) = cached.as_ref()
            && view.layout.version == layout.version
            && view.layout.era == layout.era
        {
            return Some(view.clone());
        }
        let view = Arc::new(ClusterView::new(layout));
        *cached = Some(view.clone());
        Some(view)
    }

    /// A replica has shown a newer epoch: asks for the newer layout and waits a little for it.
    pub(super) async fn await_newer_layout(&self, known: &ClusterView) {
        self.inner.layout_wanted.notify_one();
        let mut layout = self.inner.layout.clone();
        let version = known.layout.version;
        let newer = layout.wait_for(|layout| {
            layout
                .as_ref()
                .is_some_and(|layout| layout.version > version)
        });
        // Where none comes, the caller tries again with the one it has, until its own deadline.
        let _ = tokio::time::timeout(Duration::from_millis(500), newer).await;
    }
}
