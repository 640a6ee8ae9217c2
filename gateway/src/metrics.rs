//! The names of the gateway's metrics, each with its sentence. No other file spells one.

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use std::time::Duration;

/// Requests answered, by operation and status.
pub const REQUESTS: &str = "ringfort_s3_requests_total";
/// Seconds from a request's head to the end of its answer's head, by operation.
pub const REQUEST_SECONDS: &str = "ringfort_s3_request_seconds";
/// Requests in hand.
pub const REQUESTS_IN_FLIGHT: &str = "ringfort_s3_requests_in_flight";
/// Bytes of request bodies taken in, by operation.
pub const BYTES_RECEIVED: &str = "ringfort_s3_received_bytes_total";
/// Bytes of answers' bodies handed to connections, by operation.
pub const BYTES_SENT: &str = "ringfort_s3_sent_bytes_total";
/// Open connections.
pub const CONNECTIONS: &str = "ringfort_s3_connections";
/// Handlers that panicked: each is a bug.
pub const PANICS: &str = "ringfort_s3_panics_total";
/// Requests refused by the framing guard before they were parsed.
pub const HEADS_REFUSED: &str = "ringfort_s3_heads_refused_total";
/// Answers whose body broke off: the connection was cut.
pub const ANSWERS_CUT: &str = "ringfort_s3_answers_cut_total";
/// Tells the recorder what each name means. Once a process, after the recorder is installed.
pub fn describe() {
    describe_counter!(REQUESTS, "Requests answered, by operation and status.");
    describe_histogram!(
        REQUEST_SECONDS,
        Unit::Seconds,
        "From a request's head to its answer's head, by operation."
    );
    describe_gauge!(REQUESTS_IN_FLIGHT, "Requests in hand.");
    describe_counter!(
        BYTES_RECEIVED,
        Unit::Bytes,
        "Bytes of request bodies taken in, by operation."
    );
    describe_counter!(
        BYTES_SENT,
        Unit::Bytes,
        "Bytes of answers' bodies handed to connections, by operation."
    );
    describe_gauge!(CONNECTIONS, "Open connections.");
    describe_counter!(PANICS, "Handlers that panicked: each is a bug.");
    describe_counter!(HEADS_REFUSED, "Requests refused before they were parsed.");
    describe_counter!(
        ANSWERS_CUT,
        "Answers whose body broke off: the connection was cut."
    );
    ringfort_coordinator::metrics::describe();
}

/// One request answered.
pub fn request_done(operation: &'static str, status: u16, took: Duration) {
    counter!(REQUESTS, "operation" => operation, "status" => status.to_string()).increment(1);
    histogram!(REQUEST_SECONDS, "operation" => operation).record(took.as_secs_f64());
}

/// Bytes of a request's body.
pub fn bytes_received(operation: &'static str, bytes: u64) {
    if bytes > 0 {
        counter!(BYTES_RECEIVED, "operation" => operation).increment(bytes);
    }
}

/// Bytes of an answer's body.
pub fn bytes_sent(operation: &'static str, bytes: u64) {
    if bytes > 0 {
        counter!(BYTES_SENT, "operation" => operation).increment(bytes);
    }
}

/// A handler panicked.
pub fn panicked() {
    counter!(PANICS).increment(1);
}

/// A head was refused by the guard.
pub fn head_refused() {
    counter!(HEADS_REFUSED).increment(1);
}

/// An answer's body broke off.
pub fn answer_cut() {
    counter!(ANSWERS_CUT).increment(1);
}

/// Counts something for as long as it lives.
pub struct InHand(&'static str);

impl InHand {
    /// One more of [`REQUESTS_IN_FLIGHT`].
    #[must_use]
    pub fn request() -> Self {
        Self::new(REQUESTS_IN_FLIGHT)
    }

    /// One more of [`CONNECTIONS`].
    #[must_use]
    pub fn connection() -> Self {
        Self::new(CONNECTIONS)
    }

    fn new(name: &'static str) -> Self {
        gauge!(name).increment(1.0);
        Self(name)
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        gauge!(self.0).decrement(1.0);
    }
}
