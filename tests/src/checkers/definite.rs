//! A definite no never took effect: nobody reads what was written by an operation that was refused.

use super::history::{Answer, Operation, Request};

/// Looks for a read of a refused write, or of one that nobody asked for.
///
/// # Errors
/// The first such read.
pub fn check(history: &[Operation]) -> Result<(), String> {
    for op in history {
        let Answer::Found(Some(found)) = op.answer else {
            continue;
        };
        let write = history.iter().find(
            |other| matches!(other.request, Request::Put(value, _) if value.writer == found.writer),
        );
        match write {
            None => return Err(format!("value {} came from nowhere", found.writer)),
            Some(write) if matches!(write.answer, Answer::ConditionFailed | Answer::NotApplied) => {
                return Err(format!(
                    "write {} was answered {:?} and was read",
                    found.writer, write.answer
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
