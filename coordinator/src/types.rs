//! What the coordinator is asked, and what it answers.

use bytes::Bytes;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::id::{Generation, PartitionId};
use ringfort_ring::register::operations::{OperationRecord, RecentOperations};
use ringfort_wire::id::{BucketId, InvocationDigest, OperationId, UploadId};
use ringfort_wire::manifest::{ChunkRef, DecodeError, KeyState, PartState};
use ringfort_wire::message::{ObjectSummary, UploadSummary};
use tokio::time::Instant;

/// A bucket, as every request to its rows must name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketRef {
    /// Its id.
    pub id: BucketId,
    /// The generation of its rules that the request was judged by.
    pub generation: Generation,
    /// K, the number of its index shards.
    pub shard_count: u16,
    /// Where its rows are taken to be, whatever K says: for repair, which knows a row's partition and not its bucket.
    pub partition: Option<PartitionId>,
}

impl BucketRef {
    /// The bucket that holds buckets and access keys.
    pub const SYSTEM: Self = Self {
        id: BucketId::SYSTEM,
        generation: Generation(0),
        shard_count: 1,
        partition: None,
    };

    /// The bucket of a row as a replica knows it: by the row's partition and the generation that it holds.
    #[must_use]
    pub fn of_row(id: BucketId, generation: Generation, partition: PartitionId) -> Self {
        Self {
            id,
            generation,
            shard_count: 1,
            partition: Some(partition),
        }
    }
}

/// One client operation, the same over all attempts of the coordinator.
#[derive(Clone, Debug)]
pub struct OperationContext {
    /// Its identity.
    pub id: OperationId,
    /// What makes an SDK's retry of the same invocation known; `None` where the client named none.
    pub invocation: Option<InvocationDigest>,
    /// When the answer is owed at the latest.
    pub deadline: Instant,
}

/// A register's state: a key's or a part's.
pub trait RegisterState: Clone + Default + Send + Sync + 'static {
    /// The bytes that are stored.
    fn encode_state(&self) -> Bytes;
    /// Reads them.
    ///
    /// # Errors
    /// Where they are not of a known version, or not whole.
    fn decode_state(bytes: &[u8]) -> Result<Self, DecodeError>;
    /// Which operations made it.
    fn operations(&self) -> &RecentOperations;
    /// Which operations made it.
    fn operations_mut(&mut self) -> &mut RecentOperations;
    /// Whether an inline body belongs to it: its length in bytes.
    fn inline_len(&self) -> u64;
    /// Whether it holds something that the value before it does not, and that is more than a note.
    fn adds_to(&self, before: Option<&Self>) -> bool;
}

macro_rules! register_state {
    ($name:ident, $inline:expr, $adds:expr) => {
        impl RegisterState for $name {
            fn encode_state(&self) -> Bytes {
                self.encode()
            }
            fn decode_state(bytes: &[u8]) -> Result<Self, DecodeError> {
                Self::decode(bytes)
            }
            fn operations(&self) -> &RecentOperations {
                &self.operations
            }
            fn operations_mut(&mut self) -> &mut RecentOperations {
                &mut self.operations
            }
            fn inline_len(&self) -> u64 {
                let inline: fn(&$name) -> u64 = $inline;
                inline(self)
            }
            fn adds_to(&self, before: Option<&Self>) -> bool {
                let adds: fn(&$name, Option<&$name>) -> bool = $adds;
                adds(self, before)
            }
        }
    };
}

register_state!(
    KeyState,
    |state| {
        use ringfort_wire::manifest::BodyPlace;
        match &state.head {
            Some(head) if head.body == BodyPlace::Inline => head.size,
            _ => 0,
        }
    },
    |state, before| {
        let version = |state: &KeyState| state.head.as_ref().map(|head| head.version);
        let is_new_head = state.head.is_some() && version(state) != before.and_then(version);
        let uploads_before = before.map_or(0, |before| before.uploads.len());
        is_new_head || state.uploads.len() > uploads_before
    }
);
register_state!(PartState, |_| 0, |state, _| state.part.is_some());

/// What a proposal finds, inside the round.
#[derive(Debug)]
pub struct Seen<'a, S> {
    /// The value; `None` over the empty register.
    pub state: Option<&'a S>,
    /// The ballot of the attempt: what is written now is written at this ballot. A new version's id.
    pub ballot: Ballot,
    /// The ballot at which the value seen was accepted; zero over the empty register.
    pub accepted: Ballot,
}

