//! What a pass decides by itself. Pure.

use ringfort_coordinator::Owned;
use ringfort_ring::ballot::Ballot;
use ringfort_ring::hlc::Timestamp;
use ringfort_ring::id::DiskId;
use ringfort_ring::quorum::QuorumRule;
use ringfort_ring::register::bound;
use ringfort_wire::id::{ChunkId, RowKey, UploadId};
use ringfort_wire::manifest::{BodyOwner, BodyPlace, ChunkOwner, KeyState, PartState};

/// What a row is to a pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Nothing is left to tell: it may be dropped, once it is old enough.
    Tombstone {
        /// Whether it is.
        is_old: bool,
    },
    /// A part, or the chunks that it replaced, of this upload.
    Part(UploadId),
    /// A key with something to tell.
    Key,
    /// Not to be touched: it does not read back in this release.
    Unknown,
}

/// What a row is; tombstones at or before `cutoff` are old.
pub(super) fn kind_of(
    key: &RowKey,
    ballot: Ballot,
    state: &[u8],
    now_ms: u64,
    cutoff: Timestamp,
) -> Kind {
    let is_old = ballot.time <= cutoff;
    match key.part {
        Some(part) => match PartState::decode(state) {
            Ok(state) if state.is_collectable() => Kind::Tombstone { is_old },
            // Emptied already, and it carries what only a later release knows.
            Ok(state) if state.part.is_none() && state.replaced().is_empty() => Kind::Unknown,
            Ok(_) => Kind::Part(part.upload),
            Err(_) => Kind::Unknown,
        },
        None => match KeyState::decode(state) {
            Ok(state) if state.is_collectable(now_ms) => Kind::Tombstone { is_old },
            Ok(_) => Kind::Key,
            Err(_) => Kind::Unknown,
        },
    }
}

/// Whether a disk is the first member of a row that does not move.
pub(super) fn is_first(rule: &QuorumRule, disk: DiskId) -> bool {
    !rule.is_joint()
        && rule
            .members()
            .first()
            .is_some_and(|member| member.disk == disk)
}

/// Whether it is a disk's turn in a row that does not move: each member has one in as many passes as there are members.
pub(super) fn has_turn(rule: &QuorumRule, disk: DiskId, pass: u64) -> bool {
    let members = rule.members();
    let place = members.iter().position(|member| member.disk == disk);
    let (Some(place), Ok(count)) = (place, u64::try_from(members.len())) else {
        return false;
    };
    !rule.is_joint() && u64::try_from(place).is_ok_and(|place| pass % count == place)
}

/// Whether an owner is too young for its chunks to be judged: what began after the bound may still be on its way. An
/// upload is judged at any age: no chunk of it was written before its beginning was chosen, so where it is not open it
/// has ended, and what its end names was decided with it.
pub(super) fn is_young(owner: &BodyOwner, bound: Timestamp) -> bool {
    match owner {
        BodyOwner::Operation(operation) => !bound::is_dead(operation.born, bound, false),
        BodyOwner::Upload(_) => false,
    }
}

/// Whether a state that this very disk holds names the chunk. It may be behind the others: good enough to leave the chunk
/// alone, and for nothing else.
pub(super) fn is_named_here(state: &KeyState, owner: &ChunkOwner, chunk: ChunkId) -> bool {
    if let Some(head) = state.head.as_ref().filter(|head| head.owner == owner.owner) {
        return match (&head.body, &owner.owner) {
            (BodyPlace::Inline, _) => false,
            (BodyPlace::Chunks(list), _) => list.chunks.iter().any(|named| named.id == chunk),
            // One body, one list: what an operation wrote is what it names.
            (BodyPlace::Listed(_), BodyOwner::Operation(_)) => true,
            // Parts that were not used are of the same owner: the list itself must say.
            (BodyPlace::Listed(list), BodyOwner::Upload(_)) => {
                list.iter().any(|named| named.id == chunk)
            }
        };
    }
    match owner.owner {
        BodyOwner::Upload(upload) => state.has_open(upload),
        BodyOwner::Operation(_) => false,
    }
}

