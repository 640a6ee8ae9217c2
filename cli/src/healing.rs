//! The settings of self-healing that `node` and `server` share: when a node is down and out, how much moves at a time.

use crate::failure::Failure;
use crate::settings::Span;
use ringfort_storage_node::control::conductor::ConductorSettings;
use ringfort_storage_node::repair::JoinPace;
use std::time::Duration;

/// As given; `None`: the default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Given {
    /// Silence after which a node is down.
    pub(crate) down_after: Option<Span>,
    /// How long it is down before it is out.
    pub(crate) out_after: Option<Span>,
    /// How long it is heard again before it counts as back.
    pub(crate) back_after: Option<Span>,
    /// Partitions that move at a time.
    pub(crate) moves_at_once: Option<u16>,
    /// MiB a second that a node copies to restore replicas.
    pub(crate) repair_rate_mib: Option<u64>,
    /// MiB a second that it copies to balance.
    pub(crate) balance_rate_mib: Option<u64>,
}

impl Given {
    /// How much a node's new members copy.
    pub(crate) fn join_pace(&self) -> Result<JoinPace, Failure> {
        let default = JoinPace::default();
        let rate = |flag: &str, mib: Option<u64>, default: u64| match mib {
            None => Ok(default),
            Some(0) => Err(Failure::usage(format!(
                "{flag} 0 would never end: give 1 or more (`ringfort layout pause` stops what only balances)"
            ))),
            Some(mib) => Ok(mib.saturating_mul(1 << 20)),
        };
        Ok(JoinPace {
            repair_bytes_per_s: rate(
                "--repair-rate-mib",
                self.repair_rate_mib,
                default.repair_bytes_per_s,
            )?,
            balance_bytes_per_s: rate(
                "--balance-rate-mib",
                self.balance_rate_mib,
                default.balance_bytes_per_s,
            )?,
        })
    }

    /// How the layout is driven.
    pub(crate) fn conductor(&self) -> Result<ConductorSettings, Failure> {
        let mut settings = ConductorSettings::default();
        let ms = |flag: &str, given: Option<Span>, least: Duration, default: u64| match given {
            None => Ok(default),
            Some(span) if span.0 < least => Err(Failure::usage(format!(
                "{flag} must be {}s or more",
                least.as_secs()
            ))),
            Some(span) => Ok(u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX)),
        };
        let liveness = &mut settings.liveness;
        // Shorter than the time within which a node is asked would take a busy one for a dead one.
        let least = Duration::from_secs(3);
        liveness.down_after_ms = ms(
            "--down-after",
            self.down_after,
            least,
            liveness.down_after_ms,
        )?;
        liveness.out_after_ms = ms(
            "--out-after",
            self.out_after,
            Duration::from_secs(1),
            liveness.out_after_ms,
        )?;
        liveness.steady_ms = ms(
            "--back-after",
            self.back_after,
            Duration::from_secs(1),
            liveness.steady_ms,
        )?;
        settings.joint_max = match self.moves_at_once {
            None => settings.joint_max,
            Some(0) => return Err(Failure::usage("--moves-at-once must be 1 or more")),
            Some(moves) => usize::from(moves),
        };
        Ok(settings)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_its_effect_and_its_bound() {
        let given = Given {
            down_after: Some(Span(Duration::from_secs(5))),
            out_after: Some(Span(Duration::from_secs(7))),
            back_after: Some(Span(Duration::from_secs(9))),
            moves_at_once: Some(3),
            repair_rate_mib: Some(2),
            balance_rate_mib: Some(1),
        };
        let conductor = given.conductor().unwrap();
        assert_eq!(conductor.liveness.down_after_ms, 5_000);
        assert_eq!(conductor.liveness.out_after_ms, 7_000);
        assert_eq!(conductor.liveness.steady_ms, 9_000);
        assert_eq!(conductor.joint_max, 3);
        let pace = given.join_pace().unwrap();
        assert_eq!(pace.repair_bytes_per_s, 2 << 20);
        assert_eq!(pace.balance_bytes_per_s, 1 << 20);
        let refused = |change: fn(&mut Given)| {
            let mut given = given;
            change(&mut given);
            given.conductor().is_err() || given.join_pace().is_err()
        };
        assert!(refused(
            |given| given.down_after = Some(Span(Duration::from_secs(1)))
        ));
        assert!(refused(|given| given.out_after = Some(Span(Duration::ZERO))));
        assert!(refused(|given| given.moves_at_once = Some(0)));
        assert!(refused(|given| given.repair_rate_mib = Some(0)));
        assert!(refused(|given| given.balance_rate_mib = Some(0)));
        let default = Given::default();
        assert_eq!(default.join_pace().unwrap(), JoinPace::default());
    }
}
