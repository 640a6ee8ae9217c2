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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const BUCKETS: [[u8; 16]; 3] = [
        [0; 16],
        [1; 16],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    ];

    /// Computed once by an independent implementation of SipHash-2-4, which was itself held against the vector
    /// of the paper's appendix A. They are part of the format: a change here orphans every stored key.
    #[test]
    fn shards_stay_where_they_are_for_ever() {
        let long = [b'k'; 1024];
        let golden: [(&[u8], u64, u16); 6] = [
            (b"", 0xca2e_94ff_2ab8_3647, 7),
            (b"a", 0x8829_356a_92c4_78d7, 7),
            (b"a/", 0x9e1b_20a6_63e5_4b43, 3),
            (b"photos/2026/cat.jpg", 0x3306_0494_df9a_48a9, 9),
            ("ä😀".as_bytes(), 0x4e50_7e12_6f7b_d6b7, 7),
            (&long, 0xf64d_806d_51d0_3320, 0),
        ];
        for (key, full, shard) in golden {
            assert_eq!(hash(KEY_DOMAIN, &[key]), full);
            assert_eq!(shard_of(key, 16), Shard(shard));
            assert_eq!(shard_of(key, 1), Shard(0));
        }
        assert_eq!(shard_of(b"photos/2026/cat.jpg", 1_000), Shard(897));
    }

    #[test]
    fn partitions_stay_where_they_are_for_ever() {
        let golden = [
            (0, 0, 280, 24, 61_720),
            (0, 1, 1_011, 243, 9_203),
            (0, 15, 549, 37, 4_645),
            (0, 0x1234, 2_099, 51, 14_387),
            (1, 0, 170, 170, 170),
            (1, 1, 3_575, 247, 28_151),
            (1, 15, 2_062, 14, 55_310),
            (1, 0x1234, 2_873, 57, 2_873),
            (2, 0, 171, 171, 41_131),
            (2, 1, 1_852, 60, 51_004),
            (2, 15, 710, 198, 17_094),
            (2, 0x1234, 2_454, 150, 27_030),
        ];
        for (bucket, shard, of_4096, of_256, of_65536) in golden {
            let partition = |count| partition_of_shard(BUCKETS[bucket], Shard(shard), count).0;
            assert_eq!(partition(4_096), of_4096);
            assert_eq!(partition(256), of_256);
            assert_eq!(partition(65_536), of_65536);
        }
        let key = partition_of_key(BUCKETS[2], b"photos/2026/cat.jpg", 16, 4_096);
        assert_eq!(key, PartitionId(3_131));
    }

    #[test]
    fn chunks_stay_where_they_are_for_ever() {
        let golden = [
            (BUCKETS[0], 3_165, 93, 11_357),
            (BUCKETS[1], 3_420, 92, 56_668),
            (BUCKETS[2], 3_245, 173, 23_725),
            ([0xff; 16], 3_082, 10, 19_466),
        ];
        for (chunk, of_4096, of_256, of_65536) in golden {
            assert_eq!(partition_of_chunk(chunk, 4_096), PartitionId(of_4096));
            assert_eq!(partition_of_chunk(chunk, 256), PartitionId(of_256));
            assert_eq!(partition_of_chunk(chunk, 65_536), PartitionId(of_65536));
        }
    }

    #[test]
    fn keys_and_chunks_spread_evenly() {
        let mut of_shard = [0_u32; 16];
        let mut of_partition = [0_u32; 64];
        for number in 0..16_000_u128 {
            let key = alloc::format!("logs/2026/11/{number:08}.json");
            of_shard[usize::from(shard_of(key.as_bytes(), 16).0)] += 1;
            let partition = partition_of_chunk(number.to_be_bytes(), 64).0;
            of_partition[usize::try_from(partition).unwrap_or(0)] += 1;
        }
        assert!(of_shard.iter().all(|count| (850..1_150).contains(count)));
        assert!(of_partition.iter().all(|count| (180..320).contains(count)));
    }

    proptest! {
        #[test]
        fn every_key_has_a_shard_and_partition_in_range(
            bucket: [u8; 16],
            key: Vec<u8>,
            shards: u16,
            partitions: u32,
        ) {
            let shard = shard_of(&key, shards);
            prop_assert!(shard.0 < shards.max(1));
            let partition = partition_of_key(bucket, &key, shards, partitions);
            prop_assert!(partition.0 < partitions.max(1));
            prop_assert_eq!(partition, partition_of_shard(bucket, shard, partitions));
            prop_assert!(partition_of_chunk(bucket, partitions).0 < partitions.max(1));
        }
    }
}
