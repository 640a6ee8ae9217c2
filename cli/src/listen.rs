//! The admin listener: `/admin/v1/…` behind the admin token, `/metrics` and `/health/*` open.
//!
//! hyper is built here by hand, for axum's own server holds a client with slow headers open for ever.

use crate::failure::Failure;
use crate::metrics::Metrics;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Operators, load balancers and Prometheus together are far below.
const CONNECTIONS_MAX: usize = 128;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// hyper's least is 8 KiB.
const HEAD_MAX_BYTES: usize = 32 << 10;
/// No admin request takes longer, and an idle connection need not stay.
const CONNECTION_MAX: Duration = Duration::from_secs(120);

/// Binds a listener, saying which flag is wrong if it cannot.
pub(crate) async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::usage(format!(
            "cannot listen at {address} ({error}): is another process there? Choose another {flag}"
        ))
    })
}

/// Whether the process should get traffic, and why.
pub(crate) type Ready =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = (bool, String)> + Send>> + Send + Sync>;

/// The routes of the admin listener.
pub(crate) fn routes(admin: Router, metrics: Metrics, ready: Ready) -> Router {
    const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    let open = Router::new()
        .route(
            "/metrics",
            get(async move || ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], metrics.render())),
        )
        .route("/health/live", get(async || "alive\n"))
        .route(
            "/health/ready",
            get(async move || {
                let (is_ready, reason) = ready().await;
                let status = match is_ready {
                    true => StatusCode::OK,
                    false => StatusCode::SERVICE_UNAVAILABLE,
                };
                (status, format!("{reason}\n"))
            }),
        );
    // The admin routes judge everything else, so that an unknown path without a token is a 401 like any other.
    open.fallback_service(admin)
}

/// Serves until `shutdown` turns true.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    mut shutdown: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            _ = shutdown.wait_for(|is_over| *is_over) => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, for one: without a pause this would burn a core.
                tracing::warn!(%error, "accepting an admin connection failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // One too many is closed at once rather than left waiting.
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            continue;
        };
        let routes = routes.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let served = tokio::time::timeout(CONNECTION_MAX, converse(stream, routes)).await;
            if let Ok(Err(error)) = served {
                tracing::debug!(%error, "an admin connection broke");
            }
        });
    }
}

async fn converse(stream: TcpStream, routes: Router) -> Result<(), hyper::Error> {
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        .await
}
