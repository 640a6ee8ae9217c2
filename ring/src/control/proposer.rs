//! One attempt to read or change the layout, at one ballot.
//!
//! A driver sends what [`Step`] says and feeds back what returns. The machine alone decides who must be asked, whether
//! something unsettled stands in the way, and when a layout is chosen. Only answers to the round under way are handed
//! in: once a step says Accept, what still comes of the Prepares is dropped.

use super::acceptor::{Promise, Refusal};
use super::sets::ControlSets;
use super::{check_successor, place};
use crate::ballot::Ballot;
use crate::id::{Era, NodeId};
use crate::layout::{Layout, LayoutError};
use crate::quorum::Verdict;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What the driver does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing: more replies are awaited.
    Wait,
    /// Send a Prepare of the attempt's ballot to these nodes, which were not asked yet.
    Prepare(Vec<NodeId>),
    /// Base is the newest chosen layout there is: end here, or [`Proposer::propose`].
    Decide,
    /// Send an Accept of this layout, at the attempt's ballot, to these nodes.
    Accept(Arc<Layout>, Vec<NodeId>),
    /// This layout is chosen: the own proposal, or what was found unsettled. Keep it; where it is not what was wanted,
    /// start over with it as base.
    Chosen(Arc<Layout>),
    /// A node knows of this chosen layout, newer than base: keep it, and start over with it as base.
    Newer(Arc<Layout>),
    /// This attempt cannot succeed: back off, then start over with a ballot above `past`. Where an Accept has left, what
    /// it carried may still be chosen.
    Failed {
        /// What the next ballot must be above.
        past: Ballot,
    },
}

/// The attempt.
#[derive(Clone, Debug)]
pub struct Proposer {
    ballot: Ballot,
    base: Arc<Layout>,
    sets_of: fn(&Layout) -> ControlSets,
    /// Who has answered the round under way, and whether with a yes.
    heard: BTreeMap<NodeId, bool>,
    asked: ControlSets,
    /// The highest ballot that a promise showed, and what was accepted at it, where it is newer than base.
    highest: Ballot,
    unsettled: Option<Arc<Layout>>,
    past: Ballot,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Phase {
    Preparing,
    Deciding,
    Accepting(Arc<Layout>),
    Over,
}

impl Proposer {
    /// An attempt at a ballot that nobody has used, from a layout that is known to be chosen.
    #[must_use]
    pub fn new(ballot: Ballot, base: Arc<Layout>) -> Self {
        Self::under(ControlSets::of, ballot, base)
    }

    /// An attempt under another reading of who must agree on a layout: for tests that break the rule on purpose.
    #[must_use]
    pub fn under(sets_of: fn(&Layout) -> ControlSets, ballot: Ballot, base: Arc<Layout>) -> Self {
        Self {
            ballot,
            base,
            sets_of,
            heard: BTreeMap::new(),
            asked: ControlSets::default(),
            highest: Ballot::ZERO,
            unsettled: None,
            past: Ballot::ZERO,
            phase: Phase::Preparing,
        }
    }

    /// Its ballot.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// The layout that it starts from.
    #[must_use]
    pub fn base(&self) -> &Arc<Layout> {
        &self.base
    }

    /// What a Prepare says is known to be chosen.
    #[must_use]
    pub fn known(&self) -> (Era, u64) {
        place(&self.base)
    }

    /// What the promises show that may be chosen and is newer than base: its sets may have to be asked too.
    #[must_use]
    pub fn unsettled(&self) -> Option<&Arc<Layout>> {
        self.unsettled.as_ref()
    }

    /// The first step.
    pub fn start(&mut self) -> Step {
        self.go_on_preparing()
    }

    /// A promise has come.
    pub fn promised(&mut self, from: NodeId, promise: Promise) -> Step {
        if self.phase != Phase::Preparing || !self.hear(from, true) {
            return Step::Wait;
        }
        if promise.accepted > self.highest {
            self.highest = promise.accepted;
            let newer = promise.newer.filter(|newer| place(newer) > self.known());
            self.unsettled = newer.map(Arc::new);
        }
        self.go_on_preparing()
    }

