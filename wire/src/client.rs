//! The client's end: [`TcpTransport`] knows where nodes are and keeps pools of connections to them.
//!
//! Each node has its own connections for each lane, so that repair never stands in a client's way; each connection
//! carries many calls. A call is bounded by its deadline, whatever it waits for. A node that cannot be reached is
//! an error at once.

mod connection;
mod slot;

pub use slot::Reconnect;

pub(crate) use connection::{broken, read_welcome, say_hello, too_long, unreachable};

use crate::environment::Environment;
use crate::error::CallError;
use crate::hello::CurrentEra;
use crate::id::Payload;
use crate::identity::{Identity, Name};
use crate::link::Liveness;
use crate::message::{Request, Response, Role};
use crate::metrics;
use crate::tls::{self, TlsError};
use crate::transport::{BoxFuture, Lane, Transport};
use connection::{Connection, ConnectionOptions, node_of};
use parking_lot::RwLock;
use ringfort_ring::id::{ClusterId, Era, NodeId};
use ringfort_ring::layout::Layout;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use slot::{Dial, Slot};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How the client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// An attempt to connect, with its handshake and hello, takes at most so long.
    pub connect_max: Duration,
    /// Heartbeats.
    pub liveness: Liveness,
    /// Attempts to reach a lost node.
    pub reconnect: Reconnect,
    /// Metadata: connections to each node, and calls under way on each; more wait.
    pub metadata: PoolOptions,
    /// The same for chunks.
    pub chunks: PoolOptions,
    /// The same for repair.
    pub repair: PoolOptions,
}

/// How large a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Connections to one node.
    pub connections: usize,
    /// Calls under way on one connection.
    pub in_flight_max: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        let pool = |connections, in_flight_max| PoolOptions {
            connections,
            in_flight_max,
        };
        Self {
            connect_max: Duration::from_secs(1),
            liveness: Liveness::default(),
            reconnect: Reconnect::default(),
            metadata: pool(2, 256),
            chunks: pool(2, 16),
            repair: pool(1, 8),
        }
    }
}

impl ClientOptions {
    fn pool(&self, lane: Lane) -> PoolOptions {
        match lane {
            Lane::Metadata => self.metadata,
            Lane::Chunks => self.chunks,
            Lane::Repair => self.repair,
        }
    }
}

/// Carries requests to other processes over TLS.
pub struct TcpTransport {
    identity: Name,
    tls: Arc<ClientConfig>,
    options: ClientOptions,
    environment: Environment,
    era: Arc<CurrentEra>,
    book: RwLock<Book>,
}

#[derive(Default)]
struct Book {
    /// Era and version of the newest layout seen.
    newest: Option<(Era, u64)>,
    nodes: HashMap<NodeId, Node>,
}

struct Node {
    address: Arc<str>,
    is_from_layout: bool,
    pools: Arc<[Pool; 3]>,
}

struct Pool {
    slots: Vec<Slot>,
    next: AtomicUsize,
}

impl TcpTransport {
    /// A transport for a member. Its address book is empty.
    ///
    /// # Errors
    /// Where the identity does not serve for TLS.
    pub fn new(
        identity: &Identity,
        era: Arc<CurrentEra>,
        options: ClientOptions,
        environment: Environment,
    ) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self {
            identity: *identity.name(),
            tls: tls::client_config(identity)?,
            options,
            environment,
            era,
            book: RwLock::default(),
        }))
    }

    /// Takes the nodes' addresses, and the era, from a chosen layout. One that is older than another seen before is
    /// ignored. Nodes that only an older layout named are forgotten.
    pub fn update(&self, layout: &Layout) {
        self.era.raise(layout.era);
        let mut book = self.book.write();
        let version = (layout.era, layout.version);
        if layout.cluster != self.identity.cluster
            || book.newest.is_some_and(|newest| newest > version)
        {
            return;
        }
        book.newest = Some(version);
        book.nodes.retain(|id, node| {
            !node.is_from_layout || layout.nodes.iter().any(|entry| entry.id == *id)
        });
        for entry in &layout.nodes {
            self.enter(&mut book, entry.id, &entry.address, true);
        }
    }

    /// Says where a node is, `host:port`; until a layout says otherwise.
    pub fn set_address(&self, node: NodeId, address: &str) {
        self.enter(&mut self.book.write(), node, address, false);
    }

    /// Asks whichever node of the cluster answers at an address, over a connection of its own.
    pub fn ask(
        &self,
        address: &str,
        request: Request,
        deadline: Duration,
    ) -> BoxFuture<Result<(NodeId, Response), CallError>> {
        let deadline = Instant::now() + deadline;
        let dialler = self.dialler(address, None, Lane::Metadata);
        let connect_max = self.options.connect_max;
        Box::pin(async move {
            let exchange = async {
                let (connection, node) = timeout(connect_max, dialler.dial())
                    .await
                    .unwrap_or_else(|_| Err(broken("connecting took too long")))?;
                let (response, _) = connection.call(request, Payload::new(), deadline).await?;
                Ok((node, response))
            };
            timeout_at(deadline, exchange)
                .await
                .unwrap_or(Err(CallError::TimedOut))
        })
    }

    fn enter(&self, book: &mut Book, id: NodeId, address: &str, is_from_layout: bool) {
        if let Some(node) = book.nodes.get_mut(&id)
            && *node.address == *address
        {
            node.is_from_layout |= is_from_layout;
            return;
        }
        let address: Arc<str> = address.into();
        let pools = Lane::ALL.map(|lane| self.pool(id, &address, lane));
        let node = Node {
            address,
            is_from_layout,
            pools: Arc::new(pools),
        };
        book.nodes.insert(id, node);
    }

    fn pool(&self, node: NodeId, address: &str, lane: Lane) -> Pool {
        let name = Name {
            id: node,
            role: Role::Node,
            cluster: self.identity.cluster,
        };
        let slot = |_| {
            let dialler = Arc::new(self.dialler(address, Some(name), lane));
            let connect_max = self.options.connect_max;
            let dial: Dial = Arc::new(move || {
                let dialler = Arc::clone(&dialler);
                Box::pin(async move {
                    timeout(connect_max, dialler.dial())
                        .await
                        .unwrap_or_else(|_| Err(broken("connecting took too long")))
                        .map(|(connection, _)| connection)
                })
            });
            Slot::new(lane, dial, self.options.reconnect, self.environment.clone())
        };
        Pool {
            slots: (0..self.options.pool(lane).connections.max(1))
                .map(slot)
                .collect(),
            next: AtomicUsize::new(0),
        }
    }

    fn dialler(&self, address: &str, meant: Option<Name>, lane: Lane) -> Dialler {
        Dialler {
            address: address.to_owned(),
            meant,
            sender: self.identity,
            tls: Arc::clone(&self.tls),
            options: ConnectionOptions {
                lane,
                in_flight_max: self.options.pool(lane).in_flight_max.max(1),
                liveness: self.options.liveness,
                era: Arc::clone(&self.era),
            },
        }
    }

    fn pools_of(&self, node: NodeId) -> Option<Arc<[Pool; 3]>> {
        let book = self.book.read();
        book.nodes.get(&node).map(|node| Arc::clone(&node.pools))
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.identity.cluster
    }
}

