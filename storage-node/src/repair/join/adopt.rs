//! What a new member takes over before it votes: the highest floor, promise, birth bound and generations of a majority
//! of the old members, in the epoch of the move.

use super::{Batch, Joiner};
use crate::replica::{Adoption, Learning};
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{Generation, PartitionId};
use ringfort_wire::id::BucketId;
use ringfort_wire::message::SyncFactsRequest;
use std::collections::{BTreeMap, BTreeSet};

/// How far ahead of this node's clock a sane disk's promises and floors reach at most, in milliseconds: a horizon, two
/// clocks that differ, and an ample rest.
const SANE_AHEAD_MS: u64 = 10_000;

impl Joiner {
    /// Adopts for those partitions of the batch in which the disk does not vote yet. Leftovers of an earlier membership
    /// go first.
    pub(super) async fn adopt(&self, batch: &mut Batch<'_>) {
        let new: Vec<Learning> = batch
            .under_way()
            .filter(|one| batch.disk.must_adopt(one))
            .cloned()
            .collect();
        if new.is_empty() {
            return;
        }
        let partitions: Vec<PartitionId> = new.iter().map(|one| one.partition).collect();
        if let Err(error) = batch.disk.discard_rows(&partitions).await {
            for partition in partitions {
                batch.fail(partition, error.to_string());
            }
            return;
        }
        let mut answered = BTreeSet::new();
        let mut adoptions: BTreeMap<PartitionId, Adoption> = BTreeMap::new();
        let mut horizon = Timestamp::ZERO;
        let now_ms = self.coordinator.environment().now_ms();
        let latest = Timestamp::from_ms(now_ms).plus_ms(SANE_AHEAD_MS);
        let mut generations: BTreeMap<BucketId, Generation> = BTreeMap::new();
        for (disk, source) in &batch.sources {
            let asked: Vec<_> = new
                .iter()
                .filter_map(|one| Some((*source.of.get(&one.partition)?, one.partition, one.epoch)))
                .collect();
            let request = SyncFactsRequest {
                replicas: asked.clone(),
            };
            let Ok((reply, _)) = self.ask(source.node, request).await else {
                continue;
            };
            // A disk whose clock once stood far ahead has promised far ahead: what it says would make whoever adopts it
            // refuse everything until then. The others are a majority.
            if reply.horizon > latest {
                continue;
            }
            horizon = horizon.max(reply.horizon);
            for (bucket, generation) in reply.generations {
                let held = generations.entry(bucket).or_default();
                *held = (*held).max(generation);
            }
            for ((_, partition, _), facts) in asked.iter().zip(reply.facts) {
                let Some((floor, bound)) = facts.filter(|(floor, _)| floor.time <= latest) else {
                    continue;
                };
                answered.insert((*partition, *disk));
                let adoption = adoptions.entry(*partition).or_default();
                adoption.floor = adoption.floor.max(floor);
                adoption.bound = adoption.bound.max(bound);
            }
        }
        batch.require_majority(&answered, "says what is to be adopted");
        let adopted: Vec<(Learning, Adoption)> = new
            .into_iter()
            .filter(|one| !batch.failed.contains_key(&one.partition))
            .filter_map(|one| {
                let adoption = *adoptions.get(&one.partition)?;
                Some((one, adoption))
            })
            .collect();
        let generations: Vec<_> = generations.into_iter().collect();
        let done = batch
            .disk
            .adopt_as_new(&adopted, horizon, &generations)
            .await;
        if let Err(error) = done {
            for (one, _) in adopted {
                batch.fail(one.partition, error.to_string());
            }
        }
    }
}
