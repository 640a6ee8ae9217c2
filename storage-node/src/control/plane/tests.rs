//! Some nodes in one process, each with its own folder, layout and acceptor.
#![allow(clippy::unwrap_used, reason = "test code")]

use super::super::layout_store::tests::layout as one_node;
use super::super::service::{ControlDoor, ControlService, refuse_changes};
use super::*;
use parking_lot::Mutex as PlainMutex;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::{ClusterId, Epoch};
use ringfort_ring::layout::NodeEntry;
use ringfort_wire::error::{NodeError, NodeErrorCode};
use ringfort_wire::local::LocalTransport;
use ringfort_wire::message::{Request, Response};
use ringfort_wire::transport::{Peer, Service};
use tempfile::TempDir;

fn id(number: u16) -> NodeId {
    NodeId::from_u128(u128::from(number))
}

/// Nodes 1 to `count`, of which some decide.
fn layout(version: u64, count: u16, control: &[u16]) -> Layout {
    let mut layout = one_node(7, version, "a:1");
    layout.nodes = (1..=count)
        .map(|node| {
            NodeEntry::new(
                id(node),
                format!("n{node}"),
                format!("a:{node}"),
                String::new(),
            )
        })
        .collect();
    layout.control = control.iter().map(|node| node - 1).collect();
    layout
}

/// What a node answers beside the control register.
struct Nothing;

impl Service for Nothing {
    fn handle(
        &self,
        _: Peer,
        _: Request,
        _: Payload,
    ) -> BoxFuture<Result<(Response, Payload), NodeError>> {
        Box::pin(async { Err(NodeError::new(NodeErrorCode::UnknownRequest, "nothing")) })
    }
}

struct Member {
    folder: TempDir,
    layouts: Arc<LayoutStore>,
    acceptor: Arc<ControlAcceptor>,
    plane: ControlPlane,
    service: Arc<dyn Service>,
}

struct Cluster {
    transport: Arc<LocalTransport>,
    members: Vec<Member>,
    introduced: Arc<PlainMutex<Vec<NodeId>>>,
}

fn patient() -> ControlOptions {
    ControlOptions {
        deadline: Duration::from_secs(120),
        backoff_min: Duration::from_millis(2),
        backoff_max: Duration::from_millis(20),
        offer_again_after: Duration::from_millis(10),
        settle_every: Duration::from_millis(10),
        ..ControlOptions::default()
    }
}

impl Cluster {
    /// All know the first layout.
    fn new(count: u16, control: &[u16]) -> Self {
        Self::with(count, control, patient())
    }

    fn with(count: u16, control: &[u16], options: ControlOptions) -> Self {
        let mut cluster = Self {
            transport: LocalTransport::new(),
            members: Vec::new(),
            introduced: Arc::default(),
        };
        for number in 1..=count {
            let folder = tempfile::tempdir().unwrap();
            let member = cluster.open(number, folder, options);
            member.layouts.adopt(layout(1, count, control)).unwrap();
            cluster.members.push(member);
        }
        cluster
    }

    fn open(&self, number: u16, folder: TempDir, options: ControlOptions) -> Member {
        let environment = Environment::os();
        let layouts = LayoutStore::open(folder.path(), ClusterId::from_u128(7)).unwrap();
        let layouts = Arc::new(layouts);
        let acceptor = ControlAcceptor::open(
            folder.path(),
            id(number),
            Arc::clone(&layouts),
            environment.clone(),
            500,
        );
        let acceptor = Arc::new(acceptor.unwrap());
        let introduced = Arc::clone(&self.introduced);
        let plane = ControlPlane::new(
            Arc::clone(&layouts),
            vec![Arc::clone(&acceptor)],
            Arc::clone(&self.transport) as Arc<dyn Transport>,
            Arc::new(move |node, _| introduced.lock().push(node)),
            environment,
            options,
        );
        let door = ControlDoor {
            acceptor: Arc::clone(&acceptor),
            layouts: Arc::clone(&layouts),
            plane: plane.clone(),
            changer: refuse_changes(),
        };
        let service = ControlService::new(Arc::new(Nothing), None).with_control(door);
        let service: Arc<dyn Service> = Arc::new(service);
        self.transport.insert(id(number), Arc::clone(&service));
        Member {
            folder,
            layouts,
            acceptor,
            plane,
            service,
        }
    }

    fn member(&self, number: u16) -> &Member {
        &self.members[usize::from(number) - 1]
    }

    fn plane(&self, number: u16) -> &ControlPlane {
        &self.member(number).plane
    }

    fn version(&self, number: u16) -> u64 {
        self.member(number).layouts.current().unwrap().version
    }

    fn lose(&self, number: u16) {
        self.transport.remove(id(number));
    }

    fn is_back(&self, number: u16) {
        let service = Arc::clone(&self.member(number).service);
        self.transport.insert(id(number), service);
    }

