//! `alphaplus explain --stored`: what features and steps weigh over the explanations in the spool.

use std::collections::VecDeque;

use market::{Symbol, Timeframe};
use store::{Entry, ExplanationRecord, Record};

use super::show;
use crate::cli::Explain;
use crate::config::Settings;
use crate::explanations::{fits, importances};
use crate::load::Parts;
use crate::visible::Filter;

pub fn run(settings: &Settings, args: &Explain) -> Result<(), String> {
    let folder = Parts::new(settings)?.model(&args.model)?;
    let model = format!("{}/{}", folder.manifest.name, folder.manifest.version);
    let filter = Filter {
        symbols: {
            let symbols = args.bars.symbol.iter().map(|symbol| Symbol::new(symbol));
            symbols.collect::<Result<_, _>>().map_err(|e| e.to_string())?
        },
        timeframe: args
            .bars
            .timeframe
            .as_deref()
            .map(Timeframe::parse)
            .transpose()
            .map_err(|e| e.to_string())?,
        model: Some(model.clone()),
        model_type: None,
    };
    let found = read(settings, &filter, args.last as usize)?;
    let Some(importance) = importances(found.iter()).remove(&model) else {
        return Err(format!(
            "{} holds no explanation of a prediction by {model}: set serving.explain_every and serve it",
            settings.raw.store.folder.display()
        ));
    };
    show(args, &model, &folder.manifest, &importance)
}

/// The last `last` that fit.
fn read(settings: &Settings, filter: &Filter, last: usize) -> Result<Vec<ExplanationRecord>, String> {
    let mut found = VecDeque::new();
    for entry in store::read_folder(&settings.raw.store.folder).map_err(|e| e.to_string())? {
        let Entry { record, .. } = entry.map_err(|e| e.to_string())?;
        let Record::Explanation(record) = record else { continue };
        if !fits(&record, filter) {
            continue;
        }
        if found.len() >= last {
            found.pop_front();
        }
        found.push_back(record);
    }
    Ok(found.into())
}
