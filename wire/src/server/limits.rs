//! How much at once: connections, requests and bytes, each lane by itself.

use crate::frame::{Header, LAYOUT_BODY_MAX_BYTES, PAYLOAD_MAX_BYTES};
use crate::link::Liveness;
use crate::transport::Lane;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How the server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// TLS handshake and hello take at most so long.
    pub handshake_max: Duration,
    /// Heartbeats, and when a peer is given up.
    pub liveness: Liveness,
    /// Connections open; more wait in the system's backlog.
    pub connections_max: usize,
    /// Connections open that have not said who they are; more wait in the system's backlog.
    pub unproved_max: usize,
    /// Connections of strangers at once; more are refused.
    pub strangers_max: usize,
    /// A stranger's whole visit takes at most so long after its hello.
    pub stranger_max: Duration,
    /// No request is worked on for longer, whatever deadline it names.
    pub deadline_max: Duration,
    /// After the call to stop, what is under way may take so long.
    pub drain_max: Duration,
    /// Limits of the metadata lane.
    pub metadata: LaneLimits,
    /// Limits of the chunks lane.
    pub chunks: LaneLimits,
    /// Limits of the repair lane.
    pub repair: LaneLimits,
}

/// Limits of one lane. Whatever is above them is not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimits {
    /// Requests under way on one connection.
    pub on_connection_max: usize,
    /// Requests under way in all.
    pub in_all_max: usize,
    /// Bytes of requests in memory in all; at least the largest frame.
    pub bytes_max: usize,
}

const MIB: usize = 1024 * 1024;

impl Default for ServerOptions {
    fn default() -> Self {
        let lane = |on_connection_max, in_all_max, mib| LaneLimits {
            on_connection_max,
            in_all_max,
            bytes_max: mib * MIB,
        };
        Self {
            handshake_max: Duration::from_secs(3),
            liveness: Liveness {
                // A member that is paused for some seconds keeps its connections.
                silence_max: Duration::from_secs(10),
                ..Liveness::default()
            },
            connections_max: 4096,
            unproved_max: 256,
            strangers_max: 16,
            stranger_max: Duration::from_secs(10),
            deadline_max: Duration::from_secs(120),
            drain_max: Duration::from_secs(10),
            metadata: lane(256, 2048, 64),
            chunks: lane(32, 256, 256),
            repair: lane(16, 64, 64),
        }
    }
}

impl ServerOptions {
    pub(super) fn lane(&self, lane: Lane) -> LaneLimits {
        match lane {
            Lane::Metadata => self.metadata,
            Lane::Chunks => self.chunks,
            Lane::Repair => self.repair,
        }
    }
}

/// Bytes are counted in units of this, for permits are 32-bit numbers.
const UNIT_BYTES: u32 = 1024;

/// What is left of the limits.
pub(super) struct Limits {
    connections: Arc<Semaphore>,
    unproved: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    metadata: InAll,
    chunks: InAll,
    repair: InAll,
}

struct InAll {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl InAll {
    fn new(limits: LaneLimits) -> Self {
        let largest = units(LAYOUT_BODY_MAX_BYTES, PAYLOAD_MAX_BYTES);
        let unit = usize::try_from(UNIT_BYTES).unwrap_or(1);
        let bytes = (limits.bytes_max / unit).max(usize::try_from(largest).unwrap_or(usize::MAX));
        Self {
            requests: semaphore(limits.in_all_max),
            bytes: semaphore(bytes),
        }
    }
}

/// Leave to read a request's body and payload and to work on it, kept until its answer was written.
pub(super) struct Leave {
    _on_connection: OwnedSemaphorePermit,
    _in_all: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl Limits {
    pub(super) fn new(options: &ServerOptions) -> Self {
        Self {
            connections: semaphore(options.connections_max),
            unproved: semaphore(options.unproved_max),
            strangers: semaphore(options.strangers_max),
            metadata: InAll::new(options.metadata),
            chunks: InAll::new(options.chunks),
            repair: InAll::new(options.repair),
        }
    }

    /// One more connection, and one more that has not said who it is.
    pub(super) async fn connection(&self) -> (OwnedSemaphorePermit, OwnedSemaphorePermit) {
        let open = acquire(&self.connections, 1).await;
        let unproved = acquire(&self.unproved, 1).await;
        (open, unproved)
    }

    pub(super) fn stranger(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.strangers).try_acquire_owned().ok()
    }

    /// Waits until a request may be read. The connection's own permit comes first, so that one connection cannot
    /// take what belongs to all while it waits.
    pub(super) async fn request(
        &self,
        lane: Lane,
        on_connection: &Arc<Semaphore>,
        header: &Header,
    ) -> Leave {
        let in_all = match lane {
            Lane::Metadata => &self.metadata,
            Lane::Chunks => &self.chunks,
            Lane::Repair => &self.repair,
        };
        Leave {
            _on_connection: acquire(on_connection, 1).await,
            _in_all: acquire(&in_all.requests, 1).await,
            _bytes: acquire(&in_all.bytes, units(header.body_len, header.payload_len)).await,
        }
    }
}

pub(super) fn semaphore(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS)))
}

pub(super) async fn acquire(semaphore: &Arc<Semaphore>, permits: u32) -> OwnedSemaphorePermit {
    Arc::clone(semaphore)
        .acquire_many_owned(permits)
        .await
        .expect("these semaphores are never closed")
}

fn units(body_len: u32, payload_len: u32) -> u32 {
    body_len.div_ceil(UNIT_BYTES) + payload_len.div_ceil(UNIT_BYTES)
}
