//! `ringfort server`: storage nodes and a gateway in one process, for development and small machines.
//!
//! The folder holds `server.json` (what the cluster is made of, written before anything else), a folder a node, and
//! what [`crate::folder`] lists. Between gateway and nodes a hop is a function call.

use crate::drain::{DrainOptions, Signals, drain};
use crate::failure::Failure;
use crate::first_key;
use crate::folder::{self, RootKey};
use crate::healing::Given;
use crate::listen::{self, Ready};
use crate::metrics::{self, Metrics};
use crate::node::found_disks;
use crate::secrets::{self, GivenKeys};
use crate::settings::{self, Span};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use ringfort_gateway::admin;
use ringfort_gateway::catalog::Created;
use ringfort_gateway::config::GatewayConfig;
use ringfort_gateway::coordinator::{Coordinator, CoordinatorOptions};
use ringfort_gateway::s3::names::BucketName;
use ringfort_gateway::server::Gateway;
use ringfort_ring::assign::first_layout;
use ringfort_ring::id::{ClusterId, NodeId};
use ringfort_ring::topology::{DiskSpec, NodeSpec, Topology};
use ringfort_storage_node::control::acceptor::ControlAcceptor;
use ringfort_storage_node::control::announce::announce_disks;
use ringfort_storage_node::control::authority::check_sizes;
use ringfort_storage_node::control::change::apply_changes;
use ringfort_storage_node::control::conductor::Conductor;
use ringfort_storage_node::control::file::Secrecy;
use ringfort_storage_node::control::layout_store::LayoutStore;
use ringfort_storage_node::control::plane::{ControlOptions, ControlPlane};
use ringfort_storage_node::control::service::{ControlDoor, ControlService};
use ringfort_storage_node::engine::EngineOptions;
use ringfort_storage_node::node::{Node, NodeConfig};
use ringfort_wire::environment::Environment;
use ringfort_wire::local::LocalTransport;
use ringfort_wire::transport::Transport;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How the all-in-one server is run. Every flag is also a variable, and a key of the settings file.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct ServerArgs {
    /// A TOML file with the settings below (flags and variables come first).
    #[arg(long, env = "RINGFORT_CONFIG")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// The folder that holds everything [default: ./ringfort-data]
    #[arg(long, env = "RINGFORT_DATA")]
    data: Option<PathBuf>,
    /// Where S3 is served [default: 127.0.0.1:9000]
    #[arg(long, env = "RINGFORT_LISTEN")]
    listen: Option<SocketAddr>,
    /// Where the admin API, /metrics and /health are served [default: 127.0.0.1:9001]
    #[arg(long, env = "RINGFORT_ADMIN_LISTEN")]
    admin_listen: Option<SocketAddr>,
    /// Storage nodes; fixed at the first start [default: 3]
    #[arg(long, env = "RINGFORT_NODES")]
    nodes: Option<u16>,
    /// Replicas of everything: 1, 3 or 5; fixed at the first start [default: 3]
    #[arg(long, env = "RINGFORT_REPLICAS")]
    replicas: Option<u8>,
    /// Partitions; fixed at the first start [default: 256]
    #[arg(long, env = "RINGFORT_PARTITIONS")]
    partitions: Option<u32>,
    /// The region that signatures name [default: us-east-1]
    #[arg(long, env = "RINGFORT_REGION", value_parser = NonEmptyStringValueParser::new())]
    region: Option<String>,
    /// A domain under which `<bucket>.<domain>` names a bucket (repeatable)
    #[arg(long, env = "RINGFORT_BASE_DOMAIN", value_delimiter = ',')]
    base_domain: Vec<String>,
    /// A bucket to make, if it is not there
    #[arg(long, env = "RINGFORT_BUCKET")]
    bucket: Option<String>,
    /// Free space that each disk keeps, in MiB [default: 1024]
    #[arg(long, env = "RINGFORT_DISK_RESERVE_MIB")]
    disk_reserve_mib: Option<u64>,
    /// How far clocks may differ, in milliseconds [default: 500]
    #[arg(long, env = "RINGFORT_MAX_CLOCK_SKEW_MS")]
    max_clock_skew_ms: Option<u64>,
    /// Between two comparisons of replicas with each other [default: 60s]
    #[arg(long, env = "RINGFORT_SWEEP_INTERVAL")]
    sweep_interval: Option<Span>,
    /// From one reading of everything on a disk to the next [default: 14d]
    #[arg(long, env = "RINGFORT_SCRUB_INTERVAL")]
    scrub_interval: Option<Span>,
    /// Between two collections of garbage [default: 10m]
    #[arg(long, env = "RINGFORT_GC_INTERVAL")]
    gc_interval: Option<Span>,
    /// How long a deleted key's row is kept; the same on every node [default: 24h]
    #[arg(long, env = "RINGFORT_TOMBSTONE_AGE")]
    tombstone_age: Option<Span>,
    /// How old a write that never came to its end must be for its chunks to go, and longer than any body takes to
    /// arrive; the same on every node [default: 24h]
    #[arg(long, env = "RINGFORT_ORPHAN_AGE")]
    orphan_age: Option<Span>,
    /// Silence after which a node is down [default: 20s]
    #[arg(long, env = "RINGFORT_DOWN_AFTER")]
    down_after: Option<Span>,
    /// How long a node is down before its partitions go to others [default: 10m]
    #[arg(long, env = "RINGFORT_OUT_AFTER")]
    out_after: Option<Span>,
    /// How long a node is heard again before it counts as back [default: 30s]
    #[arg(long, env = "RINGFORT_BACK_AFTER")]
    back_after: Option<Span>,
    /// Partitions that move at a time [default: 512]
    #[arg(long, env = "RINGFORT_MOVES_AT_ONCE")]
    moves_at_once: Option<u16>,
    /// MiB a second that a node copies to restore lost replicas [default: 256]
    #[arg(long, env = "RINGFORT_REPAIR_RATE_MIB")]
    repair_rate_mib: Option<u64>,
    /// MiB a second that a node copies only to balance [default: 64]
    #[arg(long, env = "RINGFORT_BALANCE_RATE_MIB")]
    balance_rate_mib: Option<u64>,
    /// After SIGTERM, how long requests are still taken while /health/ready says 503 [default: 0s]
    #[arg(long, env = "RINGFORT_DRAIN_DELAY")]
    drain_delay: Option<Span>,
    /// How long requests under way may then go on [default: 30s]
    #[arg(long, env = "RINGFORT_DRAIN_TIMEOUT")]
    drain_timeout: Option<Span>,
}

