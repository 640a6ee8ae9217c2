//! The rows that a layout's tables ask for, with as little movement from its present rows as can be.
//!
//! A member stays where it may: on a disk with a weight, within the failure domains. What lacks members is filled
//! with the disks that are furthest below their share; then single members move from disks above their share to disks
//! below it (`assign/balance.rs`), at most one a row, so that the others stay to copy from. A row that is moving
//! already keeps its new members, but for those that are gone.

use super::targets::{targets, widen};
use super::{Candidate, Caps, candidates, fits, is_receiving};
use crate::layout::{DiskStanding, Layout, Member, NodeStanding};
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

/// The rows that the tables of `layout` ask for: members as indexes into its disks, one list a partition.
///
/// Where the disks with a weight are fewer than N, members that ought to go stay, for nobody could take their place.
#[must_use]
pub fn target(layout: &Layout) -> Vec<Vec<u16>> {
    target_avoiding(layout, |_| false)
}

/// [`target`], placing nothing new on disks that are to be avoided.
pub(super) fn target_avoiding(layout: &Layout, avoids: impl Fn(u16) -> bool) -> Vec<Vec<u16>> {
    let mut plan = Plan::new(layout, avoids);
    plan.fill();
    plan.balance();
    plan.into_rows(layout)
}

/// How many partitions each disk of the layout shall hold, by index: its share by weight, as far as the failure
/// domains allow.
#[must_use]
pub fn shares(layout: &Layout) -> Vec<usize> {
    let mut shares = vec![0; layout.disks.len()];
    let plan = Plan::new(layout, |_| false);
    for (candidate, target) in plan.candidates.iter().zip(&plan.targets) {
        shares[usize::from(candidate.disk)] = *target;
    }
    shares
}

/// Whether a member's disk takes part no more: its partitions have to be made anew elsewhere.
pub(crate) fn is_out(layout: &Layout, disk: u16) -> bool {
    let Some(entry) = layout.disks.get(usize::from(disk)) else {
        return true;
    };
    let node = layout.nodes.get(usize::from(entry.node));
    entry.standing == DiskStanding::Out
        || node.is_none_or(|node| node.standing == NodeStanding::Out)
}

/// A row while it is worked on: members as indexes into the candidates.
pub(super) struct Draft {
    pub(super) members: Vec<usize>,
    /// Which of them the partition does not have at present.
    pub(super) is_fresh: Vec<bool>,
    /// Whether members that could stay are left where they are.
    pub(super) is_settled: bool,
    /// How many members it shall have.
    wanted: usize,
}

impl Draft {
    /// Whether the member at `slot` may go to another disk: one that is not there yet may; of the others, one a row.
    pub(super) fn may_move(&self, slot: usize) -> bool {
        self.is_fresh[slot] || !(self.is_settled || self.is_fresh.contains(&true))
    }
}

/// The whole of it while it is worked on.
pub(super) struct Plan {
    pub(super) candidates: Vec<Candidate>,
    pub(super) caps: Caps,
    pub(super) targets: Vec<usize>,
    pub(super) loads: Vec<usize>,
    pub(super) rows: Vec<Draft>,
    /// The candidates that take something new, the one that is furthest below its target first.
    pub(super) takers: Takers,
}

/// Candidates in the order of how full they are.
pub(super) struct Takers {
    order: BTreeSet<(u128, usize)>,
    is_taker: Vec<bool>,
}

/// How full a candidate is, once it held one more; at most [`FULL`] while it stays within its target.
fn fullness(load: usize, target: usize) -> u128 {
    (widen(load + 1) << FULL_BITS) / widen(target.max(1))
}

const FULL_BITS: u32 = 40;
const FULL: u128 = 1 << FULL_BITS;

impl Takers {
    /// All of them, the emptiest first.
    pub(super) fn all(&self) -> impl Iterator<Item = usize> {
        self.order.iter().map(|(_, disk)| *disk)
    }

    /// Those below their target, the emptiest first.
    pub(super) fn below_target(&self) -> impl Iterator<Item = usize> {
        let below = self.order.iter().take_while(|(full, _)| *full <= FULL);
        below.map(|(_, disk)| *disk)
    }

    /// Whether this one takes something new at all.
    pub(super) fn takes(&self, disk: usize) -> bool {
        self.is_taker[disk]
    }
}

