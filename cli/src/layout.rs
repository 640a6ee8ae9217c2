//! `ringfort layout`: which disks hold which partitions, what a change would move, and changes.
//!
//! `plan` and `apply` take the same flags: what was looked at is what is done.

use crate::failure::Failure;
use crate::layout_paper;
use crate::layout_table::{print_layout, print_plan};
use crate::remote::{AdminArgs, print_json};
use clap::{Args, Subcommand};
use ringfort_admin::change::{ChangeRequest, WantedChange};
use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::str::FromStr;

/// What to do with the layout.
#[derive(Subcommand)]
pub(crate) enum LayoutCommand {
    /// Show nodes, disks, weights and shares
    Show(AdminArgs),
    /// Show what a change would move, and change nothing; without a change: what is under way
    Plan(Box<PlanArgs>),
    /// Show what a change moves, and make it
    Apply(Box<ApplyArgs>),
    /// Begin no more moves that only balance; repair goes on
    Pause(AdminArgs),
    /// Balance again
    Resume(AdminArgs),
    /// Take moves back, but for repair, and the weights of the last change too; balancing is paused
    Abort(AdminArgs),
}

/// The changes.
#[derive(Args)]
#[command(next_help_heading = "Changes")]
struct ChangeArgs {
    /// Give the disks of a node, or one disk, their whole size as weight: they get partitions (repeatable)
    #[arg(long = "use", value_name = "NODE|DISK")]
    used: Vec<String>,
    /// Give a disk a weight: it gets partitions in proportion to it; 0 drains it (repeatable)
    #[arg(long, value_name = "DISK=SIZE")]
    weight: Vec<Weight>,
    /// Move everything away from a node or disk (repeatable)
    #[arg(long, value_name = "NODE|DISK")]
    drain: Vec<String>,
    /// Move a node to another zone (repeatable)
    #[arg(long, value_name = "NODE=ZONE")]
    zone: Vec<Zone>,
    /// Let a node keep its partitions however long it is silent (repeatable)
    #[arg(long, value_name = "NODE")]
    maintenance: Vec<String>,
    /// Let a node take part again (repeatable)
    #[arg(long = "in", value_name = "NODE")]
    back: Vec<String>,
    /// Make the partitions of a node or disk anew elsewhere, for it is lost; a disk never comes back (repeatable)
    #[arg(long, value_name = "NODE|DISK")]
    out: Vec<String>,
    /// Hold each partition this many times: 1, 3 or 5
    #[arg(long, value_name = "N")]
    replicas: Option<u8>,
    /// Let these nodes decide the layout: 1, 3 or 5, separated by commas
    #[arg(long, value_name = "NODE,…", value_delimiter = ',')]
    control: Vec<String>,
    /// Take a node or disk that holds nothing out of the layout (repeatable)
    #[arg(long, value_name = "NODE|DISK")]
    remove: Vec<String>,
}

/// A plan.
#[derive(Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    changes: ChangeArgs,
    /// Reckon the time with this many bytes a second into each node [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    rate: Option<Size>,
    /// A cluster on paper instead of the running one: nodes=300,disks=4,zones=5,partitions=65536,add=1
    #[arg(long, value_name = "NAME=NUMBER,…")]
    paper: Option<layout_paper::Paper>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// A change to make.
#[derive(Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    changes: ChangeArgs,
    /// Reckon the time with this many bytes a second into each node [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    rate: Option<Size>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size: it looks like 500GB, 1.5TiB or 0");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            "kib" | "k" => 1 << 10,
            "mib" | "m" => 1 << 20,
            "gib" | "g" => 1 << 30,
            "tib" | "t" => 1 << 40,
            _ => return Err(wrong()),
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        if part.len() > 6 || (part.is_empty() && digits.contains('.')) {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let millionths: u64 = format!("{part:0<6}").parse().map_err(|_| wrong())?;
        let fraction = u128::from(millionths) * u128::from(unit) / 1_000_000;
        let fraction = u64::try_from(fraction).map_err(|_| wrong())?;
        let bytes = whole
            .checked_mul(unit)
            .and_then(|all| all.checked_add(fraction));
        bytes.map(Self).ok_or_else(wrong)
    }
}

