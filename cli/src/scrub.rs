//! `ringfort scrub` and `ringfort verify`: every byte on the disks read back, now. Exit code 1 where something was left
//! undone, or, of `verify`, where anything was found.

use crate::failure::{FAILED, Failure};
use crate::remote::{AdminArgs, bytes, print_json, print_table};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ringfort_admin::client::{AdminClient, AdminError};
use ringfort_admin::message::{
    DiskScrubState, ScrubPassState, ScrubState, StartScrub, StartedPass,
};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;

/// How often a running pass is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// For how long a node may say nothing before it is no longer waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to read.
#[derive(Args)]
pub(crate) struct ScrubArgs {
    /// Only the disks of this node [default: all nodes]
    #[arg(long)]
    node: Option<String>,
    /// Wait until it is done, and say what was found
    #[arg(long)]
    wait: bool,
    /// At most so many MiB a second on each node [default: 64]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate_mib: Option<u64>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// A pass that has ended.
#[derive(Serialize)]
struct Ended {
    node: String,
    disk: String,
    #[serde(flatten)]
    pass: ScrubPassState,
}

/// Runs the command.
pub(crate) async fn run(args: ScrubArgs, is_mending: bool) -> Result<ExitCode, Failure> {
    let client = args.admin.client()?;
    let wanted = StartScrub {
        node: args.node,
        rate_mib: args.rate_mib,
        is_mending,
    };
    let started = client.start_scrub(&wanted).await.map_err(Failure::failed)?;
    if !args.wait {
        if args.admin.json {
            print_json(&started)?;
            return Ok(ExitCode::SUCCESS);
        }
        let rows = started
            .passes
            .into_iter()
            .map(|pass| vec![pass.node, pass.disk, pass.number.to_string()]);
        print_table(&["NODE", "DISK", "PASS"], rows.collect());
        anstream::println!("begun; `ringfort status` shows how far it is");
        return Ok(ExitCode::SUCCESS);
    }
    let ended = wait(&client, &started.passes).await?;
    let is_well = ended.iter().all(|it| {
        let left = match is_mending {
            true => it.pass.found.saturating_sub(it.pass.mended),
            false => it.pass.found,
        };
        left == 0 && it.pass.trouble.is_none()
    });
    if args.admin.json {
        print_json(&ended)?;
    } else {
        print_ended(&ended);
    }
    Ok(match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    })
}