/// Whether what an owner names spares the chunk.
pub(super) fn is_spared(owned: &Owned, chunk: ChunkId) -> bool {
    match owned {
        Owned::OpenUpload => true,
        Owned::Chunks(named) => named.contains(&chunk),
        Owned::Nothing => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use ringfort_ring::id::{Epoch, PartitionId};
    use ringfort_ring::quorum::Replica;
    use ringfort_wire::id::{BucketId, ObjectKey, OperationId};
    use ringfort_wire::manifest::{BodyList, ChunkRef, EndedUpload, ObjectHead, UploadEnd};
    use std::collections::HashSet;

    fn member(n: u128) -> Replica {
        Replica {
            disk: DiskId::from_u128(n),
            joined: Epoch(1),
        }
    }

    fn chunk(n: u8) -> ChunkRef {
        ChunkRef {
            id: ChunkId([n; 16]),
            len: 1,
            blake3: [n; 32],
        }
    }

    fn operation(born_ms: u64) -> BodyOwner {
        BodyOwner::Operation(OperationId {
            id: [1; 16],
            born: Timestamp::from_ms(born_ms),
        })
    }

    fn owned_by(owner: BodyOwner) -> ChunkOwner {
        ChunkOwner {
            bucket: BucketId([1; 16]),
            partition: PartitionId(0),
            key: ObjectKey::parse("k").unwrap(),
            owner,
        }
    }

    fn head(owner: BodyOwner, body: BodyPlace) -> KeyState {
        KeyState {
            head: Some(Box::new(ObjectHead {
                version: Ballot::ZERO,
                owner,
                modified_ms: 0,
                size: 1,
                etag: String::new(),
                headers: Vec::new(),
                metadata: Vec::new(),
                checksums: Vec::new(),
                part_count: 0,
                body,
                extensions: Vec::new(),
            })),
            ..KeyState::default()
        }
    }

    #[test]
    fn the_members_of_a_row_take_turns_and_none_while_it_moves() {
        let rule = QuorumRule::stable(vec![member(1), member(2), member(3)]);
        for pass in 0..9 {
            let turns: Vec<_> = (1..=4)
                .filter(|n| has_turn(&rule, DiskId::from_u128(*n), pass))
                .collect();
            assert_eq!(turns, [u128::from(pass % 3) + 1]);
        }
        assert!(is_first(&rule, DiskId::from_u128(1)));
        assert!(!is_first(&rule, DiskId::from_u128(2)));
        let joint = QuorumRule::joint(rule.members(), rule.members());
        assert!((0..3).all(|pass| !has_turn(&joint, DiskId::from_u128(1), pass)));
        assert!(!is_first(&joint, DiskId::from_u128(1)));
    }

    #[test]
    fn only_rows_with_nothing_to_tell_are_tombstones() {
        const NOW_MS: u64 = 20 * EndedUpload::KEPT_MS;
        let at = |ms| Ballot::last_at(Timestamp::from_ms(ms));
        let key = RowKey::object(BucketId([1; 16]), ObjectKey::parse("k").unwrap());
        let kind = |state: &KeyState, ms| {
            let cutoff = Timestamp::from_ms(50);
            kind_of(&key, at(ms), &state.encode(), NOW_MS, cutoff)
        };
        let empty = KeyState::default();
        assert_eq!(kind(&empty, 50), Kind::Tombstone { is_old: true });
        assert_eq!(kind(&empty, 51), Kind::Tombstone { is_old: false });
        let ended = KeyState {
            ended: vec![EndedUpload {
                id: UploadId([1; 16]),
                ended_ms: NOW_MS,
                how: UploadEnd::Aborted,
            }],
            ..KeyState::default()
        };
        assert_eq!(kind(&ended, 1), Kind::Key);
        let live = head(operation(1), BodyPlace::Inline);
        assert_eq!(kind(&live, 1), Kind::Key);
        let garbled = kind_of(&key, at(1), &[9], NOW_MS, Timestamp::MAX);
        assert_eq!(garbled, Kind::Unknown);

        let part = RowKey::part(key.bucket, key.key.clone(), UploadId([4; 16]), 1);
        let part_kind =
            |state: &PartState| kind_of(&part, at(1), &state.encode(), NOW_MS, Timestamp::MAX);
        let mut state = PartState::default();
        assert_eq!(part_kind(&state), Kind::Tombstone { is_old: true });
        state.replace(ringfort_wire::manifest::PartHead {
            modified_ms: 0,
            size: 0,
            md5: [0; 16],
            checksums: Vec::new(),
            chunks: vec![chunk(1)],
            extensions: Vec::new(),
        });
        assert_eq!(part_kind(&state), Kind::Part(UploadId([4; 16])));
        state.clear();
        state.extensions.push((9, vec![1]));
        assert_eq!(part_kind(&state), Kind::Unknown);
    }

    #[test]
    fn an_operation_is_judged_when_it_is_older_than_the_bound_and_an_upload_always() {
        let bound = Timestamp::from_ms(10);
        assert!(is_young(&operation(10), bound));
        assert!(!is_young(&operation(9), bound));
        assert!(!is_young(&BodyOwner::Upload(UploadId([1; 16])), bound));
    }

    #[test]
    fn what_a_state_names_is_left_alone() {
        let listed = BodyPlace::Listed(vec![chunk(7)]);
        let chunks = BodyPlace::Chunks(BodyList {
            chunks: vec![chunk(1)],
            parts: Vec::new(),
        });
        let upload = BodyOwner::Upload(UploadId([1; 16]));
        let named =
            |state: &KeyState, owner, n| is_named_here(state, &owned_by(owner), ChunkId([n; 16]));
        let by_operation = head(operation(5), chunks.clone());
        assert!(named(&by_operation, operation(5), 1));
        assert!(!named(&by_operation, operation(5), 2));
        assert!(!named(&by_operation, operation(6), 1));
        assert!(named(&head(operation(5), listed.clone()), operation(5), 2));
        let by_upload = head(upload, listed);
        assert!(named(&by_upload, upload, 7));
        assert!(!named(&by_upload, upload, 2));
        assert!(!named(&KeyState::default(), upload, 7));

        let some = Owned::Chunks(HashSet::from([ChunkId([1; 16])]));
        assert!(is_spared(&some, ChunkId([1; 16])));
        assert!(!is_spared(&some, ChunkId([2; 16])));
        assert!(is_spared(&Owned::OpenUpload, ChunkId([2; 16])));
        assert!(!is_spared(&Owned::Nothing, ChunkId([1; 16])));
    }
}
