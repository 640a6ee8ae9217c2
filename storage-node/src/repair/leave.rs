//! What a disk lets go when its partitions are others' for good: first its identity there, durably, then rows and chunks.
//!
//! A row becomes `Stable` without this disk only when whoever took its place has synced, chunks and all; so nothing here
//! is the last copy. Readers under way by the old layout get some time.

use crate::engine::EngineError;
use crate::replica::DiskReplica;
use ringfort_ring::id::PartitionId;
use ringfort_ring::layout::Layout;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long readers by an older layout keep finding what a disk held.
pub(crate) const LEAVE_GRACE: Duration = Duration::from_secs(30);

/// Remembers since when partitions are left.
pub(crate) struct Leaver {
    grace: Duration,
    since: BTreeMap<PartitionId, Instant>,
}

impl Leaver {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            since: BTreeMap::new(),
        }
    }

    /// Lets go what was left long enough ago: rows and chunks that went.
    ///
    /// # Errors
    /// The engine's; what is left over goes the next time.
    pub(crate) async fn leave(
        &mut self,
        disk: &DiskReplica,
        layout: &Layout,
    ) -> Result<(u64, u64), EngineError> {
        let now = Instant::now();
        let left = disk.left_behind(layout);
        self.since
            .retain(|partition, _| left.iter().any(|(one, _)| one == partition));
        let mut due = Vec::new();
        for (partition, facts) in left {
            let since = *self.since.entry(partition).or_insert(now);
            if now.duration_since(since) >= self.grace {
                due.push((partition, facts));
            }
        }
        if due.is_empty() {
            return Ok((0, 0));
        }
        disk.end_identities(&due).await?;
        let partitions: Vec<_> = due.iter().map(|(partition, _)| *partition).collect();
        let rows = disk.discard_rows(&partitions).await?;
        let chunks = disk.discard_chunks(&partitions).await?;
        Ok((rows, chunks))
    }
}
