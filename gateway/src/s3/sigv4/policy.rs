//! The signature of a form upload: over the base64 of its policy alone
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-authentication-HTTPPOST.html>).

use super::chunk_signer::{decode_signature, is_signature};
use super::request_time::RequestTime;
use crate::s3::error::{ErrorCode, S3Error};
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};

/// Checks a form policy's signature. `day` is `YYYYMMDD`, from the form's credential. Leaves out the policy's
/// conditions, its expiry, and whether the credential's region is ours.
///
/// # Errors
/// `SignatureDoesNotMatch`.
pub fn verify_policy_signature(
    secret: &str,
    day: &str,
    region: &str,
    policy_base64: &str,
    signature_hex: &str,
) -> Result<(), S3Error> {
    let refused = || S3Error::new(ErrorCode::SignatureDoesNotMatch);
    let time = RequestTime::parse_basic(&format!("{day}T000000Z")).ok_or_else(refused)?;
    let signature = decode_signature(signature_hex.as_bytes()).ok_or_else(refused)?;
    let key = generate_signing_key(secret, time.to_system_time(), region, "s3");
    let expected = calculate_signature(key, policy_base64.as_bytes());
    is_signature(&expected, &signature)
        .then_some(())
        .ok_or_else(refused)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn a_policy_signature_is_bound_to_policy_day_region_and_secret() {
        let time = RequestTime::parse_basic("20130524T000000Z").unwrap();
        let key = generate_signing_key("secret", time.to_system_time(), "us-east-1", "s3");
        let signature = calculate_signature(key, b"e30=");
        let check = |secret, day, region, policy, signature: &str| {
            verify_policy_signature(secret, day, region, policy, signature).is_ok()
        };
        assert!(check("secret", "20130524", "us-east-1", "e30=", &signature));
        assert!(!check("other", "20130524", "us-east-1", "e30=", &signature));
        assert!(!check(
            "secret",
            "20130525",
            "us-east-1",
            "e30=",
            &signature
        ));
        assert!(!check(
            "secret",
            "20130524",
            "eu-west-1",
            "e30=",
            &signature
        ));
        assert!(!check(
            "secret",
            "20130524",
            "us-east-1",
            "e31=",
            &signature
        ));
        assert!(!check(
            "secret",
            "20130524",
            "us-east-1",
            "e30=",
            &signature[..63]
        ));
        assert!(!check("secret", "2013", "us-east-1", "e30=", &signature));
    }
}
