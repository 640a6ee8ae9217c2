//! Clusters on paper: `ringfort layout plan --paper nodes=300,disks=4,zones=5,partitions=65536,add=1`.
//!
//! What a cluster of any size would move, how evenly, and what it would ask of its nodes, computed by the very code that
//! a running one uses.

use crate::failure::Failure;
use crate::layout::Size;
use crate::layout_table::print_plan;
use crate::remote::{bytes, print_json};
use ringfort_admin::layout::{LayoutPlan, NODE_BYTES_PER_S};
use ringfort_ring::assign::first_layout;
use ringfort_ring::id::{ClusterId, DiskId, NodeId, Shard};
use ringfort_ring::layout::Layout;
use ringfort_ring::merkle::LEAVES;
use ringfort_ring::placement::partition_of_shard;
use ringfort_ring::plan::preview;
use ringfort_ring::topology::{DiskSpec, NodeSpec, Topology};
use serde::Serialize;
use std::collections::BTreeSet;
use std::str::FromStr;

/// Buckets that the fan-out of a LIST is averaged over.
const BUCKETS: u128 = 1_000;

/// A cluster on paper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Paper {
    /// Nodes before the change.
    nodes: u64,
    /// Disks of each.
    disks: u64,
    /// Zones, which nodes are in by turns.
    zones: u64,
    /// Partitions.
    partitions: u64,
    /// N.
    replicas: u64,
    /// Nodes that are added.
    add: u64,
    /// Nodes that are drained.
    drain: u64,
    /// A disk's bytes.
    disk_bytes: u64,
    /// How full disks are, in percent.
    full: u64,
    /// Index shards of a bucket.
    shards: u64,
    /// Objects in all.
    objects: u64,
    /// Bytes that the index takes for one row of an object, with its place in the log.
    row_bytes: u64,
}

impl Default for Paper {
    fn default() -> Self {
        Self {
            nodes: 3,
            disks: 1,
            zones: 1,
            partitions: 4_096,
            replicas: 3,
            add: 0,
            drain: 0,
            disk_bytes: 8_000_000_000_000,
            full: 50,
            shards: 16,
            objects: 1_000_000_000,
            row_bytes: 300,
        }
    }
}

impl FromStr for Paper {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut paper = Self::default();
        for pair in text
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("`{pair}` is not a name, `=` and a number"))?;
            let Size(number) = value.parse()?;
            let (field, least, most) = match name {
                "nodes" => (&mut paper.nodes, 1, 10_000),
                "disks" => (&mut paper.disks, 1, 100),
                "zones" => (&mut paper.zones, 1, 1_000),
                "partitions" => (&mut paper.partitions, 1, 65_536),
                "replicas" => (&mut paper.replicas, 1, 5),
                "add" => (&mut paper.add, 0, 1_000),
                "drain" => (&mut paper.drain, 0, 1_000),
                "disk-bytes" => (&mut paper.disk_bytes, 1, 1 << 60),
                "full" => (&mut paper.full, 0, 100),
                "shards" => (&mut paper.shards, 1, 1_024),
                "objects" => (&mut paper.objects, 0, 1 << 50),
                "row-bytes" => (&mut paper.row_bytes, 1, 1 << 20),
                _ => {
                    return Err(format!(
                        "`{name}` is none of nodes, disks, zones, partitions, replicas, add, drain, disk-bytes, full, \
                         shards, objects, row-bytes"
                    ));
                }
            };
            if !(least..=most).contains(&number) {
                return Err(format!("{name} is {least} to {most}"));
            }
            *field = number;
        }
        Ok(paper)
    }
}

/// A plan on paper, and what the outcome asks of nodes.
#[derive(Serialize)]
struct PaperPlan {
    paper: Paper,
    plan: LayoutPlan,
    list: ListFanOut,
    metadata: Metadata,
}

/// How many nodes one LIST asks, over many buckets.
#[derive(Serialize)]
struct ListFanOut {
    partitions: u64,
    nodes_average_hundredths: u64,
    nodes_most: u64,
}

