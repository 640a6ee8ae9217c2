//! How a process learns the layout: it asks the members it knows, until it has one, then now and again, and at once when
//! somebody has shown that there is a newer one.
//!
//! Promises: what is learnt goes through [`LayoutStore::adopt`], so that nothing older or foreign is ever taken. An
//! unreachable member costs one line in the log when it begins and one when it ends. Left out: telling others of a new
//! layout (see `push`).

use super::layout_store::LayoutStore;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use ringfort_ring::layout::Layout;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How often to ask.
#[derive(Clone, Copy, Debug)]
pub struct FollowPace {
    /// While there is no layout.
    pub without_layout: Duration,
    /// Once there is one.
    pub with_layout: Duration,
    /// Between two times that a newer layout is wanted: at least so long.
    pub when_wanted: Duration,
}

impl Default for FollowPace {
    fn default() -> Self {
        Self {
            without_layout: Duration::from_millis(500),
            with_layout: Duration::from_secs(5),
            when_wanted: Duration::from_millis(50),
        }
    }
}

/// So many members are asked at once when a newer layout is wanted.
const ASKED_AT_ONCE: usize = 8;

/// Asks members for the layout until `shutdown` turns true.
///
/// `seeds` are the addresses known from the start, `own` is left out; `ask(address, known version)` answers a newer
/// layout, if there is one, or why there is no answer. `wanted` is told when somebody has shown that there is a newer one.
pub async fn follow_layout<Ask, Answer>(
    store: Arc<LayoutStore>,
    seeds: Vec<String>,
    own: Option<String>,
    pace: FollowPace,
    wanted: Arc<Notify>,
    ask: Ask,
    mut shutdown: watch::Receiver<bool>,
) where
    Ask: Fn(String, u64) -> Answer + Send + Sync,
    Answer: Future<Output = Result<Option<Layout>, String>> + Send,
{
    let mut follower = Follower {
        store,
        ask,
        silent: BTreeSet::new(),
    };
    let following = async {
        let mut turn = 0_usize;
        let mut is_wanted = false;
        loop {
            let known = follower.store.current();
            let mut asked = addresses(&seeds, known.as_deref(), own.as_deref());
            if !asked.is_empty() {
                let first = turn % asked.len();
                asked.rotate_left(first);
            }
            // Without a layout everyone is asked in turn; with one, a single member a turn is enough.
            match known {
                Some(_) if is_wanted => {
                    asked.truncate(ASKED_AT_ONCE);
                    follower.ask_at_once(asked).await;
                }
                Some(_) => {
                    asked.truncate(1);
                    follower.ask_each(asked).await;
                }
                None => follower.ask_each(asked).await,
            }
            turn = turn.wrapping_add(1);
            let asked_at = Instant::now();
            let pause = match follower.store.current() {
                None => pace.without_layout,
                Some(_) => pace.with_layout,
            };
            is_wanted = tokio::select! {
                () = tokio::time::sleep(pause) => false,
                () = wanted.notified() => true,
            };
            if is_wanted {
                tokio::time::sleep_until(asked_at + pace.when_wanted).await;
            }
        }
    };
    tokio::select! {
        () = following => {}
        // Dropping the rest drops a question; a layout that is being written is written to its end.
        _ = shutdown.wait_for(|ends| *ends) => {}
    }
}

struct Follower<Ask> {
    store: Arc<LayoutStore>,
    ask: Ask,
    silent: BTreeSet<String>,
}

impl<Ask, Answer> Follower<Ask>
where
    Ask: Fn(String, u64) -> Answer,
    Answer: Future<Output = Result<Option<Layout>, String>>,
{
    fn version(&self) -> u64 {
        self.store.current().map_or(0, |layout| layout.version)
    }

    async fn ask_each(&mut self, addresses: Vec<String>) {
        for address in addresses {
            let answer = (self.ask)(address.clone(), self.version()).await;
            self.heard(&address, answer).await;
        }
    }

    /// Asks all of them at once, until one has something newer: a member that does not answer holds nobody up.
    async fn ask_at_once(&mut self, addresses: Vec<String>) {
        let before = self.version();
        let mut asked: FuturesUnordered<_> = addresses
            .into_iter()
            .map(|address| {
                let answer = (self.ask)(address.clone(), before);
                async move { (address, answer.await) }
            })
            .collect();
        while let Some((address, answer)) = asked.next().await {
            self.heard(&address, answer).await;
            if self.version() > before {
                return;
            }
        }
    }

    async fn heard(&mut self, address: &str, answer: Result<Option<Layout>, String>) {
        match answer {
            Ok(layout) => {
                if self.silent.remove(address) {
                    tracing::info!(%address, "a member answers again");
                }
                take(&self.store, address, layout).await;
            }
            Err(why) => {
                if self.silent.insert(address.to_owned()) {
                    tracing::warn!(%address, %why, "a member does not say what the layout is");
                }
            }
        }
    }
}

