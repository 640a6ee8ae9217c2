//! `ringfort-bench`: a load generator for any S3 endpoint, over plain HTTP/1.1.
//!
//! Promises: every request is a real, signed S3 request on a kept-alive connection; every GET is compared byte for
//! byte with what was put; errors are counted, never hidden. Leaves out TLS, retries and anything that would smooth
//! the figures.

#![allow(
    clippy::disallowed_methods,
    reason = "a load generator measures real time and reads what the system says of the server"
)]

mod body;
mod client;
mod report;
mod scenario;
mod server_cpu;
mod sign;

use std::process::ExitCode;

use clap::Parser;

use crate::scenario::Scenario;

/// Load generator for S3 endpoints.
#[derive(Debug, Clone, Parser)]
#[command(name = "ringfort-bench", version)]
pub(crate) struct Options {
    /// Where the S3 API answers; several may be given, separated by commas, and connections are spread over them.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:9000")]
    pub(crate) endpoint: Vec<String>,
    #[arg(long, env = "RINGFORT_ACCESS_KEY")]
    pub(crate) access_key: String,
    #[arg(long, env = "RINGFORT_SECRET_KEY", hide_env_values = true)]
    pub(crate) secret_key: String,
    #[arg(long, default_value = "us-east-1")]
    pub(crate) region: String,
    /// Bucket to work in; made when it is absent. Keys start with `bench/`.
    #[arg(long, default_value = "ringfort-bench")]
    pub(crate) bucket: String,
    /// What to run; several, separated by commas, run one after the other. `all` is every one.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    pub(crate) scenario: Vec<String>,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 16)]
    pub(crate) concurrency: usize,
    /// How long each scenario runs.
    #[arg(long, default_value_t = 10, conflicts_with = "requests")]
    pub(crate) seconds: u64,
    /// How many requests each scenario makes, instead of a time.
    #[arg(long)]
    pub(crate) requests: Option<u64>,
    /// Seconds of the same load before counting.
    #[arg(long, default_value_t = 2)]
    pub(crate) warmup_seconds: u64,
    /// Keys that the list scenario prepares and lists.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) list_keys: u64,
    /// Sign the SHA-256 of every body; without it bodies go as UNSIGNED-PAYLOAD.
    #[arg(long)]
    pub(crate) signed_payload: bool,
    /// Process ids of the servers, for CPU-milliseconds a request.
    #[arg(long, value_delimiter = ',')]
    pub(crate) pids: Vec<u32>,
    /// Print JSON, one object a scenario in an array, instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Leave the objects in the bucket.
    #[arg(long)]
    pub(crate) keep: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let scenarios = match Scenario::parse_list(&options.scenario) {
        Ok(scenarios) => scenarios,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::from(2);
        }
    };
    if options.concurrency == 0 {
        eprintln!("--concurrency must be at least 1");
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("cannot start the runtime: {e}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(scenario::run_all(&options, &scenarios)) {
        Ok(reports) => {
            report::print(&reports, options.json);
            // Errors make the figures worth nothing, so a script must notice them.
            if reports.iter().any(|r| r.errors > 0) {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
