//! Where one request ends and the next begins: a strict reading of HTTP/1.1's framing, before any parser sees a byte.
//!
//! HTTP libraries let through what a proxy in front may read otherwise (bare line feeds, two Hosts, two lengths, a
//! length beside chunks): each is a way to smuggle a request. What passes here has one reading only. A head is passed
//! on whole or not at all; body bytes are passed on as they come, counted. Pure: no IO, no time.
//! RFC 9112; rows of the hostile-input table are named in the tests.

use crate::s3::error::{ErrorCode, S3Error};
use crate::s3::query::TARGET_BYTES_MAX;
use bytes::{Buf as _, Bytes, BytesMut};

/// The header section as sent, names, values and line ends. S3's limit of 8 KB is counted after parsing; this is a
/// little above it, for blanks.
const SECTION_BYTES_MAX: usize = 10 * 1024;
/// The request line: method, target and version.
const LINE_BYTES_MAX: usize = TARGET_BYTES_MAX + 32;
/// A whole head.
const HEAD_BYTES_MAX: usize = LINE_BYTES_MAX + 1 + SECTION_BYTES_MAX;
/// Header lines.
pub(super) const HEADERS_MAX: usize = 250;
/// Trailer section of a chunked body.
const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// The line before a chunk: 15 digits and a line end.
const CHUNK_LINE_BYTES_MAX: usize = 17;

/// What comes next on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Head,
    /// So many bytes of a body.
    Body(u64),
    Chunk(Chunk),
    /// The head was refused; nothing more is read.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    SizeLine,
    Data(u64),
    /// The line end behind the data.
    DataEnd,
    Trailer,
}

/// Why the connection cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// A request is refused: this is its answer, and the connection's last.
    Head {
        error: S3Error,
        is_head_request: bool,
    },
    /// The body of the request under way cannot be followed.
    Body(&'static str),
}

/// The state of one connection's incoming half.
#[derive(Debug)]
pub(super) struct Framing {
    next: Next,
    /// A head, or a line of chunk framing, that is not whole.
    pending: BytesMut,
    /// How much of the pending head holds no end.
    scanned: usize,
    trailer_bytes: usize,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            next: Next::Head,
            pending: BytesMut::new(),
            scanned: 0,
            trailer_bytes: 0,
        }
    }
}

