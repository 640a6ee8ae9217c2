//! Every kind has its number for ever, reads back what it wrote, and survives whatever bytes come.
#![allow(clippy::unwrap_used, reason = "test code")]

use super::*;
use crate::error::NodeErrorCode;
use crate::id::{BucketId, ChunkId, ObjectKey, OperationId, RowKey, UploadId};
use crate::manifest::{BodyOwner, ChecksumKind, ChunkOwner, ChunkRef};
use bytes::Bytes;
use proptest::prelude::*;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::control;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::*;
use ringfort_ring::layout::{DiskEntry, Layout, Member, Members, NodeEntry, Row};
use ringfort_ring::quorum::Replica;
use ringfort_ring::register::acceptor::{Claim, Reason, Refusal};
use ringfort_ring::register::collect::Holding;

/// What messages are filled with.
#[derive(Clone, Debug)]
struct Filling {
    id: [u8; 16],
    number: u64,
    small: u16,
    flag: bool,
    text: String,
    bytes: Vec<u8>,
}

fn filling() -> impl Strategy<Value = Filling> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..100);
    (any::<([u8; 16], u64, u16, bool)>(), "\\PC{1,40}", bytes).prop_map(
        |((id, number, small, flag), text, bytes)| Filling {
            id,
            number,
            small,
            flag,
            text,
            bytes,
        },
    )
}

impl Filling {
    fn u32(&self) -> u32 {
        u32::from(self.small) << 7
    }
    fn ballot(&self) -> Ballot {
        Ballot {
            time: Timestamp(self.number),
            incarnation: Incarnation(self.id),
        }
    }
    fn to(&self) -> Replica {
        Replica {
            disk: DiskId(self.id),
            joined: Epoch(self.number),
        }
    }
    fn claim(&self) -> Claim {
        Claim {
            epoch: Epoch(self.number),
            generation: Generation(self.number),
            ballot: self.ballot(),
            born: self.flag.then_some(Timestamp(self.number)),
        }
    }
    fn refusal(&self) -> Refusal {
        let reasons = [
            Reason::Promised,
            Reason::Horizon,
            Reason::Floor,
            Reason::Bound,
            Reason::Epoch,
            Reason::Generation,
            Reason::ClockAhead,
        ];
        Refusal {
            reason: reasons[usize::from(self.small) % reasons.len()],
            past: self.ballot(),
            floor: self.ballot(),
            bound: Timestamp(self.number),
            epoch: Epoch(self.number),
            generation: Generation(self.number),
            clock_ms: self.number,
        }
    }
    fn key(&self) -> ObjectKey {
        ObjectKey::parse(self.text.clone()).unwrap()
    }
    fn bucket(&self) -> BucketId {
        BucketId(self.id)
    }
    fn row(&self) -> RowKey {
        if self.flag {
            RowKey::object(self.bucket(), self.key())
        } else {
            RowKey::part(self.bucket(), self.key(), UploadId(self.id), self.small)
        }
    }
    fn partition(&self) -> PartitionId {
        PartitionId(self.u32())
    }
    fn epoch(&self) -> Epoch {
        Epoch(self.number)
    }
    fn generation(&self) -> Generation {
        Generation(self.number)
    }
    fn state(&self) -> Bytes {
        self.bytes.clone().into()
    }
    fn shard(&self) -> ShardClaim {
        ShardClaim {
            shard: Shard(self.small),
            partition: self.partition(),
            to: self.to(),
            epoch: self.epoch(),
        }
    }
    fn leaf_set(&self) -> LeafSet {
        LeafSet {
            to: self.to(),
            partition: self.partition(),
            epoch: self.epoch(),
            leaves: self.u32(),
        }
    }
    fn owner(&self) -> BodyOwner {
        if self.flag {
            BodyOwner::Upload(UploadId(self.id))
        } else {
            BodyOwner::Operation(OperationId {
                id: self.id,
                born: Timestamp(self.number),
            })
        }
    }
    fn digest(&self) -> [u8; 32] {
        std::array::from_fn(|at| self.id[at % 16])
    }
    fn layout(&self) -> Layout {
        let members = vec![Member {
            disk: self.small,
            joined: self.epoch(),
        }];
        let members = if self.flag {
            Members::Stable(members)
        } else {
            Members::Joint {
                old: members.clone(),
                new: members,
            }
        };
        Layout {
            cluster: ClusterId(self.id),
            era: Era(self.u32()),
            version: self.number,
            replicas: 3,
            control_epoch: self.epoch(),
            control: vec![self.small],
            control_before: Vec::new(),
            is_balancing_paused: false,
            nodes: vec![NodeEntry::new(
                NodeId(self.id),
                self.text.clone(),
                self.text.clone(),
                self.text.clone(),
            )],
            disks: vec![DiskEntry::new(DiskId(self.id), self.small, self.number)],
            rows: vec![Row {
                epoch: self.epoch(),
                members,
            }],
        }
    }
    fn control_refusal(&self) -> control::Refusal {
        control::Refusal {
            past: self.ballot(),
            newer: self.flag.then(|| Box::new(self.layout())),
            is_ahead: self.flag,
        }
    }