impl ServerArgs {
    /// The settings of self-healing.
    fn healing(&self) -> Given {
        Given {
            down_after: self.down_after,
            out_after: self.out_after,
            back_after: self.back_after,
            moves_at_once: self.moves_at_once,
            repair_rate_mib: self.repair_rate_mib,
            balance_rate_mib: self.balance_rate_mib,
        }
    }
}

/// What the folder's cluster is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    cluster: String,
    nodes: Vec<String>,
    replicas: u8,
    partitions: u32,
}

/// Runs until a signal.
pub(crate) async fn run(flags: ServerArgs) -> Result<ExitCode, Failure> {
    let args = match &flags.config {
        Some(path) => settings::layered(&[&flags, &settings::read_file(path)?])?,
        None => flags,
    };
    args.healing().conductor()?;
    let signals = Signals::install()?;
    let environment = Environment::os();
    let data = args
        .data
        .clone()
        .unwrap_or_else(|| PathBuf::from("ringfort-data"));
    let lock = folder::open(&data)?;
    let listen = args
        .listen
        .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9000)));
    let admin_listen = args
        .admin_listen
        .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9001)));
    let bucket = args.bucket.as_deref().map(parse_bucket).transpose()?;

    let made = made(&data, &args, &environment)?;
    let key = first_access_key(&data, &environment)?;
    let admin_token = folder::admin_token(&data, &environment)?;
    let s3_listener = listen::bind("--listen", listen).await?;
    let admin_listener = listen::bind("--admin-listen", admin_listen).await?;
    let endpoint = Endpoint::of(&s3_listener, &admin_listener, listen, admin_listen);

    let recorder = metrics::install()?;
    let cluster = ClusterId::parse(&made.cluster).ok_or_else(|| {
        Failure::usage(format!("{}/server.json names no cluster", data.display()))
    })?;
    let layouts = Arc::new(LayoutStore::open(&data, cluster).map_err(Failure::usage)?);
    let nodes = open_nodes(&data, &made, cluster, &args, &environment, &layouts).await?;
    let acceptors = open_acceptors(&data, &nodes, &args, &environment, &layouts)?;
    form_layout(&layouts, &made, cluster, &nodes)?;
    let local = LocalTransport::new();
    let transport: Arc<dyn Transport> = Arc::clone(&local) as Arc<dyn Transport>;
    let plane = ControlPlane::new(
        Arc::clone(&layouts),
        acceptors.clone(),
        Arc::clone(&transport),
        // Every node is in this process.
        Arc::new(|_, _| {}),
        environment.clone(),
        ControlOptions::default(),
    );
    for (node, acceptor) in nodes.iter().zip(acceptors) {
        let door = ControlDoor {
            acceptor,
            layouts: Arc::clone(&layouts),
            plane: plane.clone(),
            changer: apply_changes(plane.clone()),
        };
        let service = ControlService::new(Arc::clone(node), None).with_control(door);
        local.insert(node.id(), Arc::new(service));
    }
    let drain_options = DrainOptions::new(args.drain_delay, args.drain_timeout);
    let gateway = make_gateway(
        &args,
        &transport,
        &layouts,
        &environment,
        drain_options.timeout,
    );

    let (stop_serving, serving_stops) = watch::channel(false);
    let (stop_all, all_stops) = watch::channel(false);
    for node in &nodes {
        let (node, transport, coordinator, stops) = (
            Arc::clone(node),
            Arc::clone(&transport),
            Arc::clone(gateway.coordinator()),
            all_stops.clone(),
        );
        tokio::spawn(async move { node.run(transport, coordinator, stops).await });
    }
    // Nobody follows the layout: the process has one, which whatever is chosen goes into first.
    tokio::spawn(plane.clone().run(all_stops.clone()));
    for node in &nodes {
        let conductor = Conductor::new(
            node.id(),
            Arc::clone(&layouts),
            plane.clone(),
            Arc::clone(&transport),
            environment.clone(),
            args.healing().conductor()?,
        );
        tokio::spawn(conductor.run(all_stops.clone()));
        tokio::spawn(announce_disks(
            plane.clone(),
            Arc::clone(&layouts),
            node.id(),
            found_disks(node),
            all_stops.clone(),
        ));
    }
    gateway.start_background(&all_stops);
    let metrics = Metrics::new(recorder, nodes.clone());
    tokio::spawn(metrics.clone().keep_up());
    let token_hash = admin::hash_token(&admin_token);
    let routes = listen::routes(
        admin::router(
            Arc::clone(&gateway),
            token_hash,
            None,
            Some(admin::by_the_control_set(Arc::clone(gateway.coordinator()))),
        ),
        metrics,
        gateway_ready(&gateway),
    );
    tokio::spawn(listen::serve(admin_listener, routes, all_stops.clone()));

    // The first key before the first request: who sees the endpoint ready can use what was printed.
    let mut signals = signals;
    tokio::select! {
        done = prepare(&data, &gateway, bucket.as_ref()) => done?,
        name = signals.next() => {
            tracing::info!(signal = name, "stopped before the start was through");
            return Ok(ExitCode::SUCCESS);
        }
    }
    let serving = tokio::spawn(Arc::clone(&gateway).serve(s3_listener, serving_stops));
    print_welcome(&endpoint, &data, &key, gateway.config());

    let name = signals.next().await;
    tracing::info!(signal = name, "stopping");
    gateway.begin_drain();
    let finish = async {
        stop_serving.send_replace(true);
        if let Err(error) = serving.await {
            tracing::error!(%error, "serving S3 ended badly");
        }
        stop_all.send_replace(true);
        for node in &nodes {
            node.shutdown().await;
        }
    };
    let code = drain(signals, drain_options, finish).await;
    drop(lock);
    Ok(code)
}

