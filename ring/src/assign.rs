//! Assignment: from a topology to a layout (DESIGN 3).
//!
//! Each disk gets a target number of partitions, in proportion to its capacity as far as the failure domains allow.
//! A fresh layout meets the targets exactly, by McNaughton's wrap-around rule (1959): all copies are dealt out to
//! the rows in turn, disk after disk, node after node, zone after zone, so that copies of one disk (node, zone) fall
//! on rows as far apart as can be. Swaps then mix who shares rows with whom, for repair draws on all partners.
//!
//! With an older layout at hand every member stays where it may; only rows that must change do, and they become
//! `Joint`. Rows that are already moving are left alone. The outcome depends on nothing but the arguments.

use crate::id::{DiskId, Epoch, Era, NodeId, PartitionId};
use crate::layout::{DiskEntry, Layout, LayoutError, Member, Members, NodeEntry, Row};
use crate::topology::{NodeSpec, Topology};
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

/// One replica that is to be made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Move {
    /// Of which partition.
    pub partition: PartitionId,
    /// The disk that it leaves; `None` for a replica that is added.
    pub from: Option<DiskId>,
    /// The disk that it goes to.
    pub to: DiskId,
}

/// A disk that may take partitions, with its place in the tree of failure domains.
struct Candidate {
    id: DiskId,
    node: usize,
    zone: usize,
    capacity: u64,
}

/// At most so many copies of one partition in a zone, and on a node. A disk holds one.
#[derive(Clone, Copy)]
struct Caps {
    zone: usize,
    node: usize,
}

/// Computes a layout: the first one where `old` is `None`, else the successor of `old`.
///
/// Copies of a partition go to distinct zones where there are at least N, to distinct nodes where there are at least
/// N, else to distinct disks; with fewer zones or nodes than N they are spread over them as evenly as their disks
/// allow. The moves list every replica to be made, none for a first layout.
///
/// # Errors
/// In words, where the topology is faulty, has fewer than N disks with a capacity, or does not fit `old`.
pub fn compute_layout(
    old: Option<&Layout>,
    topology: &Topology,
    partition_count: u32,
) -> Result<(Layout, Vec<Move>), LayoutError> {
    topology.check()?;
    let rows = usize::try_from(partition_count).unwrap_or(usize::MAX);
    if rows == 0 || rows > Layout::MAX_PARTITIONS {
        return Err(LayoutError("the number of partitions must be 1 to 65536"));
    }
    let candidates = candidates(topology);
    let replicas = usize::from(topology.replicas);
    if candidates.len() < replicas {
        return Err(LayoutError(
            "there are fewer disks with a capacity than replicas: add disks, or choose fewer replicas",
        ));
    }
    let caps = Caps::of(&candidates, replicas);
    let targets = targets(&candidates, caps, replicas, rows);
    let (layout, moves) = match old {
        None => (
            first(topology, &candidates, &targets, caps, rows),
            Vec::new(),
        ),
        Some(old) => succeed(old, topology, &candidates, &targets, caps, rows)?,
    };
    layout.check()?;
    Ok((layout, moves))
}

/// The disks with a capacity, sorted by zone, node and id.
fn candidates(topology: &Topology) -> Vec<Candidate> {
    let mut nodes: Vec<&NodeSpec> = topology.nodes.iter().collect();
    nodes.sort_by(|a, b| (&a.zone, a.id).cmp(&(&b.zone, b.id)));
    let mut zones: Vec<&str> = nodes.iter().map(|node| node.zone.as_str()).collect();
    zones.dedup();
    let mut all = Vec::new();
    for (node, spec) in nodes.iter().enumerate() {
        let mut disks = spec.disks.clone();
        disks.sort_by_key(|disk| disk.id);
        let zone = zones.partition_point(|zone| *zone < spec.zone.as_str());
        all.extend(
            disks
                .iter()
                .filter(|disk| disk.capacity_bytes > 0)
                .map(|disk| Candidate {
                    id: disk.id,
                    node,
                    zone,
                    capacity: disk.capacity_bytes,
                }),
        );
    }
    all
}