impl Framing {
    /// Whether no request has begun: closing now loses nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.next == Next::Head && self.pending.is_empty()
    }

    /// Whether a head has begun and is not whole.
    pub(super) fn is_in_head(&self) -> bool {
        self.next == Next::Head && !self.pending.is_empty()
    }

    /// How many bytes of a body of known length are still to come.
    pub(super) fn body_left(&self) -> u64 {
        match self.next {
            Next::Body(left) => left,
            Next::Head | Next::Chunk(_) | Next::Refused => 0,
        }
    }

    /// Notes bytes of such a body that did not come through [`Framing::push`].
    pub(super) fn pass(&mut self, bytes: u64) {
        if let Next::Body(left) = self.next {
            let left = left.saturating_sub(bytes);
            self.next = if left == 0 {
                Next::Head
            } else {
                Next::Body(left)
            };
        }
    }

    /// Nothing more is read.
    pub(super) fn refuse(&mut self) -> bool {
        self.next = Next::Refused;
        std::mem::take(&mut self.pending).starts_with(b"HEAD ")
    }

    /// Takes in what was read, and appends to `out` what may be passed on.
    pub(super) fn push(&mut self, mut input: Bytes, out: &mut BytesMut) -> Result<(), Broken> {
        while !input.is_empty() {
            match self.next {
                Next::Head => self.push_head(&mut input, out)?,
                Next::Body(left) => {
                    let left = left - take(&mut input, left, out);
                    self.next = if left == 0 {
                        Next::Head
                    } else {
                        Next::Body(left)
                    };
                }
                Next::Chunk(chunk) => self
                    .push_chunk(chunk, &mut input, out)
                    .map_err(Broken::Body)?,
                Next::Refused => return Ok(()),
            }
        }
        Ok(())
    }

    fn push_head(&mut self, input: &mut Bytes, out: &mut BytesMut) -> Result<(), Broken> {
        let before = self.pending.len();
        // Enough to judge any head by; what lies behind is looked at once this one is passed on.
        let taken = input.len().min((HEAD_BYTES_MAX + 1).saturating_sub(before));
        self.pending.extend_from_slice(&input[..taken]);
        // Empty lines before the request line are an old client's habit (RFC 9112, 2.2).
        let mut dropped = 0;
        while self.pending.starts_with(b"\r\n") {
            self.pending.advance(2);
            dropped += 2;
        }
        let start = if dropped > 0 {
            0
        } else {
            self.scanned.saturating_sub(3)
        };
        let end =
            memchr::memmem::find(&self.pending[start..], b"\r\n\r\n").map(|at| start + at + 4);
        let checked = match end {
            Some(end) => check_head(&self.pending[..end]).map(|next| Some((end, next))),
            None => check_partial(&self.pending).map(|()| None),
        };
        match checked {
            Err(error) => {
                let is_head_request = self.refuse();
                Err(Broken::Head {
                    error,
                    is_head_request,
                })
            }
            Ok(None) => {
                self.scanned = self.pending.len();
                input.advance(taken);
                Ok(())
            }
            Ok(Some((end, next))) => {
                out.extend_from_slice(&self.pending[..end]);
                // Of this input, only what belongs to the head is used up.
                input.advance(dropped + end - before);
                self.pending.clear();
                self.scanned = 0;
                self.next = next;
                Ok(())
            }
        }
    }

    fn push_chunk(
        &mut self,
        chunk: Chunk,
        input: &mut Bytes,
        out: &mut BytesMut,
    ) -> Result<(), &'static str> {
        let next = match chunk {
            Chunk::Data(left) => {
                let left = left - take(input, left, out);
                if left > 0 {
                    Chunk::Data(left)
                } else {
                    Chunk::DataEnd
                }
            }
            Chunk::SizeLine => match self.line(input, CHUNK_LINE_BYTES_MAX, out)? {
                None => return Ok(()),
                Some(line) => match chunk_size(&line)? {
                    0 => {
                        self.trailer_bytes = 0;
                        Chunk::Trailer
                    }
                    size => Chunk::Data(size),
                },
            },
            Chunk::DataEnd => match self.line(input, 2, out)? {
                None => return Ok(()),
                Some(line) if line.is_empty() => Chunk::SizeLine,
                Some(_) => return Err("a chunk is longer than it says"),
            },
            Chunk::Trailer => match self.line(input, TRAILER_BYTES_MAX, out)? {
                None => return Ok(()),
                Some(line) if line.is_empty() => {
                    self.next = Next::Head;
                    return Ok(());
                }
                Some(line) => {
                    self.trailer_bytes += line.len();
                    if self.trailer_bytes > TRAILER_BYTES_MAX {
                        return Err("the trailer is too long");
                    }
                    check_header_line(&line).map_err(|_| "a trailer line is malformed")?;
                    Chunk::Trailer
                }
            },
        };
        self.next = Next::Chunk(next);
        Ok(())
    }

    /// The next line without its end, passed on to `out` once it is whole.
    fn line(
        &mut self,
        input: &mut Bytes,
        bytes_max: usize,
        out: &mut BytesMut,
    ) -> Result<Option<Bytes>, &'static str> {
        let end = memchr::memchr(b'\n', input);
        let taken = input.split_to(end.map_or(input.len(), |at| at + 1));
        self.pending.extend_from_slice(&taken);
        if self.pending.len() > bytes_max {
            return Err("a line of the chunked body is too long");
        }
        if end.is_none() {
            return Ok(None);
        }
        let line = self.pending.split().freeze();
        let content = line
            .strip_suffix(b"\r\n")
            .ok_or("a line ends in a bare line feed")?;
        if content.contains(&b'\r') {
            return Err("a line holds a bare carriage return");
        }
        out.extend_from_slice(&line);
        Ok(Some(line.slice(..content.len())))
    }
}

fn take(input: &mut Bytes, left: u64, out: &mut BytesMut) -> u64 {
    let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
    out.extend_from_slice(&input.split_to(count));
    count as u64
}

/// A chunk's size. Extensions have no use in S3, and every one is a place to disagree about.
fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    if line.is_empty() || line.len() > 15 || !line.iter().all(u8::is_ascii_hexdigit) {
        return Err("a chunk's size is malformed");
    }
    std::str::from_utf8(line)
        .ok()
        .and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or("a chunk's size is malformed")
}

fn bad_request(message: &'static str) -> S3Error {
    S3Error::with_message(ErrorCode::BadRequest, message)
}

fn section_too_large() -> S3Error {
    S3Error::new(ErrorCode::RequestHeaderSectionTooLarge).with_extra("MaxSizeAllowed", "8192")
}

