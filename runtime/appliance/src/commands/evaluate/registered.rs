//! A registered model on held-out bars, beside naive and ridge.

use learn::fit;
use learn::recipe::TrainingRecipe;
use learn::split::Cut;
use market::{Bar, Timestamp};

use super::super::bars::read;
use crate::cli::Evaluate;
use crate::config::Settings;
use crate::load::Parts;

pub fn run(settings: &Settings, args: &Evaluate, model: &str) -> Result<(), String> {
    let parts = Parts::new(settings)?;
    let folder = parts.model(model)?;
    let streams = read(&args.bars, None, None, !args.json)?;
    let mut recipe = TrainingRecipe::from_manifest(&folder.manifest).map_err(|e| e.to_string())?;
    // Other bars than those of the training are what it is for; the split keeps the training part apart.
    recipe.data.pinned = None;
    recipe.data.symbols = streams.iter().map(|s| s.0.symbol.clone()).collect();
    if let Cut::Times(times) = &mut recipe.split.cut {
        if let Some(from) = &args.from {
            times.test = Timestamp::parse(from)?;
            if times.test < Timestamp::parse(&folder.manifest.data.test.from)? {
                return Err(format!(
                    "--from {from} lies before {}, where the model's test part begins: it has seen those bars",
                    folder.manifest.data.test.from
                ));
            }
        }
        match &args.until {
            Some(until) => times.until = Timestamp::parse(until)?,
            None if args.from.is_some() => {
                let last = streams
                    .iter()
                    .filter_map(|s| s.1.last())
                    .map(|b| b.open_time.0)
                    .max()
                    .unwrap_or_default();
                times.until = Timestamp(last.saturating_add(1));
            }
            None => {}
        }
    }
    let mut features = parts.features(settings, &folder.manifest)?;
    let graph = parts.served_graph(&folder)?;
    let bars: Vec<&[Bar]> = streams.iter().map(|s| s.1.as_slice()).collect();
    let prepared =
        fit::prepare_for(&recipe, &folder.manifest, &bars, &mut features).map_err(|e| e.to_string())?;
    let executor = parts.executor_of(&folder.manifest, &graph)?;
    let evaluation = fit::judge(&recipe, &prepared, &graph, &executor).map_err(|e| e.to_string())?;
    if args.json {
        println!("{}", serde_json::to_string(&evaluation).map_err(|e| e.to_string())?);
    } else {
        println!("{evaluation}");
    }
    Ok(())
}
