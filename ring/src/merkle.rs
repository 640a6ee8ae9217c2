//! Sums over what replicas hold, by which they compare without naming it (DESIGN 4.6: anti-entropy).
//!
//! A partition has a tree of two levels for its rows and one for its chunks: [`LEAVES`] sums under their total. A sum
//! is kept up to date with every change (an entry's term is added when it comes and taken away when it goes), so it
//! costs no reading; addition is commutative, so the order of changes does not matter. SipHash with fixed keys, as in
//! [`crate::placement`]: the numbers go between processes of different releases and can never change. That two sets
//! differ and their sums do not is as likely as 64 random bits agreeing.

use crate::ballot::Ballot;
use core::hash::Hasher;
use siphasher::sip::SipHasher24;

/// Leaves of a tree.
pub const LEAVES: usize = 32;

const ROW_DOMAIN: (u64, u64) = (0x5249_4e47_464f_5254, 4);
const CHUNK_DOMAIN: (u64, u64) = (0x5249_4e47_464f_5254, 5);

/// The leaf of an entry, 0 to [`LEAVES`] − 1, and what it adds there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Term {
    /// Which leaf.
    pub leaf: usize,
    /// What to add.
    pub value: u64,
}

/// The term of a row: its key's bytes, in any form that all replicas use alike, and its accepted ballot. The leaf
/// depends on the key alone.
#[must_use]
pub fn row_term(key: &[u8], accepted: Ballot) -> Term {
    let mut hasher = SipHasher24::new_with_keys(ROW_DOMAIN.0, ROW_DOMAIN.1);
    hasher.write(key);
    let leaf = leaf_of(hasher.finish());
    hasher.write(&accepted.to_bytes());
    Term {
        leaf,
        value: hasher.finish(),
    }
}

/// The leaf of a row.
#[must_use]
pub fn row_leaf(key: &[u8]) -> usize {
    let mut hasher = SipHasher24::new_with_keys(ROW_DOMAIN.0, ROW_DOMAIN.1);
    hasher.write(key);
    leaf_of(hasher.finish())
}

/// The term of a chunk.
#[must_use]
pub fn chunk_term(chunk: [u8; 16]) -> Term {
    let mut hasher = SipHasher24::new_with_keys(CHUNK_DOMAIN.0, CHUNK_DOMAIN.1);
    hasher.write(&chunk);
    let hash = hasher.finish();
    Term {
        leaf: leaf_of(hash),
        value: hash,
    }
}

fn leaf_of(hash: u64) -> usize {
    // The top bits: the whole hash is the value of a chunk's term, and its low bits may be anything else's.
    usize::try_from(hash >> 59).unwrap_or(0)
}

/// The leaves of one tree.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Leaves([u64; LEAVES]);

impl Leaves {
    /// From sums as [`Leaves::sums`] gave them; `None` where there are not as many.
    #[must_use]
    pub fn from_sums(sums: &[u64]) -> Option<Self> {
        if sums.is_empty() {
            return Some(Self::default());
        }
        Some(Self(sums.try_into().ok()?))
    }

    /// The sums, leaf by leaf.
    #[must_use]
    pub fn sums(&self) -> &[u64; LEAVES] {
        &self.0
    }

    /// An entry comes.
    pub fn add(&mut self, term: Term) {
        if let Some(sum) = self.0.get_mut(term.leaf) {
            *sum = sum.wrapping_add(term.value);
        }
    }

