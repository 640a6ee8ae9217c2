//! What a scenario measured, as a table for people and as JSON for scripts.

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    pub(crate) concurrency: usize,
    pub(crate) requests: u64,
    /// Requests that failed, or whose body was not the one that was put. Not among `requests`.
    pub(crate) errors: u64,
    /// The first failure in words, to save a search.
    pub(crate) first_error: Option<String>,
    pub(crate) seconds: f64,
    pub(crate) requests_per_second: f64,
    /// Bodies only.
    pub(crate) mebibytes_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    /// Of the processes named by `--pids`.
    pub(crate) server_cpu_ms_per_request: Option<f64>,
}

pub(crate) fn print(reports: &[Report], is_json: bool) {
    if is_json {
        match serde_json::to_string_pretty(reports) {
            Ok(text) => println!("{text}"),
            Err(e) => eprintln!("cannot write JSON: {e}"),
        }
        return;
    }
    println!(
        "{:<10} {:>6} {:>9} {:>7} {:>10} {:>9} {:>9} {:>9} {:>9} {:>11}",
        "scenario",
        "conns",
        "requests",
        "errors",
        "req/s",
        "MiB/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "CPU ms/req"
    );
    for r in reports {
        let cpu = r
            .server_cpu_ms_per_request
            .map_or_else(|| "-".to_owned(), |ms| format!("{ms:.3}"));
        println!(
            "{:<10} {:>6} {:>9} {:>7} {:>10.1} {:>9.1} {:>9.2} {:>9.2} {:>9.2} {:>11}",
            r.scenario,
            r.concurrency,
            r.requests,
            r.errors,
            r.requests_per_second,
            r.mebibytes_per_second,
            r.p50_ms,
            r.p99_ms,
            r.max_ms,
            cpu
        );
        if let Some(error) = &r.first_error {
            println!("           first error: {error}");
        }
    }
}
