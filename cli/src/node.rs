//! `ringfort node`: a storage node as a process of its own.
//!
//! It answers members over mTLS. On its admin listener it also answers for the whole cluster, as a gateway does, and
//! the bootstrap node's brings the first access key to the catalog.

use crate::cluster;
use crate::drain::{DrainOptions, Signals, drain};
use crate::failure::Failure;
use crate::first_key;
use crate::folder;
use crate::healing::Given;
use crate::listen::{self, Ready};
use crate::member::{self, Membership};
use crate::metrics::{self, Metrics};
use crate::rebuild;
use crate::server::{engine_options, open_node};
use crate::settings::{self, Span};
use clap::{Args, Subcommand};
use ringfort_admin::message::TokenRole;
use ringfort_gateway::admin::{self, IssueToken};
use ringfort_gateway::config::GatewayConfig;
use ringfort_gateway::coordinator::{Coordinator, CoordinatorOptions};
use ringfort_gateway::server::Gateway;
use ringfort_ring::id::NodeId;
use ringfort_ring::layout::{Layout, Member, Members};
use ringfort_storage_node::control::acceptor::ControlAcceptor;
use ringfort_storage_node::control::announce::announce_disks;
use ringfort_storage_node::control::authority::Authority;
use ringfort_storage_node::control::change::apply_changes;
use ringfort_storage_node::control::conductor::Conductor;
use ringfort_storage_node::control::entries::FoundDisks;
use ringfort_storage_node::control::file::{self, Secrecy};
use ringfort_storage_node::control::layout_store::LayoutStore;
use ringfort_storage_node::control::plane::{ControlOptions, ControlPlane};
use ringfort_storage_node::control::service::{ControlDoor, ControlService};
use ringfort_storage_node::node::{Node, NodeConfig};
use ringfort_storage_node::repair::{GarbagePace, ScrubPace, SweepPace};
use ringfort_wire::client::{ClientOptions, TcpTransport};
use ringfort_wire::environment::Environment;
use ringfort_wire::hello::CurrentEra;
use ringfort_wire::id::Payload;
use ringfort_wire::join::Applicant;
use ringfort_wire::local::{LocalTransport, SwitchTransport};
use ringfort_wire::message::{PingRequest, Request, Response, Role};
use ringfort_wire::server::{ServerOptions, serve};
use ringfort_wire::transport::{Peer, Service, Transport};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How a storage node is run. Every flag is also a variable, and a key of the settings file; what the first start
/// says is remembered in the folder.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct NodeArgs {
    /// A TOML file with the settings below (flags and variables come first)
    #[arg(long, env = "RINGFORT_CONFIG")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// The folder that holds everything
    #[arg(long, env = "RINGFORT_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Where other processes of the cluster are answered [default: 127.0.0.1:9010]
    #[arg(long, env = "RINGFORT_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where the admin API, /metrics and /health are served [default: 127.0.0.1:9011]
    #[arg(long, env = "RINGFORT_ADMIN_LISTEN")]
    pub(crate) admin_listen: Option<SocketAddr>,
    /// The node's name; fixed by the join [default: node- and 8 digits of its id]
    #[arg(long, env = "RINGFORT_NAME")]
    pub(crate) name: Option<String>,
    /// The failure domain: replicas go to distinct zones where there are enough; fixed by the join
    #[arg(long, env = "RINGFORT_ZONE")]
    pub(crate) zone: Option<String>,
    /// Where others reach --listen, HOST:PORT; fixed by the join [default: --listen]
    #[arg(long, env = "RINGFORT_ADVERTISE")]
    pub(crate) advertise: Option<String>,
    /// A disk's folder (repeatable); later starts may name more [default: disk1 in --data]
    #[arg(long, env = "RINGFORT_DISK", value_delimiter = ',')]
    pub(crate) disk: Vec<PathBuf>,
    /// A one-time token, to join a cluster
    #[arg(long, env = "RINGFORT_JOIN", hide_env_values = true)]
    pub(crate) join: Option<String>,
    /// A file that holds the token
    #[arg(long, env = "RINGFORT_JOIN_FILE")]
    pub(crate) join_file: Option<PathBuf>,
    /// Free space that each disk keeps, in MiB [default: 1024]
    #[arg(long, env = "RINGFORT_DISK_RESERVE_MIB")]
    pub(crate) disk_reserve_mib: Option<u64>,
    /// How far clocks may differ, in milliseconds [default: 500]
    #[arg(long, env = "RINGFORT_MAX_CLOCK_SKEW_MS")]
    pub(crate) max_clock_skew_ms: Option<u64>,
    /// Between two comparisons with the other replicas [default: 60s]
    #[arg(long, env = "RINGFORT_SWEEP_INTERVAL")]
    pub(crate) sweep_interval: Option<Span>,
    /// From one reading of everything on a disk to the next [default: 14d]
    #[arg(long, env = "RINGFORT_SCRUB_INTERVAL")]
    pub(crate) scrub_interval: Option<Span>,
    /// Between two collections of garbage [default: 10m]
    #[arg(long, env = "RINGFORT_GC_INTERVAL")]
    pub(crate) gc_interval: Option<Span>,
    /// How long a deleted key's row is kept; the same on every node [default: 24h]
    #[arg(long, env = "RINGFORT_TOMBSTONE_AGE")]
    pub(crate) tombstone_age: Option<Span>,
    /// How old a write that never came to its end must be for its chunks to go, and longer than any body takes to
    /// arrive; the same on every node [default: 24h]
    #[arg(long, env = "RINGFORT_ORPHAN_AGE")]
    pub(crate) orphan_age: Option<Span>,
    /// Silence after which a node is down [default: 20s]
    #[arg(long, env = "RINGFORT_DOWN_AFTER")]
    pub(crate) down_after: Option<Span>,
    /// How long a node is down before its partitions go to others [default: 10m]
    #[arg(long, env = "RINGFORT_OUT_AFTER")]
    pub(crate) out_after: Option<Span>,
    /// How long a node is heard again before it counts as back [default: 30s]
    #[arg(long, env = "RINGFORT_BACK_AFTER")]
    pub(crate) back_after: Option<Span>,
    /// Partitions that move at a time [default: 512]
    #[arg(long, env = "RINGFORT_MOVES_AT_ONCE")]
    pub(crate) moves_at_once: Option<u16>,
    /// MiB a second that a node copies to restore lost replicas [default: 256]
    #[arg(long, env = "RINGFORT_REPAIR_RATE_MIB")]
    pub(crate) repair_rate_mib: Option<u64>,
    /// MiB a second that a node copies only to balance [default: 64]
    #[arg(long, env = "RINGFORT_BALANCE_RATE_MIB")]
    pub(crate) balance_rate_mib: Option<u64>,
    /// After SIGTERM, how long requests are still taken while /health/ready says 503 [default: 0s]
    #[arg(long, env = "RINGFORT_DRAIN_DELAY")]
    pub(crate) drain_delay: Option<Span>,
    /// How long requests under way may then go on [default: 30s]
    #[arg(long, env = "RINGFORT_DRAIN_TIMEOUT")]
    pub(crate) drain_timeout: Option<Span>,
}