/// What can be said of a head whose end has not come: whether it can still become a good one.
fn check_partial(head: &[u8]) -> Result<(), S3Error> {
    let line_end = memchr::memchr(b'\n', head);
    if line_end.unwrap_or(head.len()) > LINE_BYTES_MAX {
        return Err(ErrorCode::URITooLong.into());
    }
    let Some(line_end) = line_end else {
        return Ok(());
    };
    if head.len() - line_end > SECTION_BYTES_MAX {
        return Err(section_too_large());
    }
    // Refused at once: a client that ends lines so would wait for an answer that never comes.
    match memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r') {
        true => Err(bad_request(
            "A line of the request ends in a bare line feed.",
        )),
        false => Ok(()),
    }
}

/// Checks a whole head; answers what follows it.
fn check_head(head: &[u8]) -> Result<Next, S3Error> {
    check_partial(head)?;
    let head = head.strip_suffix(b"\r\n\r\n").unwrap_or(head);
    let mut lines = Lines(head);
    let is_1_1 = check_request_line(lines.next().unwrap_or_default())?;
    let mut framing = BodyFraming::default();
    let mut hosts = 0_usize;
    for (count, line) in lines.enumerate() {
        if count >= HEADERS_MAX {
            return Err(section_too_large());
        }
        let (name, value) = check_header_line(line)?;
        if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            framing.add_length(value)?;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            framing.add_coding(value, is_1_1)?;
        }
    }
    if hosts > 1 || (hosts == 0 && is_1_1) {
        return Err(bad_request("A request must have exactly one Host header."));
    }
    framing.next()
}

/// The lines of a head, split at CRLF.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let end = memchr::memmem::find(self.0, b"\r\n").unwrap_or(self.0.len());
        let (line, rest) = self.0.split_at(end);
        self.0 = rest.get(2..).unwrap_or_default();
        Some(line)
    }
}

/// Whether the version is 1.1.
fn check_request_line(line: &[u8]) -> Result<bool, S3Error> {
    let malformed = || bad_request("The request line is malformed.");
    let text = std::str::from_utf8(line).map_err(|_| S3Error::new(ErrorCode::InvalidURI))?;
    let (method, rest) = text.split_once(' ').ok_or_else(malformed)?;
    let (target, version) = rest.rsplit_once(' ').ok_or_else(malformed)?;
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err(malformed());
    }
    let is_1_1 = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return Err(bad_request("The HTTP version is not supported.")),
    };
    if ["CONNECT", "TRACE"].contains(&method) {
        return Err(S3Error::new(ErrorCode::MethodNotAllowed).with_extra("Method", method));
    }
    // Nothing is fetched for a client, so a target is a path and never an address. A fragment would be cut off unseen.
    let is_path = target.starts_with('/')
        && target
            .bytes()
            .all(|b| (0x21..=0x7e).contains(&b) && b != b'#');
    if !is_path || target.parse::<http::Uri>().is_err() {
        return Err(ErrorCode::InvalidURI.into());
    }
    Ok(is_1_1)
}

/// Name and trimmed value.
fn check_header_line(line: &[u8]) -> Result<(&[u8], &[u8]), S3Error> {
    let malformed = || bad_request("A header line is malformed.");
    let colon = memchr::memchr(b':', line).ok_or_else(malformed)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    // A blank first is a folded line, a blank before the colon an old way to hide a header: neither is a token.
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(malformed());
    }
    if value
        .iter()
        .any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)
    {
        return Err(malformed());
    }
    Ok((name, value.trim_ascii()))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[derive(Default)]
struct BodyFraming {
    length: Option<u64>,
    is_chunked: bool,
}

impl BodyFraming {
    fn add_length(&mut self, value: &[u8]) -> Result<(), S3Error> {
        let malformed = || bad_request("The Content-Length header is malformed.");
        if value.is_empty()
            // 19 digits always fit 64 bits.
            || value.len() > 19
            || !value.iter().all(u8::is_ascii_digit)
            || self.length.is_some()
        {
            return Err(malformed());
        }
        let length = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(malformed)?;
        self.length = Some(length);
        Ok(())
    }

    fn add_coding(&mut self, value: &[u8], is_1_1: bool) -> Result<(), S3Error> {
        if self.is_chunked || !is_1_1 || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(bad_request(
                "The Transfer-Encoding header is not supported.",
            ));
        }
        self.is_chunked = true;
        Ok(())
    }

    fn next(self) -> Result<Next, S3Error> {
        match (self.length, self.is_chunked) {
            (Some(_), true) => Err(bad_request(
                "Content-Length and Transfer-Encoding exclude each other.",
            )),
            (None, true) => Ok(Next::Chunk(Chunk::SizeLine)),
            (None | Some(0), false) => Ok(Next::Head),
            (Some(length), false) => Ok(Next::Body(length)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
#[path = "framing_tests.rs"]
mod tests;
