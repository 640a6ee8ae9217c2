//! `ringfort key`: access keys and their rights.

use crate::failure::Failure;
use crate::remote::{AdminArgs, moment, print_json, print_table};
use crate::secrets;
use clap::{Args, Subcommand, ValueEnum};
use ringfort_admin::message::{CreateKey, KeyRole};
use std::path::PathBuf;
use std::process::ExitCode;

/// What to do with access keys.
#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key; its secret is shown this once
    Create(CreateArgs),
    /// Show the keys, without secrets
    List(AdminArgs),
    /// Delete a key; when the command returns, no gateway takes it any more
    Delete(DeleteArgs),
}

/// The key to make.
#[derive(Args)]
pub(crate) struct CreateArgs {
    /// What people call it
    #[arg(long, default_value = "")]
    name: String,
    /// What it may do
    #[arg(long, value_enum, default_value_t = RoleArg::ReadWrite)]
    role: RoleArg,
    /// Only this bucket (repeatable) [default: all of its account's]
    #[arg(long = "bucket", value_name = "BUCKET")]
    buckets: Vec<String>,
    /// The account that owns what the key makes, and whose buckets it is good for [default: root]
    #[arg(long)]
    owner: Option<String>,
    /// Its public half [default: drawn]
    #[arg(long, requires = "secret_key_file")]
    access_key: Option<String>,
    /// A file that holds its secret half [default: drawn]
    #[arg(long, requires = "access_key")]
    secret_key_file: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// The key to delete.
#[derive(Args)]
pub(crate) struct DeleteArgs {
    /// Its public half
    access_key: String,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArg {
    Admin,
    ReadWrite,
    ReadOnly,
}

/// Runs the command.
pub(crate) async fn run(command: KeyCommand) -> Result<ExitCode, Failure> {
    match command {
        KeyCommand::Create(args) => create(args).await?,
        KeyCommand::List(admin) => list(&admin).await?,
        KeyCommand::Delete(args) => delete(&args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(args: CreateArgs) -> Result<(), Failure> {
    let wanted = CreateKey {
        name: args.name,
        role: match args.role {
            RoleArg::Admin => KeyRole::Admin,
            RoleArg::ReadWrite => KeyRole::ReadWrite,
            RoleArg::ReadOnly => KeyRole::ReadOnly,
        },
        buckets: Some(args.buckets).filter(|buckets| !buckets.is_empty()),
        owner: args.owner,
        access_key: args.access_key,
        secret_key: args
            .secret_key_file
            .as_deref()
            .map(secrets::read_secret)
            .transpose()?,
    };
    let created = args
        .admin
        .client()?
        .create_key(&wanted)
        .await
        .map_err(Failure::failed)?;
    if args.admin.json {
        return print_json(&created);
    }
    anstream::println!("access key  {}", created.access_key);
    anstream::println!("secret key  {}   (shown this once)", created.secret_key);
    anstream::println!("role        {}", created.role.as_str());
    anstream::println!("account     {}", created.owner);
    anstream::println!("buckets     {}", buckets(created.buckets.as_deref()));
    Ok(())
}

async fn list(admin: &AdminArgs) -> Result<(), Failure> {
    let list = admin.client()?.list_keys().await.map_err(Failure::failed)?;
    if admin.json {
        return print_json(&list);
    }
    let rows = list.keys.into_iter().map(|key| {
        vec![
            key.access_key,
            key.name,
            key.role.as_str().to_owned(),
            key.owner,
            buckets(key.buckets.as_deref()),
            moment(key.created_ms),
        ]
    });
    print_table(
        &[
            "ACCESS KEY",
            "NAME",
            "ROLE",
            "ACCOUNT",
            "BUCKETS",
            "CREATED",
        ],
        rows.collect(),
    );
    Ok(())
}

async fn delete(args: &DeleteArgs) -> Result<(), Failure> {
    let deleted = args
        .admin
        .client()?
        .delete_key(&args.access_key)
        .await
        .map_err(Failure::failed)?;
    if args.admin.json {
        return print_json(&deleted);
    }
    anstream::println!("deleted {}", deleted.deleted);
    Ok(())
}

fn buckets(buckets: Option<&[String]>) -> String {
    match buckets {
        None => "all of its account's".to_owned(),
        Some(buckets) => buckets.join(", "),
    }
}