fn addresses(seeds: &[String], known: Option<&Layout>, own: Option<&str>) -> Vec<String> {
    let members = known.into_iter().flat_map(|layout| &layout.nodes);
    let mut addresses: Vec<String> = Vec::new();
    for address in seeds.iter().chain(members.map(|node| &node.address)) {
        if Some(address.as_str()) != own && !addresses.contains(address) {
            addresses.push(address.clone());
        }
    }
    addresses
}

async fn take(store: &Arc<LayoutStore>, address: &str, layout: Option<Layout>) {
    let Some(layout) = layout else { return };
    let version = layout.version;
    let taker = Arc::clone(store);
    match tokio::task::spawn_blocking(move || taker.adopt(layout)).await {
        Ok(Ok(true)) => tracing::info!(version, %address, "a new layout"),
        Ok(Ok(false)) => {}
        Ok(Err(error)) => tracing::error!(%error, %address, "a layout was refused"),
        Err(error) => tracing::error!(%error, "the layout could not be kept"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::super::layout_store::tests::layout;
    use super::*;
    use parking_lot::Mutex;
    use ringfort_ring::id::ClusterId;

    #[tokio::test]
    async fn the_layout_is_learnt_from_whoever_has_it_and_newer_ones_from_its_members() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(LayoutStore::open(folder.path(), ClusterId::from_u128(7)).unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = watch::channel(false);
        let seen = Arc::clone(&asked);
        let following = tokio::spawn(follow_layout(
            Arc::clone(&store),
            vec!["dead:1".into(), "own:1".into(), "seed:1".into()],
            Some("own:1".into()),
            FollowPace {
                without_layout: Duration::from_millis(1),
                with_layout: Duration::from_millis(1),
                when_wanted: Duration::from_millis(1),
            },
            Arc::new(Notify::new()),
            move |address: String, have| {
                seen.lock().push(address.clone());
                let answer = match address.as_str() {
                    "seed:1" if have == 0 => Ok(Some(layout(7, 1, "member:1"))),
                    "member:1" if have == 1 => Ok(Some(layout(7, 2, "member:1"))),
                    // An old copy that someone serves must not take hold.
                    "seed:1" => Ok(Some(layout(7, 1, "other:1"))),
                    "member:1" => Ok(None),
                    _ => Err("no route".to_owned()),
                };
                async move { answer }
            },
            stopped,
        ));
        let mut shown = store.subscribe();
        shown
            .wait_for(|layout| layout.as_ref().is_some_and(|layout| layout.version == 2))
            .await
            .unwrap();
        stop.send_replace(true);
        following.await.unwrap();
        assert_eq!(store.current().unwrap().nodes[0].address, "member:1");
        assert!(!asked.lock().contains(&"own:1".to_owned()));
    }

    /// Who met a refused epoch does not wait for the next turn, nor for a member that is gone.
    #[tokio::test]
    async fn a_wanted_layout_is_asked_for_at_once_and_a_silent_member_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(LayoutStore::open(folder.path(), ClusterId::from_u128(7)).unwrap());
        store.adopt(layout(7, 1, "member:1")).unwrap();
        let wanted = Arc::new(Notify::new());
        let (stop, stopped) = watch::channel(false);
        let never = Duration::from_secs(100_000);
        let following = tokio::spawn(follow_layout(
            Arc::clone(&store),
            vec!["silent:1".into()],
            None,
            FollowPace {
                without_layout: never,
                with_layout: never,
                when_wanted: Duration::from_millis(1),
            },
            Arc::clone(&wanted),
            move |address: String, have| async move {
                match (address.as_str(), have) {
                    ("silent:1", _) if have == 1 => Err("it is gone".to_owned()),
                    ("member:1", 1..5) => Ok(Some(layout(7, have + 1, "member:1"))),
                    _ => std::future::pending().await,
                }
            },
            stopped,
        ));
        let mut shown = store.subscribe();
        for version in 2..=4 {
            wanted.notify_one();
            let newer = |layout: &Option<Arc<Layout>>| {
                layout
                    .as_ref()
                    .is_some_and(|layout| layout.version >= version)
            };
            shown.wait_for(newer).await.unwrap();
        }
        stop.send_replace(true);
        following.await.unwrap();
    }
}
