//! `alphaplus models`: list, show, export, store-as; other commands have files of their own.

use std::path::{Path, PathBuf};

use graph::GraphCodec;
use learn::reading::Reading;
use market::Timestamp;
use registry::{Calibration, ModelFolder, Output, Published, Reliability, ReliabilityBin, Unseen};

use registry::{Manifest, Reference, Version};
use serde_json::json;

use super::{alias, calibrate, compare, import};
use crate::cli::{self, Models, StoreAs};
use crate::config::Settings;
use crate::load::Parts;
use crate::precision;

pub fn run(settings: &Settings, command: &Models) -> Result<(), String> {
    let parts = Parts::new(settings)?;
    match command {
        Models::List { json } => list(settings, &parts, *json),
        Models::Show { model } => show(&parts, model),
        Models::Alias(args) => alias::set(settings, &parts.registry, args),
        Models::Rollback(args) => alias::roll_back(settings, &parts.registry, args),
        Models::History { name, alias, json } => {
            alias::history(&parts.registry, name, alias.as_deref(), *json)
        }
        Models::Compare(args) => compare::run(&parts, args),
        Models::Export { model, out } => export(&parts, model, out.as_deref()),
        Models::Import(args) => import::run(settings, &parts, args),
        Models::StoreAs(args) => store_as(&parts, args),
        Models::Calibrate(args) => calibrate::run(settings, &parts, args),
        Models::TryFile(args) => import::try_file(&parts, args),
    }
}

fn export(parts: &Parts, model: &str, out: Option<&Path>) -> Result<(), String> {
    let reference = Reference::parse(model).map_err(|e| e.to_string())?;
    let folder = parts.registry.load_reference(&reference).map_err(|e| e.to_string())?;
    let Manifest { name, version, features, architecture, .. } = &folder.manifest;
    let path = out.map_or_else(|| PathBuf::from(format!("{name}-{version}.tar")), Path::to_path_buf);
    let exported =
        parts.registry.export(name, Version::Number(*version), &path).map_err(|e| e.to_string())?;
    println!(
        "{name}/{version} is in {} ({} bytes, SHA-256 {})",
        path.display(),
        exported.bytes,
        exported.digest
    );
    println!(
        "where it is to serve, plugins.folders must hold {} (SHA-256 {})",
        features.plugin, features.digest
    );
    if !folder.manifest.is_foreign() {
        println!("and to train it again {} (SHA-256 {})", architecture.plugin, architecture.digest);
    }
    Ok(())
}

fn store_as(parts: &Parts, args: &StoreAs) -> Result<(), String> {
    let folder = parts.model(&args.model)?;
    let graph = parts.served_graph(&folder)?;
    let mut manifest = folder.manifest.clone();
    let stored = match args.precision {
        cli::Precision::F32 => registry::Precision::F32,
        cli::Precision::Bf16 => registry::Precision::Bf16,
        cli::Precision::Int8 => registry::Precision::Int8,
    };
    let error = parts.precision_error(&manifest, &graph, stored)?;
    let name = precision::of(stored).name();
    let of = format!("{}/{}", manifest.name, manifest.version);
    let recurrent = |node: &graph::Node| matches!(node.op, graph::Op::Lstm { .. } | graph::Op::Gru { .. });
    if stored != registry::Precision::F32 && !graph.nodes.iter().any(recurrent) {
        return Err(format!("{of} has no recurrent layer, and nothing else is stored otherwise than in f32"));
    }
    if !error.is_finite() {
        return Err(format!(
            "in {name} {of} gives what isn't a number where it gives one in f32, or the reverse"
        ));
    }
    let tolerance = args.tolerance.unwrap_or(manifest.serving.device_tolerance);
    if error > tolerance || tolerance.is_nan() {
        return Err(format!(
            "in {name} the outputs of {of} differ from f32 by up to {error:.2e} standard deviations of the label, and \
             {tolerance:.2e} are taken: if so much is right, say --tolerance {:.0e}",
            error * 2.0
        ));
    }
    manifest.serving.precision = stored;
    manifest.serving.precision_error = (stored != registry::Precision::F32).then_some(error);
    manifest.serving.device_tolerance = tolerance;
    let model = manifest.name.clone();
    let published = republish(parts, &ModelFolder { manifest, ..folder })?;
    println!(
        "{model}/{} serves {of} in {name}: its outputs differ from f32 by up to {error:.2e} standard deviations of \
         the label, over made-up windows",
        published.version
    );
    Ok(())
}

