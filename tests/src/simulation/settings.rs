//! The weights of one seed: swarmed, so that each seed is hard in its own way (Groce and others, 2012).

use crate::random::Random;

/// What becomes of the row's membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Plan {
    /// Nothing.
    Stay,
    /// The last member is replaced by an empty disk.
    Replace,
    /// The last member loses its disk, and comes back empty in a later epoch.
    Wipe,
    /// The last member leaves and joins anew with its rows still there, which it must discard.
    Rejoin,
    /// The last member is replaced by an empty disk, and later returns in its place.
    Return,
}

/// The weights. Times are in microseconds, chances in permille.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) replicas: usize,
    pub(super) gateways: usize,
    pub(super) clients: usize,
    pub(super) keys: usize,
    pub(super) operations: u64,
    /// How many different values are written; 0: each write writes its own.
    pub(super) etags: u64,
    pub(super) get_weight: u64,
    pub(super) put_weight: u64,
    pub(super) delete_weight: u64,
    /// How many writes carry a condition.
    pub(super) conditional: u64,
    /// Of those, how many `If-None-Match: *`.
    pub(super) absent: u64,
    pub(super) think_us: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    /// How many messages take far longer than others.
    pub(super) late: u64,
    pub(super) delay_us: u64,
    pub(super) late_us: u64,
    pub(super) fsync_us: u64,
    pub(super) round_timeout_us: u64,
    pub(super) backoff_us: u64,
    pub(super) attempts: u64,
    /// How many operations wait long before their second attempt.
    pub(super) sleepy: u64,
    pub(super) sleep_us: u64,
    pub(super) crashes: u64,
    pub(super) gateway_crashes: u64,
    pub(super) cuts: u64,
    pub(super) faults_within_us: u64,
    pub(super) outage_us: u64,
    /// How far clocks stray, in milliseconds.
    pub(super) skew_ms: u64,
    pub(super) max_skew_ms: u64,
    /// How many conditional writes read first, and may fail on that.
    pub(super) reads_first: u64,
    /// How often a replica shows another its rows, and a gateway repairs.
    pub(super) replays: u64,
    /// How many writes that a member missed are replayed to it, and how late.
    pub(super) hints: u64,
    pub(super) hint_us: u64,
    /// How often tombstones are looked for.
    pub(super) collections: u64,
    pub(super) plan: Plan,
    /// How many writes store chunks first, and for how long their bodies stream in.
    pub(super) bodies: u64,
    pub(super) body_us: u64,
    /// How often orphans are looked for, and how old one must be.
    pub(super) gatherings: u64,
    pub(super) orphan_age_ms: u64,
    /// Whether a promise that was overtaken while it waited for an fsync is refused, or answered all the same.
    pub(super) refuses_overtaken: bool,
}

impl Settings {
    pub(super) fn draw(random: &mut Random) -> Self {
        let replicas = random.pick(&[3, 3, 3, 3, 3, 3, 3, 5, 5, 1]);
        let is_hot = random.chance(350);
        let is_calm = random.chance(300);
        let level = |random: &mut Random, levels: &[u64]| random.pick(levels);
        let plan = match random.below(10) {
            0 | 1 => Plan::Replace,
            2 if replicas > 1 => Plan::Wipe,
            3 if replicas > 1 => Plan::Rejoin,
            4 => Plan::Return,
            _ => Plan::Stay,
        };
        let faults = |random: &mut Random, most: u64| if is_calm { 0 } else { random.below(most) };
        let mut settings = Self {
            replicas,
            gateways: random.index(3) + 2,
            clients: random.index(4) + 2,
            keys: if is_hot { 1 } else { random.index(2) + 1 },
            operations: if is_hot {
                random.between(12, 34)
            } else {
                random.between(6, 18)
            },
            etags: random.pick(&[0, 0, 1, 2, 3]),
            get_weight: level(random, &[1, 3, 6]),
            put_weight: level(random, &[2, 4]),
            delete_weight: level(random, &[0, 1, 3]),
            conditional: level(random, &[0, 300, 700]),
            absent: level(random, &[200, 500, 900]),
            think_us: level(random, &[500, 5_000, 50_000, 300_000]),
            lost: level(random, &[0, 20, 100, 250, 400]),
            doubled: level(random, &[0, 50, 300]),
            late: level(random, &[0, 20, 100, 250]),
            delay_us: level(random, &[300, 2_000, 10_000]),
            late_us: level(random, &[20_000, 200_000, 2_000_000]),
            fsync_us: level(random, &[100, 2_000, 20_000, 100_000]),
            round_timeout_us: level(random, &[5_000, 30_000, 150_000]),
            backoff_us: level(random, &[1_000, 20_000, 200_000]),
            attempts: level(random, &[1, 2, 4, 8]),
            sleepy: level(random, &[0, 0, 100, 300]),
            sleep_us: level(random, &[500_000, 2_000_000]),
            crashes: faults(random, 5),
            gateway_crashes: faults(random, 3),
            cuts: faults(random, 6),
            faults_within_us: level(random, &[50_000, 400_000, 2_000_000]),
            outage_us: level(random, &[20_000, 300_000, 1_500_000]),
            skew_ms: level(random, &[0, 5, 200, 450, 3_000]),
            max_skew_ms: 500,
            reads_first: level(random, &[0, 500]),
            replays: level(random, &[0, 0, 200, 600]),
            hints: level(random, &[0, 0, 500]),
            hint_us: level(random, &[20_000, 500_000]),
            collections: if random.chance(300) {
                random.between(1, 6)
            } else {
                0
            },
            plan,
            bodies: 0,
            body_us: 0,
            gatherings: 0,
            orphan_age_ms: 0,
            refuses_overtaken: random.chance(500),
        };
        settings.theme(random);
        settings
    }

