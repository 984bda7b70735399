//! `alphaplus explain`: which features, at which steps, make a model's predictions.

mod stored;

use indicatif::ProgressBar;
use learn::explain::{Explainer, Importance};
use registry::Manifest;
use serde_json::json;

use super::bars::read;
use crate::cli::Explain;
use crate::config::Settings;
use crate::deployment::Seat;
use crate::heatmap;
use crate::live::{Fed, Live};
use crate::load::Parts;

/// Lines of the table.
const SHOWN: usize = 20;

pub fn run(settings: &Settings, args: &Explain) -> Result<(), String> {
    if args.stored {
        return stored::run(settings, args);
    }
    let parts = Parts::new(settings)?;
    let folder = parts.model(&args.model)?;
    let streams = read(&args.bars, None, None, !args.json)?;
    let manifest = folder.manifest.clone();
    let graph = parts.graph(&folder)?;
    let executor = parts.executor_of(&manifest, &graph)?;
    let mut explainer =
        Explainer::new(&executor, &graph, args.output, args.points).map_err(|e| e.to_string())?;
    let timeframe = streams.first().map(|s| s.0.timeframe).ok_or("there are no bars")?;
    let mut deployment = parts.serve(settings, &folder, Seat::alone(&args.model, timeframe), 0)?;
    let unit = deployment.about.terms.reading.output_scale().scale;
    let mut importance = Importance::new(manifest.input.window as usize, manifest.input.features as usize);
    let total: usize = streams.iter().map(|(_, bars)| bars.len().min(args.last as usize)).sum();
    let bar = if args.json { ProgressBar::hidden() } else { ProgressBar::new(total as u64) };
    for (_, bars) in &streams {
        let mut live = Live::new(deployment.empty_window.clone(), deployment.warmup(), 0);
        let normaliser = deployment.normaliser.clone();
        live.open(deployment.features.as_mut()).map_err(|e| e.to_string())?;
        for (i, one) in bars.iter().enumerate() {
            let apply = |row: &mut [f32]| normaliser.apply(row);
            let (fed, _) = live.push(deployment.features.as_mut(), &apply, one).map_err(|e| e.to_string())?;
            if i + (args.last as usize) < bars.len() {
                continue;
            }
            bar.inc(1);
            if let (Fed::Ready, Some(window)) = (fed, live.window()) {
                let explained = explainer.explain(window).map_err(|e| e.to_string())?;
                importance.add(&explained, unit);
            }
        }
        live.close(deployment.features.as_mut());
    }
    bar.finish_and_clear();
    if importance.windows == 0 {
        let need = deployment.warmup() + deployment.window;
        return Err(format!("no window is full: a stream needs {need} bars"));
    }
    show(args, &deployment.about.model, &manifest, &importance)
}

/// As a table or JSON, and as a picture where one is asked for.
fn show(args: &Explain, model: &str, manifest: &Manifest, importance: &Importance) -> Result<(), String> {
    if let Some(path) = &args.svg {
        let title = format!("{model}: mean |attribution| over {} windows", importance.windows);
        let svg = heatmap::svg(&title, importance, &manifest.features.names)?;
        std::fs::write(path, svg).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    if args.json {
        let value = json!({"model": model, "names": manifest.features.names, "importance": importance});
        println!("{value}");
    } else {
        print!("{}", table(model, manifest, importance));
    }
    Ok(())
}

fn table(model: &str, manifest: &Manifest, importance: &Importance) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let residual = if importance.change > 0.0 { importance.residual / importance.change } else { 0.0 };
    let _ = writeln!(
        text,
        "{model}: {} over {} bars, {} windows; integrated gradients from each feature's mean in training\n\
         predictions differ from the baseline's by {:.3e} on average; {:.2} % of that is not attributed\n",
        manifest.label.kind.name(),
        manifest.label.horizon_bars,
        importance.windows,
        importance.change,
        100.0 * residual,
    );
    let ranked = importance.ranked();
    let _ = writeln!(text, "{:<26} {:>7} {:>12}", "feature", "share", "mean");
    for &(feature, share) in ranked.iter().take(SHOWN) {
        let name = manifest.features.names.get(feature).map_or("?", String::as_str);
        let length = (share * 60.0).round() as usize;
        let signed = importance.signed_by_feature[feature];
        let _ = writeln!(text, "{name:<26} {:>6.1} % {signed:>12.3e} {}", 100.0 * share, "█".repeat(length));
    }
    if ranked.len() > SHOWN {
        let rest: f64 = ranked[SHOWN..].iter().map(|r| r.1).sum();
        let _ = writeln!(text, "{} more {:>25.1} %", ranked.len() - SHOWN, 100.0 * rest);
    }
    let steps = importance.by_step();
    let newest = |count: usize| 100.0 * steps.iter().rev().take(count).sum::<f64>();
    let counts = [1, 5, 20].into_iter().filter(|&n| n < steps.len());
    let shares: Vec<String> = counts.map(|n| format!("{n}: {:.1} %", newest(n))).collect();
    if !shares.is_empty() {
        let _ = writeln!(text, "\nshare of the newest steps of {}: {}", steps.len(), shares.join(", "));
    }
    text
}
