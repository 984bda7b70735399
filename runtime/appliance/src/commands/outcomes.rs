//! `alphaplus outcomes`: what became of the predictions in the spool, summed up for each model; two models compared;
//! models against what they promised.

use std::collections::{HashMap, VecDeque};

use market::{Symbol, Timeframe};
use serde_json::json;
use store::{Entry, RealisedRecord, Record};

use crate::cli::Outcomes;
use crate::config::Settings;
use crate::outcomes::{Line, Summary, fits, summaries};
use crate::visible::Filter;

mod compare;
mod drift;

/// More outcomes aren't looked at: the oldest go.
const OUTCOMES_MAX: usize = 5_000_000;

pub fn run(settings: &Settings, args: &Outcomes) -> Result<(), String> {
    let filter = Filter {
        symbols: {
            let symbols = args.symbol.iter().map(|symbol| Symbol::new(symbol));
            symbols.collect::<Result<_, _>>().map_err(|e| e.to_string())?
        },
        timeframe: args.timeframe.as_deref().map(Timeframe::parse).transpose().map_err(|e| e.to_string())?,
        model: args.model.clone(),
        model_type: None,
    };
    let last = args.last.unwrap_or(OUTCOMES_MAX).min(OUTCOMES_MAX);
    let mut found = read(settings, &filter, last)?;
    if args.compare.is_some() || args.drift {
        // Bars of one symbol may have come long before those of another: all is there, so the order can be that of time.
        found.sort_by_key(|record| record.due_open_time);
    }
    if let Some(models) = &args.compare {
        return compare::run(settings, args, models, &found);
    }
    if args.drift {
        return drift::run(settings, args, &found);
    }
    let summaries = summaries(found.iter());
    let listed = || found.iter().skip(found.len().saturating_sub(args.list));
    if args.json {
        let lines: Vec<Line> = listed().map(Line::from).collect();
        println!("{}", json!({ "summaries": summaries, "outcomes": lines }));
        return Ok(());
    }
    if found.is_empty() {
        let folder = settings.raw.store.folder.display();
        println!("no outcomes in {folder}: a prediction has one when its horizon has passed");
        return Ok(());
    }
    summaries.iter().for_each(print);
    for record in listed() {
        println!("{}", serde_json::to_string(&Line::from(record)).map_err(|e| e.to_string())?);
    }
    Ok(())
}

/// The newest revision of each outcome, in the order of the first ones.
fn read(settings: &Settings, filter: &Filter, last: usize) -> Result<Vec<RealisedRecord>, String> {
    let mut found: VecDeque<RealisedRecord> = VecDeque::new();
    // Of each prediction, where its outcome stands, counted from the first that was ever put in.
    let mut places: HashMap<u64, usize> = HashMap::new();
    let mut dropped = 0;
    for entry in store::read_folder(&settings.raw.store.folder).map_err(|e| e.to_string())? {
        let Entry { record, .. } = entry.map_err(|e| e.to_string())?;
        let Record::Realised(record) = record else { continue };
        if !fits(&record, filter) {
            continue;
        }
        let record = RealisedRecord { state: Vec::new(), ..record };
        let held = places.get(&record.seq).and_then(|place| found.get_mut(place.checked_sub(dropped)?));
        if let Some(held) = held {
            *held = record;
            continue;
        }
        places.insert(record.seq, dropped + found.len());
        found.push_back(record);
        if found.len() > last
            && let Some(gone) = found.pop_front()
        {
            places.remove(&gone.seq);
            dropped += 1;
        }
    }
    Ok(found.into())
}

fn print(summary: &Summary) {
    let Summary { model, resolved, void, revised, .. } = summary;
    println!("{model}: {resolved} outcomes, {void} without a value, {revised} revised");
    let rows = [
        ("coverage", summary.coverage),
        ("right", summary.right),
        ("mean confidence", summary.confidence),
        ("Brier score", summary.brier),
        ("mean error", summary.mean_error),
        ("MAE", summary.mae),
        ("RMSE", summary.rmse),
        ("skill vs naive", summary.skill_vs_naive),
    ];
    for (name, value) in rows {
        let shown = match value {
            None => "–".into(),
            Some(x) if x != 0.0 && x.abs() < 0.001 => format!("{x:.4e}"),
            Some(x) => format!("{x:.4}"),
        };
        println!("  {name:<16} {shown}");
    }
}