/// A storage node, or something done to its folder while it does not run.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct NodeCommand {
    #[command(subcommand)]
    offline: Option<Offline>,
    #[command(flatten)]
    args: NodeArgs,
}

/// What is done to the folder of a node that does not run.
#[derive(Subcommand)]
enum Offline {
    /// Build the index of every disk anew, from its segments alone
    RebuildIndex(rebuild::RebuildArgs),
}

/// Runs the command.
pub(crate) async fn run_command(command: NodeCommand) -> Result<ExitCode, Failure> {
    match command.offline {
        None => run(command.args).await,
        Some(Offline::RebuildIndex(args)) => rebuild::run(args).await,
    }
}

impl NodeArgs {
    /// The settings of self-healing.
    pub(crate) fn healing(&self) -> Given {
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

/// Settings with their defaults filled in.
#[derive(Clone, Debug)]
pub(crate) struct NodeSettings {
    /// The folder.
    pub(crate) data: PathBuf,
    /// Internode listener.
    pub(crate) listen: SocketAddr,
    /// Admin listener.
    pub(crate) admin_listen: SocketAddr,
    /// Name.
    pub(crate) name: String,
    /// Failure domain.
    pub(crate) zone: String,
    /// Where others reach the node.
    pub(crate) advertise: String,
    /// Disks.
    pub(crate) disks: Vec<PathBuf>,
}

/// The folder's remembered settings.
pub(crate) fn remembered_path(data: &Path) -> PathBuf {
    data.join("settings.json")
}

/// The folder named, wherever it is named.
pub(crate) fn data_folder(data: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    data.cloned()
        .ok_or_else(|| Failure::usage("no data folder: give --data FOLDER (or RINGFORT_DATA)"))
}

impl NodeSettings {
    /// Fills in defaults.
    pub(crate) fn new(args: &NodeArgs, data: &Path, id: NodeId) -> Result<Self, Failure> {
        let listen = args
            .listen
            .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9010)));
        let advertise = match &args.advertise {
            Some(advertise) => advertise.clone(),
            None if listen.ip().is_unspecified() || listen.port() == 0 => {
                return Err(Failure::usage(format!(
                    "others cannot reach this node at {listen}: give --advertise HOST:PORT"
                )));
            }
            None => listen.to_string(),
        };
        let disks = match args.disk.is_empty() {
            true => vec![data.join("disk1")],
            false => args.disk.clone(),
        };
        Ok(Self {
            data: data.to_owned(),
            listen,
            admin_listen: args
                .admin_listen
                .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9011))),
            name: args
                .name
                .clone()
                .unwrap_or_else(|| format!("node-{}", &id.to_string()[..8])),
            zone: args.zone.clone().unwrap_or_default(),
            advertise,
            disks,
        })
    }

    /// Keeps what a later start must do alike.
    pub(crate) fn remember(&self) -> Result<(), Failure> {
        let kept = NodeArgs {
            listen: Some(self.listen),
            admin_listen: Some(self.admin_listen),
            name: Some(self.name.clone()),
            zone: Some(self.zone.clone()),
            advertise: Some(self.advertise.clone()),
            disk: self.disks.clone(),
            ..NodeArgs::default()
        };
        folder::write_json(&remembered_path(&self.data), &kept, Secrecy::Plain)
    }
}

