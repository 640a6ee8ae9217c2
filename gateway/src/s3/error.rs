//! S3's errors: code, status, message, and the elements some codes carry.
//!
//! Only this file knows how an error looks on the wire. Whatever stands in a message, a resource or a further
//! element, the document is well-formed XML 1.0 and no client byte becomes markup.

use super::xml::escape;
use std::borrow::Cow;
use std::fmt;

pub use super::error_code::ErrorCode;

/// An answer to a request that S3 refuses. Only this type knows HTTP status and XML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Error {
    /// Which of S3's codes.
    pub code: ErrorCode,
    /// The sentence for people.
    pub message: Cow<'static, str>,
    /// Further elements inside `<Error>`, name and text, in order (`Region`, `HeadersNotSigned`, …).
    pub extra: Vec<(&'static str, String)>,
}

impl S3Error {
    /// An error with the code's own message.
    #[must_use]
    pub fn new(code: ErrorCode) -> Self {
        Self {
            code,
            message: Cow::Borrowed(code.message()),
            extra: Vec::new(),
        }
    }

    /// An error with a message of its own.
    #[must_use]
    pub fn with_message(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            extra: Vec::new(),
        }
    }

    /// The same error with one more element inside `<Error>`.
    #[must_use]
    pub fn with_extra(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.extra.push((name, value.into()));
        self
    }

    /// `InvalidArgument` as S3 words it, naming the argument and what was sent for it.
    #[must_use]
    pub fn invalid_argument(
        message: impl Into<Cow<'static, str>>,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Self {
        Self::with_message(ErrorCode::InvalidArgument, message)
            .with_extra("ArgumentName", name)
            .with_extra("ArgumentValue", value)
    }

    /// The HTTP status of the answer.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.code.status()
    }

    /// Whether the answer may carry a body at all: a 304 must not (RFC 9110, 15.4.5).
    #[must_use]
    pub const fn has_body(&self) -> bool {
        !matches!(self.code, ErrorCode::NotModified)
    }

    /// The error document. `resource` is the path that was asked for, as text.
    #[must_use]
    pub fn to_xml(&self, resource: &str, request_id: &str, host_id: &str) -> String {
        let mut xml = String::with_capacity(256 + resource.len());
        xml.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
        element(&mut xml, "Code", self.code.as_str());
        element(&mut xml, "Message", &self.message);
        for (name, text) in &self.extra {
            element(&mut xml, name, text);
        }
        element(&mut xml, "Resource", resource);
        element(&mut xml, "RequestId", request_id);
        element(&mut xml, "HostId", host_id);
        xml.push_str("</Error>");
        xml
    }
}

fn element(xml: &mut String, name: &str, text: &str) {
    xml.push('<');
    xml.push_str(name);
    xml.push('>');
    escape::push_text(xml, text);
    xml.push_str("</");
    xml.push_str(name);
    xml.push('>');
}

impl From<ErrorCode> for S3Error {
    fn from(code: ErrorCode) -> Self {
        Self::new(code)
    }
}

impl fmt::Display for S3Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for S3Error {}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use quick_xml::Reader;
    use quick_xml::events::Event;

    fn assert_well_formed(xml: &str) {
        let mut reader = Reader::from_str(xml);
        loop {
            match reader.read_event() {
                Ok(Event::Eof) => return,
                Ok(_) => {}
                Err(error) => panic!("{error} in {xml}"),
            }
        }
    }

    #[test]
    fn an_error_is_the_document_that_s3_writes() {
        let xml = S3Error::new(ErrorCode::NoSuchKey)
            .with_extra("Key", "a<b")
            .to_xml("/bucket/a<b", "R1", "H1");
        assert_eq!(
            xml,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code>\
             <Message>The specified key does not exist.</Message><Key>a&lt;b</Key>\
             <Resource>/bucket/a&lt;b</Resource><RequestId>R1</RequestId><HostId>H1</HostId></Error>"
        );
    }

    #[test]
    fn row_71_markup_and_forbidden_characters_in_a_resource_stay_text() {
        let hostile =
            "/b/</Resource><script>&\"'\u{0}\u{1}\u{b}\u{1f}\u{7f}\u{fffe}\u{ffff}\r\n\t]]>";
        let xml = S3Error::new(ErrorCode::NoSuchKey).to_xml(hostile, hostile, hostile);
        assert_well_formed(&xml);
        assert!(!xml.contains("<script"));
        assert!(xml.chars().all(escape::is_xml_char));
    }

    #[test]
    fn every_code_has_an_error_status_and_a_sentence() {
        for code in ErrorCode::ALL {
            assert!((304..=599).contains(&code.status()), "{code:?}");
            assert!(!code.message().is_empty(), "{code:?}");
            assert_well_formed(&S3Error::new(*code).to_xml("/", "r", "h"));
        }
    }

    #[test]
    fn only_outages_and_missing_features_answer_5xx() {
        let five: Vec<_> = ErrorCode::ALL
            .iter()
            .filter(|c| c.status() >= 500)
            .collect();
        assert_eq!(
            five,
            [
                &ErrorCode::InternalError,
                &ErrorCode::NotImplemented,
                &ErrorCode::ServiceUnavailable,
                &ErrorCode::SlowDown
            ]
        );
    }
}
