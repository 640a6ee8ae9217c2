//! A request's body: read with a bound on silence, verified off the async threads, stored with backpressure.

use crate::config::GatewayConfig;
use crate::coordinator::{BodyStream, BodyWriter};
use crate::ops::Failure;
use crate::s3::checksum::ChecksumAlgorithm;
use crate::s3::checksum_headers::RequestChecksums;
use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::payload::{BodyDigests, BodyExpectation, BodyVerifier, PayloadReader};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Bodies up to so many bytes are hashed where they are read; longer ones on other threads.
const HASHED_HERE_MAX: u64 = 256 * 1024;
/// What is hashed in one go on another thread.
const PIECE_BYTES: usize = 512 * 1024;

/// How far a body has been read, for whoever answers.
#[derive(Default)]
pub(crate) struct Progress {
    is_at_end: AtomicBool,
    received: AtomicU64,
}

impl Progress {
    /// Whether nothing of the body is left on the connection.
    pub(crate) fn is_at_end(&self) -> bool {
        self.is_at_end.load(Ordering::Relaxed)
    }

    /// Bytes read, as they came.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// A request's body as it arrives.
pub(crate) struct Incoming {
    body: hyper::body::Incoming,
    progress: Arc<Progress>,
    patience: Patience,
}

/// How long a client may keep the reader of its body waiting: in each window of waiting it sends at least so much, and
/// it is never silent for longer than a window. Times are handed in.
struct Patience {
    window: Duration,
    window_min_bytes: u64,
    /// Waited for the client in this window, but for the wait under way.
    waited: Duration,
    window_bytes: u64,
}

impl Patience {
    /// How much longer to wait, after a silence of so long. A window may begin in the middle of one: all of it counts,
    /// or a client that falls silent behind many bytes would get two windows.
    fn left(&self, silence: Duration) -> Duration {
        self.window.saturating_sub(self.waited + silence)
    }

    /// Whether a client that has let the window end gets another one.
    fn goes_on(&mut self) -> bool {
        let is_enough = self.window_bytes >= self.window_min_bytes;
        self.waited = Duration::ZERO;
        self.window_bytes = 0;
        is_enough
    }

    /// Bytes have ended a silence. Only waiting for the client counts: a slow disk is not its fault.
    fn came(&mut self, silence: Duration, bytes: u64) {
        self.waited += silence;
        self.window_bytes += bytes;
    }
}

impl Incoming {
    pub(crate) fn new(
        body: hyper::body::Incoming,
        config: &GatewayConfig,
    ) -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress::default());
        progress
            .is_at_end
            .store(body.is_end_stream(), Ordering::Relaxed);
        let incoming = Self {
            body,
            progress: Arc::clone(&progress),
            patience: Patience {
                window: config.body_timeout,
                window_min_bytes: config.body_window_min_bytes,
                waited: Duration::ZERO,
                window_bytes: 0,
            },
        };
        (incoming, progress)
    }

    /// Whether the request has no body.
    pub(crate) fn is_empty(&self) -> bool {
        self.progress.is_at_end()
    }

    /// The next bytes; `None` at the end. The first call is what asks a client for a body that it holds back
    /// (`Expect: 100-continue`).
    ///
    /// # Errors
    /// `RequestTimeout` where the client sends too little for too long, `IncompleteBody` where it goes away.
    async fn next(&mut self) -> Result<Option<Bytes>, S3Error> {
        let began = Instant::now();
        loop {
            let left = self.patience.left(began.elapsed());
            let frame = match tokio::time::timeout(left, self.body.frame()).await {
                Ok(frame) => frame,
                Err(_) if self.patience.goes_on() => continue,
                Err(_) => return Err(ErrorCode::RequestTimeout.into()),
            };
            return match frame {
                None => {
                    self.progress.is_at_end.store(true, Ordering::Relaxed);
                    Ok(None)
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a request's body broke off");
                    Err(ErrorCode::IncompleteBody.into())
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.patience.came(began.elapsed(), data.len() as u64);
                        self.progress
                            .received
                            .fetch_add(data.len() as u64, Ordering::Relaxed);
                        Ok(Some(data))
                    }
                    // Trailers of the transfer coding mean nothing in S3: its own travel inside the body.
                    Err(_) => continue,
                },
            };
        }
    }

    /// The whole of a small body, verified.
    ///
    /// # Errors
    /// `MaxMessageLengthExceeded` before anything is read; else as reading and verifying.
    pub(crate) async fn document(
        mut self,
        mut reader: PayloadReader,
        bytes_max: usize,
    ) -> Result<Bytes, S3Error> {
        if reader.length() > bytes_max as u64 {
            return Err(S3Error::new(ErrorCode::MaxMessageLengthExceeded)
                .with_extra("MaxMessageLengthBytes", bytes_max.to_string()));
        }
        let mut document = BytesMut::new();
        let mut data = Vec::new();
        while let Some(raw) = self.next().await? {
            reader.push(raw, &mut data)?;
            data.drain(..)
                .for_each(|piece| document.extend_from_slice(&piece));
        }
        reader.finish()?;
        Ok(document.freeze())
    }
}

