//! In which partitions this disk sits, as which replica, in which epoch, and whether it votes there.
//!
//! An epoch is durable before anything is answered in it, and nothing is ever answered in an older one (DESIGN 4.11).
//! While a newer epoch is on its way to disk the seat is closed: its record stands in the log behind all that was
//! admitted before, so that whoever is answered in the new epoch is shown all of that, durable. A sync that read
//! beside a queued Accept of the old epoch would lose it.

use crate::engine::{Commit, Engine, EngineError, Mutation, PartitionFacts};
use parking_lot::{RwLock, RwLockReadGuard};
use ringfort_ring::id::{DiskId, Epoch, PartitionId};
use ringfort_ring::layout::{Layout, Members as RowMembers};
use ringfort_ring::quorum::Replica;
use ringfort_wire::error::{NodeError, NodeErrorCode};
use ringfort_wire::message::SyncStatusReply;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::{Mutex, Notify};

/// How long a request waits for a newer epoch to be durable: some syncs.
const OPENS_WITHIN: Duration = Duration::from_secs(2);

/// The epoch at which the members of the first layout joined: they alone begin empty by right.
const FIRST: Epoch = Epoch(1);

#[derive(Default)]
pub(super) struct Members {
    seats: RwLock<HashMap<PartitionId, Seat>>,
    partition_count: RwLock<Option<u32>>,
    /// Told when closed seats have opened.
    opened: Notify,
    /// One layout is taken in at a time.
    adopting: Mutex<()>,
}

/// This disk's place in a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seat {
    epoch: Epoch,
    replica: Replica,
    standing: Standing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Votes,
    /// A newer epoch is on its way to disk.
    Closed,
    /// A new member that has not adopted floor, promise, bound and generations of the old ones yet.
    New,
}

/// Held across a decision and its record's place in the log: no epoch changes in between.
pub(super) struct Seats<'a>(RwLockReadGuard<'a, HashMap<PartitionId, Seat>>);

impl Seats<'_> {
    /// The epoch that the named replica answers in.
    pub(super) fn epoch_of(&self, to: Replica, partition: PartitionId) -> Result<Epoch, NodeError> {
        let not_member = |why: &str| {
            Err(NodeError::new(
                NodeErrorCode::NotMember,
                format!("partition {partition}: {why}"),
            ))
        };
        match self.0.get(&partition).filter(|seat| seat.replica == to) {
            None => not_member("not a member by that identity"),
            Some(seat) => match seat.standing {
                Standing::Votes => Ok(seat.epoch),
                Standing::New => not_member("a new member that has not adopted its promises yet"),
                Standing::Closed => Err(NodeError::new(
                    NodeErrorCode::Unavailable,
                    format!("partition {partition}: a newer layout is being taken in"),
                )),
            },
        }
    }
}

impl Members {
    /// Takes a layout in: closes the seats whose epoch rises, makes the epochs durable, opens them. A layout older than
    /// what a partition has answered in changes nothing there.
    pub(super) async fn adopt(&self, engine: &Engine, layout: &Layout) -> Result<(), EngineError> {
        let _one_at_a_time = self.adopting.lock().await;
        let disk = engine.disk_id();
        let mut next = HashMap::new();
        let mut rising = Vec::new();
        for number in 0..layout.partition_count() {
            let partition = PartitionId(number);
            let Some(row) = layout.row(partition) else {
                continue;
            };
            let facts = engine.partition(partition);
            let replica = identity_in(layout, partition, disk);
            if facts.epoch > row.epoch || (replica.is_none() && facts.joined == Epoch(0)) {
                continue;
            }
            if facts.epoch < row.epoch {
                rising.push((partition, row.epoch));
            }
            if let Some(replica) = replica
                && let Some(standing) = standing(&facts, replica)
            {
                let seat = Seat {
                    epoch: row.epoch,
                    replica,
                    standing,
                };
                next.insert(partition, seat);
            }
        }
        self.close(&next);
        for commit in records(engine, &rising, &next) {
            commit.await?;
        }
        {
            let mut seats = self.seats.write();
            for (partition, seat) in &mut next {
                // It may have adopted while the epochs were on their way to disk, and nobody would open it again.
                let has_joined = || engine.partition(*partition).joined == seat.replica.joined;
                if seat.standing == Standing::New && has_joined() {
                    seat.standing = Standing::Votes;
                }
            }
            *seats = next;
        }
        *self.partition_count.write() = Some(layout.partition_count());
        self.opened.notify_waiters();
        Ok(())
    }

    /// Closes every seat that is not to stay as it is.
    fn close(&self, next: &HashMap<PartitionId, Seat>) {
        for (partition, seat) in self.seats.write().iter_mut() {
            let stays = next
                .get(partition)
                .is_some_and(|next| next.epoch == seat.epoch && next.replica == seat.replica);
            if !stays {
                seat.standing = Standing::Closed;
            }
        }
    }

    /// This new member has adopted what it must, durably: from now on it votes.
    pub(super) fn open(&self, partition: PartitionId, epoch: Epoch, replica: Replica) -> bool {
        let mut seats = self.seats.write();
        let seat = seats.get_mut(&partition);
        let seat = seat.filter(|seat| seat.epoch == epoch && seat.replica == replica);
        match seat {
            Some(seat) if seat.standing == Standing::New => {
                seat.standing = Standing::Votes;
                true
            }
            Some(seat) => seat.standing == Standing::Votes,
            None => false,
        }
    }

