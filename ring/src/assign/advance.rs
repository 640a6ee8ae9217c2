//! The next step towards what the tables ask for.
//!
//! Rows become `Joint`, at most so many at a time. Why each step is safe: members that stay keep the epoch at which
//! they joined, so they are the same replicas before and after; while a row is `Joint`, whatever is chosen is on a
//! majority of its old members, whoever the new ones are. So the new members of a row that moves may be replaced by
//! others as long as the old ones stay the same: it is to go back to the old set and to set out anew in one version.
//!
//! In order: repair (a member whose disk or node is out, or that lost its identity); then what an operator asked for
//! (N, drained disks, the failure domains); then balance.

use super::settle::joined_moves;
use super::target::{is_out, target_avoiding};
use super::{Move, is_receiving};
use crate::id::{Epoch, NodeId, PartitionId};
use crate::layout::{Layout, Member, Members, Row};
use crate::quorum::{Replica, majority};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// What bounds a step.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// At most so many rows are `Joint` at a time. Rows that cannot go on now do not count.
    pub joint_max: usize,
    /// Whether anything but repair is begun.
    pub balances: bool,
    /// Replicas that lost their identity for a partition, though their disk takes part. One that the row does not
    /// name any more says nothing.
    pub lost: &'a [(PartitionId, Replica)],
    /// Nodes that do not answer at present. Nothing new is placed on them.
    pub silent: &'a [NodeId],
}

/// In what order steps are begun.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Repair,
    Wish,
    Balance,
}

/// The successor of `layout` in which further rows move, and the replicas to be made; `None` where nothing is to be
/// begun now.
#[must_use]
pub fn advance(layout: &Layout, limits: &Limits<'_>) -> Option<(Layout, Vec<Move>)> {
    let stepper = Stepper::new(layout, limits);
    let version = layout.version.saturating_add(1);
    let mut next = layout.clone();
    next.version = version;
    let mut moves = Vec::new();

    let mut steps: Vec<(Class, usize, Members)> = Vec::new();
    let mut under_way = 0;
    for (number, row) in layout.rows.iter().enumerate() {
        let wanted = &stepper.wanted[number];
        match &row.members {
            Members::Joint { old, new } => {
                if !stepper.has_majority(number, old) {
                    continue;
                }
                under_way += usize::from(!stepper.waits(old, new));
                if let Some(members) = stepper.repaired(number, old, new, wanted) {
                    // It moves already: to send it elsewhere takes no room.
                    let before: Vec<Member> = old.iter().chain(new).copied().collect();
                    joined_moves(layout, number, &before, members_of(&members), &mut moves);
                    next.rows[number] = at_epoch(version, members);
                }
            }
            Members::Stable(members) => {
                if let Some(step) = stepper.step(number, members, wanted) {
                    steps.push((step.0, number, step.1));
                }
            }
        }
    }
    steps.sort_by_key(|(class, number, _)| (*class, *number));
    let room = limits.joint_max.saturating_sub(under_way);
    for (_, number, members) in steps.into_iter().take(room) {
        let before = layout.rows[number].wanted();
        joined_moves(layout, number, before, members_of(&members), &mut moves);
        next.rows[number] = at_epoch(version, members);
    }
    (next.rows != layout.rows).then_some((next, moves))
}

fn at_epoch(version: u64, members: Members) -> Row {
    Row {
        epoch: Epoch(version),
        members,
    }
}

fn members_of(members: &Members) -> &[Member] {
    match members {
        Members::Stable(members) | Members::Joint { new: members, .. } => members,
    }
}

struct Stepper<'a> {
    layout: &'a Layout,
    version: Epoch,
    wanted: Vec<Vec<u16>>,
    lost: BTreeSet<(usize, Replica)>,
    is_silent: Vec<bool>,
    may_balance: bool,
}

