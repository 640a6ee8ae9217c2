//! Scrub: a node reads everything on its disks back, one disk at a time, and mends what has rotted before anyone asks for
//! it (DESIGN 5).
//!
//! A pass: the segments in the order of their bytes, each rotten record mended as it is found (`mend.rs`); the anchor;
//! the index; then the segments with bytes that are no record any more are emptied and removed. By itself a pass is
//! spread over the time between two passes; how far it is lies on the disk, so that a restart costs a pass nothing.

mod board;
mod mend;

use crate::engine::scrub::{BadPlace, Rotten, ScrubCursor};
use crate::engine::{Engine, EngineError};
use crate::replica::DiskReplica;
use board::{Going, Kept, Next, UnderWay};
use mend::Mending;
use parking_lot::Mutex;
use ringfort_coordinator::Coordinator;
use ringfort_ring::id::DiskId;
use ringfort_wire::environment::Environment;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use board::Board;

/// How a scrub treads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubPace {
    /// From the begin of a disk's pass to the begin of its next. A pass takes about three quarters of it.
    pub every: Duration,
    /// The fewest bytes a second that a pass reads by itself.
    pub bytes_per_s_min: u64,
    /// The most bytes a second that a pass reads, unless more were ordered.
    pub bytes_per_s_max: u64,
    /// Bytes read in one go.
    pub piece_bytes: u64,
    /// What cannot be mended is given up after so long without any progress, until the next pass.
    pub patience: Duration,
}

impl Default for ScrubPace {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            every: Duration::from_secs(14 * 86_400),
            bytes_per_s_min: MIB,
            bytes_per_s_max: 64 * MIB,
            piece_bytes: 4 * MIB,
            patience: Duration::from_secs(60),
        }
    }
}

/// The rate of passes by themselves: so that all of a node's bytes are read in three quarters of the time.
fn own_rate(pace: &ScrubPace, bytes: u64) -> u64 {
    let seconds = pace.every.as_secs().saturating_mul(3) / 4;
    let max = pace.bytes_per_s_max.max(1);
    let min = pace.bytes_per_s_min.clamp(1, max);
    (bytes / seconds.max(1)).clamp(min, max)
}

/// What scrubs work with.
pub(crate) struct Scrubber<'a> {
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) environment: Environment,
    pub(crate) pace: ScrubPace,
    pub(crate) board: &'a Mutex<Board>,
    /// Told of each order.
    pub(crate) ordered: &'a Notify,
}

/// What a disk kept of its passes. Blocks.
pub(crate) fn kept_on(engine: &Engine) -> Kept {
    let kept = engine.read_note();
    let kept = kept.and_then(|bytes| postcard::from_bytes(&bytes).ok());
    kept.unwrap_or_default()
}

