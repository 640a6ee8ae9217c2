//! How much each disk shall hold: in proportion to its capacity, as far as the failure domains allow.

use super::{Candidate, Caps, groups};
use alloc::vec;
use alloc::vec::Vec;

/// One share of what is divided.
struct Share {
    /// What it is given in proportion to; above 0.
    weight: u128,
    /// The most that it can take.
    most: usize,
    /// What it has at present: a remainder goes to who has it already, so that rounding alone moves nothing.
    present: usize,
}

/// How many partitions each candidate shall hold; they sum up to rows times replicas. `present` says how many each
/// one holds, or is empty.
pub(super) fn targets(
    candidates: &[Candidate],
    caps: Caps,
    replicas: usize,
    rows: usize,
    present: &[usize],
) -> Vec<usize> {
    let share = |disks: core::ops::Range<usize>, most: usize| Share {
        weight: candidates[disks.clone()]
            .iter()
            .map(|disk| u128::from(disk.weight))
            .sum(),
        most,
        present: present.get(disks).map_or(0, |held| held.iter().sum()),
    };
    let zones = ranges(candidates, 0..candidates.len(), |disk| disk.zone);
    let zone_shares: Vec<_> = zones
        .iter()
        .map(|zone| {
            let room = caps.room_in_zone(&candidates[zone.clone()]);
            share(zone.clone(), room * rows)
        })
        .collect();
    let mut targets = Vec::with_capacity(candidates.len());
    for (zone, zone_total) in zones.into_iter().zip(divide(replicas * rows, &zone_shares)) {
        let nodes = ranges(candidates, zone, |disk| disk.node);
        let node_shares: Vec<_> = nodes
            .iter()
            .map(|node| share(node.clone(), node.len().min(caps.node) * rows))
            .collect();
        for (node, node_total) in nodes.into_iter().zip(divide(zone_total, &node_shares)) {
            let disk_shares: Vec<_> = node.map(|disk| share(disk..disk + 1, rows)).collect();
            targets.extend(divide(node_total, &disk_shares));
        }
    }
    targets
}

/// The runs of equal key within a range of the candidates.
fn ranges(
    candidates: &[Candidate],
    within: core::ops::Range<usize>,
    key: impl Fn(&Candidate) -> usize,
) -> Vec<core::ops::Range<usize>> {
    let mut start = within.start;
    groups(&candidates[within], key)
        .map(|group| {
            let range = start..start + group.len();
            start = range.end;
            range
        })
        .collect()
}

/// Divides `total` among shares, which have room for it, in proportion to their weights. What a full share cannot
/// take goes to the others; remainders go to the largest fractions, then to who has more than its floor at present,
/// then to the first ones.
fn divide(total: usize, shares: &[Share]) -> Vec<usize> {
    let mut parts = vec![0; shares.len()];
    let mut is_full = vec![false; shares.len()];
    let mut left = total;
    loop {
        let weight: u128 = open_shares(shares, &is_full)
            .map(|(_, share)| share.weight)
            .sum();
        let overfull = |share: &Share| {
            share.weight.saturating_mul(widen(left)) >= widen(share.most).saturating_mul(weight)
        };
        let full: Vec<usize> = open_shares(shares, &is_full)
            .filter(|(_, share)| overfull(share))
            .map(|(index, _)| index)
            .collect();
        if full.is_empty() || weight == 0 {
            break;
        }
        for index in full {
            is_full[index] = true;
            parts[index] = shares[index].most.min(left);
            left -= parts[index];
        }
    }
    let weight: u128 = open_shares(shares, &is_full)
        .map(|(_, share)| share.weight)
        .sum();
    if weight == 0 {
        return parts;
    }
    let mut remainders = Vec::new();
    let to_divide = left;
    for (index, share) in open_shares(shares, &is_full) {
        let exact = share.weight.saturating_mul(widen(to_divide));
        parts[index] = usize::try_from(exact / weight).unwrap_or(usize::MAX);
        left = left.saturating_sub(parts[index]);
        let has_it = share.present > parts[index];
        remainders.push((core::cmp::Reverse((exact % weight, has_it)), index));
    }
    remainders.sort_unstable();
    for (_, index) in remainders.into_iter().take(left) {
        parts[index] += 1;
    }
    parts
}

fn open_shares<'a>(
    shares: &'a [Share],
    is_full: &'a [bool],
) -> impl Iterator<Item = (usize, &'a Share)> + 'a {
    let open = move |(index, _): &(usize, &Share)| !is_full[*index];
    shares.iter().enumerate().filter(open)
}

pub(super) fn widen(number: usize) -> u128 {
    u128::try_from(number).unwrap_or(u128::MAX)
}
