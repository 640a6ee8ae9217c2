//! How much processor time the servers used: user and system ticks from `/proc/PID/stat`.
//!
//! Counts the named processes only, not their children, and not the kernel's work on nobody's account.

use std::fs;

/// Linux reports ticks of 1/100 s to user space on every architecture (`USER_HZ`).
const MILLISECONDS_PER_TICK: u64 = 10;

/// Sum over all processes, in milliseconds; the reason when one cannot be read (gone, or no Linux).
pub(crate) fn cpu_ms(pids: &[u32]) -> Result<u64, String> {
    let mut sum = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        sum +=
            ticks(&stat).ok_or_else(|| format!("{path}: unexpected form"))? * MILLISECONDS_PER_TICK;
    }
    Ok(sum)
}

/// Fields 14 and 15 of the line; the name in parentheses may hold anything, also spaces and parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_an_odd_name() {
        let line = "12 (a) b c) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0";
        assert_eq!(ticks(line), Some(42));
    }

    #[test]
    fn our_own_process_can_be_read() {
        assert!(cpu_ms(&[std::process::id()]).is_ok());
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(cpu_ms(&[u32::MAX]).is_err());
    }
}