/// Splits a sorted run into its groups of equal key.
fn groups<K: PartialEq>(
    candidates: &[Candidate],
    key: impl Fn(&Candidate) -> K,
) -> impl Iterator<Item = &[Candidate]> {
    candidates.chunk_by(move |a, b| key(a) == key(b))
}

impl Caps {
    /// The tightest caps that N copies still fit under.
    fn of(candidates: &[Candidate], replicas: usize) -> Self {
        let fits = |caps: Self| {
            let room: usize = groups(candidates, |disk| disk.zone)
                .map(|zone| caps.room_in_zone(zone))
                .sum();
            room >= replicas
        };
        let any_zone = replicas;
        let node = (1..replicas)
            .find(|node| {
                fits(Self {
                    zone: any_zone,
                    node: *node,
                })
            })
            .unwrap_or(replicas);
        let zone = (1..replicas)
            .find(|zone| fits(Self { zone: *zone, node }))
            .unwrap_or(replicas);
        Self { zone, node }
    }

    fn room_in_zone(self, zone: &[Candidate]) -> usize {
        let room: usize = groups(zone, |disk| disk.node)
            .map(|node| node.len().min(self.node))
            .sum();
        room.min(self.zone)
    }
}

/// How many partitions each candidate shall hold; they sum up to rows times replicas.
fn targets(candidates: &[Candidate], caps: Caps, replicas: usize, rows: usize) -> Vec<usize> {
    let weight = |disks: &[Candidate]| disks.iter().map(|disk| u128::from(disk.capacity)).sum();
    let zones: Vec<_> = groups(candidates, |disk| disk.zone).collect();
    let zone_shares: Vec<_> = zones
        .iter()
        .map(|zone| (weight(zone), caps.room_in_zone(zone) * rows))
        .collect();
    let mut targets = Vec::with_capacity(candidates.len());
    for (zone, zone_total) in zones.iter().zip(divide(replicas * rows, &zone_shares)) {
        let nodes: Vec<_> = groups(zone, |disk| disk.node).collect();
        let node_shares: Vec<_> = nodes
            .iter()
            .map(|node| (weight(node), node.len().min(caps.node) * rows))
            .collect();
        for (node, node_total) in nodes.iter().zip(divide(zone_total, &node_shares)) {
            let disk_shares: Vec<_> = node
                .iter()
                .map(|disk| (u128::from(disk.capacity), rows))
                .collect();
            targets.extend(divide(node_total, &disk_shares));
        }
    }
    targets
}

/// Divides `total` among shares of (weight above 0, most), which have room for it, in proportion to the weights.
/// What a full share cannot take goes to the others; remainders go to the largest fractions, the first ones first.
fn divide(total: usize, shares: &[(u128, usize)]) -> Vec<usize> {
    let mut parts = vec![0; shares.len()];
    let mut is_full = vec![false; shares.len()];
    let mut left = total;
    loop {
        let weight: u128 = open_shares(shares, &is_full)
            .map(|(_, weight)| weight)
            .sum();
        let overfull = |index: usize, weight_of: u128| {
            let (_, most) = shares[index];
            weight_of.saturating_mul(widen(left)) >= widen(most).saturating_mul(weight)
        };
        let full: Vec<usize> = open_shares(shares, &is_full)
            .filter(|(index, weight_of)| overfull(*index, *weight_of))
            .map(|(index, _)| index)
            .collect();
        if full.is_empty() || weight == 0 {
            break;
        }
        for index in full {
            is_full[index] = true;
            parts[index] = shares[index].1.min(left);
            left -= parts[index];
        }
    }
    let weight: u128 = open_shares(shares, &is_full)
        .map(|(_, weight)| weight)
        .sum();
    if weight == 0 {
        return parts;
    }
    let mut remainders = Vec::new();
    let to_divide = left;
    for (index, weight_of) in open_shares(shares, &is_full) {
        let exact = weight_of.saturating_mul(widen(to_divide));
        parts[index] = usize::try_from(exact / weight).unwrap_or(usize::MAX);
        left = left.saturating_sub(parts[index]);
        remainders.push((core::cmp::Reverse(exact % weight), index));
    }
    remainders.sort_unstable();
    for (_, index) in remainders.into_iter().take(left) {
        parts[index] += 1;
    }
    parts
}