impl Transport for TcpTransport {
    fn send(
        &self,
        node: NodeId,
        lane: Lane,
        request: Request,
        payload: Payload,
        deadline: Duration,
    ) -> BoxFuture<Result<(Response, Payload), CallError>> {
        let started = Instant::now();
        let deadline = started + deadline;
        let pools = self.pools_of(node);
        Box::pin(async move {
            let name = request.name();
            let outcome = match pools {
                None => Err(CallError::Unreachable(format!(
                    "no address is known for node {node}"
                ))),
                Some(pools) => match pools[lane_index(lane)].connection(deadline).await {
                    Ok(connection) => connection.call(request, payload, deadline).await,
                    Err(error) => Err(error),
                },
            };
            metrics::called(name, lane, started.elapsed(), &outcome);
            outcome
        })
    }
}

fn lane_index(lane: Lane) -> usize {
    match lane {
        Lane::Metadata => 0,
        Lane::Chunks => 1,
        Lane::Repair => 2,
    }
}

impl Pool {
    /// A connection: of those that are open, each in its turn; else that of the first attempt that succeeds.
    fn connection(
        &self,
        deadline: Instant,
    ) -> impl Future<Output = Result<Connection, CallError>> + Send + 'static {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.slots.len();
        let mut turns = (0..count).map(|turn| &self.slots[(first + turn) % count]);
        let ready = turns.find_map(Slot::ready);
        let awaited = ready
            .is_none()
            .then(|| self.slots[first % count].connection(deadline));
        async move {
            match (ready, awaited) {
                (Some(connection), _) => Ok(connection),
                (None, Some(awaited)) => awaited.await,
                (None, None) => Err(broken("no connection")),
            }
        }
    }
}

/// Makes connections to one address.
struct Dialler {
    address: String,
    /// `None`: any node of the cluster will do.
    meant: Option<Name>,
    sender: Name,
    tls: Arc<ClientConfig>,
    options: ConnectionOptions,
}

impl Dialler {
    /// Cancelling drops the socket.
    async fn dial(&self) -> Result<(Connection, NodeId), CallError> {
        let server_name = self
            .meant
            .as_ref()
            .map_or_else(tls::any_node, Name::server_name);
        let stream = connect(&self.address, server_name, Arc::clone(&self.tls)).await?;
        let name = tls::peer_name(stream.get_ref().1.peer_certificates())
            .map_err(|error| broken(&error.to_string()))?;
        let node = node_of(name)?;
        let connection =
            Connection::open(stream, name.as_ref(), &self.sender, self.options.clone()).await?;
        Ok((connection, node))
    }
}

/// A TLS connection to an address.
pub(crate) async fn connect(
    address: &str,
    server_name: ServerName<'static>,
    tls: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, CallError> {
    let failed = |error: std::io::Error| broken(&format!("{address}: {error}"));
    let socket = TcpStream::connect(address).await.map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    let connector = TlsConnector::from(tls);
    connector.connect(server_name, socket).await.map_err(failed)
}

#[cfg(test)]
mod tests;
