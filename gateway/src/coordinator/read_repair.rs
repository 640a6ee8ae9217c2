//! Read-repair: a replica that a read found behind gets what the majority has (DESIGN 4.6).
//!
//! Off the reader's path, and bounded: what does not fit is left to the next reader. The original Accept is
//! replayed; where promise, horizon or floor refuse it, an identity round writes the value anew.

use super::fanout::Answers;
use super::view::Place;
use super::{BucketRef, Coordinator, ReadError, WriteError};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::quorum::Replica;
use ringfort_ring::register::acceptor::{Claim, Reason};
use ringfort_ring::register::reader::{Reader, Reading};
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
            coordinator
                .mend(bucket, &row, &place, agreed, &reader)
                .await;
        });
    }

    /// Reads a row from all its replicas and mends whoever is behind, or settles it.
    ///
    /// # Errors
    /// Where the replicas do not answer: try again later.
    pub(super) async fn mend_row(&self, bucket: BucketRef, row: &RowKey) -> Result<(), ReadError> {
        let lacking = || ReadError::NotEnoughReplicas("no majority answers".to_owned());
        let place = self
            .view()
            .and_then(|view| view.place_row(bucket, row))
            .ok_or_else(lacking)?;
        let mut answers = self.fan_out(Lane::Repair, &place.targets(), |to| {
            let request = ReadRequest {
                to,
                partition: place.partition,
                epoch: place.epoch,
                generation: bucket.generation,
                key: row.clone(),
                wants_body: false,
            };
            (request, bytes::Bytes::new())
        });
        let mut reader = Reader::new(place.rule.clone());
        let mut highest = Ballot::ZERO;
        while let Some((from, reply)) = answers.next().await {
            match reply {
                Ok((ReadReply::Row { accepted, .. }, _)) => {
                    highest = highest.max(accepted);
                    reader.on_answer(from, accepted)
                }
                Ok((ReadReply::Refused(refusal), _)) if refusal.reason == Reason::Generation => {
                    // The bucket has changed or gone: its rows are no business of this hint any more.
                    return Ok(());
                }
                Ok((ReadReply::Refused(_), _)) | Err(_) => reader.on_unreachable(from),
            };
        }
        match reader.reading() {
            // A write that reached a minority only: decided now, so that no maybe surfaces weeks later.
            Reading::Agreed(agreed) if highest > agreed => {
                Ok(self.rewrite(bucket, row, false).await?)
            }
            Reading::Agreed(agreed) => {
                self.mend(bucket, row, &place, agreed, &reader).await;
                Ok(())
            }
            Reading::Split => Ok(self.rewrite(bucket, row, false).await?),
            Reading::Wait | Reading::Impossible => Err(lacking()),
        }
    }

    async fn mend(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        place: &Place,
        agreed: Ballot,
        reader: &Reader,
    ) {
        let behind = reader.behind(agreed);
        let Some(holder) = reader.holder(agreed).filter(|_| !behind.is_empty()) else {
            return;
        };
        if self
            .replay(bucket, row, place, agreed, holder, &behind)
            .await
        {
            return;
        }
        if let Err(error) = self.rewrite(bucket, row, true).await {
            debug!(%error, "a replica that is behind was not mended; the next reader tries again");
        }
    }

    async fn rewrite(
        &self,
        bucket: BucketRef,
        row: &RowKey,
        must_write: bool,
    ) -> Result<(), WriteError> {
        if row.part.is_some() {
            self.settle::<PartState>(bucket, row, must_write).await
        } else {
            self.settle::<KeyState>(bucket, row, must_write).await
        }
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