    /// An entry goes.
    pub fn remove(&mut self, term: Term) {
        if let Some(sum) = self.0.get_mut(term.leaf) {
            *sum = sum.wrapping_sub(term.value);
        }
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|sum| *sum == 0)
    }

    /// What this tree has more than another, leaf by leaf: the sum of the terms of what only this one holds, less those
    /// of what only the other holds.
    #[must_use]
    pub fn less(&self, other: &Self) -> Self {
        let mut difference = self.clone();
        for (sum, other) in difference.0.iter_mut().zip(&other.0) {
            *sum = sum.wrapping_sub(*other);
        }
        difference
    }

    /// The leaves that hold anything: bit n for leaf n.
    #[must_use]
    pub fn occupied(&self) -> u32 {
        self.differing(&Self::default())
    }

    /// The leaves in which two trees differ: bit n for leaf n.
    #[must_use]
    pub fn differing(&self, other: &Self) -> u32 {
        let pairs = self.0.iter().zip(&other.0).enumerate();
        pairs.fold(0, |mask, (leaf, (mine, other))| {
            mask | (u32::from(mine != other) << leaf)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hlc::Timestamp;
    use crate::id::Incarnation;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn ballot(time: u64) -> Ballot {
        Ballot {
            time: Timestamp(time),
            incarnation: Incarnation([7; 16]),
        }
    }

    /// Golden, computed by an independent implementation of SipHash-2-4: replicas of different releases compare these.
    #[test]
    fn the_terms_never_change() {
        let term = |key: &[u8], time| {
            let term = row_term(key, ballot(time));
            (term.leaf, term.value)
        };
        assert_eq!(
            [term(b"", 0), term(b"a", 1), term(b"photos/1.jpg", 1 << 40)],
            GOLDEN_ROWS
        );
        let chunk = chunk_term([3; 16]);
        assert_eq!((chunk.leaf, chunk.value), GOLDEN_CHUNK);
    }

    const GOLDEN_ROWS: [(usize, u64); 3] = [
        (12, 17_651_881_758_953_735_688),
        (14, 5_473_514_008_962_696_031),
        (4, 9_800_776_623_976_074_130),
    ];
    const GOLDEN_CHUNK: (usize, u64) = (11, 6_797_040_738_266_976_181);

    proptest! {
        #[test]
        fn the_order_of_changes_does_not_matter_and_what_went_leaves_nothing(
            entries in proptest::collection::vec((any::<Vec<u8>>(), 0_u64..5), 0..40),
            rotate in 0_usize..40,
        ) {
            let mut there = Leaves::default();
            for (key, time) in &entries {
                there.add(row_term(key, ballot(*time)));
            }
            let mut other = Leaves::default();
            let mut turned = entries.clone();
            turned.rotate_left(if entries.is_empty() { 0 } else { rotate % entries.len() });
            for (key, time) in &turned {
                other.add(row_term(key, ballot(*time)));
                other.add(row_term(key, ballot(9)));
            }
            for (key, _) in &entries {
                other.remove(row_term(key, ballot(9)));
            }
            prop_assert_eq!(&there, &other);
            for (key, time) in &entries {
                there.remove(row_term(key, ballot(*time)));
            }
            prop_assert!(there.is_empty());
        }

        #[test]
        fn what_only_one_side_holds_is_the_difference_whatever_both_take_in(
            key: Vec<u8>,
            both in proptest::collection::vec(any::<Vec<u8>>(), 0..20),
        ) {
            let (mut mine, mut theirs) = (Leaves::default(), Leaves::default());
            mine.add(row_term(&key, ballot(1)));
            let before = mine.less(&theirs);
            for key in &both {
                mine.add(row_term(key, ballot(2)));
                theirs.add(row_term(key, ballot(2)));
            }
            prop_assert_eq!(&mine.less(&theirs), &before);
            prop_assert_eq!(before.occupied(), 1 << row_leaf(&key));
        }

        #[test]
        fn one_entry_more_or_another_ballot_shows_in_its_leaf_alone(key: Vec<u8>, time in 0_u64..9) {
            let mut one = Leaves::default();
            one.add(row_term(&key, ballot(time)));
            let mut newer = Leaves::default();
            newer.add(row_term(&key, ballot(time + 1)));
            let leaf = 1_u32 << row_leaf(&key);
            prop_assert_eq!(one.differing(&Leaves::default()), leaf);
            prop_assert_eq!(one.differing(&newer), leaf);
            prop_assert_eq!(one.differing(&one.clone()), 0);
        }
    }
}
