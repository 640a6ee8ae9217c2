//! SigV4 for the few requests the load generator sends, with the signing key derived once a day.
//!
//! Only what is needed: header authentication, `host;x-amz-content-sha256;x-amz-date` signed, paths and queries that
//! arrive already encoded and sorted.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

#[derive(Debug, Clone)]
pub(crate) struct Signer {
    access_key: String,
    secret_key: String,
    region: String,
    /// The day the key below was derived for, `YYYYMMDD`.
    day: String,
    key: Vec<u8>,
}

/// The three headers that make a request an authenticated one.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) amz_date: String,
    pub(crate) authorization: String,
}

impl Signer {
    pub(crate) fn new(access_key: &str, secret_key: &str, region: &str) -> Self {
        Self {
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            region: region.to_owned(),
            day: String::new(),
            key: Vec::new(),
        }
    }

    pub(crate) fn sign(
        &mut self,
        method: &str,
        host: &str,
        path: &str,
        query: &str,
        payload_hash: &str,
        now: OffsetDateTime,
    ) -> Signed {
        let day = format!(
            "{:04}{:02}{:02}",
            now.year(),
            u8::from(now.month()),
            now.day()
        );
        let amz_date = format!(
            "{day}T{:02}{:02}{:02}Z",
            now.hour(),
            now.minute(),
            now.second()
        );
        if day != self.day {
            self.key = derive(&self.secret_key, &day, &self.region);
            self.day = day;
        }
        let scope = format!("{}/{}/s3/aws4_request", self.day, self.region);
        let canonical = format!(
            "{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{payload_hash}\nx-amz-date:{amz_date}\n\n\
             host;x-amz-content-sha256;x-amz-date\n{payload_hash}"
        );
        let text = format!(
            "AWS4-HMAC-SHA256\n{amz_date}\n{scope}\n{}",
            sha256_hex(canonical.as_bytes())
        );
        let signature = hex::encode(mac(&self.key, text.as_bytes()));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders=host;x-amz-content-sha256;x-amz-date, \
             Signature={signature}",
            self.access_key
        );
        Signed {
            amz_date,
            authorization,
        }
    }
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn derive(secret_key: &str, day: &str, region: &str) -> Vec<u8> {
    let mut key = mac(format!("AWS4{secret_key}").as_bytes(), day.as_bytes());
    for part in [region, "s3", "aws4_request"] {
        key = mac(&key, part.as_bytes());
    }
    key
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn derived_key_is_the_one_in_the_aws_documentation() {
        // "Examples of how to derive a signing key", IAM user guide; the service there is iam, so only the first two
        // steps are shared. The whole chain is checked by the signature below.
        let key = mac(b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", b"20150830");
        assert_eq!(
            hex::encode(key),
            "0138c7a6cbd60aa727b2f653a522567439dfb9f3e72b21f9b25941a42f04a7cd"
        );
    }

    #[test]
    fn a_list_request_signs_as_in_the_s3_documentation() {
        // "Signature calculations: transferring payload in a single chunk", example GET Bucket (list objects).
        let mut signer = Signer::new(
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "us-east-1",
        );
        let now = OffsetDateTime::from_unix_timestamp(1_369_353_600).unwrap();
        let signed = signer.sign(
            "GET",
            "examplebucket.s3.amazonaws.com",
            "/",
            "max-keys=2&prefix=J",
            &sha256_hex(b""),
            now,
        );
        assert_eq!(signed.amz_date, "20130524T000000Z");
        assert!(signed.authorization.ends_with(
            "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        ));
    }
}
