//! Bars of files and of the spool together, beside an appliance that may be writing it: what a model is retrained on and
//! judged by.

use std::collections::{BTreeMap, HashSet};

use learn::recipe::TrainingRecipe;
use market::{Bar, StreamKey, Timestamp};
use serde::Serialize;
use store::{Entry, Record};

use super::bars::{read, said};
use crate::cli::{BarFiles, MixedBars};
use crate::config::Settings;

/// Where the bars came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sources {
    files: Vec<String>,
    from_files: u64,
    /// Final ones; of a bar's revisions the newest.
    from_spool: u64,
    /// In both, with the same numbers.
    in_both: u64,
    /// In both, with other numbers: the spool's are taken, since the appliance has answered by them.
    differing: u64,
    /// Of symbols or timeframes that the model isn't of.
    of_others: u64,
}

impl Sources {
    pub fn description(&self) -> String {
        let spool = (self.from_spool > 0).then(|| "the spool".to_string());
        let text = self.files.iter().cloned().chain(spool).collect::<Vec<_>>().join(", ");
        text.chars().take(1000).collect()
    }
}

type Streams = BTreeMap<StreamKey, BTreeMap<Timestamp, Bar>>;

/// One stream for each of the recipe's symbols, in that order.
pub fn gather(
    settings: &Settings,
    args: &MixedBars,
    range: Range,
    recipe: &TrainingRecipe,
    loud: bool,
) -> Result<(Vec<Vec<Bar>>, Sources), String> {
    let timeframe = recipe.data.timeframe;
    let wanted: HashSet<StreamKey> =
        recipe.data.symbols.iter().map(|symbol| StreamKey { symbol: symbol.clone(), timeframe }).collect();
    let mut streams = Streams::new();
    let mut sources = Sources::default();
    if !args.files.is_empty() {
        of_files(args, range, loud, &wanted, &mut streams, &mut sources)?;
    }
    if args.from_spool {
        of_spool(settings, range, &wanted, &mut streams, &mut sources)?;
    }
    if loud {
        let Sources { from_files, from_spool, in_both, differing, .. } = sources;
        eprintln!(
            "{} bars of files, {} of the spool; {} in both, of which {} differ: the spool's are taken",
            said(from_files),
            said(from_spool),
            said(in_both + differing),
            said(differing)
        );
    }
    let one = |symbol: &market::Symbol| {
        let key = StreamKey { symbol: symbol.clone(), timeframe };
        let bars = streams.remove(&key).filter(|bars| !bars.is_empty());
        let bars = bars.ok_or(format!("there are no bars of {key}, which the model was trained on"))?;
        Ok(bars.into_values().collect())
    };
    let bars = recipe.data.symbols.iter().map(one).collect::<Result<Vec<Vec<Bar>>, String>>()?;
    Ok((bars, sources))
}

/// From here, and before there.
pub type Range = (Option<Timestamp>, Option<Timestamp>);

fn of_files(
    args: &MixedBars,
    (from, until): Range,
    loud: bool,
    wanted: &HashSet<StreamKey>,
    streams: &mut Streams,
    sources: &mut Sources,
) -> Result<(), String> {
    let files = BarFiles {
        files: args.files.clone(),
        symbol: args.symbol.clone(),
        timeframe: args.timeframe.clone(),
        zone: args.zone.clone(),
        close_times: args.close_times,
        skip_bad: args.skip_bad,
    };
    let name = |path: &std::path::PathBuf| {
        path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    };
    sources.files = args.files.iter().map(name).collect();
    for (key, bars) in read(&files, from, until, loud)? {
        if !wanted.contains(&key) {
            sources.of_others += bars.len() as u64;
            continue;
        }
        let held = streams.entry(key).or_default();
        for bar in bars.into_iter().filter(|bar| bar.is_final) {
            sources.from_files += 1;
            held.insert(bar.open_time, bar);
        }
    }
    Ok(())
}

/// Reads the spool's folder without its lock: a running appliance goes on writing behind what is read.
fn of_spool(
    settings: &Settings,
    (from, until): Range,
    wanted: &HashSet<StreamKey>,
    streams: &mut Streams,
    sources: &mut Sources,
) -> Result<(), String> {
    let mut found = Streams::new();
    for entry in store::read_folder(&settings.raw.store.folder).map_err(|e| e.to_string())? {
        let Entry { record, .. } = entry.map_err(|e| e.to_string())?;
        let Record::Bar(record) = record else { continue };
        let bar = record.bar;
        let inside =
            from.is_none_or(|from| bar.open_time >= from) && until.is_none_or(|until| bar.open_time < until);
        if !bar.is_final || !inside {
            continue;
        }
        if !wanted.contains(&bar.key) {
            sources.of_others += 1;
            continue;
        }
        // The last record of a bar is its newest revision.
        found.entry(bar.key.clone()).or_default().insert(bar.open_time, bar);
    }
    for (key, bars) in found {
        let held = streams.entry(key).or_default();
        for (open_time, bar) in bars {
            sources.from_spool += 1;
            match held.get(&open_time) {
                Some(other) if same(other, &bar) => sources.in_both += 1,
                Some(_) => sources.differing += 1,
                None => {}
            }
            held.insert(open_time, bar);
        }
    }
    Ok(())
}

fn same(one: &Bar, other: &Bar) -> bool {
    let numbers = |bar: &Bar| [bar.open, bar.high, bar.low, bar.close, bar.volume].map(f64::to_bits);
    numbers(one) == numbers(other)
}
