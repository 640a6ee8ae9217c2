//! Linearizable keys: is there an order of the operations of one key that agrees with real time and in which every
//! answer is right? Wing and Gong's search (1993), with Lowe's memory of visited states (2017).
//!
//! An operation with an unknown outcome may take effect at any point after its call, or never. One that was not
//! applied, and a read that failed, are left out: whatever they leave behind then has no explanation.

use super::history::{Answer, Operation, Request, Written};
use std::collections::HashSet;

struct Step {
    request: Request,
    answer: Answer,
    called: u64,
    returned: u64,
}

/// Looks for an order.
///
/// # Errors
/// That there is none, with the history, or that there are more than 128 operations.
pub fn check(history: &[Operation]) -> Result<(), String> {
    let steps: Vec<Step> = history
        .iter()
        .filter(|op| op.answer != Answer::NotApplied)
        .filter(|op| op.request != Request::Get || op.answer != Answer::Unknown)
        .map(|op| Step {
            request: op.request,
            answer: op.answer,
            called: op.called,
            returned: match op.answer {
                Answer::Unknown => u64::MAX,
                _ => op.returned,
            },
        })
        .collect();
    if steps.len() > 128 {
        return Err(format!("{} operations are too many to check", steps.len()));
    }
    let mut search = Search {
        must: steps
            .iter()
            .enumerate()
            .filter(|(_, step)| step.returned != u64::MAX)
            .fold(0, |mask, (index, _)| mask | bit(index)),
        steps,
        visited: HashSet::default(),
    };
    if search.explains(0, None) {
        Ok(())
    } else {
        let mut lines: Vec<&Operation> = history.iter().collect();
        lines.sort_by_key(|op| op.called);
        let lines: Vec<String> = lines.iter().map(|op| describe(op)).collect();
        Err(format!("no order explains\n  {}", lines.join("\n  ")))
    }
}

fn describe(op: &Operation) -> String {
    let end = match op.returned {
        u64::MAX => "open".to_string(),
        end => end.to_string(),
    };
    format!("{}..{end} {:?} -> {:?}", op.called, op.request, op.answer)
}

const fn bit(index: usize) -> u128 {
    1 << index
}

struct Search {
    steps: Vec<Step>,
    /// The operations that must be in the order.
    must: u128,
    visited: HashSet<(u128, u16)>,
}

impl Search {
    fn explains(&mut self, done: u128, state: Option<Written>) -> bool {
        if done & self.must == self.must {
            return true;
        }
        if !self
            .visited
            .insert((done, state.map_or(0, |value| value.writer)))
        {
            return false;
        }
        let open = |index: &usize| done & bit(*index) == 0;
        let earliest_return = (0..self.steps.len())
            .filter(open)
            .map(|index| self.steps[index].returned)
            .min()
            .unwrap_or(u64::MAX);
        for index in (0..self.steps.len()).filter(open) {
            if self.steps[index].called > earliest_return {
                continue;
            }
            if let Some(after) = apply(&self.steps[index], state)
                && self.explains(done | bit(index), after)
            {
                return true;
            }
        }
        false
    }
}

/// The state after a step, if its answer is right over this state.
fn apply(step: &Step, state: Option<Written>) -> Option<Option<Written>> {
    let (condition, after) = match step.request {
        Request::Get => return (step.answer == Answer::Found(state)).then_some(state),
        Request::Put(value, condition) => (condition, Some(value)),
        Request::Delete(condition) => (condition, None),
    };
    match step.answer {
        Answer::Done | Answer::Unknown => condition.holds(state).then_some(after),
        Answer::ConditionFailed => (!condition.holds(state)).then_some(state),
        Answer::Found(_) | Answer::NotApplied => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Condition;
    use super::*;

    fn value(writer: u16) -> Written {
        Written {
            writer,
            etag: writer,
        }
    }

    fn op(called: u64, returned: u64, request: Request, answer: Answer) -> Operation {
        Operation {
            key: 0,
            request,
            called,
            returned,
            answer,
        }
    }

    fn put(called: u64, returned: u64, writer: u16, answer: Answer) -> Operation {
        op(
            called,
            returned,
            Request::Put(value(writer), Condition::Always),
            answer,
        )
    }

    fn get(called: u64, returned: u64, found: Option<u16>) -> Operation {
        op(
            called,
            returned,
            Request::Get,
            Answer::Found(found.map(value)),
        )
    }

    #[test]
    fn a_sequence_is_explained() {
        let history = [
            get(0, 1, None),
            put(2, 3, 1, Answer::Done),
            get(4, 5, Some(1)),
        ];
        assert!(check(&history).is_ok());
    }

    #[test]
    fn a_lost_acknowledged_write_is_not() {
        assert!(check(&[put(0, 1, 1, Answer::Done), get(2, 3, None)]).is_err());
    }

    #[test]
    fn a_read_that_goes_back_is_not() {
        let history = [
            put(0, 1, 1, Answer::Done),
            put(2, u64::MAX, 2, Answer::Unknown),
            get(3, 4, Some(2)),
            get(5, 6, Some(1)),
        ];
        assert!(check(&history).is_err());
    }

    #[test]
    fn an_unknown_write_may_happen_late_but_once() {
        let once = [
            put(0, u64::MAX, 1, Answer::Unknown),
            get(1, 2, None),
            get(3, 4, Some(1)),
        ];
        assert!(check(&once).is_ok());
        let twice = [
            put(0, u64::MAX, 1, Answer::Unknown),
            get(1, 2, Some(1)),
            put(3, 4, 2, Answer::Done),
            get(5, 6, Some(1)),
        ];
        assert!(check(&twice).is_err());
    }

    #[test]
    fn a_write_that_was_not_applied_has_no_effect() {
        assert!(check(&[put(0, 1, 1, Answer::NotApplied), get(2, 3, Some(1))]).is_err());
        assert!(check(&[put(0, 1, 1, Answer::NotApplied), get(2, 3, None)]).is_ok());
    }

    #[test]
    fn overlapping_operations_may_take_effect_in_either_order() {
        let history = [
            put(0, 10, 1, Answer::Done),
            get(1, 2, Some(1)),
            put(3, 9, 2, Answer::Done),
        ];
        assert!(check(&history).is_ok());
        let failed = op(
            0,
            10,
            Request::Put(value(3), Condition::Absent),
            Answer::ConditionFailed,
        );
        assert!(check(&[failed.clone(), put(5, 6, 1, Answer::Done)]).is_ok());
        assert!(check(&[failed]).is_err());
    }
}
