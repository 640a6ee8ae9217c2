//! The requests that one process may make of another, and the answers.
//!
//! A message is a kind (a number that is never reused), a postcard body and a payload of plain bytes (an inline
//! body, a chunk), which is never copied into the body. Every kind has one line in [`requests!`].

mod chunk;
mod control;
mod garbage;
mod list;
mod register;
mod repair;
mod scrub;
mod sync;

pub use chunk::*;
pub use control::*;
pub use garbage::*;
pub use list::*;
pub use register::*;
pub use repair::*;
pub use scrub::*;
pub use sync::*;

use crate::error::{NodeError, NodeErrorCode};
use serde::{Deserialize, Serialize};

macro_rules! requests {
    ($($(#[$doc:meta])* $kind:literal $name:ident($request:ty) -> $reply:ty;)*) => {
        /// A request, without its payload.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request {
            $($(#[$doc])* $name($request),)*
        }

        /// An answer, without its payload.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Response {
            $($(#[$doc])* $name($reply),)*
        }

        impl Request {
            /// The kind's number.
            #[must_use]
            pub fn kind(&self) -> u16 {
                match self {
                    $(Self::$name(_) => $kind,)*
                }
            }

            /// The kind's name, for logs and metrics.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                }
            }

            /// The postcard body.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                match self {
                    $(Self::$name(body) => encode(body),)*
                }
            }

            /// Reads a body of a kind.
            ///
            /// # Errors
            /// `UnknownRequest` where this release does not know the kind, `Malformed` where the body is not one.
            pub fn decode(kind: u16, body: &[u8]) -> Result<Self, NodeError> {
                match kind {
                    $($kind => decode(body).map(Self::$name),)*
                    _ => Err(NodeError::new(NodeErrorCode::UnknownRequest, format!("request kind {kind}"))),
                }
            }
        }

        impl Response {
            /// The number of the request's kind.
            #[must_use]
            pub fn kind(&self) -> u16 {
                match self {
                    $(Self::$name(_) => $kind,)*
                }
            }

            /// The postcard body.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                match self {
                    $(Self::$name(body) => encode(body),)*
                }
            }

            /// Reads a body of a kind.
            ///
            /// # Errors
            /// As [`Request::decode`].
            pub fn decode(kind: u16, body: &[u8]) -> Result<Self, NodeError> {
                match kind {
                    $($kind => decode(body).map(Self::$name),)*
                    _ => Err(NodeError::new(NodeErrorCode::UnknownRequest, format!("answer kind {kind}"))),
                }
            }
        }

        $(
            impl Call for $request {
                type Reply = $reply;
                fn into_request(self) -> Request {
                    Request::$name(self)
                }
                fn reply(response: Response) -> Option<$reply> {
                    match response {
                        Response::$name(reply) => Some(reply),
                        _ => None,
                    }
                }
            }
        )*
    };
}

/// A request that knows the type of its answer.
pub trait Call: Send + 'static {
    /// The answer.
    type Reply: Send + 'static;
    /// As one of all requests.
    fn into_request(self) -> Request;
    /// The answer, if it is of this kind.
    fn reply(response: Response) -> Option<Self::Reply>;
}

requests! {
    /// Promise a ballot.
    1 Prepare(PrepareRequest) -> PrepareReply;
    /// Accept a value. Payload: the inline body.
    2 Accept(AcceptRequest) -> AcceptReply;
    /// Read a row. Payload of the answer: the inline body, if wanted.
    3 Read(ReadRequest) -> ReadReply;
    /// Read the rows of an upload's parts.
    4 ReadParts(ReadPartsRequest) -> ReadPartsReply;
    /// List rows of a bucket's shards.
    5 List(ListRequest) -> ListReply;
    /// Hold a bucket's generation, and answer when nothing older is under way.
    6 Raise(RaiseRequest) -> RaiseReply;
    /// Store a chunk. Payload: its bytes.
    10 StoreChunk(StoreChunkRequest) -> StoreChunkReply;
    /// Fetch a range of a chunk. Payload of the answer: the bytes.
    11 FetchChunk(FetchChunkRequest) -> FetchChunkReply;
    /// Delete chunks.
    12 DeleteChunks(DeleteChunksRequest) -> DeleteChunksReply;
    /// Note chunks that may have been missed.
    13 NoteChunks(NoteChunksRequest) -> NoteChunksReply;
    /// The digests of what replicas hold.
    30 Digests(DigestsRequest) -> DigestsReply;
    /// Name the rows of differing leaves.
    31 ScanRows(ScanRowsRequest) -> ScanRowsReply;
    /// Name the chunks of differing leaves.
    32 ScanChunks(ScanChunksRequest) -> ScanChunksReply;
    /// How far new members have synced.
    33 SyncStatus(SyncStatusRequest) -> SyncStatusReply;
    /// What a new member must adopt.
    34 SyncFacts(SyncFactsRequest) -> SyncFactsReply;
    /// Show rows whole. Payload of the answer: their inline bodies.
    35 FetchRows(FetchRowsRequest) -> FetchRowsReply;
    /// Read everything on a node's disks back.
    40 StartScrub(StartScrubRequest) -> StartScrubReply;
    /// How far that is, and what it found.
    41 ScrubStatus(ScrubStatusRequest) -> ScrubStatusReply;
    /// Which tombstones does a replica hold?
    45 SurveyTombstones(SurveyTombstonesRequest) -> SurveyTombstonesReply;
    /// Raise a partition's floor.
    46 RaiseFloor(RaiseFloorRequest) -> RaiseFloorReply;
    /// Drop tombstones.
    47 DropRows(DropRowsRequest) -> DropRowsReply;
    /// Adopt a birth bound, then promise a ballot.
    48 PrepareBound(PrepareBoundRequest) -> PrepareReply;
    /// What a node has collected.
    49 GarbageStatus(GarbageStatusRequest) -> GarbageStatusReply;
    /// Are you there, and what time is it?
    20 Ping(PingRequest) -> PingReply;
    /// The layout that a process knows.
    21 GetLayout(GetLayoutRequest) -> GetLayoutReply;
    /// How a node is.
    22 NodeStatus(NodeStatusRequest) -> NodeStatusReply;
    /// Become a member of the cluster, by a one-time token.
    23 Join(JoinRequest) -> JoinReply;
    /// Promise a ballot of the control register.
    24 ControlPrepare(ControlPrepareRequest) -> ControlPrepareReply;
    /// Accept a layout in the control register.
    25 ControlAccept(ControlAcceptRequest) -> ControlAcceptReply;
    /// Take a chosen layout.
    26 OfferLayout(OfferLayoutRequest) -> OfferLayoutReply;
    /// Change the layout.
    27 ChangeLayout(ChangeLayoutRequest) -> ChangeLayoutReply;
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("serialising plain data to a vector does not fail")
}

pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, NodeError> {
    postcard::from_bytes(bytes)
        .map_err(|error| NodeError::new(NodeErrorCode::Malformed, error.to_string()))
}

#[cfg(test)]
mod tests;
