//! The durable rows of an upload's parts on one disk.

use super::{DiskReplica, node_error};
use ringfort_ring::register::acceptor::{self, Slot};
use ringfort_wire::error::{NodeError, NodeErrorCode};
use ringfort_wire::message::{ReadPartsReply, ReadPartsRequest};

/// The most rows of one answer.
const ROWS_MAX: usize = 1_000;
/// The most bytes of states in one answer: it must fit a frame.
const BYTES_MAX: usize = 2 * 1024 * 1024;

impl DiskReplica {
    pub(crate) async fn read_parts(
        &self,
        request: ReadPartsRequest,
    ) -> Result<ReadPartsReply, NodeError> {
        let bucket = request.after.bucket;
        self.adopt_generation(bucket, request.generation).await?;
        self.inner.members.settled(request.partition).await?;
        let guard = self.guard(request.to, request.partition, bucket)?;
        if let Err(refusal) =
            acceptor::admit(&Slot::default(), &guard, request.epoch, request.generation)
        {
            return Ok(ReadPartsReply::Refused(refusal));
        }
        let part = request
            .after
            .part
            .ok_or_else(|| NodeError::new(NodeErrorCode::Malformed, "no upload is named"))?;
        let limit = usize::try_from(request.limit)
            .unwrap_or(ROWS_MAX)
            .clamp(1, ROWS_MAX);
        let (engine, key) = (self.inner.engine.clone(), request.after.key.clone());
        let scan = tokio::task::spawn_blocking(move || {
            engine.scan_parts(bucket, &key, part.upload, part.number, limit)
        });
        let found = scan
            .await
            .map_err(|error| NodeError::new(NodeErrorCode::Unavailable, error.to_string()))?
            .map_err(node_error)?;
        let mut is_complete = found.len() < limit;
        let mut rows = Vec::new();
        let mut bytes = 0;
        for (number, row) in found {
            bytes += row.state.len();
            // Always at least one, so that the asker moves on.
            if bytes > BYTES_MAX && !rows.is_empty() {
                is_complete = false;
                break;
            }
            rows.push((number, row.ballot, row.state));
        }
        Ok(ReadPartsReply::Parts { rows, is_complete })
    }
}
