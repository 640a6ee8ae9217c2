//! Deliberate breakages, each a single point, to prove that the checkers bite.
//!
//! They live in the simulated gateway, node and mover, never in `ring`: what they break is the use that a driver
//! makes of it.

macro_rules! mutations {
    ($($(#[doc = $what:literal])* $variant:ident = $name:literal,)*) => {
        /// A single breakage.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Mutation {
            $($(#[doc = $what])* $variant,)*
        }

        impl Mutation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

mutations! {
    /// A split read answers the highest value without writing it back.
    NoWriteBack = "no-write-back-on-split-read",
    /// A read takes equal values at different ballots for agreement.
    AgreementByValue = "agreement-by-value",
    /// A condition fails on what a Prepare shows, chosen or not.
    RefuseFromBarePrepare = "412-from-bare-prepare",
    /// A condition fails on a settled value though an own Accept has left.
    RefuseAfterAccept = "412-after-own-accept",
    /// A found own identity is answered without writing the value again.
    DoneWithoutRewrite = "already-done-without-rewrite",
    /// A retry does not look for its own identity.
    RetryAppliedAgain = "retry-applied-again",
    /// An identity that is not found was never there, however much was trimmed.
    AbsenceIsProof = "absence-always-proof",
    /// Over an empty register, what lies below the floor counts as never done.
    SinceIgnoredOverEmpty = "since-ignored-over-empty",
    /// An Accept is acknowledged on arrival.
    AckBeforeFsync = "ack-before-fsync",
    /// A restart forgets the promise horizon.
    PromiseForgotten = "promise-forgotten-on-restart",
    /// A read answers an Accept that is not durable.
    UnsyncedRead = "unsynced-accept-read",
    /// A Prepare is answered as if an Accept on its way to disk were not there.
    UnsyncedHidden = "unsynced-accept-hidden-from-prepare",
    /// A Prepare is answered with an Accept on its way to disk as if it were durable.
    UnsyncedPromised = "unsynced-accept-counted-in-promise",
    /// One member less than a majority is enough.
    QuorumTooSmall = "majority-minus-one",
    /// A doubled reply counts for two replicas.
    CountedTwice = "replica-counted-twice",
    /// A replica answers in any epoch.
    StaleEpoch = "stale-epoch-accepted",
    /// An Accept that another epoch refused is sent again in that epoch, at its old ballot.
    RestampedEpoch = "accept-restamped-in-new-epoch",
    /// An Accept that was refused is sent again at a higher ballot, without a Prepare.
    RestampedBallot = "accept-restamped-at-new-ballot",
    /// A floor does not refuse an Accept.
    FloorLetsAccept = "floor-not-refusing-accept",
    /// A tombstone is dropped when a majority holds it.
    DropOnMajority = "tombstone-dropped-on-majority",
    /// A tombstone is dropped without a floor.
    DropWithoutFloor = "tombstone-dropped-without-floor",
    /// Chunks of a write that a plain read does not show go at once.
    CollectedOnPlainRead = "collected-on-plain-read",
    /// The identity write before chunks go carries no birth bound.
    CollectedWithoutBound = "collected-without-bound",
    /// A birth bound refuses Accepts and lets Prepares through.
    BoundOnAcceptOnly = "bound-on-accept-only",
    /// A birth bound is forgotten on restart.
    BoundForgotten = "bound-forgotten-on-restart",
    /// Chunks go when the identity write is promised, and not yet chosen.
    DeletedBeforeChosen = "deleted-before-chosen",
    /// In `Joint`, the old majority alone decides.
    JointOldAlone = "joint-old-majority-alone",
    /// A new member votes before it has adopted floor and horizon.
    VoteBeforeAdopting = "new-member-votes-before-adopting",
    /// A new member copies the first row that it is shown, chosen or not.
    CopyUnchosen = "copy-of-unchosen-row",
    /// The new layout is committed before the new member has synced.
    StableWithoutSync = "stable-without-sync",
    /// A member that returns in a later epoch keeps its rows and votes at once.
    ReturnsWithRows = "returning-replica-keeps-rows",
}

impl Mutation {
    /// The mutation of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|mutation| mutation.name() == name)
    }
}
