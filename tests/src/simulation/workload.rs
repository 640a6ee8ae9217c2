//! The clients: what they ask next.

use super::settings::Settings;
use crate::checkers::history::{Condition, Request, Written};
use crate::random::Random;

/// One client: asks one thing at a time, through any gateway.
#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    /// The value that it last saw on each key; conditions are made of it.
    pub(super) seen: Vec<u16>,
    /// The place in the history of what it waits for.
    pub(super) waits_for: Option<usize>,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            seen: vec![0; settings.keys],
            waits_for: None,
        }
    }

    /// The next request, on a key. `writer` names it.
    pub(super) fn next(
        &self,
        random: &mut Random,
        settings: &Settings,
        writer: u16,
    ) -> (usize, Request) {
        let key = random.index(settings.keys);
        let condition = |random: &mut Random, may_be_absent: bool| {
            if !random.chance(settings.conditional) {
                Condition::Always
            } else if may_be_absent && random.chance(settings.absent) {
                Condition::Absent
            } else if self.seen[key] != 0 && random.chance(700) {
                Condition::Matches(self.seen[key])
            } else {
                let most = if settings.etags == 0 {
                    u64::from(writer)
                } else {
                    settings.etags
                };
                Condition::Matches(narrow(random.between(1, most)))
            }
        };
        let weights = [
            settings.get_weight,
            settings.put_weight,
            settings.delete_weight,
        ];
        let request = match random.weighted(&weights) {
            0 => Request::Get,
            1 => {
                let etag = match settings.etags {
                    0 => writer,
                    most => narrow(random.between(1, most)),
                };
                Request::Put(Written { writer, etag }, condition(random, true))
            }
            _ => Request::Delete(condition(random, false)),
        };
        (key, request)
    }
}

fn narrow(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
