//! Prepare, Accept and Read of one register on one disk.

use super::slots::Fate;
use super::{DiskReplica, node_error};
use crate::engine::{EngineError, Mutation, StoredRow};
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::PartitionId;
use ringfort_ring::register::acceptor::{self, Accepting};
use ringfort_wire::error::{NodeError, NodeErrorCode};
use ringfort_wire::id::{Payload, RowKey};
use ringfort_wire::message::{
    AcceptReply, AcceptRequest, PrepareReply, PrepareRequest, ReadReply, ReadRequest,
};
use std::time::Duration;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::watch;

/// How long a competing Prepare is held while a promise awaits its Accept, in milliseconds: about as long as an
/// Accept takes. It keeps two proposers from killing each other's rounds for ever.
const HOLD_MS: u64 = 20;

impl DiskReplica {
    /// Promises a ballot, and shows what is durably accepted.
    pub(crate) async fn prepare(&self, request: PrepareRequest) -> Result<PrepareReply, NodeError> {
        let key = &request.key;
        let claim = &request.claim;
        self.adopt_generation(key.bucket, claim.generation).await?;
        let mut may_hold = true;
        loop {
            self.inner.members.settled(request.partition).await?;
            // A disk that is closed for writes promises nothing: an Accept whose sync failed may still be found by the
            // next start, and a promise given in between would have hidden it.
            let open = self.inner.engine.reserve(0).await;
            drop(open.map_err(node_error)?);
            let now_ms = self.inner.environment.now_ms();
            let wait = {
                let mut shard = self.inner.slots.lock(key);
                // Held until the promise is given: none is given in an epoch that is over.
                let seats = self.inner.members.seats();
                let guard = self.guard_in(&seats, request.to, request.partition, key.bucket)?;
                let row = self.inner.engine.row(key).map_err(node_error)?;
                let durable = row.as_ref().map_or(Ballot::ZERO, |row| row.ballot);
                let slot = shard.slot(key, durable);
                if let Err(refusal) = acceptor::prepare(&slot, &guard, claim) {
                    return Ok(PrepareReply::Refused(refusal));
                }
                if let Some(fate) = shard.pending(key) {
                    // What is accepted is shown once it is durable: never hidden, never shown too early.
                    Wait::Fate(fate)
                } else if let Some((changed, left_ms)) = may_hold
                    .then(|| shard.awaited(key, durable, now_ms, HOLD_MS))
                    .flatten()
                {
                    Wait::Accept(changed, left_ms)
                } else if !self.inner.horizon.covers(claim.ballot.time, now_ms) {
                    Wait::Horizon
                } else {
                    shard.promise(key, claim.ballot, now_ms);
                    return Ok(PrepareReply::Promised {
                        accepted: durable,
                        state: row.map(|row| row.state),
                        floor: guard.floor,
                        is_full: self.inner.engine.is_full(),
                    });
                }
            };
            match wait {
                Wait::Fate(mut fate) => {
                    // The sender goes away without a word only when the process ends: looking again would spin.
                    if fate.wait_for(Option::is_some).await.is_err() {
                        return Err(unavailable());
                    }
                }
                Wait::Accept(changed, left_ms) => {
                    let hold = Duration::from_millis(left_ms);
                    may_hold = tokio::time::timeout(hold, changed).await.is_ok();
                }
                Wait::Horizon => self
                    .inner
                    .horizon
                    .cover(claim.ballot.time, now_ms)
                    .await
                    .map_err(node_error)?,
            }
        }
    }

