//! The manager: a thread that keeps the deployment table as its aliases point. Where one has moved, the version it points
//! at is loaded, checked and warmed here, and takes over between two steps of the data path (`swap.rs`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use market::{Bar, StreamKey};
use registry::{LoadError, Reference, Version, Which};
use serde_json::json;
use slab::Slab;
use store::{Record, SpoolHandle};

use super::overseer::{Overseer, Serving};
use super::table::{Line, ModelLine, Table};
use crate::config::Settings;
use crate::deployment::{Deployment, Seat};
use crate::events::EventKind;
use crate::history;
use crate::inference::Inference;
use crate::load::Parts;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::priority;
use crate::queue::{BarQueue, PredictQueue, PredictWork};
use crate::recover::Scanned;
use crate::swap::{self, Copied, Warm};
use crate::visible::Visible;

/// Streams that are warmed before the first one moves: what fails there fails the swap.
const TRIED_FIRST: usize = 256;
/// Streams of one order to the data path, which waits no longer than these take.
const COPIED_AT_ONCE: usize = 8;
const MOVED_AT_ONCE: usize = 4;
/// How often a stream that changed meanwhile is warmed anew before its next bar has to.
const ATTEMPTS: usize = 5;
/// Lower than the data path's: the manager has time.
const NICENESS: i32 = 10;

/// One place of the table and what is in it.
struct Place {
    reference: Reference,
    seat: Arc<Seat>,
    running: Option<Running>,
    failed: Option<Obstacle>,
}

/// Why a version couldn't take over.
#[derive(Debug, PartialEq)]
struct Obstacle {
    version: u32,
    reason: String,
    /// It may be gone at the next look, without another move of the alias.
    passes: bool,
}

#[derive(Clone)]
struct Running {
    /// Of the data path.
    index: usize,
    version: u32,
    line: ModelLine,
}

/// What the manager works with.
pub struct Means {
    pub visible: Arc<Visible>,
    /// Who watches the rows.
    pub overseer: Overseer,
    pub settings: Arc<Settings>,
    pub parts: Arc<Parts>,
    pub bars: BarQueue,
    pub predict: PredictQueue,
    pub inference: Arc<Inference>,
    pub metrics: Arc<Metrics>,
    pub table: Arc<Table>,
}

pub struct Manager {
    means: Means,
    places: Vec<Place>,
}

/// The data path has stopped.
struct Stopped;

/// Why a swap didn't happen.
enum Failed {
    Stopped,
    Because { reason: String, passes: bool },
}

impl From<Stopped> for Failed {
    fn from(_: Stopped) -> Self {
        Failed::Stopped
    }
}

impl From<String> for Failed {
    fn from(reason: String) -> Self {
        Failed::Because { reason, passes: false }
    }
}

impl Manager {
    /// `deployments`: what the data path begins with.
    pub fn new(means: Means, deployments: &Slab<Deployment>) -> Self {
        let rows = means.settings.deployments.iter().enumerate();
        let places = rows.flat_map(|(row, d)| d.seats(row)).map(|(reference, seat)| {
            let there = deployments.iter().find(|(_, d)| *d.seat == seat);
            let running = there.map(|(index, d)| Running {
                index,
                version: d.name().version.parse().unwrap_or(0),
                line: ModelLine::of(d),
            });
            Place { reference, seat: seat.into(), running, failed: None }
        });
        let manager = Manager { places: places.collect(), means };
        manager.show();
        manager
    }

    /// Looks at the aliases at each interval, and whenever it is woken, until `stop`.
    pub fn run(mut self, woken: &Receiver<()>, stop: &AtomicBool) {
        priority::lower(NICENESS, "the manager");
        let interval = Duration::from_millis(self.means.settings.raw.models.check_ms);
        let mut overseen: Option<Instant> = None;
        while !stop.load(Ordering::Acquire) {
            match woken.recv_timeout(interval) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if stop.load(Ordering::Acquire) || self.look().is_err() {
                return;
            }
            let between = Duration::from_millis(self.means.settings.raw.management.check_ms);
            let asked = self.means.table.asked();
            if !asked.is_empty() || overseen.is_none_or(|at| at.elapsed() >= between) {
                self.oversee(&asked);
                overseen = Some(Instant::now());
            }
        }
    }

