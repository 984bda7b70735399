//! The data path, on one thread:
//!
//! ```text
//! bars -> histories -> features (plugin) -> plan, batched over symbols -> predictions (finite, or refused)
//!      -> spool: written -> visible -> outcomes that fell due -> spool: synced -> bars acknowledged
//! ```
//!
//! Outcomes (`resolve.rs`) are written behind what is visible, so no prediction waits for them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use market::{Bar, FeatureError, StreamKey, Timestamp};
use slab::Slab;
use store::{
    BarRecord, ModelName, PredictionRecord, Realised, RealisedRecord, Record, SnapshotRecord, Spool,
};

use crate::config::DurabilityMode;
use crate::deployment::{About, Deployment, HIDDEN, Seat};
use crate::explain::Explaining;
use crate::feed::{feed, slide};
use crate::history::{self, Change, History};
use crate::ingest::Incoming;
use crate::live::{Fed, Live, Snapshot};
use crate::metrics::{Device, Failure, Metrics, Resolved};
use crate::outcomes::result_name;
use crate::queue::{BarReceiver, Job, Outcome, StepFailed, Work};
use crate::render::Shown;
use crate::resolve::{Close, Resolver, Tally};
use crate::stream::{Served, Stream};
use crate::visible::{Answer, Made, Shows, Visible};

/// Bars of one step; more wait for the next.
const STEP_BARS_MAX: usize = 8192;

/// Outcomes in one write: they must fit a segment.
const OUTCOMES_MAX: usize = 16;

/// How often old segments are looked for.
const RETAIN_INTERVAL: Duration = Duration::from_secs(60);

/// Codes of [`store::Outcome::Abstained`].
pub const ABSTAINED_PLUGIN: u16 = 1;
pub const ABSTAINED_NOT_FINITE: u16 = 2;

#[derive(Clone, Copy, Debug)]
pub struct PipelineOptions {
    pub durability: DurabilityMode,
    pub streams_max: usize,
    pub keep_bars: usize,
    pub stale_after_bars: f64,
    pub predictions_in_memory: usize,
    /// Older segments of the spool go.
    pub history: Duration,
}

pub struct Pipeline {
    /// Under numbers that stay while others come and go.
    pub deployments: Slab<Deployment>,
    /// What is to say of every model that predicted what the spool still holds.
    pub known: HashMap<ModelName, Arc<About>>,
    pub streams: HashMap<StreamKey, Stream>,
    pub spool: Spool,
    pub visible: Arc<Visible>,
    pub metrics: Arc<Metrics>,
    pub next_seq: u64,
    pub options: PipelineOptions,
    /// Streams whose sliding windows have work left for when no bar waits.
    pub unprepared: VecDeque<StreamKey>,
    /// Where some predictions are explained.
    pub explaining: Option<Explaining>,
    /// When the newest step's predictions became visible.
    pub visible_at: Option<Instant>,
}

/// What one bar leads to under one model.
enum BarResult {
    /// Its window is the n-th of the deployment's batch.
    Window(usize),
    /// The sliding plan has given the outputs.
    Outputs(Vec<f32>),
    Warming {
        have: u64,
        need: u64,
    },
    Abstained(FeatureError),
    Quarantined,
}

/// One accepted bar on its way through a step.
struct Step<'a> {
    incoming: &'a Incoming,
    change: Change,
    /// The bar that predictions are about: the stream's newest.
    about: Bar,
    results: Vec<(usize, BarResult, Vec<Snapshot>)>,
}

impl Pipeline {
    /// Runs until every sender is gone.
    pub fn run(mut self, mut receiver: BarReceiver) -> Result<(), StepFailed> {
        let mut retained = Instant::now();
        self.prepare(|| receiver.is_idle());
        while let Some(work) = receiver.take(STEP_BARS_MAX) {
            match work {
                Work::Bars(jobs) => self.jobs(jobs)?,
                Work::Order(order) => order(&mut self),
            }
            self.write_explanations();
            self.prepare(|| receiver.is_idle());
            if retained.elapsed() > RETAIN_INTERVAL {
                self.retain();
                retained = Instant::now();
            }
        }
        self.spool.close().map_err(|e| StepFailed(e.to_string()))
    }

