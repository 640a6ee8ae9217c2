//! A process of a cluster of separate processes: how it becomes a member, and how it knows later that it is one.

use crate::drain::Signals;
use crate::failure::Failure;
use crate::folder;
use crate::secrets;
use ringfort_ring::id::{ClusterId, NodeId};
use ringfort_storage_node::control::file::Secrecy;
use ringfort_storage_node::control::follow::{FollowPace, follow_layout};
use ringfort_storage_node::control::layout_store::LayoutStore;
use ringfort_storage_node::control::token::JoinToken;
use ringfort_wire::client::TcpTransport;
use ringfort_wire::environment::Environment;
use ringfort_wire::error::{CallError, NodeErrorCode};
use ringfort_wire::identity::{Identity, NodeKey};
use ringfort_wire::join::{Applicant, JoinError, join};
use ringfort_wire::message::{GetLayoutRequest, Request, Response, Role};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Membership, as the folder keeps it; the certificate lies beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Membership {
    cluster: String,
    /// Node or gateway.
    role: String,
    /// Internode addresses known at the join.
    pub(crate) seeds: Vec<String>,
    admin_token_sha256: String,
}

#[derive(Serialize, Deserialize)]
struct KeptId {
    id: String,
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Node => "node",
        Role::Gateway => "gateway",
    }
}

impl Membership {
    /// A membership.
    pub(crate) fn new(
        cluster: ClusterId,
        role: Role,
        seeds: Vec<String>,
        admin_hash: [u8; 32],
    ) -> Self {
        Self {
            cluster: cluster.to_string(),
            role: role_name(role).to_owned(),
            seeds,
            admin_token_sha256: hex::encode(admin_hash),
        }
    }

    /// The cluster.
    pub(crate) fn cluster(&self) -> Result<ClusterId, Failure> {
        ClusterId::parse(&self.cluster).ok_or_else(|| {
            Failure::usage("membership.json names no cluster: put back a copy of it")
        })
    }

    /// SHA-256 of the admin token.
    pub(crate) fn admin_token_hash(&self) -> Result<[u8; 32], Failure> {
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.admin_token_sha256, &mut hash).map_err(|_| {
            Failure::usage(
                "membership.json holds no hash of the admin token: put back a copy of it",
            )
        })?;
        Ok(hash)
    }

    /// Keeps it; from here on the folder is a member's.
    pub(crate) fn save(&self, data: &Path) -> Result<(), Failure> {
        folder::write_json(&path(data), self, Secrecy::Secret)
    }
}

fn path(data: &Path) -> PathBuf {
    data.join("membership.json")
}

/// The folder's membership; one of another role is a refusal.
pub(crate) fn load(data: &Path, role: Role) -> Result<Option<Membership>, Failure> {
    if data.join("server.json").exists() {
        return Err(Failure::usage(format!(
            "{} belongs to an all-in-one server: start it with `ringfort server`, or choose another --data folder",
            data.display()
        )));
    }
    let Some(found) = folder::read_json::<Membership>(&path(data))? else {
        return Ok(None);
    };
    if found.role != role_name(role) {
        return Err(Failure::usage(format!(
            "{} belongs to a {}: start it with `ringfort {}`, or choose another --data folder",
            data.display(),
            found.role,
            found.role
        )));
    }
    Ok(Some(found))
}

/// The token to join with, if one is given; empty is a refusal.
pub(crate) fn token(text: Option<&str>, file: Option<&Path>) -> Result<Option<JoinToken>, Failure> {
    let text = match (text, file) {
        (Some(_), Some(_)) => {
            return Err(Failure::usage(
                "both --join and --join-file are given: give one of them",
            ));
        }
        (Some(text), None) => text.to_owned(),
        (None, Some(path)) => secrets::read_secret(path)?,
        (None, None) => return Ok(None),
    };
    if text.trim().is_empty() {
        return Err(Failure::usage(
            "--join (RINGFORT_JOIN) is given but empty: put the token there, or leave it out",
        ));
    }
    JoinToken::parse(&text).map(Some).map_err(Failure::usage)
}

/// Which cluster this folder belongs to, or is to join.
pub(crate) fn cluster(
    data: &Path,
    member: Option<&Membership>,
    token: Option<&JoinToken>,
) -> Result<ClusterId, Failure> {
    match (member, token) {
        (Some(member), token) => {
            let own = member.cluster()?;
            if let Some(token) = token {
                if token.cluster != own {
                    return Err(Failure::usage(format!(
                        "{} belongs to cluster {own}, and the token is for cluster {}: choose another --data folder",
                        data.display(),
                        token.cluster
                    )));
                }
                tracing::info!("this folder is a member already; the join token is not needed");
            }
            Ok(own)
        }
        (None, Some(token)) => Ok(token.cluster),
        (None, None) => Err(Failure::usage(format!(
            "{} is not a member of a cluster yet: give --join TOKEN (or RINGFORT_JOIN), with a token of `ringfort \
             cluster init` or `ringfort cluster token`",
            data.display()
        ))),
    }
}

/// The folder's id, drawn at its first start.
pub(crate) fn own_id(data: &Path, environment: &Environment) -> Result<NodeId, Failure> {
    let path = data.join("identity.json");
    if let Some(kept) = folder::read_json::<KeptId>(&path)? {
        return NodeId::parse(&kept.id).ok_or_else(|| {
            Failure::usage(format!(
                "{} names no id: put back a copy of it",
                path.display()
            ))
        });
    }
    let id = NodeId(environment.random_id());
    let kept = KeptId { id: id.to_string() };
    folder::write_json(&path, &kept, Secrecy::Plain)?;
    Ok(id)
}

