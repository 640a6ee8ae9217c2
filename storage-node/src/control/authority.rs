//! Who may join, and the first layout: the bootstrap node's memory of its cluster.
//!
//! Promises: every step is durable before anybody hears of it; a token's secret is good once and kept only as a hash;
//! a joiner that crashed before it had its answer may ask again, with the same secret and id, and gets an answer of
//! the same worth; the first layout is formed once all expected nodes have joined, and of these alone, however often.
//! A node that joins later is remembered here and owed to the layout ([`Authority::owed_to_layout`]). Left out: changing
//! a layout that exists (see `plane`).
//!
//! The state is one sealed file, `authority.state`, written whole at each step.

use super::entries::{self, NewNode};
use super::file::{self, FileError, Kind, Secrecy};
use super::layout_store::{LayoutError, LayoutStore};
use super::token::JoinToken;
use parking_lot::Mutex;
use ringfort_ring::assign::first_layout;
use ringfort_ring::id::{ClusterId, DiskId, NodeId};
use ringfort_ring::layout::Layout;
use ringfort_ring::topology::{DiskSpec, NodeSpec, Topology};
use ringfort_wire::authority::{Authority as CertificateAuthority, request_key_digest};
use ringfort_wire::environment::Environment;
use ringfort_wire::identity::IdentityError;
use ringfort_wire::join::SecretDigest;
use ringfort_wire::message::{JoinReply, JoinRequest, Role};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FILE_NAME: &str = "authority.state";
const FORMAT_VERSION: u8 = 1;

/// A cluster as `cluster init` makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPlan {
    /// The storage nodes that the first layout waits for, the bootstrap node included.
    pub nodes: u16,
    /// N: 1, 3 or 5.
    pub replicas: u8,
    /// P.
    pub partitions: u32,
    /// The bootstrap node's id, name, internode address and zone.
    pub bootstrap: Member,
    /// SHA-256 of the admin token.
    pub admin_token_hash: [u8; 32],
}

/// A cluster as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCluster {
    /// Its id.
    pub cluster: ClusterId,
    /// Tokens for the other nodes, then for gateways.
    pub tokens: Vec<JoinToken>,
}

/// A member as it joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Node or gateway.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// A node's internode address.
    pub address: String,
    /// A node's failure domain.
    pub zone: String,
    /// A node's disks and their capacities in bytes.
    pub disks: Vec<(DiskId, u64)>,
    /// SHA-256 of its public key: who has a used token and a member's id, but not its key, is somebody else.
    pub key_digest: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    hash: [u8; 32],
    role: Role,
    used_by: Option<NodeId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    cluster: ClusterId,
    nodes: u16,
    replicas: u8,
    partitions: u32,
    bootstrap: NodeId,
    admin_token_hash: [u8; 32],
    authority_sha256: [u8; 32],
    tokens: Vec<Token>,
    members: Vec<Member>,
}

/// The authority cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Refused, and what to do instead.
    #[error("{0}")]
    Refused(String),
    /// Its state could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The first layout could not be kept.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The certificate authority could not be made, read or kept.
    #[error(transparent)]
    Certificates(#[from] IdentityError),
}

fn refused<T>(why: impl Into<String>) -> Result<T, AuthorityError> {
    Err(AuthorityError::Refused(why.into()))
}

