//! The server's end: accepts connections, finds out who is there, and hands their requests to the service.
//!
//! Promises: whoever is silent, slow, or speaks something else is cut in bounded time; connections, requests under
//! way and bytes in memory are bounded, for each lane by itself; a stranger (no certificate) can send one small
//! `Join` and nothing else; whoever waits for permits is not read from, so that the pressure reaches the sender.

mod limits;
mod member;
mod stranger;

pub use limits::{LaneLimits, ServerOptions};

use crate::error::{NodeError, NodeErrorCode};
use crate::frame::{BODY_MAX_BYTES, Frame, FrameError, FrameType, Header, Label};
use crate::hello::{self, Accepted, CurrentEra, Hello, Welcome};
use crate::identity::{Identity, Name};
use crate::link::{FrameReader, LinkError, write_one};
use crate::message;
use crate::metrics;
use crate::tls::{self, TlsError};
use crate::transport::Service;
use bytes::Bytes;
use limits::Limits;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A hello is not longer than this.
const HELLO_MAX_BYTES: u32 = 4 * 1024;
/// When the system gives no socket (too many files are open), the next try comes after so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Stream = TlsStream<TcpStream>;

/// What all connections share.
struct Shared {
    name: Name,
    service: Arc<dyn Service>,
    options: ServerOptions,
    limits: Limits,
    era: Arc<CurrentEra>,
    shutdown: watch::Receiver<bool>,
}

