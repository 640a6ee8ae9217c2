//! Text into XML: whatever the text, the document stays well-formed XML 1.0 and the text stays text.

/// Whether XML 1.0 allows the character at all, even as a reference
/// (<https://www.w3.org/TR/xml/#charsets>).
#[must_use]
pub const fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}

/// Appends `text` as character data, fit for element content and for attribute values.
///
/// A character that XML 1.0 forbids becomes U+FFFD: S3 sends `&#x1;` there, which no conforming parser reads. Clients
/// that store such keys list with `encoding-type=url`, which loses nothing.
pub fn push_text(xml: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\'' => xml.push_str("&apos;"),
            // A parser turns a bare CR into LF; the reference survives.
            '\r' => xml.push_str("&#13;"),
            c if is_xml_char(c) => xml.push(c),
            _ => xml.push('\u{fffd}'),
        }
    }
}