impl<'a> Stepper<'a> {
    fn new(layout: &'a Layout, limits: &Limits<'_>) -> Self {
        let silent: BTreeSet<NodeId> = limits.silent.iter().copied().collect();
        let is_silent: Vec<bool> = layout
            .disks
            .iter()
            .map(|disk| {
                let node = layout.nodes.get(usize::from(disk.node));
                node.is_none_or(|node| silent.contains(&node.id))
            })
            .collect();
        let lost = limits
            .lost
            .iter()
            .filter_map(|(partition, replica)| Some((usize::try_from(partition.0).ok()?, *replica)))
            .collect();
        Self {
            layout,
            version: Epoch(layout.version.saturating_add(1)),
            wanted: target_avoiding(layout, |disk| is_silent[usize::from(disk)]),
            lost,
            is_silent,
            may_balance: limits.balances && !layout.is_balancing_paused,
        }
    }

    fn has_lost(&self, row: usize, member: &Member) -> bool {
        let Some(entry) = self.layout.disks.get(usize::from(member.disk)) else {
            return true;
        };
        let replica = Replica {
            disk: entry.id,
            joined: member.joined,
        };
        self.lost.contains(&(row, replica))
    }

    /// Whether a member is of no use any more.
    fn is_gone(&self, row: usize, member: &Member) -> bool {
        is_out(self.layout, member.disk) || self.has_lost(row, member)
    }

    fn is_silent(&self, member: &Member) -> bool {
        self.is_silent.get(usize::from(member.disk)) != Some(&false)
    }

    /// Whether a majority of a set is left to copy from. Where it is not, only `unsafe-recover` helps.
    fn has_majority(&self, row: usize, set: &[Member]) -> bool {
        let left = set.iter().filter(|member| !self.is_gone(row, member));
        left.count() >= majority(set.len())
    }

    /// Whether a row that moves cannot go on now, for a new member is on a node that does not answer.
    fn waits(&self, old: &[Member], new: &[Member]) -> bool {
        let coming = new.iter().filter(|member| !old.contains(member));
        coming
            .into_iter()
            .any(|member| self.is_silent(member) || !self.receives(member))
    }

    fn receives(&self, member: &Member) -> bool {
        let entry = self.layout.disks.get(usize::from(member.disk));
        entry.is_some_and(|entry| is_receiving(self.layout, entry))
    }

    /// The step of a row that does not move.
    fn step(&self, row: usize, present: &[Member], wanted: &[u16]) -> Option<(Class, Members)> {
        if present.iter().any(|member| self.is_gone(row, member)) {
            if !self.has_majority(row, present) {
                return None;
            }
            if let Some(members) = self.repaired(row, present, present, wanted) {
                return Some((Class::Repair, members));
            }
        }
        if !self.may_balance {
            return None;
        }
        let new = if wanted.len() == present.len() {
            self.swapped(present, wanted)?
        } else {
            self.resized(present, wanted)
        };
        // Who stays must be there: a row that lacks a member now is not put through a move on top of it.
        let stays = new.iter().filter(|member| present.contains(member));
        if stays.into_iter().any(|member| self.is_silent(member)) {
            return None;
        }
        let leaves_wished = present
            .iter()
            .any(|member| !new.contains(member) && self.weight(member) == 0);
        let is_wish = wanted.len() != present.len()
            || leaves_wished
            || self.closeness(&new) < self.closeness(present);
        let class = if is_wish { Class::Wish } else { Class::Balance };
        let old = present.to_vec();
        Some((class, Members::Joint { old, new }))
    }

    fn weight(&self, member: &Member) -> u64 {
        let entry = self.layout.disks.get(usize::from(member.disk));
        entry.map_or(0, |entry| self.layout.weight_bytes(entry))
    }

    /// A new member on a disk that the row is not on its way to; or the one that decides there, where it is good still.
    fn member_on(&self, row: usize, disk: u16, old: &[Member]) -> Member {
        let same = old.iter().find(|member| member.disk == disk);
        let usable = same.filter(|member| !self.is_gone(row, member));
        usable.copied().unwrap_or(self.newcomer(disk))
    }

    const fn newcomer(&self, disk: u16) -> Member {
        Member {
            disk,
            joined: self.version,
        }
    }

