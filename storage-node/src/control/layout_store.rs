//! The layout that a process knows: durable in its folder before anything in the process sees it.
//!
//! Promises: what is shown never goes back, neither in a run nor over a crash; an equal version with other content, or
//! another cluster's layout, is refused and told. What is put in must be chosen. Left out: who decides a layout (see
//! `authority` for the first, `plane` for the others).

use super::file::{self, FileError, Kind, Secrecy};
use super::layout_v1::LayoutV1;
use parking_lot::Mutex;
use ringfort_ring::id::ClusterId;
use ringfort_ring::layout::Layout;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

const FILE_NAME: &str = "layout";
const FORMAT_VERSION: u8 = 2;

/// A folder's layout.
#[derive(Debug)]
pub struct LayoutStore {
    path: PathBuf,
    cluster: ClusterId,
    shown: watch::Sender<Option<Arc<Layout>>>,
    /// Held while a newer layout is written, so that two cannot overtake each other.
    writing: Mutex<()>,
}

/// Why a layout was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// It is of another cluster.
    #[error(
        "the layout belongs to cluster {found}, but this folder belongs to cluster {own}: the process talks to a \
         member of another cluster; check the addresses it was given"
    )]
    OtherCluster {
        /// Whose it is.
        found: ClusterId,
        /// This folder's.
        own: ClusterId,
    },
    /// Two layouts of one version: somebody has decided twice.
    #[error(
        "two different layouts of version {version} exist: stop changing the layout and compare `ringfort status` of \
         all nodes; a folder was restored from an old copy, or two authorities are running"
    )]
    Fork {
        /// The version.
        version: u64,
    },
    /// It is older than what is known.
    #[error("the layout is older (version {found}) than the one known here (version {known})")]
    Older {
        /// Its version.
        found: u64,
        /// The version known here.
        known: u64,
    },
    /// It breaks a rule of layouts.
    #[error("the layout is not valid: {0}")]
    Invalid(ringfort_ring::layout::LayoutError),
    /// It could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl LayoutStore {
    /// Opens a folder's layout, if it has one.
    ///
    /// # Errors
    /// A damaged file; a layout of another cluster.
    pub fn open(folder: &Path, cluster: ClusterId) -> Result<Self, LayoutError> {
        let path = folder.join(FILE_NAME);
        let known = match file::read(&path)? {
            None => None,
            Some(bytes) => Some(decode(&path, &bytes)?),
        };
        if let Some(layout) = &known {
            check(layout, cluster)?;
        }
        Ok(Self {
            path,
            cluster,
            shown: watch::Sender::new(known.map(Arc::new)),
            writing: Mutex::new(()),
        })
    }

    /// The cluster whose layouts it takes.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The layout known now.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Layout>> {
        self.shown.borrow().clone()
    }

    /// The layout known now, and every newer one.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Layout>>> {
        self.shown.subscribe()
    }

    /// Takes a newer layout: durable first, then shown. Whether it was news. Blocks on the disk.
    ///
    /// # Errors
    /// Another cluster's, an older one, one that breaks the rules, an equal version with other content.
    pub fn adopt(&self, layout: Layout) -> Result<bool, LayoutError> {
        check(&layout, self.cluster)?;
        let _writing = self.writing.lock();
        if let Some(known) = self.current() {
            let order = (layout.era, layout.version).cmp(&(known.era, known.version));
            if order.is_lt() {
                return Err(LayoutError::Older {
                    found: layout.version,
                    known: known.version,
                });
            }
            if order.is_eq() {
                return if *known == layout {
                    Ok(false)
                } else {
                    Err(LayoutError::Fork {
                        version: layout.version,
                    })
                };
            }
        }
        file::write_durably(&self.path, &encode(&layout), Secrecy::Plain)?;
        self.shown.send_replace(Some(Arc::new(layout)));
        Ok(true)
    }
}

fn check(layout: &Layout, own: ClusterId) -> Result<(), LayoutError> {
    if layout.cluster != own {
        return Err(LayoutError::OtherCluster {
            found: layout.cluster,
            own,
        });
    }
    layout.check().map_err(LayoutError::Invalid)
}

