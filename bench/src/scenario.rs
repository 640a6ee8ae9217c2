//! The scenarios: prepare, warm up, measure, clean up.
//!
//! Each worker owns one connection and has one request under way at a time (a closed loop), so latency and rate
//! belong together: a slower server is asked less. Preparation and warm-up are not counted, in time or in CPU.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Method, StatusCode};

use crate::Options;
use crate::body::{Bodies, Checker};
use crate::client::{Call, Connection};
use crate::report::Report;
use crate::server_cpu::cpu_ms;
use crate::sign::Signer;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Objects that a GET scenario prepares and reads in turn; enough that they do not all sit in one place.
const PREPARED_SMALL: u64 = 1000;
const PREPARED_LARGE: u64 = 64;
const PREPARED_STREAMS: u64 = 4;
const KEYS_PER_PAGE: u64 = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    Put {
        name: &'static str,
        size_bytes: usize,
        keys: u64,
    },
    Get {
        name: &'static str,
        size_bytes: usize,
        keys: u64,
    },
    /// One request is one page of 1,000 keys; pages follow each other through the whole listing.
    List,
}

const ALL: [Scenario; 7] = [
    Scenario::Put {
        name: "put-4k",
        size_bytes: 4 * KIB,
        keys: u64::MAX,
    },
    Scenario::Get {
        name: "get-4k",
        size_bytes: 4 * KIB,
        keys: PREPARED_SMALL,
    },
    Scenario::Put {
        name: "put-1m",
        size_bytes: MIB,
        keys: 4096,
    },
    Scenario::Get {
        name: "get-1m",
        size_bytes: MIB,
        keys: PREPARED_LARGE,
    },
    Scenario::Put {
        name: "put-64m",
        size_bytes: 64 * MIB,
        keys: 16,
    },
    Scenario::Get {
        name: "get-64m",
        size_bytes: 64 * MIB,
        keys: PREPARED_STREAMS,
    },
    Scenario::List,
];

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Put { name, .. } | Self::Get { name, .. } => name,
            Self::List => "list-10k",
        }
    }

    pub(crate) fn parse_list(names: &[String]) -> Result<Vec<Self>, String> {
        if names.iter().any(|n| n == "all") {
            return Ok(ALL.to_vec());
        }
        names
            .iter()
            .map(|name| {
                ALL.into_iter().find(|s| s.name() == name).ok_or_else(|| {
                    let known: Vec<_> = ALL.iter().map(|s| s.name()).collect();
                    format!("no scenario {name:?}; there are: all, {}", known.join(", "))
                })
            })
            .collect()
    }
}

/// What all workers of a scenario share.
struct Shared {
    options: Options,
    scenario: Scenario,
    bodies: Bodies,
    next: AtomicU64,
    highest_put: AtomicU64,
    is_counting: AtomicBool,
    is_over: AtomicBool,
    /// Requests still to be begun, when a number was asked for.
    left: AtomicU64,
}

/// What one worker saw while counting.
struct Seen {
    latency_us: Histogram<u64>,
    bytes: u64,
    errors: u64,
    first_error: Option<String>,
}

pub(crate) async fn run_all(
    options: &Options,
    scenarios: &[Scenario],
) -> Result<Vec<Report>, String> {
    let mut connection = connect(options, 0)?;
    let path = format!("/{}", options.bucket);
    let (status, body) = connection
        .send(call(Method::PUT, &path, "", Vec::new()), None)
        .await?;
    // 409: ours already.
    if !status.is_success() && status != StatusCode::CONFLICT {
        return Err(refusal("making the bucket", status, &body));
    }
    let mut reports = Vec::new();
    for scenario in scenarios {
        reports.push(run(options, *scenario).await?);
    }
    Ok(reports)
}

