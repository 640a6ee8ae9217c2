//! Whether a row may be copied: only what a majority of the old members durably holds, with nothing above it (DESIGN
//! 4.11). Pure.

use ringfort_ring::ballot::Ballot;
use ringfort_ring::quorum::majority;

/// What the old members' answers for one row say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Judged {
    /// Chosen at this ballot: copy it from one of those that hold it.
    Chosen(Ballot),
    /// No majority agrees on the highest ballot: an identity round decides first.
    Open,
    /// Fewer than a majority have answered.
    TooFew,
}

/// Judges one row by the ballots that old members durably hold; zero stands for "nothing".
pub(super) fn judge(old_members: usize, answers: impl Iterator<Item = Ballot> + Clone) -> Judged {
    let enough = majority(old_members);
    let Some(highest) = answers.clone().max() else {
        return Judged::TooFew;
    };
    if answers.clone().count() < enough {
        Judged::TooFew
    } else if answers.filter(|ballot| *ballot == highest).count() >= enough {
        Judged::Chosen(highest)
    } else {
        Judged::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfort_ring::hlc::Timestamp;

    #[test]
    fn only_what_a_majority_holds_and_nobody_tops_is_copied() {
        let at = |ms: u64| match ms {
            0 => Ballot::ZERO,
            ms => Ballot::last_at(Timestamp::from_ms(ms)),
        };
        let judged = |answers: &[u64]| judge(3, answers.iter().map(|ms| at(*ms)));
        assert_eq!(judged(&[5, 5, 5]), Judged::Chosen(at(5)));
        assert_eq!(judged(&[5, 5, 4]), Judged::Chosen(at(5)));
        assert_eq!(judged(&[5, 5]), Judged::Chosen(at(5)));
        // A minority's write above it may be chosen by a majority that did not answer in full.
        assert_eq!(judged(&[5, 5, 6]), Judged::Open);
        assert_eq!(judged(&[5, 0]), Judged::Open);
        assert_eq!(judged(&[4, 5, 6]), Judged::Open);
        assert_eq!(judged(&[5]), Judged::TooFew);
        assert_eq!(judged(&[]), Judged::TooFew);
        assert_eq!(judge(1, [at(5)].into_iter()), Judged::Chosen(at(5)));
        assert_eq!(judge(5, [at(5), at(5)].into_iter()), Judged::TooFew);
    }
}
