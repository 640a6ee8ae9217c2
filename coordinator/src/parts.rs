//! The parts of an open upload, by rising number, every one judged like a read of its register.

use super::{BucketRef, Coordinator, ListedPart, ReadError, UploadRef};
use futures_util::stream::{self, StreamExt};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::quorum::Replica;
use ringfort_ring::register::acceptor::Reason;
use ringfort_ring::register::reader::{Reader, Reading};
use ringfort_wire::id::RowKey;
use ringfort_wire::manifest::PartState;
use ringfort_wire::message::{ReadPartsReply, ReadPartsRequest};
use ringfort_wire::transport::Lane;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Rows of one answer.
const ROWS_PER_ANSWER: u32 = 500;
const READS_AT_ONCE: usize = 16;

struct Page {
    from: Replica,
    rows: BTreeMap<u16, (Ballot, bytes::Bytes)>,
    /// Everything up to this number was looked at.
    up_to: u16,
}

impl Coordinator {
    /// At most `limit` parts with a number above `after`; and whether there are more behind them.
    ///
    /// # Errors
    /// As [`Coordinator::read`].
    pub async fn parts(
        &self,
        bucket: BucketRef,
        upload: &UploadRef,
        after: u16,
        limit: usize,
    ) -> Result<(Vec<ListedPart>, bool), ReadError> {
        let mut parts = Vec::new();
        let mut after = after;
        loop {
            let (pages, place) = self.part_pages(bucket, upload, after).await?;
            let up_to = pages.iter().map(|page| page.up_to).min().unwrap_or(after);
            let numbers: Vec<u16> = pages
                .iter()
                .flat_map(|page| page.rows.keys().copied())
                .filter(|number| *number <= up_to)
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect();
            let judged = stream::iter(numbers)
                .map(|number| self.judge_part(bucket, upload, &place.rule, &pages, number))
                .buffered(READS_AT_ONCE);
            tokio::pin!(judged);
            while let Some(part) = judged.next().await {
                let Some(part) = part? else { continue };
                if parts.len() == limit {
                    return Ok((parts, true));
                }
                parts.push(part);
            }
            if up_to == u16::MAX {
                return Ok((parts, false));
            }
            after = up_to;
        }
    }

    async fn judge_part(
        &self,
        bucket: BucketRef,
        upload: &UploadRef,
        rule: &ringfort_ring::quorum::QuorumRule,
        pages: &[Page],
        number: u16,
    ) -> Result<Option<ListedPart>, ReadError> {
        let mut reader = Reader::new(rule.clone());
        for page in pages {
            let ballot = page
                .rows
                .get(&number)
                .map_or(Ballot::ZERO, |(ballot, _)| *ballot);
            reader.on_answer(page.from, ballot);
        }
        let state = match reader.reading() {
            Reading::Agreed(agreed) => pages
                .iter()
                .filter_map(|page| page.rows.get(&number))
                .find(|(ballot, _)| *ballot == agreed)
                .map(|(_, state)| PartState::decode(state))
                .transpose()
                .map_err(|error| ReadError::Corrupt(error.to_string()))?,
            _ => {
                let row = RowKey::part(bucket.id, upload.key.clone(), upload.upload, number);
                self.read::<PartState>(bucket, &row, false).await?.state
            }
        };
        Ok(state.and_then(|state| {
            let replaced = state.replaced();
            state.part.map(|part| ListedPart {
                number,
                part,
                replaced,
            })
        }))
    }

    async fn part_pages(
        &self,
        bucket: BucketRef,
        upload: &UploadRef,
        after: u16,
    ) -> Result<(Vec<Page>, super::view::Place), ReadError> {
        let row = RowKey::part(bucket.id, upload.key.clone(), upload.upload, after);
        let deadline = Instant::now() + self.inner.options.operation_timeout;
        let mut attempt: u64 = 0;
        loop {
            let place = self
                .view()
                .and_then(|view| view.place_row(bucket, &row))
                .ok_or_else(|| {
                    ReadError::NotEnoughReplicas("the cluster has not formed yet".to_owned())
                })?;
            let targets = place.targets();
            let mut answers = self.fan_out(Lane::Metadata, &targets, |to| {
                let request = ReadPartsRequest {
                    to,
                    partition: place.partition,
                    epoch: place.epoch,
                    generation: bucket.generation,
                    after: row.clone(),
                    limit: ROWS_PER_ANSWER,
                };
                (request, bytes::Bytes::new())
            });
            let mut pages: Vec<Page> = Vec::new();
            let mut heard: HashSet<Replica> = HashSet::new();
            let mut errors = Vec::new();
            let mut is_stale = false;
            let until = Instant::now() + self.inner.options.call_timeout;
            while let Ok(Some((from, reply))) = timeout_at(until, answers.next()).await {
                match reply {
                    Ok((ReadPartsReply::Parts { rows, is_complete }, _)) => {
                        let last = rows.last().map_or(after, |(number, ..)| *number);
                        pages.push(Page {
                            from,
                            up_to: if is_complete { u16::MAX } else { last },
                            rows: rows
                                .into_iter()
                                .map(|(number, ballot, state)| (number, (ballot, state)))
                                .collect(),
                        });
                        heard.insert(from);
                    }
                    Ok((ReadPartsReply::Refused(refusal), _)) => {
                        if refusal.reason == Reason::Generation {
                            return Err(ReadError::BucketChanged);
                        }
                        is_stale = true;
                    }
                    Err(error) => errors.push(error.to_string()),
                }
                if place.rule.holds(|replica| heard.contains(&replica)) {
                    return Ok((pages, place));
                }
            }
            if is_stale {
                self.await_newer_layout(&place.view).await;
            }
            attempt += 1;
            let wait = Duration::from_millis(50 * attempt + self.environment().random_below(50));
            if attempt > 3 || Instant::now() + wait >= deadline {
                return Err(ReadError::NotEnoughReplicas(errors.join("; ")));
            }
            tokio::time::sleep(wait).await;
        }
    }
}
