//! What rot held: named by the records' own fields, or by the index; and the partitions whose replica ends with it.

use super::super::index::facts::SegmentEntry;
use super::super::index::rows::{RowTable, row_key};
use super::super::queue::{Item, Origin};
use super::super::segment::location::Position;
use super::super::segment::record_format::{Entry, FactKey, number};
use super::super::store::Store;
use super::super::types::{EngineError, Held, Rot};
use super::survey::Survey;
use super::{Opening, partition_facts};
use ringfort_ring::id::PartitionId;
use std::collections::HashMap;
use std::ops::Bound;

impl Opening {
    /// Says what records with rotten payloads held.
    pub(super) fn name_rot(&mut self, survey: &Survey) -> Result<(), EngineError> {
        for record in &survey.bad_payloads {
            let at = record.location.position;
            if at >= survey.known {
                continue;
            }
            let mut held = Held::Superseded;
            if !survey.removals.have_removed(record) {
                match &record.entry {
                    Entry::Row {
                        partition,
                        key,
                        ballot,
                        ..
                    } => {
                        let newest = self.store.row_of(key)?;
                        if newest.is_none_or(|newest| newest.ballot < *ballot) {
                            self.report.lost_partitions.insert(*partition);
                            held = Held::Row {
                                partition: *partition,
                                key: key.clone(),
                                ballot: *ballot,
                            };
                        }
                    }
                    Entry::Chunk { id, partition, .. } if self.store.chunk(*id)?.is_none() => {
                        self.report.lost_chunks.push(*id);
                        held = Held::Chunk {
                            partition: *partition,
                            id: *id,
                        };
                    }
                    _ => {}
                }
            }
            self.report.rot.push(Rot {
                segment: at.segment,
                offset: at.offset,
                len_bytes: record.location.record_len(),
                held,
            });
        }
        Ok(())
    }

    /// Names, by the index, what segments held whose files are gone.
    pub(super) fn name_missing(&mut self) -> Result<(), EngineError> {
        const PAGE: usize = 10_000;
        let missing: HashMap<u64, SegmentEntry> = self.missing.drain(..).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let is_gone = |position: Position| missing.contains_key(&position.segment);
        for table in [RowTable::Objects, RowTable::Parts] {
            let mut from = Bound::Unbounded;
            loop {
                let page = self.store.rows(table, from, Bound::Unbounded, PAGE)?;
                let Some((last, _)) = page.last() else { break };
                from = Bound::Excluded(last.clone());
                for (key, row) in page {
                    let Some(key) = row_key(table, &key).filter(|_| is_gone(row.location.position))
                    else {
                        continue;
                    };
                    self.report.lost_partitions.insert(row.partition);
                    self.report.rot.push(Rot {
                        segment: row.location.position.segment,
                        offset: row.location.position.offset,
                        len_bytes: row.location.record_len(),
                        held: Held::Row {
                            partition: row.partition,
                            key,
                            ballot: row.ballot,
                        },
                    });
                }
            }
        }
        let mut after = None;
        loop {
            let page = self.store.chunks(after, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (id, chunk) in page {
                if !is_gone(chunk.location.position) {
                    continue;
                }
                self.report.lost_chunks.push(id);
                self.report.rot.push(Rot {
                    segment: chunk.location.position.segment,
                    offset: chunk.location.position.offset,
                    len_bytes: chunk.location.record_len(),
                    held: Held::Chunk {
                        partition: chunk.partition,
                        id,
                    },
                });
                let mut state = self.store.state.write();
                state.counts.chunks = state.counts.chunks.saturating_sub(1);
                state.active.set_chunk(id, None);
            }
        }
        // The index still knows the facts themselves: they are written anew.
        let mut state = self.store.state.write();
        let gone: Vec<_> = state
            .facts
            .iter()
            .filter(|(_, fact)| is_gone(fact.location.position))
            .map(|(key, fact)| (*key, fact.value))
            .collect();
        for (key, value) in gone {
            state.facts.remove(&key);
            self.queue.push(fact_item(key, value));
        }
        Ok(())
    }

    pub(super) fn note_lost_partitions(&self) {
        for partition in &self.report.lost_partitions {
            let joined = self.store.fact(FactKey::Joined(*partition)).time.0;
            self.queue
                .push(fact_item(FactKey::Lost(*partition), lost_value(joined)));
        }
    }
}

/// The value of a [`FactKey::Lost`]: one above the join epoch, so that epoch 0 can be over too.
fn lost_value(joined: u64) -> ringfort_ring::ballot::Ballot {
    number(joined.saturating_add(1))
}

fn fact_item(key: FactKey, value: ringfort_ring::ballot::Ballot) -> Item {
    Item {
        entry: Entry::Fact { key, value },
        first: bytes::Bytes::new(),
        second: bytes::Bytes::new(),
        origin: Origin::Submitted,
        done: None,
    }
}

pub(super) fn lost_partitions(store: &Store) -> std::collections::BTreeSet<PartitionId> {
    let marked: Vec<PartitionId> = {
        let state = store.state.read();
        let keys = state.facts.keys().filter_map(|key| match key {
            FactKey::Lost(partition) => Some(*partition),
            _ => None,
        });
        keys.collect()
    };
    marked
        .into_iter()
        .filter(|partition| partition_facts(store, *partition).is_lost())
        .collect()
}