/// What a proposal makes of what it finds. Evaluated anew in each attempt.
#[derive(Debug)]
pub enum Change<S, R> {
    /// Write this value. Its `operations` are filled in by the coordinator, which carries the seen value's on and
    /// adds this one; `answer` is kept with it, for the answer to a retry.
    Write {
        /// The new value.
        state: S,
        /// The inline body beside it.
        body: InlineBody,
        /// What a retry of the same invocation is told.
        answer: Vec<u8>,
    },
    /// A condition fails, or there is nothing to do: write nothing and answer this, once it is definite.
    Refuse(R),
}

/// Which inline body goes with a new value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InlineBody {
    /// None, or an empty one.
    None,
    /// This one.
    New(Bytes),
    /// The one of the value seen: the head stays what it is.
    Keep,
}

/// How a proposal ended.
#[derive(Debug)]
pub enum Proposed<S, R> {
    /// The new value is chosen.
    Written {
        /// At this ballot.
        ballot: Ballot,
        /// The new value.
        state: S,
        /// The value that it replaced.
        replaced: Option<S>,
    },
    /// This operation, or an earlier try of the same invocation, had been applied already.
    AlreadyDone {
        /// What was kept for the answer, and the ballot that applied it.
        record: OperationRecord,
        /// The value now.
        state: S,
    },
    /// The refusal is definite: nothing was written.
    Refused(R),
}

/// Why a write has no definite answer of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Nothing was written: too few replicas answer.
    #[error("not enough replicas: {0}")]
    NotEnoughReplicas(String),
    /// Nothing was written: other writers were always faster.
    #[error("other writers of the key were always faster")]
    Conflict,
    /// Nothing was written, and nothing will be under this identity: the operation began so long ago that its chunks
    /// count as left behind. Start over, with a new identity and new chunks.
    #[error("the operation began too long ago")]
    TooOld,
    /// It may have happened, once.
    #[error("the outcome is unknown: {0}")]
    OutcomeUnknown(String),
    /// Nothing was written: the bucket has changed since the request was judged. Look it up again.
    #[error("the bucket has changed")]
    BucketChanged,
    /// Nothing was written: the replicas' disks are full.
    #[error("the disks are full")]
    Full,
    /// Nothing was written: what is stored cannot be read by this release.
    #[error("stored state cannot be read: {0}")]
    Corrupt(String),
}

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Too few replicas answer.
    #[error("not enough replicas: {0}")]
    NotEnoughReplicas(String),
    /// The bucket has changed since the request was judged. Look it up again.
    #[error("the bucket has changed")]
    BucketChanged,
    /// No replica has good bytes.
    #[error("no good copy: {0}")]
    Corrupt(String),
}

/// A row as a read answers it.
#[derive(Clone, Debug)]
pub struct ReadRow<S> {
    /// The chosen ballot; zero over the empty register.
    pub ballot: Ballot,
    /// The value; `None` over the empty register.
    pub state: Option<S>,
    /// The inline body, where there is one and it was wanted.
    pub body: Bytes,
}

/// A body that is on its majorities, and that no register names yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredBody {
    /// Small: it rides with the Accept.
    Inline(Bytes),
    /// In chunks.
    Chunks(Vec<ChunkRef>),
}

/// What to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Only keys that begin so.
    pub prefix: String,
    /// Only keys behind this position.
    pub after: ringfort_wire::message::After,
    /// Folds keys; `None` or not empty.
    pub delimiter: Option<String>,
    /// At most so many entries, 1 to 1,000.
    pub limit: usize,
    /// Objects or uploads.
    pub what: ringfort_wire::message::ListWhat,
}

/// One entry of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// An object.
    Object {
        /// Its key.
        key: String,
        /// What a listing says of it.
        summary: ObjectSummary,
    },
    /// A key with open uploads.
    Uploads {
        /// The key.
        key: String,
        /// Its open uploads, by rising id.
        uploads: Vec<UploadSummary>,
    },
    /// Keys folded by the delimiter.
    Prefix(String),
}

impl Listed {
    /// The key or prefix.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Object { key, .. } | Self::Uploads { key, .. } | Self::Prefix(key) => key,
        }
    }
}

/// A page of a listing: entries in byte order, every one judged like a GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage {
    /// The entries.
    pub entries: Vec<Listed>,
    /// Whether there is more.
    pub is_truncated: bool,
    /// Where it goes on, if that is not behind the last entry: everything before was looked at.
    pub next: Option<ringfort_wire::message::After>,
}

/// A part of an open upload as a read answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPart {
    /// 1 to 10,000.
    pub number: u16,
    /// The part.
    pub part: ringfort_wire::manifest::PartHead,
    /// The chunks of the parts that it has replaced.
    pub replaced: Vec<ChunkRef>,
}

/// Which upload of which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRef {
    /// The key.
    pub key: ringfort_wire::id::ObjectKey,
    /// The upload.
    pub upload: UploadId,
}
