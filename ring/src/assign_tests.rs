//! Tests of the assignment: domains, capacities, balance, staying put.
#![allow(clippy::unwrap_used, reason = "test code")]

use super::*;
use crate::id::{ClusterId, Epoch, NodeId};
use crate::layout::{Members, Row};
use crate::topology::DiskSpec;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::ToString;

/// A node a word: `zone:capacity[,capacity…]`.
fn topology(replicas: u8, nodes: &str) -> Topology {
    let nodes: Vec<NodeSpec> = nodes
        .split_whitespace()
        .enumerate()
        .map(|(number, word)| {
            let (zone, disks) = word.split_once(':').unwrap();
            let id = u128::try_from(number).unwrap() + 1;
            NodeSpec {
                id: NodeId::from_u128(id),
                name: format!("n{id}"),
                address: format!("127.0.0.1:{id}"),
                zone: zone.to_string(),
                disks: disks
                    .split(',')
                    .enumerate()
                    .map(|(disk, capacity)| DiskSpec {
                        id: DiskId::from_u128(id * 100 + u128::try_from(disk).unwrap()),
                        capacity_bytes: capacity.parse().unwrap(),
                    })
                    .collect(),
            }
        })
        .collect();
    Topology {
        cluster: ClusterId::from_u128(7),
        replicas,
        control: Topology::suggest_control(&nodes, 3),
        nodes,
    }
}

fn members(layout: &Layout, row: &Row) -> Vec<(DiskId, u16, alloc::string::String)> {
    let set = match &row.members {
        Members::Stable(set) | Members::Joint { new: set, .. } => set,
    };
    set.iter()
        .map(|member| {
            let disk = &layout.disks[usize::from(member.disk)];
            let zone = layout.nodes[usize::from(disk.node)].zone.clone();
            (disk.id, disk.node, zone)
        })
        .collect()
}

fn loads(layout: &Layout) -> BTreeMap<DiskId, usize> {
    let mut loads = BTreeMap::new();
    for row in &layout.rows {
        for (disk, ..) in members(layout, row) {
            *loads.entry(disk).or_default() += 1;
        }
    }
    loads
}

/// The fewest distinct nodes, and zones, that any row has.
fn spread(layout: &Layout) -> (usize, usize) {
    let distinct = |row: &Row| {
        let members = members(layout, row);
        let nodes: BTreeSet<_> = members.iter().map(|(_, node, _)| *node).collect();
        let zones: BTreeSet<_> = members.iter().map(|(_, _, zone)| zone.clone()).collect();
        (nodes.len(), zones.len())
    };
    let all: Vec<_> = layout.rows.iter().map(distinct).collect();
    (
        all.iter().map(|(nodes, _)| *nodes).min().unwrap(),
        all.iter().map(|(_, zones)| *zones).min().unwrap(),
    )
}

fn stabilise(layout: &Layout) -> Layout {
    let mut stable = layout.clone();
    stable.version += 1;
    for row in &mut stable.rows {
        if let Members::Joint { new, .. } = &row.members {
            row.members = Members::Stable(new.clone());
            row.epoch = Epoch(stable.version);
        }
    }
    stable
}

/// Lines of `testdata/assignment.txt`: `replicas | nodes | least nodes a row | least zones a row | loads by disk`.
#[test]
fn a_first_layout_meets_its_table() {
    for line in include_str!("testdata/assignment.txt").lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let topology = topology(fields[0].parse().unwrap(), fields[1]);
        let outcome = compute_layout(None, &topology, 256);
        if fields[2] == "refused" {
            assert!(outcome.is_err(), "{line}");
            continue;
        }
        let (layout, moves) = outcome.unwrap();
        assert_eq!(layout.check(), Ok(()), "{line}");
        assert!(moves.is_empty(), "{line}");
        let (nodes, zones) = spread(&layout);
        assert_eq!(
            (nodes, zones),
            (fields[2].parse().unwrap(), fields[3].parse().unwrap()),
            "{line}"
        );
        let loads: Vec<alloc::string::String> = loads(&layout)
            .values()
            .map(|load| load.to_string())
            .collect();
        assert_eq!(loads.join(" "), fields[4], "{line}");
        for row in &layout.rows {
            assert_eq!(members(&layout, row).len(), usize::from(layout.replicas));
        }
    }
}

#[test]
fn the_order_of_declaration_does_not_matter() {
    let topology = topology(3, "a:5,7 b:9 c:4,4,4 a:6 b:8");
    let mut shuffled = topology.clone();
    shuffled.nodes.reverse();
    shuffled.nodes[1].disks.reverse();
    shuffled.control.reverse();
    let first = compute_layout(None, &topology, 1024).unwrap();
    assert_eq!(first, compute_layout(None, &shuffled, 1024).unwrap());
}

#[test]
fn a_disk_shares_rows_with_most_others() {
    let topology = topology(3, "a:1 a:1 a:1 b:1 b:1 b:1 c:1 c:1 c:1");
    let (layout, _) = compute_layout(None, &topology, 1024).unwrap();
    let disk = layout.disks[0].id;
    let partners: BTreeSet<DiskId> = layout
        .rows
        .iter()
        .map(|row| members(&layout, row))
        .filter(|row| row.iter().any(|(member, ..)| *member == disk))
        .flatten()
        .map(|(member, ..)| member)
        .collect();
    // Itself and all six of the other zones.
    assert_eq!(partners.len(), 7);
}

#[test]
fn an_unchanged_topology_moves_nothing() {
    let topology = topology(3, "a:5,7 b:9 c:4,4,4 a:6 b:8");
    let (old, _) = compute_layout(None, &topology, 512).unwrap();
    let (new, moves) = compute_layout(Some(&old), &topology, 512).unwrap();
    assert!(moves.is_empty());
    assert_eq!((new.rows, new.version), (old.rows, 2));
}