/// What a node keeps about what it holds.
#[derive(Serialize)]
struct Metadata {
    /// The layout, as it is stored and sent.
    layout_bytes: u64,
    /// Replicas of partitions that the fullest node holds.
    replicas: u64,
    /// Sums by which replicas compare, for these.
    sums_bytes: u64,
    /// The index of the objects, for these.
    index_bytes: u64,
}

/// Plans on paper.
pub(crate) fn plan(paper: &Paper, rate: Option<Size>, is_json: bool) -> Result<(), Failure> {
    let (before, after) = layouts(paper)?;
    let copies = paper.partitions * paper.replicas;
    let in_use = paper.nodes * paper.disks;
    let all = u128::from(in_use) * u128::from(paper.disk_bytes) * u128::from(paper.full) / 100;
    let replica_bytes = u64::try_from(all / u128::from(copies)).unwrap_or(u64::MAX);
    let preview = preview(&before, &after, |_| replica_bytes);
    let rate = rate.map_or(NODE_BYTES_PER_S, |rate| rate.0);
    let outcome = PaperPlan {
        plan: LayoutPlan::new(&before, &preview, replica_bytes, rate),
        list: fan_out(&preview.outcome, paper),
        metadata: metadata(&preview.outcome, paper)?,
        paper: paper.clone(),
    };
    if is_json {
        return print_json(&outcome);
    }
    print_plan(&outcome.plan);
    let list = &outcome.list;
    anstream::println!(
        "\nLIST        {} shards of a bucket are {} partitions; a page asks {}.{:02} nodes on average, {} at most",
        paper.shards,
        list.partitions,
        list.nodes_average_hundredths / 100,
        list.nodes_average_hundredths % 100,
        list.nodes_most
    );
    let metadata = &outcome.metadata;
    anstream::println!("layout      {} on every node", bytes(metadata.layout_bytes));
    anstream::println!(
        "a node      {} replicas of partitions: {} of sums, and {} of index for {} objects at {} B a row",
        metadata.replicas,
        bytes(metadata.sums_bytes),
        bytes(metadata.index_bytes),
        paper.objects,
        paper.row_bytes
    );
    Ok(())
}

/// The layout before, and with the change.
fn layouts(paper: &Paper) -> Result<(Layout, Layout), Failure> {
    let node = |number: u64| NodeSpec {
        id: NodeId::from_u128(u128::from(number) + 1),
        name: format!("n{}", number + 1),
        address: "127.0.0.1:1".to_owned(),
        zone: format!("z{}", number % paper.zones + 1),
        disks: (0..paper.disks)
            .map(|disk| DiskSpec {
                // Spread over all digits, so that the first eight tell them apart.
                id: DiskId::from_u128(u128::from(number * 100 + disk + 1) << 96),
                capacity_bytes: if number < paper.nodes {
                    paper.disk_bytes
                } else {
                    0
                },
            })
            .collect(),
    };
    let nodes: Vec<NodeSpec> = (0..paper.nodes + paper.add).map(node).collect();
    let topology = Topology {
        cluster: ClusterId::from_u128(1),
        replicas: u8::try_from(paper.replicas).unwrap_or(u8::MAX),
        control: Topology::suggest_control(&nodes, 5),
        nodes,
    };
    let partitions = u32::try_from(paper.partitions).unwrap_or(u32::MAX);
    let mut before = first_layout(&topology, partitions).map_err(Failure::usage)?;
    for disk in &mut before.disks {
        disk.size_bytes = paper.disk_bytes;
    }
    let mut after = before.clone();
    after.version += 1;
    for disk in &mut after.disks {
        let is_drained = u64::from(disk.node) < paper.drain;
        disk.capacity_bytes = if is_drained { 0 } else { paper.disk_bytes };
    }
    let left = after.disks.iter().filter(|disk| disk.capacity_bytes > 0);
    if left.count() < usize::from(after.replicas) {
        return Err(Failure::usage("fewer disks would be left than replicas"));
    }
    Ok((before, after))
}

