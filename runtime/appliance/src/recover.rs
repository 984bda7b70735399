//! From the spool back to streams: at a restart, after a failed write, and for `replay`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use market::{Bar, StreamKey, Timestamp};
use slab::Slab;
use store::{Entry, ModelName, PredictionRecord, RealisedRecord, Record, SnapshotRecord};

use crate::deployment::{About, Deployment, HIDDEN};
use crate::feed;
use crate::history::{Change, History, Snapshots};
use crate::live::{Fed, Live, Snapshot};
use crate::pipeline::{self, Pipeline};
use crate::resolve::{Close, Resolver, Tally};
use crate::stream::Served;
use crate::visible::{Answer, Shows};

/// One stream, read back.
pub struct Scanned {
    pub history: History,
    pub positions: VecDeque<u64>,
    /// For the bars held: not to be predicted.
    backfill: VecDeque<bool>,
    pub models: HashMap<ModelName, ScannedModel>,
    /// Of the models that serve the stream, and of those that did.
    pub resolvers: HashMap<ModelName, Resolver>,
}

#[derive(Default)]
pub struct ScannedModel {
    pub snapshots: Snapshots,
    /// Bars seen when the newest prediction was made.
    predicted: Option<u64>,
}

impl Scanned {
    pub fn new(key: StreamKey, capacity_bars: usize) -> Self {
        Scanned {
            history: History::new(key, capacity_bars),
            positions: VecDeque::new(),
            backfill: VecDeque::new(),
            models: HashMap::new(),
            resolvers: HashMap::new(),
        }
    }

    /// What serving did with the bar, it does again.
    pub fn bar(&mut self, position: u64, bar: Bar, backfill: bool) {
        let close = Close::from(&bar);
        let accepted = self.history.accept(bar);
        if matches!(accepted, Ok(Change::Next | Change::Newest | Change::Older(_))) {
            self.resolvers.values_mut().for_each(|resolver| resolver.bar(close));
        }
        match accepted {
            Ok(Change::Next) => {
                self.backfill.push_back(backfill);
                self.positions.push_back(position);
            }
            Ok(Change::Newest) => self.changed(self.history.count - 1),
            Ok(Change::Older(index)) => self.changed(index),
            Ok(Change::Nothing) => {}
            Err(error) => tracing::warn!(%error, "a stored bar no longer fits its stream"),
        }
        while self.backfill.len() > self.history.series.len() {
            self.backfill.pop_front();
        }
        while self.positions.len() > self.history.series.len() {
            self.positions.pop_front();
        }
    }

    fn changed(&mut self, index: u64) {
        for model in self.models.values_mut() {
            model.snapshots.changed(index);
        }
    }

    pub fn snapshot(&mut self, record: SnapshotRecord) {
        let Some(snapshot) = Snapshot::decode(&record.state) else {
            tracing::warn!(key = %record.key, "a stored snapshot can't be read");
            return;
        };
        // The spool may start in the middle of the stream: a snapshot behind a bar says how many there were.
        self.history.count = self.history.count.max(snapshot.count);
        let oldest = self.history.count.saturating_sub(self.history.series.len() as u64);
        self.models.entry(record.model).or_default().snapshots.add(snapshot, oldest);
    }

    /// A prediction, and how the model's intervals did before it.
    fn predicted(
        &mut self,
        record: &PredictionRecord,
        about: Option<&Arc<About>>,
        keep_bars: usize,
    ) -> Tally {
        let count = self.history.count;
        self.models.entry(record.model.clone()).or_default().predicted = Some(count);
        if let Some(about) = about
            && !self.resolvers.contains_key(&record.model)
        {
            let mut resolver = Resolver::new(about.terms.clone(), keep_bars);
            self.history.series.bars().for_each(|bar| resolver.bar(Close::from(bar)));
            self.resolvers.insert(record.model.clone(), resolver);
        }
        self.resolvers.get_mut(&record.model).map_or(Tally::default(), |resolver| {
            resolver.prediction(record);
            resolver.tally()
        })
    }

    fn realised(&mut self, record: &RealisedRecord) {
        if let Some(resolver) = self.resolvers.get_mut(&record.model) {
            resolver.realised(record);
        }
    }
}

/// What a restart found.
#[derive(Debug, Default)]
pub struct Report {
    pub bars: u64,
    pub predictions: u64,
    pub streams: usize,
    /// Predictions made now for bars that had none.
    pub recovered: u64,
    /// Outcomes written now for predictions that had fallen due.
    pub resolved: u64,
}

/// What is to say of a model that isn't deployed, by its name and digest.
pub type Find<'a> = &'a dyn Fn(&ModelName, &[u8; 32]) -> Option<Arc<About>>;

