//! The register under fresh seeds, under the seeds that once found something, and with each mutation.

use ringfort_tests::simulation::{LIVENESS, Mutation, Report, run};

/// Runs a seed twice and holds it against every promise.
fn check(seed: u64) -> Report {
    let report = run(seed, None);
    assert_eq!(
        report.trace_hash,
        run(seed, None).trace_hash,
        "seed {seed}: two runs differ"
    );
    assert!(
        report.violations.is_empty(),
        "seed {seed}: {:#?}",
        report.violations
    );
    report
}

fn seeds_wanted() -> u64 {
    let text = std::env::var("RINGFORT_SEEDS").unwrap_or_default();
    text.parse().unwrap_or(3_000)
}

#[test]
fn fresh_seeds_break_no_promise() {
    let since = std::time::UNIX_EPOCH
        .elapsed()
        .expect("the clock is past 1970");
    let first = since.as_secs() * 1_000_000;
    println!("seeds {first} and the next {}", seeds_wanted());
    for seed in first..first + seeds_wanted() {
        if seed % 4 == 0 {
            check(seed);
        } else {
            let report = run(seed, None);
            assert!(
                report.violations.is_empty(),
                "seed {seed}: {:#?}",
                report.violations
            );
        }
    }
}

/// `regressions/register.txt`: one seed a line, then why it is kept.
#[test]
fn seeds_that_once_found_something_stay_clean() {
    let mut count = 0;
    for line in include_str!("../regressions/register.txt").lines() {
        let seed = line.split_whitespace().next().unwrap_or_default();
        if let Ok(seed) = seed.parse() {
            check(seed);
            count += 1;
        }
    }
    assert!(count > 20);
}

/// `regressions/mutations.txt`: a mutation and a seed at which the checkers see it.
#[test]
fn every_mutation_is_seen_at_its_seed() {
    let mut seen = Vec::new();
    for line in include_str!("../regressions/mutations.txt").lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(seed)) = (words.next(), words.next()) else {
            continue;
        };
        if name.starts_with('#') {
            continue;
        }
        let mutation = Mutation::parse(name).expect("a known mutation");
        let seed = seed.parse().expect("a seed");
        let report = run(seed, Some(mutation));
        let is_caught = report
            .violations
            .iter()
            .any(|found| found.promise != LIVENESS);
        assert!(is_caught, "{name} is not seen at seed {seed}");
        seen.push(mutation);
    }
    for mutation in Mutation::ALL {
        assert!(seen.contains(mutation), "{} has no seed", mutation.name());
    }
}

#[test]
fn a_run_does_something() {
    let reports: Vec<Report> = (0..50).map(check).collect();
    let operations: usize = reports.iter().map(|report| report.history.len()).sum();
    assert!(operations > 500);
    assert!(reports.iter().all(|report| report.events > 50));
    assert_ne!(reports[0].trace_hash, reports[1].trace_hash);
}
