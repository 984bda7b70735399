//! `alphaplus tune show|ls|ledger`: studies and the trials ledger, looked at.

use std::path::Path;

use learn::tune::{Outcome, Record, Space, Trial, importances};
use registry::{Ledger, Registry};
use serde_json::json;

use super::objective::Objective;
use super::watch::spoken;
use super::work::trial_key;
use crate::commands::bars::said;
use crate::commands::train::question;
use crate::config::Settings;
use crate::plot;

/// One study.
pub fn show(settings: &Settings, study: &str, svg: Option<&Path>, as_json: bool) -> Result<(), String> {
    let path = super::journal(settings, study)?;
    let record = super::read(&path, study)?;
    if as_json {
        println!("{}", as_value(&record));
    } else {
        table(&record);
        summary(&record);
        counted(settings, &path, &record)?;
    }
    if let Some(file) = svg {
        std::fs::write(file, history(&record)?).map_err(|e| format!("{}: {e}", file.display()))?;
        eprintln!("{}", file.display());
    }
    Ok(())
}

/// The parameters that differ between trials.
pub fn parameters(space: &Space, trial: &Trial) -> String {
    let free = |name: &str| space.domain(name).is_some_and(|domain| domain.count() != Some(1));
    let shown = trial.parameters.iter().filter(|(name, _)| free(name));
    shown.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn table(record: &Record) {
    let has_latency = record.trials.iter().any(|trial| trial.latency_us.is_some());
    let latency = if has_latency { format!(" {:>10}", "P99 us") } else { String::new() };
    println!(
        "{:>5} {:<10} {:>10}{latency} {:>6} {:>8}  PARAMETERS",
        "TRIAL", "STATE", "VALUE", "EPOCHS", "TIME"
    );
    for trial in &record.trials {
        let value = match trial.outcome() {
            Some(Outcome::Complete { value }) => format!("{value:.5}"),
            Some(Outcome::Pruned) => {
                trial.reports.last().map_or("–".into(), |(_, value)| format!("({value:.5})"))
            }
            _ => "–".into(),
        };
        let latency = match (has_latency, trial.latency_us) {
            (true, Some(us)) => format!(" {us:>10.2}"),
            (true, None) => format!(" {:>10}", "–"),
            (false, _) => String::new(),
        };
        let why = match trial.outcome() {
            Some(Outcome::Failed { reason }) => format!("  ({reason})"),
            _ if trial.attempts > 1 => format!("  (attempt {})", trial.attempts),
            _ => String::new(),
        };
        println!(
            "{:>5} {:<10} {value:>10}{latency} {:>6} {:>8}  {}{why}",
            trial.number,
            trial.state_name(),
            trial.reports.len(),
            spoken(trial.seconds),
            parameters(&record.header.space, trial)
        );
    }
}

/// Counts, the best one, importances.
pub fn summary(record: &Record) {
    let count = |state: &str| record.trials.iter().filter(|trial| trial.state_name() == state).count();
    let states = ["complete", "pruned", "infeasible", "failed", "waiting", "running"];
    let parts: Vec<String> = states
        .iter()
        .map(|state| (state, count(state)))
        .filter(|(_, n)| *n > 0)
        .map(|(state, n)| format!("{n} {state}"))
        .collect();
    println!("\n{} trials: {}", record.trials.len(), parts.join(", "));
    let Some(best) = record.best() else {
        println!("none is complete");
        return;
    };
    println!("best: trial {}, validation loss {:.5}", best.number, best.value().unwrap_or(f64::NAN));
    for (name, value) in &best.parameters {
        println!("  {name:<16} {value}");
    }
    let first = record.trials.iter().find_map(Trial::value).unwrap_or(f64::NAN);
    let mut values: Vec<f64> = record.trials.iter().filter_map(Trial::value).collect();
    values.sort_by(f64::total_cmp);
    println!("the median complete trial has {:.5}, the first {first:.5}", values[values.len() / 2]);
    let found = importances(&record.header.space, &record.trials);
    if !found.is_empty() {
        println!(
            "importance: the share of the variance of the ranks of complete trials that a parameter by itself explains\n\
             (Kruskal and Wallis's η² over four groups of equal size; trials aren't independent: a hint, not a test)"
        );
        for (name, share) in found {
            println!("  {name:<16} {share:.2} {}", "█".repeat((share * 40.0).round() as usize));
        }
    }
    for (trial, model) in &record.registered {
        println!("trial {trial} is registered as {model}");
    }
}

fn objective(record: &Record) -> Result<Objective, String> {
    serde_json::from_value(record.header.objective.clone()).map_err(|e| e.to_string())
}

/// What the ledger says, and whether it holds every trained trial of this study.
fn counted(settings: &Settings, path: &Path, record: &Record) -> Result<(), String> {
    let registry = Registry::open(&settings.raw.models.folder).map_err(|e| e.to_string())?;
    let recipe = objective(record)?.recipe;
    let pinned = recipe.data.pinned.as_ref().ok_or("the study names no bars")?;
    let question = question(&recipe, &pinned.digest);
    let count = registry.count_trials(&question).map_err(|e| e.to_string())?;
    println!("trials on these bars and this label, by the ledger: {}", count.in_ledger);
    let ledger = registry.ledger().map_err(|e| e.to_string())?;
    let id = learn::tune::study::id(path).map_err(|e| e.to_string())?;
    let missing =
        record.trials.iter().filter(|trial| !trial.reports.is_empty() && !is_noted(&ledger, &id, trial));
    let missing = missing.count();
    if missing > 0 {
        println!("{missing} trials of this study are not in the ledger: it was cut or deleted");
    }
    Ok(())
}

fn is_noted(ledger: &Ledger, id: &str, trial: &Trial) -> bool {
    let key = trial_key(id, trial.number);
    ledger.runs.iter().any(|run| run.key == key)
}

fn as_value(record: &Record) -> serde_json::Value {
    let trial = |trial: &Trial| {
        json!({
            "number": trial.number,
            "state": trial.state_name(),
            "attempts": trial.attempts,
            "value": trial.value(),
            "reports": trial.reports,
            "latency_us": trial.latency_us,
            "seconds": trial.seconds,
            "parameters": trial.parameters,
            "outcome": trial.outcome(),
        })
    };
    let importances = importances(&record.header.space, &record.trials);
    let importances: serde_json::Map<String, serde_json::Value> =
        importances.into_iter().map(|(name, share)| (name, share.into())).collect();
    json!({
        "header": record.header,
        "trials": record.trials.iter().map(trial).collect::<Vec<_>>(),
        "best": record.best().map(|trial| trial.number),
        "importances": importances,
        "registered": record.registered,
    })
}

fn history(record: &Record) -> Result<String, String> {
    let of = |trial: &Trial| match trial.outcome() {
        Some(Outcome::Complete { value }) => Some(plot::Ended::Complete(*value)),
        Some(Outcome::Pruned) => trial.reports.last().map(|(_, value)| plot::Ended::Pruned(*value)),
        Some(Outcome::Infeasible { .. } | Outcome::Failed { .. }) => Some(plot::Ended::Without),
        None => None,
    };
    let points: Vec<(u32, plot::Ended)> =
        record.trials.iter().filter_map(|trial| Some((trial.number, of(trial)?))).collect();
    plot::history(&format!("study {}", record.header.study), &points)
}

/// All studies.
pub fn list(settings: &Settings) -> Result<(), String> {
    let folder = super::folder(settings);
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    if names.is_empty() {
        println!(
            "no studies in {}: begin one with `alphaplus tune --study NAME --bars FILE`",
            folder.display()
        );
        return Ok(());
    }
    println!("{:<24} {:>7} {:>12}  BEGUN", "STUDY", "TRIALS", "BEST");
    for name in names {
        match super::read(&super::journal(settings, &name)?, &name) {
            Ok(record) => {
                let best = record.best().and_then(Trial::value).map_or("–".into(), |v| format!("{v:.5}"));
                println!("{name:<24} {:>7} {best:>12}  {}", record.trials.len(), record.header.created_at);
            }
            Err(error) => println!("{name:<24} damaged: {error}"),
        }
    }
    Ok(())
}

/// The ledger, checked.
pub fn ledger(settings: &Settings) -> Result<(), String> {
    let registry = Registry::open(&settings.raw.models.folder).map_err(|e| e.to_string())?;
    let ledger = registry.ledger().map_err(|e| e.to_string())?;
    println!(
        "{}: {} runs; each line follows the one before it",
        ledger.path().display(),
        said(ledger.runs.len() as u64)
    );
    if ledger.versions_before > 0 {
        println!("it was begun beside {} versions of models that are older", ledger.versions_before);
    }
    if ledger.torn_bytes > 0 {
        println!("its last line was cut off by a kill; the next run drops its {} bytes", ledger.torn_bytes);
    }
    println!("{:>8} {:>14}  {:<44} BARS (SHA-256)", "TRIALS", "IN MANIFESTS", "LABEL");
    for (question, in_ledger) in ledger.questions() {
        let count = registry.count_trials(&question).map_err(|e| e.to_string())?;
        let cut = if count.in_manifests > in_ledger { "  cut: a manifest says more" } else { "" };
        println!(
            "{in_ledger:>8} {:>14}  {:<44} {}{cut}",
            count.in_manifests,
            question.label,
            &question.data[..16]
        );
    }
    Ok(())
}
