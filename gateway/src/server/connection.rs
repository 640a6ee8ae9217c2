//! One client connection, from accept to close.

use super::guard::{ConnectionState, Guard, Timeouts};
use super::{Gateway, request};
use crate::metrics::InHand;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

/// What is read and thrown away of a client that is still sending when its answer is complete, so that the answer is
/// not lost to a reset.
const LINGER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// See [`LINGER_BYTES_MAX`].
const LINGER_MAX: Duration = Duration::from_secs(5);

/// Serves the connection until it ends, or until shutdown and the end of the request under way.
pub(super) async fn serve<S>(
    gateway: Arc<Gateway>,
    stream: S,
    peer: Option<SocketAddr>,
    mut shutdown: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let _in_hand = InHand::connection();
    let state = ConnectionState::new(hex::encode(gateway.coordinator().environment().random_id()));
    let guard = Guard::new(stream, Arc::clone(&state), Timeouts::from(gateway.config()));
    let service_gateway = Arc::clone(&gateway);
    let service = service_fn(move |http_request| {
        let (gateway, state) = (Arc::clone(&service_gateway), Arc::clone(&state));
        Box::pin(request::answer(gateway, state, peer, http_request))
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // A client may end its side behind its last request and still wait for the answers. One that is gone is met by
        // the writes to it.
        .half_close(true)
        // The guard bounds heads and idleness, and hands on whole heads only.
        .header_read_timeout(None)
        .max_headers(super::framing::HEADERS_MAX + 10)
        .max_buf_size(512 * 1024)
        .serve_connection(TokioIo::new(guard), service);
    let mut is_draining = false;
    let ended = loop {
        tokio::select! {
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
            _ = shutdown.wait_for(|is_over| *is_over), if !is_draining => {
                is_draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    if let Err(error) = &ended {
        tracing::debug!(%error, "a connection ended early");
    }
    let (stream, is_sending) = connection.into_parts().io.into_inner().into_inner();
    close(stream, ended.is_ok() && is_sending).await;
}

async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, is_sending: bool) {
    // A failed shutdown means that the client has gone already.
    let _ = stream.shutdown().await;
    if !is_sending {
        return;
    }
    let drain = async {
        let mut buffer = vec![0; 16 * 1024];
        let mut left = LINGER_BYTES_MAX;
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            left = left.saturating_sub(count);
            if left == 0 {
                return;
            }
        }
    };
    // Elapsed: the client had its time to read the answer.
    let _ = tokio::time::timeout(LINGER_MAX, drain).await;
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
#[path = "connection_tests.rs"]
mod tests;