    fn scrub_pass(&self) -> ScrubPass {
        let counts = ScrubCounts {
            records: self.number,
            bytes: self.number,
            rotten_rows: u64::from(self.small),
            rotten_chunks: self.number,
            rotten_facts: self.number,
            bad_places: self.number,
            mended: self.number,
        };
        ScrubPass {
            number: self.number,
            is_ordered: self.flag,
            is_mending: self.flag,
            started_ms: self.number,
            ended_ms: self.number,
            bytes_expected: self.number,
            counts,
            trouble: self.flag.then(|| self.text.clone()),
        }
    }
    fn role(&self) -> Role {
        if self.flag { Role::Node } else { Role::Gateway }
    }
    fn after(&self) -> After {
        let text = self.text.clone();
        match self.small % 4 {
            0 => After::Start,
            1 => After::Key(text),
            2 => After::At(text),
            _ => After::Prefix(text),
        }
    }
    fn entries(&self) -> Vec<ListEntry> {
        let checksum = (ChecksumKind::Crc64Nvme, self.flag);
        vec![
            ListEntry::Row {
                key: self.key(),
                accepted: self.ballot(),
                object: Some(ObjectSummary {
                    modified_ms: self.number,
                    size: self.number,
                    etag: self.text.clone(),
                    checksums: vec![checksum],
                }),
                uploads: vec![UploadSummary {
                    id: UploadId(self.id),
                    initiated_ms: self.number,
                    initiator: self.text.clone(),
                    checksum: Some(checksum),
                }],
            },
            ListEntry::Prefix {
                prefix: self.text.clone(),
                witness: self.key(),
                accepted: self.ballot(),
            },
        ]
    }