fn fan_out(layout: &Layout, paper: &Paper) -> ListFanOut {
    let shards = u16::try_from(paper.shards).unwrap_or(u16::MAX);
    let (mut sum, mut most, mut partitions_most) = (0_u64, 0_u64, 0_u64);
    for bucket in 0..BUCKETS {
        let id = (bucket + 1).to_be_bytes();
        let partitions: BTreeSet<_> = (0..shards)
            .map(|shard| partition_of_shard(id, Shard(shard), layout.partition_count()))
            .collect();
        let rows = partitions
            .iter()
            .filter_map(|partition| layout.row(*partition));
        let disks = rows.flat_map(|row| row.wanted());
        let nodes: BTreeSet<u16> = disks
            .filter_map(|member| Some(layout.disks.get(usize::from(member.disk))?.node))
            .collect();
        let count = u64::try_from(nodes.len()).unwrap_or(u64::MAX);
        sum += count;
        most = most.max(count);
        let count = u64::try_from(partitions.len()).unwrap_or(u64::MAX);
        partitions_most = partitions_most.max(count);
    }
    let buckets = u64::try_from(BUCKETS).unwrap_or(1);
    ListFanOut {
        partitions: partitions_most,
        nodes_average_hundredths: sum * 100 / buckets,
        nodes_most: most,
    }
}

fn metadata(layout: &Layout, paper: &Paper) -> Result<Metadata, Failure> {
    let encoded = postcard::to_allocvec(layout).map_err(Failure::failed)?;
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let mut held = vec![0_u64; layout.nodes.len()];
    for member in layout.rows.iter().flat_map(|row| row.wanted()) {
        if let Some(disk) = layout.disks.get(usize::from(member.disk)) {
            held[usize::from(disk.node)] += 1;
        }
    }
    let replicas = held.into_iter().max().unwrap_or(0);
    // One sum of rows and one of chunks a leaf.
    let sums = wide(2 * LEAVES) * 8;
    let rows = u128::from(paper.objects) * u128::from(replicas) / u128::from(paper.partitions);
    let index = rows * u128::from(paper.row_bytes);
    Ok(Metadata {
        layout_bytes: wide(encoded.len()),
        replicas,
        sums_bytes: replicas * sums,
        index_bytes: u64::try_from(index).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_on_paper_is_read() {
        let paper: Paper = "nodes=300,disks=4, zones=5,partitions=65536,add=1,disk-bytes=8TB"
            .parse()
            .unwrap();
        let expected = Paper {
            nodes: 300,
            disks: 4,
            zones: 5,
            partitions: 65_536,
            add: 1,
            ..Paper::default()
        };
        assert_eq!(paper, expected);
        for bad in [
            "nodes",
            "nodes=0",
            "noodles=1",
            "replicas=7",
            "partitions=65537",
        ] {
            assert!(bad.parse::<Paper>().is_err(), "{bad}");
        }
        assert!(layouts(&"nodes=2".parse().unwrap()).is_err());
        assert!(layouts(&"nodes=3,drain=1".parse().unwrap()).is_err());
    }

    #[test]
    fn a_small_cluster_grows_on_paper() {
        let paper: Paper = "nodes=5,zones=5,partitions=500,add=5".parse().unwrap();
        let (before, after) = layouts(&paper).unwrap();
        let preview = preview(&before, &after, |_| 1);
        assert_eq!((preview.replicas, preview.replicas_least), (750, 750));
        assert_eq!((preview.after.zones, preview.after.off_weight), (3, 0));
        let list = fan_out(&preview.outcome, &paper);
        assert!(list.nodes_most == 10 && list.partitions == 16);
        let metadata = metadata(&preview.outcome, &paper).unwrap();
        assert_eq!(metadata.replicas, 150);
        assert_eq!(metadata.index_bytes, 300_000_000 * 300);
    }
}
