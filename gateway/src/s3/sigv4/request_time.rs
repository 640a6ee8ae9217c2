//! The time a request claims to have been signed at.

use http::{HeaderMap, HeaderValue};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::{Date, Month, OffsetDateTime, Time};

/// A time in whole seconds, with the spelling that was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestTime {
    unix_s: i64,
    basic: String,
}

impl RequestTime {
    /// Reads `YYYYMMDDTHHMMSSZ`.
    pub(super) fn parse_basic(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
            return None;
        }
        let number = |from: usize, to: usize| {
            bytes[from..to].iter().try_fold(0u16, |n, b| {
                b.is_ascii_digit().then(|| n * 10 + u16::from(b - b'0'))
            })
        };
        let small = |from: usize| u8::try_from(number(from, from + 2)?).ok();
        let month = Month::try_from(small(4)?).ok()?;
        let date = Date::from_calendar_date(i32::from(number(0, 4)?), month, small(6)?).ok()?;
        let time = Time::from_hms(small(9)?, small(11)?, small(13)?).ok()?;
        Some(Self {
            unix_s: date.with_time(time).assume_utc().unix_timestamp(),
            basic: text.to_owned(),
        })
    }

    /// The time of a request with an `Authorization` header: `x-amz-date`, else `Date`.
    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut amz_dates = headers.get_all("x-amz-date").iter();
        if let Some(value) = amz_dates.next() {
            let is_only = amz_dates.next().is_none();
            return is_only
                .then(|| Self::parse_basic(value.to_str().ok()?))
                .flatten();
        }
        let text = headers
            .get(http::header::DATE)
            .map(HeaderValue::to_str)?
            .ok()?;
        Self::parse_basic(text).or_else(|| {
            let moment = httpdate::parse_http_date(text).ok()?;
            Some(Self::from_system_time(moment))
        })
    }

    /// A moment of our own clock, for comparing and for error documents.
    pub(super) fn from_system_time(moment: SystemTime) -> Self {
        let moment = OffsetDateTime::from(moment);
        Self {
            unix_s: moment.unix_timestamp(),
            basic: format!(
                "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
                moment.year(),
                u8::from(moment.month()),
                moment.day(),
                moment.hour(),
                moment.minute(),
                moment.second()
            ),
        }
    }

    /// Seconds since 1970, negative before.
    pub(super) const fn unix_s(&self) -> i64 {
        self.unix_s
    }

    /// The spelling that was signed.
    pub(super) fn basic(&self) -> &str {
        &self.basic
    }

    /// `YYYYMMDD`, as the scope has it.
    pub(super) fn day(&self) -> &str {
        self.basic.get(..8).unwrap_or_default()
    }

    /// The moment, for deriving the day's key. Times before 1970 are refused long before a key is derived.
    pub(super) fn to_system_time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(self.unix_s).unwrap_or(0))
    }
}

/// A number of seconds since 1970 as error documents show it.
pub(super) fn extended(unix_s: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix_s).map_or_else(
        |_| unix_s.to_string(),
        |t| {
            format!(
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
                t.year(),
                u8::from(t.month()),
                t.day(),
                t.hour(),
                t.minute(),
                t.second()
            )
        },
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn the_basic_form_is_read_strictly() {
        let time = RequestTime::parse_basic("20130524T000000Z").unwrap();
        assert_eq!((time.unix_s(), time.day()), (1_369_353_600, "20130524"));
        assert_eq!(RequestTime::from_system_time(time.to_system_time()), time);
        assert_eq!(extended(time.unix_s()), "2013-05-24T00:00:00Z");
        for bad in [
            "",
            "20130524",
            "20130524T000000",
            "20131324T000000Z",
            "20130532T000000Z",
            "20130524T240000Z",
            "2013052+T000000Z",
            "20130524t000000Z",
            "2013-05-24T00:00",
            "\u{e9}0130524T00000Z",
        ] {
            assert_eq!(RequestTime::parse_basic(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_amz_date_outranks_the_date_and_stands_once() {
        let mut headers = HeaderMap::new();
        headers.insert("date", "Fri, 24 May 2013 00:00:00 GMT".parse().unwrap());
        assert_eq!(
            RequestTime::from_headers(&headers).unwrap().basic(),
            "20130524T000000Z"
        );
        headers.append("x-amz-date", "20130525T000000Z".parse().unwrap());
        assert_eq!(
            RequestTime::from_headers(&headers).unwrap().day(),
            "20130525"
        );
        headers.append("x-amz-date", "20130525T000000Z".parse().unwrap());
        assert_eq!(RequestTime::from_headers(&headers), None);
    }
}
