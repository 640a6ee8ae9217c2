//! What the commands share that ask a running process through its admin API, and how they answer.

use crate::failure::Failure;
use crate::folder;
use crate::secrets;
use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use ringfort_admin::client::AdminClient;
use serde::Serialize;
use std::path::PathBuf;

/// Whom to ask, and as whom.
#[derive(Args, Clone)]
pub(crate) struct AdminArgs {
    /// The admin API of any process of the cluster
    #[arg(
        long,
        env = "RINGFORT_ADMIN_ENDPOINT",
        default_value = "http://127.0.0.1:9001"
    )]
    admin_endpoint: String,
    /// The admin token; RINGFORT_ADMIN_TOKEN_FILE names a file instead
    #[arg(long, env = "RINGFORT_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// A file that holds the admin token
    #[arg(long, env = "RINGFORT_ADMIN_TOKEN_FILE")]
    admin_token_file: Option<PathBuf>,
    /// The data folder of the process that made the cluster: its admin token is taken
    #[arg(long, env = "RINGFORT_DATA")]
    data: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl AdminArgs {
    /// A client.
    pub(crate) fn client(&self) -> Result<AdminClient, Failure> {
        AdminClient::new(&self.admin_endpoint, &self.token()?).map_err(Failure::usage)
    }

    fn token(&self) -> Result<String, Failure> {
        match (&self.admin_token, &self.admin_token_file) {
            (Some(_), Some(_)) => Err(Failure::usage(
                "both --admin-token and --admin-token-file are given: give one of them",
            )),
            (Some(token), None) if token.trim().is_empty() => Err(Failure::usage(
                "--admin-token (RINGFORT_ADMIN_TOKEN) is given but empty: put the token there, or leave it out",
            )),
            (Some(token), None) => Ok(token.trim().to_owned()),
            (None, Some(path)) => secrets::read_secret(path),
            (None, None) => match &self.data {
                Some(data) => secrets::read_secret(&folder::admin_token_path(data)),
                // Where `ringfort server` keeps it, if it was started here.
                None => secrets::read_secret(&folder::admin_token_path("ringfort-data".as_ref())).map_err(|_| {
                    Failure::usage(
                        "no admin token: give --admin-token (or RINGFORT_ADMIN_TOKEN), or --data with the folder of \
                         the process that made the cluster",
                    )
                }),
            },
        }
    }
}

/// Answers in JSON.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::failed)?;
    anstream::println!("{text}");
    Ok(())
}

/// Answers as a table.
pub(crate) fn print_table(header: &[&str], rows: Vec<Vec<String>>) {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    anstream::println!("{}", table.trim_fmt());
}

/// Bytes as people read them: 1024-based, one digit.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut tenths = u128::from(count) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A span as people read it.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A moment as people read it: UTC, to the second.
pub(crate) fn moment(ms: u64) -> String {
    let (days, second) = (ms / 86_400_000, ms / 1_000 % 86_400);
    // Howard Hinnant's days-to-civil, with eras of 400 years from 1 March 0000.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_read_them() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_536), "1.5 KiB");
        assert_eq!(bytes(5 << 40), "5.0 TiB");
        assert_eq!(bytes(u64::MAX), "15.9 EiB");
        assert_eq!(span(59), "59s");
        assert_eq!(span(3_725), "1h 2m");
        assert_eq!(span(90_061), "1d 1h");
    }

    #[test]
    fn moments_are_utc() {
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(moment(1_735_689_599_999), "2024-12-31T23:59:59Z");
    }
}