    /// Waits until the partition's seat is not closed.
    ///
    /// # Errors
    /// `Unavailable` where its epoch does not become durable.
    pub(super) async fn settled(&self, partition: PartitionId) -> Result<(), NodeError> {
        if !self.is_closed(partition) {
            return Ok(());
        }
        let opens = async {
            loop {
                // Listening before looking: it may open in between.
                let mut opened = std::pin::pin!(self.opened.notified());
                opened.as_mut().enable();
                if !self.is_closed(partition) {
                    return;
                }
                opened.await;
            }
        };
        tokio::time::timeout(OPENS_WITHIN, opens)
            .await
            .map_err(|_| {
                NodeError::new(
                    NodeErrorCode::Unavailable,
                    format!("partition {partition}: a newer layout is not durable yet"),
                )
            })
    }

    fn is_closed(&self, partition: PartitionId) -> bool {
        let seats = self.seats.read();
        let seat = seats.get(&partition);
        seat.is_some_and(|seat| seat.standing == Standing::Closed)
    }

    /// The seats, held still.
    pub(super) fn seats(&self) -> Seats<'_> {
        Seats(self.seats.read())
    }

    /// P; `None` before a layout is known.
    pub(super) fn partition_count(&self) -> Option<u32> {
        *self.partition_count.read()
    }

    pub(super) fn is_member(&self) -> bool {
        !self.seats.read().is_empty()
    }

    /// The epoch that the named replica answers in.
    pub(super) fn epoch_of(&self, to: Replica, partition: PartitionId) -> Result<Epoch, NodeError> {
        self.seats().epoch_of(to, partition)
    }

    /// The epoch and identity by which this disk sits in a partition, voting or new; `None` where it does not, or while
    /// the seat is closed.
    pub(super) fn seat_in(&self, partition: PartitionId) -> Option<(Epoch, Replica)> {
        let seats = self.seats.read();
        let seat = seats.get(&partition)?;
        (seat.standing != Standing::Closed).then_some((seat.epoch, seat.replica))
    }

    /// This disk's identity in a partition, if it is a member.
    pub(super) fn replica_in(&self, partition: PartitionId) -> Option<Replica> {
        let seats = self.seats.read();
        seats.get(&partition).map(|seat| seat.replica)
    }

    /// Adds this disk's partitions that move and where it must sync: those in which it durably has, and those in which
    /// it has not; and those in which its identity is over. Asked each second: what does not move and is whole costs one
    /// look.
    pub(super) fn sync_status(engine: &Engine, layout: &Layout, reply: &mut SyncStatusReply) {
        let disk = engine.disk_id();
        let at = layout.disks.iter().position(|entry| entry.id == disk);
        let Some(at) = at.and_then(|at| u16::try_from(at).ok()) else {
            return;
        };
        for (number, row) in (0_u32..).zip(&layout.rows) {
            let partition = PartitionId(number);
            let Some(joined) = joined_at(&row.members, at) else {
                continue;
            };
            let is_over = engine
                .lost_up_to(partition)
                .is_some_and(|lost| lost >= joined);
            if is_over {
                reply.lost.push((disk, partition, joined));
            }
            let replica = Replica { disk, joined };
            if matches!(row.members, RowMembers::Stable(_))
                || !layout.syncing_members(partition).contains(&replica)
            {
                continue;
            }
            let facts = engine.partition(partition);
            let has_synced = facts.joined == joined && !is_over && facts.synced == row.epoch;
            let list = if has_synced {
                &mut reply.synced
            } else {
                &mut reply.learning
            };
            list.push((disk, partition, row.epoch));
        }
    }
}

/// The epoch at which a disk, by its index, joined a row by its newest identity there.
fn joined_at(members: &RowMembers, disk: u16) -> Option<Epoch> {
    let sets: [&[ringfort_ring::layout::Member]; 2] = match members {
        RowMembers::Stable(members) => [members, &[]],
        RowMembers::Joint { old, new } => [old, new],
    };
    let own = sets
        .into_iter()
        .flatten()
        .filter(|member| member.disk == disk);
    own.map(|member| member.joined).max()
}

/// The newest identity by which a disk stands in a row. While it rejoins a partition in which it has lost state, the
/// old one stands beside it and is over.
fn identity_in(layout: &Layout, partition: PartitionId, disk: DiskId) -> Option<Replica> {
    let members = layout.rule(partition)?.members();
    let own = members.into_iter().filter(|one| one.disk == disk);
    own.max_by_key(|one| one.joined)
}

/// How a disk with these facts sits as that replica; `None`: not at all, for it was a later one already.
fn standing(facts: &PartitionFacts, replica: Replica) -> Option<Standing> {
    match facts.joined.cmp(&replica.joined) {
        std::cmp::Ordering::Equal => Some(Standing::Votes),
        std::cmp::Ordering::Less if replica.joined == FIRST => Some(Standing::Votes),
        std::cmp::Ordering::Less => Some(Standing::New),
        std::cmp::Ordering::Greater => None,
    }
}

/// The records that make rising epochs, and the first layout's identities, durable.
fn records(
    engine: &Engine,
    rising: &[(PartitionId, Epoch)],
    next: &HashMap<PartitionId, Seat>,
) -> Vec<Commit> {
    let mut commits = Vec::new();
    for (partition, epoch) in rising {
        commits.push(engine.submit(Mutation::Epoch {
            partition: *partition,
            epoch: *epoch,
        }));
    }
    for (partition, seat) in next {
        let is_first = seat.replica.joined == FIRST && seat.standing == Standing::Votes;
        if is_first && engine.partition(*partition).joined < FIRST {
            commits.push(engine.submit(Mutation::Joined {
                partition: *partition,
                epoch: FIRST,
            }));
        }
    }
    commits
}