/// Admits members.
pub struct Authority {
    path: PathBuf,
    certificates: CertificateAuthority,
    layouts: Arc<LayoutStore>,
    environment: Environment,
    state: Mutex<State>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Whether a folder is a bootstrap node's.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn exists(folder: &Path) -> Result<bool, FileError> {
        Ok(file::read(&folder.join(FILE_NAME))?.is_some())
    }

    /// Writes a new cluster's state into a folder, and answers tokens for so many nodes and gateways. When it
    /// returns, the cluster exists; before, nothing does.
    ///
    /// # Errors
    /// The folder has a cluster already; the plan cannot work; the system's.
    pub fn create(
        folder: &Path,
        plan: &ClusterPlan,
        gateways: u16,
        environment: &Environment,
    ) -> Result<NewCluster, AuthorityError> {
        check_plan(plan)?;
        if Self::exists(folder)? {
            return refused(format!(
                "{} already holds a cluster: start it with `ringfort node --data {}`, or choose another folder",
                folder.display(),
                folder.display()
            ));
        }
        // A crash may have left one: then it goes on being the cluster's.
        let certificates = match CertificateAuthority::load(folder)? {
            Some(left) => left,
            None => {
                let made = CertificateAuthority::create(ClusterId(environment.random_id()))?;
                made.save(folder)?;
                made
            }
        };
        let mut state = State {
            cluster: certificates.cluster(),
            nodes: plan.nodes,
            replicas: plan.replicas,
            partitions: plan.partitions,
            bootstrap: plan.bootstrap.id,
            admin_token_hash: plan.admin_token_hash,
            authority_sha256: certificates.fingerprint(),
            tokens: Vec::new(),
            members: vec![plan.bootstrap.clone()],
        };
        let nodes = std::iter::repeat_n(Role::Node, usize::from(plan.nodes) - 1);
        let gateways = std::iter::repeat_n(Role::Gateway, usize::from(gateways));
        let tokens = nodes
            .chain(gateways)
            .map(|role| state.draw_token(role, environment))
            .collect();
        state.write(&folder.join(FILE_NAME))?;
        Ok(NewCluster {
            cluster: state.cluster,
            tokens,
        })
    }

    /// Opens a bootstrap node's state; `None` where the folder is not one's.
    ///
    /// # Errors
    /// A damaged file; one of another cluster than the certificates'.
    pub fn open(
        folder: &Path,
        layouts: Arc<LayoutStore>,
        environment: Environment,
    ) -> Result<Option<Self>, AuthorityError> {
        let path = folder.join(FILE_NAME);
        let Some(bytes) = file::read(&path)? else {
            return Ok(None);
        };
        let state = State::decode(&path, &bytes)?;
        let certificates = CertificateAuthority::load(folder)?;
        let Some(certificates) = certificates.filter(|found| found.cluster() == state.cluster)
        else {
            return refused(format!(
                "{} is of cluster {}, but the certificate authority beside it is not: put back a copy of the folder",
                path.display(),
                state.cluster
            ));
        };
        Ok(Some(Self {
            path,
            certificates,
            layouts,
            environment,
            state: Mutex::new(state),
        }))
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.state.lock().cluster
    }

    /// How many nodes have joined, and how many the first layout waits for.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        let state = self.state.lock();
        let joined = state.nodes_joined().filter(|node| !node.disks.is_empty());
        (joined.count(), usize::from(state.nodes))
    }

    /// The bootstrap node's own disks, as found at its start; the last of the expected nodes forms the layout. Once there
    /// is one, what has become of the disks is announced to it like any node's.
    ///
    /// # Errors
    /// The system's.
    pub fn admit_self(&self, disks: &[(DiskId, u64)]) -> Result<(), AuthorityError> {
        let mut state = self.state.lock();
        // What the first layout was formed from stays as it was: it may have to be formed again.
        if self.layouts.current().is_some() {
            return Ok(());
        }
        let mut next = state.clone();
        let is_complete = next.layout_members().is_some();
        let bootstrap = next.bootstrap;
        let Some(own) = next.members.iter_mut().find(|node| node.id == bootstrap) else {
            return refused("the authority's state does not name its own node");
        };
        if !is_complete && own.disks != disks {
            own.disks = disks.to_vec();
            next.write(&self.path)?;
            *state = next;
        }
        self.form_layout(&state)
    }

    /// A node that has joined and that the layout, which exists, does not name yet.
    #[must_use]
    pub fn owed_to_layout(&self, id: NodeId) -> Option<NewNode> {
        let layout = self.layouts.current()?;
        if layout.nodes.iter().any(|node| node.id == id) {
            return None;
        }
        let state = self.state.lock();
        let found = state.nodes_joined().find(|node| node.id == id);
        found.map(new_node)
    }

    /// Draws one more token.
    ///
    /// # Errors
    /// A node's, when every expected one has joined and there is no layout yet; the system's.
    pub fn issue_token(&self, role: Role) -> Result<JoinToken, AuthorityError> {
        let mut state = self.state.lock();
        if role == Role::Node && self.layouts.current().is_none() {
            state.check_room()?;
        }
        let mut next = state.clone();
        let token = next.draw_token(role, &self.environment);
        next.write(&self.path)?;
        *state = next;
        Ok(token)
    }

    /// Answers a Join. Blocks on the disk. Being cancelled is safe: the joiner asks again.
    ///
    /// # Errors
    /// The state cannot be written. A refusal is an answer, not an error.
    pub fn join(&self, request: &JoinRequest) -> Result<JoinReply, AuthorityError> {
        match self.admit(request) {
            Err(AuthorityError::Refused(why)) => {
                tracing::warn!(name = %request.name, %why, "a join was refused");
                Ok(JoinReply::Refused(why))
            }
            answer => answer,
        }
    }

    fn admit(&self, request: &JoinRequest) -> Result<JoinReply, AuthorityError> {
        let mut state = self.state.lock();
        let mut next = state.clone();
        let no = |error: IdentityError| AuthorityError::Refused(error.to_string());
        let key_digest = request_key_digest(&request.csr).map_err(no)?;
        next.admit(request, key_digest, self.layouts.current().as_deref())?;
        // Signed before anything is written: a request that cannot be signed costs no token.
        let certificate = self
            .certificates
            .issue(&request.csr, request.id, request.role)
            .map_err(no)?;
        if next != *state {
            next.write(&self.path)?;
            *state = next;
            tracing::info!(name = %request.name, id = %request.id, role = ?request.role, "a member has joined");
        }
        self.form_layout(&state)?;
        Ok(JoinReply::Joined {
            cluster: state.cluster,
            authority: self.certificates.certificate().to_vec(),
            certificate,
            seeds: state.addresses(),
            admin_token_hash: state.admin_token_hash,
        })
    }

    fn form_layout(&self, state: &State) -> Result<(), AuthorityError> {
        let Some(members) = state.layout_members() else {
            return Ok(());
        };
        if self.layouts.current().is_some() {
            return Ok(());
        }
        let nodes: Vec<NodeSpec> = members.into_iter().map(node_spec).collect();
        let topology = Topology {
            cluster: state.cluster,
            replicas: state.replicas,
            control: Topology::suggest_control(&nodes, usize::from(state.replicas)),
            nodes,
        };
        let layout = first_layout(&topology, state.partitions)
            .map_err(|why| AuthorityError::Refused(format!("no layout can be formed: {why}")))?;
        self.layouts.adopt(layout)?;
        tracing::info!(
            nodes = state.nodes,
            "all nodes have joined: the first layout is formed"
        );
        Ok(())
    }
}

