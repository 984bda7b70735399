//! Who watches the rows of the deployment table: outcomes go into each row's tests, what they find is written to the event
//! log, and [`super::policy`] says what is done about it. What has been read is kept in a file beside the models, so that
//! the tests go on over restarts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use learn::live::cusum::Side;
use learn::live::degrade::DegradeRules;
use learn::live::sequential::Verdict;
use learn::live::shift::ShiftSettings;
use market::Timestamp;
use registry::{Author, Manifest, Reference, Version, Which};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Entry, RealisedRecord, Record, SpoolHandle};

use super::compare::{Comparison, SavedComparison};
use super::inputs::{self, Streams};
use super::job::Job;
use super::policy::{Action, Rules, Situation, decide};
use super::watch::{SavedWatch, Watch};
use crate::config::Settings;
use crate::events::{Event, EventKind, Events};
use crate::load::Parts;

/// How the manager signs.
const WHO: &str = "manager";
/// What is kept of the tests, in the folder of models.
const FILE: &str = "management.json";
/// How often features are compared with those of training: it reads the spool.
const SHIFT_INTERVAL: Duration = Duration::from_secs(3600);
/// Of one comparison of features; more bars aren't held.
const SHIFT_BARS_MAX: usize = 2_000_000;

/// A row whose models are aliases of one name.
struct Row {
    champion: Reference,
    challenger: Option<Reference>,
    watch: Option<(u32, Watch)>,
    /// Of which versions, the challenger of the test last, and the test.
    comparison: Option<(Pair, Comparison)>,
    kept: Kept,
}

/// What is known of a row over restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Kept {
    watch: Option<(u32, SavedWatch)>,
    comparison: Option<(Pair, SavedComparison)>,
    /// The alarms that were written down.
    told: Vec<String>,
    /// Drift that a training was begun for.
    answered: Option<String>,
    shifted: Option<String>,
    refused: Option<u32>,
    trained_at: Option<Timestamp>,
}

/// Whom a test compares: its champion and its challenger, and whether that is the row's champion, tested against the
/// version before it. A promotion begins a new test of the same two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    champion: u32,
    challenger: u32,
    of_promoted: bool,
}

/// What goes on in a process of its own.
struct Work {
    job: Job,
    row: usize,
    /// Of a judgement: the candidate and the champion.
    judged: Option<(u32, Option<u32>)>,
    /// Of a training: the drift that it answers.
    drift: Option<String>,
}

/// The versions that serve in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    pub row: u32,
    pub champion: Option<u32>,
    pub challenger: Option<u32>,
}

pub struct Overseer {
    settings: Arc<Settings>,
    parts: Arc<Parts>,
    /// `None`: it can't be read, and nothing is done that couldn't be written down.
    events: Option<Events>,
    /// Arguments that gave this process its settings, for those that it starts.
    origin: Vec<String>,
    rows: HashMap<u32, Row>,
    work: Option<Work>,
    file: PathBuf,
    shift_looked: Option<Instant>,
    /// Whether the spool's outcomes were read, and the newest due time of those.
    has_read: bool,
    until: Option<Timestamp>,
    /// Trainings that somebody asked for.
    asked: BTreeSet<String>,
}