/// Reads what the cluster is made of, or decides it at the first start.
fn made(data: &Path, args: &ServerArgs, environment: &Environment) -> Result<Made, Failure> {
    let path = data.join("server.json");
    if let Some(made) = folder::read_json::<Made>(&path)? {
        let nodes = u16::try_from(made.nodes.len()).unwrap_or(u16::MAX);
        unchanged(data, "--nodes", args.nodes, nodes)?;
        unchanged(data, "--replicas", args.replicas, made.replicas)?;
        unchanged(data, "--partitions", args.partitions, made.partitions)?;
        return Ok(made);
    }
    if ringfort_storage_node::control::authority::Authority::exists(data).map_err(Failure::usage)?
        || data.join("membership.json").exists()
    {
        return Err(Failure::usage(format!(
            "{} belongs to a cluster of separate processes: start it with `ringfort node` or `ringfort gateway`, or \
             choose another --data folder",
            data.display()
        )));
    }
    let (nodes, replicas) = (args.nodes.unwrap_or(3), args.replicas.unwrap_or(3));
    let partitions = args.partitions.unwrap_or(256);
    check_sizes(nodes, replicas, partitions).map_err(Failure::usage)?;
    let draw = |_| NodeId(environment.random_id()).to_string();
    let made = Made {
        cluster: ClusterId(environment.random_id()).to_string(),
        nodes: (0..nodes).map(draw).collect(),
        replicas,
        partitions,
    };
    folder::write_json(&path, &made, Secrecy::Plain)?;
    Ok(made)
}

