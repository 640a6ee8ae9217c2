//! The query as signing sees it: decoded pairs, sorted again when they are spelt canonically.
//!
//! `+` is a space here, as in every form encoding. Leaves out what the parameters mean (`route`).

use super::canonical::{decode, encode};
use crate::s3::error::{ErrorCode, S3Error};

/// The parameters of a request line, decoded, in the order sent.
pub(super) struct Query(Vec<(Vec<u8>, Vec<u8>)>);

const SIGNATURE: &[u8] = b"X-Amz-Signature";

impl Query {
    /// Reads a raw query.
    ///
    /// # Errors
    /// `InvalidURI` for broken percent encoding.
    pub(super) fn parse(raw: &str) -> Result<Self, S3Error> {
        let pairs = raw
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Some((
                    decode(name.as_bytes(), true)?,
                    decode(value.as_bytes(), true)?,
                ))
            })
            .collect::<Option<_>>();
        pairs
            .map(Self)
            .ok_or_else(|| S3Error::new(ErrorCode::InvalidURI))
    }

    /// The first value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(n, _)| n == name.as_bytes())
            .map(|(_, v)| v.as_slice())
    }

    /// The first value of a parameter that has to be text.
    pub(super) fn get_text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// Whether any parameter that begins with `X-Amz-`, in any case, stands there twice.
    pub(super) fn has_repeated_amz_parameter(&self) -> bool {
        let mut names: Vec<Vec<u8>> = self
            .0
            .iter()
            .map(|(name, _)| name.to_ascii_lowercase())
            .filter(|name| name.starts_with(b"x-amz-"))
            .collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// Every parameter, known or not, but the signature itself; sorted by its encoded form.
    pub(super) fn canonical(&self) -> String {
        let mut pairs: Vec<(String, String)> = self
            .0
            .iter()
            .filter(|(name, _)| name != SIGNATURE)
            .map(|(name, value)| (encoded(name), encoded(value)))
            .collect();
        pairs.sort_unstable();
        let mut canonical = String::new();
        for (name, value) in &pairs {
            if !canonical.is_empty() {
                canonical.push('&');
            }
            canonical.push_str(name);
            canonical.push('=');
            canonical.push_str(value);
        }
        canonical
    }
}

fn encoded(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    encode(&mut out, bytes, false);
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_canonical_and_sorted_by_its_encoded_form() {
        let query = Query::parse("b=2&a&c=x+y%2F&&b=1&X-Amz-Signature=ff&=e").unwrap();
        assert_eq!(query.canonical(), "=e&a=&b=1&b=2&c=x%20y%2F");
        // `%C3` sorts before `a`, as bytes of the encoded form do.
        assert_eq!(
            Query::parse("a=1&\u{e9}=2").unwrap().canonical(),
            "%C3%A9=2&a=1"
        );
    }

    #[test]
    fn repeated_amz_parameters_are_seen_in_any_case() {
        assert!(
            Query::parse("X-Amz-Expires=1&x-amz-expires=2")
                .unwrap()
                .has_repeated_amz_parameter()
        );
        assert!(
            !Query::parse("a=1&a=2&X-Amz-Expires=1")
                .unwrap()
                .has_repeated_amz_parameter()
        );
    }

    #[test]
    fn broken_percent_encoding_is_an_invalid_uri() {
        assert_eq!(
            Query::parse("a=%Z").err().unwrap().code,
            ErrorCode::InvalidURI
        );
    }
}