/// Where a body comes from.
pub(crate) trait Source: Send {
    /// The next bytes; `None` at the end.
    fn next_bytes(&mut self) -> impl Future<Output = Result<Option<Bytes>, Failure>> + Send;
}

impl Source for Incoming {
    async fn next_bytes(&mut self) -> Result<Option<Bytes>, Failure> {
        Ok(self.next().await?)
    }
}

/// An object's bytes as another one's source.
pub(crate) struct Stored(pub(crate) BodyStream);

impl Source for Stored {
    async fn next_bytes(&mut self) -> Result<Option<Bytes>, Failure> {
        Ok(self.0.next().await.transpose()?)
    }
}

/// What bytes become data and digests in.
pub(crate) trait Digester: Send + 'static {
    /// How many bytes of data are to come.
    fn length(&self) -> u64;
    /// Takes in raw bytes, and appends the data in them.
    fn push(&mut self, raw: Bytes, data: &mut Vec<Bytes>) -> Result<(), S3Error>;
    /// Judges the whole.
    fn finish(self) -> Result<BodyDigests, S3Error>;
}

impl Digester for PayloadReader {
    fn length(&self) -> u64 {
        Self::length(self)
    }

    fn push(&mut self, raw: Bytes, data: &mut Vec<Bytes>) -> Result<(), S3Error> {
        Self::push(self, raw, data)
    }

    fn finish(self) -> Result<BodyDigests, S3Error> {
        Self::finish(self)
    }
}

/// Digests of bytes of our own: a copy's source.
pub(crate) struct Copied {
    length: u64,
    verifier: BodyVerifier,
}

impl Copied {
    /// For `length` bytes, with this checksum.
    pub(crate) fn new(length: u64, checksum: ChecksumAlgorithm) -> Self {
        let expectation = BodyExpectation {
            length,
            sha256: None,
            checksums: RequestChecksums::default(),
            default_checksum: Some(checksum),
        };
        Self {
            length,
            verifier: BodyVerifier::new(expectation),
        }
    }
}

impl Digester for Copied {
    fn length(&self) -> u64 {
        self.length
    }

    fn push(&mut self, raw: Bytes, data: &mut Vec<Bytes>) -> Result<(), S3Error> {
        self.verifier.update(&raw)?;
        data.push(raw);
        Ok(())
    }

    fn finish(self) -> Result<BodyDigests, S3Error> {
        self.verifier.finish(None)
    }
}

/// Reads a body to its end into the writer, verifying it on the way. Nothing counts before this says yes.
///
/// # Errors
/// As reading, verifying and storing. What was stored goes with the writer.
pub(crate) async fn pump(
    source: impl Source,
    digester: impl Digester,
    writer: &mut BodyWriter,
) -> Result<BodyDigests, Failure> {
    if digester.length() <= HASHED_HERE_MAX {
        pump_here(source, digester, writer).await
    } else {
        pump_beside(source, digester, writer).await
    }
}

