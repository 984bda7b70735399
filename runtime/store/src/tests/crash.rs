//! Random operations with reopen, kill and power cut against a model in memory; and the same with syncs taken out,
//! which must be noticed.

use std::collections::BTreeMap;

use super::*;
use crate::AppendError;
use crate::record::GapReason;
use crate::sim::SyncFault;
use crate::spool::OnFull;

const CONSUMER: &str = "sink";

/// What is taken out of the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    Nothing,
    DataSyncs,
    DataSyncsInOpen,
    DirectorySyncs,
    DirectorySyncsInOpen,
    CursorSyncs,
}

impl Mutation {
    fn while_open(self) -> SyncFault {
        match self {
            Mutation::DataSyncs => SyncFault::SkipFiles(".log"),
            Mutation::DirectorySyncs => SyncFault::SkipDirectories,
            Mutation::CursorSyncs => SyncFault::SkipFiles(".tmp"),
            Mutation::Nothing | Mutation::DataSyncsInOpen | Mutation::DirectorySyncsInOpen => SyncFault::None,
        }
    }

    fn while_opening(self) -> SyncFault {
        match self {
            Mutation::DataSyncsInOpen => SyncFault::SkipFiles(".log"),
            Mutation::DirectorySyncsInOpen => SyncFault::SkipDirectories,
            other => other.while_open(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Clean,
    Kill,
    Crash,
}

/// What must be there, and what may be.
#[derive(Default)]
struct Model {
    written: BTreeMap<u64, Record>,
    /// The last position that was durable, and the highest `seq` up to there.
    durable: u64,
    /// Appended without an answer: all, some or none of it is there.
    in_flight: Vec<Record>,
    /// Positions up to here went with a gap or after having been acknowledged.
    gone: u64,
    acknowledged: Option<u64>,
    acknowledging: u64,
    epoch: Option<u128>,
}

struct Case {
    seed: u64,
    random: Seeded,
    fs: SimFileSystem,
    options: SpoolOptions,
    mutation: Mutation,
    model: Model,
    counter: u64,
}

impl Case {
    fn new(seed: u64, mutation: Mutation) -> Self {
        let mut random = Seeded(seed);
        let fs = SimFileSystem::new();
        let mut options = options(&fs);
        if random.below(3) == 0 {
            options.limit_bytes = 4096 * 4;
            options.on_full = OnFull::DropOldest;
        }
        if random.below(4) == 0 {
            options.durability = crate::DurabilityMode::Synced;
        }
        Case { seed, random, fs, options, mutation, model: Model::default(), counter: 0 }
    }

    fn check(&self, holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
        if holds { Ok(()) } else { Err(format!("seed {}: {}", self.seed, what())) }
    }

    fn run(&mut self) -> Result<(), String> {
        let mut spool = self.open(End::Crash)?;
        if self.random.below(2) == 0 && spool.register(CONSUMER).is_ok() {
            self.model.acknowledged = Some(0);
        }
        for _ in 0..30 + self.random.below(30) {
            let alive = self.step(&mut spool);
            self.model.durable = self.model.durable.max(spool.durable_position());
            let end = match self.random.below(30) {
                0 => Some(End::Clean),
                1 => Some(End::Kill),
                2 => Some(End::Crash),
                _ if !alive => Some([End::Kill, End::Crash][self.random.below(2) as usize]),
                _ => None,
            };
            if let Some(end) = end {
                self.end(&mut spool, end)?;
            }
        }
        self.end(&mut spool, End::Crash)
    }

    /// One operation; false when the machine went down in it.
    fn step(&mut self, spool: &mut Spool) -> bool {
        match self.random.below(20) {
            0..=9 => self.append(spool),
            10..=12 => {
                let back = self.random.below(5);
                let position = spool.written_position().saturating_sub(back);
                spool.wait_durable(position).is_ok()
            }
            13 | 14 => self.acknowledge(spool),
            15 => {
                let keep_from = self.random.below(spool.next_position() + 1);
                spool.retain(Timestamp(i64::MAX), keep_from).is_ok()
            }
            16 => {
                self.fs.fail_after(self.random.below(12));
                true
            }
            _ => {
                for entry in spool.read(self.model.gone + 1) {
                    match entry {
                        Ok(entry) => {
                            let known = self.model.written.get(&entry.position);
                            assert!(known.is_none_or(|known| *known == entry.record), "seed {}", self.seed);
                        }
                        Err(ReadError::Dropped { .. }) => {}
                        Err(ReadError::Io { .. }) => return false,
                        Err(error) => panic!("seed {}: {error}", self.seed),
                    }
                }
                true
            }
        }
    }

    fn append(&mut self, spool: &mut Spool) -> bool {
        let count = self.random.below(5);
        let records: Vec<Record> = (0..count)
            .map(|_| {
                self.counter += 1;
                any_record(&mut self.random, self.counter)
            })
            .collect();
        match spool.append(&records) {
            Ok(ticket) => {
                self.model.written.extend((ticket.first..).zip(records));
                true
            }
            Err(AppendError::Poisoned(_) | AppendError::Remove { .. }) => {
                self.model.in_flight.extend(records);
                false
            }
            Err(error) => panic!("seed {}: {error}", self.seed),
        }
    }

    fn acknowledge(&mut self, spool: &Spool) -> bool {
        if self.model.acknowledged.is_none() {
            return true;
        }
        let position = self.random.below(spool.durable_position() + 1);
        self.model.acknowledging = self.model.acknowledging.max(position);
        match spool.acknowledge(CONSUMER, position) {
            Ok(position) => {
                self.model.acknowledged = Some(position);
                true
            }
            Err(_) => false,
        }
    }

    fn end(&mut self, spool: &mut Spool, end: End) -> Result<(), String> {
        self.model.durable = self.model.durable.max(spool.durable_position());
        match end {
            End::Clean => {}
            End::Kill => self.fs.kill(),
            End::Crash => self.fs.crash(&mut self.random),
        }
        // The old one holds the lock until it is dropped.
        *spool = {
            let closed = std::mem::replace(spool, closed_spool());
            drop(closed);
            if end == End::Clean {
                self.fs.kill();
            }
            self.open(end)?
        };
        Ok(())
    }

    /// Opens, in spite of power cuts while it does, and checks what is there.
    fn open(&mut self, mut end: End) -> Result<Spool, String> {
        loop {
            self.fs.set_fault(self.mutation.while_opening());
            if self.random.below(6) == 0 {
                self.fs.fail_after(self.random.below(12));
            }
            let opened = Spool::open(Path::new(DIR), self.options.clone());
            self.fs.set_fault(self.mutation.while_open());
            match opened {
                Ok((spool, recovery)) => {
                    let complete = end != End::Crash;
                    if self.check_recovered(&spool, &recovery, complete)? {
                        return Ok(spool);
                    }
                }
                Err(OpenError::Io { .. }) => {}
                Err(error) => return Err(format!("seed {}: {error}", self.seed)),
            }
            end = if self.random.below(2) == 0 { end } else { End::Crash };
            match end {
                End::Crash => self.fs.crash(&mut self.random),
                End::Clean | End::Kill => self.fs.kill(),
            }
        }
    }

    /// False when the machine went down while reading.
    fn check_recovered(
        &mut self,
        spool: &Spool,
        recovery: &Recovery,
        complete: bool,
    ) -> Result<bool, String> {
        let mut found = BTreeMap::new();
        for entry in spool.read(0) {
            match entry {
                Ok(entry) => {
                    found.insert(entry.position, entry.record);
                }
                Err(ReadError::Io { .. }) => return Ok(false),
                Err(error) => return Err(format!("seed {}: {error}", self.seed)),
            }
        }
        self.check_records(recovery, &found)?;
        self.check_nothing_lost(recovery, &found, complete)?;
        let model = &self.model;
        let epoch = spool.epoch();
        self.check(model.epoch.is_none_or(|known| known == epoch), || "another epoch".to_owned())?;
        if let Some(acknowledged) = model.acknowledged {
            let cursor = recovery.consumers.get(CONSUMER).copied();
            let range = acknowledged..=model.acknowledging.max(acknowledged);
            self.check(cursor.is_some_and(|cursor| range.contains(&cursor)), || {
                format!("the cursor was {acknowledged} and is {cursor:?}")
            })?;
            self.model.acknowledged = cursor;
        }
        self.model.epoch = Some(epoch);
        self.model.written = found;
        self.model.in_flight.clear();
        self.model.durable = recovery.last_position;
        Ok(true)
    }

    /// Nothing is invented or changed, and no position or sequence number comes back.
    fn check_records(&self, recovery: &Recovery, found: &BTreeMap<u64, Record>) -> Result<(), String> {
        let model = &self.model;
        for (position, record) in found {
            let known = model.written.get(position);
            let good = known == Some(record)
                || matches!(record, Record::Gap(_)) && (known.is_none() || *position > model.durable)
                || known.is_none() && model.in_flight.contains(record);
            self.check(good, || format!("{record:?} at {position} was {known:?}"))?;
        }
        let seqs = model.written.range(..=model.durable).filter_map(|(_, record)| record.prediction_seq());
        let seq = seqs.max().unwrap_or(0);
        self.check(recovery.last_prediction_seq >= seq, || {
            format!("prediction {seq} was durable, now {} is the last", recovery.last_prediction_seq)
        })?;
        self.check(recovery.last_position >= model.durable, || {
            format!("position {} was durable, now {} is the last", model.durable, recovery.last_position)
        })
    }

    fn check_nothing_lost(
        &mut self,
        recovery: &Recovery,
        found: &BTreeMap<u64, Record>,
        complete: bool,
    ) -> Result<(), String> {
        for (position, record) in found {
            if let Record::Gap(gap) = record
                && self.model.written.get(position) != Some(record)
            {
                match gap.reason {
                    GapReason::Space | GapReason::Age => {
                        self.model.gone = self.model.gone.max(gap.to_position)
                    }
                    GapReason::Damage => {
                        let durable = self.model.durable;
                        self.check(gap.from_position > durable && !complete, || {
                            format!("{gap:?}, durable {durable}")
                        })?;
                    }
                }
            }
        }
        self.model.gone = self.model.gone.max(self.model.acknowledged.unwrap_or(0));
        let first = recovery.first_position;
        self.check(first <= self.model.gone + 1, || {
            format!("{first} is the first, {} gone", self.model.gone)
        })?;
        let last = if complete { u64::MAX } else { self.model.durable };
        for position in self.model.written.range(first..).map(|(position, _)| *position) {
            self.check(position > last || found.contains_key(&position), || format!("{position} is lost"))?;
        }
        self.check(recovery.missing.is_empty(), || format!("missing {:?}", recovery.missing))?;
        self.check(!complete || (recovery.torn_bytes_cut == 0 && recovery.quarantined.is_empty()), || {
            format!("damage without a power cut: {recovery:?}")
        })
    }
}

/// Holds the place while another one is opened.
fn closed_spool() -> Spool {
    Spool::open(Path::new("place"), options(&SimFileSystem::new())).unwrap().0
}

fn run(mutation: Mutation, seeds: std::ops::Range<u64>) -> Result<(), String> {
    seeds.into_iter().try_for_each(|seed| Case::new(seed, mutation).run())
}

#[test]
fn nothing_durable_is_lost() {
    run(Mutation::Nothing, 0..cases(4000)).unwrap();
}

#[track_caller]
fn check_noticed(mutation: Mutation) {
    let noticed = run(mutation, 0..4000);
    assert!(
        noticed.is_err(),
        "without {mutation:?} the spool seems to hold all the same: the test is too weak"
    );
}

#[test]
fn missing_data_syncs_are_noticed() {
    check_noticed(Mutation::DataSyncs);
}

#[test]
fn a_missing_data_sync_at_recovery_is_noticed() {
    check_noticed(Mutation::DataSyncsInOpen);
}

#[test]
fn missing_directory_syncs_are_noticed() {
    check_noticed(Mutation::DirectorySyncs);
}

#[test]
fn a_missing_directory_sync_at_recovery_is_noticed() {
    check_noticed(Mutation::DirectorySyncsInOpen);
}

#[test]
fn missing_cursor_syncs_are_noticed() {
    check_noticed(Mutation::CursorSyncs);
}
