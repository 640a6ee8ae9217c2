//! The names of what the transport counts, each with a sentence.

use crate::error::CallError;
use crate::transport::Lane;
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use std::time::Duration;

/// Calls made to other processes, by request, lane and outcome (`ok`, `refused`, `unreachable`, `timed_out`).
pub const CALLS: &str = "ringfort_wire_calls_total";
/// How long calls to other processes took until their answer, by request and lane.
pub const CALL_SECONDS: &str = "ringfort_wire_call_seconds";
/// Requests of other processes that were answered, by request, lane and outcome (`ok`, `refused`, `expired`,
/// `panicked`).
pub const SERVED: &str = "ringfort_wire_served_total";
/// How long the service took for requests of other processes, by request and lane.
pub const SERVE_SECONDS: &str = "ringfort_wire_serve_seconds";
/// Bytes of bodies and payloads sent to other processes, by lane.
pub const SENT_BYTES: &str = "ringfort_wire_sent_bytes_total";
/// Bytes of bodies and payloads received from other processes, by lane.
pub const RECEIVED_BYTES: &str = "ringfort_wire_received_bytes_total";
/// Connections open to other processes, by lane.
pub const CONNECTIONS: &str = "ringfort_wire_connections";
/// Attempts to connect to another process that failed, by lane.
pub const CONNECT_FAILURES: &str = "ringfort_wire_connect_failures_total";
/// Connections that were refused or cut by this process's listener, by reason (`handshake`, `hello`, `stranger`,
/// `broken`).
pub const CUT: &str = "ringfort_wire_cut_total";

/// Tells the recorder the sentences above. To be called once, when the recorder is there.
pub fn describe() {
    describe_counter!(CALLS, "Calls made to other processes.");
    describe_histogram!(
        CALL_SECONDS,
        Unit::Seconds,
        "How long calls to other processes took until their answer."
    );
    describe_counter!(SERVED, "Requests of other processes that were answered.");
    describe_histogram!(
        SERVE_SECONDS,
        Unit::Seconds,
        "How long the service took for requests of other processes."
    );
    describe_counter!(
        SENT_BYTES,
        Unit::Bytes,
        "Bytes of bodies and payloads sent to other processes."
    );
    describe_counter!(
        RECEIVED_BYTES,
        Unit::Bytes,
        "Bytes of bodies and payloads received from other processes."
    );
    describe_gauge!(CONNECTIONS, "Connections open to other processes.");
    describe_counter!(
        CONNECT_FAILURES,
        "Attempts to connect to another process that failed."
    );
    describe_counter!(
        CUT,
        "Connections that were refused or cut by this process's listener."
    );
}

pub(crate) fn called<T>(
    request: &'static str,
    lane: Lane,
    took: Duration,
    outcome: &Result<T, CallError>,
) {
    let outcome = match outcome {
        Ok(_) => "ok",
        Err(CallError::Refused(_)) => "refused",
        Err(CallError::Unreachable(_)) => "unreachable",
        Err(CallError::TimedOut) => "timed_out",
    };
    counter!(CALLS, "request" => request, "lane" => lane.name(), "outcome" => outcome).increment(1);
    histogram!(CALL_SECONDS, "request" => request, "lane" => lane.name()).record(took);
}

pub(crate) fn served(request: &'static str, lane: Lane, took: Duration, outcome: &'static str) {
    counter!(SERVED, "request" => request, "lane" => lane.name(), "outcome" => outcome)
        .increment(1);
    histogram!(SERVE_SECONDS, "request" => request, "lane" => lane.name()).record(took);
}

pub(crate) fn sent(lane: Lane, bytes: usize) {
    counter!(SENT_BYTES, "lane" => lane.name()).increment(u64::try_from(bytes).unwrap_or(0));
}

pub(crate) fn received(lane: Lane, bytes: usize) {
    counter!(RECEIVED_BYTES, "lane" => lane.name()).increment(u64::try_from(bytes).unwrap_or(0));
}

pub(crate) fn connect_failed(lane: Lane) {
    counter!(CONNECT_FAILURES, "lane" => lane.name()).increment(1);
}

pub(crate) fn cut(reason: &'static str) {
    counter!(CUT, "reason" => reason).increment(1);
}

/// Counts an open connection for as long as it lives.
pub(crate) struct OpenConnection(Lane);

impl OpenConnection {
    pub(crate) fn new(lane: Lane) -> Self {
        gauge!(CONNECTIONS, "lane" => lane.name()).increment(1.0);
        Self(lane)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        gauge!(CONNECTIONS, "lane" => self.0.name()).decrement(1.0);
    }
}
