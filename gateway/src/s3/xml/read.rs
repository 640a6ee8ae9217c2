//! Walks an XML body event by event, with nothing kept but the path to the current element and its text.
//!
//! Promises: size and depth are capped; a DOCTYPE is refused, and with it every entity but XML's own five; a document
//! that is not well-formed, not UTF-8 or has another root is `MalformedXML`, whole or not at all. Namespaces and
//! attributes are not looked at. No recursion on input.

use crate::s3::error::{ErrorCode, S3Error};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Elements inside each other, the root included.
pub const DEPTH_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 128;

/// One end of an element, as the walk meets it. Paths leave out the root.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// The element begins.
    Open(&'a [&'a str]),
    /// The element ends; `text` is what stood in it. Blank text around child elements is dropped.
    Close(&'a [&'a str], String),
}

/// `MalformedXML` with S3's own sentence.
pub(super) fn malformed() -> S3Error {
    ErrorCode::MalformedXML.into()
}

/// Walks the document, handing every element below the root to `visit`, whose refusal ends the walk.
pub(super) fn walk(
    body: &[u8],
    bytes_max: usize,
    root: &str,
    mut visit: impl FnMut(Step<'_>) -> Result<(), S3Error>,
) -> Result<(), S3Error> {
    if body.len() > bytes_max {
        return Err(malformed());
    }
    let text = std::str::from_utf8(body).map_err(|_| malformed())?;
    let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut walk = Walk {
        root,
        path: Vec::new(),
        open: Vec::new(),
        is_done: false,
    };
    loop {
        match reader.read_event().map_err(|_| malformed())? {
            Event::Start(start) => walk.open(&start, &mut visit)?,
            Event::Empty(start) => {
                walk.open(&start, &mut visit)?;
                walk.close(&mut visit)?;
            }
            // The reader checks that the end tag's name is the start tag's.
            Event::End(_) => walk.close(&mut visit)?,
            Event::Text(text) => walk.text(&text.xml10_content())?,
            Event::CData(text) => walk.cdata(&text.xml10_content())?,
            Event::GeneralRef(reference) => {
                let c = match reference.resolve_char_ref().map_err(|_| malformed())? {
                    // XML 1.0 has no reference to a control character, but keys have them and SDKs send them so.
                    Some('\0') => return Err(malformed()),
                    Some(c) => c,
                    None => predefined_entity(&reference.xml10_content()).ok_or_else(malformed)?,
                };
                walk.cdata(c.encode_utf8(&mut [0; 4]))?;
            }
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::DocType(_) => return Err(malformed()),
            Event::Eof if walk.is_done => return Ok(()),
            Event::Eof => return Err(malformed()),
        }
    }
}

fn predefined_entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

struct Walk<'r> {
    root: &'r str,
    /// Names of the open elements below the root.
    path: Vec<String>,
    /// Of every open element, the root included: its text so far, and whether it has children.
    open: Vec<(String, bool)>,
    /// The root has ended.
    is_done: bool,
}