async fn run(options: &Options, scenario: Scenario) -> Result<Report, String> {
    let shared = Arc::new(Shared {
        options: options.clone(),
        scenario,
        bodies: Bodies::new(),
        next: AtomicU64::new(0),
        highest_put: AtomicU64::new(0),
        is_counting: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        left: AtomicU64::new(options.requests.unwrap_or(u64::MAX)),
    });
    let prepared = prepare(&shared).await?;
    let workers: Vec<_> = (0..options.concurrency)
        .map(|index| tokio::spawn(work(Arc::clone(&shared), index)))
        .collect();
    tokio::time::sleep(Duration::from_secs(options.warmup_seconds)).await;
    let cpu_before_ms = cpu_ms(&options.pids)?;
    let began = Instant::now();
    shared.is_counting.store(true, Ordering::SeqCst);
    if options.requests.is_none() {
        tokio::time::sleep(Duration::from_secs(options.seconds)).await;
        shared.is_over.store(true, Ordering::SeqCst);
    }
    let mut latency_us = new_histogram()?;
    let (mut bytes, mut errors, mut first_error) = (0_u64, 0_u64, None);
    for worker in workers {
        let seen = worker
            .await
            .map_err(|e| format!("a worker failed: {e}"))??;
        latency_us
            .add(&seen.latency_us)
            .map_err(|e| format!("adding histograms: {e}"))?;
        bytes += seen.bytes;
        errors += seen.errors;
        first_error = first_error.or(seen.first_error);
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu_used_ms = cpu_ms(&options.pids)?.saturating_sub(cpu_before_ms);
    if !options.keep {
        clean_up(&shared, prepared).await?;
    }
    let requests = latency_us.len();
    let per_second = |count: u64| as_f64(count) / seconds;
    Ok(Report {
        scenario: scenario.name(),
        concurrency: options.concurrency,
        requests,
        errors,
        first_error,
        seconds,
        requests_per_second: per_second(requests),
        mebibytes_per_second: per_second(bytes) / 1_048_576.0,
        p50_ms: as_f64(latency_us.value_at_quantile(0.5)) / 1000.0,
        p99_ms: as_f64(latency_us.value_at_quantile(0.99)) / 1000.0,
        max_ms: as_f64(latency_us.max()) / 1000.0,
        server_cpu_ms_per_request: (!options.pids.is_empty() && requests > 0)
            .then(|| as_f64(cpu_used_ms) / as_f64(requests)),
    })
}

/// One worker's loop; a failure is counted and the loop goes on, with a pause so that a dead server is not hammered.
async fn work(shared: Arc<Shared>, index: usize) -> Result<Seen, String> {
    let mut connection = connect(&shared.options, index)?;
    let mut seen = Seen {
        latency_us: new_histogram()?,
        bytes: 0,
        errors: 0,
        first_error: None,
    };
    let mut marker = String::new();
    while !shared.is_over.load(Ordering::Relaxed) {
        let is_counted = shared.is_counting.load(Ordering::Relaxed);
        if is_counted && !take_one(&shared.left) {
            break;
        }
        let began = Instant::now();
        let outcome = one_request(&shared, &mut connection, &mut marker).await;
        let elapsed_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        match outcome {
            Ok(bytes) if is_counted => {
                seen.latency_us.saturating_record(elapsed_us.max(1));
                seen.bytes += bytes;
            }
            Ok(_) => {}
            Err(reason) => {
                if is_counted {
                    seen.errors += 1;
                    seen.first_error.get_or_insert(reason);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    Ok(seen)
}

/// Sends the scenario's next request; the bytes of body that it moved.
async fn one_request(
    shared: &Shared,
    connection: &mut Connection,
    marker: &mut String,
) -> Result<u64, String> {
    match shared.scenario {
        Scenario::Put {
            size_bytes, keys, ..
        } => {
            let number = shared.next.fetch_add(1, Ordering::Relaxed) % keys;
            shared.highest_put.fetch_max(number + 1, Ordering::Relaxed);
            put(shared, connection, number, size_bytes).await?;
            Ok(as_u64(size_bytes))
        }
        Scenario::Get {
            size_bytes, keys, ..
        } => {
            let number = shared.next.fetch_add(1, Ordering::Relaxed) % keys;
            let mut checker = Checker::new(shared.bodies.pieces(number, size_bytes));
            let path = key_path(shared, number);
            let request = call(Method::GET, &path, "", Vec::new());
            let (status, body) = connection.send(request, Some(&mut checker)).await?;
            if status != StatusCode::OK {
                return Err(refusal("GET", status, &body));
            }
            if !checker.is_complete() {
                return Err(format!("GET {path}: not the bytes that were put"));
            }
            Ok(as_u64(size_bytes))
        }
        Scenario::List => list_page(shared, connection, marker).await,
    }
}

/// One page of the listing; checks that keys are the prepared ones, in order and without a gap.
async fn list_page(
    shared: &Shared,
    connection: &mut Connection,
    marker: &mut String,
) -> Result<u64, String> {
    let query = if marker.is_empty() {
        format!("list-type=2&max-keys={KEYS_PER_PAGE}&prefix=bench%2Flist-10k%2F")
    } else {
        let after = marker.replace('/', "%2F");
        format!(
            "list-type=2&max-keys={KEYS_PER_PAGE}&prefix=bench%2Flist-10k%2F&start-after={after}"
        )
    };
    let path = format!("/{}", shared.options.bucket);
    let (status, body) = connection
        .send(call(Method::GET, &path, &query, Vec::new()), None)
        .await?;
    if status != StatusCode::OK {
        marker.clear();
        return Err(refusal("LIST", status, &body));
    }
    let text = String::from_utf8_lossy(&body);
    let keys: Vec<&str> = text
        .split("<Key>")
        .skip(1)
        .filter_map(|rest| rest.split_once("</Key>").map(|(key, _)| key))
        .collect();
    let first = marker
        .rsplit('/')
        .next()
        .and_then(|n| n.parse::<u64>().ok())
        .map_or(0, |n| n + 1);
    let due = KEYS_PER_PAGE.min(shared.options.list_keys.saturating_sub(first));
    let is_right = as_u64(keys.len()) == due
        && keys
            .iter()
            .zip(first..)
            .all(|(key, number)| *key == key_name(shared.scenario, number));
    if !is_right {
        let reason = format!(
            "LIST after {marker:?}: {} keys, {due} due, or not the prepared ones",
            keys.len()
        );
        marker.clear();
        return Err(reason);
    }
    match keys.last() {
        Some(last) if first + due < shared.options.list_keys => (*last).clone_into(marker),
        _ => marker.clear(),
    }
    Ok(as_u64(body.len()))
}

/// Puts what the scenario reads; returns how many objects there are to remove later (puts by workers not counted).
async fn prepare(shared: &Arc<Shared>) -> Result<u64, String> {
    let (count, size_bytes) = match shared.scenario {
        Scenario::Put { .. } => return Ok(0),
        Scenario::Get {
            size_bytes, keys, ..
        } => (keys, size_bytes),
        Scenario::List => (shared.options.list_keys, 0),
    };
    for_each(
        shared,
        count,
        move |shared, mut connection, number| async move {
            put(&shared, &mut connection, number, size_bytes).await?;
            Ok(connection)
        },
    )
    .await?;
    Ok(count)
}

async fn clean_up(shared: &Arc<Shared>, prepared: u64) -> Result<(), String> {
    let count = prepared.max(shared.highest_put.load(Ordering::Relaxed));
    for_each(shared, count, |shared, mut connection, number| async move {
        let path = key_path(&shared, number);
        let (status, body) = connection
            .send(call(Method::DELETE, &path, "", Vec::new()), None)
            .await?;
        if status.is_success() {
            Ok(connection)
        } else {
            Err(refusal("DELETE", status, &body))
        }
    })
    .await
}

/// Runs `each` for every number below `count`, over as many connections as the load has.
async fn for_each<F, R>(shared: &Arc<Shared>, count: u64, each: F) -> Result<(), String>
where
    F: Fn(Arc<Shared>, Connection, u64) -> R + Copy + Send + Sync + 'static,
    R: Future<Output = Result<Connection, String>> + Send,
{
    let next = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (0..shared.options.concurrency)
        .map(|index| {
            let (shared, next) = (Arc::clone(shared), Arc::clone(&next));
            tokio::spawn(async move {
                let mut connection = connect(&shared.options, index)?;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Ok::<(), String>(());
                    }
                    connection = each(Arc::clone(&shared), connection, number).await?;
                }
            })
        })
        .collect();
    for worker in workers {
        worker
            .await
            .map_err(|e| format!("a worker failed: {e}"))??;
    }
    Ok(())
}

async fn put(
    shared: &Shared,
    connection: &mut Connection,
    number: u64,
    size_bytes: usize,
) -> Result<(), String> {
    let path = key_path(shared, number);
    let pieces = shared.bodies.pieces(number, size_bytes);
    let (status, body) = connection
        .send(call(Method::PUT, &path, "", pieces), None)
        .await?;
    if status == StatusCode::OK {
        Ok(())
    } else {
        Err(refusal("PUT", status, &body))
    }
}

fn connect(options: &Options, index: usize) -> Result<Connection, String> {
    let endpoint = &options.endpoint[index % options.endpoint.len()];
    let signer = Signer::new(&options.access_key, &options.secret_key, &options.region);
    Connection::new(endpoint, signer, options.signed_payload)
}

fn call<'a>(method: Method, path: &'a str, query: &'a str, pieces: Vec<Bytes>) -> Call<'a> {
    Call {
        method,
        path,
        query,
        pieces,
    }
}

fn key_name(scenario: Scenario, number: u64) -> String {
    format!("bench/{}/{number:010}", scenario.name())
}

fn key_path(shared: &Shared, number: u64) -> String {
    format!(
        "/{}/{}",
        shared.options.bucket,
        key_name(shared.scenario, number)
    )
}

fn take_one(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
        .is_ok()
}

fn refusal(what: &str, status: StatusCode, body: &Bytes) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(300).collect();
    format!("{what}: {status} {text}")
}

fn new_histogram() -> Result<Histogram<u64>, String> {
    // Microseconds up to ten minutes, three digits.
    Histogram::new_with_bounds(1, 600_000_000, 3).map_err(|e| format!("making a histogram: {e}"))
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// For ratios only: what is lost above 2^53 does not show in them.
#[allow(
    clippy::cast_precision_loss,
    reason = "ratios for people; counts stay far below 2^53"
)]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_found_by_its_name() {
        for scenario in ALL {
            assert_eq!(
                Scenario::parse_list(&[scenario.name().to_owned()]).unwrap(),
                [scenario]
            );
        }
    }

    #[test]
    fn an_unknown_scenario_is_refused_with_the_known_ones() {
        let reason = Scenario::parse_list(&["fly".to_owned()]).unwrap_err();
        assert!(reason.contains("put-4k"), "{reason}");
    }

    #[test]
    fn requests_are_counted_down_to_nothing() {
        let left = AtomicU64::new(2);
        assert!(take_one(&left) && take_one(&left) && !take_one(&left));
    }
}