/// The files of a version under its manifest as it is now, as the next version.
pub fn republish(parts: &Parts, folder: &ModelFolder) -> Result<Published, String> {
    let names: Vec<&String> = folder.manifest.files.keys().collect();
    let read = |name: &&String| {
        let path = folder.path.join(name);
        std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))
    };
    let contents = names.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let files: Vec<(&str, &[u8])> =
        names.iter().map(|name| name.as_str()).zip(contents.iter().map(Vec::as_slice)).collect();
    let manifest = Manifest { created_at: Timestamp::now().to_string(), ..folder.manifest.clone() };
    parts.registry.publish(manifest, &files).map_err(|e| e.to_string())
}

fn list(settings: &Settings, parts: &Parts, as_json: bool) -> Result<(), String> {
    let listing = parts.registry.list().map_err(|e| e.to_string())?;
    if as_json {
        return list_json(parts, &listing);
    }
    if listing.models.is_empty() {
        println!("no models in {}: train one with `alphaplus train`", settings.raw.models.folder.display());
    }
    println!(
        "{:<28} {:<20} {:<22} {:<10} {:<24} made",
        "MODEL", "ALIASES", "PREDICTS", "TIMEFRAME", "SKILL OVER NAIVE"
    );
    for model in &listing.models {
        let history = parts.registry.history(&model.name);
        for version in &model.versions {
            let text = format!("{}/{version}", model.name);
            let aliases = history.as_ref().map(|h| aliases_of(h, *version)).unwrap_or_default().join(" ");
            match parts.model(&text) {
                Ok(folder) => {
                    let m = &folder.manifest;
                    let label = format!("{} +{}", m.label.kind.name(), m.label.horizon_bars);
                    let skill = match m.metrics.model.skill {
                        Some(i) => format!("{:.3} [{:.3}, {:.3}]", i.value, i.low, i.high),
                        None if m.is_foreign() => "imported, not judged".into(),
                        None => "–".into(),
                    };
                    println!(
                        "{text:<28} {aliases:<20} {label:<22} {:<10} {skill:<24} {}",
                        m.data.timeframe, m.created_at
                    );
                }
                Err(error) => println!("{text:<28} damaged: {error}"),
            }
        }
        if let Err(error) = history {
            println!("{}: its aliases can't be read: {error}", model.name);
        }
    }
    for stray in &listing.strays {
        println!("not a model: {}", stray.display());
    }
    Ok(())
}

/// "@champion", of a version.
fn aliases_of(history: &registry::History, version: u32) -> Vec<String> {
    let here = history.aliases().filter(|&(_, at)| at == version);
    here.map(|(alias, _)| format!("@{alias}")).collect()
}

fn list_json(parts: &Parts, listing: &registry::Listing) -> Result<(), String> {
    let mut models = Vec::new();
    for model in &listing.models {
        let history = parts.registry.history(&model.name).map_err(|e| e.to_string())?;
        let aliases: serde_json::Map<_, _> =
            history.aliases().map(|(alias, version)| (alias.to_string(), version.into())).collect();
        models.push(json!({ "name": model.name, "versions": model.versions, "aliases": aliases }));
    }
    println!("{}", json!({ "models": models }));
    Ok(())
}

fn show(parts: &Parts, model: &str) -> Result<(), String> {
    let folder = parts.model(model)?;
    let m = &folder.manifest;
    let made = if m.is_foreign() { "imported" } else { "trained" };
    println!("model         {}/{}, {made} {}", m.name, m.version, m.created_at);
    let history = parts.registry.history(&m.name).map_err(|e| e.to_string())?;
    let aliases = aliases_of(&history, m.version);
    if !aliases.is_empty() {
        println!("aliases       {}", aliases.join(" "));
    }
    println!("folder        {}", folder.path.display());
    let band = m.label.dead_band.map_or(String::new(), |band| format!(", flat within {band}"));
    println!("predicts      {} over {} bars{band}", m.label.kind.name(), m.label.horizon_bars);
    let levels = match &m.output {
        Output::Quantiles { levels } => format!(" {levels:?}"),
        Output::Point | Output::Probabilities => String::new(),
    };
    println!("output        {}{levels}", m.output.name());
    match &m.foreign {
        None => println!("architecture  {} {}", m.architecture.plugin, m.architecture.hyper),
        Some(foreign) => {
            println!("file          ONNX by {}, opset {}", foreign.producer, foreign.opset);
            println!("  SHA-256     {}", foreign.digest);
            println!("runs          {}", import::runs_on(foreign.runs));
        }
    }
    println!(
        "features      {} ({} columns, warm-up {})",
        m.features.plugin,
        m.features.names.len(),
        m.features.warmup
    );
    println!("input         {} bars of {} features", m.input.window, m.input.features);
    if m.is_foreign() {
        println!("data          {}, for bars of {}", m.data.description, m.data.timeframe);
        println!("training      not known, nor how good it is: it was made elsewhere");
    } else {
        let graph = parts.codec.decode(&folder.onnx).map_err(|e| format!("{model}: {e}"))?;
        for (name, value) in graph.outputs.iter().filter(|(name, _)| name != plugin::OUTPUT) {
            println!("also gives    {name} {}, not while it serves", graph.shape(*value));
        }
        trained(m);
    }
    match &m.calibration {
        Some(calibration) => println!("{}", calibrated(&Reading::from_manifest(m), calibration)),
        None => println!("not calibrated: {}", crate::deployment::UNCALIBRATED),
    }
    if let Some(error) = m.serving.precision_error {
        println!("stored as     {}, up to {error:.2e} from f32", precision::of(m.serving.precision));
    }
    println!("digest        {}", folder.digest);
    Ok(())
}

