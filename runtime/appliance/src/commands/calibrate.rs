//! `alphaplus models calibrate`: interval and confidence of a model that is there already, as its next version.

use learn::dataset::{Dataset, bars_digest};
use learn::label::LabelRecipe;
use learn::normalise::Normaliser;
use learn::recalibrate::{self, Parts as Cut, PartsRecipe, Seen};
use market::{Bar, StreamKey, Timestamp};
use registry::{Calibration, Manifest, Range, Source, Unseen};

use super::bars::{read, said};
use super::models::{calibrated, republish};
use crate::cli::Calibrate;
use crate::config::Settings;
use crate::load::Parts;

pub fn run(settings: &Settings, parts: &Parts, args: &Calibrate) -> Result<(), String> {
    if !(args.interval_level > 0.0 && args.interval_level < 1.0) {
        return Err("--interval-level must be between 0 and 1".into());
    }
    if !(args.confidence_factor.is_finite() && args.confidence_factor > 1.0) {
        return Err("--confidence-factor must be a number above 1".into());
    }
    let time = |t: &Option<String>| t.as_deref().map(Timestamp::parse).transpose();
    let recipe = PartsRecipe {
        from: time(&args.from)?,
        until: time(&args.until)?,
        test_share: args.test_share,
        embargo_bars: args.embargo,
        seen: match (args.held_out, args.allow_overlap) {
            (true, _) => Seen::LeaveOut,
            (false, true) => Seen::Use,
            (false, false) => Seen::Refuse,
        },
    };
    let folder = parts.model(&args.model)?;
    let of = format!("{}/{}", folder.manifest.name, folder.manifest.version);
    let streams = read(&args.bars, None, None, true)?;
    let dataset = dataset(settings, parts, &folder.manifest, &streams)?;
    let seen = recalibrate::seen_by(&folder.manifest).map_err(|e| e.to_string())?;
    let cut = recipe.cut(&dataset, seen).map_err(|e| e.to_string())?;
    tell(&of, &cut, seen.is_some());

    let level = args.interval_level;
    let reading = recalibrate::reading(&folder.manifest, level, args.confidence_factor, &dataset);
    // What is calibrated is what serves: the precision, and tract where tract runs it.
    let mut runner = parts.runner(&folder, 0)?;
    let mut on = |samples: &[usize]| {
        let mut run =
            |windows: &[f32], values: &mut Vec<f32>| runner.run(windows, values).map_err(|e| e.to_string());
        recalibrate::outcomes(&reading, &dataset, samples, &mut run).map_err(|e| e.to_string())
    };
    let (fitted_on, tested_on) = (on(&cut.fit)?, on(&cut.test)?);
    let mut calibration = recalibrate::calibrate(&reading, level, &fitted_on, &tested_on)
        .map_err(|e| format!("{of} was not calibrated: {e}"))?;
    calibration.source = Some(source(&of, &folder.manifest, &streams, args, &dataset, &cut));
    publish(parts, folder, &of, calibration, &reading)
}

/// All samples that the bars give, normalised as the model wants it.
fn dataset(
    settings: &Settings,
    parts: &Parts,
    manifest: &Manifest,
    streams: &[(StreamKey, Vec<Bar>)],
) -> Result<Dataset, String> {
    if let Some((key, _)) =
        streams.iter().find(|(key, _)| key.timeframe.to_string() != manifest.data.timeframe)
    {
        return Err(format!("the model is of {} bars and these are of {key}", manifest.data.timeframe));
    }
    let mut features = parts.features(settings, manifest)?;
    let bars: Vec<&[Bar]> = streams.iter().map(|s| s.1.as_slice()).collect();
    let label = LabelRecipe::from_manifest(&manifest.label);
    let window = manifest.input.window as usize;
    let mut dataset = Dataset::build(&bars, &mut features, window, &label).map_err(|e| e.to_string())?;
    dataset.normalise(&Normaliser::from_manifest(&manifest.normaliser));
    Ok(dataset)
}

fn tell(of: &str, cut: &Cut, known: bool) {
    let (fit, test) = (said(cut.fit.len() as u64), said(cut.test.len() as u64));
    eprintln!("{of}: calibrated on {fit} samples, measured on {test} that come after them");
    if cut.seen_left_out > 0 {
        let count = said(cut.seen_left_out as u64);
        eprintln!("left out: {count} samples that training or early stopping has seen");
    }
    if cut.seen_used > 0 {
        let count = said(cut.seen_used as u64);
        eprintln!(
            "{count} of them are samples that training or early stopping has seen: intervals may be too narrow"
        );
    }
    if !known {
        eprintln!(
            "{of} was imported: whether it was trained on these bars isn't known; if so, intervals are too narrow"
        );
    }
}

fn source(
    of: &str,
    manifest: &Manifest,
    streams: &[(StreamKey, Vec<Bar>)],
    args: &Calibrate,
    dataset: &Dataset,
    cut: &Cut,
) -> Source {
    let range = |samples: &[usize]| {
        let time = |i: Option<&usize>| i.map_or(Timestamp::default(), |&i| dataset.samples[i].time);
        Range {
            from: time(samples.first()).to_string(),
            until: Timestamp(time(samples.last()).0.saturating_add(1)).to_string(),
            samples: samples.len() as u64,
        }
    };
    let name = |path: &std::path::PathBuf| {
        path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let bars: Vec<&[Bar]> = streams.iter().map(|s| s.1.as_slice()).collect();
    Source {
        model: of.into(),
        weights: manifest.files.get("model.onnx").cloned().unwrap_or_default(),
        description: args.bars.files.iter().map(name).collect::<Vec<_>>().join(", "),
        digest: bars_digest(&bars),
        unseen: match (manifest.is_foreign(), cut.seen_used) {
            (true, _) => Unseen::NotKnown,
            (false, 0) => Unseen::Yes,
            (false, _) => Unseen::No,
        },
        fitted: range(&cut.fit),
        tested: range(&cut.test),
    }
}

fn publish(
    parts: &Parts,
    mut folder: registry::ModelFolder,
    of: &str,
    calibration: Calibration,
    reading: &learn::Reading,
) -> Result<(), String> {
    let shown = calibrated(reading, &calibration);
    folder.manifest.calibration = Some(calibration);
    let name = folder.manifest.name.clone();
    let published = republish(parts, &folder)?;
    println!("{name}/{} is {of} with the same weights and this calibration", published.version);
    println!("{shown}");
    println!("aliases stay where they are: alphaplus models alias {name} champion {}", published.version);
    Ok(())
}