/// A member's name, zone and address are in the layout: saying something else now would have no effect. Its disks may
/// become more; leaving one out would look like losing it.
fn check_unchanged(said: &NodeArgs, kept: &NodeArgs) -> Result<(), Failure> {
    let fixed = |flag: &str, said: Option<String>, kept: Option<String>| match (said, kept) {
        (Some(said), Some(kept)) if said != kept => Err(Failure::usage(format!(
            "this node joined with {flag} {kept}, which cannot become {said}: leave the flag out"
        ))),
        _ => Ok(()),
    };
    let left_out = kept.disk.iter().find(|disk| !said.disk.contains(disk));
    if let Some(disk) = left_out.filter(|_| !said.disk.is_empty()) {
        return Err(Failure::usage(format!(
            "this node has --disk {}, which is not named now: name it too, beside any further ones, or leave the flag out",
            disk.display()
        )));
    }
    fixed("--name", said.name.clone(), kept.name.clone())?;
    fixed("--zone", said.zone.clone(), kept.zone.clone())?;
    fixed(
        "--advertise",
        said.advertise.clone(),
        kept.advertise.clone(),
    )?;
    let (was, is) = (
        kept.listen.map(|a| a.to_string()),
        said.listen.map(|a| a.to_string()),
    );
    if was.is_some() && was == kept.advertise && said.advertise.is_none() {
        fixed("--listen", is, was)?;
    }
    Ok(())
}

/// Keeps further disks for later starts, once they are open.
fn remember_disks(data: &Path, disks: &[PathBuf]) -> Result<(), Failure> {
    let path = remembered_path(data);
    let Some(mut kept) = folder::read_json::<NodeArgs>(&path)? else {
        return Ok(());
    };
    if kept.disk == disks {
        return Ok(());
    }
    kept.disk = disks.to_vec();
    folder::write_json(&path, &kept, Secrecy::Plain)
}

/// Flags, then file, then memory.
fn layers(flags: NodeArgs) -> Result<(NodeArgs, PathBuf), Failure> {
    let said = match &flags.config {
        Some(path) => settings::layered(&[&flags, &settings::read_file(path)?])?,
        None => flags,
    };
    let data = data_folder(said.data.as_ref())?;
    // Before anything of the folder is read: the settings of another role would look like damage.
    member::load(&data, Role::Node)?;
    let args = match folder::read_json::<NodeArgs>(&remembered_path(&data))? {
        Some(kept) => {
            check_unchanged(&said, &kept)?;
            let mut args = settings::layered(&[&said, &kept])?;
            // Those that it had come first.
            args.disk = kept.disk.clone();
            for disk in said.disk.iter().filter(|disk| !kept.disk.contains(disk)) {
                tracing::info!(disk = %disk.display(), "this node gets one more disk folder");
                args.disk.push(disk.clone());
            }
            args
        }
        None => said,
    };
    Ok((args, data))
}