impl Walk<'_> {
    fn open(
        &mut self,
        start: &BytesStart<'_>,
        visit: &mut impl FnMut(Step<'_>) -> Result<(), S3Error>,
    ) -> Result<(), S3Error> {
        let name = start.local_name().into_inner();
        if self.is_done || self.open.len() == DEPTH_MAX || name.len() > NAME_BYTES_MAX {
            return Err(malformed());
        }
        match self.open.last_mut() {
            None if name == self.root => {
                self.open.push(Default::default());
                return Ok(());
            }
            None => return Err(malformed()),
            Some((text, has_children)) => {
                // Text beside elements means nothing in any of S3's documents.
                if !is_blank(text) {
                    return Err(malformed());
                }
                text.clear();
                *has_children = true;
            }
        }
        self.open.push(Default::default());
        self.path.push(name.to_owned());
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        visit(Step::Open(&path))
    }

    fn close(
        &mut self,
        visit: &mut impl FnMut(Step<'_>) -> Result<(), S3Error>,
    ) -> Result<(), S3Error> {
        let (mut text, has_children) = self.open.pop().ok_or_else(malformed)?;
        if has_children {
            if !is_blank(&text) {
                return Err(malformed());
            }
            text.clear();
        }
        if self.open.is_empty() {
            self.is_done = true;
            return if is_blank(&text) {
                Ok(())
            } else {
                Err(malformed())
            };
        }
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        visit(Step::Close(&path, text))?;
        self.path.pop();
        Ok(())
    }

    fn text(&mut self, piece: &str) -> Result<(), S3Error> {
        match self.open.last_mut() {
            Some((text, _)) => text.push_str(piece),
            None if is_blank(piece) => {}
            None => return Err(malformed()),
        }
        Ok(())
    }

    /// Text that may not stand outside the root even where it is blank.
    fn cdata(&mut self, piece: &str) -> Result<(), S3Error> {
        let (text, _) = self.open.last_mut().ok_or_else(malformed)?;
        text.push_str(piece);
        Ok(())
    }
}

fn is_blank(text: &str) -> bool {
    text.bytes()
        .all(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n'))
}

/// Sets a value that a document may give once; "the last one wins" is no answer.
pub(super) fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), S3Error> {
    if slot.replace(value).is_some() {
        Err(malformed())
    } else {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    fn leaves(body: &[u8]) -> Result<Vec<String>, ErrorCode> {
        let mut seen = Vec::new();
        walk(body, 1 << 20, "R", |step| {
            if let Step::Close(path, text) = step {
                seen.push(format!("{}={text}", path.join("/")));
            }
            Ok(())
        })
        .map_err(|e| e.code)?;
        Ok(seen)
    }

    fn is_malformed(body: &str) {
        assert_eq!(
            leaves(body.as_bytes()),
            Err(ErrorCode::MalformedXML),
            "{body:.200}"
        );
    }

    #[test]
    fn text_is_read_as_it_was_meant() {
        let body = "\u{feff}<?xml version='1.0'?><!-- c -->\n<s:R xmlns:s='u' a='1'> <A>x&amp;&#x41;&#13;<![CDATA[<y>]]>\r\n</A><B/>\n<C><D> </D></C></s:R>\n";
        assert_eq!(
            leaves(body.as_bytes()).unwrap(),
            ["A=x&A\r<y>\n", "B=", "C/D= ", "C="]
        );
    }

    #[test]
    fn row_139_any_doctype_is_refused() {
        is_malformed("<!DOCTYPE R><R/>");
        is_malformed("<!DOCTYPE R [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><R><A>&b;</A></R>");
        is_malformed("<R><!DOCTYPE R></R>");
        is_malformed("<R/><!DOCTYPE R>");
        is_malformed("<!doctype R><R/>");
    }

    #[test]
    fn row_140_no_entity_is_looked_up() {
        is_malformed("<!DOCTYPE R [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><R><A>&x;</A></R>");
        is_malformed("<!DOCTYPE R [<!ENTITY % x SYSTEM 'http://a.test/'> %x;]><R/>");
        is_malformed("<R><A>&x;</A></R>");
        is_malformed("<R><A>&AMP;</A></R>");
    }

    #[test]
    fn row_141_deep_nesting_is_refused_at_once() {
        is_malformed(&format!("<R>{}", "<a>".repeat(20_000)));
        is_malformed(&format!(
            "<R>{}{}</R>",
            "<a>".repeat(20_000),
            "</a>".repeat(20_000)
        ));
        is_malformed(&format!("<R>{}{}</R>", "<a>".repeat(16), "</a>".repeat(16)));
        assert!(
            leaves(format!("<R>{}{}</R>", "<a>".repeat(15), "</a>".repeat(15)).as_bytes()).is_ok()
        );
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for body in [
            "",
            " ",
            "x",
            "<R>",
            "</R>",
            "<R></S>",
            "<R><A></R></A>",
            "<R/><R/>",
            "<R/>x",
            "x<R/>",
            "<S/>",
            "<r/>",
            "<R>x<A/></R>",
            "<R><A/>x</R>",
            "<R>x</R>",
            "<R><A>&#0;</A></R>",
            "<R><A>&#xD800;</A></R>",
            "<R><A>&</A></R>",
            "<R><A>&#99999999;</A></R>",
            "<R",
            "<R><A",
            "<R><![CDATA[x",
            "<R><!--",
            "{\"R\":1}",
            "<R/><![CDATA[]]>",
        ] {
            is_malformed(body);
        }
        assert_eq!(leaves(b"<R><A>\xff</A></R>"), Err(ErrorCode::MalformedXML));
        assert_eq!(
            leaves(b"\xff\xfe<\0R\0/\0>\0"),
            Err(ErrorCode::MalformedXML)
        );
    }

    #[test]
    fn a_large_body_is_refused_before_it_is_parsed() {
        assert_eq!(
            walk(b"<R/> ", 4, "R", |_| Ok(())).unwrap_err().code,
            ErrorCode::MalformedXML
        );
        is_malformed(&format!("<R><{}/></R>", "a".repeat(129)));
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = leaves(&body);
        }

        #[test]
        fn no_markup_panics(body in "(<R>|</R>|<A>|</A>|<A/>|&|;|amp|#x1|<!\\[CDATA\\[|\\]\\]>|<!--|-->|<\\?|\\?>|<!DOCTYPE|x| ){0,12}") {
            let _ = leaves(body.as_bytes());
        }
    }
}
