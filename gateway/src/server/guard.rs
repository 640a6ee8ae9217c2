//! A connection's bytes between the socket and the HTTP library: framing checked, silence bounded.
//!
//! A refused head reaches the library as a small request of our own that carries an unguessable token, so that the
//! answer takes the ordinary way, behind the answers to the requests before it. Three kinds of silence end a
//! connection: no request for a while, a head that does not get finished, a client that does not take its answer. The
//! fourth, a stalled body, is for whoever reads the body: only it knows that it waits.

use super::framing::{Broken, Framing};
use crate::config::GatewayConfig;
use crate::s3::error::{ErrorCode, S3Error};
use bytes::{Buf as _, Bytes, BytesMut};
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The header that marks a request of our own. A client that sends it without the token gets nothing by it.
pub(super) const REFUSAL_HEADER: &str = "x-ringfort-refusal";

const READ_BYTES: usize = 64 * 1024;

/// What the guard of a connection and the service of its requests tell each other.
pub(super) struct ConnectionState {
    /// Proves that a request is the guard's own.
    pub(super) token: String,
    /// Requests whose answers are not at their end.
    under_way: AtomicUsize,
    refusal: Mutex<Option<S3Error>>,
    is_broken: AtomicBool,
}

impl ConnectionState {
    pub(super) fn new(token: String) -> Arc<Self> {
        Arc::new(Self {
            token,
            under_way: AtomicUsize::new(0),
            refusal: Mutex::new(None),
            is_broken: AtomicBool::new(false),
        })
    }

    /// The refusal that the guard's own request stands for.
    pub(super) fn take_refusal(&self) -> S3Error {
        self.refusal
            .lock()
            .take()
            .unwrap_or_else(|| ErrorCode::BadRequest.into())
    }

    /// Marks a request as under way for as long as the mark lives.
    pub(super) fn mark(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }
}

/// A request under way: the connection is not idle.
pub(super) struct UnderWay(Arc<ConnectionState>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The timeouts of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    pub(super) head: Duration,
    pub(super) idle: Duration,
    pub(super) drain: Duration,
}

impl From<&GatewayConfig> for Timeouts {
    fn from(config: &GatewayConfig) -> Self {
        Self {
            head: config.head_timeout,
            idle: config.idle_timeout,
            drain: config.drain_timeout,
        }
    }
}

/// A guarded stream.
pub(super) struct Guard<S> {
    stream: S,
    state: Arc<ConnectionState>,
    timeouts: Timeouts,
    framing: Framing,
    /// Checked bytes that the library has not taken.
    checked: BytesMut,
    buffer: BytesMut,
    read_timer: Pin<Box<Sleep>>,
    /// Whether the timer bounds a head that has begun, rather than idleness.
    times_head: bool,
    write_timer: Option<Pin<Box<Sleep>>>,
    is_refused: bool,
}

impl<S> Guard<S> {
    pub(super) fn new(stream: S, state: Arc<ConnectionState>, timeouts: Timeouts) -> Self {
        Self {
            stream,
            state,
            timeouts,
            framing: Framing::default(),
            checked: BytesMut::new(),
            buffer: BytesMut::new(),
            read_timer: Box::pin(tokio::time::sleep(timeouts.head)),
            times_head: true,
            write_timer: None,
            is_refused: false,
        }
    }

    /// The stream back, and whether the client may still be sending what nobody wants.
    pub(super) fn into_inner(self) -> (S, bool) {
        let is_sending = self.is_refused || !self.framing.is_idle() || !self.checked.is_empty();
        (self.stream, is_sending)
    }

    fn refuse(&mut self, error: S3Error, is_head_request: bool) {
        crate::metrics::head_refused();
        self.is_refused = true;
        *self.state.refusal.lock() = Some(error);
        let method = if is_head_request { "HEAD" } else { "GET" };
        let request = format!(
            "{method} / HTTP/1.1\r\nhost: refused\r\n{REFUSAL_HEADER}: {}\r\n\r\n",
            self.state.token
        );
        self.checked.extend_from_slice(request.as_bytes());
    }

    fn arm_read_timer(&mut self, after: Duration) {
        self.read_timer.as_mut().reset(Instant::now() + after);
    }

    /// Called when bytes have come: which silence the timer bounds from now on.
    fn note_progress(&mut self) {
        let in_head = self.framing.is_in_head();
        match (in_head, self.times_head) {
            (true, false) => {
                self.times_head = true;
                self.arm_read_timer(self.timeouts.head);
            }
            (false, _) => {
                self.times_head = false;
                self.arm_read_timer(self.timeouts.idle);
            }
            // A head has so long from its first byte on, however it trickles.
            (true, true) => {}
        }
    }

    /// Looks at the timer while nothing comes. `true`: the connection is over.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            ready!(self.read_timer.as_mut().poll(cx));
            if self.framing.is_in_head() {
                let is_head_request = self.framing.refuse();
                self.refuse(ErrorCode::RequestTimeout.into(), is_head_request);
                return Poll::Ready(false);
            }
            // A body on its way is bounded by its reader; a long answer is no idleness.
            if self.framing.is_idle() && self.state.under_way.load(Ordering::Relaxed) == 0 {
                return Poll::Ready(true);
            }
            self.arm_read_timer(self.timeouts.idle);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.checked.is_empty() {
                let count = this.checked.len().min(out.remaining());
                out.put_slice(&this.checked[..count]);
                this.checked.advance(count);
                return Poll::Ready(Ok(()));
            }
            // Behind a refusal nothing is read: the connection ends with its answer.
            if this.is_refused {
                return Poll::Pending;
            }
            if this.state.is_broken.load(Ordering::Relaxed) {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            // The middle of a long body needs no look: it goes where it is wanted without a copy.
            if this.framing.body_left() >= out.remaining() as u64 && out.remaining() > 0 {
                let before = out.filled().len();
                match Pin::new(&mut this.stream).poll_read(cx, out) {
                    Poll::Ready(Ok(())) => {
                        this.framing.pass((out.filled().len() - before) as u64);
                        this.note_progress();
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => match this.poll_silence(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(_) => continue,
                    },
                }
            }
            let read = {
                this.buffer.resize(READ_BYTES, 0);
                let mut buffer = ReadBuf::new(&mut this.buffer);
                match Pin::new(&mut this.stream).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) => Some(buffer.filled().len()),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => None,
                }
            };
            match read {
                None => match this.poll_silence(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(true) => return Poll::Ready(Ok(())),
                    Poll::Ready(false) => {}
                },
                Some(0) => return Poll::Ready(Ok(())),
                Some(count) => {
                    let input: Bytes = this.buffer.split_to(count).freeze();
                    match this.framing.push(input, &mut this.checked) {
                        Ok(()) => {}
                        Err(Broken::Head {
                            error,
                            is_head_request,
                        }) => this.refuse(error, is_head_request),
                        Err(Broken::Body(why)) => {
                            tracing::debug!(why, "a chunked body cannot be followed");
                            this.state.is_broken.store(true, Ordering::Relaxed);
                        }
                    }
                    this.note_progress();
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Guard<S> {
    /// A write that waits for the client: for so long at most.
    fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.write_timer = None;
            return written;
        }
        let drain = self.timeouts.drain;
        let timer = self
            .write_timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(drain)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not take its answer",
        )))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, data);
        this.poll_drain(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, data);
        this.poll_drain(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