    /// New outcomes to the tests, and what follows from them.
    fn oversee(&mut self, asked: &[String]) {
        let mut serving: Vec<Serving> = Vec::new();
        for place in &self.places {
            let (row, version) = (place.seat.row, place.running.as_ref().map(|r| r.version));
            match serving.iter_mut().find(|s| s.row == row) {
                Some(s) if place.seat.challenger.is_some() => s.challenger = version,
                Some(_) => {}
                None => serving.push(Serving { row, champion: version, challenger: None }),
            }
        }
        let records = self.means.visible.outcomes.unread();
        self.means.overseer.observe(&serving, &records);
        let bars = self.means.bars.clone();
        let moved = self.means.overseer.act(&serving, asked, || bars.ask(|pipeline| pipeline.spool.handle()));
        self.means.table.report(self.means.overseer.reports());
        if moved {
            self.means.table.look();
        }
    }

    /// Brings every place to what its alias points at.
    fn look(&mut self) -> Result<(), Stopped> {
        for at in 0..self.places.len() {
            let Some(wanted) = self.wanted(at) else { continue };
            let place = &self.places[at];
            let running = place.running.as_ref().map(|r| r.version);
            if wanted == running {
                if self.places[at].failed.take().is_some() {
                    self.show();
                }
                continue;
            }
            if place.failed.as_ref().is_some_and(|failed| Some(failed.version) == wanted && !failed.passes) {
                continue;
            }
            let done = match wanted {
                Some(version) => self.bring(at, version),
                None => self.clear(at),
            };
            match done {
                Ok(()) => self.places[at].failed = None,
                Err(Failed::Stopped) => return Err(Stopped),
                Err(Failed::Because { reason, passes }) => {
                    let place = &mut self.places[at];
                    let failed = wanted.map(|version| Obstacle { version, reason, passes });
                    if place.failed != failed {
                        let (deployed_as, problem) = (&place.reference, failed.as_ref().map(|f| &f.reason));
                        tracing::error!(%deployed_as, ?wanted, ?problem, "it goes on with what it has");
                        self.means.metrics.swapped("failed");
                    }
                    place.failed = failed;
                }
            }
            self.show();
        }
        Ok(())
    }

    /// The version that the place is to hold: `Some(None)` is none. `None`: what it has, since it isn't an alias, or
    /// its history can't be read now.
    fn wanted(&self, at: usize) -> Option<Option<u32>> {
        let Place { reference, seat, .. } = &self.places[at];
        let Which::Alias(alias) = &reference.which else { return None };
        let target = match self.means.parts.registry.history(&reference.name) {
            Ok(history) => history.at(alias),
            Err(error) => {
                tracing::warn!(%reference, %error, "where it points can't be seen");
                return None;
            }
        };
        match (target, &seat.challenger) {
            (None, None) => {
                // A row without its model would answer nothing: it keeps the one it has.
                None
            }
            (target, None) => Some(target),
            // The champion of the same name may be that very version.
            (target, Some(_)) => {
                let same_row = |p: &&Place| p.seat.row == seat.row && p.seat.challenger.is_none();
                let champion = self.places.iter().find(same_row)?;
                let is_champion = |version: &u32| {
                    champion.reference.name == reference.name
                        && champion.running.as_ref().is_some_and(|r| r.version == *version)
                };
                Some(target.filter(|version| !is_champion(version)))
            }
        }
    }