async fn pump_here(
    mut source: impl Source,
    mut digester: impl Digester,
    writer: &mut BodyWriter,
) -> Result<BodyDigests, Failure> {
    let mut data = Vec::new();
    while let Some(raw) = source.next_bytes().await? {
        digester.push(raw, &mut data)?;
        for piece in data.drain(..) {
            writer.push(piece).await?;
        }
    }
    Ok(digester.finish()?)
}

/// Several next bytes, at least [`PIECE_BYTES`] but for the last; empty at the end.
async fn next_piece(source: &mut impl Source) -> Result<Vec<Bytes>, Failure> {
    let mut piece = Vec::new();
    let mut bytes = 0;
    while bytes < PIECE_BYTES {
        let Some(data) = source.next_bytes().await? else {
            break;
        };
        bytes += data.len();
        piece.push(data);
    }
    Ok(piece)
}

type Hashing<D> = JoinHandle<(D, Result<Vec<Bytes>, S3Error>)>;

/// While one piece is hashed, the next is read, and the last one stored.
async fn pump_beside<D: Digester>(
    mut source: impl Source,
    digester: D,
    writer: &mut BodyWriter,
) -> Result<BodyDigests, Failure> {
    let mut idle = Some(digester);
    let mut hashing: Option<Hashing<D>> = None;
    loop {
        let raw = next_piece(&mut source).await?;
        let mut ready = Vec::new();
        if let Some(task) = hashing.take() {
            let (back, data) = task.await.map_err(|error| hashing_ended(&error))?;
            ready = data?;
            idle = Some(back);
        }
        let is_over = raw.is_empty();
        if !is_over && let Some(mut digester) = idle.take() {
            hashing = Some(tokio::task::spawn_blocking(move || {
                let mut data = Vec::with_capacity(raw.len());
                let pushed = raw
                    .into_iter()
                    .try_for_each(|bytes| digester.push(bytes, &mut data));
                (digester, pushed.map(|()| data))
            }));
        }
        for piece in ready {
            writer.push(piece).await?;
        }
        if is_over {
            break;
        }
    }
    let digester = idle.ok_or(ErrorCode::InternalError)?;
    Ok(digester.finish()?)
}

fn hashing_ended(error: &tokio::task::JoinError) -> S3Error {
    tracing::error!(%error, "hashing a body ended early");
    ErrorCode::InternalError.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn patience() -> Patience {
        Patience {
            window: 20 * SECOND,
            window_min_bytes: 2048,
            waited: Duration::ZERO,
            window_bytes: 0,
        }
    }

    /// How long a client that sends nothing any more is waited for.
    fn silence_borne(patience: &mut Patience) -> Duration {
        let mut silence = Duration::ZERO;
        loop {
            silence += patience.left(silence);
            if !patience.goes_on() {
                return silence;
            }
        }
    }

    #[test]
    fn row_173_silence_has_one_bound_however_much_came_before_it() {
        for bytes in [0, 500, 2048, 10_000_000] {
            let mut patience = patience();
            patience.came(Duration::ZERO, bytes);
            assert_eq!(silence_borne(&mut patience), 20 * SECOND, "{bytes}");
        }
        // In the middle of a window, with enough in it: the silence alone counts.
        let mut patience = patience();
        patience.came(15 * SECOND, 10_000);
        assert_eq!(silence_borne(&mut patience), 20 * SECOND);
    }

    #[test]
    fn a_client_that_sends_enough_now_and_then_is_waited_for() {
        let mut patience = patience();
        for _ in 0..100 {
            let mut silence = Duration::ZERO;
            while silence < 19 * SECOND {
                let left = patience.left(silence).min(19 * SECOND - silence);
                silence += left;
                assert!(silence == 19 * SECOND || patience.goes_on());
            }
            patience.came(silence, 2048);
        }
    }

    #[test]
    fn a_trickle_ends_with_its_window() {
        let mut patience = patience();
        for _ in 0..20 {
            assert!(patience.left(SECOND) < 20 * SECOND);
            patience.came(SECOND, 1);
        }
        assert_eq!(patience.left(Duration::ZERO), Duration::ZERO);
        assert!(!patience.goes_on());
    }
}
