//! S3's errors: code, status, message, and the elements some codes carry.

use std::borrow::Cow;

/// An answer to a request that S3 refuses. Only this type knows HTTP status and XML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Error {
    /// Which of S3's codes.
    pub code: ErrorCode,
    /// The sentence for people.
    pub message: Cow<'static, str>,
    /// Further elements inside `<Error>`, name and text, in order (`Region`, `HeadersNotSigned`, …).
    pub extra: Vec<(&'static str, String)>,
}

/// S3's error codes that Ringfort answers
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// 403.
    AccessDenied,
    /// 501.
    NotImplemented,
}

impl S3Error {
    /// An error with the code's own message.
    #[must_use]
    pub fn new(code: ErrorCode) -> Self {
        Self { code, message: Cow::Borrowed(""), extra: Vec::new() }
    }
}
