//! One line for each request, whatever became of it.
//!
//! Field values are written as Rust debug strings: a line feed or an escape sequence from a client stays inside its
//! quotes. No header, query or body is written: signatures and secrets travel there.

use std::net::SocketAddr;
use std::time::Duration;

/// Longer paths are cut.
const PATH_BYTES_MAX: usize = 1024;

/// What is known of a request by its end.
#[derive(Default)]
pub(super) struct Audit {
    pub(super) request_id: String,
    pub(super) peer: Option<SocketAddr>,
    pub(super) method: String,
    pub(super) path: String,
    /// AWS's name of the operation; empty before it is known.
    pub(super) operation: &'static str,
    pub(super) access_key_id: Option<String>,
}

impl Audit {
    /// The operation's name for metrics.
    pub(super) fn operation(&self) -> &'static str {
        if self.operation.is_empty() {
            "Unknown"
        } else {
            self.operation
        }
    }

    /// Writes the line. `code` is S3's error code, or empty.
    pub(super) fn write(&self, status: u16, code: &'static str, received: u64, took: Duration) {
        let end = self.path.floor_char_boundary(PATH_BYTES_MAX);
        tracing::info!(
            target: "ringfort::audit",
            request_id = %self.request_id,
            peer = self.peer.map(|peer| peer.to_string()).unwrap_or_default(),
            method = ?self.method,
            path = ?&self.path[..end],
            operation = self.operation(),
            access_key_id = ?self.access_key_id.as_deref().unwrap_or(""),
            status,
            code,
            received,
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "request"
        );
    }
}
