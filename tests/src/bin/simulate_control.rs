//! Runs many seeds of the control register's simulation, and every deliberate mutation of it.
//!
//! `simulate_control [SEEDS]` prints every violation with its seed, seeds a second, and after how many seeds each
//! mutation is caught.

#![allow(
    clippy::disallowed_methods,
    reason = "the speed of the simulation itself is real time; nothing simulated sees it"
)]

use ringfort_tests::control::{ControlMutation, LIVENESS, run};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let seeds = match std::env::args().nth(1).map(|text| text.parse::<u64>()) {
        None => 10_000,
        Some(Ok(seeds)) => seeds,
        Some(Err(_)) => {
            eprintln!("simulate_control [SEEDS]");
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let (mut broken, mut versions, mut changes) = (0_u64, 0, 0);
    for seed in 0..seeds {
        let report = run(seed, None);
        versions += report.version;
        changes += report.control_changes;
        broken += u64::from(!report.violations.is_empty());
        for (promise, what) in report.violations {
            println!("seed {seed}: {promise}: {what}");
        }
    }
    println!(
        "{seeds} seeds: {broken} broken; {versions} layouts chosen, {changes} changes of the control set begun; {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let mut missed = 0_u64;
    for mutation in ControlMutation::ALL {
        let caught = (0..seeds).find_map(|seed| {
            let broken = run(seed, Some(*mutation)).violations;
            let found = broken.into_iter().find(|(promise, _)| *promise != LIVENESS);
            found.map(|(promise, _)| (seed + 1, promise))
        });
        match caught {
            Some((after, promise)) => println!("{:<40} {after:>8}  {promise}", mutation.name()),
            None => {
                missed += 1;
                println!("{:<40} {seeds:>8}  NOT CAUGHT", mutation.name());
            }
        }
    }
    if broken + missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