/// Reads the whole spool: streams, what polls see, the next `seq`.
pub fn restart(pipeline: &mut Pipeline, find: Find) -> Result<Report, String> {
    let mut report = Report::default();
    let mut scanned: HashMap<StreamKey, Scanned> = HashMap::new();
    let mut answers = VecDeque::new();
    let in_memory = pipeline.options.predictions_in_memory;
    for (_, deployment) in &pipeline.deployments {
        pipeline.known.insert(deployment.name().clone(), deployment.about.clone());
    }
    let mut unknown = HashSet::new();
    for entry in pipeline.spool.handle().read(0) {
        let Entry { position, record } = match entry {
            Ok(entry) => entry,
            Err(error @ store::ReadError::Io { .. }) => return Err(error.to_string()),
            Err(error) => {
                tracing::warn!(%error, "part of the spool can't be read");
                continue;
            }
        };
        match record {
            Record::Bar(record) => {
                report.bars += 1;
                pipeline.visible.feed(record.bar.close_time());
                let stream = stream_of(pipeline, &mut scanned, &record.bar.key);
                stream.bar(position, record.bar, record.backfill);
            }
            Record::Snapshot(record) => {
                stream_of(pipeline, &mut scanned, &record.key.clone()).snapshot(record)
            }
            Record::Prediction(record) => {
                if report.predictions == 0 {
                    pipeline.visible.forget_to(record.seq.saturating_sub(1));
                }
                report.predictions += 1;
                pipeline.next_seq = pipeline.next_seq.max(record.seq + 1);
                if !pipeline.known.contains_key(&record.model) && !unknown.contains(&record.model) {
                    match find(&record.model, &record.model_digest) {
                        Some(about) => {
                            pipeline.known.insert(record.model.clone(), about);
                        }
                        None => {
                            unknown.insert(record.model.clone());
                        }
                    }
                }
                let known = pipeline.known.get(&record.model).cloned();
                let stream = stream_of(pipeline, &mut scanned, &record.key);
                let tally = stream.predicted(&record, known.as_ref(), pipeline.options.keep_bars);
                if let (Some(bar), Some(known)) = (about(&stream.history, &record), known) {
                    let seat = served_by(&pipeline.deployments, &record).map(|d| d.seat.clone());
                    answers.push_back(pipeline.show(&known, seat, &record, &bar, tally));
                    if answers.len() > in_memory {
                        answers.pop_front();
                    }
                }
            }
            Record::Realised(record) => {
                stream_of(pipeline, &mut scanned, &record.key).realised(&record);
                pipeline.visible.outcomes.add(record);
            }
            Record::Explanation(record) => pipeline.visible.explanations.add(record),
            Record::Gap(gap) => {
                tracing::warn!(from = gap.from_position, to = gap.to_position, reason = ?gap.reason, "the spool has a gap");
            }
        }
    }
    pipeline.visible.publish(answers.into());
    pipeline.visible.set_durable_seq(pipeline.next_seq.saturating_sub(1));
    let mut records = Vec::new();
    let mut answers = Vec::new();
    let mut keys: Vec<StreamKey> = scanned.keys().cloned().collect();
    keys.sort();
    for key in keys {
        if let Some(one) = scanned.remove(&key) {
            let before = records.len();
            resume(pipeline, &key, one, &mut records, &mut answers);
            for record in &records[before..] {
                report.recovered += u64::from(matches!(record, Record::Prediction(_)));
                report.resolved += u64::from(matches!(record, Record::Realised(_)));
            }
        }
    }
    report.streams = pipeline.streams.len();
    pipeline.metrics.streams.set(report.streams as i64);
    let mut last = None;
    // In small batches: each must fit a segment.
    for part in records.chunks(16) {
        last = Some(pipeline.spool.append(part).map_err(|e| e.to_string())?);
    }
    if let Some(ticket) = last {
        ticket.wait().map_err(|e| e.to_string())?;
        pipeline.visible.set_durable_seq(pipeline.next_seq.saturating_sub(1));
    }
    for record in &records {
        if let Record::Realised(record) = record {
            pipeline.count(record);
        }
    }
    pipeline.visible.publish(answers);
    Ok(report)
}

