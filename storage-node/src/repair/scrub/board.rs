//! Which disk is scrubbed next, and what is known of the passes. Pure: time comes in.
//!
//! Orders come before passes that are due, and a pass that is due gives way to another disk's order and goes on later.
//! What a disk must not forget over a restart ([`Kept`]) lies on the disk itself.

use crate::engine::scrub::{Rotten, ScrubCursor};
use ringfort_ring::id::DiskId;
use ringfort_wire::message::{DiskScrub, ScrubCounts, ScrubPass};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// After a pass that broke off, the next is tried so soon, in milliseconds.
const AGAIN_MS: u64 = 3_600_000;

/// A pass somewhere in its segments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnderWay {
    pub(crate) pass: ScrubPass,
    /// Where it goes on: segment and offset.
    pub(crate) at: (u64, u64),
    /// The last segment that belongs to it.
    pub(crate) until: u64,
    /// At most so many bytes a second; 0: by the node's own rule.
    pub(crate) bytes_per_s: u64,
    /// Segments that are to be left, with the number of places in each that held nothing which counts.
    pub(crate) bad_segments: Vec<(u64, u64)>,
    /// What was found and is not mended yet. A restart forgets it, so the place is not written down while there is any.
    #[serde(skip)]
    pub(crate) open: Vec<Rotten>,
}

impl UnderWay {
    pub(crate) fn cursor(&self) -> ScrubCursor {
        ScrubCursor {
            segment: self.at.0,
            offset: self.at.1,
        }
    }
}

/// What is kept on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The number of the last pass begun or ordered.
    pub(crate) number: u64,
    pub(crate) last: Option<ScrubPass>,
    /// A pass by itself that was interrupted.
    pub(crate) interrupted: Option<UnderWay>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    number: u64,
    bytes_per_s: u64,
    is_mending: bool,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    kept: Kept,
    order: Option<Order>,
    current: Option<ScrubPass>,
    /// Of passes that have ended since the start, or were given up.
    ended: ScrubCounts,
    next_ms: u64,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Begin this pass, or go on with it.
    Run(DiskId, Box<UnderWay>),
    /// Nothing, for so many milliseconds.
    Wait(u64),
}

/// Whether a pass goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Going {
    On,
    /// Another disk's order comes first; it is kept, and goes on behind that.
    Interrupted,
    /// A newer order for the same disk takes its place.
    GivenUp,
}

/// The board.
#[derive(Debug, Default)]
pub(crate) struct Board {
    disks: BTreeMap<DiskId, Entry>,
}

impl Board {
    /// Takes up what a disk kept; before anything else of that disk.
    pub(crate) fn take_up(&mut self, disk: DiskId, kept: Kept, every_ms: u64) {
        let entry = self.disks.entry(disk).or_default();
        let last = kept.last.as_ref();
        entry.next_ms = last.map_or(0, |last| last.started_ms.saturating_add(every_ms));
        entry.current = kept.interrupted.as_ref().map(|it| it.pass.clone());
        entry.kept = kept;
    }

    /// Orders a pass; answers its number.
    pub(crate) fn order(&mut self, disk: DiskId, bytes_per_s: u64, is_mending: bool) -> u64 {
        let entry = self.disks.entry(disk).or_default();
        entry.kept.number += 1;
        let number = entry.kept.number;
        entry.order = Some(Order {
            number,
            bytes_per_s,
            is_mending,
        });
        number
    }

