//! What a storage node may know of the catalog's records: the id of a bucket, and nothing else.

use crate::id::BucketId;

/// What the names of buckets' registers in the system bucket begin with.
pub const BUCKET_PREFIX: &str = "bucket/";

/// Versions of a bucket's record whose first field is its id.
const VERSIONS: [u8; 1] = [1];

/// The id in a bucket's record: behind the version byte. `None` where it is of no known version, or too short.
#[must_use]
pub fn bucket_id(record: &[u8]) -> Option<BucketId> {
    let (version, rest) = record.split_first()?;
    let (id, _) = rest.split_first_chunk::<16>()?;
    VERSIONS.contains(version).then_some(BucketId(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_record_of_a_known_version_has_an_id() {
        let record = [&[1][..], &[7; 16], b"rest"].concat();
        assert_eq!(bucket_id(&record), Some(BucketId([7; 16])));
        assert_eq!(bucket_id(&record[..16]), None);
        assert_eq!(bucket_id(&[]), None);
        let newer = [&[2][..], &[7; 16]].concat();
        assert_eq!(bucket_id(&newer), None);
    }
}