    /// Some seeds have bodies in chunks. Drawn apart, so that the others stay as they were.
    pub(super) fn draw_bodies(&mut self, random: &mut Random) {
        if !random.chance(350) {
            return;
        }
        self.bodies = random.pick(&[400, 1_000]);
        self.body_us = random.pick(&[2_000, 50_000, 400_000]);
        self.gatherings = random.between(4, 24);
        self.orphan_age_ms = random.pick(&[1, 5, 50, 400]);
        self.put_weight = random.pick(&[4, 8]);
        if random.chance(600) {
            // Stragglers and lost Accepts on one key, with readers that settle what they meet.
            self.keys = 1;
            self.lost = random.pick(&[100, 250, 400]);
            self.late = random.pick(&[100, 250]);
            self.late_us = random.pick(&[20_000, 200_000, 2_000_000]);
            self.get_weight = 6;
            self.attempts = random.pick(&[1, 2, 4]);
            self.conditional = random.pick(&[0, 300]);
            self.skew_ms = random.pick(&[0, 5]);
        }
    }

    /// Some seeds lean towards what is rare in the others.
    fn theme(&mut self, random: &mut Random) {
        match random.below(10) {
            // Restarts so quick that what was promised is still of use to somebody.
            0 | 1 => {
                self.keys = 1;
                self.plan = Plan::Stay;
                self.operations = random.between(8, 20);
                self.think_us = random.pick(&[500, 5_000]);
                self.crashes = random.between(4, 16);
                self.outage_us = random.pick(&[1_000, 5_000]);
                self.faults_within_us = random.pick(&[20_000, 100_000]);
                self.fsync_us = random.pick(&[100, 1_000]);
                self.delay_us = random.pick(&[300, 2_000]);
                self.late = random.pick(&[100, 250]);
                self.late_us = random.pick(&[10_000, 50_000]);
                self.round_timeout_us = random.pick(&[30_000, 150_000]);
                self.delete_weight = 1;
            }
            // Tombstones that are dropped while somebody still remembers what was before.
            2 | 3 => {
                self.keys = 1;
                self.operations = random.between(10, 30);
                self.delete_weight = random.pick(&[3, 6]);
                self.conditional = random.pick(&[0, 300]);
                self.think_us = random.pick(&[20_000, 100_000]);
                self.lost = random.pick(&[20, 100, 250]);
                self.late = random.pick(&[0, 100]);
                self.late_us = random.pick(&[200_000, 2_000_000]);
                self.fsync_us = 1_000;
                self.sleepy = random.pick(&[0, 300]);
                self.crashes = random.below(4);
                self.outage_us = 20_000;
                self.faults_within_us = random.pick(&[400_000, 1_500_000]);
                self.hints = 900;
                self.hint_us = random.pick(&[50_000, 500_000, 3_000_000]);
                self.replays = 600;
                self.collections = random.between(8, 30);
            }
            // Equal values at different ballots, and conditions that flip.
            4 => {
                self.keys = 1;
                self.etags = random.pick(&[1, 2]);
                self.delete_weight = 3;
                self.conditional = random.pick(&[0, 300, 700]);
                self.absent = 700;
                self.lost = random.pick(&[100, 250, 400]);
                self.attempts = random.pick(&[1, 2, 4]);
            }
            // A key so hot that a slow writer is forgotten.
            5 => {
                self.keys = 1;
                self.operations = random.between(24, 44);
                self.clients = 5;
                self.get_weight = 3;
                self.lost = random.pick(&[20, 100, 250]);
                self.sleepy = 300;
                self.attempts = 8;
                self.think_us = random.pick(&[500, 5_000, 20_000]);
            }
            _ => {}
        }
    }
}
