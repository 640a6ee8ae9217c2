//! Tests of the reader: a table that a person can read.
#![allow(clippy::unwrap_used, reason = "test code")]

use super::*;
use crate::hlc::Timestamp;
use crate::id::{DiskId, Epoch, Incarnation};

fn replica(letter: char) -> Replica {
    Replica {
        disk: DiskId::from_u128(u128::from(u32::from(letter))),
        joined: Epoch(1),
    }
}

fn ballot(number: u64) -> Ballot {
    match number {
        0 => Ballot::ZERO,
        _ => Ballot {
            time: Timestamp::from_ms(number),
            incarnation: Incarnation::from_u128(1),
        },
    }
}

fn set(word: &str) -> Vec<Replica> {
    word.chars().map(replica).collect()
}

/// Lines of `testdata/reading.txt`: `members [+ new members] | answers in order | outcome | behind`.
#[test]
fn every_line_of_the_table_holds() {
    let mut count = 0;
    for line in include_str!("../testdata/reading.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let rule = match fields[0].split_once(" + ") {
            Some((old, new)) => QuorumRule::joint(set(old), set(new)),
            None => QuorumRule::stable(set(fields[0])),
        };
        let mut reader = Reader::new(rule);
        let mut reading = reader.reading();
        for word in fields[1].split_whitespace() {
            let from = replica(word.chars().next().unwrap());
            reading = match &word[1..] {
                "-" => reader.on_unreachable(from),
                number => reader.on_answer(from, ballot(number.parse().unwrap())),
            };
        }
        let expected = match fields[2].split_once(' ') {
            Some(("agreed", number)) => Reading::Agreed(ballot(number.parse().unwrap())),
            _ => match fields[2] {
                "wait" => Reading::Wait,
                "split" => Reading::Split,
                "impossible" => Reading::Impossible,
                other => panic!("unknown outcome {other}"),
            },
        };
        assert_eq!(reading, expected, "{line}");
        assert_eq!(reader.reading(), expected, "{line}");
        if let Reading::Agreed(agreed) = reading {
            assert_eq!(reader.behind(agreed), set(fields[3]), "{line}");
            assert!(reader.holder(agreed).is_some() && reader.has_majority_answered());
        }
        count += 1;
    }
    assert!(count > 20);
}
