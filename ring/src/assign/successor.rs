//! The successor of a layout: members stay where they may, and rows that must change become `Joint`.

use super::tables::{control_of, index_of_disks, tables};
use super::targets::widen;
use super::{Candidate, Caps, Move, fits};
use crate::id::{DiskId, Epoch, NodeId, PartitionId};
use crate::layout::{DiskEntry, Layout, LayoutError, Member, Members, NodeEntry, Row};
use crate::topology::Topology;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

/// The successor of `old`: members stay where they may.
pub(super) fn succeed(
    old: &Layout,
    topology: &Topology,
    candidates: &[Candidate],
    targets: &[usize],
    caps: Caps,
    rows: usize,
) -> Result<(Layout, Vec<Move>), LayoutError> {
    if old.cluster != topology.cluster {
        return Err(LayoutError("the layout is another cluster's"));
    }
    if old.rows.len() != rows || old.replicas != topology.replicas {
        return Err(LayoutError(
            "the number of partitions and of replicas cannot change",
        ));
    }
    let candidate_of: BTreeMap<DiskId, usize> = candidates
        .iter()
        .enumerate()
        .map(|(index, candidate)| (candidate.id, index))
        .collect();
    let known = |member: &Member| {
        let entry = old.disks.get(usize::from(member.disk))?;
        candidate_of.get(&entry.id).copied()
    };
    let mut loads = vec![0_usize; candidates.len()];
    let mut table: Vec<Vec<usize>> = Vec::with_capacity(rows);
    let mut can_move: Vec<bool> = Vec::with_capacity(rows);
    for row in &old.rows {
        let (members, is_stable) = match &row.members {
            Members::Stable(members) => (members, true),
            Members::Joint { new, .. } => (new, false),
        };
        let mut kept = Vec::new();
        for disk in members.iter().filter_map(known) {
            if !is_stable || fits(&kept, None, disk, candidates, caps) {
                kept.push(disk);
                loads[disk] += 1;
            }
        }
        table.push(kept);
        can_move.push(is_stable);
    }
    fill(
        &mut table,
        &can_move,
        &mut loads,
        candidates,
        targets,
        caps,
        usize::from(old.replicas),
    );
    balance(&mut table, &can_move, &mut loads, candidates, targets, caps);
    Ok(build_successor(
        old, topology, candidates, &table, &can_move,
    ))
}

/// Gives every movable row that lacks members the candidates furthest below their targets.
pub(super) fn fill(
    table: &mut [Vec<usize>],
    can_move: &[bool],
    loads: &mut [usize],
    candidates: &[Candidate],
    targets: &[usize],
    caps: Caps,
    replicas: usize,
) {
    for (row, _) in table.iter_mut().zip(can_move).filter(|(_, can)| **can) {
        while row.len() < replicas {
            let fitting = |disk: &usize| fits(row, None, *disk, candidates, caps);
            // There always is one: caps on nested domains are a laminar matroid, in which every set that is
            // within the caps extends to a largest one, and `Caps::of` made sure that that has N members.
            let Some(disk) = (0..candidates.len())
                .filter(fitting)
                .min_by(|a, b| fuller(*a, *b, loads, targets))
            else {
                break;
            };
            row.push(disk);
            loads[disk] += 1;
        }
    }
}

/// Orders two disks by how full they are against their targets: load a / target a against load b / target b.
pub(super) fn fuller(
    a: usize,
    b: usize,
    loads: &[usize],
    targets: &[usize],
) -> core::cmp::Ordering {
    let left = widen(loads[a] + 1) * widen(targets[b].max(1));
    let right = widen(loads[b] + 1) * widen(targets[a].max(1));
    left.cmp(&right).then(a.cmp(&b))
}

/// Moves single members from disks above their target to disks below it, until none can.
pub(super) fn balance(
    table: &mut [Vec<usize>],
    can_move: &[bool],
    loads: &mut [usize],
    candidates: &[Candidate],
    targets: &[usize],
    caps: Caps,
) {
    for (row, _) in table.iter_mut().zip(can_move).filter(|(_, can)| **can) {
        for slot in 0..row.len() {
            let from = row[slot];
            if loads[from] <= targets[from] {
                continue;
            }
            let wanting = |disk: &usize| {
                loads[*disk] < targets[*disk] && fits(row, Some(slot), *disk, candidates, caps)
            };
            let best = (0..candidates.len())
                .filter(wanting)
                .min_by(|a, b| fuller(*a, *b, loads, targets));
            if let Some(to) = best {
                loads[from] -= 1;
                loads[to] += 1;
                row[slot] = to;
                // One member a row and version: the others stay to copy from.
                break;
            }
        }
    }
}

