#![allow(clippy::unwrap_used, reason = "test code")]
//! Steps on a layout of paper: members copy as soon as they are asked to, and say so.

use super::*;
use ringfort_ring::assign::first_layout;
use ringfort_ring::id::ClusterId;
use ringfort_ring::layout::Members;
use ringfort_ring::topology::{DiskSpec, NodeSpec, Topology};

fn node_id(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

fn disk_id(number: u128) -> DiskId {
    DiskId::from_u128(number + 100)
}

/// Five nodes of one disk each, three replicas of 32 partitions.
fn layout() -> Layout {
    let node = |number: u128| NodeSpec {
        id: node_id(number),
        name: format!("n{number}"),
        address: format!("127.0.0.1:{number}"),
        zone: String::new(),
        disks: vec![DiskSpec {
            id: disk_id(number),
            capacity_bytes: 1_000,
        }],
    };
    let nodes: Vec<_> = (1..=5).map(node).collect();
    let topology = Topology {
        cluster: ClusterId::from_u128(7),
        replicas: 3,
        control: vec![node_id(1), node_id(2), node_id(3)],
        nodes,
    };
    first_layout(&topology, 32).unwrap()
}

/// Everybody who has to copy has.
fn all_synced(layout: &Layout) -> BTreeSet<(DiskId, PartitionId, Epoch)> {
    let mut synced = BTreeSet::new();
    for (number, row) in (0_u32..).zip(&layout.rows) {
        let partition = PartitionId(number);
        for replica in layout.syncing_members(partition) {
            synced.insert((replica.disk, partition, row.epoch));
        }
    }
    synced
}

fn facts(layout: &Layout, verdicts: Vec<Verdict>) -> Facts {
    Facts {
        version: layout.version,
        verdicts,
        joint_max: 4,
        ..Facts::default()
    }
}

/// Steps until there are none; each is one version further and leaves at most so many rows moving.
fn run(mut layout: Layout) -> Layout {
    for _ in 0..200 {
        layout.check().unwrap();
        let facts = Facts {
            synced: all_synced(&layout),
            ..facts(&layout, Vec::new())
        };
        let Some(step) = next_step(&layout, &facts) else {
            return layout;
        };
        assert_eq!(step.layout.version, layout.version + 1, "{}", step.what);
        let moving = step.layout.rows.iter();
        let moving = moving.filter(|row| matches!(row.members, Members::Joint { .. }));
        assert!(moving.count() <= 4, "{}", step.what);
        layout = step.layout;
    }
    panic!("it never comes to rest");
}

fn holds(layout: &Layout, disk: DiskId) -> usize {
    let at = layout.disks.iter().position(|one| one.id == disk);
    let at = u16::try_from(at.unwrap()).unwrap();
    let rows = layout.rows.iter();
    rows.filter(|row| joined(row).contains(&at)).count()
}

fn joined(row: &ringfort_ring::layout::Row) -> Vec<u16> {
    match &row.members {
        Members::Stable(members) => members.iter().map(|member| member.disk).collect(),
        Members::Joint { old, new } => old.iter().chain(new).map(|member| member.disk).collect(),
    }
}

#[test]
fn a_layout_that_is_as_it_should_be_takes_no_step() {
    let layout = layout();
    assert_eq!(next_step(&layout, &facts(&layout, Vec::new())), None);
}

#[test]
fn a_node_that_is_out_loses_everything_and_gets_it_back_when_it_is_in() {
    let before = layout();
    let verdicts = vec![Verdict::Out(node_id(5))];
    let step = next_step(&before, &facts(&before, verdicts)).unwrap();
    let without = run(step.layout);
    assert_eq!(holds(&without, disk_id(5)), 0);
    let verdicts = vec![Verdict::BackIn(node_id(5))];
    let step = next_step(&without, &facts(&without, verdicts)).unwrap();
    let after = run(step.layout);
    assert_eq!(holds(&after, disk_id(5)), holds(&before, disk_id(5)));
}

#[test]
fn a_verdict_holds_for_its_own_version_only() {
    let layout = layout();
    let stale = Facts {
        version: layout.version - 1,
        ..facts(&layout, vec![Verdict::Out(node_id(5))])
    };
    assert_eq!(next_step(&layout, &stale), None);
}

#[test]
fn nothing_is_settled_before_all_have_copied_it_in_this_very_epoch() {
    let mut layout = layout();
    let verdicts = vec![Verdict::DiskOut(disk_id(4))];
    layout = next_step(&layout, &facts(&layout, verdicts))
        .unwrap()
        .layout;
    layout = next_step(&layout, &facts(&layout, Vec::new()))
        .unwrap()
        .layout;
    let moving = all_synced(&layout);
    assert_eq!(moving.len(), 4);
    assert_eq!(next_step(&layout, &facts(&layout, Vec::new())), None);
    let other_epoch = moving
        .iter()
        .map(|(disk, partition, epoch)| (*disk, *partition, Epoch(epoch.0 - 1)));
    let early = Facts {
        synced: other_epoch.collect(),
        ..facts(&layout, Vec::new())
    };
    assert_eq!(next_step(&layout, &early), None);
    let one = Facts {
        synced: moving.into_iter().take(1).collect(),
        ..facts(&layout, Vec::new())
    };
    let next = next_step(&layout, &one).unwrap().layout;
    let stable = |layout: &Layout| {
        let rows = layout.rows.iter();
        rows.filter(|row| matches!(row.members, Members::Stable(_)))
            .count()
    };
    assert_eq!(stable(&next), stable(&layout) + 1);
}

#[test]
fn a_lost_replica_comes_back_on_its_own_disk() {
    let before = layout();
    let partition = PartitionId(3);
    let lost = before.rule(partition).unwrap().members()[1];
    let facts = Facts {
        lost: vec![(partition, lost)],
        ..facts(&before, Vec::new())
    };
    let step = next_step(&before, &facts).unwrap();
    let syncing = step.layout.syncing_members(partition);
    assert_eq!(syncing.len(), 1);
    assert_eq!(syncing[0].disk, lost.disk);
    assert_eq!(syncing[0].joined, Epoch(step.layout.version));
    let after = run(step.layout);
    assert!(after.rule(partition).unwrap().contains(syncing[0]));
}

#[test]
fn a_control_member_that_is_out_is_replaced_in_two_versions() {
    let before = layout();
    let verdicts = vec![Verdict::Out(node_id(1))];
    let step = next_step(&before, &facts(&before, verdicts)).unwrap();
    let after = run(step.layout);
    let (control, control_before) = after.control_ids();
    assert_eq!(control_before, []);
    assert_eq!(control.len(), 3);
    assert!(!control.contains(&node_id(1)));
    assert!(after.control_epoch > before.control_epoch);
}