fn new_node(node: &Member) -> NewNode {
    NewNode {
        id: node.id,
        name: node.name.clone(),
        address: node.address.clone(),
        zone: node.zone.clone(),
        disks: node.disks.clone(),
    }
}

fn node_spec(node: &Member) -> NodeSpec {
    let disk = |(id, capacity_bytes): &(DiskId, u64)| DiskSpec {
        id: *id,
        capacity_bytes: *capacity_bytes,
    };
    NodeSpec {
        id: node.id,
        name: node.name.clone(),
        address: node.address.clone(),
        zone: node.zone.clone(),
        disks: node.disks.iter().map(disk).collect(),
    }
}

/// Whether a cluster of so many nodes, replicas and partitions can be.
///
/// # Errors
/// What does not fit and what to choose instead.
pub fn check_sizes(nodes: u16, replicas: u8, partitions: u32) -> Result<(), String> {
    if !matches!(replicas, 1 | 3 | 5) {
        return Err(format!(
            "--replicas {replicas} is not possible: choose 1, 3 or 5"
        ));
    }
    if nodes < u16::from(replicas) {
        return Err(format!(
            "{replicas} replicas need at least {replicas} nodes, and --nodes is {nodes}: raise --nodes or lower \
             --replicas"
        ));
    }
    let most = Layout::MAX_PARTITIONS;
    if partitions == 0 || usize::try_from(partitions).is_ok_and(|partitions| partitions > most) {
        return Err(format!(
            "--partitions {partitions} is not possible: choose 1 to {most}"
        ));
    }
    Ok(())
}

fn check_plan(plan: &ClusterPlan) -> Result<(), AuthorityError> {
    check_sizes(plan.nodes, plan.replicas, plan.partitions).or_else(refused)?;
    check_node(&plan.bootstrap.name, &plan.bootstrap.address)
}

/// The greatest length of a name, an address and a zone.
const TEXT_MAX_BYTES: usize = 255;

fn check_node(name: &str, address: &str) -> Result<(), AuthorityError> {
    if name.is_empty() || name.len() > TEXT_MAX_BYTES || name.chars().any(char::is_control) {
        return refused("a member needs a name of 1 to 255 bytes: give --name");
    }
    let port = address
        .rsplit_once(':')
        .map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(1..))) || address.len() > TEXT_MAX_BYTES {
        return refused(format!(
            "`{address}` is not an address that other nodes can reach: give --advertise HOST:PORT"
        ));
    }
    Ok(())
}

impl State {
    fn nodes_joined(&self) -> impl Iterator<Item = &Member> {
        self.members
            .iter()
            .filter(|member| member.role == Role::Node)
    }

    /// Those whom the first layout is formed from, once all are there: the first so many, for others may join later and
    /// a layout that is formed again must be the same.
    fn layout_members(&self) -> Option<Vec<&Member>> {
        let wanted = usize::from(self.nodes);
        let first: Vec<&Member> = self.nodes_joined().take(wanted).collect();
        let is_complete = first.len() == wanted && first.iter().all(|node| !node.disks.is_empty());
        is_complete.then_some(first)
    }

    fn addresses(&self) -> Vec<String> {
        self.nodes_joined()
            .map(|node| node.address.clone())
            .collect()
    }

