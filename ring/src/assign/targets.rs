//! How much each disk shall hold: in proportion to its capacity, as far as the failure domains allow.

use super::{Candidate, Caps, groups};
use alloc::vec;
use alloc::vec::Vec;

/// How many partitions each candidate shall hold; they sum up to rows times replicas.
pub(super) fn targets(
    candidates: &[Candidate],
    caps: Caps,
    replicas: usize,
    rows: usize,
) -> Vec<usize> {
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
pub(super) fn divide(total: usize, shares: &[(u128, usize)]) -> Vec<usize> {
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

pub(super) fn open_shares<'a>(
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

pub(super) fn widen(number: usize) -> u128 {
    u128::try_from(number).unwrap_or(u128::MAX)
}
