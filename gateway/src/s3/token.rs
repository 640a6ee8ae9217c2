//! Continuation tokens: where a listing goes on, sealed so that only this cluster can have written them.
//!
//! A token is bound to the bucket (or other scope) it was made for. It hides nothing: the payload is authenticated, not
//! encrypted, and holds only what the client has seen.
//!
//! ```text
//! url-safe base64, no padding, of:  version (1) | tag (16) | payload
//! tag = first 16 bytes of HMAC-SHA256(key, domain | length of scope (8, big endian) | scope | payload)
//! ```

use super::error::S3Error;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const VERSION: u8 = 1;
const TAG_BYTES: usize = 16;
const DOMAIN: &[u8] = b"ringfort list token 1";

/// The longest payload that is sealed: two keys and some numbers.
pub const PAYLOAD_BYTES_MAX: usize = 4 * 1024;
const TOKEN_BYTES_MAX: usize = (1 + TAG_BYTES + PAYLOAD_BYTES_MAX).div_ceil(3) * 4;

fn mac(key: &[u8], scope: &str, payload: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(DOMAIN);
    mac.update(&u64::try_from(scope.len()).unwrap_or(u64::MAX).to_be_bytes());
    mac.update(scope.as_bytes());
    mac.update(payload);
    mac
}

/// Makes the token for a payload of at most [`PAYLOAD_BYTES_MAX`] bytes.
#[must_use]
pub fn seal(key: &[u8], scope: &str, payload: &[u8]) -> String {
    debug_assert!(
        payload.len() <= PAYLOAD_BYTES_MAX,
        "a longer token would not be read back"
    );
    let tag = mac(key, scope, payload).finalize().into_bytes();
    let mut bytes = Vec::with_capacity(1 + TAG_BYTES + payload.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&tag[..TAG_BYTES]);
    bytes.extend_from_slice(payload);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The payload of a token made by [`seal`] with the same key and scope; `InvalidArgument` for anything else.
pub fn open(key: &[u8], scope: &str, token: &str) -> Result<Vec<u8>, S3Error> {
    payload_of(key, scope, token).ok_or_else(|| {
        let shown = if token.len() <= TOKEN_BYTES_MAX {
            token
        } else {
            ""
        };
        S3Error::invalid_argument(
            "The continuation token provided is incorrect",
            "continuation-token",
            shown,
        )
    })
}

fn payload_of(key: &[u8], scope: &str, token: &str) -> Option<Vec<u8>> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (version, rest) = bytes.split_first()?;
    let (tag, payload) = rest.split_at_checked(TAG_BYTES)?;
    if *version != VERSION {
        return None;
    }
    mac(key, scope, payload).verify_truncated_left(tag).ok()?;
    Some(bytes.split_off(1 + TAG_BYTES))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use crate::s3::error::ErrorCode;

    #[test]
    fn a_token_reads_back() {
        let token = seal(b"key", "bucket", b"payload");
        assert_eq!(open(b"key", "bucket", &token).unwrap(), b"payload");
        assert!(
            token
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
        let long = vec![7; PAYLOAD_BYTES_MAX];
        assert_eq!(open(b"key", "b", &seal(b"key", "b", &long)).unwrap(), long);
        assert_eq!(open(b"key", "b", &seal(b"key", "b", b"")).unwrap(), b"");
    }

    #[test]
    fn row_93_a_token_that_was_not_made_here_is_refused() {
        let good = seal(b"key", "bucket", b"payload");
        let other_bucket = seal(b"key", "tekcub", b"payload");
        let other_key = seal(b"yek", "bucket", b"payload");
        let shifted = seal(b"key", "bucketp", b"ayload");
        let megabyte = "A".repeat(1 << 20);
        let cut = &good[..good.len() - 1];
        for token in [
            "",
            "garbage",
            "!!!",
            "AQ",
            "\0",
            &other_bucket,
            &other_key,
            &shifted,
            &megabyte,
            cut,
        ] {
            assert_eq!(
                open(b"key", "bucket", token).unwrap_err().code,
                ErrorCode::InvalidArgument
            );
        }
    }

    #[test]
    fn every_changed_bit_is_seen() {
        let bytes = URL_SAFE_NO_PAD
            .decode(seal(b"key", "bucket", b"p"))
            .unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                open(b"key", "bucket", &URL_SAFE_NO_PAD.encode(changed)).is_err(),
                "bit {bit}"
            );
        }
    }
}