    fn draw_token(&mut self, role: Role, environment: &Environment) -> JoinToken {
        let mut secret = [0; 32];
        environment.fill(&mut secret);
        self.tokens.push(Token {
            hash: SecretDigest::of(&secret).0,
            role,
            used_by: None,
        });
        let bootstrap = self.members.iter().find(|node| node.id == self.bootstrap);
        JoinToken {
            cluster: self.cluster,
            role,
            secret,
            authority_sha256: self.authority_sha256,
            addresses: bootstrap
                .map(|node| node.address.clone())
                .into_iter()
                .collect(),
        }
    }

    /// Before there is a layout, no more nodes than it waits for.
    fn check_room(&self) -> Result<(), AuthorityError> {
        if self.nodes_joined().count() >= usize::from(self.nodes) {
            return refused(format!(
                "all {} nodes that this cluster was made for have joined, and its layout is not formed yet: start the \
                 first node, then join further ones",
                self.nodes
            ));
        }
        Ok(())
    }

    /// Judges a request, and takes the joiner in.
    fn admit(
        &mut self,
        request: &JoinRequest,
        key_digest: [u8; 32],
        layout: Option<&Layout>,
    ) -> Result<(), AuthorityError> {
        let known = |token: &&mut Token| SecretDigest(token.hash).is_of(&request.secret);
        let Some(token) = self.tokens.iter_mut().find(known) else {
            return refused(
                "the token is not one of this cluster's: take one from `ringfort cluster init` or make one with \
                 `ringfort cluster token`",
            );
        };
        if token.role != request.role {
            return refused(match token.role {
                Role::Node => "the token is for a storage node: start it with `ringfort node`",
                Role::Gateway => "the token is for a gateway: start it with `ringfort gateway`",
            });
        }
        match token.used_by {
            Some(user) if user != request.id => {
                return refused(
                    "the token has been used: each is good once; make another with `ringfort cluster token`",
                );
            }
            Some(_) => {}
            None => token.used_by = Some(request.id),
        }
        let joiner = Member {
            id: request.id,
            role: request.role,
            name: request.name.clone(),
            address: request.address.clone(),
            zone: request.zone.clone(),
            disks: request.disks.clone(),
            key_digest,
        };
        self.take_in(joiner, layout)
    }

    fn take_in(&mut self, joiner: Member, layout: Option<&Layout>) -> Result<(), AuthorityError> {
        if joiner.role == Role::Node {
            check_node(&joiner.name, &joiner.address)?;
            if joiner.zone.len() > TEXT_MAX_BYTES {
                return refused("the zone's name is longer than 255 bytes");
            }
            if joiner.disks.is_empty() || joiner.disks.iter().any(|(_, capacity)| *capacity == 0) {
                return refused("a node needs at least one disk with room on it: give --disk");
            }
        }
        if let Some(known) = self
            .members
            .iter()
            .position(|member| member.id == joiner.id)
        {
            // It crashed between our answer and its own fsync, or lost the answer. What the layout is formed from
            // must stay as it was.
            if self.members[known] == joiner {
                return Ok(());
            }
            return refused(
                "this folder has asked to join before with another key, name, address, zone or disks: start it as \
                 the first time",
            );
        }
        if joiner.role == Role::Node {
            self.check_unlike_others(&joiner)?;
            match layout {
                None => self.check_room()?,
                // Disks that came to the layout later are known to it alone.
                Some(layout) => entries::check_unlike_others(layout, &new_node(&joiner))
                    .map_err(AuthorityError::Refused)?,
            }
        }
        self.members.push(joiner);
        Ok(())
    }

    fn check_unlike_others(&self, joiner: &Member) -> Result<(), AuthorityError> {
        for node in self.nodes_joined() {
            if node.name == joiner.name {
                return refused(format!(
                    "a node named `{}` has joined already: give another --name",
                    node.name
                ));
            }
            if node.address == joiner.address {
                return refused(format!(
                    "node `{}` has joined with the address {} already: give this one its own --listen or --advertise",
                    node.name, node.address
                ));
            }
            if node
                .disks
                .iter()
                .any(|disk| joiner.disks.iter().any(|own| own.0 == disk.0))
            {
                return refused(format!(
                    "a disk of this node is a copy of one of node `{}`: start with an empty --disk folder",
                    node.name
                ));
            }
        }
        Ok(())
    }

    fn write(&self, path: &Path) -> Result<(), FileError> {
        let body = postcard::to_allocvec(self).expect("the state is plain data");
        let sealed = file::seal(Kind::Authority, FORMAT_VERSION, &body);
        file::write_durably(path, &sealed, Secrecy::Secret)
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, FileError> {
        let (version, body) =
            file::unseal(Kind::Authority, bytes).map_err(|why| file::damaged(path, why))?;
        if version != FORMAT_VERSION {
            let why = format!("its format version {version} is not known to this release");
            return Err(file::damaged(path, why));
        }
        postcard::from_bytes(body).map_err(|error| file::damaged(path, error.to_string()))
    }
}

#[cfg(test)]
mod tests;
