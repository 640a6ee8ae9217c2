//! What the admin API is asked and answers. Fields are only ever added.

use serde::{Deserialize, Serialize};

/// The path of the cluster's state.
pub const STATUS_PATH: &str = "/admin/v1/status";
/// The path of the access keys.
pub const KEYS_PATH: &str = "/admin/v1/keys";
/// The path of the buckets.
pub const BUCKETS_PATH: &str = "/admin/v1/buckets";
/// The path of the join tokens.
pub const TOKENS_PATH: &str = "/admin/v1/tokens";

/// The path of scrubs: GET shows them, POST begins them.
pub const SCRUB_PATH: &str = "/admin/v1/scrub";

/// A refusal: a code for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable, for programs.
    pub code: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// The cluster, as one process sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's id; `None` until the first layout is there.
    pub cluster_id: Option<String>,
    /// The release of the process that answers.
    pub release: String,
    /// Whether every partition has a quorum.
    pub is_ready: bool,
    /// Why (not), in words.
    pub reason: String,
    /// The layout's era.
    pub era: u32,
    /// The layout's version; 0: none yet.
    pub layout_version: u64,
    /// N.
    pub replicas: u8,
    /// How the partitions are.
    pub partitions: PartitionsStatus,
    /// The nodes.
    pub nodes: Vec<NodeState>,
}

/// How many partitions have how much of what they need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionsStatus {
    /// All.
    pub total: u64,
    /// All members serve.
    pub whole: u64,
    /// A quorum serves, but not all members.
    pub degraded: u64,
    /// No quorum serves: their keys answer 503.
    pub without_quorum: u64,
    /// In the middle of a move.
    pub moving: u64,
}

/// A storage node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its internode address.
    pub address: String,
    /// Its failure domain.
    pub zone: String,
    /// Whether it answered just now.
    pub is_reachable: bool,
    /// Why not.
    pub error: Option<String>,
    /// Its release.
    pub release: Option<String>,
    /// Seconds since its start.
    pub uptime_s: Option<u64>,
    /// The version of its layout.
    pub layout_version: Option<u64>,
    /// Its disks; those of the layout, if it did not answer.
    pub disks: Vec<DiskState>,
    /// What it has collected; `None`, if it did not say.
    #[serde(default)]
    pub garbage: Option<GarbageState>,
}

/// What a node has collected since it started, but for what says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageState {
    /// Passes over all that it holds.
    pub passes: u64,
    /// Deleted rows that are kept yet, as the last pass met them; a row counts at one node.
    pub tombstones: u64,
    /// Partitions that the last pass left alone because a member was away or behind.
    pub partitions_waiting: u64,
    /// Deleted rows that were dropped from all replicas.
    pub rows_dropped: u64,
    /// Registers of ended parts and in removed buckets that were emptied.
    pub rows_emptied: u64,
    /// Writes and uploads that nothing names, whose chunks were found.
    pub orphans: u64,
    /// Their chunks, sent to be deleted.
    pub chunks_deleted: u64,
    /// Bytes of those chunks, of one replica each.
    pub chunk_bytes_deleted: u64,
    /// Steps of the last pass that did not come to their end.
    pub failed: u64,
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskState {
    /// Its id.
    pub id: String,
    /// Whether the layout names it.
    pub is_in_layout: bool,
    /// Partitions that it is a member of.
    pub partitions: u64,
    /// Why it takes no writes; `None`: it does, or its node did not answer.
    pub writes_closed: Option<String>,
    /// Registers.
    pub rows: u64,
    /// Chunks.
    pub chunks: u64,
    /// Bytes that count.
    pub live_bytes: u64,
    /// Bytes that compaction will free.
    pub garbage_bytes: u64,
    /// Bytes free in its file system.
    pub free_bytes: u64,
    /// Bytes of its file system.
    pub total_bytes: u64,
    /// Chunks that it owes and is fetching.
    pub missing_chunks: u64,
    /// What the last start found, in words.
    pub recovery: Vec<String>,
    /// Its scrubs; `None`: its node did not say.
    #[serde(default)]
    pub scrub: Option<DiskScrubState>,
}

/// The scrubs of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskScrubState {
    /// The disk.
    pub disk: String,
    /// The pass under way.
    pub current: Option<ScrubPassState>,
    /// The last pass that ended.
    pub last: Option<ScrubPassState>,
    /// When the next one begins by itself, milliseconds since 1970.
    pub next_ms: u64,
}

