//! `aws-chunked` bodies, taken apart as the bytes arrive: chunks, their signatures, and the trailer.
//!
//! Promises: bounded memory whatever arrives (a line, a trailer section); a body that is not exactly as announced ends
//! in an error at or before [`ChunkedDecoder::finish`]. A chunk's data is handed out before its signature is checked,
//! for the signature stands in front of the data but covers all of it: nobody may act on data for good before
//! `finish` has said yes. Once refused, a decoder refuses for ever.
//! Forms: <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html> and `sigv4-streaming-trailers.html`.

mod decoder;
mod header_line;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests;
mod trailer;

pub use decoder::{ChunkFraming, ChunkedDecoder};
pub use trailer::Trailers;

/// What `Content-Encoding` says besides `aws-chunked`, which describes the transfer and not the object; `None`: nothing.
#[must_use]
pub fn without_aws_chunked(content_encoding: &str) -> Option<String> {
    let kept: Vec<&str> = content_encoding
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}
