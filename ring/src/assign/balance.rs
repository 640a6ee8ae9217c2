//! Balance: members move from disks above their target to disks below it.
//!
//! First directly, which is the least movement that there can be. Where the failure domains stand between the two (no
//! row of the full disk may go to the empty one), a chain does it: one row goes from the full disk to a third, another
//! from there to the empty one. A chain costs several moves for one, so it is made only beyond a tolerance.

use super::fits;
use super::target::Plan;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

/// How far from its target a disk may stay, in a hundredth of it, before a chain of moves is worth it.
const TOLERANCE_PERCENT: usize = 2;

/// One move of a chain: the member at a row's slot goes to a disk.
#[derive(Clone, Copy)]
struct Step {
    row: usize,
    slot: usize,
    to: usize,
}

impl Plan {
    /// Moves members until each disk has its target, as far as one move a row and the tolerance allow.
    pub(super) fn balance(&mut self) {
        // Members that are to be made anyway cost nothing more: these first.
        for is_fresh in [true, false] {
            for row in 0..self.rows.len() {
                for slot in 0..self.rows[row].members.len() {
                    let draft = &self.rows[row];
                    if draft.is_fresh[slot] == is_fresh && draft.may_move(slot) {
                        self.move_directly(row, slot);
                    }
                }
            }
        }
        self.chain();
    }

    fn move_directly(&mut self, row: usize, slot: usize) {
        let members = &self.rows[row].members;
        let from = members[slot];
        if self.loads[from] <= self.targets[from] {
            return;
        }
        let fitting = |disk: &usize| fits(members, Some(slot), *disk, &self.candidates, self.caps);
        let to = self.takers.below_target().find(fitting);
        if let Some(to) = to {
            self.replace(row, slot, to);
        }
    }

    fn is_far_above(&self, disk: usize) -> bool {
        let slack = self.targets[disk] * TOLERANCE_PERCENT / 100;
        self.loads[disk] > self.targets[disk] + slack.max(1)
    }

    fn is_far_below(&self, disk: usize) -> bool {
        let slack = self.targets[disk] * TOLERANCE_PERCENT / 100;
        self.loads[disk] + slack.max(1) < self.targets[disk]
    }

    /// Moves along chains what cannot move directly.
    fn chain(&mut self) {
        let all = 0..self.candidates.len();
        let takes = |plan: &Self, disk: usize| plan.takers.takes(disk);
        let is_due = |plan: &Self| {
            all.clone().any(|disk| {
                plan.is_far_above(disk) || (plan.is_far_below(disk) && takes(plan, disk))
            })
        };
        if !is_due(self) {
            return;
        }
        let mut rows_of: Vec<Vec<usize>> = vec![Vec::new(); self.candidates.len()];
        for (row, draft) in self.rows.iter().enumerate() {
            for disk in &draft.members {
                rows_of[*disk].push(row);
            }
        }
        // From these no chain leads anywhere, for what was reached from them was searched too: to a disk far below
        // its target (the first list), to any below it (the second).
        let nothing = vec![false; self.candidates.len()];
        let mut is_dead = [nothing.clone(), nothing];
        for source in all.clone() {
            while self.loads[source] > self.targets[source] {
                let dead = &mut is_dead[usize::from(self.is_far_above(source))];
                if dead[source] {
                    break;
                }
                let Some(steps) = self.find_chain(source, &rows_of, dead) else {
                    break;
                };
                for step in steps {
                    self.replace(step.row, step.slot, step.to);
                    rows_of[step.to].push(step.row);
                }
            }
        }
    }

    /// The shortest chain of moves from a disk above its target to one below, each in another row.
    fn find_chain(
        &self,
        source: usize,
        rows_of: &[Vec<usize>],
        is_dead: &mut [bool],
    ) -> Option<Vec<Step>> {
        let is_sink = |disk: usize| {
            let is_below = self.loads[disk] < self.targets[disk];
            is_below && (self.is_far_above(source) || self.is_far_below(disk))
        };
        let mut unseen: BTreeSet<usize> = (0..self.candidates.len())
            .filter(|disk| *disk != source && !is_dead[*disk] && self.takers.takes(*disk))
            .collect();
        let mut came_by: Vec<Option<(usize, Step)>> = vec![None; self.candidates.len()];
        let mut queue = VecDeque::from([source]);
        let mut seen = vec![source];
        while let Some(from) = queue.pop_front() {
            let before = path(&came_by, from);
            for row in &rows_of[from] {
                let draft = &self.rows[*row];
                let slot = draft.members.iter().position(|member| *member == from);
                let Some(slot) = slot.filter(|slot| draft.may_move(*slot)) else {
                    continue;
                };
                if before.iter().any(|step| step.row == *row) {
                    continue;
                }
                let fitting = |disk: &usize| {
                    fits(
                        &draft.members,
                        Some(slot),
                        *disk,
                        &self.candidates,
                        self.caps,
                    )
                };
                let reached: Vec<usize> = unseen.iter().copied().filter(fitting).collect();
                for to in reached {
                    unseen.remove(&to);
                    seen.push(to);
                    let step = Step {
                        row: *row,
                        slot,
                        to,
                    };
                    came_by[to] = Some((from, step));
                    if is_sink(to) {
                        return Some(path(&came_by, to));
                    }
                    queue.push_back(to);
                }
            }
        }
        for disk in seen {
            is_dead[disk] = true;
        }
        None
    }
}

/// The steps that lead to a disk, the first one first.
fn path(came_by: &[Option<(usize, Step)>], to: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = to;
    while let Some((from, step)) = came_by[at] {
        steps.push(step);
        at = from;
    }
    steps.reverse();
    steps
}