/// Runs until a signal.
async fn run(flags: NodeArgs) -> Result<ExitCode, Failure> {
    let (args, data) = layers(flags)?;
    args.healing().conductor()?;
    let mut signals = Signals::install()?;
    let environment = Environment::os();
    // A crash in the middle of `cluster init` may have left the first node without its certificate.
    if member::load(&data, Role::Node)?.is_none()
        && Authority::exists(&data).map_err(Failure::usage)?
    {
        let id = member::own_id(&data, &environment)?;
        let settings = NodeSettings::new(&args, &data, id)?;
        let token = folder::admin_token(&data, &environment)?;
        cluster::become_member(&data, id, &settings, admin::hash_token(&token))?;
    }
    let membership = member::load(&data, Role::Node)?;
    let token = member::token(args.join.as_deref(), args.join_file.as_deref())?;
    let cluster = member::cluster(&data, membership.as_ref(), token.as_ref())?;
    let lock = folder::open(&data)?;
    let id = member::own_id(&data, &environment)?;
    let settings = NodeSettings::new(&args, &data, id)?;
    let listener = listen::bind("--listen", settings.listen).await?;
    let admin_listener = listen::bind("--admin-listen", settings.admin_listen).await?;
    let recorder = metrics::install()?;

    let layouts = Arc::new(LayoutStore::open(&data, cluster).map_err(Failure::usage)?);
    let max_clock_skew_ms = args.max_clock_skew_ms.unwrap_or(500);
    let acceptor = ControlAcceptor::open(
        &data,
        id,
        Arc::clone(&layouts),
        environment.clone(),
        max_clock_skew_ms,
    );
    let acceptor = Arc::new(acceptor.map_err(Failure::usage)?);
    for disk in &settings.disks {
        file::create_folder(disk).map_err(Failure::usage)?;
    }
    let config = NodeConfig {
        id,
        name: settings.name.clone(),
        cluster,
        disks: settings.disks.clone(),
        max_clock_skew_ms,
        engine: engine_options(args.disk_reserve_mib),
        sweep: sweep_pace(args.sweep_interval)?,
        join: args.healing().join_pace()?,
        scrub: scrub_pace(args.scrub_interval)?,
        garbage: garbage_pace(args.gc_interval, args.tombstone_age, args.orphan_age)?,
    };
    let node = open_node(config, environment.clone(), &layouts).await?;
    remember_disks(&data, &settings.disks)?;
    let membership = match (membership, token) {
        (Some(membership), _) => membership,
        (None, Some(token)) => {
            let applicant = Applicant {
                role: Role::Node,
                id,
                name: settings.name.clone(),
                address: settings.advertise.clone(),
                zone: settings.zone.clone(),
                disks: node.disks(),
            };
            let joining = member::join_cluster(&data, &token, &applicant, &mut signals, || {
                settings.remember()
            });
            match joining.await? {
                Some(membership) => membership,
                None => return Ok(ExitCode::SUCCESS),
            }
        }
        (None, None) => return Err(Failure::usage("no join token")),
    };
    let authority = open_authority(&data, &layouts, &node, &environment)?;
    let code = Box::pin(serve_until_told(Running {
        args,
        settings,
        membership,
        environment,
        layouts,
        acceptor,
        node,
        authority,
        listener,
        admin_listener,
        recorder,
        signals,
    }))
    .await;
    drop(lock);
    code
}

/// What a node found in its folders.
pub(crate) fn found_disks(node: &Node) -> FoundDisks {
    FoundDisks {
        open: node.disks(),
        failed: node.failed_folders(),
    }
}

/// How replicas are compared, from settings.
pub(crate) fn sweep_pace(interval: Option<Span>) -> Result<SweepPace, Failure> {
    let default = SweepPace::default();
    let every = interval.map_or(default.every, |span| span.0);
    if every < Duration::from_secs(1) {
        return Err(Failure::usage("--sweep-interval must be 1s or more"));
    }
    Ok(SweepPace { every, ..default })
}

