//! How a process without an authority learns the layout: it asks the members it knows, until it has one, and then
//! now and again.
//!
//! Promises: what is learnt goes through [`LayoutStore::adopt`], so that nothing older or foreign is ever taken. An
//! unreachable member costs one line in the log when it begins and one when it ends. Left out: pushing a new layout.

use super::layout_store::LayoutStore;
use ringfort_ring::layout::Layout;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often to ask.
#[derive(Clone, Copy, Debug)]
pub struct FollowPace {
    /// While there is no layout.
    pub without_layout: Duration,
    /// Once there is one.
    pub with_layout: Duration,
}

impl Default for FollowPace {
    fn default() -> Self {
        Self {
            without_layout: Duration::from_millis(500),
            with_layout: Duration::from_secs(5),
        }
    }
}

/// Asks members for the layout until `shutdown` turns true.
///
/// `seeds` are the addresses known from the start, `own` is left out; `ask(address, known version)` answers a newer
/// layout, if there is one, or why there is no answer.
pub async fn follow_layout<Ask, Answer>(
    store: Arc<LayoutStore>,
    seeds: Vec<String>,
    own: Option<String>,
    pace: FollowPace,
    ask: Ask,
    mut shutdown: watch::Receiver<bool>,
) where
    Ask: Fn(String, u64) -> Answer + Send,
    Answer: Future<Output = Result<Option<Layout>, String>> + Send,
{
    let mut silent = BTreeSet::new();
    let mut turn = 0_usize;
    loop {
        let known = store.current();
        let addresses = addresses(&seeds, known.as_deref(), own.as_deref());
        // Without a layout everyone is asked; with one, a single member a turn is enough.
        let asked = match known {
            None => addresses.len(),
            Some(_) => addresses.len().min(1),
        };
        for step in 0..asked {
            let address = addresses[(turn + step) % addresses.len()].clone();
            let have = store.current().map_or(0, |layout| layout.version);
            let answer = tokio::select! {
                answer = ask(address.clone(), have) => answer,
                _ = shutdown.wait_for(|ends| *ends) => return,
            };
            match answer {
                Ok(layout) => {
                    if silent.remove(&address) {
                        tracing::info!(%address, "a member answers again");
                    }
                    take(&store, &address, layout).await;
                }
                Err(why) => {
                    if silent.insert(address.clone()) {
                        tracing::warn!(%address, %why, "a member does not say what the layout is");
                    }
                }
            }
        }
        turn = turn.wrapping_add(1);
        let pause = match store.current() {
            None => pace.without_layout,
            Some(_) => pace.with_layout,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = shutdown.wait_for(|ends| *ends) => return,
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
            },
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
}
