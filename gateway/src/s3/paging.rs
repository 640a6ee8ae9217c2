//! The parameters of listings: how many, from where, in which encoding.
//!
//! Every number is checked and capped here; what a token means is for [`super::token`] and whoever made it.

use super::error::S3Error;
use super::query::Query;

/// Keys, uploads or parts in one page.
pub const PAGE_MAX: u32 = 1_000;
/// Buckets in one page of ListBuckets.
pub const BUCKETS_PAGE_MAX: u32 = 10_000;
/// Parts of one upload.
pub const PART_NUMBER_MAX: u16 = 10_000;

/// `max-keys`, at most 1,000, which is also the default.
pub fn max_keys(query: &Query) -> Result<u32, S3Error> {
    page_size(query, "max-keys")
}

/// `max-uploads`, at most 1,000, which is also the default.
pub fn max_uploads(query: &Query) -> Result<u32, S3Error> {
    page_size(query, "max-uploads")
}

/// `max-parts`, at most 1,000, which is also the default.
pub fn max_parts(query: &Query) -> Result<u32, S3Error> {
    page_size(query, "max-parts")
}

fn page_size(query: &Query, name: &'static str) -> Result<u32, S3Error> {
    Ok(number(query, name)?.map_or(PAGE_MAX, |size| size.min(PAGE_MAX)))
}

/// `max-buckets`, 1 to 10,000. `None` asks for all buckets in one answer, as clients older than the paging expect.
pub fn max_buckets(query: &Query) -> Result<Option<u32>, S3Error> {
    match number(query, "max-buckets")? {
        Some(0) => Err(S3Error::invalid_argument(
            "Argument max-buckets must be an integer between 1 and 10000",
            "max-buckets",
            "0",
        )),
        Some(size) if size > BUCKETS_PAGE_MAX => Err(S3Error::invalid_argument(
            "Argument max-buckets must be an integer between 1 and 10000",
            "max-buckets",
            size.to_string(),
        )),
        other => Ok(other),
    }
}

/// `part-number-marker`: parts above it are listed. 0 where it is not given.
pub fn part_number_marker(query: &Query) -> Result<u16, S3Error> {
    let marker = number(query, "part-number-marker")?.unwrap_or(0);
    Ok(u16::try_from(marker).unwrap_or(u16::MAX))
}

/// `partNumber`: 1 to 10,000.
pub fn part_number(query: &Query) -> Result<Option<u16>, S3Error> {
    let Some(text) = query.get("partNumber") else {
        return Ok(None);
    };
    match digits(text) {
        Some(number @ 1..=10_000) => Ok(u16::try_from(number).ok()),
        _ => Err(S3Error::invalid_argument(
            "Part number must be an integer between 1 and 10000, inclusive",
            "partNumber",
            text,
        )),
    }
}

/// Whether names are to be percent-encoded in the answer. `url` is the only encoding there is.
pub fn encodes_url(query: &Query) -> Result<bool, S3Error> {
    match query.get("encoding-type") {
        None => Ok(false),
        Some("url") => Ok(true),
        Some(other) => Err(S3Error::invalid_argument(
            "Invalid Encoding Method specified in Request",
            "encoding-type",
            other,
        )),
    }
}

/// `fetch-owner`: only `true` asks for it.
#[must_use]
pub fn fetches_owner(query: &Query) -> bool {
    query
        .get("fetch-owner")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The delimiter; an empty one is none.
#[must_use]
pub fn delimiter(query: &Query) -> Option<&str> {
    query.get("delimiter").filter(|text| !text.is_empty())
}

fn number(query: &Query, name: &'static str) -> Result<Option<u32>, S3Error> {
    let Some(text) = query.get(name) else {
        return Ok(None);
    };
    // S3's numbers are 32-bit and signed; a larger one is not within its range.
    match digits(text).filter(|number| i32::try_from(*number).is_ok()) {
        Some(number) => Ok(Some(number)),
        None if text
            .strip_prefix('-')
            .is_some_and(|rest| digits(rest).is_some()) =>
        {
            Err(S3Error::invalid_argument(
                format!("Argument {name} must be an integer between 0 and 2147483647"),
                name,
                text,
            ))
        }
        None => Err(S3Error::invalid_argument(
            format!("Provided {name} not an integer or within integer range"),
            name,
            text,
        )),
    }
}

/// A plain decimal number; no sign, no blank.
fn digits(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use crate::s3::error::ErrorCode;

    fn query(raw: &str) -> Query {
        Query::parse(raw).unwrap()
    }

    #[test]
    fn row_91_a_page_has_at_most_1000_keys() {
        assert_eq!(max_keys(&query("max-keys=1000000")).unwrap(), 1000);
        assert_eq!(max_keys(&query("max-keys=2147483647")).unwrap(), 1000);
        assert_eq!(max_keys(&query("max-keys=0")).unwrap(), 0);
        assert_eq!(max_keys(&query("max-keys=7")).unwrap(), 7);
        assert_eq!(max_keys(&query("")).unwrap(), 1000);
    }

    #[test]
    fn row_92_url_is_the_only_encoding() {
        assert!(encodes_url(&query("encoding-type=url")).unwrap());
        assert!(!encodes_url(&query("")).unwrap());
        for value in ["", "URL", "base64", "url "] {
            let error = encodes_url(&query(&format!("encoding-type={value}"))).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidArgument, "{value}");
        }
    }

    #[test]
    fn row_96_odd_numbers_are_refused() {
        for value in [
            "-1",
            "x",
            "",
            "1.5",
            "%2B1",
            "0x10",
            "99999999999999999999",
            "2147483648",
            "+1",
            "-",
        ] {
            let code = |result: Result<u32, S3Error>| result.unwrap_err().code;
            let arg = ErrorCode::InvalidArgument;
            assert_eq!(
                code(max_keys(&query(&format!("max-keys={value}")))),
                arg,
                "{value}"
            );
            assert_eq!(
                code(max_uploads(&query(&format!("max-uploads={value}")))),
                arg,
                "{value}"
            );
            assert_eq!(
                code(max_parts(&query(&format!("max-parts={value}")))),
                arg,
                "{value}"
            );
            assert_eq!(
                code(
                    part_number_marker(&query(&format!("part-number-marker={value}")))
                        .map(u32::from)
                ),
                arg,
                "{value}"
            );
        }
        assert_eq!(
            part_number_marker(&query("part-number-marker=70000")).unwrap(),
            u16::MAX
        );
        for value in ["0", "10001", "-1"] {
            assert_eq!(
                max_buckets(&query(&format!("max-buckets={value}")))
                    .unwrap_err()
                    .code,
                ErrorCode::InvalidArgument
            );
        }
    }

    #[test]
    fn row_117_a_part_number_is_1_to_10000() {
        assert_eq!(
            part_number(&query("partNumber=10000")).unwrap(),
            Some(10_000)
        );
        assert_eq!(part_number(&query("")).unwrap(), None);
        for value in ["0", "10001", "-1", "", "x", "99999999999999999999"] {
            assert_eq!(
                part_number(&query(&format!("partNumber={value}")))
                    .unwrap_err()
                    .code,
                ErrorCode::InvalidArgument,
                "{value}"
            );
        }
    }
}