/// How disks are read back, from settings.
pub(crate) fn scrub_pace(interval: Option<Span>) -> Result<ScrubPace, Failure> {
    let default = ScrubPace::default();
    let every = interval.map_or(default.every, |span| span.0);
    if every < Duration::from_secs(60) {
        return Err(Failure::usage(
            "--scrub-interval must be 60s or more; `ringfort scrub` reads everything at once",
        ));
    }
    Ok(ScrubPace { every, ..default })
}

/// How garbage is collected, from settings.
pub(crate) fn garbage_pace(
    interval: Option<Span>,
    tombstone_age: Option<Span>,
    orphan_age: Option<Span>,
) -> Result<GarbagePace, Failure> {
    let default = GarbagePace::default();
    let span = |name: &str, given: Option<Span>, default: Duration| {
        let span = given.map_or(default, |span| span.0);
        if span < Duration::from_secs(1) {
            return Err(Failure::usage(format!("{name} must be 1s or more")));
        }
        Ok(span)
    };
    Ok(GarbagePace {
        every: span("--gc-interval", interval, default.every)?,
        tombstone_age: span("--tombstone-age", tombstone_age, default.tombstone_age)?,
        orphan_age: span("--orphan-age", orphan_age, default.orphan_age)?,
        ..default
    })
}

fn open_authority(
    data: &Path,
    layouts: &Arc<LayoutStore>,
    node: &Node,
    environment: &Environment,
) -> Result<Option<Arc<Authority>>, Failure> {
    let authority = Authority::open(data, Arc::clone(layouts), environment.clone())
        .map_err(Failure::usage)?
        .map(Arc::new);
    if let Some(authority) = &authority {
        authority
            .admit_self(&node.disks())
            .map_err(Failure::usage)?;
        let (joined, expected) = authority.progress();
        tracing::info!(joined, expected, "this node admits members");
    }
    Ok(authority)
}

struct Running {
    args: NodeArgs,
    settings: NodeSettings,
    membership: Membership,
    environment: Environment,
    layouts: Arc<LayoutStore>,
    acceptor: Arc<ControlAcceptor>,
    node: Arc<Node>,
    authority: Option<Arc<Authority>>,
    listener: tokio::net::TcpListener,
    admin_listener: tokio::net::TcpListener,
    recorder: metrics_exporter_prometheus::PrometheusHandle,
    signals: Signals,
}

