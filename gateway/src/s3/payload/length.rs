//! How many bytes of data a body holds, by its headers alone.

use crate::s3::error::{ErrorCode, S3Error};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};

const DECODED_LENGTH: &str = "x-amz-decoded-content-length";

/// The length of the data: `x-amz-decoded-content-length` for `aws-chunked`, `Content-Length` otherwise. To be called
/// before any of the body is read, so that one too large is refused early.
///
/// # Errors
/// `MissingContentLength` (411) if there is none, `InvalidArgument` if it is no plain decimal number.
pub fn body_length(headers: &HeaderMap, is_streaming: bool) -> Result<u64, S3Error> {
    let name = if is_streaming {
        DECODED_LENGTH
    } else {
        CONTENT_LENGTH.as_str()
    };
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|value| !value.is_empty());
    let value = value.ok_or_else(|| S3Error::new(ErrorCode::MissingContentLength))?;
    match (decimal(value), values.next()) {
        (Some(length), None) => Ok(length),
        _ => Err(S3Error::invalid_argument(
            format!("{name} is not a number of bytes"),
            name,
            String::from_utf8_lossy(value.as_bytes())
                .chars()
                .take(64)
                .collect::<String>(),
        )),
    }
}

fn decimal(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}