    /// What to add to `present`, in the order of `wanted`.
    fn additions<'b>(present: &'b [Member], wanted: &'b [u16]) -> impl Iterator<Item = u16> + 'b {
        let has = |disk: u16| present.iter().any(|member| member.disk == disk);
        wanted.iter().copied().filter(move |disk| !has(*disk))
    }

    /// The members with those that are gone replaced, and nothing else: `old` are those that decide until then,
    /// `present` those that the row has or is on its way to. `None` where nothing is gone, or nobody is there to take
    /// the place.
    fn repaired(
        &self,
        row: usize,
        old: &[Member],
        present: &[Member],
        wanted: &[u16],
    ) -> Option<Members> {
        let replicas = usize::from(self.layout.replicas);
        let mut surplus = present.len().saturating_sub(replicas);
        let mut additions = Self::additions(present, wanted);
        let mut new = Vec::with_capacity(present.len());
        for member in present {
            if !self.is_gone(row, member) {
                new.push(*member);
                continue;
            }
            let may_rejoin = !is_out(self.layout, member.disk) && !self.is_silent(member);
            if may_rejoin && wanted.contains(&member.disk) {
                // The same disk, as another replica: it starts empty. Never as the one that `old` may have there: that
                // one was lost before, or the disk would not have come anew.
                new.push(self.newcomer(member.disk));
            } else if surplus > 0 {
                surplus -= 1;
            } else if let Some(disk) = additions.next() {
                new.push(self.member_on(row, disk, old));
            } else if may_rejoin {
                new.push(self.newcomer(member.disk));
            } else {
                new.push(*member);
            }
        }
        if new == present || new.is_empty() {
            return None;
        }
        let is_back = new.len() == old.len() && new.iter().all(|member| old.contains(member));
        Some(if is_back {
            Members::Stable(old.to_vec())
        } else {
            Members::Joint {
                old: old.to_vec(),
                new,
            }
        })
    }

    /// The members after the row's number of replicas has changed.
    fn resized(&self, present: &[Member], wanted: &[u16]) -> Vec<Member> {
        let mut new = present.to_vec();
        if wanted.len() > present.len() {
            let missing = wanted.len() - present.len();
            let added = Self::additions(present, wanted).take(missing);
            new.extend(added.map(|disk| self.newcomer(disk)));
        }
        while new.len() > wanted.len() {
            let unwanted = |member: &Member| !wanted.contains(&member.disk);
            let at = new.iter().rposition(unwanted).unwrap_or(new.len() - 1);
            new.remove(at);
        }
        new
    }

    /// The members with one of them replaced: of the choices that there are, one that keeps the copies far apart.
    fn swapped(&self, present: &[Member], wanted: &[u16]) -> Option<Vec<Member>> {
        let added: Vec<u16> = Self::additions(present, wanted).collect();
        let leaving = |member: &Member| !wanted.contains(&member.disk);
        let mut best: Option<(usize, Vec<Member>)> = None;
        for (slot, _) in present.iter().enumerate().filter(|(_, m)| leaving(m)) {
            for disk in &added {
                let mut new = present.to_vec();
                new[slot] = self.newcomer(*disk);
                let closeness = self.closeness(&new);
                if best.as_ref().is_none_or(|(least, _)| closeness < *least) {
                    best = Some((closeness, new));
                }
            }
        }
        best.map(|(_, new)| new)
    }

    /// How close members stand to each other: pairs that share a zone, and much more so a node.
    fn closeness(&self, members: &[Member]) -> usize {
        let node = |member: &Member| {
            let disk = self.layout.disks.get(usize::from(member.disk))?;
            let node = self.layout.nodes.get(usize::from(disk.node))?;
            Some((disk.node, node.zone.as_str()))
        };
        let places: Vec<_> = members.iter().filter_map(node).collect();
        let pairs = places
            .iter()
            .enumerate()
            .flat_map(|(index, a)| places[index + 1..].iter().map(move |b| (a, b)));
        pairs
            .map(|(a, b)| usize::from(a.1 == b.1) + 100 * usize::from(a.0 == b.0))
            .sum()
    }
}