fn open_shares<'a>(
    shares: &'a [(u128, usize)],
    is_full: &'a [bool],
) -> impl Iterator<Item = (usize, u128)> + 'a {
    let open = move |(index, _): &(usize, &(u128, usize))| !is_full[*index];
    shares
        .iter()
        .enumerate()
        .filter(open)
        .map(|(index, (weight, _))| (index, *weight))
}

fn widen(number: usize) -> u128 {
    u128::try_from(number).unwrap_or(u128::MAX)
}

/// The first layout: targets met exactly.
fn first(
    topology: &Topology,
    candidates: &[Candidate],
    targets: &[usize],
    caps: Caps,
    rows: usize,
) -> Layout {
    let mut table: Vec<Vec<usize>> = vec![Vec::new(); rows];
    let copies = targets
        .iter()
        .enumerate()
        .flat_map(|(disk, count)| core::iter::repeat_n(disk, *count));
    for (position, disk) in copies.enumerate() {
        table[position % rows].push(disk);
    }
    mix(&mut table, candidates, caps);

    let (nodes, disks) = tables(None, topology, &[]);
    let epoch = Epoch(1);
    let index = index_of_disks(&disks);
    let rows = table
        .iter()
        .map(|row| Row {
            epoch,
            members: Members::Stable(
                row.iter()
                    .filter_map(|disk| index.get(&candidates[*disk].id))
                    .map(|disk| Member {
                        disk: *disk,
                        joined: epoch,
                    })
                    .collect(),
            ),
        })
        .collect();
    Layout {
        cluster: topology.cluster,
        era: Era(0),
        version: 1,
        replicas: topology.replicas,
        control_epoch: epoch,
        control: control_of(topology, &nodes),
        nodes,
        disks,
        rows,
    }
}

/// Swaps members between rows, counts and caps kept, so that a disk shares rows with many others.
fn mix(table: &mut [Vec<usize>], candidates: &[Candidate], caps: Caps) {
    let mut random = SplitMix(0x5249_4e47_464f_5254);
    for _ in 0..4 {
        for row in 0..table.len() {
            let other = random.below(table.len());
            let (slot, other_slot) = (
                random.below(table[row].len()),
                random.below(table[other].len()),
            );
            let (mine, theirs) = (table[row][slot], table[other][other_slot]);
            if row != other
                && fits(&table[row], Some(slot), theirs, candidates, caps)
                && fits(&table[other], Some(other_slot), mine, candidates, caps)
            {
                table[row][slot] = theirs;
                table[other][other_slot] = mine;
            }
        }
    }
    // The first member is the one that is asked for a body: take turns.
    for row in table {
        let by = random.below(row.len());
        row.rotate_left(by);
    }
}

/// Whether `disk` may stand in a row, in the place of the member at `slot` or beside all members.
fn fits(
    row: &[usize],
    slot: Option<usize>,
    disk: usize,
    candidates: &[Candidate],
    caps: Caps,
) -> bool {
    let (mut in_zone, mut on_node) = (1, 1);
    for (index, member) in row.iter().enumerate() {
        if Some(index) == slot {
            continue;
        }
        if *member == disk {
            return false;
        }
        in_zone += usize::from(candidates[*member].zone == candidates[disk].zone);
        on_node += usize::from(candidates[*member].node == candidates[disk].node);
    }
    in_zone <= caps.zone && on_node <= caps.node
}

