//! One winner of a condition: of several writes that were done on `If-Match` of one value, each but the first needs
//! that value to have been written anew.
//!
//! Linearizability says the same; this check says it in words that a person can follow.

use super::history::{Answer, Condition, Operation, Request};
use std::collections::BTreeMap;

/// Counts the winners of each condition against the writes that could have made it true.
///
/// # Errors
/// A condition with more winners than the writes allow.
pub fn check(history: &[Operation]) -> Result<(), String> {
    let mut winners: BTreeMap<u16, usize> = BTreeMap::new();
    let mut made_true: BTreeMap<u16, usize> = BTreeMap::new();
    let (mut creations, mut removals) = (0_usize, 0_usize);
    for op in history {
        let (condition, wrote) = match op.request {
            Request::Get => continue,
            Request::Put(value, condition) => (condition, Some(value.etag)),
            Request::Delete(condition) => (condition, None),
        };
        let may_have_happened = matches!(op.answer, Answer::Done | Answer::Unknown);
        if may_have_happened {
            match wrote {
                Some(etag) => *made_true.entry(etag).or_default() += 1,
                None => removals += 1,
            }
        }
        if op.answer == Answer::Done {
            match condition {
                Condition::Matches(etag) => {
                    // A write of the same again leaves the condition true.
                    let is_over = wrote != Some(etag);
                    *winners.entry(etag).or_default() += usize::from(is_over);
                }
                Condition::Absent => creations += 1,
                Condition::Always => {}
            }
        }
    }
    if creations > removals + 1 {
        return Err(format!(
            "{creations} creations won, with {removals} removals"
        ));
    }
    for (etag, count) in winners {
        let writes = made_true.get(&etag).copied().unwrap_or(0);
        if count > writes {
            return Err(format!(
                "{count} writers won on value {etag}, written {writes} times"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::history::Written;
    use super::*;

    fn write(request: Request, answer: Answer) -> Operation {
        Operation {
            key: 0,
            request,
            called: 0,
            returned: 1,
            answer,
        }
    }

    fn put(writer: u16, condition: Condition, answer: Answer) -> Operation {
        let value = Written {
            writer,
            etag: writer,
        };
        write(Request::Put(value, condition), answer)
    }

    #[test]
    fn two_winners_on_one_value_are_found() {
        let first = put(1, Condition::Always, Answer::Done);
        let winner = put(2, Condition::Matches(1), Answer::Done);
        let loser = put(3, Condition::Matches(1), Answer::ConditionFailed);
        assert!(check(&[first.clone(), winner.clone(), loser]).is_ok());
        let second = put(3, Condition::Matches(1), Answer::Done);
        assert!(check(&[first.clone(), winner.clone(), second.clone()]).is_err());
        // Unless the value may have been written twice.
        let again = write(
            Request::Put(Written { writer: 4, etag: 1 }, Condition::Always),
            Answer::Unknown,
        );
        assert!(check(&[first, winner, second, again]).is_ok());
    }

    #[test]
    fn two_creations_need_a_removal_between_them() {
        let creations = [
            put(1, Condition::Absent, Answer::Done),
            put(2, Condition::Absent, Answer::Done),
        ];
        assert!(check(&creations).is_err());
        let [one, two] = creations;
        let removal = write(Request::Delete(Condition::Always), Answer::Unknown);
        assert!(check(&[one, two, removal]).is_ok());
    }
}