fn unchanged<T: PartialEq + std::fmt::Display>(
    data: &Path,
    flag: &str,
    wanted: Option<T>,
    made: T,
) -> Result<(), Failure> {
    match wanted {
        Some(wanted) if wanted != made => Err(Failure::usage(format!(
            "{} was made with {flag} {made}, which cannot become {wanted}: leave the flag out, or choose another \
             --data folder",
            data.display()
        ))),
        _ => Ok(()),
    }
}

/// The first access key: from the folder, else from the environment, else drawn. Durable when this returns.
fn first_access_key(data: &Path, environment: &Environment) -> Result<RootKey, Failure> {
    let given = secrets::root_keys(&secrets::environment)?;
    if let Some(kept) = folder::root_key(data)? {
        agree(&kept, given.as_ref())?;
        return Ok(kept);
    }
    let key = match given {
        Some(given) => RootKey {
            access_key: given.access_key,
            secret_key: given.secret_key,
        },
        None => folder::draw_key(environment),
    };
    folder::write_json(&folder::root_key_path(data), &key, Secrecy::Secret)?;
    Ok(key)
}

/// Keys given again must be those of the first start: taking others in silence would lock somebody out, or in.
fn agree(kept: &RootKey, given: Option<&GivenKeys>) -> Result<(), Failure> {
    let Some(given) = given else { return Ok(()) };
    if (&given.access_key, &given.secret_key) == (&kept.access_key, &kept.secret_key) {
        return Ok(());
    }
    if given.is_ours {
        return Err(Failure::usage(format!(
            "RINGFORT_ACCESS_KEY and RINGFORT_SECRET_KEY are not those that this folder was made with ({}): unset \
             them, and make further keys with `ringfort key create`",
            kept.access_key
        )));
    }
    tracing::warn!(
        access_key = %kept.access_key,
        "AWS_ACCESS_KEY_ID in the environment is another key than this folder's first one and is not used"
    );
    Ok(())
}

