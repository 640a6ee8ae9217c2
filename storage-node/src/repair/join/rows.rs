//! Copies the rows of a batch: one pass over the old members' rows in key order, side by side; what a majority holds is
//! copied, what is open is settled by an identity round, in which this disk votes.

use super::judge::{Judged, judge};
use super::{Batch, Joiner, PIECE};
use crate::engine::compare::row_order_key;
use futures_util::stream::{self, StreamExt};
use ringfort_coordinator::BucketRef;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::{DiskId, PartitionId};
use ringfort_wire::id::{Payload, RowKey};
use ringfort_wire::message::{FetchRowsRequest, FetchedRow, ScanRowsRequest};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Rows stored at the same time.
const STORED_AT_ONCE: usize = 128;
/// Rows settled at the same time.
const SETTLED_AT_ONCE: usize = 8;

type Order = (bool, Vec<u8>);

/// A pass over one old member's rows.
#[derive(Default)]
struct Cursor {
    queue: VecDeque<(Order, RowKey, PartitionId, Ballot)>,
    after: Option<RowKey>,
    is_done: bool,
    /// Does not answer any more: what it has not shown is not known to be absent.
    has_failed: bool,
    /// Partitions in which it does not vote, or not in this epoch.
    refused: BTreeSet<PartitionId>,
}

/// A row to copy.
struct Wanted {
    key: RowKey,
    partition: PartitionId,
    ballot: Ballot,
    holders: Vec<DiskId>,
}

impl Joiner {
    /// Copies the rows; partitions in which that was not possible are failed.
    pub(super) async fn copy_rows(&self, batch: &mut Batch<'_>) {
        let mut cursors: BTreeMap<DiskId, Cursor> = batch
            .sources
            .keys()
            .map(|disk| (*disk, Cursor::default()))
            .collect();
        let mut wanted = Vec::new();
        let mut open = Vec::new();
        loop {
            self.fill(batch, &mut cursors).await;
            let fronts = cursors
                .values()
                .filter_map(|cursor| cursor.queue.front().map(|(order, ..)| order));
            let Some(order) = fronts.min().cloned() else {
                break;
            };
            consider(batch, &mut cursors, &order, &mut wanted, &mut open);
            if wanted.len() >= FetchRowsRequest::MAX {
                self.copy(batch, std::mem::take(&mut wanted), &mut open)
                    .await;
            }
            if open.len() >= FetchRowsRequest::MAX {
                self.settle(batch, std::mem::take(&mut open)).await;
            }
        }
        self.copy(batch, wanted, &mut open).await;
        self.settle(batch, open).await;
        let answered: BTreeSet<_> = cursors
            .iter()
            .filter(|(_, cursor)| !cursor.has_failed)
            .flat_map(|(disk, cursor)| {
                let held = batch
                    .sources
                    .get(disk)
                    .into_iter()
                    .flat_map(|one| one.of.keys());
                held.filter(|partition| !cursor.refused.contains(partition))
                    .map(|partition| (*partition, *disk))
            })
            .collect();
        batch.require_majority(&answered, "shows its rows to the end");
    }

    /// Brings the next rows of every cursor that has run out.
    async fn fill(&self, batch: &Batch<'_>, cursors: &mut BTreeMap<DiskId, Cursor>) {
        for (disk, cursor) in cursors {
            let Some(source) = batch.sources.get(disk) else {
                continue;
            };
            while cursor.queue.is_empty() && !cursor.is_done && !cursor.has_failed {
                let wanted = batch.leaf_sets(source);
                if wanted.is_empty() {
                    cursor.is_done = true;
                    break;
                }
                let partitions: Vec<_> = wanted.iter().map(|set| set.partition).collect();
                let request = ScanRowsRequest {
                    wanted,
                    after: cursor.after.clone(),
                    limit: PIECE,
                };
                let Ok((reply, _)) = self.ask(source.node, request).await else {
                    cursor.has_failed = true;
                    break;
                };
                let refused = reply.refused.into_iter().filter_map(|at| {
                    let at = usize::try_from(at).ok()?;
                    partitions.get(at).copied()
                });
                cursor.refused.extend(refused);
                cursor.queue.extend(
                    reply.rows.into_iter().map(|(key, partition, ballot)| {
                        (row_order_key(&key), key, partition, ballot)
                    }),
                );
                cursor.is_done = reply.examined.is_none();
                cursor.after = reply.examined;
            }
        }
    }

    /// Fetches rows from those that hold them. One that cannot be had at its ballot is open: it has moved on, perhaps by
    /// a write that is not chosen, and leaving it out would lose the one that is.
    async fn copy(
        &self,
        batch: &mut Batch<'_>,
        wanted: Vec<Wanted>,
        open: &mut Vec<(RowKey, PartitionId)>,
    ) {
        let mut of_holder: BTreeMap<DiskId, VecDeque<Wanted>> = BTreeMap::new();
        for (turn, row) in wanted.into_iter().enumerate() {
            if batch.failed.contains_key(&row.partition) {
                continue;
            }
            match row.holders.get(turn % row.holders.len().max(1)) {
                Some(holder) => of_holder.entry(*holder).or_default().push_back(row),
                None => open.push((row.key, row.partition)),
            }
        }
        for (holder, mut rows) in of_holder {
            while !rows.is_empty() {
                let reached = self.copy_some(batch, holder, &mut rows, open).await;
                if reached == 0 {
                    open.extend(rows.drain(..).map(|row| (row.key, row.partition)));
                }
            }
        }
    }