/// What it was trained on, how, and how it did.
fn trained(m: &Manifest) {
    println!(
        "data          {}, {} bars of {} {}",
        m.data.description,
        m.data.rows,
        m.data.symbols.join(", "),
        m.data.timeframe
    );
    let parts = [
        ("train", Some(&m.data.train)),
        ("validation", Some(&m.data.validation)),
        ("calibration", m.data.calibration.as_ref()),
        ("test", Some(&m.data.test)),
    ];
    for (name, range) in parts.iter().filter_map(|(name, range)| Some((name, (*range)?))) {
        println!("  {name:<11} {} to {} ({} samples)", range.from, range.until, range.samples);
    }
    println!(
        "training      {} epochs, the best {}, seed {}",
        m.training.epochs, m.training.best_epoch, m.training.seed
    );
    println!("  train       {}", curve(&m.training.train_curve));
    println!("  validation  {}", curve(&m.training.validation_curve));
    for (name, s) in [("model", &m.metrics.model), ("ridge", &m.metrics.ridge), ("naive", &m.metrics.naive)] {
        let skill = s
            .skill
            .map_or(String::new(), |i| format!("  skill {:.4} [{:.4}, {:.4}]", i.value, i.low, i.high));
        println!("{name:<13} RMSE {:.5e}  MAE {:.5e}  MASE {:.4}{skill}", s.rmse, s.mae, s.mase);
    }
}

/// A line of block characters, and its ends in figures.
pub fn curve(values: &[f64]) -> String {
    let blocks = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (low, high) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
    let level = |v: f64| if high > low { ((v - low) / (high - low) * 7.0).round() as usize } else { 0 };
    let line: String = values.iter().map(|&v| blocks[level(v).min(7)]).collect();
    match (values.first(), values.last()) {
        (Some(first), Some(last)) => format!("{first:.5} {line} {last:.5}"),
        _ => "–".into(),
    }
}

/// The bars of a later calibration.
fn bars_of(source: &registry::Source) -> String {
    let unseen = match source.unseen {
        Unseen::Yes => "which training hasn't seen",
        Unseen::No => "some of which training has seen",
        Unseen::NotKnown => "and whether it was trained on them isn't known",
    };
    let registry::Source { description, fitted, tested, .. } = source;
    format!(
        "{description}, {} to {}, fitted on from {} to {}, {unseen}",
        tested.from, tested.until, fitted.from, fitted.until
    )
}

/// How the interval and the confidence did where they were measured.
pub fn calibrated(reading: &Reading, calibration: &Calibration) -> String {
    let Reliability { coverage, coverage_adaptive, width, width_adaptive, .. } = calibration.test;
    let Reliability { samples, confidence, right, brier, calibration_error, .. } = calibration.test;
    let percent = calibration.level * 100.0;
    let mut text = format!(
        "calibrated on {} samples, measured on {samples} of {}:\n\
         {percent} % interval   split: covers {coverage:.4}, mean width {width:.4e}; adaptive: covers \
         {coverage_adaptive:.4}, mean width {width_adaptive:.4e}\n\
         confidence      that {}\n                mean {confidence:.4}, right {right:.4}, Brier score {brier:.4}, \
         calibration error {calibration_error:.4}\nconfidence -> right:",
        calibration.samples,
        calibration.source.as_ref().map_or("the test part".into(), bars_of),
        reading.confidence_of(),
    );
    for ReliabilityBin { confidence, right, .. } in &calibration.test.bins {
        text += &format!("  {confidence:.3} -> {right:.3}");
    }
    text
}
