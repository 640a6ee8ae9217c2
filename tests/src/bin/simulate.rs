//! Runs many seeds of the register's simulation, or every deliberate mutation of it.
//!
//! `simulate --seeds N [--first N] [--mutation NAME] [--history]` prints seeds a second and every violation with its
//! seed; `simulate --mutations [--seeds N] [--first N]` prints which mutations are caught, after how many seeds.

#![allow(
    clippy::disallowed_methods,
    reason = "the speed of the simulation itself is real time; nothing simulated sees it"
)]

use ringfort_tests::simulation::{LIVENESS, Mutation, describe, run};
use std::process::ExitCode;
use std::time::Instant;

struct Arguments {
    seeds: u64,
    first: u64,
    mutation: Option<Mutation>,
    runs_mutations: bool,
    shows_history: bool,
}

fn parse() -> Result<Arguments, String> {
    let mut parsed = Arguments {
        seeds: 10_000,
        first: 0,
        mutation: None,
        runs_mutations: false,
        shows_history: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("{text} is no number"));
        match word.as_str() {
            "--seeds" => parsed.seeds = number(value()?)?,
            "--first" => parsed.first = number(value()?)?,
            "--mutation" => {
                let name = value()?;
                let found = Mutation::parse(&name);
                parsed.mutation = Some(found.ok_or(format!("no mutation is called {name}"))?);
            }
            "--mutations" => parsed.runs_mutations = true,
            "--history" => parsed.shows_history = true,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(parsed)
}

fn main() -> ExitCode {
    match parse() {
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::from(2)
        }
        Ok(arguments) if arguments.runs_mutations => run_mutations(&arguments),
        Ok(arguments) => run_seeds(&arguments),
    }
}

/// Every seed twice: its trace must be the same.
fn run_seeds(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let (mut broken, mut events, mut operations) = (0_u64, 0_u64, 0_usize);
    for seed in arguments.first..arguments.first + arguments.seeds {
        let report = run(seed, arguments.mutation);
        let again = run(seed, arguments.mutation);
        events += report.events;
        operations += report.history.len();
        if again.trace_hash != report.trace_hash {
            println!("seed {seed}: two runs differ");
            broken += 1;
        }
        if !report.violations.is_empty() {
            broken += 1;
            for violation in &report.violations {
                println!("seed {seed}: {}: {}", violation.promise, violation.what);
            }
        }
        if arguments.shows_history {
            println!("{}", describe(seed));
            for op in &report.history {
                println!("{op:?}");
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{} seeds from {}, each run twice: {broken} broken; {operations} operations, {events} events; \
         {seconds:.1} s, {:.0} seeds/s",
        arguments.seeds,
        arguments.first,
        count(arguments.seeds) / seconds,
    );
    if broken == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn count(number: u64) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

fn run_mutations(arguments: &Arguments) -> ExitCode {
    let mut missed = 0;
    println!("{:<40} {:>10}  promise", "mutation", "seeds");
    for mutation in Mutation::ALL {
        let last = arguments.first + arguments.seeds;
        let caught = (arguments.first..last).find_map(|seed| {
            let report = run(seed, Some(*mutation));
            let mut broken = report.violations.into_iter();
            let found = broken.find(|violation| violation.promise != LIVENESS)?;
            Some((seed - arguments.first + 1, found.promise))
        });
        match caught {
            Some((seeds, promise)) => println!("{:<40} {seeds:>10}  {promise}", mutation.name()),
            None => {
                missed += 1;
                println!(
                    "{:<40} {:>10}  NOT CAUGHT",
                    mutation.name(),
                    arguments.seeds
                );
            }
        }
    }
    if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
