//! One place for a connection to a node: it connects on the first call, and again whenever the connection is lost.
//!
//! While a node cannot be reached, calls fail at once with the reason of the last attempt, and attempts go on in the
//! background, spaced and jittered, for as long as somebody asks.

use super::connection::{Connection, broken};
use crate::environment::Environment;
use crate::error::CallError;
use crate::metrics;
use crate::transport::{BoxFuture, Lane};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How often a lost node is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// Between the first attempts, in the mean: never more often.
    pub interval_min: Duration,
    /// It doubles up to this.
    pub interval_max: Duration,
    /// Attempts end when nobody has asked for so long.
    pub give_up_after: Duration,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            interval_min: Duration::from_millis(250),
            interval_max: Duration::from_secs(1),
            give_up_after: Duration::from_secs(60),
        }
    }
}

/// Makes a connection, within its own time limit.
pub(crate) type Dial = Arc<dyn Fn() -> BoxFuture<Result<Connection, CallError>> + Send + Sync>;

#[derive(Clone)]
enum State {
    /// Nobody has asked, or not for long.
    Idle,
    /// The first attempt is under way: it is worth waiting for.
    Connecting,
    Ready(Connection),
    Down(CallError),
}

/// The place. Dropping it ends its attempts; calls under way keep their connection to the end.
pub(crate) struct Slot {
    shared: Arc<Shared>,
    /// Never sent: the driver sees it go.
    _alive: watch::Sender<()>,
    watched: watch::Receiver<()>,
}

struct Shared {
    lane: Lane,
    dial: Dial,
    reconnect: Reconnect,
    environment: Environment,
    state: watch::Sender<State>,
    asked_at: Mutex<Instant>,
}

impl Slot {
    pub(crate) fn new(
        lane: Lane,
        dial: Dial,
        reconnect: Reconnect,
        environment: Environment,
    ) -> Self {
        let (alive, watched) = watch::channel(());
        Self {
            shared: Arc::new(Shared {
                lane,
                dial,
                reconnect,
                environment,
                state: watch::Sender::new(State::Idle),
                asked_at: Mutex::new(Instant::now()),
            }),
            _alive: alive,
            watched,
        }
    }

    /// The connection, if there is one now. Otherwise sees to it that there will be.
    pub(crate) fn ready(&self) -> Option<Connection> {
        *self.shared.asked_at.lock() = Instant::now();
        let is_idle = self.shared.state.send_if_modified(|state| {
            let is_idle = matches!(state, State::Idle);
            if is_idle {
                *state = State::Connecting;
            }
            is_idle
        });
        if is_idle {
            tokio::spawn(drive(Arc::clone(&self.shared), self.watched.clone()));
        }
        match &*self.shared.state.borrow() {
            State::Ready(connection) if connection.is_open() => Some(connection.clone()),
            _ => None,
        }
    }

    /// Waits for the connection while the first attempt is under way.
    pub(crate) fn connection(
        &self,
        deadline: Instant,
    ) -> impl Future<Output = Result<Connection, CallError>> + Send + 'static {
        let ready = self.ready();
        let mut states = self.shared.state.subscribe();
        async move {
            if let Some(connection) = ready {
                return Ok(connection);
            }
            loop {
                match &*states.borrow_and_update() {
                    State::Ready(connection) if connection.is_open() => {
                        return Ok(connection.clone());
                    }
                    State::Down(error) => return Err(error.clone()),
                    State::Idle | State::Connecting | State::Ready(_) => {}
                }
                timeout_at(deadline, states.changed())
                    .await
                    .map_err(|_| CallError::TimedOut)?
                    .map_err(|_| broken("the node's address was changed"))?;
            }
        }
    }
}

async fn drive(shared: Arc<Shared>, mut alive: watch::Receiver<()>) {
    tokio::select! {
        // Dropping the other branch drops an attempt, or a handle on a connection.
        _ = alive.changed() => {}
        () = keep_connected(&shared) => {}
    }
}

async fn keep_connected(shared: &Shared) {
    let reconnect = shared.reconnect;
    let mut interval = reconnect.interval_min;
    loop {
        let earliest_next = Instant::now() + jittered(interval, &shared.environment);
        match (shared.dial)().await {
            Ok(connection) => {
                let left = connection.left();
                shared.state.send_replace(State::Ready(connection));
                left.await;
                let lasted = Instant::now() >= earliest_next;
                shared.state.send_replace(if lasted {
                    State::Connecting
                } else {
                    State::Down(broken("the node closed the connection"))
                });
                if lasted {
                    interval = reconnect.interval_min;
                    continue;
                }
            }
            Err(error) => {
                metrics::connect_failed(shared.lane);
                tracing::debug!(lane = shared.lane.name(), %error, "connecting failed");
                shared.state.send_replace(State::Down(error));
            }
        }
        sleep_until(earliest_next).await;
        let mut is_over = false;
        shared.state.send_if_modified(|state| {
            // Under the state's lock: whoever asks after this starts anew.
            is_over = shared.asked_at.lock().elapsed() >= reconnect.give_up_after;
            if is_over {
                *state = State::Idle;
            }
            is_over
        });
        if is_over {
            return;
        }
        interval = (interval * 2).min(reconnect.interval_max);
    }
}

/// Three quarters of it to five quarters.
fn jittered(interval: Duration, environment: &Environment) -> Duration {
    let half_us = u64::try_from(interval.as_micros() / 2).unwrap_or(u64::MAX);
    let extra = Duration::from_micros(environment.random_below(half_us.saturating_add(1)));
    interval * 3 / 4 + extra
}
