//! What a history must satisfy. Each checker is named for the promise that it guards.

pub mod conditions;
pub mod definite;
pub mod history;
pub mod linearizability;

use history::Operation;

/// A broken promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which promise.
    pub promise: &'static str,
    /// On which key, and how.
    pub what: String,
}

/// Holds a history of many keys against every promise.
#[must_use]
pub fn check(history: &[Operation]) -> Vec<Violation> {
    let keys = history
        .iter()
        .map(|op| op.key)
        .max()
        .map_or(0, |key| key + 1);
    let mut violations = Vec::new();
    for key in 0..keys {
        let of_key: Vec<Operation> = history.iter().filter(|op| op.key == key).cloned().collect();
        let mut note = |promise, found: Result<(), String>| {
            if let Err(how) = found {
                let what = format!("key {key}: {how}");
                violations.push(Violation { promise, what });
            }
        };
        note("a definite no never took effect", definite::check(&of_key));
        note("one winner of a condition", conditions::check(&of_key));
        note("linearizable keys", linearizability::check(&of_key));
    }
    violations
}
