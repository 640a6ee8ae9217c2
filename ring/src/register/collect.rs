//! When a tombstone may be dropped (DESIGN 4.10).
//!
//! Order: every member, in one epoch and not in `Joint`, durably holds it at the same ballot with nothing queued; then a
//! floor at or above it is durable on all; then it is dropped, by exactly that ballot. Each step closes an interleaving:
//!
//! - *every member*: a member that missed the delete holds an older value, and a majority that has dropped the tombstone
//!   could not tell it from a newer one;
//! - *nothing queued*: what is on its way to disk is newer, and the tombstone is not the last word;
//! - *one epoch, not `Joint`*: a member that joined meanwhile may have copied something older;
//! - *the floor*: a delayed Accept or replay of an older value finds an empty register after the drop, and would be
//!   taken; below the floor it is refused for ever;
//! - *exactly that ballot*: what was written between the look and the drop stays.

use crate::ballot::Ballot;
use crate::quorum::{QuorumRule, Replica};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What a member durably holds of a tombstone that it is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Holding {
    /// Exactly that ballot, and nothing of the row is on its way to disk.
    Same,
    /// Something newer, or something is on its way.
    Newer,
    /// Something older, or nothing: the member missed the delete.
    Older,
}

/// What the members' answers come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict<K> {
    /// Nothing can be dropped: not every member has answered, or the row moves.
    No,
    /// A member missed some of it. What it lacks is to be replayed to it first: below a floor a replay costs an
    /// identity round.
    Behind,
    /// Raise this floor on all members, then drop these rows.
    Collect {
        /// The highest of the ballots.
        floor: Ballot,
        /// Rows and their ballots.
        rows: Vec<(K, Ballot)>,
    },
}

/// Judges the answers of the members to one list of rows, given by each in its order.
#[must_use]
pub fn judge<K: Clone>(
    rule: &QuorumRule,
    rows: &[(K, Ballot)],
    answers: &[(Replica, Vec<Holding>)],
) -> Verdict<K> {
    let answered: Vec<Replica> = answers
        .iter()
        .filter(|(_, holdings)| holdings.len() == rows.len())
        .map(|(from, _)| *from)
        .collect();
    if !is_on_all(rule, &answered) {
        return Verdict::No;
    }
    let members = |at: usize| {
        answers
            .iter()
            .filter(|(from, _)| rule.contains(*from))
            .filter_map(move |(_, holdings)| holdings.get(at).copied())
    };
    if (0..rows.len()).any(|at| members(at).any(|holding| holding == Holding::Older)) {
        return Verdict::Behind;
    }
    let settled: Vec<(K, Ballot)> = rows
        .iter()
        .enumerate()
        .filter(|(at, _)| members(*at).all(|holding| holding == Holding::Same))
        .map(|(_, row)| row.clone())
        .collect();
    match settled.iter().map(|(_, ballot)| *ballot).max() {
        Some(floor) => Verdict::Collect {
            floor,
            rows: settled,
        },
        None => Verdict::No,
    }
}

/// Whether every member of a row that does not move is among `done`.
#[must_use]
pub fn is_on_all(rule: &QuorumRule, done: &[Replica]) -> bool {
    let members = rule.members();
    !rule.is_joint() && !members.is_empty() && members.iter().all(|member| done.contains(member))
}

#[cfg(test)]
mod tests {
    use super::Holding::{Newer, Older, Same};
    use super::*;
    use crate::hlc::Timestamp;
    use crate::id::{DiskId, Epoch};
    use alloc::vec;

    fn member(n: u128) -> Replica {
        Replica {
            disk: DiskId::from_u128(n),
            joined: Epoch(1),
        }
    }

    fn at(ms: u64) -> Ballot {
        Ballot::last_at(Timestamp::from_ms(ms))
    }

    fn rule() -> QuorumRule {
        QuorumRule::stable(vec![member(1), member(2), member(3)])
    }

    fn judged(answers: &[(u128, &[Holding])]) -> Verdict<char> {
        let answers: Vec<_> = answers
            .iter()
            .map(|(from, holdings)| (member(*from), holdings.to_vec()))
            .collect();
        judge(&rule(), &[('a', at(5)), ('b', at(7))], &answers)
    }

    #[test]
    fn what_all_members_hold_alike_may_go_and_the_floor_covers_it() {
        let all = judged(&[(1, &[Same, Same]), (2, &[Same, Same]), (3, &[Same, Same])]);
        let rows = vec![('a', at(5)), ('b', at(7))];
        assert_eq!(all, Verdict::Collect { floor: at(7), rows });
        // A row that was written again stays, and the floor need not reach it.
        let some = judged(&[(1, &[Same, Newer]), (2, &[Same, Same]), (3, &[Same, Same])]);
        let rows = vec![('a', at(5))];
        assert_eq!(some, Verdict::Collect { floor: at(5), rows });
    }

    #[test]
    fn a_member_that_is_away_or_missed_a_delete_keeps_all_of_them() {
        let away = judged(&[(1, &[Same, Same]), (2, &[Same, Same])]);
        assert_eq!(away, Verdict::No);
        // A stranger is no member, and half an answer is none.
        let stranger = judged(&[(1, &[Same, Same]), (2, &[Same, Same]), (4, &[Same, Same])]);
        assert_eq!(stranger, Verdict::No);
        let half = judged(&[(1, &[Same, Same]), (2, &[Same, Same]), (3, &[Same])]);
        assert_eq!(half, Verdict::No);
        let twice = judged(&[(1, &[Same, Same]), (2, &[Same, Same]), (2, &[Same, Same])]);
        assert_eq!(twice, Verdict::No);
        let behind = judged(&[(1, &[Same, Same]), (2, &[Same, Same]), (3, &[Same, Older])]);
        assert_eq!(behind, Verdict::Behind);
        let moved = judged(&[
            (1, &[Newer, Newer]),
            (2, &[Same, Newer]),
            (3, &[Same, Same]),
        ]);
        assert_eq!(moved, Verdict::No);
    }

    #[test]
    fn nothing_is_dropped_while_the_row_moves() {
        let members = vec![member(1), member(2), member(3)];
        let joint = QuorumRule::joint(members.clone(), members.clone());
        let answers: Vec<_> = members.iter().map(|one| (*one, vec![Same])).collect();
        assert_eq!(judge(&joint, &[('a', at(5))], &answers), Verdict::No);
        assert!(!is_on_all(&joint, &members));
        assert!(is_on_all(&rule(), &members));
        assert!(!is_on_all(&rule(), &members[..2]));
        assert!(!is_on_all(&QuorumRule::stable(vec![]), &[]));
    }
}