fn encode(layout: &Layout) -> Vec<u8> {
    let body = postcard::to_allocvec(layout).expect("a layout is plain data");
    file::seal(Kind::Layout, FORMAT_VERSION, &body)
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Layout, FileError> {
    let (version, body) =
        file::unseal(Kind::Layout, bytes).map_err(|why| file::damaged(path, why))?;
    let layout = match version {
        1 => postcard::from_bytes::<LayoutV1>(body).map(Layout::from),
        FORMAT_VERSION => postcard::from_bytes(body),
        _ => {
            return Err(file::damaged(
                path,
                format!("its format version {version} is not known to this release"),
            ));
        }
    };
    layout.map_err(|error| file::damaged(path, error.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "test code")]
pub(crate) mod tests {
    use super::*;
    use ringfort_ring::id::{DiskId, Epoch, Era, NodeId};
    use ringfort_ring::layout::{DiskEntry, Member, Members, NodeEntry, Row};

    pub(crate) fn layout(cluster: u128, version: u64, address: &str) -> Layout {
        Layout {
            cluster: ClusterId::from_u128(cluster),
            era: Era(0),
            version,
            replicas: 1,
            control_epoch: Epoch(1),
            control: vec![0],
            control_before: Vec::new(),
            is_balancing_paused: false,
            nodes: vec![NodeEntry::new(
                NodeId::from_u128(1),
                "n1".into(),
                address.into(),
                String::new(),
            )],
            disks: vec![DiskEntry::new(DiskId::from_u128(1), 0, 1)],
            rows: vec![Row {
                epoch: Epoch(1),
                members: Members::Stable(vec![Member {
                    disk: 0,
                    joined: Epoch(1),
                }]),
            }],
        }
    }

    fn open(folder: &Path) -> LayoutStore {
        LayoutStore::open(folder, ClusterId::from_u128(7)).unwrap()
    }

    #[test]
    fn a_layout_is_shown_when_it_is_durable_and_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut shown = store.subscribe();
        assert!(shown.borrow_and_update().is_none());
        assert!(store.adopt(layout(7, 1, "a:1")).unwrap());
        assert!(shown.has_changed().unwrap());
        assert!(!store.adopt(layout(7, 1, "a:1")).unwrap());
        drop(store);
        assert_eq!(
            open(folder.path()).current().unwrap().nodes[0].address,
            "a:1"
        );
    }

    #[test]
    fn a_layout_of_the_first_format_is_still_read() {
        let folder = tempfile::tempdir().unwrap();
        let old = LayoutV1::from(layout(7, 3, "a:1"));
        let body = postcard::to_allocvec(&old).unwrap();
        let sealed = file::seal(Kind::Layout, 1, &body);
        file::write_durably(&folder.path().join("layout"), &sealed, Secrecy::Plain).unwrap();
        assert_eq!(*open(folder.path()).current().unwrap(), layout(7, 3, "a:1"));
    }

    #[test]
    fn a_fork_an_older_and_a_foreign_layout_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        store.adopt(layout(7, 2, "a:1")).unwrap();
        let refusal = |layout| store.adopt(layout).unwrap_err();
        assert!(matches!(
            refusal(layout(7, 2, "b:1")),
            LayoutError::Fork { version: 2 }
        ));
        assert!(matches!(
            refusal(layout(7, 1, "a:1")),
            LayoutError::Older { found: 1, known: 2 }
        ));
        assert!(matches!(
            refusal(layout(8, 3, "a:1")),
            LayoutError::OtherCluster { .. }
        ));
        let mut empty = layout(7, 3, "a:1");
        empty.rows.clear();
        assert!(matches!(refusal(empty), LayoutError::Invalid(_)));
        assert_eq!(store.current().unwrap().version, 2);
        // A new era begins below the versions of the old one.
        let mut recovered = layout(7, 1, "c:1");
        recovered.era = Era(1);
        assert!(store.adopt(recovered).unwrap());
    }

    #[test]
    fn a_crash_at_any_byte_of_a_write_leaves_the_old_layout() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).adopt(layout(7, 1, "a:1")).unwrap();
        let next = encode(&layout(7, 2, "b:1"));
        for written in 0..=next.len() {
            std::fs::write(folder.path().join("layout.new"), &next[..written]).unwrap();
            assert_eq!(open(folder.path()).current().unwrap().version, 1);
        }
        assert!(open(folder.path()).adopt(layout(7, 2, "b:1")).unwrap());
    }

    #[test]
    fn a_damaged_file_is_told_and_never_taken_for_no_layout() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).adopt(layout(7, 1, "a:1")).unwrap();
        let path = folder.path().join("layout");
        let good = std::fs::read(&path).unwrap();
        for cut in 0..good.len() {
            std::fs::write(&path, &good[..cut]).unwrap();
            let told = LayoutStore::open(folder.path(), ClusterId::from_u128(7)).unwrap_err();
            assert!(told.to_string().contains("damaged"), "{told}");
        }
    }
}
