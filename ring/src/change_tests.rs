//! Tests of changes: what they do, what they refuse, and their bytes.
#![allow(clippy::unwrap_used, reason = "test code")]

use super::*;
use crate::assign::{Limits, advance, first_layout};
use crate::id::ClusterId;
use crate::topology::{DiskSpec, NodeSpec, Topology};
use alloc::string::ToString;
use alloc::vec;

fn node(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

fn disk(number: u128) -> DiskId {
    DiskId::from_u128(number)
}

/// Nodes 1 to 4 in zones z1 to z4, each with one disk 10 to 40 of weight 100; the first three hold everything.
fn layout() -> Layout {
    let nodes = (1..=4)
        .map(|number| NodeSpec {
            id: node(number),
            name: format!("n{number}"),
            address: format!("127.0.0.1:{number}"),
            zone: format!("z{number}"),
            disks: vec![DiskSpec {
                id: disk(number * 10),
                capacity_bytes: if number < 4 { 100 } else { 0 },
            }],
        })
        .collect();
    let topology = Topology {
        cluster: ClusterId::from_u128(1),
        replicas: 3,
        nodes,
        control: vec![node(1), node(2), node(3)],
    };
    first_layout(&topology, 8).unwrap()
}

fn refusal(layout: &Layout, change: &LayoutChange) -> alloc::string::String {
    apply(layout, change).unwrap_err().to_string()
}

fn weights(layout: &Layout) -> Vec<(u64, u64)> {
    let disks = layout.disks.iter();
    disks
        .map(|disk| (disk.capacity_bytes, disk.capacity_before_bytes))
        .collect()
}

#[test]
fn several_changes_are_one_version_and_remember_the_weights_before() {
    let layout = layout();
    let change = LayoutChange::Apply(vec![
        Change::SetWeight {
            disk: disk(40),
            bytes: 200,
        },
        Change::Drain(Drained::Node(node(1))),
        Change::SetZone {
            node: node(2),
            zone: "attic".to_string(),
        },
    ]);
    let next = apply(&layout, &change).unwrap();
    assert_eq!(next.version, 2);
    assert_eq!(weights(&next), [(0, 100), (100, 100), (100, 100), (200, 0)]);
    assert_eq!(next.nodes[1].zone, "attic");
    // What does not touch weights does not forget them.
    let paused = apply(&next, &LayoutChange::Pause).unwrap();
    assert_eq!(weights(&paused), weights(&next));
    let resumed = apply(&paused, &LayoutChange::Resume).unwrap();
    let limits = Limits {
        joint_max: 100,
        balances: true,
        lost: &[],
        silent: &[],
    };
    let (joint, _) = advance(&resumed, &limits).unwrap();
    let aborted = apply(&joint, &LayoutChange::Abort).unwrap();
    assert_eq!(
        weights(&aborted),
        [(100, 100), (100, 100), (100, 100), (0, 0)]
    );
    assert!(aborted.is_balancing_paused);
    assert!(aborted.rows.iter().all(|row| !row.is_joint()));
    assert_eq!(aborted.version, joint.version + 1);
    // Once more changes nothing, and does not bring the weights of before the first one back.
    let wrapped = LayoutChange::Apply(vec![Change::Abort]);
    assert_eq!(apply(&joint, &wrapped).unwrap(), aborted);
    assert!(refusal(&aborted, &wrapped).contains("so already"));
    // All or none.
    let half = LayoutChange::Apply(vec![
        Change::Pause,
        Change::SetZone {
            node: node(9),
            zone: "x".to_string(),
        },
    ]);
    assert_eq!(
        refusal(&layout, &half),
        format!("no node has the id {}", node(9))
    );
}

#[test]
fn refusals_say_what_to_do() {
    let layout = layout();
    let refused = |change: LayoutChange, says: &str| {
        let sentence = refusal(&layout, &change);
        assert!(sentence.contains(says), "{sentence}");
    };
    refused(
        LayoutChange::Drain(Drained::Disk(disk(10))),
        "3 replicas need 3 disks with a weight, and 2 would be left",
    );
    refused(LayoutChange::SetReplicas(5), "5 replicas need 5 disks");
    refused(LayoutChange::SetReplicas(2), "1, 3 or 5");
    refused(LayoutChange::Resume, "so already");
    refused(
        LayoutChange::RemoveNode { node: node(1) },
        "n1 is in the control set",
    );
    refused(LayoutChange::RemoveNode { node: node(9) }, "no node");
    refused(
        LayoutChange::RemoveDisk { disk: disk(20) },
        "still holds 8 partitions",
    );
    refused(
        LayoutChange::DiskOut { disk: disk(99) },
        "no disk has the id",
    );
    refused(
        LayoutChange::SetControl {
            nodes: vec![node(1), node(1), node(2)],
        },
        "distinct",
    );
    refused(
        LayoutChange::SetControl {
            nodes: vec![node(9)],
        },
        "no node",
    );
    refused(LayoutChange::Apply(Vec::new()), "nothing was changed");
    let zone = "\n".to_string();
    refused(
        LayoutChange::SetZone {
            node: node(1),
            zone,
        },
        "a zone is",
    );
    // Facts are taken even where they leave too few disks.
    let out = apply(&layout, &LayoutChange::DiskOut { disk: disk(10) }).unwrap();
    assert_eq!(out.weight_bytes(&out.disks[0]), 0);
    let again = LayoutChange::SetWeight {
        disk: disk(10),
        bytes: 5,
    };
    assert!(refusal(&out, &again).contains("out for good"));
    let removed = apply(&layout, &LayoutChange::RemoveNode { node: node(4) }).unwrap();
    assert_eq!((removed.nodes.len(), removed.version), (3, 2));
}

#[test]
fn a_control_set_changes_by_way_of_both() {
    let layout = layout();
    let change = LayoutChange::SetControl {
        nodes: vec![node(4), node(2), node(3)],
    };
    let next = apply(&layout, &change).unwrap();
    let ids = |numbers: [u128; 3]| numbers.map(node).to_vec();
    assert_eq!(next.control_ids(), (ids([2, 3, 4]), ids([1, 2, 3])));
    assert_eq!(next.control_epoch, Epoch(2));
    let one = LayoutChange::SetControl {
        nodes: vec![node(2)],
    };
    assert!(refusal(&next, &one).contains("being changed already"));
    assert!(refusal(&next, &change).contains("so already"));
    // Who decided before still does: it cannot be removed.
    let remove = LayoutChange::RemoveNode { node: node(1) };
    assert!(refusal(&next, &remove).contains("control set"));
    let mut out = layout;
    out.nodes[3].standing = NodeStanding::Out;
    assert!(refusal(&out, &change).contains("n4 is out"));
}

#[test]
fn loosened_failure_domains_are_told() {
    let layout = layout();
    let with = |bytes| {
        let mut other = layout.clone();
        other.disks[3].capacity_bytes = bytes;
        other
    };
    assert_eq!(loosens_domains(&layout, &with(5)), Some(false));
    let mut together = with(0);
    together.nodes[1].zone = "z1".to_string();
    assert_eq!(loosens_domains(&layout, &together), Some(true));
    let mut few = with(0);
    few.disks[0].capacity_bytes = 0;
    assert_eq!(loosens_domains(&layout, &few), None);
}

/// The bytes are what two releases exchange: a variant's number never changes.
#[test]
fn changes_have_their_bytes() {
    let first_byte = |change: &LayoutChange| postcard::to_allocvec(change).unwrap()[0];
    let (node, disk) = (node(1), disk(1));
    let zone = "z".to_string();
    let standing = NodeStanding::Out;
    let all = [
        LayoutChange::SetWeight { disk, bytes: 1 },
        LayoutChange::Drain(Drained::Node(node)),
        LayoutChange::SetZone { node, zone },
        LayoutChange::SetStanding { node, standing },
        LayoutChange::DiskOut { disk },
        LayoutChange::RemoveNode { node },
        LayoutChange::RemoveDisk { disk },
        LayoutChange::SetReplicas(3),
        LayoutChange::Pause,
        LayoutChange::Resume,
        LayoutChange::Abort,
        LayoutChange::SetControl { nodes: vec![node] },
        LayoutChange::Apply(vec![Change::Pause, Change::Resume]),
    ];
    for (number, change) in all.iter().enumerate() {
        assert_eq!(usize::from(first_byte(change)), number);
        let bytes = postcard::to_allocvec(change).unwrap();
        assert_eq!(
            postcard::from_bytes::<LayoutChange>(&bytes).unwrap(),
            *change
        );
    }
    assert_eq!(postcard::to_allocvec(&all[12]).unwrap(), [12, 2, 8, 9]);
    // An `Apply` within an `Apply` is not read, however deep.
    let nested: Vec<u8> = core::iter::repeat_n([12_u8, 1], 100_000)
        .flatten()
        .collect();
    assert!(postcard::from_bytes::<LayoutChange>(&nested).is_err());
}
