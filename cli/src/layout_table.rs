//! How the layout and a plan look on a terminal.

use crate::remote::{bytes, print_table, span};
use ringfort_admin::layout::{Evenness, LayoutDisk, LayoutNode, LayoutPlan, LayoutState};

/// Disks that a plan lists; of more, the busiest.
const DISKS_MAX: usize = 30;

/// Shows a layout.
pub(crate) fn print_layout(layout: &LayoutState) {
    anstream::println!("cluster     {}", layout.cluster_id);
    anstream::println!("layout      version {}, era {}", layout.version, layout.era);
    anstream::println!(
        "partitions  {} with {} replicas, {} moving{}",
        layout.partitions,
        layout.replicas,
        layout.moving,
        match layout.is_balancing_paused {
            true => "; balancing is PAUSED",
            false => "",
        }
    );
    let before = match layout.control_before.is_empty() {
        true => String::new(),
        false => format!(", before: {}", layout.control_before.join(", ")),
    };
    anstream::println!("control     {}{before}", layout.control.join(", "));
    anstream::println!("balance     {}", balance(&layout.evenness));
    anstream::println!("copies      {}\n", apart(&layout.evenness));
    let header = [
        "NODE", "ZONE", "STANDING", "DISK", "WEIGHT", "SIZE", "PARTS", "SHARE", "COMING",
    ];
    let rows = layout.nodes.iter().flat_map(|node| {
        let disks = node.disks.iter();
        disks.map(move |disk| disk_row(node, disk))
    });
    print_table(&header, rows.collect());
}

fn disk_row(node: &LayoutNode, disk: &LayoutDisk) -> Vec<String> {
    let standing = match disk.standing.as_str() {
        "in" => node.standing.clone(),
        _ => format!("disk {}", disk.standing),
    };
    vec![
        node.name.clone(),
        if node.zone.is_empty() {
            "-"
        } else {
            &node.zone
        }
        .to_owned(),
        standing,
        disk.id.chars().take(8).collect(),
        bytes(disk.weight_bytes),
        bytes(disk.size_bytes),
        disk.partitions.to_string(),
        disk.share.to_string(),
        disk.coming.to_string(),
    ]
}

/// Hundredths of a percent, as people read them.
pub(crate) fn percent(hundredths: u64) -> String {
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

fn balance(evenness: &Evenness) -> String {
    format!(
        "every disk within {} of its share by weight, {} of what the zones allow",
        percent(evenness.off_weight),
        percent(evenness.off_share)
    )
}

fn apart(evenness: &Evenness) -> String {
    let is_kept = evenness.zones >= evenness.zones_possible;
    let mut text = format!(
        "on {} nodes and in {} of {} possible zones at least: the zone rule is {}",
        evenness.nodes,
        evenness.zones,
        evenness.zones_possible,
        if is_kept { "kept" } else { "NOT KEPT" }
    );
    if evenness.incomplete > 0 {
        text += &format!("; {} partitions LACK REPLICAS", evenness.incomplete);
    }
    text
}

/// Shows a plan.
pub(crate) fn print_plan(plan: &LayoutPlan) {
    if plan.replicas == 0 {
        anstream::println!("nothing moves");
    } else {
        anstream::println!(
            "moves       {} replicas of {} partitions; the least possible for this balance: {}",
            plan.replicas,
            plan.partitions,
            plan.replicas_least
        );
        anstream::println!(
            "bytes       {}, about {} a replica",
            bytes(plan.bytes),
            bytes(plan.replica_bytes)
        );
        anstream::println!(
            "time        {}: {} into the busiest node, at {} a second",
            span(plan.seconds),
            bytes(plan.busiest_node_bytes),
            bytes(plan.node_bytes_per_s)
        );
    }
    anstream::println!("now         {}", balance(&plan.before));
    anstream::println!("then        {}", balance(&plan.after));
    anstream::println!("copies      {}", apart(&plan.after));
    for warning in &plan.warnings {
        anstream::println!("WARNING     {warning}");
    }
    if plan.disks.is_empty() {
        return;
    }
    let mut disks: Vec<_> = plan.disks.iter().collect();
    if disks.len() > DISKS_MAX {
        disks.sort_by_key(|disk| std::cmp::Reverse(disk.bytes_in.max(disk.bytes_out)));
        disks.truncate(DISKS_MAX);
        let all = plan.disks.len();
        anstream::println!("\nthe busiest {DISKS_MAX} of {all} disks (all of them with --json):");
    } else {
        anstream::println!();
    }
    let header = ["NODE", "DISK", "WEIGHT", "PARTS", "THEN", "IN", "OUT"];
    let rows = disks.into_iter().map(|disk| {
        vec![
            disk.node.clone(),
            disk.disk.chars().take(8).collect(),
            bytes(disk.weight_bytes),
            disk.partitions_before.to_string(),
            disk.partitions_after.to_string(),
            bytes(disk.bytes_in),
            bytes(disk.bytes_out),
        ]
    });
    print_table(&header, rows.collect());
}
