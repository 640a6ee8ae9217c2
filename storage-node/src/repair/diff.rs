//! Where two ordered listings differ, while both arrive in pieces. Pure.
//!
//! A difference is told only where both listings have been looked at: what one side has not named yet is not missing
//! there.

use std::collections::VecDeque;

/// An entry that one side lacks, or holds with another value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Difference<K, V> {
    pub(crate) key: K,
    pub(crate) mine: Option<V>,
    pub(crate) theirs: Option<V>,
}

/// How far a side has been looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Examined<K> {
    Nothing,
    UpTo(K),
    Everything,
}

#[derive(Debug)]
struct Side<K, V> {
    entries: VecDeque<(K, V)>,
    examined: Examined<K>,
}

impl<K: Ord + Clone, V> Side<K, V> {
    fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            examined: Examined::Nothing,
        }
    }

    fn covers(&self, key: &K) -> bool {
        match &self.examined {
            Examined::Nothing => false,
            Examined::UpTo(end) => key <= end,
            Examined::Everything => true,
        }
    }

    fn feed(&mut self, entries: impl IntoIterator<Item = (K, V)>, examined: Option<K>) {
        self.entries.extend(entries);
        self.examined = examined.map_or(Examined::Everything, Examined::UpTo);
    }
}

/// Compares two listings.
#[derive(Debug)]
pub(crate) struct Diff<K, V> {
    mine: Side<K, V>,
    theirs: Side<K, V>,
}

impl<K: Ord + Clone, V: PartialEq> Diff<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            mine: Side::new(),
            theirs: Side::new(),
        }
    }

    /// Whether the next piece of this disk's own listing is wanted: it is the one that is behind.
    pub(crate) fn wants_mine(&self) -> bool {
        match (&self.mine.examined, &self.theirs.examined) {
            (Examined::Everything, _) => false,
            (Examined::Nothing, _) | (_, Examined::Everything) => true,
            (Examined::UpTo(_), Examined::Nothing) => false,
            (Examined::UpTo(mine), Examined::UpTo(theirs)) => mine <= theirs,
        }
    }

    /// Whether both have been looked at to their ends.
    pub(crate) fn is_done(&self) -> bool {
        self.mine.examined == Examined::Everything && self.theirs.examined == Examined::Everything
    }

    /// The next piece of this disk's listing; `examined`: up to where it goes, `None`: to the end.
    pub(crate) fn feed_mine(
        &mut self,
        entries: impl IntoIterator<Item = (K, V)>,
        examined: Option<K>,
    ) {
        self.mine.feed(entries, examined);
    }

    /// The next piece of the other's listing.
    pub(crate) fn feed_theirs(
        &mut self,
        entries: impl IntoIterator<Item = (K, V)>,
        examined: Option<K>,
    ) {
        self.theirs.feed(entries, examined);
    }

    /// The differences known by now, in order; each is told once.
    pub(crate) fn take(&mut self) -> Vec<Difference<K, V>> {
        let mut differences = Vec::new();
        loop {
            let next = match (self.mine.entries.front(), self.theirs.entries.front()) {
                (None, None) => break,
                (Some((mine, _)), None) => mine,
                (None, Some((theirs, _))) => theirs,
                (Some((mine, _)), Some((theirs, _))) => mine.min(theirs),
            };
            if !self.mine.covers(next) || !self.theirs.covers(next) {
                break;
            }
            let key = next.clone();
            let take = |side: &mut Side<K, V>| {
                let is_it = side.entries.front().is_some_and(|(it, _)| *it == key);
                is_it.then(|| side.entries.pop_front()).flatten()
            };
            let mine = take(&mut self.mine).map(|(_, value)| value);
            let theirs = take(&mut self.theirs).map(|(_, value)| value);
            if mine != theirs {
                differences.push(Difference { key, mine, theirs });
            }
        }
        differences
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn listing() -> impl Strategy<Value = BTreeMap<u8, u8>> {
        proptest::collection::btree_map(0_u8..40, 0_u8..3, 0..30)
    }

    /// Entries, and up to where they go.
    type Piece = (Vec<(u8, u8)>, Option<u8>);

    fn pieces(listing: &BTreeMap<u8, u8>, cuts: &[u8]) -> VecDeque<Piece> {
        let mut cuts = cuts.to_vec();
        cuts.sort_unstable();
        cuts.dedup();
        let mut from = 0;
        let mut pieces = VecDeque::new();
        for cut in cuts {
            let piece = listing.range(from..=cut).map(|(k, v)| (*k, *v)).collect();
            pieces.push_back((piece, Some(cut)));
            from = cut + 1;
        }
        pieces.push_back((listing.range(from..).map(|(k, v)| (*k, *v)).collect(), None));
        pieces
    }

    proptest! {
        #[test]
        fn every_difference_is_told_once_however_the_listings_are_cut(
            mine in listing(),
            theirs in listing(),
            my_cuts in proptest::collection::vec(0_u8..45, 0..8),
            their_cuts in proptest::collection::vec(0_u8..45, 0..8),
        ) {
            let mut my_pieces = pieces(&mine, &my_cuts);
            let mut their_pieces = pieces(&theirs, &their_cuts);
            let mut diff = Diff::new();
            let mut told = Vec::new();
            while !diff.is_done() {
                if diff.wants_mine() {
                    let (entries, examined) = my_pieces.pop_front().unwrap();
                    diff.feed_mine(entries, examined);
                } else {
                    let (entries, examined) = their_pieces.pop_front().unwrap();
                    diff.feed_theirs(entries, examined);
                }
                told.extend(diff.take());
            }
            let mut wanted = Vec::new();
            for key in 0..40 {
                let (mine, theirs) = (mine.get(&key).copied(), theirs.get(&key).copied());
                if mine != theirs {
                    wanted.push(Difference { key, mine, theirs });
                }
            }
            prop_assert_eq!(told, wanted);
        }
    }
}
