//! What the authority lets in, and what a crash leaves.

#![allow(
    clippy::disallowed_methods,
    reason = "a test looks at the folder as an operator would"
)]
#![allow(clippy::unwrap_used, reason = "test code")]

use super::*;
use ringfort_wire::identity::NodeKey;
use std::collections::BTreeMap;

/// One key a member, as in life.
fn csr(id: u128) -> Vec<u8> {
    static KEYS: Mutex<BTreeMap<u128, NodeKey>> = Mutex::new(BTreeMap::new());
    let mut keys = KEYS.lock();
    let key = keys
        .entry(id)
        .or_insert_with(|| NodeKey::generate().unwrap());
    key.signing_request().unwrap()
}

fn member(id: u128, role: Role) -> Member {
    Member {
        id: NodeId::from_u128(id),
        role,
        name: format!("n{id}"),
        address: format!("127.0.0.1:{}", 7000 + id),
        zone: String::new(),
        disks: vec![(DiskId::from_u128(id), 1 << 30)],
        key_digest: [0; 32],
    }
}

fn plan(nodes: u16, replicas: u8) -> ClusterPlan {
    ClusterPlan {
        nodes,
        replicas,
        partitions: 8,
        bootstrap: Member {
            disks: Vec::new(),
            ..member(1, Role::Node)
        },
        admin_token_hash: [1; 32],
    }
}

fn request(token: &JoinToken, id: u128) -> JoinRequest {
    let member = member(id, token.role);
    JoinRequest {
        secret: token.secret,
        role: member.role,
        id: member.id,
        name: member.name,
        address: member.address,
        zone: member.zone,
        disks: member.disks,
        csr: csr(id),
    }
}

struct Case {
    folder: tempfile::TempDir,
    cluster: ClusterId,
    tokens: Vec<JoinToken>,
}

impl Case {
    fn new(nodes: u16, replicas: u8, gateways: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(nodes, replicas);
        let NewCluster { cluster, tokens } =
            Authority::create(folder.path(), &plan, gateways, &Environment::os()).unwrap();
        Self {
            folder,
            cluster,
            tokens,
        }
    }

    /// As after a restart.
    fn open(&self) -> Authority {
        let layouts = Arc::new(LayoutStore::open(self.folder.path(), self.cluster).unwrap());
        Authority::open(self.folder.path(), layouts, Environment::os())
            .unwrap()
            .unwrap()
    }
}

fn why(reply: JoinReply) -> String {
    match reply {
        JoinReply::Refused(why) => why,
        JoinReply::Joined { .. } => panic!("it was let in"),
    }
}

fn certificate(reply: JoinReply) -> Vec<u8> {
    match reply {
        JoinReply::Joined { certificate, .. } => certificate,
        JoinReply::Refused(why) => panic!("{why}"),
    }
}

#[test]
fn the_layout_is_formed_when_the_last_node_has_joined_over_any_restarts() {
    let case = Case::new(3, 3, 0);
    assert_eq!(case.tokens.len(), 2);
    case.open()
        .admit_self(&[(DiskId::from_u128(1), 1 << 30)])
        .unwrap();
    certificate(case.open().join(&request(&case.tokens[0], 2)).unwrap());
    let authority = case.open();
    assert_eq!(authority.progress(), (2, 3));
    assert!(authority.layouts.current().is_none());
    certificate(authority.join(&request(&case.tokens[1], 3)).unwrap());
    let layout = authority.layouts.current().unwrap();
    assert_eq!((layout.nodes.len(), layout.rows.len()), (3, 8));
    drop(authority);
    assert_eq!(case.open().layouts.current().unwrap(), layout);
}

#[test]
fn a_layout_lost_between_the_last_join_and_its_file_is_formed_at_the_next_start() {
    let case = Case::new(1, 1, 0);
    let authority = case.open();
    authority.admit_self(&[(DiskId::from_u128(1), 1)]).unwrap();
    std::fs::remove_file(case.folder.path().join("layout")).unwrap();
    let authority = case.open();
    assert!(authority.layouts.current().is_none());
    authority.admit_self(&[(DiskId::from_u128(1), 1)]).unwrap();
    assert!(authority.layouts.current().is_some());
    let formed = authority.layouts.current().unwrap();
    // What has become of its disks since is for the layout to hear; formed again, it is the same.
    authority.admit_self(&[(DiskId::from_u128(9), 1)]).unwrap();
    std::fs::remove_file(case.folder.path().join("layout")).unwrap();
    let authority = case.open();
    authority.admit_self(&[(DiskId::from_u128(9), 1)]).unwrap();
    assert_eq!(authority.layouts.current().unwrap(), formed);
}