    /// What to do at this time.
    pub(crate) fn next(&mut self, now_ms: u64) -> Next {
        let ordered = self.disks.iter_mut().find(|(_, it)| it.order.is_some());
        if let Some((disk, entry)) = ordered
            && let Some(order) = entry.order.take()
        {
            let begun = UnderWay {
                pass: ScrubPass {
                    number: order.number,
                    is_ordered: true,
                    is_mending: order.is_mending,
                    started_ms: now_ms,
                    ..ScrubPass::default()
                },
                bytes_per_s: order.bytes_per_s,
                ..UnderWay::default()
            };
            // What was interrupted on the same disk is read again from its beginning by this one.
            if let Some(old) = entry.kept.interrupted.take() {
                entry.ended.add(&old.pass.counts);
            }
            return Next::Run(*disk, Box::new(begun));
        }
        let interrupted = self.disks.iter_mut();
        for (disk, entry) in interrupted {
            if let Some(pass) = entry.kept.interrupted.take() {
                return Next::Run(*disk, Box::new(pass));
            }
        }
        let next = self.disks.iter_mut().min_by_key(|(_, it)| it.next_ms);
        let Some((disk, entry)) = next else {
            return Next::Wait(u64::MAX);
        };
        if entry.next_ms > now_ms {
            return Next::Wait(entry.next_ms - now_ms);
        }
        entry.kept.number += 1;
        let begun = UnderWay {
            pass: ScrubPass {
                number: entry.kept.number,
                is_mending: true,
                started_ms: now_ms,
                ..ScrubPass::default()
            },
            ..UnderWay::default()
        };
        Next::Run(*disk, Box::new(begun))
    }

    /// Whether a pass of a disk goes on.
    pub(crate) fn going(&self, disk: DiskId, pass: &ScrubPass) -> Going {
        if self.disks.get(&disk).is_some_and(|it| it.order.is_some()) {
            return Going::GivenUp;
        }
        let are_others_ordered = self.disks.values().any(|it| it.order.is_some());
        if are_others_ordered && !pass.is_ordered {
            return Going::Interrupted;
        }
        Going::On
    }

    /// Shows how far a pass is.
    pub(crate) fn show(&mut self, disk: DiskId, pass: &ScrubPass) {
        self.disks.entry(disk).or_default().current = Some(pass.clone());
    }

    /// What is to be kept of a disk whose pass is under way.
    pub(crate) fn kept_with(&self, disk: DiskId, under_way: &UnderWay) -> Kept {
        let kept = self.disks.get(&disk).map(|it| it.kept.clone());
        Kept {
            interrupted: (!under_way.pass.is_ordered).then(|| under_way.clone()),
            ..kept.unwrap_or_default()
        }
    }

    /// A pass is interrupted.
    pub(crate) fn interrupt(&mut self, disk: DiskId, under_way: UnderWay) {
        self.disks.entry(disk).or_default().kept.interrupted = Some(under_way);
    }

    /// A pass is given up, or broke off before it said anything of the whole disk.
    pub(crate) fn give_up(&mut self, disk: DiskId, pass: &ScrubPass) {
        let entry = self.disks.entry(disk).or_default();
        entry.ended.add(&pass.counts);
        entry.current = None;
    }

    /// A pass has ended; answers what is to be kept.
    pub(crate) fn end(&mut self, disk: DiskId, pass: ScrubPass, every_ms: u64) -> Kept {
        let entry = self.disks.entry(disk).or_default();
        entry.ended.add(&pass.counts);
        entry.current = None;
        let until_next = match &pass.trouble {
            None => every_ms,
            Some(_) => every_ms.min(AGAIN_MS),
        };
        let from = match &pass.trouble {
            None => pass.started_ms,
            Some(_) => pass.ended_ms,
        };
        // Who only looks does not put off what mends.
        if pass.is_mending {
            entry.next_ms = from.saturating_add(until_next);
        }
        entry.kept.last = Some(pass);
        entry.kept.clone()
    }