    /// Accepts a value: acknowledged when it is fsynced.
    pub(crate) async fn accept(
        &self,
        request: AcceptRequest,
        body: Payload,
    ) -> Result<AcceptReply, NodeError> {
        let AcceptRequest {
            to,
            partition,
            key,
            claim,
            state,
        } = request;
        self.adopt_generation(key.bucket, claim.generation).await?;
        // An identity round or a replay is repair, and goes on.
        if claim.born.is_some()
            && AcceptRequest::takes_room(&key, state.len(), body.len())
            && self.inner.engine.is_full()
        {
            return Err(node_error(EngineError::Full));
        }
        // Before the lock: while the disk stalls, what its senders give up must not pile up in the queue.
        let bytes = u32::try_from(state.len().saturating_add(body.len())).unwrap_or(u32::MAX);
        let room = self.inner.engine.reserve_row(bytes).await;
        let room = room.map_err(node_error)?;
        self.inner.members.settled(partition).await?;
        let mut fate = {
            let mut shard = self.inner.slots.lock(&key);
            // Held, like the generation below, until the record has its place in the log.
            let seats = self.inner.members.seats();
            let mut guard = self.guard_in(&seats, to, partition, key.bucket)?;
            let row = self.inner.engine.row(&key).map_err(node_error)?;
            let durable = row.map_or(Ballot::ZERO, |row| row.ballot);
            let slot = shard.slot(&key, durable);
            // Held until the record has its place in the log: no generation rises in between.
            let admission = self.inner.generations.admission();
            guard.generation = admission.held(&self.inner.engine, key.bucket);
            match acceptor::accept(&slot, &guard, &claim) {
                Err(refusal) => return Ok(AcceptReply::Refused(refusal)),
                Ok(Accepting::AlreadyDurable) => return Ok(AcceptReply::Accepted),
                Ok(Accepting::AlreadyQueued) => match shard.pending(&key) {
                    Some(fate) => fate,
                    // Decided between two looks at the same lock: not possible, but no reason to guess.
                    None => return Err(unavailable()),
                },
                Ok(Accepting::Append) => {
                    // A body beside the state is the whole body: there are no chunks to look for.
                    let is_inline = !body.is_empty();
                    let commit = self.inner.engine.submit(Mutation::Row {
                        partition,
                        epoch: claim.epoch,
                        key: key.clone(),
                        ballot: claim.ballot,
                        state: state.clone(),
                        body,
                    });
                    let (sender, fate) = watch::channel(None);
                    shard.accepting(&key, claim.ballot, guard.now_ms, fate.clone());
                    // A task of its own: the caller may go away, the record goes its way.
                    let replica = self.clone();
                    tokio::spawn(async move {
                        let done = commit.await;
                        drop(room);
                        let chunks_in = (!is_inline).then_some(&state[..]);
                        replica.decided((partition, &key), claim.ballot, chunks_in, done, &sender);
                    });
                    fate
                }
            }
        };
        let done = fate.wait_for(Option::is_some).await;
        match done.ok().and_then(|fate| fate.clone()) {
            Some(Ok(())) => Ok(AcceptReply::Accepted),
            Some(Err(error)) => Err(node_error(error)),
            None => Err(unavailable()),
        }
    }

    fn decided(
        &self,
        (partition, key): (PartitionId, &RowKey),
        ballot: Ballot,
        chunks_in: Option<&[u8]>,
        done: Result<(), EngineError>,
        sender: &watch::Sender<Fate>,
    ) {
        let durable = match &done {
            Ok(()) => ballot,
            Err(_) => Ballot::ZERO,
        };
        self.inner.slots.lock(key).decided(key, ballot, durable);
        let is_done = done.is_ok();
        sender.send_replace(Some(done));
        if is_done && let Some(state) = chunks_in {
            self.note_chunks(partition, key, state);
        }
    }

    /// Shows what is durably accepted.
    pub(crate) async fn read(
        &self,
        request: ReadRequest,
    ) -> Result<(ReadReply, Payload), NodeError> {
        let key = &request.key;
        self.adopt_generation(key.bucket, request.generation)
            .await?;
        // A compaction may move the body between the look and the read: then look again.
        self.inner.members.settled(request.partition).await?;
        for _ in 0..3 {
            let guard = self.guard(request.to, request.partition, key.bucket)?;
            let row = self.inner.engine.row(key).map_err(node_error)?;
            let durable = row.as_ref().map_or(Ballot::ZERO, |row| row.ballot);
            let slot = acceptor::Slot {
                promised: durable,
                accepted: durable,
                durable,
            };
            if let Err(refusal) = acceptor::admit(&slot, &guard, request.epoch, request.generation)
            {
                return Ok((ReadReply::Refused(refusal), Payload::new()));
            }
            let Some(row) = row else {
                let empty = ReadReply::Row {
                    accepted: Ballot::ZERO,
                    state: None,
                };
                return Ok((empty, Payload::new()));
            };
            let body = if request.wants_body {
                self.body(&row).await
            } else {
                Ok(Payload::new())
            };
            match body {
                Ok(body) => {
                    let reply = ReadReply::Row {
                        accepted: row.ballot,
                        state: Some(row.state),
                    };
                    return Ok((reply, body));
                }
                Err(error @ EngineError::Corrupt { .. }) => {
                    // The row itself is good and counts; who wants the body sees that its length is not the state's.
                    tracing::error!(%error, "an inline body is rotten; another replica's is read");
                    let reply = ReadReply::Row {
                        accepted: row.ballot,
                        state: Some(row.state),
                    };
                    return Ok((reply, Payload::new()));
                }
                Err(_) => {}
            }
        }
        Err(unavailable())
    }

    async fn body(&self, row: &StoredRow) -> Result<Payload, EngineError> {
        self.inner.engine.body(row).await
    }
}

enum Wait {
    Fate(watch::Receiver<Fate>),
    Accept(OwnedNotified, u64),
    Horizon,
}

fn unavailable() -> NodeError {
    NodeError::new(NodeErrorCode::Unavailable, "the disk is stopping")
}