/// `DISK=SIZE`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Weight(String, Size);

impl FromStr for Weight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (disk, size) = text
            .split_once('=')
            .ok_or("a weight is a disk's id, `=` and a size: 1a2b3c4d=2TiB")?;
        Ok(Self(disk.to_owned(), size.parse()?))
    }
}

/// `NODE=ZONE`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Zone(String, String);

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (node, zone) = text
            .split_once('=')
            .ok_or("a zone is given as a node, `=` and its zone: n1=rack-7")?;
        Ok(Self(node.to_owned(), zone.to_owned()))
    }
}

impl ChangeArgs {
    /// What is asked. Disks are given weights before others are drained, and what leaves does so last.
    fn request(&self, rate: Option<Size>) -> ChangeRequest {
        let what = |names: &[String], make: fn(String) -> WantedChange| -> Vec<WantedChange> {
            names.iter().cloned().map(make).collect()
        };
        // `n4=all` says what `n4` does.
        let used: Vec<String> = self
            .used
            .iter()
            .map(|name| name.strip_suffix("=all").unwrap_or(name).to_owned())
            .collect();
        let weights = self
            .weight
            .iter()
            .map(|Weight(disk, size)| WantedChange::Weight {
                disk: disk.clone(),
                bytes: size.0,
            });
        let zones = self.zone.iter().map(|Zone(node, zone)| WantedChange::Zone {
            node: node.clone(),
            zone: zone.clone(),
        });
        let control = (!self.control.is_empty()).then(|| WantedChange::Control {
            nodes: self.control.clone(),
        });
        let changes = what(&used, |what| WantedChange::Use { what })
            .into_iter()
            .chain(weights)
            .chain(what(&self.drain, |what| WantedChange::Drain { what }))
            .chain(zones)
            .chain(what(&self.maintenance, |node| WantedChange::Maintenance {
                node,
            }))
            .chain(what(&self.back, |node| WantedChange::In { node }))
            .chain(what(&self.out, |what| WantedChange::Out { what }))
            .chain(self.replicas.map(|count| WantedChange::Replicas { count }))
            .chain(control)
            .chain(what(&self.remove, |what| WantedChange::Remove { what }))
            .collect();
        ChangeRequest {
            changes,
            node_bytes_per_s: rate.map(|rate| rate.0),
        }
    }
}

