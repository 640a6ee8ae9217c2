//! What clients saw: operations with their beginnings, ends and answers.

/// A value that a client wrote: which write, and what it wrote (its `ETag`). Two writes may write the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// The operation that wrote it, above 0 and unique in a history.
    pub writer: u16,
    /// What it wrote, above 0: stands for content and `ETag`.
    pub etag: u16,
}

/// A condition on a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// None.
    Always,
    /// `If-None-Match: *`.
    Absent,
    /// `If-Match`.
    Matches(u16),
}

impl Condition {
    /// Whether it holds over a state.
    #[must_use]
    pub fn holds(self, state: Option<Written>) -> bool {
        match self {
            Self::Always => true,
            Self::Absent => state.is_none(),
            Self::Matches(etag) => state.is_some_and(|value| value.etag == etag),
        }
    }
}

/// What a client asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Read.
    Get,
    /// Write a value under a condition.
    Put(Written, Condition),
    /// Remove under a condition.
    Delete(Condition),
}

/// What a client was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The write is done.
    Done,
    /// The condition did not hold.
    ConditionFailed,
    /// What a read found.
    Found(Option<Written>),
    /// Nothing was done, and nothing will be.
    NotApplied,
    /// It may have happened, or may yet (a 503, or no answer at all).
    Unknown,
}

/// One operation of one client.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Which key.
    pub key: usize,
    /// What was asked.
    pub request: Request,
    /// When it was asked.
    pub called: u64,
    /// When it was answered; the greatest number for what never was.
    pub returned: u64,
    /// The answer.
    pub answer: Answer,
}