    #[allow(clippy::too_many_lines, reason = "one entry a kind")]
    fn requests(&self) -> Vec<Request> {
        vec![
            Request::Prepare(PrepareRequest {
                to: self.to(),
                partition: self.partition(),
                key: self.row(),
                claim: self.claim(),
            }),
            Request::Accept(AcceptRequest {
                to: self.to(),
                partition: self.partition(),
                key: self.row(),
                claim: self.claim(),
                state: self.state(),
            }),
            Request::Read(ReadRequest {
                to: self.to(),
                partition: self.partition(),
                epoch: self.epoch(),
                generation: self.generation(),
                key: self.row(),
                wants_body: self.flag,
            }),
            Request::ReadParts(ReadPartsRequest {
                to: self.to(),
                partition: self.partition(),
                epoch: self.epoch(),
                generation: self.generation(),
                after: self.row(),
                limit: self.u32(),
            }),
            Request::List(ListRequest {
                bucket: self.bucket(),
                generation: self.generation(),
                shard_count: self.small,
                shards: vec![self.shard()],
                prefix: self.text.clone(),
                after: self.after(),
                delimiter: self.flag.then(|| self.text.clone()),
                limit: self.u32(),
                examine_limit: self.u32(),
                what: if self.flag {
                    ListWhat::Objects
                } else {
                    ListWhat::Uploads
                },
            }),
            Request::Raise(RaiseRequest {
                bucket: self.bucket(),
                generation: self.generation(),
                shards: vec![self.shard(), self.shard()],
            }),
            Request::StoreChunk(StoreChunkRequest {
                to: self.to(),
                partition: self.partition(),
                epoch: self.epoch(),
                chunk: ChunkRef {
                    id: ChunkId(self.id),
                    len: self.u32(),
                    blake3: self.digest(),
                },
                owner: ChunkOwner {
                    bucket: self.bucket(),
                    partition: self.partition(),
                    key: self.key(),
                    owner: self.owner(),
                },
            }),
            Request::FetchChunk(FetchChunkRequest {
                to: self.to(),
                partition: self.partition(),
                epoch: self.epoch(),
                id: ChunkId(self.id),
                from: self.u32(),
                len: self.u32(),
            }),
            Request::DeleteChunks(DeleteChunksRequest {
                grace_ms: self.u32(),
                chunks: vec![(self.to(), self.partition(), ChunkId(self.id))],
            }),
            Request::NoteChunks(NoteChunksRequest {
                chunks: vec![(
                    self.to(),
                    ChunkRef {
                        id: ChunkId(self.id),
                        len: self.u32(),
                        blake3: self.digest(),
                    },
                    ChunkOwner {
                        bucket: self.bucket(),
                        partition: self.partition(),
                        key: self.key(),
                        owner: self.owner(),
                    },
                )],
            }),
            Request::Ping(PingRequest {}),
            Request::GetLayout(GetLayoutRequest {
                have_version: self.number,
            }),
            Request::NodeStatus(NodeStatusRequest {}),
            Request::Join(JoinRequest {
                secret: self.digest(),
                role: self.role(),
                id: NodeId(self.id),
                name: self.text.clone(),
                address: self.text.clone(),
                zone: self.text.clone(),
                disks: vec![(DiskId(self.id), self.number)],
                csr: self.bytes.clone(),
            }),
            Request::ControlPrepare(ControlPrepareRequest {
                ballot: self.ballot(),
                known: (Era(self.u32()), self.number),
            }),
            Request::ControlAccept(ControlAcceptRequest {
                ballot: self.ballot(),
                layout: self.layout(),
            }),
            Request::OfferLayout(OfferLayoutRequest {
                layout: self.layout(),
            }),
            Request::ChangeLayout(ChangeLayoutRequest {
                change: self.state(),
            }),
            Request::Digests(DigestsRequest {
                replicas: vec![(self.to(), self.partition(), self.epoch())],
            }),
            Request::ScanRows(ScanRowsRequest {
                wanted: vec![self.leaf_set()],
                after: self.flag.then(|| self.row()),
                limit: self.small,
            }),
            Request::ScanChunks(ScanChunksRequest {
                wanted: vec![self.leaf_set()],
                after: self.flag.then_some(ChunkId(self.id)),
                limit: self.small,
            }),
            Request::SyncStatus(SyncStatusRequest {}),
            Request::SyncFacts(SyncFactsRequest {
                replicas: vec![(self.to(), self.partition(), self.epoch())],
            }),
            Request::FetchRows(FetchRowsRequest {
                rows: vec![(self.to(), self.partition(), self.epoch(), self.row())],
            }),
            Request::StartScrub(StartScrubRequest {
                bytes_per_s: self.number,
                is_mending: self.flag,
            }),
            Request::ScrubStatus(ScrubStatusRequest {}),
            Request::SurveyTombstones(SurveyTombstonesRequest {
                to: self.to(),
                partition: self.partition(),
                epoch: self.epoch(),
                rows: vec![(self.row(), self.ballot())],
            }),
            Request::RaiseFloor(RaiseFloorRequest {
                to: self.to(),
                partition: self.partition(),
                epoch: self.epoch(),
                floor: self.ballot(),
            }),
            Request::DropRows(DropRowsRequest {
                to: self.to(),
                partition: self.partition(),
                epoch: self.epoch(),
                rows: vec![(self.row(), self.ballot())],
            }),
            Request::PrepareBound(PrepareBoundRequest {
                prepare: PrepareRequest {
                    to: self.to(),
                    partition: self.partition(),
                    key: self.row(),
                    claim: self.claim(),
                },
                bound: self.ballot().time,
            }),
            Request::GarbageStatus(GarbageStatusRequest {}),
        ]
    }

