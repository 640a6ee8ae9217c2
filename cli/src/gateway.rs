//! `ringfort gateway`: an S3 gateway as a process of its own. It keeps no data but its certificate and the layout;
//! there may be any number of them.

use crate::drain::{DrainOptions, Signals, drain};
use crate::failure::Failure;
use crate::folder;
use crate::listen;
use crate::member;
use crate::metrics::{self, Metrics};
use crate::node::data_folder;
use crate::server::gateway_ready;
use crate::settings::{self, Span};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use ringfort_gateway::admin;
use ringfort_gateway::config::GatewayConfig;
use ringfort_gateway::coordinator::{Coordinator, CoordinatorOptions};
use ringfort_gateway::server::Gateway;
use ringfort_storage_node::control::file::Secrecy;
use ringfort_storage_node::control::layout_store::LayoutStore;
use ringfort_wire::client::{ClientOptions, TcpTransport};
use ringfort_wire::environment::Environment;
use ringfort_wire::hello::CurrentEra;
use ringfort_wire::join::Applicant;
use ringfort_wire::message::Role;
use ringfort_wire::transport::Transport;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::sync::watch;

/// How a gateway is run. Every flag is also a variable, and a key of the settings file; where it listens is
/// remembered in the folder.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct GatewayArgs {
    /// A TOML file with the settings below (flags and variables come first)
    #[arg(long, env = "RINGFORT_CONFIG")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// The folder that holds the certificate and the layout
    #[arg(long, env = "RINGFORT_DATA")]
    data: Option<PathBuf>,
    /// Where S3 is served [default: 127.0.0.1:9000]
    #[arg(long, env = "RINGFORT_LISTEN")]
    listen: Option<SocketAddr>,
    /// Where the admin API, /metrics and /health are served [default: 127.0.0.1:9001]
    #[arg(long, env = "RINGFORT_ADMIN_LISTEN")]
    admin_listen: Option<SocketAddr>,
    /// The gateway's name, for people [default: gateway- and 8 digits of its id]
    #[arg(long, env = "RINGFORT_NAME")]
    name: Option<String>,
    /// The region that signatures name [default: us-east-1]
    #[arg(long, env = "RINGFORT_REGION", value_parser = NonEmptyStringValueParser::new())]
    region: Option<String>,
    /// A domain under which `<bucket>.<domain>` names a bucket (repeatable)
    #[arg(long, env = "RINGFORT_BASE_DOMAIN", value_delimiter = ',')]
    base_domain: Vec<String>,
    /// A one-time token, to join a cluster
    #[arg(long, env = "RINGFORT_JOIN", hide_env_values = true)]
    join: Option<String>,
    /// A file that holds the token
    #[arg(long, env = "RINGFORT_JOIN_FILE")]
    join_file: Option<PathBuf>,
    /// After SIGTERM, how long requests are still taken while /health/ready says 503 [default: 0s]
    #[arg(long, env = "RINGFORT_DRAIN_DELAY")]
    drain_delay: Option<Span>,
    /// How long requests under way may then go on [default: 30s]
    #[arg(long, env = "RINGFORT_DRAIN_TIMEOUT")]
    drain_timeout: Option<Span>,
}

fn remembered_path(data: &Path) -> PathBuf {
    data.join("settings.json")
}

fn layers(flags: GatewayArgs) -> Result<(GatewayArgs, PathBuf), Failure> {
    let said = match &flags.config {
        Some(path) => settings::layered(&[&flags, &settings::read_file(path)?])?,
        None => flags,
    };
    let data = data_folder(said.data.as_ref())?;
    // Before anything of the folder is read: the settings of another role would look like damage.
    member::load(&data, Role::Gateway)?;
    let args = match folder::read_json::<GatewayArgs>(&remembered_path(&data))? {
        Some(kept) => settings::layered(&[&said, &kept])?,
        None => said,
    };
    Ok((args, data))
}