#[test]
fn a_node_that_joins_a_formed_cluster_is_owed_to_the_layout_and_not_part_of_the_first() {
    let case = Case::new(1, 1, 0);
    let authority = case.open();
    authority.admit_self(&[(DiskId::from_u128(1), 1)]).unwrap();
    let first = authority.layouts.current().unwrap();
    let token = authority.issue_token(Role::Node).unwrap();
    let refusal = |change: &dyn Fn(&mut JoinRequest)| {
        let mut request = request(&token, 2);
        change(&mut request);
        why(authority.join(&request).unwrap())
    };
    assert!(refusal(&|r| r.name = "n1".into()).contains("--name"));
    assert!(refusal(&|r| r.disks[0].0 = DiskId::from_u128(1)).contains("--disk"));
    assert_eq!(authority.owed_to_layout(NodeId::from_u128(2)), None);
    for authority in [&authority, &case.open()] {
        certificate(authority.join(&request(&token, 2)).unwrap());
        let owed = authority.owed_to_layout(NodeId::from_u128(2)).unwrap();
        assert_eq!(owed.disks, [(DiskId::from_u128(2), 1 << 30)]);
        assert_eq!(authority.layouts.current().unwrap(), first);
    }
    let thief = why(authority.join(&request(&token, 4)).unwrap());
    assert!(thief.contains("good once"), "{thief}");
    // The first layout is formed of the first nodes, whenever it has to be.
    std::fs::remove_file(case.folder.path().join("layout")).unwrap();
    let authority = case.open();
    authority.admit_self(&[(DiskId::from_u128(1), 1)]).unwrap();
    assert_eq!(authority.layouts.current().unwrap(), first);
    let owed = authority.owed_to_layout(NodeId::from_u128(2)).unwrap();
    let second = entries::take_in(&first, &owed).unwrap().unwrap();
    authority.layouts.adopt(second).unwrap();
    assert_eq!(authority.owed_to_layout(NodeId::from_u128(2)), None);
    // A disk that came to the layout later is another node's too.
    let mut third = (*authority.layouts.current().unwrap()).clone();
    third.version += 1;
    third.disks.push(ringfort_ring::layout::DiskEntry::new(
        DiskId::from_u128(30),
        0,
        1,
    ));
    authority.layouts.adopt(third).unwrap();
    let token = authority.issue_token(Role::Node).unwrap();
    let mut request = request(&token, 5);
    request.disks[0].0 = DiskId::from_u128(30);
    assert!(why(authority.join(&request).unwrap()).contains("--disk"));
}

#[test]
fn a_token_is_good_once_but_its_user_may_ask_again() {
    let case = Case::new(3, 3, 0);
    let authority = case.open();
    let first = certificate(authority.join(&request(&case.tokens[0], 2)).unwrap());
    let again = certificate(case.open().join(&request(&case.tokens[0], 2)).unwrap());
    assert!(!first.is_empty() && !again.is_empty());
    // The id is no secret, and the token may have been read: without the key they are worth nothing.
    let mut other_key = request(&case.tokens[0], 2);
    other_key.csr = csr(99);
    assert!(why(authority.join(&other_key).unwrap()).contains("another key"));
    let thief = why(authority.join(&request(&case.tokens[0], 4)).unwrap());
    assert!(thief.contains("good once"), "{thief}");
    let mut changed = request(&case.tokens[0], 2);
    changed.address = "127.0.0.1:9".into();
    assert!(why(authority.join(&changed).unwrap()).contains("as the first time"));
}

#[test]
fn a_refusal_says_what_to_do_and_costs_no_token() {
    let case = Case::new(3, 3, 1);
    let authority = case.open();
    let refusal = |change: &dyn Fn(&mut JoinRequest)| {
        let mut request = request(&case.tokens[0], 2);
        change(&mut request);
        why(authority.join(&request).unwrap())
    };
    assert!(refusal(&|r| r.secret = [0; 32]).contains("cluster token"));
    assert!(refusal(&|r| r.role = Role::Gateway).contains("ringfort node"));
    assert!(refusal(&|r| r.name = "n1".into()).contains("--name"));
    assert!(refusal(&|r| r.name.clear()).contains("--name"));
    assert!(refusal(&|r| r.address = "127.0.0.1:7001".into()).contains("--advertise"));
    assert!(refusal(&|r| r.address = "nowhere".into()).contains("--advertise"));
    assert!(refusal(&|r| r.address = "0.0.0.0:0".into()).contains("--advertise"));
    assert!(refusal(&|r| r.disks.clear()).contains("--disk"));
    assert!(refusal(&|r| r.csr.clear()).contains("signing request"));
    certificate(authority.join(&request(&case.tokens[0], 2)).unwrap());
    assert!(refusal(&|r| r.id = NodeId::from_u128(9)).contains("good once"));
    certificate(case.open().join(&request(&case.tokens[1], 3)).unwrap());
    let full = case.open().issue_token(Role::Node).unwrap_err();
    assert!(full.to_string().contains("all 3 nodes"), "{full}");
}

#[test]
fn gateways_join_at_any_time_and_learn_the_nodes() {
    let case = Case::new(1, 1, 1);
    let authority = case.open();
    authority.admit_self(&[(DiskId::from_u128(1), 1)]).unwrap();
    let more = authority.issue_token(Role::Gateway).unwrap();
    drop(authority);
    for (token, id) in [(&case.tokens[0], 20), (&more, 21)] {
        let mut request = request(token, id);
        request.disks.clear();
        request.address.clear();
        match case.open().join(&request).unwrap() {
            JoinReply::Joined {
                seeds,
                admin_token_hash,
                ..
            } => {
                assert_eq!(seeds, ["127.0.0.1:7001"]);
                assert_eq!(admin_token_hash, [1; 32]);
            }
            JoinReply::Refused(why) => panic!("{why}"),
        }
    }
}

#[test]
fn a_second_cluster_in_one_folder_and_impossible_sizes_are_refused() {
    let case = Case::new(1, 1, 0);
    let again = Authority::create(case.folder.path(), &plan(1, 1), 0, &Environment::os());
    assert!(
        again
            .unwrap_err()
            .to_string()
            .contains("already holds a cluster")
    );
    for (nodes, replicas, partitions) in
        [(3, 2, 8), (2, 3, 8), (0, 1, 8), (3, 3, 0), (3, 3, 70_000)]
    {
        assert!(check_sizes(nodes, replicas, partitions).is_err());
    }
}

#[test]
fn secrets_are_not_in_the_file() {
    let case = Case::new(3, 3, 2);
    let bytes = std::fs::read(case.folder.path().join("authority.state")).unwrap();
    for token in &case.tokens {
        assert!(!bytes.windows(32).any(|window| window == token.secret));
    }
    assert!(!file::is_readable_by_others(&case.folder.path().join("authority.state")).unwrap());
}