impl Scrubber<'_> {
    /// Scrubs for ever.
    pub(crate) async fn run(&self, disks: &[DiskReplica]) {
        /// The wall clock may be set: it is asked again after so long at the latest.
        const LOOK_MS: u64 = 60_000;
        loop {
            let ordered = self.ordered.notified();
            let next = self.board.lock().next(self.environment.now_ms());
            match next {
                Next::Run(id, under_way) => {
                    if let Some(disk) = disks.iter().find(|disk| disk.id() == id) {
                        self.scrub_disk(disk, disks, *under_way).await;
                    }
                }
                Next::Wait(ms) => {
                    // Either is only a reason to look again.
                    let wait = Duration::from_millis(ms.min(LOOK_MS));
                    let _ = tokio::time::timeout(wait, ordered).await;
                }
            }
        }
    }

    fn every_ms(&self) -> u64 {
        u64::try_from(self.pace.every.as_millis()).unwrap_or(u64::MAX)
    }

    /// Begins a pass, or goes on with it, until its end or until something else comes first.
    async fn scrub_disk(&self, disk: &DiskReplica, disks: &[DiskReplica], mut under_way: UnderWay) {
        let id = disk.id();
        let rate = match under_way.bytes_per_s {
            0 if under_way.pass.is_ordered => self.pace.bytes_per_s_max,
            0 => {
                let written = disks.iter().map(|disk| disk.engine().stats());
                let written = written.map(|it| it.live_bytes.saturating_add(it.garbage_bytes));
                own_rate(&self.pace, written.fold(0, u64::saturating_add))
            }
            ordered => ordered,
        };
        let mut pass = Pass {
            scrubber: self,
            disk,
            id,
            rate: rate.max(1),
            mending: Mending::of(std::mem::take(&mut under_way.open)),
            under_way,
        };
        let ended = pass.run().await;
        let mut under_way = pass.under_way;
        under_way.open = pass.mending.into_open();
        if let Some(kept) = self.conclude(id, under_way, ended) {
            self.keep(disk, &kept).await;
        }
    }

    /// Shows how a pass ended; answers what is to be kept of it.
    fn conclude(
        &self,
        id: DiskId,
        mut under_way: UnderWay,
        ended: Result<Going, EngineError>,
    ) -> Option<Kept> {
        let mut board = self.board.lock();
        match ended {
            Ok(Going::GivenUp) => {
                board.give_up(id, &under_way.pass);
                return None;
            }
            Ok(Going::Interrupted) => {
                board.interrupt(id, under_way);
                return None;
            }
            Ok(Going::On) => {
                let counts = under_way.pass.counts;
                tracing::info!(
                    disk = %id,
                    records = counts.records,
                    bytes = counts.bytes,
                    found = counts.found(),
                    mended = counts.mended,
                    "a scrub has read everything"
                );
            }
            Err(error) => {
                tracing::warn!(%error, disk = %id, "a scrub broke off; it is tried again");
                under_way.pass.trouble = Some(error.to_string());
            }
        }
        under_way.pass.ended_ms = self.environment.now_ms();
        Some(board.end(id, under_way.pass, self.every_ms()))
    }

    /// Writes down how far the disk's passes are. What is lost of it costs reading again, no more.
    async fn keep(&self, disk: &DiskReplica, kept: &Kept) {
        let Ok(bytes) = postcard::to_allocvec(kept) else {
            return;
        };
        if let Err(error) = disk.engine().write_note(bytes).await {
            tracing::debug!(%error, disk = %disk.id(), "a scrub's place was not written down");
        }
    }
}

/// A pass of one disk at work.
struct Pass<'a> {
    scrubber: &'a Scrubber<'a>,
    disk: &'a DiskReplica,
    id: DiskId,
    /// Bytes a second.
    rate: u64,
    mending: Mending,
    under_way: UnderWay,
}