    fn bring(&mut self, at: usize, version: u32) -> Result<(), Failed> {
        let name = self.places[at].reference.name.clone();
        let model = format!("{name}/{version}");
        let meets = |p: &Place| {
            p.running.as_ref().is_some_and(|r| *r.line.model == *model) && p.seat.meets(&self.places[at].seat)
        };
        match (0..self.places.len()).find(|&i| i != at && meets(&self.places[i])) {
            Some(other) if self.places[other].seat.row == self.places[at].seat.row => {
                self.exchange(at, other)
            }
            Some(other) => Err(Failed::Because {
                reason: format!(
                    "{model} serves some of these symbols already, as {}",
                    self.places[other].reference
                ),
                passes: true,
            }),
            None => self.swap(at, version),
        }
    }

    /// The two models of a row change places: nothing is loaded.
    fn exchange(&mut self, one: usize, other: usize) -> Result<(), Failed> {
        let (Some(a), Some(b)) = (self.places[one].running.clone(), self.places[other].running.clone())
        else {
            return Err("one of the two isn't there".to_string().into());
        };
        let (first, second) = (a.index, b.index);
        self.means.bars.ask(move |pipeline| pipeline.exchange(first, second)).ok_or(Stopped)?;
        let seats = (self.places[one].seat.clone(), self.places[other].seat.clone());
        self.change_predict(move |list| {
            for d in list.iter_mut() {
                if d.seat == seats.0 {
                    d.seat = seats.1.clone();
                } else if d.seat == seats.1 {
                    d.seat = seats.0.clone();
                }
            }
        });
        tracing::info!(deployed_as = %self.places[one].reference, model = %b.line.model, "took the other's place");
        let why = format!("{} points at it", self.places[one].reference);
        let detail = json!({ "deployed_as": self.places[one].reference.to_string(), "before": a.version });
        self.means.overseer.note(EventKind::Swapped, &b.line.model, &why, detail);
        self.places[one].running = Some(b);
        self.places[other].running = Some(a);
        self.means.metrics.swapped("exchanged");
        Ok(())
    }

    fn swap(&mut self, at: usize, version: u32) -> Result<(), Failed> {
        let started = Instant::now();
        let Place { reference, seat, running, .. } = &self.places[at];
        let Means { settings, parts, .. } = &self.means;
        let folder = parts.registry.load(&reference.name, Version::Number(version)).map_err(text)?;
        let seat = Seat::clone(seat);
        let places = settings.raw.serving.sliding_streams_max;
        let deployment = parts.serve(settings, &folder, seat.clone(), places)?;
        deployment.warn_of_what_it_lacks();
        let mut twin = parts.serve(settings, &folder, seat, 0)?;
        let line = ModelLine::of(&twin);
        let of_row = self.places.iter().filter(|p| p.seat.row == self.places[at].seat.row);
        if let Some(other) = of_row.filter_map(|p| p.running.as_ref()).find(|r| r.line.label != line.label) {
            return Err(Failed::from(format!(
                "{} predicts {} and {} predicts {}: deploy it in a row of its own",
                line.model, line.label, other.line.model, other.line.label
            )));
        }
        let old = running.as_ref().map(|r| r.index);
        let running_before = running.as_ref().map(|r| r.version);
        let mut warm = Warming { means: &self.means, twin: &mut twin, older: HashMap::new() };
        let keys = warm.lacking(None)?;
        let streams = keys.len();
        let first = &keys[..streams.min(TRIED_FIRST)];
        let mut ready = Vec::new();
        for keys in first.chunks(COPIED_AT_ONCE) {
            for copied in warm.copies(keys)? {
                ready.push(warm.one(copied)?);
            }
        }
        let index = self.means.bars.ask(move |pipeline| pipeline.install(deployment, old)).ok_or(Stopped)?;
        let mut changed = warm.hand_over(index, old, ready)?;
        for attempt in 0..ATTEMPTS {
            // At first all that are left, those that changed among them.
            let changed_before = std::mem::take(&mut changed);
            let keys = if attempt == 0 { warm.lacking(Some(index))? } else { changed_before };
            for keys in keys.chunks(MOVED_AT_ONCE) {
                let copies = warm.copies(keys)?;
                let streams = copies.into_iter().filter_map(|copied| warm.one(copied).ok()).collect();
                changed.extend(warm.hand_over(index, old, streams)?);
            }
        }
        // Streams that change all the time.
        for key in warm.lacking(Some(index))? {
            let here = move |pipeline: &mut Pipeline| pipeline.take_over_here(index, old, &[key]);
            if let Err(error) = self.means.bars.ask(here).ok_or(Stopped)? {
                tracing::error!(%error, "a swap");
            }
        }
        if let Some(old) = old {
            self.dismiss(old)?;
        }
        self.change_predict(move |list| match list.iter_mut().find(|d| d.seat == twin.seat) {
            Some(held) => *held = twin,
            None => list.push(twin),
        });
        let place = &mut self.places[at];
        place.running = Some(Running { index, version, line: line.clone() });
        let ms = started.elapsed().as_millis() as u64;
        let (why, old) = (format!("{} points at it", place.reference), running_before);
        let detail = json!({ "deployed_as": place.reference.to_string(), "before": old, "streams": streams, "ms": ms });
        self.means.overseer.note(EventKind::Swapped, &line.model, &why, detail);
        tracing::info!(deployed_as = %place.reference, model = %line.model, streams, ms, "took over");
        self.means.metrics.swapped("done");
        Ok(())
    }

