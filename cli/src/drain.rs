//! How a process ends: `/health/ready` turns 503, load balancers get time to look away, requests under way finish,
//! the disks are closed. A second signal ends it at once, which is safe: an engine is built for crashes.

use crate::failure::{CUT_SHORT, Failure};
use crate::settings::Span;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DrainOptions {
    /// Between the 503 of `/health/ready` and the end of accepting.
    pub(crate) delay: Duration,
    /// For requests under way.
    pub(crate) timeout: Duration,
}

impl DrainOptions {
    /// From settings.
    pub(crate) fn new(delay: Option<Span>, timeout: Option<Span>) -> Self {
        Self {
            delay: delay.map_or(Duration::ZERO, |span| span.0),
            timeout: timeout.map_or(Duration::from_secs(30), |span| span.0),
        }
    }
}

/// SIGTERM and SIGINT.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on the signals do not end the process by themselves.
    pub(crate) fn install() -> Result<Self, Failure> {
        let install = |kind| {
            signal(kind).map_err(|error| Failure::failed(format!("no signal handler: {error}")))
        };
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Waits for the drain delay, then runs `finish`, which closes listeners, waits for requests (bounded by itself) and
/// closes the disks. A second signal cuts it short.
pub(crate) async fn drain(
    mut signals: Signals,
    options: DrainOptions,
    finish: impl Future<Output = ()>,
) -> ExitCode {
    let all = async {
        tokio::time::sleep(options.delay).await;
        finish.await;
    };
    tokio::select! {
        () = all => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        name = signals.next() => {
            tracing::warn!(signal = name, "a second signal: ending at once");
            ExitCode::from(CUT_SHORT)
        }
    }
}
