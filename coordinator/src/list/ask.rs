//! One request to every disk that holds a shard of the bucket, until a majority of each shard has answered.

use super::super::view::{ClusterView, Place};
use super::super::{BucketRef, Coordinator, ListQuery, ReadError};
use super::EXAMINE_LIMIT;
use super::merge::{Merged, NodePage, bound_behind, merge};
use bytes::Bytes;
use ringfort_ring::id::{DiskId, NodeId, Shard};
use ringfort_ring::quorum::Replica;
use ringfort_ring::register::acceptor::{Reason, Refusal};
use ringfort_wire::error::CallError;
use ringfort_wire::message::{After, ListReply, ListRequest, ShardClaim};
use ringfort_wire::transport::Lane;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

impl Coordinator {
    /// One request to every node, merged as far as a majority of each shard has examined.
    pub(super) async fn merged_page(
        &self,
        bucket: BucketRef,
        query: &ListQuery,
        after: &After,
        wanted: usize,
    ) -> Result<(Merged, Arc<Vec<NodePage>>, Arc<ClusterView>), ReadError> {
        let deadline = Instant::now() + self.inner.options.operation_timeout;
        let mut attempt: u64 = 0;
        loop {
            let view = self.view().ok_or_else(|| {
                ReadError::NotEnoughReplicas("the cluster has not formed yet".to_owned())
            })?;
            match self.ask(bucket, query, after, wanted, &view).await {
                Ok(pages) => {
                    let merged = merge(&pages, query, bucket);
                    return Ok((merged, Arc::new(pages), view));
                }
                Err(Trouble::Refused(refusal)) if refusal.reason == Reason::Generation => {
                    return Err(ReadError::BucketChanged);
                }
                Err(Trouble::Refused(_)) => self.await_newer_layout(&view).await,
                Err(Trouble::Silent(why)) => {
                    if attempt >= 2 {
                        return Err(ReadError::NotEnoughReplicas(why));
                    }
                }
            }
            attempt += 1;
            let wait = std::time::Duration::from_millis(
                50 * attempt + self.environment().random_below(50),
            );
            if Instant::now() + wait >= deadline {
                return Err(ReadError::NotEnoughReplicas(
                    "no majority of some shard answered in time".to_owned(),
                ));
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn ask(
        &self,
        bucket: BucketRef,
        query: &ListQuery,
        after: &After,
        wanted: usize,
        view: &Arc<ClusterView>,
    ) -> Result<Vec<NodePage>, Trouble> {
        let shards = places_of(bucket, view);
        let (sender, mut answers) = tokio::sync::mpsc::unbounded_channel();
        for ((node, _), mut claims) in claims_by_disk(&shards) {
            let mut request = ListRequest {
                bucket: bucket.id,
                generation: bucket.generation,
                shard_count: bucket.shard_count,
                shards: Vec::new(),
                prefix: query.prefix.clone(),
                after: after.clone(),
                delimiter: query.delimiter.clone(),
                limit: u32::try_from(wanted).unwrap_or(u32::MAX),
                examine_limit: EXAMINE_LIMIT,
                what: query.what,
            };
            let (coordinator, sender) = (self.clone(), sender.clone());
            tokio::spawn(async move {
                loop {
                    request.shards.clone_from(&claims);
                    let reply = coordinator
                        .call(node, Lane::Metadata, request.clone(), Bytes::new())
                        .await;
                    match shard_lacking(&reply, &claims) {
                        Some(shard) if claims.len() > 1 => {
                            claims.retain(|claim| claim.shard != shard);
                        }
                        _ => {
                            // Nobody waits any more once a majority has answered.
                            let _ = sender.send((node, claims, reply));
                            return;
                        }
                    }
                }
            });
        }
        drop(sender);
        let mut pages: Vec<NodePage> = Vec::new();
        let mut heard: HashSet<Replica> = HashSet::new();
        let mut refused = None;
        let mut errors = Vec::new();
        let deadline = Instant::now() + self.inner.options.call_timeout;
        while let Ok(Some((node, claims, reply))) = timeout_at(deadline, answers.recv()).await {
            if let Some(Shard(shard)) = shard_lacking(&reply, &claims) {
                errors.push(format!("{node}: holds no shard {shard}"));
                continue;
            }
            match reply {
                Ok((
                    ListReply::Page {
                        entries,
                        examined_to,
                    },
                    _,
                )) => {
                    heard.extend(claims.iter().map(|claim| claim.to));
                    pages.push(NodePage {
                        replicas: claims.iter().map(|claim| (claim.shard, claim.to)).collect(),
                        entries,
                        up_to: bound_behind(examined_to),
                    });
                }
                Ok((ListReply::Refused { refusal, .. }, _)) => {
                    refused.get_or_insert(refusal);
                }
                Err(error) => errors.push(format!("{node}: {error}")),
            }
            let is_enough = shards
                .iter()
                .all(|(_, place)| place.rule.holds(|replica| heard.contains(&replica)));
            if is_enough {
                return Ok(pages);
            }
        }
        Err(match refused {
            Some(refusal) => Trouble::Refused(refusal),
            None => Trouble::Silent(errors.join("; ")),
        })
    }
}

/// Why the nodes' answers do not make a page.
enum Trouble {
    Refused(Refusal),
    Silent(String),
}

pub(crate) fn places_of(bucket: BucketRef, view: &Arc<ClusterView>) -> Vec<(Shard, Place)> {
    (0..bucket.shard_count)
        .filter_map(|shard| Some((Shard(shard), view.place_shard(bucket, Shard(shard))?)))
        .collect()
}

/// One request a disk: a node with several may hold more than one replica of a shard, and an answer is one replica's.
pub(crate) fn claims_by_disk(
    shards: &[(Shard, Place)],
) -> BTreeMap<(NodeId, DiskId), Vec<ShardClaim>> {
    let mut by_disk: BTreeMap<_, Vec<ShardClaim>> = BTreeMap::new();
    for (shard, place) in shards {
        for (to, node) in place.targets() {
            by_disk
                .entry((node, to.disk))
                .or_default()
                .push(ShardClaim {
                    shard: *shard,
                    partition: place.partition,
                    to,
                    epoch: place.epoch,
                });
        }
    }
    by_disk
}

/// The shard that the answering disk holds no more (or not yet), although the asker's layout says so: the others may be
/// listed without it. Where the disk knows a newer layout, all is asked anew in that one.
fn shard_lacking(
    reply: &Result<(ListReply, Bytes), CallError>,
    claims: &[ShardClaim],
) -> Option<Shard> {
    let Ok((ListReply::Refused { shard, refusal }, _)) = reply else {
        return None;
    };
    let claim = claims.iter().find(|claim| claim.shard == *shard)?;
    let is_lacking = refusal.reason == Reason::Epoch && refusal.epoch <= claim.epoch;
    is_lacking.then_some(*shard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfort_ring::ballot::Ballot;

    #[test]
    fn only_a_shard_that_a_disk_lacks_is_left_out() {
        let to = Replica {
            disk: DiskId([1; 16]),
            joined: ringfort_ring::id::Epoch(1),
        };
        let claims = [ShardClaim {
            shard: Shard(3),
            partition: ringfort_ring::id::PartitionId(9),
            to,
            epoch: ringfort_ring::id::Epoch(5),
        }];
        let lacking = |reason, epoch| {
            let refusal = Refusal {
                reason,
                past: Ballot::ZERO,
                floor: Ballot::ZERO,
                bound: ringfort_ring::hlc::Timestamp::ZERO,
                epoch: ringfort_ring::id::Epoch(epoch),
                generation: ringfort_ring::id::Generation(0),
                clock_ms: 0,
            };
            let shard = Shard(3);
            let reply = Ok((ListReply::Refused { shard, refusal }, Bytes::new()));
            shard_lacking(&reply, &claims)
        };
        assert_eq!(lacking(Reason::Epoch, 5), Some(Shard(3)));
        assert_eq!(lacking(Reason::Epoch, 6), None);
        assert_eq!(lacking(Reason::Generation, 5), None);
    }
}