/// The successor of `old`: members stay where they may.
fn succeed(
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
fn fill(
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
fn fuller(a: usize, b: usize, loads: &[usize], targets: &[usize]) -> core::cmp::Ordering {
    let left = widen(loads[a] + 1) * widen(targets[b].max(1));
    let right = widen(loads[b] + 1) * widen(targets[a].max(1));
    left.cmp(&right).then(a.cmp(&b))
}

/// Moves single members from disks above their target to disks below it, until none can.
fn balance(
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

fn build_successor(
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
        nodes,
        disks,
        rows,
    };
    (layout, moves)
}

fn note_moves(
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

/// The node and disk tables: what `old` lists and is still declared or in use, in its order, then what is new.
fn tables(
    old: Option<&Layout>,
    topology: &Topology,
    in_use: &[bool],
) -> (Vec<NodeEntry>, Vec<DiskEntry>) {
    let declared: BTreeMap<NodeId, &NodeSpec> =
        topology.nodes.iter().map(|node| (node.id, node)).collect();
    let owner: BTreeMap<DiskId, (NodeId, u64)> = topology
        .nodes
        .iter()
        .flat_map(|node| {
            node.disks
                .iter()
                .map(move |disk| (disk.id, (node.id, disk.capacity_bytes)))
        })
        .collect();

    let mut node_entries: Vec<NodeEntry> = Vec::new();
    let mut disk_list: Vec<(DiskId, NodeId, u64)> = Vec::new();
    if let Some(old) = old {
        for (index, disk) in old.disks.iter().enumerate() {
            let old_node = old.nodes.get(usize::from(disk.node)).map(|node| node.id);
            match (owner.get(&disk.id), old_node) {
                (Some((node, capacity)), _) => disk_list.push((disk.id, *node, *capacity)),
                (None, Some(node)) if in_use.get(index) == Some(&true) => {
                    disk_list.push((disk.id, node, disk.capacity_bytes));
                }
                (None, _) => {}
            }
        }
        for node in &old.nodes {
            let holds_disk = disk_list.iter().any(|(_, owner, _)| *owner == node.id);
            match declared.get(&node.id) {
                Some(spec) => node_entries.push(entry_of(spec)),
                None if holds_disk => node_entries.push(node.clone()),
                None => {}
            }
        }
    }
    for (id, spec) in &declared {
        if !node_entries.iter().any(|node| node.id == *id) {
            node_entries.push(entry_of(spec));
        }
    }
    let listed: alloc::collections::BTreeSet<DiskId> =
        disk_list.iter().map(|(id, _, _)| *id).collect();
    for (id, (node, capacity)) in &owner {
        if !listed.contains(id) {
            disk_list.push((*id, *node, *capacity));
        }
    }
    let node_index: BTreeMap<NodeId, u16> = node_entries
        .iter()
        .enumerate()
        .filter_map(|(index, node)| Some((node.id, u16::try_from(index).ok()?)))
        .collect();
    let disks = disk_list
        .into_iter()
        .filter_map(|(id, node, capacity_bytes)| {
            Some(DiskEntry {
                id,
                node: *node_index.get(&node)?,
                capacity_bytes,
            })
        })
        .collect();
    (node_entries, disks)
}

fn entry_of(spec: &NodeSpec) -> NodeEntry {
    NodeEntry {
        id: spec.id,
        name: spec.name.clone(),
        address: spec.address.clone(),
        zone: spec.zone.clone(),
    }
}

fn index_of_disks(disks: &[DiskEntry]) -> BTreeMap<DiskId, u16> {
    disks
        .iter()
        .enumerate()
        .filter_map(|(index, disk)| Some((disk.id, u16::try_from(index).ok()?)))
        .collect()
}

fn control_of(topology: &Topology, nodes: &[NodeEntry]) -> Vec<u16> {
    let mut ids = topology.control.clone();
    ids.sort_unstable();
    ids.iter()
        .filter_map(|id| nodes.iter().position(|node| node.id == *id))
        .filter_map(|index| u16::try_from(index).ok())
        .collect()
}

/// SplitMix64 (Steele, Lea and Flood, 2014): a fixed sequence, for mixing only.
struct SplitMix(u64);

impl SplitMix {
    /// A number below `bound`, which is above zero (zero gives zero).
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(bits % bound).unwrap_or(0)
    }
}

#[cfg(test)]
#[path = "assign_tests.rs"]
mod tests;
