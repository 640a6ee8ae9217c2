//! How a command ends badly: an exit code for scripts and a sentence for people.

use std::fmt;

/// Exit codes. 0 is success; 2 is also what the parser of the command line uses.
pub(crate) const FAILED: u8 = 1;
/// The command line, a setting or a folder is not right: nothing was started.
pub(crate) const USAGE: u8 = 2;
/// The process was told to end, and did not wait for every request: a second signal, or the drain timeout.
pub(crate) const CUT_SHORT: u8 = 3;

/// A command's bad end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

impl Failure {
    /// Something did not work.
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self {
            code: FAILED,
            message: message.to_string(),
        }
    }

    /// Something was asked for that cannot be.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self {
            code: USAGE,
            message: message.to_string(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