/// Runs the command.
pub(crate) async fn run(command: LayoutCommand) -> Result<ExitCode, Failure> {
    match command {
        LayoutCommand::Show(admin) => show(&admin).await?,
        LayoutCommand::Plan(args) => plan(&args).await?,
        LayoutCommand::Apply(args) => apply(&args).await?,
        LayoutCommand::Pause(admin) => {
            let said = "balancing is paused; repair goes on";
            change(&admin, &only(WantedChange::Pause), said).await?;
        }
        LayoutCommand::Resume(admin) => {
            change(&admin, &only(WantedChange::Resume), "balancing goes on").await?;
        }
        LayoutCommand::Abort(admin) => {
            let said = "moves are taken back, but for repair; balancing is paused";
            change(&admin, &only(WantedChange::Abort), said).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn only(change: WantedChange) -> ChangeRequest {
    ChangeRequest {
        changes: vec![change],
        node_bytes_per_s: None,
    }
}

async fn show(admin: &AdminArgs) -> Result<(), Failure> {
    let layout = admin.client()?.layout().await.map_err(Failure::failed)?;
    if admin.json {
        return print_json(&layout);
    }
    print_layout(&layout);
    Ok(())
}

async fn plan(args: &PlanArgs) -> Result<(), Failure> {
    let request = args.changes.request(args.rate);
    if let Some(paper) = &args.paper {
        if !request.changes.is_empty() {
            return Err(Failure::usage(
                "a cluster on paper is changed on paper: give add=1 or drain=1 in --paper",
            ));
        }
        return layout_paper::plan(paper, args.rate, args.admin.json);
    }
    let client = args.admin.client()?;
    let plan = client
        .plan_layout(&request)
        .await
        .map_err(Failure::failed)?;
    if args.admin.json {
        return print_json(&plan);
    }
    print_plan(&plan);
    Ok(())
}

async fn apply(args: &ApplyArgs) -> Result<(), Failure> {
    let request = args.changes.request(args.rate);
    if request.changes.is_empty() {
        return Err(Failure::usage(
            "no change is asked for: see `ringfort layout apply --help`",
        ));
    }
    if !args.yes {
        if args.admin.json || !std::io::stdin().is_terminal() {
            return Err(Failure::usage(
                "nobody is there to ask: look at `ringfort layout plan` with the same flags, then give --yes",
            ));
        }
        let client = args.admin.client()?;
        let plan = client
            .plan_layout(&request)
            .await
            .map_err(Failure::failed)?;
        print_plan(&plan);
        if !is_agreed()? {
            anstream::println!("nothing was changed");
            return Ok(());
        }
    }
    let said = "`ringfort layout plan` shows what is left to do";
    change(&args.admin, &request, said).await
}

/// Asks on the terminal. Anything but yes is no.
fn is_agreed() -> Result<bool, Failure> {
    anstream::print!("\nchange the layout so? [y/N] ");
    std::io::stdout().flush().map_err(Failure::failed)?;
    let mut answer = String::new();
    let mut input = std::io::stdin().lock();
    input.read_line(&mut answer).map_err(Failure::failed)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

async fn change(admin: &AdminArgs, request: &ChangeRequest, said: &str) -> Result<(), Failure> {
    let client = admin.client()?;
    let changed = client
        .change_layout(request)
        .await
        .map_err(Failure::failed)?;
    if admin.json {
        return print_json(&changed);
    }
    anstream::println!("layout version {}: {said}", changed.version);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        changes: ChangeArgs,
    }

    #[test]
    fn a_size_is_a_number_and_a_unit() {
        let size = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("500GB"), Ok(500_000_000_000));
        assert_eq!(size("1.5TiB"), Ok(3 << 39));
        assert_eq!(size("64m"), Ok(64 << 20));
        for bad in [
            "",
            "GB",
            "1.GB",
            "-1",
            "1EB",
            "1.1234567k",
            "99999999999TiB",
            "ä",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_become_changes_in_an_order_that_works() {
        let flags = Flags::parse_from([
            "x",
            "--remove",
            "n0",
            "--drain",
            "n1",
            "--use",
            "n4=all",
            "--weight",
            "1a2b3c4d=1TiB",
            "--zone",
            "n2=z",
            "--control",
            "n1,n2,n3",
            "--replicas",
            "5",
            "--in",
            "n5",
        ]);
        let request = flags.changes.request(Some(Size(7)));
        let text = serde_json::to_value(&request).unwrap();
        let expected = serde_json::json!({"node_bytes_per_s": 7, "changes": [
            {"use": {"what": "n4"}},
            {"weight": {"disk": "1a2b3c4d", "bytes": 1_u64 << 40}},
            {"drain": {"what": "n1"}},
            {"zone": {"node": "n2", "zone": "z"}},
            {"in": {"node": "n5"}},
            {"replicas": {"count": 5}},
            {"control": {"nodes": ["n1", "n2", "n3"]}},
            {"remove": {"what": "n0"}},
        ]});
        assert_eq!(text, expected);
        assert!(Flags::try_parse_from(["x", "--weight", "1a2b"]).is_err());
    }
}