impl Overseer {
    pub fn new(
        settings: Arc<Settings>,
        parts: Arc<Parts>,
        events: Option<Events>,
        origin: Vec<String>,
    ) -> Self {
        let file = settings.raw.models.folder.join(FILE);
        let mut kept: BTreeMap<String, Kept> = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(file = %file.display(), %error, "it can't be read: tests of models begin anew");
                BTreeMap::new()
            }),
            Err(_) => BTreeMap::new(),
        };
        let mut rows = HashMap::new();
        for (row, d) in settings.deployments.iter().enumerate() {
            if !matches!(d.model.which, Which::Alias(_)) {
                continue;
            }
            let is_alias = |r: &&Reference| r.name == d.model.name && matches!(r.which, Which::Alias(_));
            let challenger = d.challenger.as_ref().map(|(reference, _)| reference).filter(is_alias).cloned();
            let mut kept = kept.remove(&d.model.to_string()).unwrap_or_default();
            if kept.trained_at.is_none() {
                kept.trained_at = events.as_ref().and_then(|events| last_training(events, &d.model.name));
            }
            let one = Row {
                champion: d.model.clone(),
                challenger,
                watch: kept.watch.clone().map(|(v, saved)| (v, Watch::resume(saved))),
                comparison: kept.comparison.clone().map(|(v, saved)| (v, Comparison::resume(saved))),
                kept,
            };
            rows.insert(u32::try_from(row).unwrap_or(u32::MAX), one);
        }
        Overseer {
            settings,
            parts,
            events,
            origin,
            rows,
            work: None,
            file,
            shift_looked: None,
            has_read: false,
            until: None,
            asked: BTreeSet::new(),
        }
    }

    pub fn note(&self, kind: EventKind, model: &str, why: &str, detail: Value) {
        if let Some(events) = &self.events
            && let Err(error) = events.append(&Event::now(kind, WHO, model, why, detail))
        {
            tracing::error!(%error, model, why, "an event was not written");
        }
    }

    /// New outcomes, in the spool's order.
    pub fn observe(&mut self, serving: &[Serving], records: &[Arc<RealisedRecord>]) {
        let serving = &self.of_one_name(serving);
        if self.has_read {
            // What begins now is about what comes now: after a restart the spool gives all of it again.
            self.until = self.until.max(records.iter().map(|record| record.due_open_time).max());
        }
        for at in serving {
            if let Err(error) = self.follow(at) {
                tracing::warn!(row = at.row, %error, "a row isn't watched");
            }
        }
        self.has_read = true;
        self.until = self.until.max(records.iter().map(|record| record.due_open_time).max());
        for record in records {
            for row in self.rows.values_mut().filter(|row| row.champion.name == record.model.name) {
                if let Some((_, watch)) = &mut row.watch {
                    watch.observe(record);
                }
                if let Some((_, comparison)) = &mut row.comparison {
                    comparison.observe(record);
                }
            }
        }
    }

    /// A challenger that is no alias of the champion's name is left to itself: its numbers are another model's.
    fn of_one_name(&self, serving: &[Serving]) -> Vec<Serving> {
        let has_place = |at: &Serving| self.rows.get(&at.row).is_some_and(|row| row.challenger.is_some());
        let one = |at: &Serving| Serving { challenger: at.challenger.filter(|_| has_place(at)), ..*at };
        serving.iter().map(one).collect()
    }

    /// The tests are of the models that serve.
    fn follow(&mut self, at: &Serving) -> Result<(), String> {
        let Some(row) = self.rows.get_mut(&at.row) else { return Ok(()) };
        let Some(champion) = at.champion else { return Ok(()) };
        let name = &row.champion.name;
        let manifest = |version: u32| -> Result<Manifest, String> {
            let loaded = self.parts.registry.load(name, Version::Number(version));
            loaded.map(|folder| folder.manifest).map_err(|e| e.to_string())
        };
        if row.watch.as_ref().is_none_or(|(version, _)| *version != champion) {
            let manifest = manifest(champion)?;
            let watch = Watch::new(&manifest, DegradeRules::default())?;
            row.watch = Some((champion, watch.after(self.until)));
            row.kept.trained_at = row.kept.trained_at.or(Timestamp::parse(&manifest.created_at).ok());
            (row.kept.shifted, row.kept.answered) = (None, None);
            row.kept.told.clear();
        }
        let Some(challenger) = at.challenger else {
            row.comparison = None;
            return Ok(());
        };
        let before = before(&self.parts, &row.champion);
        // Of two versions the newer arrival is tested: a candidate, or the champion against the one before it.
        let pair = match before == Some(challenger) {
            true => Pair { champion: challenger, challenger: champion, of_promoted: true },
            false => Pair { champion, challenger, of_promoted: false },
        };
        if row.comparison.as_ref().is_none_or(|(versions, _)| *versions != pair) {
            let level = self.settings.raw.management.level;
            row.comparison = {
                let (one, other) = (manifest(pair.champion)?, manifest(pair.challenger)?);
                Some((pair, Comparison::new(&one, &other, level)?.after(self.until)))
            };
            row.kept.refused = None;
        }
        Ok(())
    }

    /// What was found is written down, and done about. True: an alias may have moved.
    pub fn act(
        &mut self,
        serving: &[Serving],
        asked: &[String],
        spool: impl Fn() -> Option<SpoolHandle>,
    ) -> bool {
        let serving = &self.of_one_name(serving);
        let mut moved = self.finish_work();
        self.asked.extend(asked.iter().cloned());
        let raw = &self.settings.raw.management;
        let rules = Rules {
            automatic: raw.automatic && self.events.is_some(),
            retrain_hours: raw.retrain_hours,
            retrain_on_drift: raw.retrain_on_drift,
        };
        if self.shift_looked.is_none_or(|at| at.elapsed() >= SHIFT_INTERVAL) {
            self.shift_looked = Some(Instant::now());
            self.look_at_features(serving, spool);
        }
        for at in serving {
            let Some(situation) = self.situation(at) else { continue };
            let action = decide(&situation, &rules);
            match self.carry_out(at, &situation, action) {
                Ok(did) => moved |= did,
                Err(error) => tracing::error!(row = at.row, %error, "the manager"),
            }
        }
        self.keep();
        moved
    }

    /// `None`: nothing is known, or the place doesn't hold what its alias points at.
    fn situation(&mut self, at: &Serving) -> Option<Situation> {
        let (events, parts, busy) = (self.events.clone(), self.parts.clone(), self.work.is_some());
        let row = self.rows.get_mut(&at.row)?;
        let champion = at.champion?;
        let history = parts.registry.history(&row.champion.name).ok()?;
        let is_at = |reference: &Reference, version: Option<u32>| match &reference.which {
            Which::Alias(alias) => history.at(alias) == version,
            Which::Latest | Which::Number(_) => false,
        };
        if !is_at(&row.champion, at.champion)
            || (at.challenger.is_some() && !row.challenger.as_ref().is_some_and(|c| is_at(c, at.challenger)))
        {
            return None;
        }
        let model = format!("{}/{champion}", row.champion.name);
        let before = before(&parts, &row.champion);
        let is_before = at.challenger.is_some() && at.challenger == before;
        let comparison = row.comparison.as_ref().map(|(_, comparison)| comparison);
        let (_, watch) = row.watch.as_ref()?;
        let verdict = watch.verdict(comparison.filter(|_| is_before));
        let broken = verdict.criteria.iter().filter(|c| !c.holds);
        let take_back: Vec<String> = broken.map(|c| format!("{}: {}", c.name, c.found)).collect();
        let report = watch.report();
        let mut tell = |kind: EventKind, about: String, why: &str, detail: Value| {
            if row.kept.told.contains(&about) {
                return;
            }
            match events.as_ref().map(|events| events.append(&Event::now(kind, WHO, &model, why, detail))) {
                None | Some(Ok(_)) => row.kept.told.push(about),
                Some(Err(error)) => tracing::error!(%error, why, "an event was not written"),
            }
        };
        let alarm = report.cusum.alarm.filter(|alarm| alarm.side == Side::Up);
        let larger = alarm
            .map(|a| format!("larger losses since block {}, found at block {}", a.since_blocks, a.blocks));
        if let Some(why) = &larger {
            tell(EventKind::DriftAlarm, why.clone(), why, json!({ "cusum": report.cusum }));
        }
        if let Some(why) = row.kept.shifted.clone() {
            tell(EventKind::DriftAlarm, why.clone(), &why, json!({}));
        }
        if !take_back.is_empty() {
            let why = format!("found to do worse than it should: {}", take_back.join("; "));
            tell(EventKind::DriftAlarm, "take back".into(), &why, json!({ "criteria": verdict }));
        }
        let test = comparison.filter(|_| !is_before).map(|comparison| comparison.report());
        if let Some(report) = test.as_ref().filter(|report| report.test.verdict != Verdict::Undecided) {
            let why =
                format!("{} was found {} than {}", report.challenger, report.test.verdict.name(), model);
            let detail = json!({ "test": report.test, "counts": report.counts, "loss": report.loss });
            tell(EventKind::AbDecision, format!("{} {why}", report.challenger), &why, detail);
        }
        let drift = larger.or_else(|| row.kept.shifted.clone());
        let hours = |at: Timestamp| (Timestamp::now().0.saturating_sub(at.0)) as f64 / 3.6e12;
        Some(Situation {
            before,
            challenger: at.challenger,
            test: test.map(|report| report.test.verdict),
            refused: at.challenger.is_some() && row.kept.refused == at.challenger,
            take_back,
            drift: drift.filter(|found| row.kept.answered.as_ref() != Some(found)),
            trained_hours_ago: row.kept.trained_at.map(hours),
            has_place: row.challenger.is_some(),
            asked: self.asked.contains(&row.champion.name),
            busy,
        })
    }

    fn carry_out(&mut self, at: &Serving, known: &Situation, action: Action) -> Result<bool, String> {
        let Some(row) = self.rows.get_mut(&at.row) else { return Ok(false) };
        let name = row.champion.name.clone();
        let (Which::Alias(alias), champion) = (row.champion.which.clone(), at.champion) else {
            return Ok(false);
        };
        let now = Timestamp::now().to_string();
        let registry = &self.parts.registry;
        let challenger_alias = match row.challenger.as_ref().map(|r| &r.which) {
            Some(Which::Alias(alias)) => alias.clone(),
            _ => String::new(),
        };
        match action {
            Action::Nothing => Ok(false),
            Action::RollBack { why } => {
                let author = Author { at: &now, who: WHO, why: &short(&why) };
                let change = registry.roll_back(&name, &alias, author).map_err(|e| e.to_string())?;
                let model = format!("{name}/{}", change.to.unwrap_or_default());
                let detail = json!({ "alias": alias, "from": change.from, "to": change.to });
                tracing::warn!(%model, %why, "rolled back");
                self.note(EventKind::RolledBack, &model, &why, detail);
                Ok(true)
            }
            Action::Dismiss { why } => {
                let author = Author { at: &now, who: WHO, why: &short(&why) };
                registry.remove_alias(&name, &challenger_alias, author).map_err(|e| e.to_string())?;
                let model = format!("{name}/{}", known.challenger.unwrap_or_default());
                self.note(EventKind::Refused, &model, &why, json!({ "alias": challenger_alias }));
                Ok(true)
            }
            Action::Judge { why } => {
                let candidate = known.challenger.unwrap_or_default();
                let latency = self.settings.raw.management.latency_us.to_string();
                let arguments = [
                    "promote",
                    &format!("models:/{name}/{candidate}"),
                    "--to",
                    &alias,
                    "--latency-us",
                    &latency,
                ];
                self.begin(at.row, &arguments, &why, Some((candidate, champion)))?;
                Ok(false)
            }
            Action::Retrain { why } => {
                let arguments = ["retrain", &format!("models:/{name}@{alias}"), "--alias", &challenger_alias];
                self.begin(at.row, &arguments, &why, None)?;
                self.asked.remove(&name);
                if let Some(work) = &mut self.work {
                    work.drift = known.drift.clone();
                }
                Ok(false)
            }
        }
    }

    fn begin(
        &mut self,
        row: u32,
        arguments: &[&str],
        why: &str,
        judged: Option<(u32, Option<u32>)>,
    ) -> Result<(), String> {
        let mut all: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        all.extend(["--from-spool", "--json", "--who", WHO, "--why"].map(String::from));
        all.push(short(why));
        for file in &self.settings.raw.management.bars {
            all.extend(["--bars".into(), file.display().to_string()]);
        }
        tracing::info!(arguments = all.join(" "), "begins");
        let job = Job::start(&self.origin, &all)?;
        self.work = Some(Work { job, row: row as usize, judged, drift: None });
        Ok(())
    }

    /// After a promotion the version before runs along in the challenger's place.
    fn finish_work(&mut self) -> bool {
        let Some(ended) = self.work.as_mut().and_then(|work| work.job.ended()) else { return false };
        let Some(Work { row, judged, drift, .. }) = self.work.take() else { return false };
        let Some(row) = self.rows.get_mut(&(row as u32)) else { return true };
        tracing::info!(row = %row.champion, ended_well = ended, "a job ended");
        if judged.is_none() {
            // Also where it failed: the next one waits for its time, or for other drift.
            row.kept.trained_at = Some(Timestamp::now());
            row.kept.answered = drift.or(row.kept.answered.take());
        }
        match (judged, &row.challenger) {
            (Some((candidate, _)), _) if !ended => row.kept.refused = Some(candidate),
            (Some((_, Some(old))), Some(Reference { name, which: Which::Alias(alias) })) => {
                let (now, why) =
                    (Timestamp::now().to_string(), "runs along, should the promotion be taken back");
                let author = Author { at: &now, who: WHO, why };
                if let Err(error) = self.parts.registry.set_alias(name, alias, old, author) {
                    tracing::warn!(%error, "the version before doesn't run along");
                }
            }
            _ => {}
        }
        true
    }

    fn look_at_features(&mut self, serving: &[Serving], spool: impl Fn() -> Option<SpoolHandle>) {
        let Some(handle) = spool() else { return };
        let mut all = Streams::new();
        for (count, entry) in handle.read(0).enumerate() {
            let Ok(Entry { record: Record::Bar(record), .. }) = entry else { continue };
            if count > SHIFT_BARS_MAX {
                tracing::warn!("the spool holds too many bars to compare features with those of training");
                return;
            }
            all.entry(record.bar.key.clone()).or_default().insert(record.bar.open_time, record.bar);
        }
        for at in serving {
            let (Some(row), Some(version)) = (self.rows.get_mut(&at.row), at.champion) else { continue };
            let deployed = &self.settings.deployments[at.row as usize];
            let covers = |key: &market::StreamKey| {
                key.timeframe == deployed.timeframe
                    && deployed.symbols.as_ref().is_none_or(|s| s.contains(&key.symbol))
            };
            let streams: Streams = all
                .iter()
                .filter(|(key, _)| covers(key))
                .map(|(k, bars)| (k.clone(), bars.clone()))
                .collect();
            let found = self.parts.registry.load(&row.champion.name, Version::Number(version));
            let report = found.map_err(|e| e.to_string()).and_then(|folder| {
                let mut features = self.parts.features(&self.settings, &folder.manifest)?;
                let report =
                    inputs::shift(&folder.manifest, &mut features, &streams, ShiftSettings::default())?;
                Ok(report.map(|report| (report, folder.manifest.features.names)))
            });
            match report {
                Ok(Some((report, names))) => {
                    let name = |column: u32| names.get(column as usize).map_or("?", String::as_str);
                    let shifted: Vec<&str> = report.shifted.iter().map(|s| name(s.column)).collect();
                    let text = format!("other features than in training: {}", shifted.join(", "));
                    // Once for a champion: the next look may name others.
                    if row.kept.shifted.is_none() && !shifted.is_empty() {
                        row.kept.shifted = Some(text);
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(row = %row.champion, %error, "features aren't compared"),
            }
        }
    }

    /// Reports of every row, for those who look.
    pub fn reports(&self) -> Value {
        let mut rows: Vec<(&u32, &Row)> = self.rows.iter().collect();
        rows.sort_by_key(|(number, _)| **number);
        let report = |(number, row): (&u32, &Row)| {
            let comparison = row.comparison.as_ref().map(|(_, comparison)| {
                let report = comparison.report();
                json!({ "champion": report.champion, "challenger": report.challenger, "loss": report.loss,
                        "champion_loss": report.champion_loss, "challenger_loss": report.challenger_loss,
                        "test": report.test, "counts": report.counts })
            });
            json!({
                "row": number,
                "deployed_as": row.champion.to_string(),
                "watch": row.watch.as_ref().map(|(_, watch)| watch.report()),
                "comparison": comparison,
                "shifted_features": row.kept.shifted,
                "trained_at": row.kept.trained_at.map(|t| t.to_string()),
            })
        };
        Value::Array(rows.into_iter().map(report).collect())
    }

    /// Whole or not at all: a kill leaves the file of the time before.
    fn keep(&mut self) {
        let mut all = BTreeMap::new();
        for row in self.rows.values_mut() {
            row.kept.watch = row.watch.as_ref().map(|(v, watch)| (*v, watch.saved()));
            row.kept.comparison = row.comparison.as_ref().map(|(v, comparison)| (*v, comparison.saved()));
            all.insert(row.champion.to_string(), row.kept.clone());
        }
        if all.is_empty() {
            return;
        }
        let new = self.file.with_extension("json.new");
        let written = serde_json::to_vec(&all)
            .map_err(std::io::Error::other)
            .and_then(|bytes| std::fs::write(&new, bytes))
            .and_then(|()| std::fs::rename(&new, &self.file));
        if let Err(error) = written {
            tracing::warn!(file = %self.file.display(), %error, "what is known of models isn't kept");
        }
    }
}

fn before(parts: &Parts, champion: &Reference) -> Option<u32> {
    let Which::Alias(alias) = &champion.which else { return None };
    parts.registry.history(&champion.name).ok()?.before(alias)
}

/// From the event log, where nothing else is known.
fn last_training(events: &Events, name: &str) -> Option<Timestamp> {
    let of_it = |model: &str| model.split('/').next() == Some(name);
    let events = events.read().ok()?;
    let trained = events.iter().rev().map(|r| &r.event);
    trained.filter(|e| e.kind == EventKind::RetrainingStarted && of_it(&e.model)).map(|e| e.at).next()
}

/// For the history of an alias.
fn short(why: &str) -> String {
    let plain = why.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut text = String::new();
    for c in plain {
        if text.len() + c.len_utf8() > registry::history::WHY_BYTES_MAX {
            break;
        }
        text.push(c);
    }
    text
}