pub(super) fn build_successor(
    old: &Layout,
    topology: &Topology,
    candidates: &[Candidate],
    table: &[Vec<usize>],
    can_move: &[bool],
) -> (Layout, Vec<Move>) {
    let version = old.version.saturating_add(1);
    let epoch = Epoch(version);
    let old_id = |member: &Member| old.disks.get(usize::from(member.disk)).map(|disk| disk.id);
    let mut in_use = vec![false; old.disks.len()];
    let changes = |row: &Row, target: &[usize]| match &row.members {
        Members::Joint { .. } => false,
        Members::Stable(members) => {
            members.len() != target.len()
                || !members.iter().all(|member| {
                    target
                        .iter()
                        .any(|disk| Some(candidates[*disk].id) == old_id(member))
                })
        }
    };
    for row in &old.rows {
        let sets: [&[Member]; 2] = match &row.members {
            Members::Stable(members) => [members, &[]],
            Members::Joint { old, new } => [old, new],
        };
        for member in sets.into_iter().flatten() {
            if let Some(flag) = in_use.get_mut(usize::from(member.disk)) {
                *flag = true;
            }
        }
    }
    let (nodes, disks) = tables(Some(old), topology, &in_use);
    let index = index_of_disks(&disks);
    let translate = |members: &[Member]| -> Vec<Member> {
        members
            .iter()
            .filter_map(|member| {
                let disk = *index.get(&old_id(member)?)?;
                Some(Member { disk, ..*member })
            })
            .collect()
    };
    let mut moves = Vec::new();
    let mut rows = Vec::with_capacity(old.rows.len());
    for (number, row) in old.rows.iter().enumerate() {
        let target = &table[number];
        let members = match &row.members {
            Members::Stable(members) if can_move[number] && changes(row, target) => {
                let before = translate(members);
                let after: Vec<Member> = target
                    .iter()
                    .filter_map(|disk| index.get(&candidates[*disk].id).copied())
                    .map(|disk| {
                        let stays = before.iter().find(|member| member.disk == disk);
                        stays.copied().unwrap_or(Member {
                            disk,
                            joined: epoch,
                        })
                    })
                    .collect();
                note_moves(number, &before, &after, &disks, &mut moves);
                Members::Joint {
                    old: before,
                    new: after,
                }
            }
            Members::Stable(members) => Members::Stable(translate(members)),
            Members::Joint { old, new } => Members::Joint {
                old: translate(old),
                new: translate(new),
            },
        };
        let is_changed =
            matches!(members, Members::Joint { .. }) && matches!(row.members, Members::Stable(_));
        rows.push(Row {
            epoch: if is_changed { epoch } else { row.epoch },
            members,
        });
    }
    let control = control_of(topology, &nodes);
    let control_ids = |layout_nodes: &[NodeEntry], control: &[u16]| -> Vec<NodeId> {
        control
            .iter()
            .filter_map(|index| layout_nodes.get(usize::from(*index)))
            .map(|node| node.id)
            .collect()
    };
    let same_control = control_ids(&nodes, &control) == control_ids(&old.nodes, &old.control);
    let layout = Layout {
        cluster: old.cluster,
        era: old.era,
        version,
        replicas: old.replicas,
        control_epoch: if same_control {
            old.control_epoch
        } else {
            epoch
        },
        control,
        control_before: Vec::new(),
        is_balancing_paused: old.is_balancing_paused,
        nodes,
        disks,
        rows,
    };
    (layout, moves)
}

pub(super) fn note_moves(
    row: usize,
    before: &[Member],
    after: &[Member],
    disks: &[DiskEntry],
    moves: &mut Vec<Move>,
) {
    let id = |member: &Member| disks.get(usize::from(member.disk)).map(|disk| disk.id);
    let missing_in = |set: &[Member], member: &Member| !set.iter().any(|other| other == member);
    let mut leaving = before
        .iter()
        .filter(|member| missing_in(after, member))
        .filter_map(id);
    for member in after.iter().filter(|member| missing_in(before, member)) {
        if let (Some(to), Ok(partition)) = (id(member), u32::try_from(row)) {
            moves.push(Move {
                partition: PartitionId(partition),
                from: leaving.next(),
                to,
            });
        }
    }
}
