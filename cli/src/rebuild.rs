//! `ringfort node rebuild-index`: the index of every disk of a folder, built anew from its segments alone.
//!
//! A node does this by itself where it finds its index in doubt; this is for an operator who doubts it. Nothing is lost
//! by it: the index says nothing that the segments do not.

use crate::failure::Failure;
use crate::folder;
use crate::node::{self, NodeArgs};
use crate::remote::{print_json, print_table};
use clap::Args;
use ringfort_storage_node::disk::os::OsDisk;
use ringfort_storage_node::engine::{Engine, EngineOptions, EngineStats, RecoveryReport};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Whose index.
#[derive(Args)]
pub(crate) struct RebuildArgs {
    /// The folder of a node, or of `ringfort server`, that does not run
    #[arg(long, env = "RINGFORT_DATA")]
    data: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// A disk whose index was built anew.
#[derive(Serialize)]
struct Rebuilt {
    disk: String,
    folder: PathBuf,
    rows: u64,
    chunks: u64,
    records_read: u64,
    rotten: usize,
    lost_partitions: usize,
}

/// Runs the command.
pub(crate) async fn run(args: RebuildArgs) -> Result<ExitCode, Failure> {
    let data = node::data_folder(args.data.as_ref())?;
    if !data.is_dir() {
        let no = format!("there is no folder {}", data.display());
        return Err(Failure::usage(no));
    }
    let disks = disks_of(&data)?;
    // Held to the end: neither a node nor a second rebuild may open the disks meanwhile.
    let lock = folder::open(&data)?;
    let mut rebuilt = Vec::new();
    for folder in disks {
        let at = folder.clone();
        let (engine, report) = tokio::task::spawn_blocking(move || rebuild(&at))
            .await
            .map_err(Failure::failed)??;
        // So that the next start has nothing to replay.
        engine.checkpoint().await.map_err(Failure::failed)?;
        rebuilt.push(in_figures(&engine, folder, &report));
    }
    drop(lock);
    if args.json {
        print_json(&rebuilt)?;
        return Ok(ExitCode::SUCCESS);
    }
    let header = [
        "DISK",
        "FOLDER",
        "ROWS",
        "CHUNKS",
        "RECORDS READ",
        "ROTTEN",
        "LOST",
    ];
    let rows = rebuilt.into_iter().map(|it| {
        vec![
            it.disk,
            it.folder.display().to_string(),
            it.rows.to_string(),
            it.chunks.to_string(),
            it.records_read.to_string(),
            it.rotten.to_string(),
            it.lost_partitions.to_string(),
        ]
    });
    print_table(&header, rows.collect());
    Ok(ExitCode::SUCCESS)
}

fn rebuild(folder: &Path) -> Result<(Engine, RecoveryReport), Failure> {
    let named = |why: &dyn std::fmt::Display| format!("disk {}: {why}", folder.display());
    let disk = OsDisk::open(folder).map_err(|error| Failure::failed(named(&error)))?;
    Engine::rebuild_index(Arc::new(disk), EngineOptions::default())
        .map_err(|error| Failure::failed(named(&error)))
}

fn in_figures(engine: &Engine, folder: PathBuf, report: &RecoveryReport) -> Rebuilt {
    let EngineStats {
        rows,
        parts,
        chunks,
        ..
    } = engine.stats();
    Rebuilt {
        disk: engine.disk_id().to_string(),
        folder,
        rows: rows + parts,
        chunks,
        records_read: report.records_replayed,
        rotten: report.rot.len(),
        lost_partitions: report.lost_partitions.len(),
    }
}

/// The disks that a folder's settings name.
fn disks_of(data: &Path) -> Result<Vec<PathBuf>, Failure> {
    let in_process = crate::server::disks_of(data)?;
    if !in_process.is_empty() {
        return Ok(in_process);
    }
    let kept: Option<NodeArgs> = folder::read_json(&node::remembered_path(data))?;
    let disks = match kept {
        Some(kept) if !kept.disk.is_empty() => kept.disk,
        _ => vec![data.join("disk1")],
    };
    // Opening would make an absent folder.
    if let Some(absent) = disks.iter().find(|disk| !disk.is_dir()) {
        return Err(Failure::usage(format!(
            "there is no disk {}: is {} the --data folder of a node?",
            absent.display(),
            data.display()
        )));
    }
    Ok(disks)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use ringfort_ring::id::{ClusterId, DiskId};

    #[tokio::test]
    async fn an_index_is_built_anew_from_the_segments() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk1");
        let os = Arc::new(OsDisk::open(&disk).unwrap());
        let ids = (DiskId([1; 16]), ClusterId([2; 16]));
        let engine = Engine::create(os, ids.0, ids.1, EngineOptions::default()).unwrap();
        drop(engine);
        let args = |data: &Path| RebuildArgs {
            data: Some(data.to_owned()),
            json: true,
        };
        run(args(folder.path())).await.unwrap();
        assert!(disk.join("index.redb").is_file());
        // A folder that is none is told so, and stays as it is.
        let other = tempfile::tempdir().unwrap();
        let refusal = run(args(other.path())).await.unwrap_err();
        assert!(refusal.message.contains("there is no disk"), "{refusal}");
        let left = std::fs::read_dir(other.path()).unwrap();
        assert_eq!(left.count(), 0);
    }
}
