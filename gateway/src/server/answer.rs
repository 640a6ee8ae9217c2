//! Answers: a status, headers, and a body that is whole or visibly broken off.

use super::guard::UnderWay;
use crate::coordinator::BodyStream;
use crate::metrics;
use bytes::Bytes;
use futures_util::StreamExt as _;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// An answer to an S3 request.
pub type Answer = http::Response<AnswerBody>;

/// The body of an answer. Its length is known before its first byte.
#[derive(Default)]
pub enum AnswerBody {
    /// Nothing.
    #[default]
    Empty,
    /// These bytes.
    Full(Bytes),
    /// So many bytes of this stream.
    Stream {
        /// The bytes.
        stream: BodyStream,
        /// How many are to come.
        left: u64,
    },
}

impl AnswerBody {
    /// How many bytes are to come.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Full(bytes) => bytes.len() as u64,
            Self::Stream { left, .. } => *left,
        }
    }

    /// Whether nothing is to come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why an answer's body broke off. The connection is cut: a short body must not look complete.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrokenOff {
    #[error("reading the object failed: {0}")]
    Read(#[from] crate::coordinator::ReadError),
    #[error("the object's bytes are fewer or more than its size")]
    Length,
}

/// A body on its way to a client: counted, and its request under way until it ends.
pub(super) struct Outgoing {
    body: AnswerBody,
    operation: &'static str,
    request_id: String,
    sent: u64,
    /// Released with the body: when all is sent, or the client has gone.
    _held: Option<Held>,
}

/// What a request holds until its answer has ended.
pub(super) type Held = (
    UnderWay,
    metrics::InHand,
    Option<tokio::sync::OwnedSemaphorePermit>,
);

impl Outgoing {
    pub(super) fn new(
        body: AnswerBody,
        operation: &'static str,
        request_id: String,
        held: Held,
    ) -> Self {
        Self {
            body,
            operation,
            request_id,
            sent: 0,
            _held: Some(held),
        }
    }

    /// An empty body that holds nothing.
    pub(super) fn detached() -> Self {
        Self {
            body: AnswerBody::Empty,
            operation: "Unknown",
            request_id: String::new(),
            sent: 0,
            _held: None,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        match &mut self.body {
            AnswerBody::Empty => Poll::Ready(None),
            AnswerBody::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.body = AnswerBody::Empty;
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
            AnswerBody::Stream { stream, left } => {
                if *left == 0 {
                    return Poll::Ready(None);
                }
                let next = match ready!(stream.poll_next_unpin(cx)) {
                    Some(Ok(bytes)) => match left.checked_sub(bytes.len() as u64) {
                        Some(rest) => {
                            *left = rest;
                            Ok(bytes)
                        }
                        None => Err(BrokenOff::Length),
                    },
                    Some(Err(error)) => Err(BrokenOff::Read(error)),
                    None => Err(BrokenOff::Length),
                };
                Poll::Ready(Some(next))
            }
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        Poll::Ready(match ready!(this.poll_next(cx)) {
            None => None,
            Some(Ok(bytes)) => {
                this.sent += bytes.len() as u64;
                Some(Ok(Frame::data(bytes)))
            }
            Some(Err(error)) => {
                metrics::answer_cut();
                tracing::error!(request_id = %this.request_id, operation = this.operation, %error, "an answer broke off");
                this.body = AnswerBody::Empty;
                Some(Err(error))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.len())
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        metrics::bytes_sent(self.operation, self.sent);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use crate::coordinator::ReadError;
    use crate::server::guard::ConnectionState;
    use futures_util::stream;
    use http_body_util::BodyExt as _;

    fn outgoing(pieces: Vec<Result<Bytes, ReadError>>, left: u64) -> Outgoing {
        let stream: BodyStream = Box::pin(stream::iter(pieces));
        let held = (
            ConnectionState::new(String::new()).mark(),
            metrics::InHand::request(),
            None,
        );
        Outgoing::new(
            AnswerBody::Stream { stream, left },
            "GetObject",
            String::new(),
            held,
        )
    }

    #[tokio::test]
    async fn a_stream_that_ends_early_or_late_or_fails_is_an_error_and_never_an_end() {
        let ok = |text: &'static str| Ok(Bytes::from_static(text.as_bytes()));
        let whole = outgoing(vec![ok("ab"), ok("c")], 3)
            .collect()
            .await
            .unwrap();
        assert_eq!(whole.to_bytes(), "abc");
        assert!(outgoing(vec![ok("ab")], 3).collect().await.is_err());
        assert!(
            outgoing(vec![ok("ab"), ok("cd")], 3)
                .collect()
                .await
                .is_err()
        );
        let failed = Err(ReadError::Corrupt(String::new()));
        assert!(outgoing(vec![ok("ab"), failed], 3).collect().await.is_err());
    }
}