    /// The processes end and start again.
    fn restart(&mut self) {
        let numbers = 1_u16..;
        let folders: Vec<TempDir> = self.members.drain(..).map(|member| member.folder).collect();
        for (number, folder) in numbers.zip(folders) {
            let member = self.open(number, folder, patient());
            self.members.push(member);
        }
    }

    /// What a proposer leaves that stops after some Accepts.
    fn leave_unsettled(&self, numbers: &[u16], layout: &Layout) {
        let ballot = Ballot {
            time: Timestamp(5),
            incarnation: Incarnation([9; 16]),
        };
        for number in numbers {
            let acceptor = &self.member(*number).acceptor;
            acceptor.accept(ballot, layout).unwrap().unwrap();
        }
    }
}

/// Gives the first node a name, once.
fn rename(name: &str) -> impl FnMut(&Layout) -> Result<Option<Layout>, String> + Send {
    let name = name.to_owned();
    move |layout| {
        let mut next = layout.clone();
        next.version += 1;
        next.nodes[0].name.clone_from(&name);
        Ok((layout.nodes[0].name != name).then_some(next))
    }
}

fn set_control(
    control: &[u16],
    is_ended: bool,
) -> impl FnMut(&Layout) -> Result<Option<Layout>, String> + Send {
    let control: Vec<u16> = control.iter().map(|node| node - 1).collect();
    move |layout| {
        let mut next = layout.clone();
        next.version += 1;
        if is_ended {
            next.control_before.clear();
        } else {
            next.control_before = std::mem::replace(&mut next.control, control.clone());
            next.control_epoch = Epoch(next.version);
        }
        Ok(Some(next))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_chosen_with_a_minority_lost_and_read_everywhere() {
    let cluster = Cluster::new(4, &[1, 2, 3]);
    cluster.lose(3);
    let layout = cluster.plane(4).update(rename("x")).await.unwrap();
    assert_eq!((layout.version, &*layout.nodes[0].name), (2, "x"));
    assert_eq!(cluster.version(4), 2);
    // Nobody was told, and still whoever reads sees it.
    for number in [1, 2] {
        assert_eq!(cluster.plane(number).read().await.unwrap(), layout);
    }
    cluster.is_back(3);
    cluster.lose(1);
    let layout = cluster.plane(3).update(rename("y")).await.unwrap();
    assert_eq!(layout.version, 3);
    // Nothing to change, nothing changed.
    assert_eq!(cluster.plane(2).update(rename("y")).await.unwrap(), layout);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_decided_and_it_is_said() {
    let hasty = ControlOptions {
        deadline: Duration::from_millis(200),
        ..patient()
    };
    let cluster = Cluster::with(3, &[1, 2, 3], hasty);
    cluster.lose(2);
    cluster.lose(3);
    let refusal = cluster.plane(1).update(rename("x")).await.unwrap_err();
    assert!(matches!(refusal, ControlError::NoQuorum(_)), "{refusal}");
    assert!(
        refusal.to_string().contains("not in this process"),
        "{refusal}"
    );
    assert!(matches!(
        cluster.plane(1).read().await,
        Err(ControlError::NoQuorum(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_and_a_layout_that_may_not_follow_change_nothing() {
    let cluster = Cluster::new(3, &[1, 2, 3]);
    let refused = cluster
        .plane(1)
        .update(|_| Err::<Option<Layout>, _>("no such node"))
        .await;
    assert_eq!(refused.unwrap_err().to_string(), "no such node");
    let skipping = |layout: &Layout| {
        let mut next = layout.clone();
        next.version += 2;
        Ok::<_, String>(Some(next))
    };
    let refused = cluster.plane(1).update(skipping).await.unwrap_err();
    assert!(matches!(refused, ControlError::Invalid(_)), "{refused}");
    assert_eq!(cluster.plane(2).read().await.unwrap().version, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_the_same_time_each_take_place_once() {
    let cluster = Cluster::new(3, &[1, 2, 3]);
    let changes = (1..=3).flat_map(|number| (0..4).map(move |turn| (number, turn)));
    let changes = changes.map(|(number, turn)| {
        let plane = cluster.plane(number).clone();
        let mark = format!("+{number}.{turn}");
        tokio::spawn(async move {
            let add = |layout: &Layout| {
                let mut next = layout.clone();
                next.version += 1;
                next.nodes[0].zone.push_str(&mark);
                Ok::<_, String>((!layout.nodes[0].zone.contains(&mark)).then_some(next))
            };
            plane.update(add).await.unwrap();
        })
    });
    futures_util::future::join_all(changes.collect::<Vec<_>>()).await;
    let layout = cluster.plane(2).read().await.unwrap();
    assert_eq!(layout.version, 13);
    let mut marks: Vec<&str> = layout.nodes[0].zone.split('+').skip(1).collect();
    marks.sort_unstable();
    marks.dedup();
    assert_eq!(marks.len(), 12, "{marks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_proposer_left_survives_restarts_and_is_settled_first() {
    let mut cluster = Cluster::new(4, &[1, 2, 3]);
    let mut left = layout(2, 5, &[1, 2, 3]);
    left.nodes[0].name = "left".to_owned();
    cluster.leave_unsettled(&[1, 2], &left);
    cluster.restart();
    cluster.lose(1);
    let next = cluster.plane(4).update(rename("next")).await.unwrap();
    assert_eq!((next.version, next.nodes.len()), (3, 5));
    // A node that no chosen layout had named can be reached.
    assert!(cluster.introduced.lock().contains(&id(5)));
    // What only one had accepted and a majority did not show may be overwritten.
    let cluster = Cluster::new(3, &[1, 2, 3]);
    cluster.leave_unsettled(&[1], &layout(2, 5, &[1, 2, 3]));
    cluster.lose(1);
    let next = cluster.plane(2).update(rename("next")).await.unwrap();
    assert_eq!((next.version, next.nodes.len()), (2, 3));
    cluster.is_back(1);
    assert_eq!(cluster.plane(1).read().await.unwrap(), next);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_set_moves_and_who_slept_finds_it() {
    let cluster = Cluster::new(6, &[1, 2, 3]);
    let plane = cluster.plane(6);
    plane.update(set_control(&[3, 4, 5], false)).await.unwrap();
    let done = plane.update(set_control(&[], true)).await.unwrap();
    assert_eq!(done.control_epoch, Epoch(2));
    // The new set decides alone.
    cluster.lose(1);
    cluster.lose(2);
    let changed = plane.update(rename("moved")).await.unwrap();
    assert_eq!(changed.version, 4);
    // Node 1 has slept since the first version: the members that it knows point it on.
    for number in [1, 2] {
        cluster.is_back(number);
        assert_eq!(cluster.version(number), 1);
    }
    cluster.lose(3);
    assert_eq!(cluster.plane(1).read().await.unwrap(), changed);
    assert_eq!(cluster.version(1), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_control_set_needs_both_while_it_lasts() {
    let hasty = ControlOptions {
        deadline: Duration::from_millis(300),
        ..patient()
    };
    let cluster = Cluster::with(6, &[1, 2, 3], hasty);
    let plane = cluster.plane(6);
    plane.update(set_control(&[4, 5, 6], false)).await.unwrap();
    cluster.lose(1);
    cluster.lose(2);
    assert!(plane.update(rename("x")).await.is_err());
    cluster.is_back(2);
    cluster.lose(4);
    cluster.lose(5);
    assert!(plane.update(rename("x")).await.is_err());
    cluster.is_back(4);
    assert!(plane.update(set_control(&[], true)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_told_and_whoever_was_away_is_told_when_it_is_back() {
    let cluster = Cluster::new(4, &[1, 2, 3]);
    let (stop, stops) = watch::channel(false);
    let running = tokio::spawn(cluster.plane(1).clone().run(stops));
    cluster.lose(4);
    cluster.plane(1).update(rename("x")).await.unwrap();
    let reaches = async |number: u16, version: u64| {
        let mut shown = cluster.member(number).layouts.subscribe();
        let newer = |layout: &Option<Arc<Layout>>| {
            layout
                .as_ref()
                .is_some_and(|layout| layout.version >= version)
        };
        shown.wait_for(newer).await.unwrap();
    };
    reaches(2, 2).await;
    reaches(3, 2).await;
    assert_eq!(cluster.version(4), 1);
    assert!(cluster.plane(1).inner.push.owed().contains(&id(4)));
    cluster.plane(1).update(rename("y")).await.unwrap();
    reaches(3, 3).await;
    cluster.is_back(4);
    reaches(4, 3).await;
    stop.send_replace(true);
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_settles_is_settled_in_the_background() {
    let cluster = Cluster::new(3, &[1, 2, 3]);
    cluster.leave_unsettled(&[1, 2], &layout(2, 4, &[1, 2, 3]));
    let (stop, stops) = watch::channel(false);
    let running = tokio::spawn(cluster.plane(1).clone().run(stops));
    let mut shown = cluster.member(3).layouts.subscribe();
    let newer = |layout: &Option<Arc<Layout>>| layout.as_ref().is_some_and(|one| one.version == 2);
    shown.wait_for(newer).await.unwrap();
    stop.send_replace(true);
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_chosen_layout_of_a_version_is_an_alarm() {
    let cluster = Cluster::new(3, &[1, 2, 3]);
    let mut other = layout(2, 3, &[1, 2, 3]);
    cluster.member(1).layouts.adopt(other.clone()).unwrap();
    other.nodes[0].name = "other".to_owned();
    cluster.leave_unsettled(&[2, 3], &other);
    cluster.lose(1);
    assert_eq!(cluster.plane(2).read().await.unwrap().version, 2);
    cluster.is_back(1);
    let offered = ringfort_wire::transport::call(
        cluster.transport.as_ref(),
        id(1),
        Lane::Metadata,
        ringfort_wire::message::OfferLayoutRequest { layout: other },
        Payload::new(),
        Duration::from_secs(60),
    );
    let refusal = offered.await.unwrap_err().to_string();
    assert!(
        refusal.contains("two different layouts of version 2"),
        "{refusal}"
    );
}
