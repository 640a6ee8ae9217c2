//! What makes an SDK's retry of the same invocation known (DESIGN 4.8).
//!
//! SDKs send the same `amz-sdk-invocation-id` with each try of one call. It counts only together with everything that
//! the request asks: a client that reuses an id must not be told of another request's success. Without the header
//! there is no digest, and a retry is a new request.

use super::Call;
use crate::catalog::Bucket;
use crate::s3::condition::WriteCondition;
use ringfort_wire::id::{InvocationDigest, ObjectKey};

const HEADER: &str = "amz-sdk-invocation-id";
const ID_BYTES_MAX: usize = 256;

/// Collects what a request asks.
pub(super) struct Invocation(Option<blake3::Hasher>);

impl Invocation {
    /// Begins with who asks, for what, and where.
    pub(super) fn of(call: &Call, bucket: &Bucket, key: &ObjectKey) -> Self {
        let id = call.headers().get(HEADER).map(http::HeaderValue::as_bytes);
        let Some(id) = id.filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX) else {
            return Self(None);
        };
        Self(Some(blake3::Hasher::new()))
            .with(id)
            .with(call.key.owner.as_bytes())
            .with(call.routed.operation.name().as_bytes())
            .with(&bucket.reference.id.0)
            .with(key.as_bytes())
    }

    /// One more field. Its length goes in front, so that two fields never run into other two.
    pub(super) fn with(mut self, field: &[u8]) -> Self {
        if let Some(hasher) = &mut self.0 {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        self
    }

    pub(super) fn with_condition(self, condition: &WriteCondition) -> Self {
        if self.0.is_none() {
            return self;
        }
        self.with(format!("{condition:?}").as_bytes())
    }

    pub(super) fn with_pairs(mut self, pairs: &[(String, String)]) -> Self {
        for (name, value) in pairs {
            self = self.with(name.as_bytes()).with(value.as_bytes());
        }
        // Ends the list: the next field is no pair of it.
        self.with(&[])
    }

    pub(super) fn digest(self) -> Option<InvocationDigest> {
        let hash = self.0?.finalize();
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.as_bytes()[..16]);
        Some(digest)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    fn begun() -> Invocation {
        Invocation(Some(blake3::Hasher::new()))
    }

    #[test]
    fn every_field_and_every_border_counts() {
        let digest = begun().with(b"ab").with(b"c").digest();
        assert!(digest.is_some());
        assert_eq!(digest, begun().with(b"ab").with(b"c").digest());
        assert_ne!(digest, begun().with(b"a").with(b"bc").digest());
        assert_ne!(
            digest,
            begun().with_condition(&WriteCondition::IfAbsent).digest()
        );
        let condition = WriteCondition::if_match("x");
        assert_ne!(
            begun().with_condition(&condition).digest(),
            begun().with_condition(&WriteCondition::None).digest()
        );
    }

    #[test]
    fn without_an_id_there_is_no_digest() {
        assert_eq!(Invocation(None).with(b"a").digest(), None);
    }
}