    /// The place is to be empty.
    fn clear(&mut self, at: usize) -> Result<(), Failed> {
        let Some(running) = self.places[at].running.take() else { return Ok(()) };
        let seat = self.places[at].seat.clone();
        let index = running.index;
        let leave = move |pipeline: &mut Pipeline| {
            if let Some(deployment) = pipeline.deployments.get_mut(index) {
                deployment.leaving = true;
            }
        };
        self.means.bars.ask(leave).ok_or(Stopped)?;
        self.dismiss(index)?;
        let taken_back = seat.clone();
        self.means.bars.ask(move |pipeline| pipeline.visible.take_back(&taken_back)).ok_or(Stopped)?;
        self.change_predict(move |list| list.retain(|d| d.seat != seat));
        tracing::info!(deployed_as = %self.places[at].reference, model = %running.line.model, "serves no more");
        self.means.metrics.swapped("removed");
        Ok(())
    }

    /// Off the data path; its memory is given back here.
    fn dismiss(&self, index: usize) -> Result<(), Stopped> {
        let bars = &self.means.bars;
        loop {
            let keys = bars.ask(move |pipeline| pipeline.served_by(index)).ok_or(Stopped)?;
            for keys in keys.chunks(64) {
                let keys = keys.to_vec();
                bars.ask(move |pipeline| pipeline.release(index, &keys)).ok_or(Stopped)?;
            }
            if let Some(gone) = bars.ask(move |pipeline| pipeline.remove(index)).ok_or(Stopped)? {
                drop(gone);
                return Ok(());
            }
        }
    }

    fn change_predict(&self, change: impl FnOnce(&mut Vec<Deployment>) + Send + 'static) {
        // Gone only when the appliance stops.
        let _ = self.means.predict.sender.send(PredictWork::Change(Box::new(change)));
    }

    /// What the HTTP side sees.
    fn show(&self) {
        let lines = self.places.iter().map(|place| Line {
            seat: place.seat.clone(),
            model: place.running.as_ref().map(|r| r.line.clone()),
            problem: place.failed.as_ref().map(|f| format!("version {}: {}", f.version, f.reason)),
        });
        let lines: Vec<Line> = lines.collect();
        let models =
            lines.iter().filter_map(|l| l.model.as_ref().map(|m| m.model.clone())).collect::<Vec<_>>();
        self.means.inference.pin(&models);
        self.means.table.set(lines);
    }
}