    #[allow(clippy::too_many_lines, reason = "one entry a kind and outcome")]
    fn responses(&self) -> Vec<Response> {
        let refusal = self.refusal();
        vec![
            Response::Prepare(PrepareReply::Promised {
                accepted: self.ballot(),
                state: self.flag.then(|| self.state()),
                floor: self.ballot(),
                is_full: self.flag,
            }),
            Response::Prepare(PrepareReply::Refused(refusal)),
            Response::Accept(AcceptReply::Accepted),
            Response::Accept(AcceptReply::Refused(refusal)),
            Response::Read(ReadReply::Row {
                accepted: self.ballot(),
                state: self.flag.then(|| self.state()),
            }),
            Response::Read(ReadReply::Refused(refusal)),
            Response::ReadParts(ReadPartsReply::Parts {
                rows: vec![(self.small, self.ballot(), self.state())],
                is_complete: self.flag,
            }),
            Response::ReadParts(ReadPartsReply::Refused(refusal)),
            Response::List(ListReply::Page {
                entries: self.entries(),
                examined_to: self.flag.then(|| self.after()),
            }),
            Response::List(ListReply::Refused {
                shard: Shard(self.small),
                refusal,
            }),
            Response::Raise(RaiseReply {
                refusals: vec![None, Some(refusal)],
            }),
            Response::StoreChunk(StoreChunkReply::Stored),
            Response::StoreChunk(StoreChunkReply::Refused(refusal)),
            Response::FetchChunk(FetchChunkReply::Found),
            Response::FetchChunk(FetchChunkReply::Missing),
            Response::FetchChunk(FetchChunkReply::Refused(refusal)),
            Response::DeleteChunks(DeleteChunksReply {
                accepted: self.u32(),
            }),
            Response::NoteChunks(NoteChunksReply { noted: self.u32() }),
            Response::Ping(PingReply {
                clock_ms: self.number,
                layout_version: self.number,
                horizon_wait_ms: self.number,
                serving: vec![DiskId(self.id)],
            }),
            Response::GetLayout(GetLayoutReply {
                layout: self.flag.then(|| self.layout()),
            }),
            Response::NodeStatus(NodeStatusReply {
                node: NodeId(self.id),
                release: self.text.clone(),
                uptime_s: self.number,
                layout_version: self.number,
                disks: vec![DiskStatus {
                    id: DiskId(self.id),
                    writes_closed: self.flag.then(|| self.text.clone()),
                    rows: self.number,
                    chunks: self.number,
                    live_bytes: self.number,
                    garbage_bytes: self.number,
                    free_bytes: self.number,
                    total_bytes: self.number,
                    missing_chunks: self.number,
                    recovery: vec![self.text.clone()],
                }],
            }),
            Response::Join(JoinReply::Joined {
                cluster: ClusterId(self.id),
                authority: self.bytes.clone(),
                certificate: self.bytes.clone(),
                seeds: vec![self.text.clone()],
                admin_token_hash: self.digest(),
            }),
            Response::Join(JoinReply::Refused(self.text.clone())),
            Response::ControlPrepare(ControlPrepareReply::Promised(control::Promise {
                accepted: self.ballot(),
                newer: self.flag.then(|| self.layout()),
            })),
            Response::ControlPrepare(ControlPrepareReply::Refused(self.control_refusal())),
            Response::ControlAccept(ControlAcceptReply::Accepted),
            Response::ControlAccept(ControlAcceptReply::Refused(self.control_refusal())),
            Response::OfferLayout(OfferLayoutReply {
                version: self.number,
            }),
            Response::ChangeLayout(ChangeLayoutReply::Changed {
                version: self.number,
            }),
            Response::ChangeLayout(ChangeLayoutReply::Refused(self.text.clone())),
            Response::Digests(DigestsReply {
                digests: vec![
                    None,
                    Some(PartitionDigest {
                        rows: vec![self.number],
                        chunks: Vec::new(),
                    }),
                ],
            }),
            Response::ScanRows(ScanRowsReply {
                rows: vec![(self.row(), self.partition(), self.ballot())],
                examined: self.flag.then(|| self.row()),
                refused: vec![self.u32()],
            }),
            Response::ScanChunks(ScanChunksReply {
                chunks: vec![(
                    ChunkRef {
                        id: ChunkId(self.id),
                        len: self.u32(),
                        blake3: self.digest(),
                    },
                    ChunkOwner {
                        bucket: self.bucket(),
                        partition: self.partition(),
                        key: self.key(),
                        owner: self.owner(),
                    },
                )],
                examined: self.flag.then_some(ChunkId(self.id)),
                refused: vec![self.u32()],
            }),
            Response::SyncStatus(SyncStatusReply {
                layout_version: self.number,
                synced: vec![(DiskId(self.id), self.partition(), self.epoch())],
                learning: vec![(DiskId(self.id), self.partition(), self.epoch())],
                lost: vec![(DiskId(self.id), self.partition(), self.epoch())],
                silent: vec![(NodeId(self.id), self.number)],
                used: vec![(DiskId(self.id), self.number)],
                closed: vec![(DiskId(self.id), self.text.clone())],
                copied: self.number,
                copied_bytes: self.number,
            }),
            Response::SyncFacts(SyncFactsReply {
                facts: vec![None, Some((self.ballot(), Timestamp(self.number)))],
                horizon: Timestamp(self.number),
                generations: vec![(self.bucket(), Generation(self.number))],
            }),
            Response::FetchRows(FetchRowsReply {
                rows: vec![
                    None,
                    Some(FetchedRow {
                        accepted: self.ballot(),
                        state: self.bytes.clone().into(),
                        body_len: self.u32(),
                    }),
                ],
            }),
            Response::StartScrub(StartScrubReply {
                passes: vec![(DiskId(self.id), self.number)],
            }),
            Response::ScrubStatus(ScrubStatusReply {
                disks: vec![DiskScrub {
                    disk: DiskId(self.id),
                    current: self.flag.then(|| self.scrub_pass()),
                    last: Some(self.scrub_pass()),
                    total: self.scrub_pass().counts,
                    next_ms: self.number,
                }],
            }),
            Response::SurveyTombstones(SurveyTombstonesReply::Held(vec![
                Holding::Same,
                Holding::Newer,
                Holding::Older,
            ])),
            Response::SurveyTombstones(SurveyTombstonesReply::Refused(refusal)),
            Response::RaiseFloor(RaiseFloorReply::Raised),
            Response::RaiseFloor(RaiseFloorReply::Refused(refusal)),
            Response::DropRows(DropRowsReply::Dropped(self.u32())),
            Response::DropRows(DropRowsReply::Refused(refusal)),
            Response::PrepareBound(PrepareReply::Promised {
                accepted: self.ballot(),
                state: self.flag.then(|| self.state()),
                floor: self.ballot(),
                is_full: self.flag,
            }),
            Response::PrepareBound(PrepareReply::Refused(refusal)),
            Response::GarbageStatus(GarbageStatusReply {
                passes: self.number,
                tombstones: self.number,
                partitions_waiting: self.number,
                rows_dropped: self.number,
                rows_emptied: self.number,
                orphans: self.number,
                chunks_deleted: self.number,
                chunk_bytes_deleted: self.number,
                failed: self.number,
            }),
        ]
    }
}

