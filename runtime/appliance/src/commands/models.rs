//! `alphaplus models ls|show`.

use crate::cli::Models;
use crate::config::Settings;
use crate::load::Parts;

pub fn run(settings: &Settings, command: &Models) -> Result<(), String> {
    let parts = Parts::new(settings)?;
    match command {
        Models::Ls => list(settings, &parts),
        Models::Show { model } => show(&parts, model),
    }
}

fn list(settings: &Settings, parts: &Parts) -> Result<(), String> {
    let listing = parts.registry.list().map_err(|e| e.to_string())?;
    if listing.models.is_empty() {
        println!("no models in {}: train one with `alphaplus train`", settings.raw.models.folder.display());
    }
    println!("{:<28} {:<22} {:<10} {:<24} trained", "MODEL", "PREDICTS", "TIMEFRAME", "SKILL OVER NAIVE");
    for model in &listing.models {
        for version in &model.versions {
            let text = format!("{}/{version}", model.name);
            match parts.model(&text) {
                Ok(folder) => {
                    let m = &folder.manifest;
                    let label = format!("{} +{}", m.label.kind.name(), m.label.horizon_bars);
                    let skill =
                        m.metrics.model.skill.map_or("–".into(), |i| {
                            format!("{:.3} [{:.3}, {:.3}]", i.value, i.low, i.high)
                        });
                    println!("{text:<28} {label:<22} {:<10} {skill:<24} {}", m.data.timeframe, m.created_at);
                }
                Err(error) => println!("{text:<28} damaged: {error}"),
            }
        }
    }
    for stray in &listing.strays {
        println!("not a model: {}", stray.display());
    }
    Ok(())
}

fn show(parts: &Parts, model: &str) -> Result<(), String> {
    let folder = parts.model(model)?;
    let m = &folder.manifest;
    println!("model         {}/{}, trained {}", m.name, m.version, m.created_at);
    println!("folder        {}", folder.path.display());
    println!("predicts      {} over {} bars", m.label.kind.name(), m.label.horizon_bars);
    println!("architecture  {} {}", m.architecture.plugin, m.architecture.hyper);
    println!(
        "features      {} ({} columns, warm-up {})",
        m.features.plugin,
        m.features.names.len(),
        m.features.warmup
    );
    println!("input         {} bars of {} features", m.input.window, m.input.features);
    println!(
        "data          {}, {} bars of {} {}",
        m.data.description,
        m.data.rows,
        m.data.symbols.join(", "),
        m.data.timeframe
    );
    for (name, range) in
        [("train", &m.data.train), ("validation", &m.data.validation), ("test", &m.data.test)]
    {
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
    println!("digest        {}", folder.digest);
    Ok(())
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