/// Runs until a signal.
pub(crate) async fn run(flags: GatewayArgs) -> Result<ExitCode, Failure> {
    let (args, data) = layers(flags)?;
    let mut signals = Signals::install()?;
    let environment = Environment::os();
    let membership = member::load(&data, Role::Gateway)?;
    let token = member::token(args.join.as_deref(), args.join_file.as_deref())?;
    let cluster = member::cluster(&data, membership.as_ref(), token.as_ref())?;
    let lock = folder::open(&data)?;
    let id = member::own_id(&data, &environment)?;
    let listen_at = args
        .listen
        .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9000)));
    let admin_at = args
        .admin_listen
        .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9001)));
    let listener = listen::bind("--listen", listen_at).await?;
    let admin_listener = listen::bind("--admin-listen", admin_at).await?;
    let recorder = metrics::install()?;

    let membership = match (membership, token) {
        (Some(membership), _) => membership,
        (None, Some(token)) => {
            let name = args.name.clone();
            let applicant = Applicant {
                role: Role::Gateway,
                id,
                name: name.unwrap_or_else(|| format!("gateway-{}", &id.to_string()[..8])),
                address: String::new(),
                zone: String::new(),
                disks: Vec::new(),
            };
            let remember = || {
                let kept = GatewayArgs {
                    listen: Some(listen_at),
                    admin_listen: Some(admin_at),
                    name: Some(applicant.name.clone()),
                    region: args.region.clone(),
                    base_domain: args.base_domain.clone(),
                    ..GatewayArgs::default()
                };
                folder::write_json(&remembered_path(&data), &kept, Secrecy::Plain)
            };
            let joining = member::join_cluster(&data, &token, &applicant, &mut signals, remember);
            match joining.await? {
                Some(membership) => membership,
                None => return Ok(ExitCode::SUCCESS),
            }
        }
        (None, None) => return Err(Failure::usage("no join token")),
    };

    let layouts = Arc::new(LayoutStore::open(&data, cluster).map_err(Failure::usage)?);
    let identity = member::identity(&data)?;
    let era = CurrentEra::new(
        layouts
            .current()
            .map(|layout| layout.era)
            .unwrap_or_default(),
    );
    let remote = TcpTransport::new(
        &identity,
        Arc::new(era),
        ClientOptions::default(),
        environment.clone(),
    )
    .map_err(Failure::usage)?;
    let (stop_serving, serving_stops) = watch::channel(false);
    let (stop_all, all_stops) = watch::channel(false);
    tokio::spawn(member::follow_addresses(
        Arc::clone(&remote),
        Arc::clone(&layouts),
    ));
    let coordinator = Coordinator::new(
        Arc::clone(&remote) as Arc<dyn Transport>,
        layouts.subscribe(),
        environment,
        CoordinatorOptions::default(),
    );
    tokio::spawn(member::follow(
        remote,
        Arc::clone(&layouts),
        membership.seeds.clone(),
        None,
        coordinator.layout_wanted(),
        all_stops.clone(),
    ));
    let drain_options = DrainOptions::new(args.drain_delay, args.drain_timeout);
    let mut config = GatewayConfig {
        base_domains: args.base_domain.clone(),
        shutdown_grace: drain_options.timeout,
        ..GatewayConfig::default()
    };
    if let Some(region) = &args.region {
        config.region.clone_from(region);
    }
    let gateway = Gateway::new(Arc::new(coordinator), config);
    gateway.start_background(&all_stops);
    let metrics = Metrics::new(recorder, Vec::new());
    tokio::spawn(metrics.clone().keep_up());
    let routes = listen::routes(
        admin::router(
            Arc::clone(&gateway),
            membership.admin_token_hash()?,
            None,
            Some(admin::by_the_control_set(Arc::clone(gateway.coordinator()))),
        ),
        metrics,
        gateway_ready(&gateway),
    );
    tokio::spawn(listen::serve(admin_listener, routes, all_stops));
    let serving = tokio::spawn(Arc::clone(&gateway).serve(listener, serving_stops));
    tracing::info!(listen = %listen_at, admin = %admin_at, "a gateway runs");

    let name = signals.next().await;
    tracing::info!(signal = name, "stopping");
    gateway.begin_drain();
    let finish = async {
        stop_serving.send_replace(true);
        if let Err(error) = serving.await {
            tracing::error!(%error, "serving S3 ended badly");
        }
        stop_all.send_replace(true);
    };
    let code = drain(signals, drain_options, finish).await;
    drop(lock);
    Ok(code)
}