fn plain() -> Filling {
    Filling {
        id: [1; 16],
        number: 2,
        small: 3,
        flag: true,
        text: "t".to_owned(),
        bytes: vec![4],
    }
}

/// A number here is never changed and never given to another kind; new kinds are added.
const KINDS: [(u16, &str); 31] = [
    (1, "Prepare"),
    (2, "Accept"),
    (3, "Read"),
    (4, "ReadParts"),
    (5, "List"),
    (6, "Raise"),
    (10, "StoreChunk"),
    (11, "FetchChunk"),
    (12, "DeleteChunks"),
    (13, "NoteChunks"),
    (20, "Ping"),
    (21, "GetLayout"),
    (22, "NodeStatus"),
    (23, "Join"),
    (24, "ControlPrepare"),
    (25, "ControlAccept"),
    (26, "OfferLayout"),
    (27, "ChangeLayout"),
    (30, "Digests"),
    (31, "ScanRows"),
    (32, "ScanChunks"),
    (33, "SyncStatus"),
    (34, "SyncFacts"),
    (35, "FetchRows"),
    (40, "StartScrub"),
    (41, "ScrubStatus"),
    (45, "SurveyTombstones"),
    (46, "RaiseFloor"),
    (47, "DropRows"),
    (48, "PrepareBound"),
    (49, "GarbageStatus"),
];

/// 65,536 partitions of five members, all of them moving, in a cluster of 300 nodes that has changed a million times.
#[test]
fn the_largest_layout_fits_a_frame() {
    let member = |disk| Member {
        disk,
        joined: Epoch(1_000_000),
    };
    let set = |first: u16| (first..first + 5).map(member).collect::<Vec<_>>();
    let mut layout = plain().layout();
    let node = |number: u128| {
        let text = "x".repeat(40);
        NodeEntry::new(NodeId::from_u128(number), text.clone(), text.clone(), text)
    };
    layout.nodes = (0..300).map(node).collect();
    let disk =
        |number: u16| DiskEntry::new(DiskId::from_u128(number.into()), number / 10, u64::MAX);
    layout.disks = (0..3_000).map(disk).collect();
    let row = Row {
        epoch: Epoch(1_000_000),
        members: Members::Joint {
            old: set(2_000),
            new: set(2_500),
        },
    };
    layout.rows = vec![row; Layout::MAX_PARTITIONS];
    let request = Request::ControlAccept(ControlAcceptRequest {
        ballot: plain().ballot(),
        layout,
    });
    let length = request.encode().len();
    let most = usize::try_from(crate::frame::body_max(request.kind())).unwrap();
    // Twice as large would still fit.
    assert!(length * 2 < most, "{length} of {most}");
}

