//! A node's part in the control register: what it has promised and accepted, durable in its folder before it is said.
//!
//! Every node keeps one, whether it is of the control set or not: a change of the set asks the new members before they
//! are any, and a node that has left answers those who still think it is one. Left out: who proposes (see `plane`).
//!
//! A node that has lost its file must not answer as if it had promised nothing: a majority that it was part of would
//! have forgotten. The file is made at the first start, before any layout can name the node, so a member of the control
//! set without one has lost it. It then stands aside until a layout has put another in its place.

use super::file::{self, FileError, Kind, Secrecy};
use super::layout_store::LayoutStore;
use parking_lot::Mutex;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::control::{Acceptor, Promise, Refusal};
use ringfort_ring::id::{Era, NodeId};
use ringfort_ring::layout::Layout;
use ringfort_wire::environment::Environment;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FILE_NAME: &str = "control";
const FORMAT_VERSION: u8 = 1;

/// A node's durable acceptor.
pub struct ControlAcceptor {
    path: PathBuf,
    node: NodeId,
    layouts: Arc<LayoutStore>,
    environment: Environment,
    max_clock_skew_ms: u64,
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    acceptor: Acceptor,
    /// Whether an earlier state is gone.
    is_lost: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AcceptorError {
    /// This node must not answer as an acceptor.
    #[error(
        "this member of the control set has lost what it promised: give the control set another member in its place"
    )]
    Lost,
    /// The layout is not one of this cluster, or breaks a rule.
    #[error("{0}")]
    Foreign(String),
    /// The state cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl std::fmt::Debug for ControlAcceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlAcceptor")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl ControlAcceptor {
    /// Opens a node's acceptor, or makes it. Blocks on the disk.
    ///
    /// # Errors
    /// The system's. A damaged file is a lost one.
    pub fn open(
        folder: &Path,
        node: NodeId,
        layouts: Arc<LayoutStore>,
        environment: Environment,
        max_clock_skew_ms: u64,
    ) -> Result<Self, FileError> {
        let path = folder.join(FILE_NAME);
        let kept = match file::read(&path)? {
            None => None,
            Some(bytes) => match decode(&path, &bytes) {
                Ok(state) => Some(state),
                Err(error) => {
                    tracing::error!(%error, "what this node promised for the control register is lost");
                    Some(State {
                        is_lost: true,
                        ..State::default()
                    })
                }
            },
        };
        let is_new = kept.is_none();
        let state = kept.unwrap_or_else(|| State {
            // The first layout is decided without this register.
            is_lost: layouts
                .current()
                .is_some_and(|layout| layout.version > 1 && is_control(&layout, node)),
            ..State::default()
        });
        if state.is_lost {
            tracing::error!(
                %node,
                "this member of the control set has lost what it promised and stands aside: give the control set another \
                 member in its place"
            );
        }
        if is_new {
            write(&path, &state)?;
        }
        Ok(Self {
            path,
            node,
            layouts,
            environment,
            max_clock_skew_ms,
            state: Mutex::new(state),
        })
    }

    /// Whether something was accepted here that is newer than the layout known to be chosen: somebody may have stopped
    /// half-way, and it should be settled.
    #[must_use]
    pub fn has_unsettled(&self) -> bool {
        let chosen = self.layouts.current();
        self.state.lock().acceptor.is_ahead_of(chosen.as_deref())
    }

    /// Answers a Prepare; a promise is durable. Blocks on the disk.
    ///
    /// # Errors
    /// Where there is neither a promise nor a refusal.
    pub fn prepare(
        &self,
        ballot: Ballot,
        known: (Era, u64),
    ) -> Result<Result<Promise, Refusal>, AcceptorError> {
        self.answer(ballot, |acceptor, chosen| {
            acceptor.prepare(ballot, known, chosen)
        })
    }

    /// Takes an Accept; durable when it says yes. Blocks on the disk.
    ///
    /// # Errors
    /// Where there is neither a yes nor a refusal.
    pub fn accept(
        &self,
        ballot: Ballot,
        layout: &Layout,
    ) -> Result<Result<(), Refusal>, AcceptorError> {
        if layout.cluster != self.layouts.cluster() {
            return Err(AcceptorError::Foreign(
                "the layout is of another cluster".to_owned(),
            ));
        }
        layout
            .check()
            .map_err(|why| AcceptorError::Foreign(why.to_string()))?;
        self.answer(ballot, |acceptor, chosen| {
            acceptor.accept(ballot, layout, chosen)
        })
    }

    fn answer<T>(
        &self,
        ballot: Ballot,
        rule: impl FnOnce(&mut Acceptor, Option<&Layout>) -> Result<T, Refusal>,
    ) -> Result<Result<T, Refusal>, AcceptorError> {
        // Held over the write, so that nothing is answered from a state that is not durable yet.
        let mut state = self.state.lock();
        let chosen = self.layouts.current();
        let mut next = state.clone();
        // Put out of the control set, it is bound by nothing that it forgot: an asker who still counts it is shown the
        // layout that put it out.
        if next.is_lost
            && chosen
                .as_ref()
                .is_some_and(|chosen| !is_control(chosen, self.node))
        {
            next = State::default();
        }
        let now_ms = self.environment.now_ms();
        if let Err(refusal) = next
            .acceptor
            .check_clock(ballot, now_ms, self.max_clock_skew_ms)
        {
            return Ok(Err(refusal));
        }
        let answer = rule(&mut next.acceptor, chosen.as_deref());
        if next.is_lost {
            return match answer {
                Err(refusal) if refusal.newer.is_some() => Ok(Err(refusal)),
                _ => Err(AcceptorError::Lost),
            };
        }
        if next != *state {
            write(&self.path, &next)?;
            *state = next;
        }
        Ok(answer)
    }
}