/// Joins, however often the authority has to be asked; a refusal ends it. `None`: a signal came first.
///
/// The order makes a crash at any point harmless: key and id are on disk before the first word, and the membership is
/// written last. Until then the next start asks again, with the same id and key.
pub(crate) async fn join_cluster(
    data: &Path,
    token: &JoinToken,
    applicant: &Applicant,
    signals: &mut Signals,
    remember: impl FnOnce() -> Result<(), Failure>,
) -> Result<Option<Membership>, Failure> {
    let mut was_told = false;
    let joined = 'asking: loop {
        for address in &token.addresses {
            let key = NodeKey::load_or_create(data).map_err(Failure::usage)?;
            let at = token.at(address);
            let asked = tokio::select! {
                asked = join(&at, applicant.clone(), key, JOIN_TIMEOUT) => asked,
                _ = signals.next() => return Ok(None),
            };
            match asked {
                Ok(joined) => break 'asking joined,
                Err(JoinError::Call { address, source }) if may_pass(&source) => {
                    let error = JoinError::Call { address, source };
                    if !was_told {
                        tracing::warn!(%error, "no answer yet; asking on");
                        was_told = true;
                    }
                }
                Err(error) => return Err(Failure::usage(error)),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN_AFTER) => {}
            _ = signals.next() => return Ok(None),
        }
    };
    if joined.cluster != token.cluster {
        return Err(Failure::usage(
            "the cluster that answered is not the one that the token names",
        ));
    }
    let membership = Membership::new(
        joined.cluster,
        applicant.role,
        joined.seeds,
        joined.admin_token_hash,
    );
    remember()?;
    joined.identity.save(data).map_err(Failure::failed)?;
    membership.save(data)?;
    tracing::info!(cluster = %joined.cluster, "joined the cluster");
    Ok(Some(membership))
}

/// Whether a join that met this is worth trying again: nobody answered, or the cluster cannot change its layout now.
fn may_pass(error: &CallError) -> bool {
    match error {
        CallError::Unreachable(_) | CallError::TimedOut => true,
        CallError::Refused(why) => why.code == NodeErrorCode::Unavailable,
    }
}

/// The folder's certificate.
pub(crate) fn identity(data: &Path) -> Result<Identity, Failure> {
    Identity::load(data)
        .map_err(Failure::usage)?
        .ok_or_else(|| {
            Failure::usage(format!(
                "{} has no certificate beside its membership: put back a copy of the folder",
                data.display()
            ))
        })
}

/// Keeps the address book at the newest layout.
pub(crate) async fn follow_addresses(transport: Arc<TcpTransport>, layouts: Arc<LayoutStore>) {
    let mut shown = layouts.subscribe();
    loop {
        let layout = shown.borrow_and_update().clone();
        if let Some(layout) = layout {
            transport.update(&layout);
        }
        if shown.changed().await.is_err() {
            return;
        }
    }
}

/// Asks members for the layout until the process ends; at once whenever `wanted` is told.
pub(crate) async fn follow(
    transport: Arc<TcpTransport>,
    layouts: Arc<LayoutStore>,
    seeds: Vec<String>,
    own: Option<String>,
    wanted: Arc<Notify>,
    shutdown: watch::Receiver<bool>,
) {
    let ask = move |address: String, have_version: u64| {
        let request = Request::GetLayout(GetLayoutRequest { have_version });
        let asked = transport.ask(&address, request, ASK_TIMEOUT);
        async move {
            match asked.await {
                Ok((_, Response::GetLayout(reply))) => Ok(reply.layout),
                Ok(_) => Err("an answer of another kind".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        }
    };
    let pace = FollowPace::default();
    follow_layout(layouts, seeds, own, pace, wanted, ask, shutdown).await;
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    fn token_of(cluster: u128) -> JoinToken {
        JoinToken {
            cluster: ClusterId::from_u128(cluster),
            role: Role::Node,
            secret: [1; 32],
            authority_sha256: [2; 32],
            addresses: vec!["127.0.0.1:1".to_owned()],
        }
    }

    #[test]
    fn a_member_refuses_the_token_of_another_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let own = ClusterId::from_u128(1);
        let member = Membership::new(own, Role::Node, Vec::new(), [3; 32]);
        member.save(folder.path()).unwrap();
        let member = load(folder.path(), Role::Node).unwrap();
        let judge = |token: Option<&JoinToken>| cluster(folder.path(), member.as_ref(), token);
        assert_eq!(judge(None).unwrap(), own);
        assert_eq!(judge(Some(&token_of(1))).unwrap(), own);
        assert!(
            judge(Some(&token_of(2)))
                .unwrap_err()
                .message
                .contains("another --data folder")
        );
        assert!(
            load(folder.path(), Role::Gateway)
                .unwrap_err()
                .message
                .contains("ringfort node")
        );
        assert!(
            cluster(folder.path(), None, None)
                .unwrap_err()
                .message
                .contains("--join")
        );
        assert_eq!(member.unwrap().admin_token_hash().unwrap(), [3; 32]);
    }

    #[test]
    fn an_empty_or_foreign_token_is_a_refusal() {
        assert!(token(None, None).unwrap().is_none());
        assert!(
            token(Some(" "), None)
                .unwrap_err()
                .message
                .contains("empty")
        );
        assert!(
            token(Some("abc"), None)
                .unwrap_err()
                .message
                .contains("join token")
        );
        assert!(token(Some("a"), Some(Path::new("/x"))).is_err());
        let text = token_of(1).to_string();
        assert_eq!(token(Some(&text), None).unwrap(), Some(token_of(1)));
    }

    #[test]
    fn an_id_is_drawn_once() {
        let folder = tempfile::tempdir().unwrap();
        let environment = Environment::os();
        let id = own_id(folder.path(), &environment).unwrap();
        assert_eq!(own_id(folder.path(), &environment).unwrap(), id);
    }
}
