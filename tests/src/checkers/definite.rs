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

#[cfg(test)]
mod tests {
    use super::super::history::{Condition, Written};
    use super::*;

    #[test]
    fn reading_what_was_refused_or_never_written_is_found() {
        let value = Written { writer: 1, etag: 1 };
        let op = |request, answer| Operation {
            key: 0,
            request,
            called: 0,
            returned: 1,
            answer,
        };
        let read = op(Request::Get, Answer::Found(Some(value)));
        assert!(check(std::slice::from_ref(&read)).is_err());
        for (answer, is_right) in [
            (Answer::Done, true),
            (Answer::Unknown, true),
            (Answer::ConditionFailed, false),
            (Answer::NotApplied, false),
        ] {
            let write = op(Request::Put(value, Condition::Absent), answer);
            assert_eq!(check(&[write, read.clone()]).is_ok(), is_right);
        }
    }
}
