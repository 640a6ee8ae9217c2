//! The two ways out of `Joint`: on to the new members, or back to the old ones.
//!
//! Both are safe at any time: what was chosen while the row was `Joint` is on a majority of each set. On needs that the
//! new members have all of it, which they report; back needs nothing, for the old ones never stopped deciding.

use super::Move;
use super::target::is_out;
use crate::id::{DiskId, Epoch, PartitionId};
use crate::layout::{Layout, Member, Members, Row};
use alloc::vec::Vec;

/// The successor of `layout` in which each row that moves, and whose new members have synced in the row's present
/// epoch, belongs to them; `None` where there is none.
#[must_use]
pub fn settle(layout: &Layout, synced: impl Fn(PartitionId) -> bool) -> Option<Layout> {
    let mut next = layout.clone();
    next.version = layout.version.saturating_add(1);
    let mut is_changed = false;
    for (number, row) in next.rows.iter_mut().enumerate() {
        let Members::Joint { new, .. } = &row.members else {
            continue;
        };
        let partition = u32::try_from(number).map(PartitionId);
        if partition.is_ok_and(&synced) {
            row.members = Members::Stable(new.clone());
            row.epoch = Epoch(next.version);
            is_changed = true;
        }
    }
    is_changed.then_some(next)
}

/// The successor of `layout` in which no row moves but for repair: the others go back to the members that they had,
/// weights go back to what they were before the last change of them, and balancing is paused.
///
/// N stays as it is; rows that have not reached it wait until balancing is resumed.
#[must_use]
pub fn abort(layout: &Layout) -> Layout {
    let mut next = layout.clone();
    next.version = layout.version.saturating_add(1);
    next.is_balancing_paused = true;
    for disk in &mut next.disks {
        disk.capacity_bytes = disk.capacity_before_bytes;
    }
    for row in &mut next.rows {
        let Members::Joint { old, new } = &row.members else {
            continue;
        };
        if !replaces_gone(layout, old, new) {
            row.members = Members::Stable(old.clone());
            row.epoch = Epoch(next.version);
        }
    }
    next
}

/// Whether a row moves to make up for a member that is of no use any more, and not only to balance: such moves come
/// first, may go faster, and are neither paused nor aborted.
#[must_use]
pub fn is_repair(layout: &Layout, row: &Row) -> bool {
    match &row.members {
        Members::Stable(_) => false,
        Members::Joint { old, new } => replaces_gone(layout, old, new),
    }
}

fn replaces_gone(layout: &Layout, old: &[Member], new: &[Member]) -> bool {
    let mut leaving = old.iter().filter(|member| !new.contains(member));
    leaving.any(|member| {
        let is_rejoined = new.iter().any(|other| other.disk == member.disk);
        is_rejoined || is_out(layout, member.disk)
    })
}

/// Lists the replicas that a row gains: who is in `after` and not in `before`.
pub(super) fn joined_moves(
    layout: &Layout,
    row: usize,
    before: &[Member],
    after: &[Member],
    moves: &mut Vec<Move>,
) {
    let Ok(partition) = u32::try_from(row).map(PartitionId) else {
        return;
    };
    let id = |member: &Member| -> Option<DiskId> {
        Some(layout.disks.get(usize::from(member.disk))?.id)
    };
    let mut leaving: Vec<&Member> = before.iter().filter(|m| !after.contains(m)).collect();
    for member in after.iter().filter(|member| !before.contains(member)) {
        let Some(to) = id(member) else { continue };
        let same = leaving.iter().position(|other| other.disk == member.disk);
        let from = match same {
            Some(at) => Some(leaving.remove(at)),
            None if leaving.is_empty() => None,
            None => Some(leaving.remove(0)),
        };
        moves.push(Move {
            partition,
            from: from.and_then(id),
            to,
        });
    }
}