/// Waits for all of these passes.
async fn wait(client: &AdminClient, passes: &[StartedPass]) -> Result<Vec<Ended>, Failure> {
    // Drawn on the standard error, and only where that is a terminal.
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}");
    bar.set_style(style.map_err(Failure::failed)?);
    let mut heard = tokio::time::Instant::now();
    loop {
        let silence = match client.scrub().await {
            Ok(state) => match look(&state, passes) {
                Look::Ended(ended) => {
                    bar.finish_and_clear();
                    return Ok(ended);
                }
                Look::UnderWay {
                    bytes_done,
                    bytes_expected,
                    found,
                    mended,
                } => {
                    heard = tokio::time::Instant::now();
                    bar.set_length(bytes_expected);
                    bar.set_position(bytes_done);
                    bar.set_message(format!(
                        "{} of {} read, {found} rotten, {mended} mended",
                        bytes(bytes_done),
                        bytes(bytes_expected)
                    ));
                    None
                }
                Look::Silent(why) => Some(why),
            },
            Err(error @ AdminError::Unreachable { .. }) => Some(error.to_string()),
            Err(error) => return Err(Failure::failed(error)),
        };
        if let Some(why) = silence.filter(|_| heard.elapsed() > PATIENCE) {
            bar.abandon();
            return Err(Failure::failed(format!(
                "{why}; the scrub goes on where it can, and `ringfort status` shows how far it is"
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How far the passes are.
enum Look {
    Ended(Vec<Ended>),
    UnderWay {
        bytes_done: u64,
        bytes_expected: u64,
        found: u64,
        mended: u64,
    },
    /// Somebody does not answer.
    Silent(String),
}

fn look(state: &ScrubState, passes: &[StartedPass]) -> Look {
    let mut ended = Vec::new();
    let (mut bytes_done, mut bytes_expected, mut found, mut mended) = (0, 0, 0, 0);
    for started in passes {
        let node = state.nodes.iter().find(|node| node.name == started.node);
        let disk = node.and_then(|node| node.disks.iter().find(|it| it.disk == started.disk));
        let Some(disk) = disk else {
            let why = node.and_then(|node| node.error.clone());
            let why = why.unwrap_or_else(|| "it does not show the disk".to_owned());
            return Look::Silent(format!("node {}: {why}", started.node));
        };
        let DiskScrubState { current, last, .. } = disk;
        // A later one of the same disk says as much.
        let last = last.as_ref().filter(|it| it.number >= started.number);
        if let Some(pass) = last {
            ended.push(Ended {
                node: started.node.clone(),
                disk: started.disk.clone(),
                pass: pass.clone(),
            });
        }
        if let Some(pass) = last.or(current.as_ref()) {
            bytes_done += pass.bytes.min(pass.bytes_expected);
            bytes_expected += pass.bytes_expected;
            found += pass.found;
            mended += pass.mended;
        }
    }
    if ended.len() == passes.len() {
        return Look::Ended(ended);
    }
    Look::UnderWay {
        bytes_done,
        bytes_expected,
        found,
        mended,
    }
}

fn print_ended(ended: &[Ended]) {
    let header = [
        "NODE", "DISK", "READ", "RECORDS", "ROWS", "CHUNKS", "FACTS", "PLACES", "FOUND", "MENDED",
    ];
    let rows = ended.iter().map(|it| {
        vec![
            it.node.clone(),
            it.disk.get(..8).unwrap_or(&it.disk).to_owned(),
            bytes(it.pass.bytes),
            it.pass.records.to_string(),
            it.pass.rotten_rows.to_string(),
            it.pass.rotten_chunks.to_string(),
            it.pass.rotten_facts.to_string(),
            it.pass.bad_places.to_string(),
            it.pass.found.to_string(),
            it.pass.mended.to_string(),
        ]
    });
    print_table(&header, rows.collect());
    for it in ended {
        if let Some(trouble) = &it.pass.trouble {
            anstream::println!("node {}: {trouble}", it.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfort_admin::message::NodeScrubState;

    fn pass(number: u64) -> ScrubPassState {
        ScrubPassState {
            number,
            bytes: 30,
            bytes_expected: 100,
            found: 2,
            mended: 1,
            ..ScrubPassState::default()
        }
    }

    fn state(current: Option<u64>, last: Option<u64>) -> ScrubState {
        let disk = DiskScrubState {
            disk: "d".to_owned(),
            current: current.map(pass),
            last: last.map(pass),
            next_ms: 0,
        };
        ScrubState {
            nodes: vec![NodeScrubState {
                name: "n".to_owned(),
                error: None,
                disks: vec![disk],
            }],
        }
    }

    #[test]
    fn an_older_pass_of_the_disk_is_not_the_one_waited_for() {
        let passes = [StartedPass {
            node: "n".to_owned(),
            disk: "d".to_owned(),
            number: 5,
        }];
        let done = |state: &ScrubState| match look(state, &passes) {
            Look::Ended(ended) => Some(ended.len()),
            Look::UnderWay { .. } | Look::Silent(_) => None,
        };
        assert_eq!(done(&state(Some(5), Some(4))), None);
        assert_eq!(done(&state(None, Some(4))), None);
        assert_eq!(done(&state(None, Some(5))), Some(1));
        assert_eq!(done(&state(Some(7), Some(6))), Some(1));
        let silent = ScrubState { nodes: Vec::new() };
        assert!(matches!(look(&silent, &passes), Look::Silent(_)));
        assert!(matches!(
            look(&state(Some(5), None), &passes),
            Look::UnderWay {
                bytes_done: 30,
                bytes_expected: 100,
                found: 2,
                mended: 1
            }
        ));
    }
}
