//! Deliberate breakages of the control register, each a single point, to prove that the checks bite.
//!
//! They live in the simulated driver, never in `ring`.

macro_rules! mutations {
    ($($(#[doc = $what:literal])* $variant:ident = $name:literal,)*) => {
        /// A single breakage.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum ControlMutation {
            $($(#[doc = $what])* $variant,)*
        }

        impl ControlMutation {
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
    /// One member less than a majority is enough.
    QuorumTooSmall = "control-majority-minus-one",
    /// While the control set changes, the new one decides alone.
    BeforeIgnored = "control-set-before-ignored",
    /// What may be chosen is overwritten by the own proposal.
    UnsettledOverwritten = "unsettled-layout-overwritten",
    /// A layout that one member shows is taken for chosen, and followed.
    FollowsUnchosen = "successor-of-unchosen-layout",
    /// What is unsettled is settled without asking the sets that it names.
    SettledUnasked = "settled-without-asking-its-sets",
    /// A node forgets at a restart what it promised and accepted.
    PromiseForgotten = "control-promise-forgotten-on-restart",
}