/// One reading of everything on a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubPassState {
    /// Rises with each pass of the disk.
    pub number: u64,
    /// Whether somebody asked for it.
    pub is_ordered: bool,
    /// Whether what is rotten is mended.
    pub is_mending: bool,
    /// Milliseconds since 1970.
    pub started_ms: u64,
    /// Milliseconds since 1970; 0: it has not ended.
    pub ended_ms: u64,
    /// About how many bytes there were to read.
    pub bytes_expected: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Records read.
    pub records: u64,
    /// Registers whose record did not read back.
    pub rotten_rows: u64,
    /// Chunks that did not read back.
    pub rotten_chunks: u64,
    /// Floors, bounds, epochs and generations whose record did not read back.
    pub rotten_facts: u64,
    /// Other places that did not read back: segment bytes that hold nothing which counts, the anchor, the index.
    pub bad_places: u64,
    /// All these together.
    pub found: u64,
    /// Of these, those that are well again.
    pub mended: u64,
    /// Why something was left undone; `None`: nothing was.
    pub trouble: Option<String>,
}

/// Begin to read everything back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartScrub {
    /// Only on the node of this name; `None`: on all.
    #[serde(default)]
    pub node: Option<String>,
    /// At most so many MiB a second and node; `None`: as many as a node takes by itself.
    #[serde(default)]
    pub rate_mib: Option<u64>,
    /// Whether what is rotten is mended; else it is only counted.
    pub is_mending: bool,
}

/// Scrubs that were begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStarted {
    /// A disk each.
    pub passes: Vec<StartedPass>,
}

/// A pass that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedPass {
    /// The node's name.
    pub node: String,
    /// The disk.
    pub disk: String,
    /// The pass' number.
    pub number: u64,
}

/// The scrubs of all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubState {
    /// The nodes.
    pub nodes: Vec<NodeScrubState>,
}

/// The scrubs of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeScrubState {
    /// Its name.
    pub name: String,
    /// Why it did not answer.
    pub error: Option<String>,
    /// Its disks.
    pub disks: Vec<DiskScrubState>,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyRole {
    /// Everything, buckets included.
    Admin,
    /// Read and write objects.
    ReadWrite,
    /// Read objects.
    ReadOnly,
}

impl KeyRole {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
        }
    }

    /// Reads what [`KeyRole::as_str`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Admin, Self::ReadWrite, Self::ReadOnly]
            .into_iter()
            .find(|role| role.as_str() == text)
    }
}

/// Make an access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// For people.
    #[serde(default)]
    pub name: String,
    /// Its rights.
    pub role: KeyRole,
    /// Only these buckets; `None`: all.
    #[serde(default)]
    pub buckets: Option<Vec<String>>,
    /// The account that owns what it makes, and whose buckets it is good for; `None`: the first key's.
    #[serde(default)]
    pub owner: Option<String>,
    /// `None`: one is drawn.
    #[serde(default)]
    pub access_key: Option<String>,
    /// `None`: one is drawn.
    #[serde(default)]
    pub secret_key: Option<String>,
}

/// A key just made: the only answer that ever shows a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedKey {
    /// Its public half.
    pub access_key: String,
    /// Its secret half.
    pub secret_key: String,
    /// For people.
    pub name: String,
    /// Its account.
    pub owner: String,
    /// Its rights.
    pub role: KeyRole,
    /// Only these buckets; `None`: all.
    pub buckets: Option<Vec<String>>,
}

impl std::fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedKey")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// Its public half.
    pub access_key: String,
    /// For people.
    pub name: String,
    /// Its account.
    pub owner: String,
    /// Its rights.
    pub role: KeyRole,
    /// Only these buckets; `None`: all.
    pub buckets: Option<Vec<String>>,
    /// Milliseconds since 1970.
    pub created_ms: u64,
}

/// The access keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyList {
    /// By access key.
    pub keys: Vec<KeyInfo>,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketInfo {
    /// Its name.
    pub name: String,
    /// Its id: the same name made anew has another.
    pub id: String,
    /// The account that owns it.
    pub owner: String,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// The generation of its rules.
    pub generation: u64,
    /// Its index shards.
    pub shards: u16,
}

/// The buckets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketList {
    /// By name.
    pub buckets: Vec<BucketInfo>,
}

/// What a token lets one become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenRole {
    /// A storage node.
    Node,
    /// A gateway.
    Gateway,
}

/// Make a join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// For what.
    pub role: TokenRole,
}

/// A join token, good once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedToken {
    /// The token.
    pub token: String,
    /// For what.
    pub role: TokenRole,
}

/// A deletion, done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// What was deleted.
    pub deleted: String,
}
