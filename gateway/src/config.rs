//! The gateway's settings: plain values, each with its unit and effect.

use std::time::Duration;

/// How a gateway speaks S3. Components are passed to constructors, never kept here.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The region that signatures must name, and that buckets are in.
    pub region: String,
    /// Domains under which `<bucket>.<domain>` names a bucket. Empty: only path style.
    pub base_domains: Vec<String>,
    /// Connections served at once; further ones wait to be accepted.
    pub connections_max: usize,
    /// Requests handled at once; further ones get 503 SlowDown.
    pub requests_max: usize,
    /// A request's head must be whole so long after its first byte.
    pub head_timeout: Duration,
    /// A connection without a request is closed after so long.
    pub idle_timeout: Duration,
    /// A body must deliver [`GatewayConfig::body_window_min_bytes`] in each such span of waiting for the client.
    pub body_timeout: Duration,
    /// See [`GatewayConfig::body_timeout`].
    pub body_window_min_bytes: u64,
    /// A client must take some of its answer in each such span, or its connection is cut.
    pub drain_timeout: Duration,
    /// Once shutdown has begun, `/health/ready` says so for this long before new connections are refused, so that a
    /// load balancer can turn away first.
    pub drain_delay: Duration,
    /// How long open requests may go on once shutdown has begun.
    pub shutdown_grace: Duration,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            base_domains: Vec::new(),
            connections_max: 4096,
            requests_max: 1024,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(90),
            body_timeout: Duration::from_secs(20),
            body_window_min_bytes: 2 * 1024,
            drain_timeout: Duration::from_secs(25),
            drain_delay: Duration::from_secs(1),
            shutdown_grace: Duration::from_secs(30),
        }
    }
}
