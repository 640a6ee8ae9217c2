//! Read-repair: a replica that a read found behind gets what the majority has (DESIGN 4.6).
//!
//! Off the reader's path, and bounded: what does not fit is left to the next reader. The original Accept is
//! replayed; where promise, horizon or floor refuse it, an identity round writes the value anew.

use super::fanout::Answers;
use super::view::Place;
use super::{BucketRef, Coordinator};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::quorum::Replica;
use ringfort_ring::register::acceptor::Claim;
use ringfort_ring::register::reader::Reader;
use ringfort_wire::id::RowKey;
use ringfort_wire::manifest::{KeyState, PartState};
use ringfort_wire::message::{AcceptReply, AcceptRequest, ReadReply, ReadRequest};
use ringfort_wire::transport::Lane;
use tracing::debug;

impl Coordinator {
    /// Takes in the stragglers of an agreed read and repairs whoever is behind.
    pub(super) fn repair_later(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        place: &Place,
        agreed: Ballot,
        mut reader: Reader,
        mut answers: Answers<ReadReply>,
    ) {
        // Nothing to repair towards the empty register: whoever holds more is settled by who meets it.
        if agreed.is_zero() {
            return;
        }
        let Ok(permit) = self.inner.repairs.clone().try_acquire_owned() else {
            return;
        };
        let (coordinator, row, place) = (self.clone(), row.clone(), place.clone());
        tokio::spawn(async move {
            let _permit = permit;
            while let Some((from, reply)) = answers.next().await {
                if let Ok((ReadReply::Row { accepted, .. }, _)) = reply {
                    reader.on_answer(from, accepted);
                }
            }
            let behind = reader.behind(agreed);
            if behind.is_empty() {
                return;
            }
            let Some(holder) = reader.holder(agreed) else {
                return;
            };
            if !coordinator
                .replay(bucket, &row, &place, agreed, holder, &behind)
                .await
            {
                let settled = if row.part.is_some() {
                    coordinator.settle::<PartState>(bucket, &row, true).await
                } else {
                    coordinator.settle::<KeyState>(bucket, &row, true).await
                };
                if let Err(error) = settled {
                    debug!(%error, "a replica that is behind was not repaired; the next reader tries again");
                }
            }
        });
    }

    /// Replays the Accept that the holder has; whether all of those behind took it.
    async fn replay(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        place: &Place,
        ballot: Ballot,
        holder: Replica,
        behind: &[Replica],
    ) -> bool {
        let Some(node) = place.view.node(holder) else {
            return false;
        };
        let request = ReadRequest {
            to: holder,
            partition: place.partition,
            epoch: place.epoch,
            generation: bucket.generation,
            key: row.clone(),
            wants_body: true,
        };
        let Ok((ReadReply::Row { accepted, state }, body)) = self
            .call(node, Lane::Repair, request, bytes::Bytes::new())
            .await
        else {
            return false;
        };
        let Some(state) = state.filter(|_| accepted == ballot) else {
            // It moved on meanwhile: whoever wrote that wrote to all.
            return true;
        };
        let claim = Claim {
            epoch: place.epoch,
            generation: bucket.generation,
            ballot,
            born: None,
        };
        let mut all_took_it = true;
        for replica in behind {
            let Some(node) = place.view.node(*replica) else {
                continue;
            };
            let request = AcceptRequest {
                to: *replica,
                partition: place.partition,
                key: row.clone(),
                claim,
                state: state.clone(),
            };
            match self.call(node, Lane::Repair, request, body.clone()).await {
                Ok((AcceptReply::Accepted, _)) => {}
                Ok((AcceptReply::Refused(_), _)) => all_took_it = false,
                // Not there: the next reader meets it again.
                Err(_) => {}
            }
        }
        all_took_it
    }
}