    /// An Accept was accepted.
    pub fn accepted(&mut self, from: NodeId) -> Step {
        if !matches!(self.phase, Phase::Accepting(_)) || !self.hear(from, true) {
            return Step::Wait;
        }
        self.go_on_accepting()
    }

    /// A refusal has come.
    pub fn refused(&mut self, from: NodeId, refusal: Refusal) -> Step {
        if self.phase == Phase::Over {
            return Step::Wait;
        }
        self.past = self.past.max(refusal.past);
        let newer = refusal.newer.filter(|newer| place(newer) > self.known());
        if let Some(newer) = newer {
            self.phase = Phase::Over;
            return Step::Newer(Arc::from(newer));
        }
        self.silent(from)
    }

    /// No answer will come from a node: whether it promised or accepted is not known.
    pub fn silent(&mut self, from: NodeId) -> Step {
        if !self.hear(from, false) {
            return Step::Wait;
        }
        match self.phase {
            Phase::Preparing => self.go_on_preparing(),
            Phase::Accepting(_) => self.go_on_accepting(),
            Phase::Deciding | Phase::Over => Step::Wait,
        }
    }

    /// Proposes base's successor, after [`Step::Decide`].
    ///
    /// # Errors
    /// It is not one.
    pub fn propose(&mut self, next: Layout) -> Result<Step, LayoutError> {
        if self.phase != Phase::Deciding {
            return Err("a layout is proposed when it was asked for".into());
        }
        check_successor(&self.base, &next)?;
        Ok(self.accept(Arc::new(next)))
    }

    fn go_on_preparing(&mut self) -> Step {
        // Whoever was asked first has answered first, so `unsettled` is what the sets asked so far show.
        let mut wanted = (self.sets_of)(&self.base);
        if self.verdict(&wanted) == Verdict::Reached
            && let Some(unsettled) = &self.unsettled
        {
            wanted = wanted.and(&(self.sets_of)(unsettled));
        }
        let members = wanted.members();
        let unasked: Vec<NodeId> = members
            .into_iter()
            .filter(|node| !self.asked.contains(*node))
            .collect();
        self.asked = core::mem::take(&mut self.asked).and(&wanted);
        match (self.verdict(&wanted), self.unsettled.clone()) {
            (Verdict::Impossible, _) => self.fail(),
            _ if !unasked.is_empty() => Step::Prepare(unasked),
            (Verdict::Pending, _) => Step::Wait,
            (Verdict::Reached, None) => {
                self.phase = Phase::Deciding;
                Step::Decide
            }
            (Verdict::Reached, Some(unsettled)) => self.accept(unsettled),
        }
    }

    fn accept(&mut self, layout: Arc<Layout>) -> Step {
        let sets = self.accept_sets(&layout);
        self.heard.clear();
        self.phase = Phase::Accepting(Arc::clone(&layout));
        Step::Accept(layout, sets.members())
    }

    fn accept_sets(&self, layout: &Layout) -> ControlSets {
        (self.sets_of)(&self.base).and(&(self.sets_of)(layout))
    }

    fn go_on_accepting(&mut self) -> Step {
        let Phase::Accepting(layout) = &self.phase else {
            return Step::Wait;
        };
        let layout = Arc::clone(layout);
        match self.verdict(&self.accept_sets(&layout)) {
            Verdict::Pending => Step::Wait,
            Verdict::Impossible => self.fail(),
            Verdict::Reached => {
                self.phase = Phase::Over;
                Step::Chosen(layout)
            }
        }
    }

    fn fail(&mut self) -> Step {
        self.phase = Phase::Over;
        Step::Failed { past: self.past }
    }

    /// Notes the first answer of a node; whether it was that.
    fn hear(&mut self, from: NodeId, is_yes: bool) -> bool {
        if self.heard.contains_key(&from) {
            return false;
        }
        self.heard.insert(from, is_yes);
        true
    }

    fn verdict(&self, sets: &ControlSets) -> Verdict {
        sets.verdict(
            |node| self.heard.get(&node) == Some(&true),
            |node| self.heard.get(&node) == Some(&false),
        )
    }
}
