//! The credential scope: `access-key-id/day/region/s3/aws4_request`.

/// A well-formed credential. Invariants: the service is `s3`, the day has eight digits, nothing is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) access_key_id: String,
    pub(super) day: String,
    pub(super) region: String,
}

/// Longer ids are nobody's, and would only fill logs.
const ACCESS_KEY_ID_CHARS_MAX: usize = 128;

impl Credential {
    /// Reads a credential; the error is S3's sentence about it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".";
        let mut fields = text.rsplitn(5, '/');
        let (Some(terminator), Some(service), Some(region), Some(day), Some(access_key_id)) = (
            fields.next(),
            fields.next(),
            fields.next(),
            fields.next(),
            fields.next(),
        ) else {
            return Err(FORM);
        };
        let is_plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_graphic());
        if !is_plain(access_key_id)
            || access_key_id.len() > ACCESS_KEY_ID_CHARS_MAX
            || !is_plain(region)
        {
            return Err(FORM);
        }
        if terminator != "aws4_request" {
            return Err("incorrect terminal. This endpoint belongs to \"aws4_request\".");
        }
        if service != "s3" {
            return Err("incorrect service. This endpoint belongs to \"s3\".");
        }
        if day.len() != 8 || !day.bytes().all(|b| b.is_ascii_digit()) {
            return Err(
                "incorrect date format. This date in the credential must be in the format \"yyyyMMdd\".",
            );
        }
        Ok(Self {
            access_key_id: access_key_id.to_owned(),
            day: day.to_owned(),
            region: region.to_owned(),
        })
    }

    /// The scope as it stands in a string to sign.
    pub(super) fn scope(&self) -> String {
        format!("{}/{}/s3/aws4_request", self.day, self.region)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn an_access_key_id_may_hold_slashes() {
        let credential = Credential::parse("a/b/20130524/us-east-1/s3/aws4_request").unwrap();
        assert_eq!(credential.access_key_id, "a/b");
        assert_eq!(credential.scope(), "20130524/us-east-1/s3/aws4_request");
    }

    #[test]
    fn other_forms_are_refused() {
        let long = format!("{}/20130524/r/s3/aws4_request", "a".repeat(129));
        for bad in [
            "",
            "a",
            "20130524/r/s3/aws4_request",
            "/20130524/r/s3/aws4_request",
            "a/20130524//s3/aws4_request",
            "a/2013052x/r/s3/aws4_request",
            "a/20130524/r/ec2/aws4_request",
            "a/20130524/r/s3/aws4",
            "a b/20130524/r/s3/aws4_request",
            &long,
        ] {
            assert!(Credential::parse(bad).is_err(), "{bad}");
        }
    }
}
