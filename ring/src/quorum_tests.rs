//! Tests of the quorum rules: a table that a person can read, and what holds for all rules.
#![allow(clippy::unwrap_used, reason = "test code")]

use super::*;
use alloc::vec;

/// `a` is a disk, `a!` the same disk joined anew.
fn replica(word: &str) -> Replica {
    let mut letters = word.chars();
    let letter = letters.next().unwrap().to_ascii_lowercase();
    Replica {
        disk: DiskId::from_u128(u128::from(u32::from(letter))),
        joined: Epoch(if letters.next() == Some('!') { 2 } else { 1 }),
    }
}

fn set(word: &str) -> Vec<Replica> {
    let mut members = Vec::new();
    let mut rest = word;
    while let Some(letter) = rest.chars().next() {
        let length = if rest[1..].starts_with('!') { 2 } else { 1 };
        if letter != '-' {
            members.push(replica(&rest[..length]));
        }
        rest = &rest[length..];
    }
    members
}

#[test]
fn every_line_of_the_table_holds() {
    let mut count = 0;
    for line in include_str!("testdata/quorum.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let rule = match fields[1] {
            "-" => QuorumRule::stable(set(fields[0])),
            new => QuorumRule::joint(set(fields[0]), set(new)),
        };
        let mut tally = Tally::new(rule);
        for word in fields[2].split_whitespace() {
            tally.record(
                replica(word),
                word.starts_with(|letter: char| letter.is_uppercase()),
            );
        }
        let verdict = match tally.verdict() {
            Verdict::Pending => "pending",
            Verdict::Reached => "reached",
            Verdict::Impossible => "impossible",
        };
        assert_eq!(verdict, fields[3], "{line}");
        count += 1;
    }
    assert!(count > 40);
}

#[test]
fn members_are_asked_once_each_old_half_first() {
    let rule = QuorumRule::joint(set("abc"), set("bdc!"));
    assert_eq!(rule.members(), [set("abc"), set("d"), set("c!")].concat());
    assert!(rule.is_joint() && rule.contains(replica("c!")) && !rule.contains(replica("d!")));
    assert_eq!(
        (rule.size(), QuorumRule::stable(set("abcde")).size()),
        (2, 3)
    );
}

/// Every set of members that a rule is content with.
fn quorums(rule: &QuorumRule) -> Vec<Vec<Replica>> {
    let members = rule.members();
    let subsets = 0..1_u32 << members.len();
    let chosen = subsets.map(|mask| -> Vec<Replica> {
        let is_in = |index: &usize| mask & (1 << index) != 0;
        (0..members.len())
            .filter(is_in)
            .map(|index| members[index])
            .collect()
    });
    chosen
        .filter(|some| rule.holds(|member| some.contains(&member)))
        .collect()
}

fn meet(left: &[Replica], right: &[Replica]) -> bool {
    left.iter().any(|member| right.contains(member))
}

proptest::proptest! {
    #[test]
    fn any_two_quorums_of_one_rule_share_a_member(size in 1_usize..8) {
        let rule = QuorumRule::stable(set(&"abcdefg"[..size]));
        let all = quorums(&rule);
        proptest::prop_assert!(!all.is_empty());
        for left in &all {
            for right in &all {
                proptest::prop_assert!(meet(left, right));
            }
        }
    }

    #[test]
    fn a_quorum_of_a_joint_rule_meets_every_quorum_of_either_half(
        old in proptest::sample::subsequence(vec!["a", "b", "c", "d", "e", "f"], 1..6),
        new in proptest::sample::subsequence(vec!["a", "b", "c!", "d", "e", "g"], 1..6),
    ) {
        let (old, new) = (set(&old.concat()), set(&new.concat()));
        let joint = quorums(&QuorumRule::joint(old.clone(), new.clone()));
        let halves = [quorums(&QuorumRule::stable(old)), quorums(&QuorumRule::stable(new))];
        for left in &joint {
            for right in halves.iter().flatten().chain(&joint) {
                proptest::prop_assert!(meet(left, right));
            }
        }
    }

    #[test]
    fn a_verdict_once_given_stands(
        replies in proptest::collection::vec((0_usize..6, proptest::bool::ANY), 0..12),
    ) {
        let names = ["a", "b", "c", "d", "c!", "x"];
        let mut tally = Tally::new(QuorumRule::joint(set("abc"), set("abd")));
        let mut last = tally.verdict();
        for (index, is_yes) in replies {
            let verdict = tally.record(replica(names[index]), is_yes);
            proptest::prop_assert!(last == Verdict::Pending || last == verdict);
            last = verdict;
        }
    }
}