fn parse_bucket(name: &str) -> Result<BucketName, Failure> {
    BucketName::parse(name).map_err(|_| {
        Failure::usage(format!(
            "--bucket {name}: this is not a name that S3 allows"
        ))
    })
}

async fn open_nodes(
    data: &Path,
    made: &Made,
    cluster: ClusterId,
    args: &ServerArgs,
    environment: &Environment,
    layouts: &LayoutStore,
) -> Result<Vec<Arc<Node>>, Failure> {
    let mut nodes = Vec::new();
    for (index, id) in made.nodes.iter().enumerate() {
        let name = format!("node-{}", index + 1);
        let config = NodeConfig {
            id: NodeId::parse(id).ok_or_else(|| {
                Failure::usage(format!("{}/server.json names no node", data.display()))
            })?,
            disks: vec![data.join(&name).join("disk1")],
            name,
            cluster,
            max_clock_skew_ms: args.max_clock_skew_ms.unwrap_or(500),
            engine: engine_options(args.disk_reserve_mib),
            sweep: crate::node::sweep_pace(args.sweep_interval)?,
            join: args.healing().join_pace()?,
            scrub: crate::node::scrub_pace(args.scrub_interval)?,
            garbage: crate::node::garbage_pace(
                args.gc_interval,
                args.tombstone_age,
                args.orphan_age,
            )?,
        };
        for disk in &config.disks {
            ringfort_storage_node::control::file::create_folder(disk).map_err(Failure::usage)?;
        }
        nodes.push(open_node(config, environment.clone(), layouts).await?);
    }
    Ok(nodes)
}

/// The disks of a folder that `ringfort server` made; none where it is not one.
pub(crate) fn disks_of(data: &Path) -> Result<Vec<PathBuf>, Failure> {
    let made: Option<Made> = folder::read_json(&data.join("server.json"))?;
    let nodes = made.map_or(0, |made| made.nodes.len());
    let disks = (1..=nodes).map(|number| data.join(format!("node-{number}")).join("disk1"));
    Ok(disks.collect())
}

/// Each node's part in the control register, in a folder of its own.
fn open_acceptors(
    data: &Path,
    nodes: &[Arc<Node>],
    args: &ServerArgs,
    environment: &Environment,
    layouts: &Arc<LayoutStore>,
) -> Result<Vec<Arc<ControlAcceptor>>, Failure> {
    let open = |(index, node): (usize, &Arc<Node>)| {
        let acceptor = ControlAcceptor::open(
            &data.join(format!("node-{}", index + 1)),
            node.id(),
            Arc::clone(layouts),
            environment.clone(),
            args.max_clock_skew_ms.unwrap_or(500),
        );
        acceptor.map(Arc::new).map_err(Failure::usage)
    };
    nodes.iter().enumerate().map(open).collect()
}

/// Opens a node off the async threads: recovery reads the log.
pub(crate) async fn open_node(
    config: NodeConfig,
    environment: Environment,
    layouts: &LayoutStore,
) -> Result<Arc<Node>, Failure> {
    let layout = layouts.subscribe();
    tokio::task::spawn_blocking(move || Node::open(config, environment, layout))
        .await
        .map_err(Failure::failed)?
        .map_err(Failure::usage)
}

/// The engine's settings that an operator may choose.
pub(crate) fn engine_options(reserve_mib: Option<u64>) -> EngineOptions {
    let mut options = EngineOptions::default();
    if let Some(mib) = reserve_mib {
        options.reserve_bytes = mib.saturating_mul(1 << 20);
    }
    options
}