async fn serve_until_told(running: Running) -> Result<ExitCode, Failure> {
    let Running {
        args,
        settings,
        membership,
        environment,
        layouts,
        acceptor,
        node,
        authority,
        listener,
        admin_listener,
        recorder,
        mut signals,
    } = running;
    let data = &settings.data;
    let identity = member::identity(data)?;
    let era = Arc::new(CurrentEra::new(
        layouts
            .current()
            .map(|layout| layout.era)
            .unwrap_or_default(),
    ));
    let remote = TcpTransport::new(
        &identity,
        Arc::clone(&era),
        ClientOptions::default(),
        environment.clone(),
    )
    .map_err(Failure::usage)?;
    let local = LocalTransport::new();
    let transport: Arc<dyn Transport> = SwitchTransport::new(
        Arc::clone(&local),
        Arc::clone(&remote) as Arc<dyn Transport>,
    );
    let met = Arc::clone(&remote);
    let plane = ControlPlane::new(
        Arc::clone(&layouts),
        vec![Arc::clone(&acceptor)],
        Arc::clone(&transport),
        Arc::new(move |node, address| met.set_address(node, address)),
        environment.clone(),
        ControlOptions::default(),
    );
    let door = ControlDoor {
        acceptor,
        layouts: Arc::clone(&layouts),
        plane: plane.clone(),
        changer: apply_changes(plane.clone()),
    };
    let service = ControlService::new(Arc::clone(&node), authority.clone()).with_control(door);
    let service: Arc<dyn Service> = Arc::new(service);
    local.insert(node.id(), Arc::clone(&service));

    let (stop_serving, serving_stops) = watch::channel(false);
    let (stop_all, all_stops) = watch::channel(false);
    tokio::spawn(member::follow_addresses(
        Arc::clone(&remote),
        Arc::clone(&layouts),
    ));
    let coordinator = Arc::new(Coordinator::new(
        Arc::clone(&transport),
        layouts.subscribe(),
        environment.clone(),
        CoordinatorOptions::default(),
    ));
    tokio::spawn(member::follow(
        remote,
        Arc::clone(&layouts),
        membership.seeds.clone(),
        Some(settings.advertise.clone()),
        coordinator.layout_wanted(),
        all_stops.clone(),
    ));
    tokio::spawn(plane.clone().run(all_stops.clone()));
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
        plane,
        Arc::clone(&layouts),
        node.id(),
        found_disks(&node),
        all_stops.clone(),
    ));
    {
        let (node, transport, coordinator, stops) = (
            Arc::clone(&node),
            Arc::clone(&transport),
            Arc::clone(&coordinator),
            all_stops.clone(),
        );
        tokio::spawn(async move { node.run(transport, coordinator, stops).await });
    }
    let drain_options = DrainOptions::new(args.drain_delay, args.drain_timeout);
    let options = ServerOptions {
        drain_max: drain_options.timeout,
        ..ServerOptions::default()
    };
    let serving = tokio::spawn(async move {
        serve(listener, &identity, service, era, options, serving_stops).await
    });

    // It serves no S3 here: it answers the admin API for the whole cluster.
    let gateway = Gateway::new(coordinator, GatewayConfig::default());
    gateway.start_background(&all_stops);
    let metrics = Metrics::new(recorder, vec![Arc::clone(&node)]);
    tokio::spawn(metrics.clone().keep_up());
    let issue = authority.map(issue_token);
    let routes = listen::routes(
        admin::router(
            Arc::clone(&gateway),
            membership.admin_token_hash()?,
            issue,
            Some(admin::by_the_control_set(Arc::clone(gateway.coordinator()))),
        ),
        metrics,
        node_ready(&node, &gateway, data),
    );
    tokio::spawn(listen::serve(admin_listener, routes, all_stops));
    {
        let (data, gateway) = (data.clone(), Arc::clone(&gateway));
        tokio::spawn(async move {
            if let Err(failure) = first_key::propose(&data, gateway.catalog()).await {
                tracing::error!(%failure, "the first access key is not in the catalog");
            }
        });
    }
    tracing::info!(name = %settings.name, listen = %settings.listen, admin = %settings.admin_listen, "a storage node runs");

    let name = signals.next().await;
    tracing::info!(signal = name, "stopping");
    gateway.begin_drain();
    let finish = async {
        stop_serving.send_replace(true);
        match serving.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "serving ended badly"),
            Err(error) => tracing::error!(%error, "serving ended badly"),
        }
        stop_all.send_replace(true);
        node.shutdown().await;
    };
    Ok(drain(signals, drain_options, finish).await)
}

fn issue_token(authority: Arc<Authority>) -> IssueToken {
    Arc::new(move |role| {
        let role = match role {
            TokenRole::Node => Role::Node,
            TokenRole::Gateway => Role::Gateway,
        };
        authority
            .issue_token(role)
            .map(|token| token.to_string())
            .map_err(|error| error.to_string())
    })
}

fn holds_partitions(layout: &Layout, node: NodeId) -> bool {
    let is_own = |member: &Member| {
        let disk = layout.disks.get(usize::from(member.disk));
        let of = disk.and_then(|disk| layout.nodes.get(usize::from(disk.node)));
        of.is_some_and(|of| of.id == node)
    };
    layout.rows.iter().any(|row| match &row.members {
        Members::Stable(members) => members.iter().any(is_own),
        Members::Joint { old, new } => old.iter().chain(new).any(is_own),
    })
}

