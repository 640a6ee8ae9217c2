//! Raising a bucket's generation (DESIGN 4.14): when it returns, no request judged by an older generation can be
//! carried out any more.

use super::list::{claims_by_disk, places_of};
use super::propose::NO_QUORUM_PATIENCE;
use super::{BucketRef, Coordinator, WriteError};
use bytes::Bytes;
use ringfort_ring::id::Generation;
use ringfort_ring::quorum::Replica;
use ringfort_ring::register::acceptor::Reason;
use ringfort_wire::manifest::ObjectHead;
use ringfort_wire::message::RaiseRequest;
use ringfort_wire::transport::Lane;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

impl Coordinator {
    /// Has a majority of each of the bucket's partitions hold `generation`, durably. One request a disk.
    ///
    /// # Errors
    /// [`WriteError::OutcomeUnknown`] where not all partitions could be raised: some may have been. Repeat it.
    /// [`WriteError::BucketChanged`] where a replica holds a higher generation already.
    pub async fn raise(&self, bucket: BucketRef, generation: Generation) -> Result<(), WriteError> {
        let began = Instant::now();
        let deadline = began + self.inner.options.operation_timeout;
        let mut attempt: u64 = 0;
        loop {
            let view = self.view().ok_or_else(|| {
                WriteError::NotEnoughReplicas("the cluster has not formed yet".to_owned())
            })?;
            let places = places_of(bucket, &view);
            let (sender, mut answers) = tokio::sync::mpsc::unbounded_channel();
            for ((node, _), claims) in claims_by_disk(&places) {
                let request = RaiseRequest {
                    bucket: bucket.id,
                    generation,
                    shards: claims.clone(),
                };
                let (coordinator, sender) = (self.clone(), sender.clone());
                tokio::spawn(async move {
                    let reply = coordinator
                        .call(node, Lane::Metadata, request, Bytes::new())
                        .await;
                    // Nobody waits any more once a majority has answered.
                    let _ = sender.send((claims, reply));
                });
            }
            drop(sender);
            let mut holding: HashSet<(u32, Replica)> = HashSet::new();
            let mut errors = Vec::new();
            let mut is_stale = false;
            let until = Instant::now() + self.inner.options.call_timeout;
            while let Ok(Some((claims, reply))) = timeout_at(until, answers.recv()).await {
                match reply {
                    Ok((reply, _)) => {
                        for (claim, refusal) in claims.iter().zip(reply.refusals) {
                            match refusal.map(|refusal| refusal.reason) {
                                None => {
                                    holding.insert((claim.partition.0, claim.to));
                                }
                                Some(Reason::Generation) => return Err(WriteError::BucketChanged),
                                Some(_) => is_stale = true,
                            }
                        }
                    }
                    Err(error) => errors.push(error.to_string()),
                }
                let is_enough = places.iter().all(|(_, place)| {
                    place
                        .rule
                        .holds(|replica| holding.contains(&(place.partition.0, replica)))
                });
                if is_enough {
                    return Ok(());
                }
            }
            if is_stale {
                self.await_newer_layout(&view).await;
            }
            attempt += 1;
            let wait = Duration::from_millis(50 * attempt + self.environment().random_below(50));
            let is_hopeless = !is_stale && began.elapsed() >= NO_QUORUM_PATIENCE;
            if is_hopeless || Instant::now() + wait >= deadline {
                return Err(WriteError::OutcomeUnknown(errors.join("; ")));
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Deletes the chunks of an object that a chosen value replaced, once readers under way have had their time.
    pub fn delete_replaced(&self, head: &ObjectHead) {
        use ringfort_wire::manifest::BodyPlace;
        let grace = self.inner.options.delete_grace;
        match &head.body {
            BodyPlace::Inline => {}
            BodyPlace::Chunks(list) => self.delete_chunks(list.chunks.clone(), grace),
            place @ BodyPlace::Listed(root) => {
                let (coordinator, place, root) = (self.clone(), place.clone(), root.clone());
                tokio::spawn(async move {
                    match coordinator.body_list(&place).await {
                        Ok(list) => {
                            let chunks = list.chunks.into_iter().chain(root).collect();
                            coordinator.delete_chunks(chunks, grace);
                        }
                        Err(error) => tracing::warn!(
                            %error,
                            "a replaced object's chunks were not deleted; they are garbage until they are collected"
                        ),
                    }
                });
            }
        }
    }
}
