//! The one binary, `ringfort`: servers, and the commands that look after them.
//!
//! Exit codes: 0 done; 1 it did not work; 2 the command line, a setting or a folder is not right, and nothing was
//! started; 3 told to end, and did not wait for every request.

mod bucket;
mod cluster;
mod drain;
#[cfg(test)]
mod examples;
mod failure;
mod first_key;
mod folder;
mod gateway;
mod healing;
mod key;
mod layout;
mod layout_paper;
mod layout_table;
mod listen;
mod logging;
mod member;
mod metrics;
mod node;
mod rebuild;
mod remote;
mod scrub;
mod secrets;
mod server;
mod settings;
mod status;

use clap::{CommandFactory, Parser, Subcommand};
use failure::Failure;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An S3-compatible object store whose 200 means it.
#[derive(Parser)]
#[command(name = "ringfort", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    log: logging::LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Storage nodes and a gateway in one process
    Server(server::ServerArgs),
    /// A storage node
    Node(node::NodeCommand),
    /// An S3 gateway
    Gateway(gateway::GatewayArgs),
    /// Make a cluster of separate processes
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Nodes, disks, partitions and their state
    Status(status::StatusArgs),
    /// Read everything on the disks back, and mend what is rotten
    Scrub(scrub::ScrubArgs),
    /// Read everything on the disks back, mending nothing
    Verify(scrub::ScrubArgs),
    /// Which disks hold what: show, plan, apply, pause, resume, abort
    #[command(subcommand)]
    Layout(layout::LayoutCommand),
    /// Access keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Buckets
    #[command(subcommand)]
    Bucket(bucket::BucketCommand),
    /// A shell's completions, on the standard output
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = logging::start(&cli.log).and_then(|()| run(cli.command));
    ended.unwrap_or_else(|failure| {
        anstream::eprintln!("ringfort: {failure}");
        ExitCode::from(failure.code)
    })
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the runtime cannot start: {error}")))?;
    let ended = runtime.block_on(async {
        match command {
            Command::Server(args) => Box::pin(server::run(args)).await,
            Command::Node(command) => Box::pin(node::run_command(command)).await,
            Command::Gateway(args) => Box::pin(gateway::run(args)).await,
            Command::Cluster(command) => cluster::run(command).await,
            Command::Status(args) => status::run(args).await,
            Command::Scrub(args) => scrub::run(args, true).await,
            Command::Verify(args) => scrub::run(args, false).await,
            Command::Layout(command) => layout::run(command).await,
            Command::Key(command) => key::run(command).await,
            Command::Bucket(command) => bucket::run(command).await,
            Command::Completions { shell } => {
                clap_complete::generate(
                    shell,
                    &mut Cli::command(),
                    "ringfort",
                    &mut std::io::stdout(),
                );
                Ok(ExitCode::SUCCESS)
            }
        }
    });
    // What still runs is idle or safe to cut: nothing waits for it.
    runtime.shutdown_background();
    ended
}
