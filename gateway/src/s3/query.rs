//! The query string, parsed once: bounded, decoded, and without a parameter that comes twice.

use super::error::{ErrorCode, S3Error};
use super::names;

/// The request target (path and query) in bytes, as it was sent. Room for a key of 1,024 bytes in its longest encoding
/// and a presigned signature with a session token.
pub const TARGET_BYTES_MAX: usize = 16 * 1024;

/// Parameters in one query.
pub const PARAMETERS_MAX: usize = 128;

/// The decoded parameters. No name occurs twice: a second one would let two readers see two different requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    parameters: Vec<(String, String)>,
}

impl Query {
    /// Reads the raw query. In it, `+` is a space, as S3 has it; a plus is sent as `%2B`.
    pub fn parse(raw: &str) -> Result<Self, S3Error> {
        if raw.len() > TARGET_BYTES_MAX {
            return Err(ErrorCode::URITooLong.into());
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        for piece in raw.split('&').filter(|piece| !piece.is_empty()) {
            if parameters.len() == PARAMETERS_MAX {
                return Err(S3Error::with_message(
                    ErrorCode::InvalidArgument,
                    "The request has too many query parameters",
                ));
            }
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            let name = decode(name)?;
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(S3Error::invalid_argument(
                    "Conflicting query string parameters: a parameter was given more than once",
                    "ResourceType",
                    name,
                ));
            }
            parameters.push((name, decode(value)?));
        }
        Ok(Self { parameters })
    }

    /// The value of a parameter; empty for one without `=`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether the parameter is there at all.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Every parameter, in the order sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn decode(raw: &str) -> Result<String, S3Error> {
    if raw.contains('+') {
        names::decode_text(&raw.replace('+', "%20"))
    } else {
        names::decode_text(raw)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    fn code(raw: &str) -> ErrorCode {
        Query::parse(raw).unwrap_err().code
    }

    #[test]
    fn parameters_are_decoded_once_and_plus_is_a_space() {
        let query = Query::parse("acl&prefix=a+b%2Bc%252e&x=&&=y&k=a=b").unwrap();
        assert_eq!(query.get("acl"), Some(""));
        assert_eq!(query.get("prefix"), Some("a b+c%2e"));
        assert_eq!(query.get("x"), Some(""));
        assert_eq!(query.get(""), Some("y"));
        assert_eq!(query.get("k"), Some("a=b"));
        assert_eq!(query.get("PREFIX"), None);
    }

    #[test]
    fn row_180_a_parameter_twice_is_refused() {
        assert_eq!(code("uploadId=a&uploadId=b"), ErrorCode::InvalidArgument);
        assert_eq!(code("acl&acl"), ErrorCode::InvalidArgument);
        assert_eq!(code("prefix=a&pre%66ix=b"), ErrorCode::InvalidArgument);
    }

    #[test]
    fn bad_encodings_are_refused() {
        for raw in [
            "prefix=%",
            "prefix=%zz",
            "%4=x",
            "prefix=%ff",
            "prefix=%C0%AF",
        ] {
            assert_eq!(code(raw), ErrorCode::InvalidURI, "{raw}");
        }
    }

    #[test]
    fn row_171_a_long_query_is_refused() {
        assert_eq!(code(&"a".repeat(64 * 1024)), ErrorCode::URITooLong);
        let many: String = (0..129).map(|n| format!("a{n}&")).collect();
        assert_eq!(code(&many), ErrorCode::InvalidArgument);
    }

    proptest::proptest! {
        #[test]
        fn no_query_panics(raw in ".*") {
            let _ = Query::parse(&raw);
        }
    }
}