#[test]
fn kinds_keep_their_numbers_for_ever() {
    let requests = plain().requests();
    let kinds: Vec<_> = requests.iter().map(|r| (r.kind(), r.name())).collect();
    assert_eq!(kinds, KINDS);
    let mut answered: Vec<_> = plain().responses().iter().map(Response::kind).collect();
    answered.dedup();
    assert_eq!(answered, KINDS.map(|(kind, _)| kind));
    for kind in 0..=u16::MAX {
        let is_known = KINDS.iter().any(|(known, _)| *known == kind);
        let is_unknown = |error: NodeError| error.code == NodeErrorCode::UnknownRequest;
        assert_ne!(Request::decode(kind, &[]).is_err_and(is_unknown), is_known);
        assert_ne!(Response::decode(kind, &[]).is_err_and(is_unknown), is_known);
    }
}

#[test]
fn a_key_is_folded_behind_the_prefix_asked_for() {
    assert_eq!(common_prefix("a/b/c", "", Some("/")), Some("a/"));
    assert_eq!(common_prefix("a/b/c", "a/", Some("/")), Some("a/b/"));
    assert_eq!(common_prefix("a/b", "a/", Some("/")), None);
    assert_eq!(common_prefix("aXYb", "", Some("XY")), Some("aXY"));
    assert_eq!(common_prefix("b/c", "a", Some("/")), None);
    assert_eq!(common_prefix("a/b", "", None), None);
}

#[test]
fn error_codes_keep_their_numbers_for_ever() {
    use NodeErrorCode::*;
    let codes = [
        Corrupt,
        Io,
        Full,
        WritesClosed,
        NotMember,
        UnknownRequest,
        Malformed,
        Unauthorised,
        WrongCluster,
        Unavailable,
        DigestMismatch,
    ];
    for (number, code) in (0_u8..).zip(codes) {
        assert_eq!(encode(&NodeError::new(code, "x")), [number, 1, b'x']);
    }
}

proptest! {
    #[test]
    fn every_kind_reads_back_and_nothing_shorter_does(filling in filling()) {
        for request in filling.requests() {
            let body = request.encode();
            prop_assert_eq!(Request::decode(request.kind(), &body), Ok(request.clone()));
            if let Some((_, shorter)) = body.split_last() {
                let decoded = Request::decode(request.kind(), shorter);
                prop_assert!(decoded.is_err() || body.is_empty(), "{}", request.name());
            }
        }
        for entry in filling.entries() {
            prop_assert!(encode(&entry).len() <= entry.bytes_at_most(), "{entry:?}");
        }
        for response in filling.responses() {
            let body = response.encode();
            prop_assert_eq!(Response::decode(response.kind(), &body), Ok(response.clone()));
            if let Some((_, shorter)) = body.split_last() {
                prop_assert!(Response::decode(response.kind(), shorter).is_err());
            }
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        for (kind, _) in KINDS {
            if let Ok(request) = Request::decode(kind, &body) {
                let again = Request::decode(kind, &request.encode());
                prop_assert_eq!(again, Ok(request));
            }
            if let Ok(response) = Response::decode(kind, &body) {
                let again = Response::decode(kind, &response.encode());
                prop_assert_eq!(again, Ok(response));
            }
        }
        let _ = decode::<NodeError>(&body);
        let _ = decode::<crate::hello::Hello>(&body);
        let _ = decode::<crate::hello::Welcome>(&body);
    }

    #[test]
    fn one_changed_byte_never_makes_a_decoder_panic(filling in filling(), at: u16, to: u8) {
        let position = |len: usize| usize::from(at) % len.max(1);
        for request in filling.requests() {
            let mut body = request.encode();
            let at = position(body.len());
            if let Some(byte) = body.get_mut(at) {
                *byte = to;
            }
            let _ = Request::decode(request.kind(), &body);
        }
        for response in filling.responses() {
            let mut body = response.encode();
            let at = position(body.len());
            if let Some(byte) = body.get_mut(at) {
                *byte = to;
            }
            let _ = Response::decode(response.kind(), &body);
        }
    }
}
