//! `ringfort bucket`: all accounts' buckets, as an operator sees them.

use crate::failure::Failure;
use crate::remote::{AdminArgs, moment, print_json, print_table};
use clap::{Args, Subcommand};
use std::process::ExitCode;

/// What to do with buckets.
#[derive(Subcommand)]
pub(crate) enum BucketCommand {
    /// Show the buckets
    List(AdminArgs),
    /// Show one bucket
    Info(InfoArgs),
}

/// Which bucket.
#[derive(Args)]
pub(crate) struct InfoArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs the command.
pub(crate) async fn run(command: BucketCommand) -> Result<ExitCode, Failure> {
    match command {
        BucketCommand::List(admin) => list(&admin).await?,
        BucketCommand::Info(args) => info(&args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(admin: &AdminArgs) -> Result<(), Failure> {
    let list = admin
        .client()?
        .list_buckets()
        .await
        .map_err(Failure::failed)?;
    if admin.json {
        return print_json(&list);
    }
    let rows = list
        .buckets
        .into_iter()
        .map(|bucket| vec![bucket.name, bucket.owner, moment(bucket.created_ms)]);
    print_table(&["BUCKET", "ACCOUNT", "CREATED"], rows.collect());
    Ok(())
}

async fn info(args: &InfoArgs) -> Result<(), Failure> {
    let bucket = args
        .admin
        .client()?
        .bucket(&args.name)
        .await
        .map_err(Failure::failed)?;
    if args.admin.json {
        return print_json(&bucket);
    }
    anstream::println!("bucket      {}", bucket.name);
    anstream::println!("id          {}", bucket.id);
    anstream::println!("account     {}", bucket.owner);
    anstream::println!("created     {}", moment(bucket.created_ms));
    anstream::println!("generation  {}", bucket.generation);
    anstream::println!("shards      {}", bucket.shards);
    Ok(())
}