impl Plan {
    fn new(layout: &Layout, avoids: impl Fn(u16) -> bool) -> Self {
        let candidates = candidates(&layout.nodes, &layout.disks, |disk| {
            layout.weight_bytes(disk)
        });
        let replicas = usize::from(layout.replicas).min(candidates.len());
        let caps = Caps::of(&candidates, replicas);
        let mut candidate_of = vec![None; layout.disks.len()];
        for (index, candidate) in candidates.iter().enumerate() {
            candidate_of[usize::from(candidate.disk)] = Some(index);
        }
        let known = |member: &Member| {
            candidate_of
                .get(usize::from(member.disk))
                .copied()
                .flatten()
        };

        let mut loads = vec![0_usize; candidates.len()];
        for row in &layout.rows {
            for disk in row.wanted().iter().filter_map(known) {
                loads[disk] += 1;
            }
        }
        let targets = targets(&candidates, caps, replicas, layout.rows.len(), &loads);
        let is_taker: Vec<bool> = candidates
            .iter()
            .map(|candidate| {
                let entry = &layout.disks[usize::from(candidate.disk)];
                is_receiving(layout, entry) && !avoids(candidate.disk)
            })
            .collect();
        let mut plan = Self {
            takers: Takers {
                order: BTreeSet::new(),
                is_taker,
            },
            candidates,
            caps,
            targets,
            loads,
            rows: Vec::with_capacity(layout.rows.len()),
        };
        for row in &layout.rows {
            let present = row.wanted();
            let members: Vec<usize> = present.iter().filter_map(known).collect();
            let has_gone = present.iter().any(|member| is_out(layout, member.disk));
            let known_count = members.len();
            let mut draft = Draft {
                is_fresh: vec![false; known_count],
                members,
                // A row that moves goes where it is going, but for members that are gone; and a row that has to be
                // repaired is not balanced in the same step.
                is_settled: row.is_joint() || has_gone,
                wanted: if row.is_joint() {
                    let gone = present.iter().filter(|m| is_out(layout, m.disk)).count();
                    known_count + gone
                } else {
                    replicas
                },
            };
            if !row.is_joint() {
                plan.cut(&mut draft);
            }
            plan.rows.push(draft);
        }
        for disk in 0..plan.candidates.len() {
            plan.list(disk);
        }
        plan
    }

    /// Drops the members that stand too close to others, then those that are too many: of several the fullest.
    fn cut(&mut self, draft: &mut Draft) {
        loop {
            let is_too_close = |slot: &usize| {
                let disk = draft.members[*slot];
                !fits(
                    &draft.members,
                    Some(*slot),
                    disk,
                    &self.candidates,
                    self.caps,
                )
            };
            let full = |slot: &usize| {
                let disk = draft.members[*slot];
                (fullness(self.loads[disk], self.targets[disk]), disk)
            };
            let slots = 0..draft.members.len();
            let close = slots.clone().filter(is_too_close).max_by_key(full);
            let is_over = draft.members.len() > draft.wanted;
            let Some(slot) = close.or_else(|| slots.filter(|_| is_over).max_by_key(full)) else {
                return;
            };
            self.loads[draft.members.remove(slot)] -= 1;
            draft.is_fresh.remove(slot);
        }
    }

    fn list(&mut self, disk: usize) {
        if self.takers.is_taker[disk] {
            let full = fullness(self.loads[disk], self.targets[disk]);
            self.takers.order.insert((full, disk));
        }
    }

    fn unlist(&mut self, disk: usize) {
        let full = fullness(self.loads[disk], self.targets[disk]);
        self.takers.order.remove(&(full, disk));
    }

    fn add_load(&mut self, disk: usize) {
        self.unlist(disk);
        self.loads[disk] += 1;
        self.list(disk);
    }

    fn take_load(&mut self, disk: usize) {
        self.unlist(disk);
        self.loads[disk] -= 1;
        self.list(disk);
    }

    /// Puts another disk in the place of a row's member.
    pub(super) fn replace(&mut self, row: usize, slot: usize, to: usize) {
        let draft = &mut self.rows[row];
        let from = core::mem::replace(&mut draft.members[slot], to);
        draft.is_fresh[slot] = true;
        self.take_load(from);
        self.add_load(to);
    }

    /// Gives every row that lacks members the disks furthest below their targets.
    fn fill(&mut self) {
        for row in 0..self.rows.len() {
            while self.rows[row].members.len() < self.rows[row].wanted {
                let members = &self.rows[row].members;
                let fitting =
                    |disk: &usize| fits(members, None, *disk, &self.candidates, self.caps);
                // Where all candidates take, there always is one: caps on nested domains are a laminar matroid, in
                // which every set that is within the caps extends to a largest one, and `Caps::of` made sure that
                // that has N members. Else the row waits with the members that it has.
                let Some(disk) = self.takers.all().find(fitting) else {
                    break;
                };
                self.rows[row].members.push(disk);
                self.rows[row].is_fresh.push(true);
                self.add_load(disk);
            }
        }
    }

    /// The rows, as indexes into the layout's disks; members that stay keep their places.
    fn into_rows(self, layout: &Layout) -> Vec<Vec<u16>> {
        let rows = self.rows.iter().zip(&layout.rows);
        rows.map(|(draft, row)| {
            let mut disks: Vec<u16> = draft
                .members
                .iter()
                .map(|member| self.candidates[*member].disk)
                .collect();
            let wanted = if row.is_joint() {
                row.wanted().len()
            } else {
                usize::from(layout.replicas)
            };
            // Where nobody could be found, members that ought to go stay, those that still answer before the others.
            for keeps_out in [false, true] {
                for member in row.wanted() {
                    let is_next = is_out(layout, member.disk) == keeps_out;
                    if is_next && disks.len() < wanted && !disks.contains(&member.disk) {
                        disks.push(member.disk);
                    }
                }
            }
            disks
        })
        .collect()
    }
}
