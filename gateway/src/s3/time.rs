//! Milliseconds since 1970 as S3 writes and reads them: ISO 8601 in XML, RFC 1123 in headers, `x-amz-date` in requests.
//!
//! Pure arithmetic, for years 1970 to 9999; a later instant is written as the last of them.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

const MS_PER_DAY: u64 = 86_400_000;
/// 9999-12-31T23:59:59.999Z.
const LAST_MS: u64 = 253_402_300_799_999;
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
/// 1970-01-01 was a Thursday.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// An instant taken apart, in UTC.
#[derive(Clone, Copy)]
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    weekday: usize,
    hour: u64,
    minute: u64,
    second: u64,
    millisecond: u64,
}

impl Civil {
    fn of(time_ms: u64) -> Self {
        let time_ms = time_ms.min(LAST_MS);
        let (days, in_day_ms) = (time_ms / MS_PER_DAY, time_ms % MS_PER_DAY);
        let mut year = 1970;
        let mut day = days;
        // Up to 8,030 single years would be slow for a listing of 1,000 keys: centuries and decades go first.
        for years in [100, 10, 1] {
            while days_of_years(year, years) <= day {
                day -= days_of_years(year, years);
                year += years;
            }
        }
        let mut month = 1;
        while day >= days_of_month(year, month) {
            day -= days_of_month(year, month);
            month += 1;
        }
        Self {
            year,
            month,
            day: day + 1,
            weekday: usize::try_from(days % 7).unwrap_or(0),
            hour: in_day_ms / 3_600_000,
            minute: in_day_ms / 60_000 % 60,
            second: in_day_ms / 1_000 % 60,
            millisecond: in_day_ms % 1_000,
        }
    }

    fn month_name(self) -> &'static str {
        usize::try_from(self.month - 1)
            .ok()
            .and_then(|index| MONTHS.get(index))
            .copied()
            .unwrap_or("Jan")
    }
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days before the first of January of the year, counted from the year 1.
const fn days_before_year(year: u64) -> u64 {
    let past = year - 1;
    past * 365 + past / 4 - past / 100 + past / 400
}

const fn days_of_years(from_year: u64, years: u64) -> u64 {
    days_before_year(from_year + years) - days_before_year(from_year)
}

const fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `2026-11-23T10:00:00.000Z`, as S3 writes times in XML.
#[must_use]
pub fn iso8601(time_ms: u64) -> String {
    let t = Civil::of(time_ms);
    let mut text = String::with_capacity(24);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        t.year, t.month, t.day, t.hour, t.minute, t.second, t.millisecond
    );
    text
}

/// `Mon, 23 Nov 2026 10:00:00 GMT`, as HTTP writes times in headers.
#[must_use]
pub fn http_date(time_ms: u64) -> String {
    let t = Civil::of(time_ms);
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        WEEKDAYS[t.weekday],
        t.day,
        t.month_name(),
        t.year,
        t.hour,
        t.minute,
        t.second
    )
}

/// `20261123T100000Z`, the form of `x-amz-date`.
#[must_use]
pub fn amz_date(time_ms: u64) -> String {
    let t = Civil::of(time_ms);
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        t.year, t.month, t.day, t.hour, t.minute, t.second
    )
}