fn form_layout(
    layouts: &LayoutStore,
    made: &Made,
    cluster: ClusterId,
    nodes: &[Arc<Node>],
) -> Result<(), Failure> {
    if layouts.current().is_some() {
        return Ok(());
    }
    let spec = |(index, node): (usize, &Arc<Node>)| NodeSpec {
        id: node.id(),
        name: format!("node-{}", index + 1),
        address: "in-process:1".to_owned(),
        zone: String::new(),
        disks: node
            .disks()
            .into_iter()
            .map(|(id, capacity_bytes)| DiskSpec { id, capacity_bytes })
            .collect(),
    };
    let nodes: Vec<NodeSpec> = nodes.iter().enumerate().map(spec).collect();
    let topology = Topology {
        cluster,
        replicas: made.replicas,
        control: Topology::suggest_control(&nodes, usize::from(made.replicas)),
        nodes,
    };
    let layout = first_layout(&topology, made.partitions).map_err(Failure::failed)?;
    layouts.adopt(layout).map_err(Failure::failed)?;
    Ok(())
}

fn make_gateway(
    args: &ServerArgs,
    transport: &Arc<dyn Transport>,
    layouts: &LayoutStore,
    environment: &Environment,
    shutdown_grace: Duration,
) -> Arc<Gateway> {
    let coordinator = Coordinator::new(
        Arc::clone(transport),
        layouts.subscribe(),
        environment.clone(),
        CoordinatorOptions::default(),
    );
    let mut config = GatewayConfig {
        base_domains: args.base_domain.clone(),
        shutdown_grace,
        ..GatewayConfig::default()
    };
    if let Some(region) = &args.region {
        config.region.clone_from(region);
    }
    Gateway::new(Arc::new(coordinator), config)
}

/// A gateway's own word on whether it should get traffic.
pub(crate) fn gateway_ready(gateway: &Arc<Gateway>) -> Ready {
    let gateway = Arc::clone(gateway);
    Arc::new(move || {
        let readiness = gateway.coordinator().readiness();
        let answer = match gateway.is_draining() {
            true => (false, "shutting down".to_owned()),
            false => (readiness.is_ready, readiness.reason),
        };
        Box::pin(std::future::ready(answer))
    })
}