#[test]
fn a_fourth_node_takes_its_quarter_and_nothing_else_moves() {
    let (old, _) = compute_layout(None, &topology(3, "a:1 b:1 c:1"), 256).unwrap();
    let larger = topology(3, "a:1 b:1 c:1 d:1");
    let (new, moves) = compute_layout(Some(&old), &larger, 256).unwrap();
    assert_eq!(moves.len(), 192);
    let newcomer = DiskId::from_u128(400);
    assert!(
        moves
            .iter()
            .all(|step| step.to == newcomer && step.from.is_some())
    );
    assert!(loads(&new).values().all(|load| *load == 192));
    // A row that moves is Joint in the new epoch; who stays keeps the epoch at which it joined.
    for (old_row, row) in old.rows.iter().zip(&new.rows) {
        match &row.members {
            Members::Stable(_) => assert_eq!(row, old_row),
            Members::Joint { old, new } => {
                assert_eq!(row.epoch, Epoch(2));
                let joined: Vec<u64> = new.iter().map(|member| member.joined.0).collect();
                assert_eq!(joined.iter().filter(|epoch| **epoch == 1).count(), 2);
                assert_eq!(old.len(), 3);
            }
        }
    }
    // Rows that are moving are left alone until they are stable again.
    let (third, moves) = compute_layout(Some(&new), &larger, 256).unwrap();
    assert!(moves.is_empty());
    assert_eq!(third.rows, new.rows);
}

#[test]
fn a_drained_disk_gives_up_its_rows_and_then_leaves_the_tables() {
    let all = topology(3, "a:1 b:1 c:1 d:1");
    let (old, _) = compute_layout(None, &all, 256).unwrap();
    let mut fewer = all.clone();
    fewer.nodes.remove(1);
    fewer.control = Topology::suggest_control(&fewer.nodes, 3);
    let (joint, moves) = compute_layout(Some(&old), &fewer, 256).unwrap();
    assert_eq!(moves.len(), 192);
    let gone = DiskId::from_u128(200);
    assert!(moves.iter().all(|step| step.from == Some(gone)));
    assert_eq!(joint.control_epoch, Epoch(2));
    assert_eq!(joint.disks.len(), 4);
    let (last, _) = compute_layout(Some(&stabilise(&joint)), &fewer, 256).unwrap();
    assert_eq!((last.disks.len(), last.nodes.len()), (3, 3));
    assert!(!loads(&last).contains_key(&gone));
    assert_eq!(last.check(), Ok(()));
}

#[test]
fn what_does_not_fit_the_older_layout_is_refused() {
    let topology = topology(3, "a:1 b:1 c:1");
    let (old, _) = compute_layout(None, &topology, 256).unwrap();
    assert!(compute_layout(Some(&old), &topology, 512).is_err());
    assert!(compute_layout(None, &topology, 0).is_err());
    assert!(compute_layout(None, &topology, 65_537).is_err());
    let mut other = topology.clone();
    other.cluster = ClusterId::from_u128(8);
    assert!(compute_layout(Some(&old), &other, 256).is_err());
    let mut wider = topology;
    wider.replicas = 1;
    assert!(compute_layout(Some(&old), &wider, 256).is_err());
}

#[test]
fn the_largest_layout_is_computed() {
    let nodes = "a:3,4 b:5,5 c:6 d:7 e:8 f:9 ".repeat(4);
    let (layout, _) = compute_layout(None, &topology(5, &nodes), 65_536).unwrap();
    assert_eq!(spread(&layout), (5, 5));
}

proptest::proptest! {
    #[test]
    fn any_topology_is_assigned_within_its_domains_and_in_proportion(
        zones in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(1_u64..20, 1..4), 1..4), 1..6),
        replicas in proptest::sample::select(alloc::vec![1_u8, 3, 5]),
    ) {
        let words: Vec<alloc::string::String> = zones.iter().enumerate().flat_map(|(zone, nodes)| {
            nodes.iter().map(move |disks| {
                let disks: Vec<_> = disks.iter().map(u64::to_string).collect();
                format!("z{zone}:{}", disks.join(","))
            })
        }).collect();
        let topology = topology(replicas, &words.join(" "));
        let wanted = usize::from(replicas);
        let disk_count: usize = zones.iter().flatten().map(Vec::len).sum();
        let outcome = compute_layout(None, &topology, 128);
        if disk_count < wanted {
            proptest::prop_assert!(outcome.is_err());
            return Ok(());
        }
        let (layout, _) = outcome.unwrap();
        let (nodes, zones_in_row) = spread(&layout);
        let node_count: usize = zones.iter().map(Vec::len).sum();
        if node_count >= wanted { proptest::prop_assert_eq!(nodes, wanted); }
        if zones.len() >= wanted { proptest::prop_assert_eq!(zones_in_row, wanted); }
        for row in &layout.rows {
            let distinct: BTreeSet<_> = members(&layout, row).into_iter().map(|(disk, ..)| disk).collect();
            proptest::prop_assert_eq!(distinct.len(), wanted);
        }
        // The same topology again moves nothing; and one disk less moves no more than that disk held, plus what
        // balance asks for.
        let (_, moves) = compute_layout(Some(&layout), &topology, 128).unwrap();
        proptest::prop_assert!(moves.is_empty());
    }

    #[test]
    fn equal_nodes_hold_within_five_percent_of_each_other(count in 3_usize..40) {
        let (layout, _) = compute_layout(None, &topology(3, &"z:1 ".repeat(count)), 4096).unwrap();
        let loads: Vec<usize> = loads(&layout).values().copied().collect();
        let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
        proptest::prop_assert!(most * 100 <= least * 105);
    }
}
