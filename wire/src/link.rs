//! Frames on a byte stream: reading them whole, writing them in few and large pieces, and telling silence from death.
//!
//! Each end sends a heartbeat when it has had nothing else to send for a while. So whoever reads nothing at all for
//! several heartbeats knows that the other end, or the way there, is gone, however long an answer may take.

use crate::frame::{Frame, FrameError, FrameType, HEADER_BYTES, Header, Label};
use crate::hello::CurrentEra;
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Small frames are gathered into writes of about this size.
const GATHER_BYTES: usize = 64 * 1024;
/// A payload longer than this is written from where it lies.
const COPY_MAX_BYTES: usize = 8 * 1024;
const READ_BUFFER_BYTES: usize = 32 * 1024;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("the connection was closed")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("nothing was heard for {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("nothing could be sent for {} ms", .0.as_millis())]
    Stalled(Duration),
    #[error("{0}")]
    Protocol(String),
}

/// How a connection is kept alive, and given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// A heartbeat is sent when nothing else was sent for so long.
    pub heartbeat: Duration,
    /// The other end is taken for dead when nothing at all was received for so long.
    pub silence_max: Duration,
    /// The connection is cut when the other end takes nothing that is sent for so long.
    pub stall_max: Duration,
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(500),
            silence_max: Duration::from_secs(2),
            stall_max: Duration::from_secs(10),
        }
    }
}

/// Reads frames.
pub(crate) struct FrameReader<R> {
    stream: BufReader<R>,
    silence_max: Duration,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(stream: R, silence_max: Duration) -> Self {
        Self {
            stream: BufReader::with_capacity(READ_BUFFER_BYTES, stream),
            silence_max,
        }
    }

    /// The next header. To be followed by [`Self::data`]. Not safe to cancel: the connection ends with it.
    pub(crate) async fn header(&mut self) -> Result<Header, LinkError> {
        let mut bytes = [0; HEADER_BYTES];
        let mut have = 0;
        while have < HEADER_BYTES {
            let read = timeout(self.silence_max, self.stream.read(&mut bytes[have..]));
            match read.await {
                Err(_) => return Err(LinkError::Silent(self.silence_max)),
                Ok(Ok(0)) if have == 0 => return Err(LinkError::Closed),
                Ok(Ok(0)) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(Ok(count)) => have += count,
                Ok(Err(error)) => return Err(error.into()),
            }
        }
        Ok(Header::decode(&bytes)?)
    }

    /// Body and payload, checked. Not safe to cancel: the connection ends with it.
    pub(crate) async fn data(&mut self, header: &Header) -> Result<(Bytes, Bytes), LinkError> {
        let body = self.exactly(header.body_len).await?;
        let payload = self.exactly(header.payload_len).await?;
        header.check(&body, &payload)?;
        Ok((body, payload))
    }

    async fn exactly(&mut self, len: u32) -> Result<Bytes, LinkError> {
        let Ok(want) = usize::try_from(len) else {
            return Err(FrameError::PayloadTooLong(len).into());
        };
        let mut bytes = BytesMut::with_capacity(want);
        while bytes.len() < want {
            let left = u64::from(len).saturating_sub(u64::try_from(bytes.len()).unwrap_or(0));
            let mut rest = (&mut self.stream).take(left);
            match timeout(self.silence_max, rest.read_buf(&mut bytes)).await {
                Err(_) => return Err(LinkError::Silent(self.silence_max)),
                Ok(Ok(0)) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error.into()),
            }
        }
        Ok(bytes.freeze())
    }
}

/// What goes along with a frame in the queue, and is dropped when the frame has been written.
pub(crate) trait Hold: Send {
    /// Whether the frame is still worth sending.
    fn is_wanted(&self) -> bool;
}

/// A frame in the queue of a connection.
pub(crate) struct Outgoing<H> {
    pub(crate) frame: Frame,
    pub(crate) hold: H,
}

/// Writes what the queue gives, and heartbeats where it gives nothing, until nobody can put anything into it.
/// Not safe to cancel: the connection ends with it.
pub(crate) async fn write_frames<W: AsyncWrite + Unpin, H: Hold>(
    stream: &mut W,
    queue: &mut mpsc::Receiver<Outgoing<H>>,
    liveness: Liveness,
    era: &CurrentEra,
) -> Result<(), LinkError> {
    let stall_max = liveness.stall_max;
    let mut gathered = BytesMut::with_capacity(GATHER_BYTES);
    let mut holds = Vec::new();
    loop {
        let mut next = match timeout(liveness.heartbeat, queue.recv()).await {
            Ok(Some(outgoing)) => Some(outgoing),
            Ok(None) => return Ok(()),
            Err(_) => {
                let beat = Frame::bare(Label::plain(FrameType::Heartbeat, era.get()));
                gathered.extend_from_slice(&beat.head);
                None
            }
        };
        while let Some(outgoing) = next {
            if outgoing.hold.is_wanted() {
                let Frame { head, payload } = outgoing.frame;
                gathered.extend_from_slice(&head);
                holds.push(outgoing.hold);
                if payload.len() <= COPY_MAX_BYTES {
                    gathered.extend_from_slice(&payload);
                } else {
                    let mut both = gathered.split().freeze().chain(payload);
                    write_all(stream, &mut both, stall_max).await?;
                }
            }
            if gathered.len() >= GATHER_BYTES {
                break;
            }
            next = queue.try_recv().ok();
        }
        write_all(stream, &mut gathered, stall_max).await?;
        gathered.clear();
        match timeout(stall_max, stream.flush()).await {
            Ok(flushed) => flushed?,
            Err(_) => return Err(LinkError::Stalled(stall_max)),
        }
        holds.clear();
    }
}

/// Writes one frame, at the start or the end of a connection.
pub(crate) async fn write_one<W: AsyncWrite + Unpin>(
    stream: &mut W,
    frame: Frame,
    stall_max: Duration,
) -> Result<(), LinkError> {
    write_all(stream, &mut frame.head.chain(frame.payload), stall_max).await?;
    match timeout(stall_max, stream.flush()).await {
        Ok(flushed) => Ok(flushed?),
        Err(_) => Err(LinkError::Stalled(stall_max)),
    }
}

async fn write_all<W: AsyncWrite + Unpin>(
    stream: &mut W,
    bytes: &mut impl Buf,
    stall_max: Duration,
) -> Result<(), LinkError> {
    while bytes.has_remaining() {
        match timeout(stall_max, stream.write_buf(bytes)).await {
            Err(_) => return Err(LinkError::Stalled(stall_max)),
            Ok(Ok(0)) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.into()),
        }
    }
    Ok(())
}