async fn prepare(
    data: &Path,
    gateway: &Gateway,
    bucket: Option<&BucketName>,
) -> Result<(), Failure> {
    first_key::propose(data, gateway.catalog()).await?;
    let Some(name) = bucket else { return Ok(()) };
    for attempt in 1.. {
        match gateway
            .catalog()
            .create_bucket(name, first_key::ROOT_ACCOUNT)
            .await
        {
            Ok(Created::New(_)) => {
                tracing::info!(bucket = name.as_str(), "the bucket was made");
                break;
            }
            Ok(Created::AlreadyYours(_)) => break,
            Ok(Created::Exists) => {
                tracing::warn!(
                    bucket = name.as_str(),
                    "the bucket is there, and belongs to another account"
                );
                break;
            }
            // After a crash the disks refuse new ballots for a moment.
            Err(error) if attempt < 40 => {
                tracing::debug!(%error, "the bucket waits for a quorum");
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            Err(error) => {
                return Err(Failure::failed(format!(
                    "--bucket {}: {error}",
                    name.as_str()
                )));
            }
        }
    }
    Ok(())
}

/// Where the process is reached.
struct Endpoint {
    s3: SocketAddr,
    admin: SocketAddr,
}

impl Endpoint {
    /// The addresses as bound (a port of 0 has become one).
    fn of(
        s3: &tokio::net::TcpListener,
        admin: &tokio::net::TcpListener,
        s3_wanted: SocketAddr,
        admin_wanted: SocketAddr,
    ) -> Self {
        Self {
            s3: s3.local_addr().unwrap_or(s3_wanted),
            admin: admin.local_addr().unwrap_or(admin_wanted),
        }
    }

    /// For a client on this machine: an unspecified address is not one to connect to.
    fn local(address: SocketAddr) -> SocketAddr {
        match address.ip().is_unspecified() {
            true => SocketAddr::from(([127, 0, 0, 1], address.port())),
            false => address,
        }
    }
}

#[allow(
    clippy::print_stdout,
    reason = "what an operator is to copy goes to the standard output"
)]
fn print_welcome(endpoint: &Endpoint, data: &Path, key: &RootKey, config: &GatewayConfig) {
    let s3 = Endpoint::local(endpoint.s3);
    let admin = Endpoint::local(endpoint.admin);
    let RootKey {
        access_key,
        secret_key,
    } = key;
    let region = &config.region;
    let data = data.display();
    anstream::println!(
        "\
Ringfort {release} is ready.

  S3 endpoint   http://{s3}
  access key    {access_key}
  secret key    {secret_key}
  region        {region}
  admin API     http://{admin}   (token in {data}/admin-token)
  data          {data}

Copy for the aws command line:

  export AWS_ACCESS_KEY_ID={access_key}
  export AWS_SECRET_ACCESS_KEY={secret_key}
  export AWS_DEFAULT_REGION={region}
  export AWS_ENDPOINT_URL=http://{s3}
  aws s3 mb s3://my-bucket
  aws s3 cp /etc/hosts s3://my-bucket/hosts
  aws s3 ls s3://my-bucket

Copy for boto3:

  import boto3
  s3 = boto3.client(\"s3\", endpoint_url=\"http://{s3}\", region_name=\"{region}\",
                    aws_access_key_id=\"{access_key}\", aws_secret_access_key=\"{secret_key}\")
  print(s3.list_buckets()[\"Buckets\"])

State of the cluster:  ringfort status --data {data} --admin-endpoint http://{admin}
",
        release = env!("CARGO_PKG_VERSION"),
    );
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    fn args() -> ServerArgs {
        ServerArgs::default()
    }

    #[test]
    fn what_a_cluster_is_made_of_stays_and_a_change_is_a_refusal() {
        let folder = tempfile::tempdir().unwrap();
        let environment = Environment::os();
        let first = made(folder.path(), &args(), &environment).unwrap();
        assert_eq!(
            (first.nodes.len(), first.replicas, first.partitions),
            (3, 3, 256)
        );
        assert_eq!(made(folder.path(), &args(), &environment).unwrap(), first);
        let refusal = |change: &dyn Fn(&mut ServerArgs)| {
            let mut args = args();
            change(&mut args);
            made(folder.path(), &args, &environment)
                .unwrap_err()
                .message
        };
        assert!(refusal(&|a| a.nodes = Some(4)).contains("--nodes 3"));
        assert!(refusal(&|a| a.replicas = Some(1)).contains("--replicas 3"));
        assert!(refusal(&|a| a.partitions = Some(1)).contains("--partitions 256"));
    }

    #[test]
    fn impossible_sizes_leave_the_folder_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let impossible = ServerArgs {
            nodes: Some(1),
            ..args()
        };
        assert!(made(folder.path(), &impossible, &Environment::os()).is_err());
        assert!(made(folder.path(), &args(), &Environment::os()).is_ok());
    }

    #[test]
    fn other_keys_than_the_kept_ones_are_refused_where_they_were_meant_for_us() {
        let kept = RootKey {
            access_key: "one".to_owned(),
            secret_key: "secretone".to_owned(),
        };
        let given = |access: &str, is_ours| GivenKeys {
            access_key: access.to_owned(),
            secret_key: "secretone".to_owned(),
            is_ours,
        };
        assert!(agree(&kept, None).is_ok());
        assert!(agree(&kept, Some(&given("one", true))).is_ok());
        assert!(agree(&kept, Some(&given("two", false))).is_ok());
        let refusal = agree(&kept, Some(&given("two", true))).unwrap_err();
        assert!(refusal.message.contains("ringfort key create"));
        assert!(!refusal.message.contains("secretone"));
    }
}
