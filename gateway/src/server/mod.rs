//! The gateway's S3 listener: connections, limits, health, drain.
//!
//! hyper is built here by hand and not by a framework, for exact control over what is let in and when it ends.

mod answer;
mod audit;
mod body;
mod connection;
mod framing;
mod guard;
mod health;
mod request;

pub use answer::{Answer, AnswerBody};
pub(crate) use body::{Copied, Incoming, Stored, pump};

use crate::catalog::Catalog;
use crate::config::GatewayConfig;
use crate::coordinator::Coordinator;
use crate::s3::sigv4::Verifier;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// A gateway: speaks S3 to clients, coordinates quorums behind.
pub struct Gateway {
    coordinator: Arc<Coordinator>,
    catalog: Catalog,
    config: GatewayConfig,
    verifier: Verifier,
    requests: Arc<Semaphore>,
    /// Which process answered: the second half of a request's name.
    host_id: String,
    is_draining: watch::Sender<bool>,
}

impl Gateway {
    /// A gateway over this coordinator.
    #[must_use]
    pub fn new(coordinator: Arc<Coordinator>, config: GatewayConfig) -> Arc<Self> {
        crate::metrics::describe();
        Arc::new(Self {
            catalog: Catalog::new(Arc::clone(&coordinator), &config.region),
            verifier: Verifier::new(config.region.clone()),
            requests: Arc::new(Semaphore::new(config.requests_max)),
            host_id: hex::encode(coordinator.environment().random_id()),
            is_draining: watch::Sender::new(false),
            coordinator,
            config,
        })
    }

    /// What coordinates its quorums.
    #[must_use]
    pub fn coordinator(&self) -> &Arc<Coordinator> {
        &self.coordinator
    }

    /// Buckets and access keys.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &GatewayConfig {
        &self.config
    }

    /// Whether shutdown has begun: no new traffic should come here.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.is_draining.borrow()
    }

    /// `/health/ready` says 503 from here on, while requests are still served: a load balancer gets time to look away.
    pub fn begin_drain(&self) {
        self.is_draining.send_replace(true);
    }

    /// Starts what runs beside requests, until `shutdown` turns true: this is the whole list.
    pub fn start_background(self: &Arc<Self>, shutdown: &watch::Receiver<bool>) {
        let (catalog, until) = (self.catalog.clone(), shutdown.clone());
        tokio::spawn(async move { catalog.watch_keys(until).await });
        let (coordinator, until) = (Arc::clone(&self.coordinator), shutdown.clone());
        tokio::spawn(async move { coordinator.watch_nodes(until).await });
    }

    /// Serves S3 and the health paths until `shutdown` turns true. Then `/health/ready` says no, and after a moment no
    /// new connection is taken; requests under way may end within the configured grace.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let closing = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        let drained = async {
            // A dropped sender is the end of the process too.
            let _ = shutdown.wait_for(|is_over| *is_over).await;
            self.is_draining.send_replace(true);
            tokio::time::sleep(self.config.drain_delay).await;
        };
        tokio::select! {
            () = drained => {}
            () = self.accept_all(&listener, &closing, &mut tasks) => {}
        }
        drop(listener);
        closing.send_replace(true);
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.config.shutdown_grace, ended)
            .await
            .is_err()
        {
            tracing::warn!(grace = ?self.config.shutdown_grace, "requests under way did not end within the grace");
        }
    }

    /// Takes connections for ever. Cancelled between two of them, or while one waits: it stays with the listener.
    async fn accept_all(
        self: &Arc<Self>,
        listener: &TcpListener,
        closing: &watch::Sender<bool>,
        tasks: &mut JoinSet<()>,
    ) {
        let connections = Arc::new(Semaphore::new(self.config.connections_max));
        loop {
            // Reaped here, or finished connections would be kept until shutdown.
            while tasks.try_join_next().is_some() {}
            let Some((stream, peer, permit)) = accept(listener, &connections).await else {
                continue;
            };
            let (gateway, until) = (Arc::clone(self), closing.subscribe());
            tasks.spawn(async move {
                let _permit = permit;
                connection::serve(gateway, stream, Some(peer), until).await;
            });
        }
    }
}

/// The next connection, once there is room for one.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(
    tokio::net::TcpStream,
    std::net::SocketAddr,
    tokio::sync::OwnedSemaphorePermit,
)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Small answers must not wait for a delayed acknowledgement. Failing only costs speed.
            let _ = stream.set_nodelay(true);
            Some((stream, peer, permit))
        }
        Err(error) => {
            // Out of descriptors, or a client gone already: without a pause the first would burn a core.
            tracing::warn!(%error, "accepting a connection failed");
            tokio::time::sleep(Duration::from_millis(20)).await;
            None
        }
    }
}
