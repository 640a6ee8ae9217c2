//! `ringfort status`: nodes, disks, partitions, and what is wrong with them. Exit code 1 where the cluster is not
//! ready, so that a script can wait for it.

use crate::failure::{FAILED, Failure};
use crate::remote::{AdminArgs, bytes, moment, print_json, print_table, span};
use clap::Args;
use ringfort_admin::message::{ClusterStatus, DiskState, NodeState};
use std::process::ExitCode;

/// Whom to ask.
#[derive(Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs the command.
pub(crate) async fn run(args: StatusArgs) -> Result<ExitCode, Failure> {
    let status = args
        .admin
        .client()?
        .status()
        .await
        .map_err(Failure::failed)?;
    if args.admin.json {
        print_json(&status)?;
    } else {
        print_status(&status);
    }
    Ok(match status.is_ready {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    })
}

fn print_status(status: &ClusterStatus) {
    let partitions = &status.partitions;
    anstream::println!(
        "cluster     {}",
        status.cluster_id.as_deref().unwrap_or("(not formed yet)")
    );
    anstream::println!(
        "state       {}: {}",
        if status.is_ready {
            "ready"
        } else {
            "NOT READY"
        },
        status.reason
    );
    anstream::println!(
        "layout      version {}, era {}, {} replicas",
        status.layout_version,
        status.era,
        status.replicas
    );
    anstream::println!(
        "partitions  {}: {} whole, {} degraded, {} without quorum, {} moving\n",
        partitions.total,
        partitions.whole,
        partitions.degraded,
        partitions.without_quorum,
        partitions.moving
    );
    let header = [
        "NODE", "ZONE", "ADDRESS", "STATE", "UP", "RELEASE", "LAYOUT",
    ];
    print_table(&header, status.nodes.iter().map(node_row).collect());
    anstream::println!();
    let header = [
        "DISK", "NODE", "STATE", "PARTS", "ROWS", "CHUNKS", "LIVE", "GARBAGE", "FREE", "MISSING",
    ];
    let disks = status
        .nodes
        .iter()
        .flat_map(|node| node.disks.iter().map(move |disk| disk_row(node, disk)));
    print_table(&header, disks.collect());
    let scrubs: Vec<_> = status
        .nodes
        .iter()
        .flat_map(|node| {
            node.disks
                .iter()
                .filter_map(move |disk| scrub_row(node, disk))
        })
        .collect();
    if !scrubs.is_empty() {
        anstream::println!();
        let header = [
            "SCRUB OF", "NODE", "NOW", "LAST", "RECORDS", "READ", "FOUND", "MENDED", "NEXT",
        ];
        print_table(&header, scrubs);
    }
    anstream::println!();
    let header = [
        "GARBAGE OF",
        "PASSES",
        "TOMBSTONES",
        "DROPPED",
        "EMPTIED",
        "ORPHANS",
        "CHUNKS",
        "BYTES",
        "WAITING",
        "FAILED",
    ];
    print_table(
        &header,
        status.nodes.iter().filter_map(garbage_row).collect(),
    );
    for disk in status.nodes.iter().flat_map(|node| &node.disks) {
        let last = disk.scrub.as_ref().and_then(|scrub| scrub.last.as_ref());
        if let Some(trouble) = last.and_then(|last| last.trouble.as_ref()) {
            anstream::println!("disk {}: the last scrub: {trouble}", short(&disk.id));
        }
        for line in &disk.recovery {
            anstream::println!("disk {}: {line}", short(&disk.id));
        }
    }
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

fn node_row(node: &NodeState) -> Vec<String> {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    vec![
        node.name.clone(),
        or_dash(Some(node.zone.clone()).filter(|zone| !zone.is_empty())),
        node.address.clone(),
        match &node.error {
            None => "up".to_owned(),
            Some(why) => format!("DOWN ({why})"),
        },
        or_dash(node.uptime_s.map(span)),
        or_dash(node.release.clone()),
        or_dash(node.layout_version.map(|version| version.to_string())),
    ]
}

fn scrub_row(node: &NodeState, disk: &DiskState) -> Option<Vec<String>> {
    let scrub = disk.scrub.as_ref()?;
    let now = match &scrub.current {
        None => "-".to_owned(),
        Some(pass) => {
            let percent = pass.bytes.saturating_mul(100) / pass.bytes_expected.max(1);
            let what = if pass.is_mending { "reads" } else { "verifies" };
            format!("{what}, {}%", percent.min(100))
        }
    };
    let mut row = vec![short(&disk.id).to_owned(), node.name.clone(), now];
    match &scrub.last {
        None => row.extend(std::iter::repeat_n("-".to_owned(), 5)),
        Some(last) => row.extend([
            moment(last.started_ms),
            last.records.to_string(),
            bytes(last.bytes),
            last.found.to_string(),
            last.mended.to_string(),
        ]),
    }
    row.push(match scrub.next_ms {
        0 => "now".to_owned(),
        next_ms => moment(next_ms),
    });
    Some(row)
}

fn garbage_row(node: &NodeState) -> Option<Vec<String>> {
    let it = node.garbage.as_ref()?;
    Some(vec![
        node.name.clone(),
        it.passes.to_string(),
        it.tombstones.to_string(),
        it.rows_dropped.to_string(),
        it.rows_emptied.to_string(),
        it.orphans.to_string(),
        it.chunks_deleted.to_string(),
        bytes(it.chunk_bytes_deleted),
        it.partitions_waiting.to_string(),
        it.failed.to_string(),
    ])
}

fn disk_row(node: &NodeState, disk: &DiskState) -> Vec<String> {
    let state = match (&disk.writes_closed, node.is_reachable, disk.is_in_layout) {
        (Some(why), _, _) => format!("NO WRITES ({why})"),
        (None, false, _) => "unknown".to_owned(),
        (None, true, false) => "not in the layout".to_owned(),
        (None, true, true) => "serves".to_owned(),
    };
    let mut row = vec![
        short(&disk.id).to_owned(),
        node.name.clone(),
        state,
        disk.partitions.to_string(),
    ];
    if node.is_reachable {
        row.extend([
            disk.rows.to_string(),
            disk.chunks.to_string(),
            bytes(disk.live_bytes),
            bytes(disk.garbage_bytes),
            format!("{} of {}", bytes(disk.free_bytes), bytes(disk.total_bytes)),
            disk.missing_chunks.to_string(),
        ]);
    } else {
        row.extend(std::iter::repeat_n("-".to_owned(), 6));
    }
    row
}
