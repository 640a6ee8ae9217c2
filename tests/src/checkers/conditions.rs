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