    /// Makes sliding windows ready for their next rows, as long as there is nothing better to do.
    pub fn prepare(&mut self, idle: impl Fn() -> bool) {
        let started = Instant::now();
        while idle()
            && let Some(key) = self.unprepared.pop_front()
        {
            if self.prepare_stream(&key) {
                self.unprepared.push_front(key);
            } else if let Some(stream) = self.streams.get_mut(&key) {
                stream.unprepared = false;
            }
        }
        self.metrics.stage("settle", started.elapsed().as_secs_f64());
    }

    /// Notes that a stream's sliding windows have work left.
    pub fn later(&mut self, key: &StreamKey) {
        if let Some(stream) = self.streams.get_mut(key).filter(|stream| !stream.unprepared) {
            stream.unprepared = true;
            self.unprepared.push_back(key.clone());
        }
    }

    /// One piece of work for each model; whether there was any.
    fn prepare_stream(&mut self, key: &StreamKey) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        let is_final = stream.history.newest().is_some_and(|bar| bar.is_final);
        let mut worked = false;
        for Served { deployment, live, place, .. } in &mut stream.served {
            let Some(slides) = &mut self.deployments[*deployment].runner.slides else { continue };
            if place.is_none() && live.window().is_some() {
                *place = slides.place();
            }
            if let Some(place) = place {
                // After a failure the place is cold, and tried again behind the next bar.
                worked |= slides.prepare(place, live, is_final).unwrap_or_else(|error| {
                    tracing::error!(%key, %error, "sliding windows can't be made ready");
                    false
                });
            }
        }
        worked
    }

    /// Hands the windows of predictions that are to be explained on, behind what is visible.
    fn offer(&self, steps: &[Step], windows: &[Vec<f32>], records: &[Record]) {
        let Some(explaining) = &self.explaining else { return };
        let (mut rest, mut at) = (steps.iter(), None);
        for record in records {
            match record {
                Record::Bar(_) => at = rest.next(),
                Record::Prediction(p) if matches!(p.outcome, store::Outcome::Values(_)) => {
                    if explaining.wants(p)
                        && let Some(window) = at.and_then(|step| self.window_of(step, windows, &p.model))
                    {
                        explaining.offer(p, window);
                    }
                }
                Record::Prediction(_) | Record::Snapshot(_) | Record::Gap(_) => {}
                Record::Realised(_) | Record::Explanation(_) => {}
            }
        }
    }

    /// The window that a model's prediction in a step came of. `None`: a later bar of the step has changed it.
    fn window_of<'a>(&'a self, step: &Step, windows: &'a [Vec<f32>], model: &ModelName) -> Option<&'a [f32]> {
        let (index, result, _) =
            step.results.iter().find(|(i, ..)| *self.deployments[*i].name() == *model)?;
        match result {
            BarResult::Window(at) => {
                let length = self.deployments[*index].window * self.deployments[*index].columns;
                windows.get(*index)?.get(at * length..(at + 1) * length)
            }
            BarResult::Outputs(_) => {
                let stream = self.streams.get(&step.about.key)?;
                let is_newest = stream.history.newest() == Some(&step.about);
                let served = stream.served.iter().find(|served| served.deployment == *index)?;
                served.live.window().filter(|_| is_newest)
            }
            BarResult::Warming { .. } | BarResult::Abstained(_) | BarResult::Quarantined => None,
        }
    }

    /// Writes down the explanations that are ready, and shows them.
    fn write_explanations(&mut self) {
        let done = self.explaining.as_ref().map(Explaining::done).unwrap_or_default();
        for record in done {
            match self.spool.append(&[Record::Explanation(record.clone())]) {
                Ok(_) => self.visible.explanations.add(record),
                Err(error) => tracing::error!(%error, seq = record.seq, "an explanation was not written"),
            }
        }
    }

    /// Lets old segments go, but for what the streams that still move need to be rebuilt.
    fn retain(&mut self) {
        let older_than = Timestamp(Timestamp::now().0.saturating_sub(self.options.history.as_nanos() as i64));
        let moving =
            self.streams.values().filter(|s| s.history.newest().is_some_and(|b| b.close_time() > older_than));
        let needed = moving.filter_map(|s| s.positions.front().copied()).min();
        let keep_from = needed.unwrap_or_else(|| self.spool.next_position());
        match self.spool.retain(older_than, keep_from) {
            Ok(retained) if retained.segments > 0 => {
                tracing::info!(
                    segments = retained.segments,
                    bytes = retained.bytes,
                    "old segments were removed"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "old segments stay"),
        }
    }

    fn jobs(&mut self, mut jobs: Vec<Job>) -> Result<(), StepFailed> {
        // Those without a bar only wake this thread.
        jobs.retain(|job| !job.bars.is_empty());
        if jobs.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        for job in &jobs {
            self.metrics.stage("queue", (started - job.arrived).as_secs_f64());
        }
        let bars: Vec<&Incoming> = jobs.iter().flat_map(|j| &j.bars).collect();
        let step = self.step(&bars);
        let visible = self.visible_at.take().unwrap_or_else(Instant::now);
        for job in &jobs {
            self.metrics.stage("visible", (visible - job.arrived).as_secs_f64());
        }
        match step {
            Ok((outcomes, position)) => {
                let mut outcomes = outcomes.into_iter();
                let replies: Vec<_> = jobs
                    .into_iter()
                    .map(|job| (job.reply, outcomes.by_ref().take(job.bars.len()).collect::<Vec<_>>()))
                    .collect();
                let metrics = self.metrics.clone();
                let respond = move |durable: Result<(), String>| {
                    metrics.stage("sync", visible.elapsed().as_secs_f64());
                    for (reply, outcomes) in replies {
                        let _ = reply.send(durable.clone().map(|()| outcomes).map_err(StepFailed));
                    }
                };
                self.spool
                    .handle()
                    .on_durable(position, move |r| respond(r.map(drop).map_err(|e| e.to_string())));
                Ok(())
            }
            Err(failed) => {
                for job in jobs {
                    let _ = job.reply.send(Err(failed.clone()));
                }
                if self.spool.handle().stats().failure.is_some() { Err(failed) } else { Ok(()) }
            }
        }
    }

    /// The data path over a slice of bars. One outcome for each; they are durable when the position is.
    pub fn step(&mut self, bars: &[&Incoming]) -> Result<(Vec<Outcome>, u64), StepFailed> {
        let started = Instant::now();
        let received_at = Timestamp::now();
        let numbers = self.deployments.iter().map(|(index, _)| index + 1).max().unwrap_or(0);
        let mut windows: Vec<Vec<f32>> = vec![Vec::new(); numbers];
        let mut steps: Vec<Step> = Vec::with_capacity(bars.len());
        let mut outcomes = Vec::with_capacity(bars.len());
        let mut seen = HashSet::new();
        for incoming in bars {
            outcomes.push(match self.accept(incoming) {
                Ok(Change::Nothing) => Outcome::Duplicate,
                Ok(change) => {
                    // A second bar of a stream would wait for the first one's windows: a batch is faster.
                    let key = &incoming.bar.key;
                    let slides = seen.insert(key) && !incoming.backfill;
                    steps.extend(self.features(incoming, change, &mut windows, slides));
                    Outcome::Accepted
                }
                Err(reason) => Outcome::Rejected(reason),
            });
        }
        let featured = Instant::now();
        self.metrics.stage("features", (featured - started).as_secs_f64());
        let values = self.compute(&windows);
        let computed = Instant::now();
        self.metrics.stage("compute", (computed - featured).as_secs_f64());

        let (records, answers) = self.conclude(&steps, &values, received_at);
        if records.is_empty() {
            // Repeats: what they repeat may still be on its way to the disk.
            return Ok((outcomes, self.spool.next_position() - 1));
        }
        let newest_seq = self.next_seq - 1;
        let ticket = match self.spool.append(&records) {
            Ok(ticket) => ticket,
            Err(error) => return Err(self.undo(&steps, &records, error)),
        };
        self.metrics.stage("write", computed.elapsed().as_secs_f64());
        if self.options.durability == DurabilityMode::Synced {
            ticket.wait().map_err(|e| StepFailed(e.to_string()))?;
        }
        self.note_positions(&steps, &records, ticket.first);
        for step in &steps {
            self.visible.feed(step.about.close_time());
        }
        self.visible.publish(answers);
        self.visible_at = Some(Instant::now());
        self.offer(&steps, &windows, &records);
        for step in &steps {
            self.later(&step.incoming.bar.key);
        }
        let visible = self.visible.clone();
        ticket.on_durable(move |durable| {
            if durable.is_ok() {
                visible.set_durable_seq(newest_seq);
            }
        });
        for record in &records {
            if let Record::Realised(record) = record {
                self.count(record);
            }
        }
        let keys: HashSet<&StreamKey> = steps.iter().map(|step| &step.incoming.bar.key).collect();
        self.resolve(&keys);
        Ok((outcomes, ticket.last))
    }

    /// Resolves what fell due in these streams, writes it down and shows it.
    fn resolve(&mut self, keys: &HashSet<&StreamKey>) {
        let started = Instant::now();
        let now = Timestamp::now();
        let mut realised = Vec::new();
        for &key in keys {
            if let Some(stream) = self.streams.get_mut(key) {
                stream.resolve(key, now, &mut realised);
            }
        }
        if realised.is_empty() {
            return;
        }
        for part in realised.chunks(OUTCOMES_MAX) {
            let records: Vec<Record> = part.iter().cloned().map(Record::Realised).collect();
            if let Err(error) = self.spool.append(&records) {
                // The streams go back to what the spool holds: what is missing there falls due again.
                tracing::error!(%error, outcomes = realised.len(), "outcomes were not written");
                let keys: Vec<StreamKey> = keys.iter().map(|&key| key.clone()).collect();
                if self.spool.handle().stats().failure.is_none()
                    && let Err(failed) = crate::recover::reload(self, &keys)
                {
                    tracing::error!(error = %failed, "streams could not be read back and start anew");
                }
                break;
            }
            part.iter().for_each(|record| self.count(record));
        }
        self.metrics.stage("outcomes", started.elapsed().as_secs_f64());
    }

    /// An outcome that was written, for whoever reads outcomes.
    pub fn count(&self, record: &RealisedRecord) {
        if record.revision == 0 {
            let model = format!("{}/{}", record.model.name, record.model.version);
            let result = result_name(&record.result);
            self.metrics.outcomes.get_or_create(&Resolved { model: model.clone(), result }).inc();
            if let Realised::Value(value) = &record.result {
                self.metrics.judged(&model, value.covered, value.right);
            }
        }
        self.visible.outcomes.add(record.clone());
    }

    /// Where each stream's bars stand in the spool, for retention.
    fn note_positions(&mut self, steps: &[Step], records: &[Record], first: u64) {
        let bars = (first..).zip(records).filter(|(_, r)| matches!(r, Record::Bar(_)));
        for (step, (position, _)) in steps.iter().zip(bars) {
            if step.change == Change::Next
                && let Some(stream) = self.streams.get_mut(&step.incoming.bar.key)
            {
                stream.note_position(position);
            }
        }
    }

    /// Into the stream's history, by its rules.
    fn accept(&mut self, incoming: &Incoming) -> Result<Change, String> {
        let Bar { key, open_time, .. } = &incoming.bar;
        // One bar of the far future would shut the stream to every real one.
        if open_time.0 > Timestamp::now().0.saturating_add(key.timeframe.nanos()) {
            return Err(format!("the bar opens at {open_time}, in the future: check its time and its unit"));
        }
        if !self.streams.contains_key(key) {
            if !self.deployments.iter().any(|(_, d)| d.covers(key)) {
                return Err(format!("no model is deployed for {key}: see deployments in config.toml"));
            }
            if self.streams.len() >= self.options.streams_max {
                return Err(format!(
                    "{key} is one stream too many: serving.streams_max is {}",
                    self.options.streams_max
                ));
            }
            let stream = self.new_stream(key);
            self.streams.insert(key.clone(), stream);
            self.metrics.streams.set(self.streams.len() as i64);
        }
        match self.streams.get_mut(key) {
            Some(stream) if is_too_old(&stream.history, &incoming.bar, self.options.keep_bars) => {
                Err("the bar is too old to be revised: see serving.revision_depth_bars".into())
            }
            Some(stream) => {
                let change = stream.history.accept(incoming.bar.clone()).map_err(|e| e.to_string())?;
                stream.changes += u64::from(change != Change::Nothing);
                Ok(change)
            }
            None => Err(format!("{key} has no stream")),
        }
    }

    pub fn new_stream(&self, key: &StreamKey) -> Stream {
        let covering = self.deployments.iter().filter(|(_, d)| d.covers(key) && !d.leaving);
        let served = covering
            .map(|(deployment, d)| {
                let live = Live::new(d.empty_window.clone(), d.warmup(), self.options.keep_bars);
                let resolver = Resolver::new(d.about.terms.clone(), self.options.keep_bars);
                Served { deployment, epoch: u64::MAX, live, place: None, resolver }
            })
            .collect();
        let capacity = self.capacity_bars(key);
        Stream {
            history: History::new(key.clone(), capacity),
            positions: VecDeque::new(),
            unprepared: false,
            served,
            retired: Vec::new(),
            unresolved: Vec::new(),
            changes: 0,
        }
    }

    /// How many bars a stream holds.
    pub fn capacity_bars(&self, key: &StreamKey) -> usize {
        let covering = self.deployments.iter().filter(|(_, d)| d.covers(key));
        covering.map(|(_, d)| self.capacity_for(d)).max().unwrap_or(1)
    }

    /// How many bars a model needs of a stream.
    pub fn capacity_for(&self, d: &Deployment) -> usize {
        let live = history::capacity_bars(d.warmup(), d.window, self.options.keep_bars);
        live.max(d.about.terms.bars(self.options.keep_bars))
    }

    /// The bar through each model's features; full windows are gathered for the batch.
    fn features<'a>(
        &mut self,
        incoming: &'a Incoming,
        change: Change,
        windows: &mut [Vec<f32>],
        slides: bool,
    ) -> Option<Step<'a>> {
        let stream = self.streams.get_mut(&incoming.bar.key)?;
        let about = stream.history.newest()?.clone();
        let mut results = Vec::with_capacity(stream.served.len());
        for Served { deployment: index, epoch, live, place, .. } in &mut stream.served {
            let deployment = &mut self.deployments[*index];
            let was_quarantined = deployment.health.quarantined().is_some();
            let (fed, snapshots) = feed(deployment, epoch, live, &mut stream.history, change);
            let outputs = match fed {
                Ok(Some(_)) if slides => slide(deployment, place, live),
                _ => None,
            };
            let result = match fed {
                Ok(Some(Fed::Ready)) if outputs.is_some() => {
                    self.metrics.sliding.inc();
                    BarResult::Outputs(outputs.unwrap_or_default())
                }
                Ok(Some(Fed::Ready)) => {
                    self.metrics.whole.inc();
                    let batch = &mut windows[*index];
                    let at = batch.len() / (deployment.window * deployment.columns);
                    batch.extend_from_slice(live.window().unwrap_or_default());
                    BarResult::Window(at)
                }
                Ok(Some(Fed::Warming { have, need })) => BarResult::Warming { have, need },
                Ok(None) => BarResult::Quarantined,
                Err(error) => {
                    tracing::warn!(key = %incoming.bar.key, open_time = %incoming.bar.open_time, %error, "no features");
                    let kind = format!("{:?}", error.kind);
                    self.metrics
                        .abstained
                        .get_or_create(&Failure { plugin: error.plugin.clone(), kind })
                        .inc();
                    BarResult::Abstained(error)
                }
            };
            if let Some(message) = deployment.health.quarantined().filter(|_| !was_quarantined) {
                let model = &deployment.about.model;
                tracing::error!(%model, %message, "plugin quarantined");
                self.visible.quarantine(model, message);
                self.metrics.quarantined.inc();
            }
            results.push((*index, result, snapshots));
        }
        Some(Step { incoming, change, about, results })
    }

    /// Each deployment's windows through its plan. `None`: it failed, with the reason logged.
    fn compute(&mut self, windows: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let mut all = vec![Vec::new(); windows.len()];
        for (index, deployment) in &mut self.deployments {
            let (windows, values) = (&windows[index], &mut all[index]);
            if !windows.is_empty()
                && let Err(error) = deployment.runner.run(windows, values)
            {
                tracing::error!(model = %deployment.about.model, %error, "the plan failed");
                values.clear();
            }
        }
        all
    }

    /// The records of the step in the order of its bars, and what becomes visible.
    fn conclude(
        &mut self,
        steps: &[Step],
        values: &[Vec<f32>],
        made_at: Timestamp,
    ) -> (Vec<Record>, Vec<Shows>) {
        let mut records = Vec::with_capacity(steps.len() * 2);
        let mut answers = Vec::with_capacity(steps.len());
        for step in steps {
            let bar = &step.incoming.bar;
            if let Some(stream) = self.streams.get_mut(&bar.key) {
                // A bar of the same stream earlier in this step: the interval learns from what fell due with it.
                let mut due = Vec::new();
                stream.resolve(&bar.key, made_at, &mut due);
                records.extend(due.into_iter().map(Record::Realised));
            }
            let position = self.spool.next_position() + records.len() as u64;
            records.push(Record::Bar(BarRecord {
                received_at: made_at,
                bar: bar.clone(),
                backfill: step.incoming.backfill,
            }));
            for (index, result, snapshots) in &step.results {
                let deployment = &self.deployments[*index];
                for snapshot in snapshots {
                    records.push(Record::Snapshot(SnapshotRecord {
                        key: bar.key.clone(),
                        model: deployment.name().clone(),
                        features_digest: deployment.features_digest,
                        bar_position: position,
                        state: snapshot.encode(),
                    }));
                }
                let outcome = match result {
                    BarResult::Warming { have, need } => {
                        let answer = Answer::Warming { have: *have, need: *need };
                        answers.push(deployment.says(&bar.key, answer));
                        continue;
                    }
                    BarResult::Quarantined => {
                        if let Some(message) = deployment.health.quarantined() {
                            let answer = Answer::Quarantined { message: message.clone() };
                            answers.push(deployment.says(&bar.key, answer));
                        }
                        continue;
                    }
                    BarResult::Window(_) | BarResult::Outputs(_) if step.incoming.backfill => {
                        // Warm, and silent until a bar that is to be predicted on.
                        let need = deployment.need();
                        answers.push(deployment.says(&bar.key, Answer::Warming { have: need, need }));
                        continue;
                    }
                    BarResult::Window(at) => {
                        let outputs = deployment.runner.outputs();
                        read_finite(deployment, values[*index].get(at * outputs..(at + 1) * outputs))
                    }
                    BarResult::Outputs(outputs) => read_finite(deployment, Some(outputs)),
                    BarResult::Abstained(error) => abstained(ABSTAINED_PLUGIN, &error.to_string()),
                };
                let resolver = self
                    .streams
                    .get_mut(&bar.key)
                    .and_then(|stream| stream.served.iter_mut().find(|s| s.deployment == *index))
                    .map(|served| &mut served.resolver);
                let uncertainty = match (&outcome, &resolver) {
                    (store::Outcome::Values(values), Some(resolver)) => resolver.uncertainty(values),
                    _ => None,
                };
                let prediction = PredictionRecord {
                    seq: self.next_seq,
                    key: bar.key.clone(),
                    model: deployment.name().clone(),
                    model_digest: deployment.about.terms.digest,
                    open_time: step.about.open_time,
                    revision: step.about.revision,
                    made_at,
                    outcome,
                    recovered: false,
                    revised: step.change != Change::Next,
                    shadow: deployment.seat.rank(&bar.key) >= HIDDEN,
                    device: deployment.runner.device.to_string(),
                    uncertainty,
                };
                self.next_seq += 1;
                let tally = resolver.map_or(Tally::default(), |resolver| {
                    resolver.prediction(&prediction);
                    resolver.tally()
                });
                let seat = Some(deployment.seat.clone());
                answers.push(self.show(&deployment.about, seat, &prediction, &step.about, tally));
                records.push(Record::Prediction(prediction));
            }
            if let Some(stream) = self.streams.get_mut(&bar.key) {
                stream.unresolved.push(Close::from(bar));
            }
        }
        (records, answers)
    }

    /// What polls get. `seat`: where the model is deployed, if it still is.
    pub fn show(
        &self,
        about: &Arc<About>,
        seat: Option<Arc<Seat>>,
        prediction: &PredictionRecord,
        bar: &Bar,
        tally: Tally,
    ) -> Shows {
        let answer = match &prediction.outcome {
            store::Outcome::Values(values) => {
                let as_of = bar.close_time();
                let valid_ns = (bar.key.timeframe.nanos() as f64 * self.options.stale_after_bars) as i64;
                let valid_until = Timestamp(as_of.0.saturating_add(valid_ns));
                let shown = Shown {
                    seq: prediction.seq,
                    key: &prediction.key,
                    model: &about.model,
                    label: &about.label,
                    horizon_bars: about.horizon_bars,
                    value: about.terms.reading.value(values),
                    meaning: &about.meaning,
                    values,
                    uncertainty: prediction.uncertainty,
                    tally,
                    open_time: bar.open_time,
                    as_of,
                    made_at: prediction.made_at,
                    valid_until,
                    device: &prediction.device,
                    revision: bar.revision,
                    provisional: !bar.is_final,
                    recovered: prediction.recovered,
                    revised: prediction.revised,
                    shadow: prediction.shadow,
                };
                let (model, device) = (about.model.to_string(), prediction.device.clone());
                let device = Device { model, device, degraded: "false" };
                self.metrics.predictions.get_or_create(&device).inc();
                Answer::Prediction(Arc::new(Made::new(&shown, about.clone(), seat.clone())))
            }
            store::Outcome::Abstained { code, text } => {
                let reason = if *code == ABSTAINED_NOT_FINITE { "not_finite" } else { "plugin" };
                Answer::Abstained {
                    seq: prediction.seq,
                    reason: reason.into(),
                    message: text.as_str().into(),
                }
            }
        };
        Shows { key: prediction.key.clone(), about: about.clone(), seat, answer }
    }

    /// Nothing of the step was written: its streams go back to what the spool holds.
    fn undo(&mut self, steps: &[Step], records: &[Record], error: store::AppendError) -> StepFailed {
        let predictions = records.iter().filter(|r| matches!(r, Record::Prediction(_))).count() as u64;
        self.next_seq -= predictions;
        let mut keys: Vec<StreamKey> = steps.iter().map(|s| s.incoming.bar.key.clone()).collect();
        keys.sort();
        keys.dedup();
        tracing::error!(%error, streams = keys.len(), "bars were not taken");
        if self.spool.handle().stats().failure.is_none()
            && let Err(failed) = crate::recover::reload(self, &keys)
        {
            tracing::error!(error = %failed, "streams could not be read back and start anew");
        }
        StepFailed(format!("no bar of this request was taken: {error}"))
    }
}

/// Further back than revisions go, and not a repeat.
fn is_too_old(history: &History, bar: &Bar, keep_bars: usize) -> bool {
    let held =
        history.series.bars().rev().take(keep_bars.saturating_add(1)).any(|b| b.open_time == bar.open_time);
    !held && history.series.get(bar.open_time).is_some_and(|b| !b.same_content(bar))
}

fn abstained(code: u16, text: &str) -> store::Outcome {
    let mut end = text.len().min(store::REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    store::Outcome::Abstained { code, text: text[..end].to_string() }
}

pub fn read_finite(deployment: &Deployment, outputs: Option<&[f32]>) -> store::Outcome {
    let Some(outputs) = outputs else { return abstained(ABSTAINED_NOT_FINITE, "the plan failed") };
    let values = deployment.about.terms.reading.values(outputs);
    if values.iter().all(|v| v.is_finite()) {
        store::Outcome::Values(values)
    } else {
        abstained(ABSTAINED_NOT_FINITE, "the model's output is not a finite number")
    }
}