    /// All disks.
    pub(crate) fn status(&self) -> Vec<DiskScrub> {
        let disks = self.disks.iter().map(|(disk, entry)| {
            let mut total = entry.ended;
            if let Some(current) = &entry.current {
                total.add(&current.counts);
            }
            DiskScrub {
                disk: *disk,
                current: entry.current.clone(),
                last: entry.kept.last.clone(),
                total,
                next_ms: entry.next_ms,
            }
        });
        disks.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: u64 = 1_000_000;

    fn disk(n: u8) -> DiskId {
        DiskId([n; 16])
    }

    fn run(next: Next) -> (DiskId, UnderWay) {
        match next {
            Next::Run(disk, under_way) => (disk, *under_way),
            Next::Wait(ms) => unreachable!("waits {ms} ms"),
        }
    }

    fn two() -> Board {
        let mut board = Board::default();
        board.take_up(disk(1), Kept::default(), EVERY);
        board.take_up(disk(2), Kept::default(), EVERY);
        board
    }

    #[test]
    fn each_disk_has_its_turn_and_then_waits_for_its_time() {
        let mut board = two();
        for n in [1, 2] {
            let (at, begun) = run(board.next(100));
            assert_eq!((at, begun.pass.number), (disk(n), 1));
            assert!(begun.pass.is_mending && !begun.pass.is_ordered);
            let kept = board.end(at, begun.pass, EVERY);
            assert_eq!((kept.number, kept.interrupted), (1, None));
        }
        assert_eq!(board.next(600), Next::Wait(EVERY - 500));
        assert_eq!(run(board.next(100 + EVERY)).0, disk(1));
    }

    #[test]
    fn a_disk_that_was_read_lately_is_not_read_again_after_a_restart() {
        let mut board = Board::default();
        let last = ScrubPass {
            started_ms: 500,
            ..ScrubPass::default()
        };
        let kept = Kept {
            number: 7,
            last: Some(last),
            interrupted: None,
        };
        board.take_up(disk(1), kept, EVERY);
        assert_eq!(board.next(600), Next::Wait(EVERY - 100));
        assert_eq!(board.order(disk(1), 0, true), 8);
    }

    #[test]
    fn an_order_interrupts_what_runs_by_itself_elsewhere_and_that_goes_on_later() {
        let mut board = two();
        let (at, mut begun) = run(board.next(100));
        assert_eq!(board.going(at, &begun.pass), Going::On);
        let number = board.order(disk(2), 5, false);
        assert_eq!(board.going(at, &begun.pass), Going::Interrupted);
        begun.at = (3, 4096);
        assert_eq!(board.kept_with(at, &begun).interrupted, Some(begun.clone()));
        board.interrupt(at, begun.clone());
        let (ordered_at, ordered) = run(board.next(101));
        assert_eq!((ordered_at, ordered.pass.number), (disk(2), number));
        assert_eq!((ordered.bytes_per_s, ordered.pass.is_mending), (5, false));
        board.end(ordered_at, ordered.pass, EVERY);
        assert_eq!(run(board.next(102)), (at, begun.clone()));
        board.end(at, begun.pass, EVERY);
        // The pass that only looked was none: the disk is still due.
        assert_eq!(run(board.next(103)).0, disk(2));
    }

    #[test]
    fn an_order_for_the_same_disk_takes_the_place_of_what_runs() {
        let mut board = two();
        let (at, mut begun) = run(board.next(100));
        let number = board.order(at, 0, true);
        assert_eq!(board.going(at, &begun.pass), Going::GivenUp);
        begun.pass.counts.records = 9;
        board.give_up(at, &begun.pass);
        let (again, ordered) = run(board.next(100));
        assert_eq!((again, ordered.pass.number), (at, number));
        // Nobody else's order interrupts what was ordered.
        board.order(disk(2), 0, true);
        assert_eq!(board.going(at, &ordered.pass), Going::On);
        board.show(at, &ordered.pass);
        let shown = board.status();
        assert_eq!((shown[0].total.records, &shown[0].last), (9, &None));
        assert_eq!(shown[0].current.as_ref(), Some(&ordered.pass));
    }

    #[test]
    fn a_pass_that_broke_off_is_tried_again_before_its_time() {
        let mut board = two();
        let (at, mut begun) = run(board.next(100));
        begun.pass.trouble = Some("the disk does not answer".to_owned());
        begun.pass.ended_ms = 200;
        board.end(at, begun.pass, 100 * AGAIN_MS);
        let (other, begun) = run(board.next(300));
        board.end(other, begun.pass, 100 * AGAIN_MS);
        assert_eq!(board.next(200), Next::Wait(AGAIN_MS));
    }
}