/// After a write that failed: these streams as the spool has them.
pub fn reload(pipeline: &mut Pipeline, keys: &[StreamKey]) -> Result<(), String> {
    let mut changes = HashMap::new();
    for key in keys {
        let Some(mut stream) = pipeline.streams.remove(key) else { continue };
        changes.insert(key.clone(), stream.changes);
        for served in &mut stream.served {
            let deployment = &mut pipeline.deployments[served.deployment];
            served.live.close(deployment.features.as_mut());
            if let (Some(slides), Some(place)) = (&mut deployment.runner.slides, served.place.take()) {
                slides.give_back(place);
            }
        }
    }
    let mut scanned: HashMap<StreamKey, Scanned> = HashMap::new();
    for entry in pipeline.spool.handle().read(0) {
        let Entry { position, record } = match entry {
            Ok(entry) => entry,
            Err(error @ store::ReadError::Io { .. }) => return Err(error.to_string()),
            Err(_) => continue,
        };
        match record {
            Record::Bar(r) if keys.contains(&r.bar.key) => {
                stream_of(pipeline, &mut scanned, &r.bar.key).bar(position, r.bar, r.backfill);
            }
            Record::Snapshot(r) if keys.contains(&r.key) => {
                stream_of(pipeline, &mut scanned, &r.key.clone()).snapshot(r);
            }
            Record::Prediction(r) if keys.contains(&r.key) => {
                let known = pipeline.known.get(&r.model).cloned();
                let stream = stream_of(pipeline, &mut scanned, &r.key);
                stream.predicted(&r, known.as_ref(), pipeline.options.keep_bars);
            }
            Record::Realised(r) if keys.contains(&r.key) => {
                stream_of(pipeline, &mut scanned, &r.key).realised(&r);
            }
            _ => {}
        }
    }
    for (key, mut one) in scanned {
        let mut stream = pipeline.new_stream(&key);
        for Served { deployment, live, resolver, .. } in &mut stream.served {
            let name = pipeline.deployments[*deployment].name();
            if let Some(model) = one.models.get(name) {
                model.snapshots.clone().give(live);
            }
            if let Some(mut scanned) = one.resolvers.remove(name) {
                scanned.look_again();
                *resolver = scanned;
            }
        }
        for mut resolver in one.resolvers.into_values() {
            resolver.look_again();
            stream.retired.push(resolver);
        }
        // Whoever copied it before sees that it isn't the same any more.
        stream.changes = changes.get(&key).map_or(0, |before| before + 1);
        stream.history = one.history;
        stream.positions = one.positions;
        pipeline.streams.insert(key, stream);
    }
    Ok(())
}

fn stream_of<'a>(
    pipeline: &Pipeline,
    scanned: &'a mut HashMap<StreamKey, Scanned>,
    key: &StreamKey,
) -> &'a mut Scanned {
    if !scanned.contains_key(key) {
        let capacity = pipeline.capacity_bars(key);
        let mut one = Scanned::new(key.clone(), capacity);
        for (_, deployment) in pipeline.deployments.iter().filter(|(_, d)| d.covers(key)) {
            let resolver = Resolver::new(deployment.about.terms.clone(), pipeline.options.keep_bars);
            one.resolvers.insert(deployment.name().clone(), resolver);
        }
        scanned.insert(key.clone(), one);
    }
    scanned.entry(key.clone()).or_insert_with(|| Scanned::new(key.clone(), 1))
}

/// The bar that a prediction is about: records stand in the order in which they were made.
fn about(history: &History, record: &PredictionRecord) -> Option<Bar> {
    history.series.get(record.open_time).filter(|b| b.revision == record.revision).cloned()
}

fn served_by<'a>(deployments: &'a Slab<Deployment>, record: &PredictionRecord) -> Option<&'a Deployment> {
    deployments.iter().map(|(_, d)| d).find(|d| *d.name() == record.model && d.covers(&record.key))
}

/// Opens the stream under each model again, and predicts what was not.
fn resume(
    pipeline: &mut Pipeline,
    key: &StreamKey,
    scanned: Scanned,
    records: &mut Vec<Record>,
    answers: &mut Vec<Shows>,
) {
    let mut stream = pipeline.new_stream(key);
    let Scanned { mut history, positions, backfill, mut models, mut resolvers } = scanned;
    let count = history.count;
    let bars = history.series.as_slice();
    // What another model has answered isn't answered again by one that served before it; but the last bar is by all.
    let answered = models.values().filter_map(|model| model.predicted).max().unwrap_or(0);
    let unanswered = (count - answered.min(count)).saturating_add(1);
    for Served { deployment: index, epoch, live, resolver, .. } in &mut stream.served {
        if let Some(scanned) = resolvers.remove(pipeline.deployments[*index].name()) {
            *resolver = scanned;
        }
        let model = models.remove(pipeline.deployments[*index].name()).unwrap_or_default();
        // A model that never answered here answers for the newest bar.
        let predicted = model.predicted.unwrap_or(count.saturating_sub(1));
        let missing = (count - predicted.min(count)).min(unanswered);
        let missing = usize::try_from(missing).unwrap_or(usize::MAX).min(bars.len());
        model.snapshots.give(live);
        let (known, tail) = bars.split_at(bars.len() - missing);
        let start = Start { known, tail, count: count - missing as u64 };
        let opened =
            reopen_and_predict(pipeline, *index, live, resolver, &start, &backfill, key, records, answers);
        resolver.look_again();
        resolve(resolver, key, Timestamp(i64::MAX), records);
        *epoch = pipeline.deployments[*index].epoch;
        if let Err(error) = opened {
            tracing::warn!(%key, %error, "the stream could not be opened again and starts anew");
            live.lost();
            if error.kind.lost_streams() && pipeline.deployments[*index].rebuild().is_err() {
                continue;
            }
        }
    }
    for mut resolver in resolvers.into_values() {
        resolver.look_again();
        resolve(&mut resolver, key, Timestamp(i64::MAX), records);
        resolver.rest();
        stream.retired.push(resolver);
    }
    if stream.served.is_empty() {
        // No model covers it any more: no bar of it will be taken.
        return;
    }
    stream.history = history;
    stream.positions = positions;
    pipeline.streams.insert(key.clone(), stream);
    pipeline.later(key);
}