fn is_control(layout: &Layout, node: NodeId) -> bool {
    let (control, before) = layout.control_ids();
    control.contains(&node) || before.contains(&node)
}

fn write(path: &Path, state: &State) -> Result<(), FileError> {
    let body = postcard::to_allocvec(state).expect("the state is plain data");
    let sealed = file::seal(Kind::Control, FORMAT_VERSION, &body);
    file::write_durably(path, &sealed, Secrecy::Plain)
}

fn decode(path: &Path, bytes: &[u8]) -> Result<State, FileError> {
    let (version, body) =
        file::unseal(Kind::Control, bytes).map_err(|why| file::damaged(path, why))?;
    if version != FORMAT_VERSION {
        let why = format!("its format version {version} is not known to this release");
        return Err(file::damaged(path, why));
    }
    postcard::from_bytes(body).map_err(|error| file::damaged(path, error.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "test code")]
mod tests {
    use super::super::layout_store::tests::layout;
    use super::*;
    use ringfort_ring::hlc::Timestamp;
    use ringfort_ring::id::{ClusterId, Incarnation};

    const OWN: NodeId = NodeId::from_u128(1);

    fn at(time: u64) -> Ballot {
        Ballot {
            time: Timestamp(time),
            incarnation: Incarnation([1; 16]),
        }
    }

    struct Case {
        folder: tempfile::TempDir,
        layouts: Arc<LayoutStore>,
    }

    impl Case {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let cluster = ClusterId::from_u128(7);
            let layouts = Arc::new(LayoutStore::open(folder.path(), cluster).unwrap());
            Self { folder, layouts }
        }

        fn open(&self) -> ControlAcceptor {
            let layouts = Arc::clone(&self.layouts);
            ControlAcceptor::open(self.folder.path(), OWN, layouts, Environment::os(), 500).unwrap()
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join(FILE_NAME)
        }
    }

    #[test]
    fn what_was_promised_and_accepted_survives_a_restart() {
        let case = Case::new();
        let known = (Era(0), 0);
        assert!(case.open().prepare(at(5), known).unwrap().is_ok());
        assert!(case.open().prepare(at(4), known).unwrap().is_err());
        let next = layout(7, 1, "a:1");
        assert!(case.open().accept(at(6), &next).unwrap().is_ok());
        let acceptor = case.open();
        assert!(acceptor.has_unsettled());
        let promise = acceptor.prepare(at(7), known).unwrap().unwrap();
        assert_eq!(
            (promise.accepted, promise.newer),
            (at(6), Some(next.clone()))
        );
        case.layouts.adopt(next).unwrap();
        assert!(!acceptor.has_unsettled());
        assert!(matches!(
            acceptor.accept(at(9), &layout(8, 2, "a:1")),
            Err(AcceptorError::Foreign(_))
        ));
        let far = Ballot {
            time: Timestamp::from_ms(Environment::os().now_ms() + 100_000),
            ..at(0)
        };
        let refusal = acceptor.prepare(far, (Era(0), 1)).unwrap().unwrap_err();
        assert!(refusal.is_ahead);
    }

    /// An acceptor that answered with an empty memory would let a second layout of a version be chosen.
    #[test]
    fn a_member_that_lost_its_file_stands_aside_until_it_is_replaced() {
        let case = Case::new();
        drop(case.open());
        case.layouts.adopt(layout(7, 2, "a:1")).unwrap();
        assert!(case.open().prepare(at(5), (Era(0), 2)).unwrap().is_ok());
        std::fs::remove_file(case.path()).unwrap();
        for _ in 0..2 {
            let lost = case.open();
            let answer = lost.prepare(at(6), (Era(0), 2));
            assert!(matches!(answer, Err(AcceptorError::Lost)), "{answer:?}");
            // What it knows to be chosen it still says.
            let behind = lost.prepare(at(6), (Era(0), 1)).unwrap().unwrap_err();
            assert_eq!(behind.newer.unwrap().version, 2);
        }
        let mut without = layout(7, 3, "a:1");
        without.nodes[0].id = NodeId::from_u128(9);
        case.layouts.adopt(without).unwrap();
        assert!(case.open().prepare(at(6), (Era(0), 3)).unwrap().is_ok());
        assert!(case.open().prepare(at(5), (Era(0), 3)).unwrap().is_err());
    }

    #[test]
    fn a_damaged_file_is_a_lost_one_and_a_first_start_is_none() {
        let case = Case::new();
        case.layouts.adopt(layout(7, 1, "a:1")).unwrap();
        assert!(case.open().prepare(at(5), (Era(0), 1)).unwrap().is_ok());
        let mut bytes = std::fs::read(case.path()).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(case.path(), bytes).unwrap();
        let answer = case.open().prepare(at(6), (Era(0), 1));
        assert!(matches!(answer, Err(AcceptorError::Lost)));
    }
}
