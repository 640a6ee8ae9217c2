//! `ringfort cluster`: makes a cluster of separate processes, and tokens to join it.

use crate::failure::Failure;
use crate::folder::{self, RootKey};
use crate::member::{self, Membership};
use crate::node::{NodeArgs, NodeSettings};
use crate::remote::{AdminArgs, print_json};
use crate::secrets;
use clap::{Args, Subcommand, ValueEnum};
use ringfort_admin::message::TokenRole;
use ringfort_gateway::admin::hash_token;
use ringfort_storage_node::control::authority::{Authority, ClusterPlan, Member, check_sizes};
use ringfort_storage_node::control::file::Secrecy;
use ringfort_storage_node::control::token::JoinToken;
use ringfort_wire::authority::Authority as CertificateAuthority;
use ringfort_wire::environment::Environment;
use ringfort_wire::identity::{Identity, NodeKey};
use ringfort_wire::message::Role;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What to do with a cluster.
#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Make a cluster; run once, for the folder of its first node
    Init(InitArgs),
    /// Make one more one-time token (asks the first node)
    Token(TokenArgs),
}

/// What the cluster is to be.
#[derive(Args)]
pub(crate) struct InitArgs {
    /// The folder of the first node
    #[arg(long, env = "RINGFORT_DATA")]
    data: PathBuf,
    /// Where the first node answers other processes
    #[arg(long, env = "RINGFORT_LISTEN", default_value = "127.0.0.1:9010")]
    listen: SocketAddr,
    /// Where the first node serves the admin API, /metrics and /health
    #[arg(long, env = "RINGFORT_ADMIN_LISTEN", default_value = "127.0.0.1:9011")]
    admin_listen: SocketAddr,
    /// The first node's name
    #[arg(long, env = "RINGFORT_NAME", default_value = "n1")]
    name: String,
    /// The first node's failure domain
    #[arg(long, env = "RINGFORT_ZONE")]
    zone: Option<String>,
    /// Where others reach --listen, HOST:PORT [default: --listen]
    #[arg(long, env = "RINGFORT_ADVERTISE")]
    advertise: Option<String>,
    /// A disk's folder of the first node (repeatable) [default: disk1 in --data]
    #[arg(long, env = "RINGFORT_DISK", value_delimiter = ',')]
    disk: Vec<PathBuf>,
    /// Storage nodes; the cluster serves once all have joined
    #[arg(long, env = "RINGFORT_NODES", default_value_t = 3)]
    nodes: u16,
    /// Replicas of everything: 1, 3 or 5
    #[arg(long, env = "RINGFORT_REPLICAS", default_value_t = 3)]
    replicas: u8,
    /// Partitions, for ever
    #[arg(long, env = "RINGFORT_PARTITIONS", default_value_t = 4096)]
    partitions: u32,
    /// Gateways to make tokens for
    #[arg(long, env = "RINGFORT_GATEWAYS", default_value_t = 1)]
    gateways: u16,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// For whom a token is.
#[derive(Args)]
pub(crate) struct TokenArgs {
    /// What the joiner is to be
    #[arg(long, value_enum)]
    role: RoleArg,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArg {
    Node,
    Gateway,
}

#[derive(Serialize)]
struct Made {
    cluster_id: String,
    access_key: String,
    secret_key: String,
    admin_token: String,
    join_tokens: Tokens,
}

#[derive(Serialize)]
struct Tokens {
    nodes: Vec<String>,
    gateways: Vec<String>,
}

/// Runs the command.
pub(crate) async fn run(command: ClusterCommand) -> Result<ExitCode, Failure> {
    match command {
        ClusterCommand::Init(args) => init(&args),
        ClusterCommand::Token(args) => token(args).await,
    }
}

/// The cluster exists from the moment that the authority's state is written; before, the same command can be repeated,
/// and afterwards it is refused.
fn init(args: &InitArgs) -> Result<ExitCode, Failure> {
    check_sizes(args.nodes, args.replicas, args.partitions).map_err(Failure::usage)?;
    let data = &args.data;
    let environment = Environment::os();
    let _lock = folder::open(data)?;
    if Authority::exists(data).map_err(Failure::usage)? {
        return Err(Failure::usage(format!(
            "{data} already holds a cluster: start it with `ringfort node --data {data}`. Its first access key is in \
             {data}/root-key.json, its admin token in {data}/admin-token, and `ringfort cluster token` makes further \
             join tokens",
            data = data.display()
        )));
    }
    if member::load(data, Role::Node)?.is_some() {
        return Err(Failure::usage(format!(
            "{} belongs to a member of a cluster: choose another --data folder",
            data.display()
        )));
    }
    let id = member::own_id(data, &environment)?;
    let node = NodeArgs {
        listen: Some(args.listen),
        admin_listen: Some(args.admin_listen),
        name: Some(args.name.clone()),
        zone: args.zone.clone(),
        advertise: args.advertise.clone(),
        disk: args.disk.clone(),
        ..NodeArgs::default()
    };
    let settings = NodeSettings::new(&node, data, id)?;
    let key = first_access_key(data, &environment)?;
    let admin_token = folder::admin_token(data, &environment)?;
    let admin_token_hash = hash_token(&admin_token);
    settings.remember()?;
    let plan = ClusterPlan {
        nodes: args.nodes,
        replicas: args.replicas,
        partitions: args.partitions,
        bootstrap: Member {
            id,
            role: Role::Node,
            name: settings.name.clone(),
            address: settings.advertise.clone(),
            zone: settings.zone.clone(),
            disks: Vec::new(),
            key_digest: [0; 32],
        },
        admin_token_hash,
    };
    let made =
        Authority::create(data, &plan, args.gateways, &environment).map_err(Failure::usage)?;
    become_member(data, id, &settings, admin_token_hash)?;
    let texts = |role: Role| -> Vec<String> {
        let of_role = made.tokens.iter().filter(|token| token.role == role);
        of_role.map(JoinToken::to_string).collect()
    };
    let answer = Made {
        cluster_id: made.cluster.to_string(),
        access_key: key.access_key,
        secret_key: key.secret_key,
        admin_token,
        join_tokens: Tokens {
            nodes: texts(Role::Node),
            gateways: texts(Role::Gateway),
        },
    };
    if args.json {
        print_json(&answer)?;
    } else {
        print_made(&answer, data);
    }
    Ok(ExitCode::SUCCESS)
}

/// The first node's own certificate, from its own authority. Repeatable: `ringfort node` does it where a crash left
/// it undone.
pub(crate) fn become_member(
    data: &Path,
    id: ringfort_ring::id::NodeId,
    settings: &NodeSettings,
    admin_token_hash: [u8; 32],
) -> Result<(), Failure> {
    let authority = CertificateAuthority::load(data)
        .map_err(Failure::usage)?
        .ok_or_else(|| {
            Failure::usage("the cluster's certificate authority is not in the folder")
        })?;
    let key = NodeKey::load_or_create(data).map_err(Failure::failed)?;
    let request = key.signing_request().map_err(Failure::failed)?;
    let certificate = authority
        .issue(&request, id, Role::Node)
        .map_err(Failure::failed)?;
    Identity::new(key, certificate, authority.certificate().to_vec())
        .and_then(|identity| identity.save(data))
        .map_err(Failure::failed)?;
    let seeds = vec![settings.advertise.clone()];
    Membership::new(authority.cluster(), Role::Node, seeds, admin_token_hash).save(data)
}

fn first_access_key(data: &Path, environment: &Environment) -> Result<RootKey, Failure> {
    // A crashed init has left one: what it may have shown stays true.
    if let Some(kept) = folder::root_key(data)? {
        return Ok(kept);
    }
    let key = match secrets::root_keys(&secrets::environment)? {
        Some(given) if given.is_ours => RootKey {
            access_key: given.access_key,
            secret_key: given.secret_key,
        },
        _ => folder::draw_key(environment),
    };
    folder::write_json(&folder::root_key_path(data), &key, Secrecy::Secret)?;
    Ok(key)
}

fn print_made(made: &Made, data: &Path) {
    anstream::println!(
        "Cluster {} is made. Keep this: it is shown once.\n",
        made.cluster_id
    );
    anstream::println!("  access key   {}", made.access_key);
    anstream::println!("  secret key   {}", made.secret_key);
    anstream::println!("  admin token  {}\n", made.admin_token);
    anstream::println!("Start the first node, then the others, each with a token of its own:\n");
    anstream::println!("  ringfort node --data {}", data.display());
    for token in &made.join_tokens.nodes {
        anstream::println!(
            "  ringfort node --data FOLDER --listen HOST:PORT --admin-listen HOST:PORT --name NAME --join {token}"
        );
    }
    for token in &made.join_tokens.gateways {
        anstream::println!(
            "  ringfort gateway --data FOLDER --listen HOST:PORT --admin-listen HOST:PORT --join {token}"
        );
    }
}

async fn token(args: TokenArgs) -> Result<ExitCode, Failure> {
    let role = match args.role {
        RoleArg::Node => TokenRole::Node,
        RoleArg::Gateway => TokenRole::Gateway,
    };
    let created = args
        .admin
        .client()?
        .create_token(role)
        .await
        .map_err(Failure::failed)?;
    if args.admin.json {
        print_json(&created)?;
    } else {
        anstream::println!("{}", created.token);
    }
    Ok(ExitCode::SUCCESS)
}
