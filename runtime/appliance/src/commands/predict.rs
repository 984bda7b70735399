//! `alphaplus predict`: the newest bars of a file through a model, as serving would.

use market::Timestamp;

use super::bars::read;
use crate::cli::Predict;
use crate::config::Settings;
use crate::deployment::Deployment;
use crate::deployment::Seat;
use crate::live::{Fed, Live};
use crate::load::Parts;

/// Value, and where the model is calibrated confidence and interval.
fn line(deployment: &Deployment, outputs: &[f32]) -> String {
    let terms = &deployment.about.terms;
    let values = terms.reading.values(outputs);
    let mut line = terms.reading.value(&values).to_string();
    if let Some((class, probability)) = terms.reading.class(&values) {
        line = format!("{class} ({probability:.3}) {line}");
    }
    let quantile = terms.calibration.as_ref().map(|c| c.quantile);
    if let Some(u) = quantile.and_then(|q| terms.uncertainty(&values, q)) {
        let percent = u.level * 100.0;
        line += &format!(" confidence {:.3} {percent} % interval [{}, {}]", u.confidence, u.low, u.high);
    }
    line
}

pub fn run(settings: &Settings, args: &Predict) -> Result<(), String> {
    let parts = Parts::new(settings)?;
    let folder = parts.model(&args.model)?;
    let streams = read(&args.bars, None, None, true)?;
    let label = folder.manifest.label;
    let timeframe = streams.first().map(|s| s.0.timeframe).ok_or("there are no bars")?;
    let mut deployment = parts.serve(settings, &folder, Seat::alone(&args.model, timeframe), 0)?;
    println!("{} over {} bars", label.kind.name(), label.horizon_bars);
    if deployment.about.terms.calibration.is_some() {
        println!("confidence: the probability that {}", deployment.about.terms.reading.confidence_of());
    }
    for (key, bars) in &streams {
        let mut live = Live::new(deployment.empty_window.clone(), deployment.warmup(), 0);
        let normaliser = deployment.normaliser.clone();
        live.open(deployment.features.as_mut()).map_err(|e| e.to_string())?;
        for (i, bar) in bars.iter().enumerate() {
            let apply = |row: &mut [f32]| normaliser.apply(row);
            let (fed, _) = live.push(deployment.features.as_mut(), &apply, bar).map_err(|e| e.to_string())?;
            if i + args.last < bars.len() {
                continue;
            }
            let as_of: Timestamp = bar.close_time();
            match (fed, live.window()) {
                (Fed::Ready, Some(window)) => {
                    let mut outputs = Vec::new();
                    deployment.runner.run(window, &mut outputs).map_err(|e| e.to_string())?;
                    println!("{key} {as_of} {}", line(&deployment, &outputs));
                }
                (Fed::Warming { have, need }, _) => println!("{key} {as_of} warming up {have}/{need}"),
                (Fed::Ready, None) => return Err("the window is not full".into()),
            }
        }
        live.close(deployment.features.as_mut());
    }
    Ok(())
}