/// Reads any of HTTP's three date forms (RFC 9110, 5.6.7). `None` for anything else, and for times before 1970.
#[must_use]
pub fn parse_http_date(text: &str) -> Option<u64> {
    let since: Duration = httpdate::parse_http_date(text.trim())
        .ok()?
        .duration_since(UNIX_EPOCH)
        .ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// Reads `20261123T100000Z`, and no other form.
#[must_use]
pub fn parse_amz_date(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    instant(
        digits(&bytes[0..4])?,
        digits(&bytes[4..6])?,
        digits(&bytes[6..8])?,
        [
            digits(&bytes[9..11])?,
            digits(&bytes[11..13])?,
            digits(&bytes[13..15])?,
        ],
    )
}

/// Reads `2026-11-23T10:00:00Z`, with or without a fraction of a second (at most nine digits; ms are kept).
#[must_use]
pub fn parse_iso8601(text: &str) -> Option<u64> {
    let bytes = text.strip_suffix('Z')?.as_bytes();
    let (whole, fraction) = bytes.split_at_checked(19)?;
    if [whole[4], whole[7], whole[10], whole[13], whole[16]] != *b"--T::" {
        return None;
    }
    let whole_ms = instant(
        digits(&whole[0..4])?,
        digits(&whole[5..7])?,
        digits(&whole[8..10])?,
        [
            digits(&whole[11..13])?,
            digits(&whole[14..16])?,
            digits(&whole[17..19])?,
        ],
    )?;
    let fraction_ms = match fraction {
        [] => 0,
        [b'.', rest @ ..] if (1..=9).contains(&rest.len()) => {
            digits(rest)?;
            let kept = &rest[..rest.len().min(3)];
            digits(kept)? * [1, 100, 10, 1][kept.len()]
        }
        _ => return None,
    };
    Some(whole_ms + fraction_ms)
}

fn digits(bytes: &[u8]) -> Option<u64> {
    bytes.iter().try_fold(0_u64, |value, b| {
        b.is_ascii_digit().then(|| value * 10 + u64::from(b - b'0'))
    })
}

fn instant(year: u64, month: u64, day: u64, [hour, minute, second]: [u64; 3]) -> Option<u64> {
    let is_real = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !is_real {
        return None;
    }
    let days = days_of_years(1970, year - 1970)
        + (1..month).map(|m| days_of_month(year, m)).sum::<u64>()
        + day
        - 1;
    Some(days * MS_PER_DAY + ((hour * 60 + minute) * 60 + second) * 1_000)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn known_instants_are_written_in_each_form() {
        for (ms, iso, http, amz) in [
            (
                0,
                "1970-01-01T00:00:00.000Z",
                "Thu, 01 Jan 1970 00:00:00 GMT",
                "19700101T000000Z",
            ),
            (
                951_782_399_999,
                "2000-02-28T23:59:59.999Z",
                "Mon, 28 Feb 2000 23:59:59 GMT",
                "20000228T235959Z",
            ),
            (
                951_868_799_000,
                "2000-02-29T23:59:59.000Z",
                "Tue, 29 Feb 2000 23:59:59 GMT",
                "20000229T235959Z",
            ),
            (
                1_795_428_000_000,
                "2026-11-23T10:00:00.000Z",
                "Mon, 23 Nov 2026 10:00:00 GMT",
                "20261123T100000Z",
            ),
            (
                4_107_542_400_000,
                "2100-03-01T00:00:00.000Z",
                "Mon, 01 Mar 2100 00:00:00 GMT",
                "21000301T000000Z",
            ),
            (
                LAST_MS,
                "9999-12-31T23:59:59.999Z",
                "Fri, 31 Dec 9999 23:59:59 GMT",
                "99991231T235959Z",
            ),
            (
                u64::MAX,
                "9999-12-31T23:59:59.999Z",
                "Fri, 31 Dec 9999 23:59:59 GMT",
                "99991231T235959Z",
            ),
        ] {
            assert_eq!(
                (iso8601(ms), http_date(ms), amz_date(ms)),
                (iso.into(), http.into(), amz.into())
            );
        }
    }

    #[test]
    fn every_http_form_is_read() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse_http_date(text), Some(784_111_777_000), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 31 Feb 2020 08:49:37 GMT",
            "1994",
        ] {
            assert_eq!(parse_http_date(text), None, "{text}");
        }
    }

    #[test]
    fn only_the_basic_form_is_an_amz_date() {
        assert_eq!(parse_amz_date("20261123T100000Z"), Some(1_795_428_000_000));
        for text in [
            "",
            "20261123T100000",
            "2026-11-23T10:00:00Z",
            "20261323T100000Z",
            "20260230T100000Z",
            "20261123T240000Z",
            "20261123T106000Z",
            "20261123T100060Z",
            "2026112+T100000Z",
            "19691231T235959Z",
            "20261123t100000Z",
            "2026112\u{e9}100000Z",
        ] {
            assert_eq!(parse_amz_date(text), None, "{text}");
        }
    }

    #[test]
    fn iso_dates_are_read_with_and_without_a_fraction() {
        assert_eq!(
            parse_iso8601("2026-11-23T10:00:00Z"),
            Some(1_795_428_000_000)
        );
        assert_eq!(
            parse_iso8601("2026-11-23T10:00:00.5Z"),
            Some(1_795_428_000_500)
        );
        assert_eq!(
            parse_iso8601("2026-11-23T10:00:00.123456Z"),
            Some(1_795_428_000_123)
        );
        for text in [
            "2026-11-23",
            "2026-11-23T10:00:00",
            "2026-11-23T10:00:00.Z",
            "2026-11-23T10:00:00+00:00",
            "Z",
            "\u{e9}Z",
        ] {
            assert_eq!(parse_iso8601(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(ms in 0..=LAST_MS) {
            proptest::prop_assert_eq!(parse_iso8601(&iso8601(ms)), Some(ms));
            proptest::prop_assert_eq!(parse_amz_date(&amz_date(ms)), Some(ms / 1000 * 1000));
            proptest::prop_assert_eq!(parse_http_date(&http_date(ms)), Some(ms / 1000 * 1000));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = (parse_iso8601(&text), parse_amz_date(&text), parse_http_date(&text));
        }
    }
}