impl Pass<'_> {
    fn engine(&self) -> &Engine {
        self.disk.engine()
    }

    fn is_mending(&self) -> bool {
        self.under_way.pass.is_mending
    }

    async fn run(&mut self) -> Result<Going, EngineError> {
        if self.under_way.until == 0 {
            self.under_way.until = self.engine().newest_segment();
            self.under_way.pass.bytes_expected = self.engine().bytes_from(ScrubCursor::default());
        }
        if let Some(why) = self.engine().stats().writes_closed {
            return Err(EngineError::WritesClosed { why });
        }
        let going = self.read_segments().await?;
        if going != Going::On {
            return Ok(going);
        }
        // Records in segments whose file is gone, if there are any.
        let lost = self.engine().live_in(Vec::new()).await?;
        self.found(lost).await?;
        self.check_anchor().await?;
        let doubt = self.read_index().await?;
        if self.is_mending() {
            self.await_mended().await?;
            self.leave_bad_segments().await?;
        }
        if let Some(why) = doubt {
            self.under_way.pass.trouble = Some(if self.is_mending() {
                // Last of all: it closes the disk for writes, and the next start needs whole segments to go by.
                self.engine().doubt_index(&why);
                format!("the index is in doubt and is built anew at the next start: {why}")
            } else {
                format!("the index is rotten: {why}")
            });
        }
        let left = self.under_way.pass.counts.unmended();
        if left > 0 && self.is_mending() && self.under_way.pass.trouble.is_none() {
            self.under_way.pass.trouble =
                Some(format!("{left} rotten places could not be mended yet"));
        }
        Ok(Going::On)
    }

    fn show(&self) {
        let mut board = self.scrubber.board.lock();
        board.show(self.id, &self.under_way.pass);
    }

    /// Waits as long as so many bytes may take.
    async fn pace(&self, bytes: u64) {
        let us = u128::from(bytes).saturating_mul(1_000_000) / u128::from(self.rate);
        let pause = Duration::from_micros(u64::try_from(us).unwrap_or(u64::MAX));
        tokio::time::sleep(pause).await;
    }

    async fn read_segments(&mut self) -> Result<Going, EngineError> {
        /// So many bytes are read again at most after a restart.
        const KEEP_EVERY_BYTES: u64 = 256 << 20;
        let mut read_since_kept = 0_u64;
        let mut bad_places: Vec<BadPlace> = Vec::new();
        let mut cursor = Some(self.under_way.cursor());
        while let Some(at) = cursor {
            let going = self
                .scrubber
                .board
                .lock()
                .going(self.id, &self.under_way.pass);
            // Bad places of a segment are judged together, when it has been read.
            if going == Going::GivenUp || (going == Going::Interrupted && bad_places.is_empty()) {
                return Ok(going);
            }
            let begun = Instant::now();
            let (until, piece_bytes) = (self.under_way.until, self.scrubber.pace.piece_bytes);
            let piece = self.engine().scrub_piece(at, until, piece_bytes).await?;
            self.under_way.pass.counts.records += piece.records;
            self.under_way.pass.counts.bytes += piece.bytes;
            bad_places.extend(piece.bad_places);
            self.found(piece.rotten).await?;
            cursor = piece.next;
            let is_segment_read = cursor.is_none_or(|next| next.segment != at.segment);
            if is_segment_read && !bad_places.is_empty() {
                self.judge(std::mem::take(&mut bad_places)).await?;
            }
            if self.mending.left() > 0 {
                self.mending
                    .settle(self.disk, &mut self.under_way.pass.counts)?;
            }
            if let Some(next) = cursor {
                self.under_way.at = (next.segment, next.offset);
            }
            self.show();
            read_since_kept += piece.bytes;
            if read_since_kept >= KEEP_EVERY_BYTES
                && self.is_quiet(&bad_places)
                && !self.under_way.pass.is_ordered
            {
                read_since_kept = 0;
                let kept = self
                    .scrubber
                    .board
                    .lock()
                    .kept_with(self.id, &self.under_way);
                self.scrubber.keep(self.disk, &kept).await;
            }
            // The reading itself took some of the time that the bytes may take.
            let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            let credit = u128::from(took) * u128::from(self.rate) / 1_000_000;
            let credit = u64::try_from(credit).unwrap_or(u64::MAX);
            self.pace(piece.bytes.saturating_sub(credit)).await;
        }
        Ok(Going::On)
    }

    fn is_quiet(&self, bad_places: &[BadPlace]) -> bool {
        bad_places.is_empty() && self.mending.left() == 0
    }

    /// Bytes of a segment that are no record: what they held is found rotten; what held nothing that counts is counted by
    /// itself, and is well when the segment is gone.
    async fn judge(&mut self, places: Vec<BadPlace>) -> Result<(), EngineError> {
        for place in &places {
            tracing::warn!(
                disk = %self.id,
                segment = place.segment,
                from = place.from,
                to = place.to,
                "bytes of a segment are no record"
            );
        }
        let rotten = self.engine().live_in(places.clone()).await?;
        for place in &places {
            let held_nothing = !rotten.iter().any(|rotten| rotten.lies_in(place));
            self.under_way.pass.counts.bad_places += u64::from(held_nothing);
            self.under_way
                .bad_segments
                .push((place.segment, u64::from(held_nothing)));
        }
        self.found(rotten).await
    }

    /// Takes in what is rotten, and tries to mend it at once.
    async fn found(&mut self, rotten: Vec<Rotten>) -> Result<(), EngineError> {
        let counts = &mut self.under_way.pass.counts;
        let is_news = self.mending.take_in(rotten, counts);
        if is_news && self.is_mending() {
            self.mending
                .run(self.disk, &self.scrubber.coordinator)
                .await?;
        }
        Ok(())
    }

    async fn check_anchor(&mut self) -> Result<(), EngineError> {
        if self.engine().check_anchor(self.is_mending()).await? {
            tracing::warn!(disk = %self.id, "a slot of the anchor is rotten");
            self.under_way.pass.counts.bad_places += 1;
            self.under_way.pass.counts.mended += u64::from(self.is_mending());
        }
        Ok(())
    }

    /// Reads the index; says what is wrong and could not be put right.
    async fn read_index(&mut self) -> Result<Option<String>, EngineError> {
        let mut next = Some(0);
        let mut bad_blocks = 0;
        while let Some(first) = next {
            let piece = self.engine().scrub_index(first).await?;
            bad_blocks += piece.bad_blocks;
            self.under_way.pass.counts.bytes += piece.bytes;
            next = piece.next;
            self.pace(piece.bytes).await;
        }
        let wrong = match bad_blocks {
            0 => self.engine().walk_index().await?,
            // Not walked first: redb gives up on a file after one failed read.
            _ => Some(format!("{bad_blocks} blocks of its file are rotten")),
        };
        let Some(wrong) = wrong else {
            return Ok(None);
        };
        tracing::warn!(disk = %self.id, wrong, "the index is rotten");
        self.under_way.pass.counts.bad_places += bad_blocks.max(1);
        if !self.is_mending() {
            return Ok(Some(wrong));
        }
        match self.engine().renew_index().await {
            Ok(()) => {}
            Err(EngineError::Corrupt { what, .. }) => return Ok(Some(what)),
            Err(error) => return Err(error),
        }
        if let Some(still) = self.engine().walk_index().await? {
            return Ok(Some(still));
        }
        self.under_way.pass.counts.mended += bad_blocks.max(1);
        Ok(None)
    }

    /// Waits until everything found is well again, or nothing has become so for a long while.
    async fn await_mended(&mut self) -> Result<(), EngineError> {
        const LOOK: Duration = Duration::from_millis(250);
        const TRY_AGAIN: Duration = Duration::from_secs(5);
        let (mut last, mut progress, mut tried) =
            (self.mending.left(), Instant::now(), Instant::now());
        loop {
            self.mending
                .settle(self.disk, &mut self.under_way.pass.counts)?;
            self.show();
            let left = self.mending.left();
            if left == 0 {
                return Ok(());
            }
            if left < last {
                (last, progress) = (left, Instant::now());
            }
            if progress.elapsed() >= self.scrubber.pace.patience {
                tracing::error!(disk = %self.id, left, "rotten records could not be mended; the next scrub tries again");
                return Ok(());
            }
            if tried.elapsed() >= TRY_AGAIN {
                self.mending
                    .run(self.disk, &self.scrubber.coordinator)
                    .await?;
                tried = Instant::now();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Empties and removes the segments with bytes that nothing can name, so that no later start meets them.
    async fn leave_bad_segments(&mut self) -> Result<(), EngineError> {
        const PIECE_BYTES: u64 = 16 << 20;
        /// A segment that cannot be emptied is given up after so many pieces in which nothing was done.
        const IDLE_MAX: u32 = 3;
        let counts = self.under_way.pass.counts;
        if counts.found() > 0 {
            // Replay of the log begins behind what was rotten, whatever becomes of the segments.
            self.engine().checkpoint().await?;
        }
        let bad_segments = std::mem::take(&mut self.under_way.bad_segments);
        let numbers: BTreeSet<u64> = bad_segments.iter().map(|(number, _)| *number).collect();
        let numbers: Vec<u64> = numbers.into_iter().collect();
        self.engine().leave_segments(&numbers).await?;
        let mut idle = 0;
        while self.engine().segments_left(&numbers) > 0 && idle < IDLE_MAX {
            let report = self.engine().compact_once(PIECE_BYTES).await?;
            let is_done = report.bytes_copied + report.bytes_freed > 0;
            idle = if is_done { 0 } else { idle + 1 };
            self.show();
            self.pace(report.bytes_copied).await;
        }
        for (number, places) in bad_segments {
            if self.engine().segments_left(&[number]) == 0 {
                self.under_way.pass.counts.mended += places;
            }
        }
        let left = self.engine().segments_left(&numbers);
        if left > 0 {
            self.under_way.pass.trouble =
                Some(format!("{left} damaged segments could not be emptied yet"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_by_itself_is_spread_over_the_time_between_bounds() {
        let pace = ScrubPace::default();
        let mib = 1 << 20;
        assert_eq!(own_rate(&pace, 0), mib);
        let ten_tb = 10_u64 << 40;
        let rate = own_rate(&pace, ten_tb);
        let days = ten_tb / rate / 86_400;
        assert_eq!(days, 10, "{rate} bytes a second");
        assert_eq!(own_rate(&pace, u64::MAX), 64 * mib);
        let hasty = ScrubPace {
            every: Duration::ZERO,
            ..pace
        };
        assert_eq!(own_rate(&hasty, 100), mib);
    }
}