/// A node is ready when it has the layout, a disk serves (where it holds partitions), and none waits for its horizon;
/// the bootstrap node also waits until the first access key is in the catalog.
fn node_ready(node: &Arc<Node>, gateway: &Arc<Gateway>, data: &Path) -> Ready {
    let (node, gateway, data) = (Arc::clone(node), Arc::clone(gateway), data.to_owned());
    Arc::new(move || {
        let (node, gateway, data) = (Arc::clone(&node), Arc::clone(&gateway), data.clone());
        Box::pin(async move {
            if gateway.is_draining() {
                return (false, "shutting down".to_owned());
            }
            let asked = node.handle(
                Peer::Member(node.id()),
                Request::Ping(PingRequest {}),
                Payload::new(),
            );
            let ping = match asked.await {
                Ok((Response::Ping(ping), _)) => ping,
                Ok(_) => return (false, "the node does not answer as it should".to_owned()),
                Err(error) => return (false, error.to_string()),
            };
            if ping.layout_version == 0 {
                return (
                    false,
                    "there is no layout yet: not all nodes have joined".to_owned(),
                );
            }
            let layout = gateway.coordinator().layout();
            let holds_some = layout.is_none_or(|layout| holds_partitions(&layout, node.id()));
            if ping.serving.is_empty() && holds_some {
                return (false, "no disk takes writes".to_owned());
            }
            if ping.horizon_wait_ms > 0 {
                return (
                    false,
                    format!(
                        "new ballots are refused for another {} ms",
                        ping.horizon_wait_ms
                    ),
                );
            }
            match first_key::is_owed(&data) {
                Ok(false) => (true, "ready".to_owned()),
                Ok(true) => (false, "the first access key waits for a quorum".to_owned()),
                Err(failure) => (false, failure.message),
            }
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    fn id() -> NodeId {
        NodeId::from_u128(0x1234_5678 << 96)
    }

    #[test]
    fn a_node_must_be_reachable_for_others() {
        let data = Path::new("/d");
        let of = |listen: &str, advertise: Option<&str>| {
            let args = NodeArgs {
                listen: Some(listen.parse().unwrap()),
                advertise: advertise.map(str::to_owned),
                ..NodeArgs::default()
            };
            NodeSettings::new(&args, data, id())
        };
        assert!(
            of("0.0.0.0:9010", None)
                .unwrap_err()
                .message
                .contains("--advertise")
        );
        assert_eq!(
            of("0.0.0.0:9010", Some("n1:9010")).unwrap().advertise,
            "n1:9010"
        );
        let plain = of("127.0.0.1:9010", None).unwrap();
        assert_eq!(
            (plain.advertise.as_str(), plain.name.as_str()),
            ("127.0.0.1:9010", "node-12345678")
        );
        assert_eq!(plain.disks, [PathBuf::from("/d/disk1")]);
    }

    #[test]
    fn what_the_join_fixed_is_remembered_and_cannot_change() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let first = NodeArgs {
            data: Some(data.to_owned()),
            listen: Some("127.0.0.1:7001".parse().unwrap()),
            name: Some("n1".to_owned()),
            ..NodeArgs::default()
        };
        NodeSettings::new(&first, data, id())
            .unwrap()
            .remember()
            .unwrap();
        let bare = NodeArgs {
            data: Some(data.to_owned()),
            ..NodeArgs::default()
        };
        let (args, _) = layers(bare.clone()).unwrap();
        assert_eq!(args.name.as_deref(), Some("n1"));
        assert_eq!(args.listen, first.listen);
        assert!(layers(first.clone()).is_ok());
        let refusal = |change: &dyn Fn(&mut NodeArgs)| {
            let mut args = bare.clone();
            change(&mut args);
            layers(args).unwrap_err().message
        };
        assert!(refusal(&|a| a.name = Some("n2".into())).contains("--name n1"));
        assert!(refusal(&|a| a.zone = Some("z".into())).contains("--zone"));
        assert!(refusal(&|a| a.disk = vec!["/x".into()]).contains("--disk"));
        // One more disk is taken and, once it is open, remembered.
        let more = NodeArgs {
            disk: vec!["/x".into(), data.join("disk1")],
            ..bare.clone()
        };
        let (args, _) = layers(more).unwrap();
        assert_eq!(args.disk, [data.join("disk1"), "/x".into()]);
        remember_disks(data, &args.disk).unwrap();
        assert_eq!(layers(bare.clone()).unwrap().0.disk, args.disk);
        assert!(
            refusal(&|a| a.listen = Some("127.0.0.1:7002".parse().unwrap())).contains("--listen")
        );
    }

    #[test]
    fn a_folder_of_another_role_is_named_as_such_and_not_called_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let cluster = ringfort_ring::id::ClusterId::from_u128(1);
        Membership::new(cluster, Role::Gateway, Vec::new(), [0; 32])
            .save(data)
            .unwrap();
        let kept = serde_json::json!({ "region": "a gateway's setting" });
        folder::write_json(&remembered_path(data), &kept, Secrecy::Plain).unwrap();
        let args = NodeArgs {
            data: Some(data.to_owned()),
            ..NodeArgs::default()
        };
        let refusal = layers(args).unwrap_err().message;
        assert!(refusal.contains("`ringfort gateway`"), "{refusal}");
    }
}
