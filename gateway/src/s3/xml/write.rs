//! The pen that every answer is written with: one root, S3's namespace, text always escaped.

use super::escape;
use crate::s3::time;
use std::fmt::Display;

/// What every document starts with.
pub const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
/// S3's namespace.
pub const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// Whose a bucket, object or upload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The canonical id.
    pub id: String,
    /// A name for people.
    pub display_name: String,
}

/// A document being written.
pub(in crate::s3) struct Document {
    xml: String,
    root: &'static str,
}

impl Document {
    pub(in crate::s3) fn new(root: &'static str) -> Self {
        let mut xml = String::with_capacity(512);
        xml.push_str(DECLARATION);
        xml.push('<');
        xml.push_str(root);
        xml.push_str(" xmlns=\"");
        xml.push_str(NAMESPACE);
        xml.push_str("\">");
        Self { xml, root }
    }

    pub(in crate::s3) fn finish(mut self) -> String {
        let root = self.root;
        self.close(root);
        self.xml
    }

    pub(super) fn open(&mut self, name: &str) {
        self.xml.push('<');
        self.xml.push_str(name);
        self.xml.push('>');
    }

    pub(super) fn close(&mut self, name: &str) {
        self.xml.push_str("</");
        self.xml.push_str(name);
        self.xml.push('>');
    }

    /// Markup of our own, as it stands.
    pub(in crate::s3) fn literal(&mut self, xml: &'static str) {
        self.xml.push_str(xml);
    }

    /// An element holding text.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.open(name);
        escape::push_text(&mut self.xml, text);
        self.close(name);
    }

    /// The document's root holding text and nothing else.
    pub(super) fn root_text(&mut self, text: &str) {
        escape::push_text(&mut self.xml, text);
    }

    /// An element holding a number or a boolean.
    pub(super) fn value(&mut self, name: &str, value: impl Display) {
        self.text(name, &value.to_string());
    }

    /// An element that is there only with a value.
    pub(super) fn optional(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    pub(super) fn time(&mut self, name: &str, time_ms: u64) {
        // S3's documents give whole seconds, the same instant that the Last-Modified header gives.
        self.text(name, &time::iso8601(time_ms - time_ms % 1_000));
    }

    /// An ETag, given without its quotes and written with them.
    pub(super) fn etag(&mut self, etag: &str) {
        self.text("ETag", &format!("\"{etag}\""));
    }

    pub(super) fn owner(&mut self, name: &str, owner: &Owner) {
        self.open(name);
        self.text("ID", &owner.id);
        self.text("DisplayName", &owner.display_name);
        self.close(name);
    }

    /// A name that `encoding-type=url` covers.
    pub(super) fn name(&mut self, element: &str, name: &str, encodes_url: bool) {
        if encodes_url {
            self.text(element, &encode_url(name));
        } else {
            self.text(element, name);
        }
    }

    /// Checksums as `ChecksumCRC32` and the like, then their type.
    pub(super) fn checksums(&mut self, checksums: &Checksums) {
        for (name, value) in &checksums.values {
            self.text(name, value);
        }
        self.optional("ChecksumType", checksums.kind);
    }
}

/// Checksums as an answer shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checksums {
    /// Element name (`ChecksumCRC32`, `ChecksumCRC32C`, `ChecksumCRC64NVME`, `ChecksumSHA1`, `ChecksumSHA256`) and
    /// base64 text.
    pub values: Vec<(&'static str, String)>,
    /// `FULL_OBJECT` or `COMPOSITE`.
    pub kind: Option<&'static str>,
}

/// A name under `encoding-type=url`: every byte but letters, digits, `-`, `_`, `.`, `*` and `/` as `%XX`.
///
/// A space is `%20`, never `+`: decoders that read `+` as a space and those that do not both get it right.
#[must_use]
pub fn encode_url(name: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*' | b'/') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    encoded
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
pub(in crate::s3) mod tests {
    use super::*;
    use quick_xml::Reader;
    use quick_xml::events::Event;

    /// Every leaf of a well-formed document as `path=text`, the root left out.
    pub(in crate::s3) fn leaves(xml: &str) -> Vec<String> {
        let root = xml.strip_prefix(DECLARATION).unwrap()[1..]
            .split([' ', '>'])
            .next()
            .unwrap();
        let mut seen = Vec::new();
        let mut last_open = 0;
        crate::s3::xml::read::walk(xml.as_bytes(), usize::MAX, root, |step| {
            match step {
                crate::s3::xml::read::Step::Open(path) => last_open = path.len(),
                crate::s3::xml::read::Step::Close(path, text) if path.len() == last_open => {
                    seen.push(format!("{}={text}", path.join("/")));
                }
                crate::s3::xml::read::Step::Close(path, _) => last_open = path.len() + 1,
            }
            Ok(())
        })
        .unwrap();
        seen
    }

    #[test]
    fn names_are_encoded_for_every_decoder() {
        assert_eq!(
            encode_url("a/b+c d%\u{e9}\u{1}*~&"),
            "a/b%2Bc%20d%25%C3%A9%01*%7E%26"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_text(text in "\\PC*|.*") {
            let mut document = Document::new("Root");
            document.text("A", &text);
            let xml = document.finish();
            let mut reader = Reader::from_str(&xml);
            let mut elements = 0;
            loop {
                match reader.read_event().unwrap() {
                    Event::Start(_) => elements += 1,
                    Event::Eof => break,
                    _ => {}
                }
            }
            proptest::prop_assert_eq!(elements, 2);
            let clean: String = text.chars().map(|c| if escape::is_xml_char(c) { c } else { '\u{fffd}' }).collect();
            proptest::prop_assert_eq!(leaves(&xml), vec![format!("A={clean}")]);
        }

        #[test]
        fn what_is_encoded_decodes(text in "\\PC*") {
            let decoded = crate::s3::names::decode_text(&encode_url(&text)).unwrap();
            proptest::prop_assert_eq!(decoded, text);
        }
    }
}