/// Serves until `shutdown` turns true (or its sender is gone); then takes no new connection, asks the callers to go
/// elsewhere, finishes what is under way, for at most [`ServerOptions::drain_max`], and returns.
///
/// # Errors
/// Where the identity does not serve for TLS: nothing was served then.
pub async fn serve(
    listener: TcpListener,
    identity: &Identity,
    service: Arc<dyn Service>,
    era: Arc<CurrentEra>,
    options: ServerOptions,
    shutdown: watch::Receiver<bool>,
) -> Result<(), TlsError> {
    let acceptor = TlsAcceptor::from(tls::server_config(identity)?);
    let mut stop = shutdown.clone();
    let shared = Arc::new(Shared {
        name: *identity.name(),
        service,
        options,
        limits: Limits::new(&options),
        era,
        shutdown,
    });
    let mut connections = JoinSet::new();
    let accepting = accept(&listener, &acceptor, &shared, &mut connections);
    tokio::select! {
        () = stopped(&mut stop) => {}
        () = accepting => {}
    }
    drop(listener);
    // Each connection drains within its own bound, so this ends.
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    acceptor: &TlsAcceptor,
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
) {
    loop {
        while connections.try_join_next().is_some() {}
        // Both permits before the socket: what nobody serves yet waits in the system's backlog.
        let (open, unproved) = shared.limits.connection().await;
        match listener.accept().await {
            Ok((socket, _)) => {
                let shared = Arc::clone(shared);
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    connection(socket, acceptor, &shared, unproved).await;
                    drop(open);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error says that nobody can ask for it any more: the process is ending.
    let _ = shutdown.wait_for(|is_stopping| *is_stopping).await;
}

/// Who is at the other end.
enum Caller {
    Member(Name, Accepted),
    Stranger,
}

struct Greeted {
    caller: Caller,
    reader: FrameReader<ReadHalf<Stream>>,
    write: WriteHalf<Stream>,
}

async fn connection(
    socket: TcpStream,
    acceptor: TlsAcceptor,
    shared: &Arc<Shared>,
    unproved: OwnedSemaphorePermit,
) {
    let mut stop = shared.shutdown.clone();
    let greeting = timeout(
        shared.options.handshake_max,
        greet(socket, acceptor, shared),
    );
    let greeted = tokio::select! {
        greeted = greeting => greeted,
        () = stopped(&mut stop) => return,
    };
    let greeted = match greeted {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(error)) => {
            metrics::cut("handshake");
            tracing::debug!(%error, "a connection was refused");
            return;
        }
        Err(_) => {
            metrics::cut("handshake");
            return;
        }
    };
    drop(unproved);
    let Greeted {
        caller,
        reader,
        write,
    } = greeted;
    match caller {
        Caller::Member(name, accepted) => {
            let lane = accepted.lane;
            if let Err(error) = member::serve(shared, name, lane, reader, write).await {
                metrics::cut("broken");
                tracing::debug!(peer = %name, lane = lane.name(), %error, "a connection ended");
            }
        }
        Caller::Stranger => {
            let served = stranger::serve(shared, reader, write);
            let served = tokio::select! {
                served = timeout(shared.options.stranger_max, served) => served,
                () = stopped(&mut stop) => return,
            };
            if !matches!(served, Ok(Ok(()))) {
                metrics::cut("stranger");
            }
        }
    }
}

/// The handshake, the hello, and the answer to it. Cancelling drops the socket.
async fn greet(
    socket: TcpStream,
    acceptor: TlsAcceptor,
    shared: &Shared,
) -> Result<Greeted, LinkError> {
    socket.set_nodelay(true)?;
    let stream = acceptor.accept(socket).await?;
    let certified = tls::peer_name(stream.get_ref().1.peer_certificates())
        .map_err(|error| LinkError::Protocol(error.to_string()))?;
    let (read, mut write) = tokio::io::split(stream);
    let liveness = shared.options.liveness;
    let mut reader = FrameReader::new(read, liveness.silence_max);
    let judged = read_hello(&mut reader)
        .await?
        .and_then(|hello| hello::judge(&hello, certified.as_ref(), shared.name.cluster));
    let accepted = match judged {
        Ok(accepted) => accepted,
        Err(error) => {
            let what = error.to_string();
            let label = Label::plain(FrameType::Error, shared.era.get());
            refuse(&mut write, label, &error, liveness.stall_max).await?;
            return Err(LinkError::Protocol(what));
        }
    };
    let welcome = Welcome {
        protocol: accepted.protocol,
        cluster: shared.name.cluster,
        node: shared.name.id,
        extensions: Vec::new(),
    };
    let label = Label::plain(FrameType::Welcome, shared.era.get());
    let frame = Frame::new(label, &message::encode(&welcome), Bytes::new())?;
    write_one(&mut write, frame, liveness.stall_max).await?;
    let caller = match certified {
        Some(name) => Caller::Member(name, accepted),
        None => Caller::Stranger,
    };
    Ok(Greeted {
        caller,
        reader,
        write,
    })
}

async fn read_hello(
    reader: &mut FrameReader<ReadHalf<Stream>>,
) -> Result<Result<Hello, NodeError>, LinkError> {
    let header = reader.header().await?;
    expect(&header, FrameType::Hello, HELLO_MAX_BYTES)?;
    let (body, _) = reader.data(&header).await?;
    Ok(message::decode(&body))
}

/// Before anything of it is read: a frame of this type, its body not longer than that, without a payload.
fn expect(header: &Header, frame_type: FrameType, body_max: u32) -> Result<(), LinkError> {
    if header.frame_type != frame_type {
        let what = format!("a {:?} where a {frame_type:?} should be", header.frame_type);
        return Err(LinkError::Protocol(what));
    }
    if header.body_len > body_max {
        return Err(FrameError::BodyTooLong(header.body_len).into());
    }
    if header.payload_len > 0 {
        return Err(FrameError::PayloadTooLong(header.payload_len).into());
    }
    Ok(())
}

async fn refuse(
    write: &mut WriteHalf<Stream>,
    label: Label,
    error: &NodeError,
    stall_max: Duration,
) -> Result<(), LinkError> {
    write_one(write, error_frame(label, error), stall_max).await?;
    finish(write, stall_max).await
}

/// Says that nothing more comes, so that the other end reads what came before.
async fn finish(write: &mut WriteHalf<Stream>, stall_max: Duration) -> Result<(), LinkError> {
    use tokio::io::AsyncWriteExt as _;
    match timeout(stall_max, write.shutdown()).await {
        Ok(ended) => Ok(ended?),
        Err(_) => Err(LinkError::Stalled(stall_max)),
    }
}

/// An error as a frame, its sentence shortened where it is absurdly long.
fn error_frame(label: Label, error: &NodeError) -> Frame {
    let label = Label {
        frame_type: FrameType::Error,
        ..label
    };
    let body = message::encode(error);
    Frame::new(label, &body, Bytes::new()).unwrap_or_else(|_| {
        let what = format!("an error of more than {BODY_MAX_BYTES} bytes");
        let body = message::encode(&NodeError::new(error.code, what));
        Frame::new(label, &body, Bytes::new()).expect("a sentence is within every limit")
    })
}

fn unavailable(why: &str) -> NodeError {
    NodeError::new(NodeErrorCode::Unavailable, why)
}
