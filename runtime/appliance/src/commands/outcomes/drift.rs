//! `alphaplus outcomes --drift`: each model against what it promised, and its features against the training rows.

use std::collections::{BTreeMap, BTreeSet};

use learn::live::degrade::{DegradeRules, DegradeVerdict};
use learn::live::shift::{ShiftReport, ShiftSettings};
use market::StreamKey;
use registry::{ModelFolder, Reference};
use serde_json::{Value, json};
use store::{Entry, RealisedRecord, Record};

use crate::cli::Outcomes;
use crate::config::Settings;
use crate::load::Parts;
use crate::manage::inputs::{self, Streams};
use crate::manage::watch::{Watch, WatchReport};

/// More bars are refused.
const BARS_MAX: usize = 2_000_000;

struct Drift {
    watch: WatchReport,
    verdict: DegradeVerdict,
    names: Vec<String>,
    /// Why there is none, else the report.
    features: Result<ShiftReport, String>,
}

/// `found`: by due time, each in its newest revision.
pub(super) fn run(settings: &Settings, args: &Outcomes, found: &[RealisedRecord]) -> Result<(), String> {
    let parts = Parts::new(settings)?;
    let mut models: BTreeMap<String, BTreeSet<StreamKey>> = BTreeMap::new();
    for record in found {
        let model = format!("{}/{}", record.model.name, record.model.version);
        models.entry(model).or_default().insert(record.key.clone());
    }
    if models.is_empty() {
        return Err(format!("there are no such outcomes in {}", settings.raw.store.folder.display()));
    }
    let bars = bars(settings)?;
    let mut told = Vec::new();
    for (model, keys) in &models {
        let reference = Reference::parse(model).map_err(|e| e.to_string())?;
        let folder = parts.registry.load_reference(&reference).map_err(|e| e.to_string())?;
        let mut watch = Watch::new(&folder.manifest, DegradeRules::default())?;
        found.iter().for_each(|record| _ = watch.observe(record));
        watch.finish();
        let streams: Streams =
            keys.iter().filter_map(|key| Some((key.clone(), bars.get(key)?.clone()))).collect();
        told.push(Drift {
            watch: watch.report(),
            verdict: watch.verdict(None),
            names: folder.manifest.features.names.clone(),
            features: features(settings, &parts, &folder, &streams),
        });
    }
    if args.json {
        println!("{}", json!({ "drift": told.iter().map(as_json).collect::<Vec<_>>() }));
    } else {
        told.iter().for_each(print);
    }
    Ok(())
}

fn features(
    settings: &Settings,
    parts: &Parts,
    folder: &ModelFolder,
    streams: &Streams,
) -> Result<ShiftReport, String> {
    let mut features = parts.features(settings, &folder.manifest)?;
    let report = inputs::shift(&folder.manifest, &mut features, streams, ShiftSettings::default())?;
    report.ok_or_else(|| "the manifest has no profile of the training rows: train the model again".into())
}

/// The newest revision of every bar in the spool.
fn bars(settings: &Settings) -> Result<Streams, String> {
    let mut streams = Streams::new();
    let mut count = 0;
    for entry in store::read_folder(&settings.raw.store.folder).map_err(|e| e.to_string())? {
        let Entry { record, .. } = entry.map_err(|e| e.to_string())?;
        let Record::Bar(record) = record else { continue };
        count += 1;
        if count > BARS_MAX {
            return Err(format!(
                "the spool holds more than {BARS_MAX} bars, and --drift holds them in memory: lower store.history_hours"
            ));
        }
        streams.entry(record.bar.key.clone()).or_default().insert(record.bar.open_time, record.bar);
    }
    Ok(streams)
}

fn as_json(drift: &Drift) -> Value {
    let features = match &drift.features {
        Ok(report) => json!(report),
        Err(reason) => json!({ "absent": reason }),
    };
    json!({ "outcomes": drift.watch, "take_back": drift.verdict, "feature_names": drift.names, "features": features })
}

fn print(drift: &Drift) {
    let WatchReport { model, loss, counts, .. } = &drift.watch;
    println!("{model}: {} outcomes, {} without a value; loss is {loss}", counts.outcomes, counts.void);
    if let (Some(level), Some(coverage)) = (drift.watch.level, drift.watch.coverage) {
        println!("  intervals of {level} cover {coverage:.4}");
    }
    for criterion in &drift.verdict.criteria {
        let holds = if criterion.holds { "holds" } else { "BROKEN" };
        println!("  {holds:<7} {}: {}", criterion.name, criterion.found);
    }
    match &drift.features {
        Err(reason) => println!("  features aren't watched: {reason}"),
        Ok(report) => shifts(report, &drift.names),
    }
}

fn shifts(report: &ShiftReport, names: &[String]) {
    let name = |column: u32| names.get(column as usize).map_or("?", String::as_str);
    let windows: Vec<String> = report
        .lengths
        .iter()
        .map(|length| {
            let tested = length.tests.iter().filter(|t| t.p_value.is_some()).count();
            format!("{} of {} steps (last: {tested} features tested)", length.windows, length.window_steps)
        })
        .collect();
    let verdict = if report.shifted.is_empty() { "holds" } else { "BROKEN" };
    println!(
        "  {verdict:<7} features as in training, level {}: windows {}",
        report.level,
        windows.join(", ")
    );
    for shifted in &report.shifted {
        println!(
            "          {} moved by {:+.2} in rank, distance {:.2} over {} steps until {}, p = {:.1e} (below {:.1e})",
            name(shifted.column),
            shifted.moved,
            shifted.distance,
            shifted.window_steps,
            shifted.until,
            shifted.p_value,
            shifted.needed
        );
    }
}