/// What fell due before a bar that opens at `before`.
fn resolve(resolver: &mut Resolver, key: &StreamKey, before: Timestamp, records: &mut Vec<Record>) {
    let mut realised = Vec::new();
    resolver.resolve(key, before, Timestamp::now(), &mut realised);
    records.extend(realised.into_iter().map(Record::Realised));
}

struct Start<'a> {
    known: &'a [Bar],
    tail: &'a [Bar],
    /// Bars up to the end of `known`.
    count: u64,
}

#[allow(clippy::too_many_arguments, reason = "one caller; a struct would only rename them")]
fn reopen_and_predict(
    pipeline: &mut Pipeline,
    index: usize,
    live: &mut Live,
    resolver: &mut Resolver,
    start: &Start,
    backfill: &VecDeque<bool>,
    key: &StreamKey,
    records: &mut Vec<Record>,
    answers: &mut Vec<Shows>,
) -> Result<(), market::FeatureError> {
    let deployment = &mut pipeline.deployments[index];
    let normaliser = deployment.normaliser.clone();
    let apply = |row: &mut [f32]| normaliser.apply(row);
    let snapshot_record = |deployment: &Deployment, s: &Snapshot, position: u64| {
        Record::Snapshot(SnapshotRecord {
            key: key.clone(),
            model: deployment.name().clone(),
            features_digest: deployment.features_digest,
            bar_position: position,
            state: s.encode(),
        })
    };
    let last_position = pipeline.spool.next_position().saturating_sub(1);
    let (mut fed, snapshots) =
        feed::reopen(live, deployment.features.as_mut(), &apply, start.known, start.count, u64::MAX)?;
    records.extend(snapshots.iter().map(|s| snapshot_record(deployment, s, last_position)));
    let skipped = start.known.len();
    let mut silent = false;
    for (i, bar) in start.tail.iter().enumerate() {
        let deployment = &mut pipeline.deployments[index];
        let (now, snapshot) = live.push(deployment.features.as_mut(), &apply, bar)?;
        fed = now;
        records.extend(snapshot.iter().map(|s| snapshot_record(deployment, s, last_position)));
        let quiet = backfill.get(skipped + i).copied().unwrap_or(false);
        silent = quiet;
        let Some(window) = live.window().filter(|_| fed == Fed::Ready && !quiet) else { continue };
        let mut outputs = Vec::new();
        let ran = deployment.runner.run(window, &mut outputs);
        let outcome = pipeline::read_finite(deployment, ran.is_ok().then_some(outputs.as_slice()));
        resolve(resolver, key, bar.open_time, records);
        let uncertainty = match &outcome {
            store::Outcome::Values(values) => resolver.uncertainty(values),
            store::Outcome::Abstained { .. } => None,
        };
        let prediction = PredictionRecord {
            seq: pipeline.next_seq,
            key: key.clone(),
            model: deployment.name().clone(),
            model_digest: deployment.about.terms.digest,
            open_time: bar.open_time,
            revision: bar.revision,
            made_at: Timestamp::now(),
            outcome,
            recovered: true,
            revised: false,
            shadow: deployment.seat.rank(key) >= HIDDEN,
            device: deployment.runner.device.to_string(),
            uncertainty,
        };
        pipeline.next_seq += 1;
        resolver.prediction(&prediction);
        let (about, seat) = (deployment.about.clone(), Some(deployment.seat.clone()));
        answers.push(pipeline.show(&about, seat, &prediction, bar, resolver.tally()));
        records.push(Record::Prediction(prediction));
    }
    let deployment = &pipeline.deployments[index];
    let need = deployment.need();
    let have = match fed {
        Fed::Warming { have, .. } => have,
        Fed::Ready if silent => need,
        Fed::Ready => return Ok(()),
    };
    answers.push(deployment.says(key, Answer::Warming { have, need }));
    Ok(())
}
