//! The layout as the first format of its file had it: read, never written.
//!
//! Nobody was out then, nothing was paused, and a disk's weight was its size.

use ringfort_ring::id::{ClusterId, DiskId, Epoch, Era, NodeId};
use ringfort_ring::layout::{DiskEntry, Layout, NodeEntry, Row};
use serde::{Deserialize, Serialize};

/// The whole, in its order of fields.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LayoutV1 {
    cluster: ClusterId,
    era: Era,
    version: u64,
    replicas: u8,
    control_epoch: Epoch,
    control: Vec<u16>,
    nodes: Vec<NodeV1>,
    disks: Vec<DiskV1>,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize, Deserialize)]
struct NodeV1 {
    id: NodeId,
    name: String,
    address: String,
    zone: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct DiskV1 {
    id: DiskId,
    node: u16,
    capacity_bytes: u64,
}

impl From<LayoutV1> for Layout {
    fn from(old: LayoutV1) -> Self {
        Self {
            cluster: old.cluster,
            era: old.era,
            version: old.version,
            replicas: old.replicas,
            control_epoch: old.control_epoch,
            control: old.control,
            control_before: Vec::new(),
            is_balancing_paused: false,
            nodes: old
                .nodes
                .into_iter()
                .map(|node| NodeEntry::new(node.id, node.name, node.address, node.zone))
                .collect(),
            disks: old
                .disks
                .into_iter()
                .map(|disk| DiskEntry::new(disk.id, disk.node, disk.capacity_bytes))
                .collect(),
            rows: old.rows,
        }
    }
}

#[cfg(test)]
impl From<Layout> for LayoutV1 {
    fn from(layout: Layout) -> Self {
        Self {
            cluster: layout.cluster,
            era: layout.era,
            version: layout.version,
            replicas: layout.replicas,
            control_epoch: layout.control_epoch,
            control: layout.control,
            nodes: layout
                .nodes
                .into_iter()
                .map(|node| NodeV1 {
                    id: node.id,
                    name: node.name,
                    address: node.address,
                    zone: node.zone,
                })
                .collect(),
            disks: layout
                .disks
                .into_iter()
                .map(|disk| DiskV1 {
                    id: disk.id,
                    node: disk.node,
                    capacity_bytes: disk.capacity_bytes,
                })
                .collect(),
            rows: layout.rows,
        }
    }
}