/// Streams on their way to a new model, in the manager's thread.
struct Warming<'a> {
    means: &'a Means,
    twin: &'a mut Deployment,
    /// Of streams that hold too few bars: those before, from the spool.
    older: HashMap<StreamKey, Vec<(u64, Bar)>>,
}

impl Warming<'_> {
    fn keep_bars(&self) -> usize {
        self.means.settings.raw.serving.revision_depth_bars
    }

    /// Bars that the model needs of a stream.
    fn needed(&self) -> usize {
        let live = history::capacity_bars(self.twin.warmup(), self.twin.window, self.keep_bars());
        live.max(self.twin.about.terms.bars(self.keep_bars()))
    }

    fn lacking(&self, index: Option<usize>) -> Result<Vec<StreamKey>, Stopped> {
        let seat = self.twin.seat.clone();
        self.means.bars.ask(move |pipeline| pipeline.lacking(&seat, index)).ok_or(Stopped)
    }

    fn copies(&mut self, keys: &[StreamKey]) -> Result<Vec<Copied>, Failed> {
        let (keys, needed) = (keys.to_vec(), self.needed());
        let copies = self.means.bars.ask(move |pipeline| pipeline.copy(&keys, needed)).ok_or(Stopped)?;
        if copies.iter().any(|copied| copied.is_short && !self.older.contains_key(&copied.key)) {
            self.read_older()?;
        }
        Ok(copies)
    }

    /// The bars of all streams of the model, as deep as it needs them.
    fn read_older(&mut self) -> Result<(), Failed> {
        let handle: SpoolHandle = self.means.bars.ask(|pipeline| pipeline.spool.handle()).ok_or(Stopped)?;
        let mut scanned: HashMap<StreamKey, Scanned> = HashMap::new();
        let needed = self.needed();
        for entry in handle.read(0) {
            // What is damaged there was told of at the start.
            let Ok(store::Entry { position, record: Record::Bar(record) }) = entry else { continue };
            let key = &record.bar.key;
            if self.twin.covers(key) {
                let stream = scanned.entry(key.clone()).or_insert_with(|| Scanned::new(key.clone(), needed));
                stream.bar(position, record.bar, record.backfill);
            }
        }
        for (key, stream) in scanned {
            let bars = stream.history.series.bars().cloned();
            self.older.insert(key, stream.positions.iter().copied().zip(bars).collect());
        }
        Ok(())
    }

    fn older(&self, copied: &Copied) -> Vec<(u64, Bar)> {
        let Some(first) = copied.bars.first().filter(|_| copied.is_short) else { return Vec::new() };
        let all = self.older.get(&copied.key).map(Vec::as_slice).unwrap_or_default();
        all.iter().filter(|(_, bar)| bar.open_time < first.open_time).cloned().collect()
    }

    fn one(&mut self, copied: Copied) -> Result<Warm, String> {
        let (older, keep_bars) = (self.older(&copied), self.keep_bars());
        swap::warm(self.twin, copied, older, keep_bars)
    }

    /// Those that have changed since.
    fn hand_over(
        &self,
        index: usize,
        old: Option<usize>,
        mut streams: Vec<Warm>,
    ) -> Result<Vec<StreamKey>, Failed> {
        let mut changed = Vec::new();
        while !streams.is_empty() {
            let rest = streams.split_off(streams.len().min(MOVED_AT_ONCE));
            let some = std::mem::replace(&mut streams, rest);
            let moved = self.means.bars.ask(move |pipeline| pipeline.take_over(index, old, some));
            match moved.ok_or(Stopped)? {
                Ok(again) => changed.extend(again),
                // The streams are under the new model all the same.
                Err(error) => tracing::error!(%error, "a swap"),
            }
        }
        Ok(changed)
    }
}

fn text(error: LoadError) -> String {
    error.to_string()
}