    /// One request's worth of a holder's rows; how many it reached.
    async fn copy_some(
        &self,
        batch: &mut Batch<'_>,
        holder: DiskId,
        rows: &mut VecDeque<Wanted>,
        open: &mut Vec<(RowKey, PartitionId)>,
    ) -> usize {
        let Some(source) = batch.sources.get(&holder) else {
            return 0;
        };
        let asked = rows.iter().take(FetchRowsRequest::MAX).filter_map(|row| {
            let learning = batch.learning.get(&row.partition)?;
            let to = *source.of.get(&row.partition)?;
            Some((to, row.partition, learning.epoch, row.key.clone()))
        });
        let request = FetchRowsRequest {
            rows: asked.collect(),
        };
        let count = request.rows.len();
        let Ok((reply, mut bodies)) = self.ask(source.node, request).await else {
            return 0;
        };
        let reached = reply.rows.len().min(count);
        let mut taken = Vec::with_capacity(reached);
        for (row, fetched) in rows.drain(..reached).zip(reply.rows) {
            let whole = fetched.and_then(|fetched| {
                let len = usize::try_from(fetched.body_len).ok()?;
                let body = (len <= bodies.len()).then(|| bodies.split_to(len))?;
                Some((fetched, body))
            });
            match whole.filter(|(fetched, _)| fetched.accepted == row.ballot) {
                None => open.push((row.key, row.partition)),
                Some((fetched, body)) => taken.push((row, fetched, body)),
            }
        }
        self.store(batch, taken).await;
        reached
    }

    /// Stores copies, many at a time: they share their syncs.
    async fn store(&self, batch: &mut Batch<'_>, rows: Vec<(Wanted, FetchedRow, Payload)>) {
        let copying = &*batch;
        let stored = stream::iter(rows)
            .map(|(row, fetched, body)| async move {
                let bytes = fetched.state.len() + body.len();
                let stored = match copying.learning.get(&row.partition) {
                    Some(learning) => {
                        copying
                            .disk
                            .copy_row(learning, row.key, fetched, body)
                            .await
                    }
                    None => Ok(()),
                };
                (row.partition, bytes, stored)
            })
            .buffer_unordered(STORED_AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        let mut spent = 0;
        for (partition, bytes, stored) in stored {
            match stored {
                Err(error) => batch.fail(partition, error.to_string()),
                Ok(()) => {
                    spent += bytes;
                    let mut totals = self.totals.lock();
                    totals.rows += 1;
                    totals.bytes += u64::try_from(bytes).unwrap_or(0);
                }
            }
        }
        batch.spending.spend(spent).await;
    }

    /// Makes open rows chosen, in the epoch of the move: by majorities of both sets, so that the new one has them.
    async fn settle(&self, batch: &mut Batch<'_>, open: Vec<(RowKey, PartitionId)>) {
        let under_way = open
            .into_iter()
            .filter(|(_, partition)| !batch.failed.contains_key(partition));
        let disk = batch.disk;
        let ended = stream::iter(under_way)
            .map(|(row, partition)| async move {
                let held = disk.generation_of(row.bucket);
                let bucket = BucketRef::of_row(row.bucket, held, partition);
                let mended = self.coordinator.mend_row(bucket, &row).await;
                (partition, mended)
            })
            .buffer_unordered(SETTLED_AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        for (partition, mended) in ended {
            match mended {
                Ok(()) => self.totals.lock().settled += 1,
                Err(error) => batch.fail(partition, error.to_string()),
            }
        }
    }
}

/// Takes the row at the front of the cursors, and judges it by all of them.
fn consider(
    batch: &mut Batch<'_>,
    cursors: &mut BTreeMap<DiskId, Cursor>,
    order: &Order,
    wanted: &mut Vec<Wanted>,
    open: &mut Vec<(RowKey, PartitionId)>,
) {
    let mut shown: BTreeMap<DiskId, Ballot> = BTreeMap::new();
    let mut row = None;
    for (disk, cursor) in cursors.iter_mut() {
        if let Some((_, key, partition, ballot)) = cursor.queue.pop_front_if(|it| it.0 == *order) {
            shown.insert(*disk, ballot);
            row = Some((key, partition));
        }
    }
    let Some((key, partition)) = row else { return };
    if batch.failed.contains_key(&partition) {
        return;
    }
    let Some(learning) = batch.learning.get(&partition) else {
        return;
    };
    // Every cursor stands at this row or behind it: who has not shown it does not hold it.
    let answers: Vec<(DiskId, Ballot)> = learning
        .old
        .iter()
        .filter_map(|old| {
            let cursor = cursors.get(&old.disk)?;
            let counts = !cursor.has_failed && !cursor.refused.contains(&partition);
            let ballot = shown.get(&old.disk).copied().unwrap_or(Ballot::ZERO);
            counts.then_some((old.disk, ballot))
        })
        .collect();
    match judge(
        learning.old.len(),
        answers.iter().map(|(_, ballot)| *ballot),
    ) {
        Judged::TooFew => batch.fail(partition, "no majority of its holders shows its rows"),
        Judged::Open => open.push((key, partition)),
        Judged::Chosen(ballot) => match batch.disk.holds_row(&key, ballot) {
            Ok(true) => {}
            Ok(false) => wanted.push(Wanted {
                key,
                partition,
                ballot,
                holders: answers
                    .into_iter()
                    .filter(|(_, held)| *held == ballot)
                    .map(|(disk, _)| disk)
                    .collect(),
            }),
            Err(error) => batch.fail(partition, error.to_string()),
        },
    }
}
