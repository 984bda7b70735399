//! What the trials of a study are of, as its journal keeps it: the recipe, the bars, and what of it parameters set.

use std::path::PathBuf;

use learn::recipe::TrainingRecipe;
use learn::tune::{Parameter, Parameters};
use market::{Bar, StreamKey};
use plugin::{Architecture, FeaturePlugin};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::BarFiles;
use crate::config::Settings;
use crate::load::{Parts, json_object};

/// Parameters of the training rather than of the architecture.
pub const TRAINING: [&str; 4] = ["batch", "learning_rate", "weight_decay", "window"];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// With the bars pinned and the parts at fixed times, so that every trial has the same ones.
    pub recipe: TrainingRecipe,
    pub bars: Files,
    pub folds: u32,
    pub seeds: u32,
    pub constraint: Option<Constraint>,
}

/// Where the bars are read from when the study goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    pub files: Vec<PathBuf>,
    pub symbol: Option<String>,
    pub timeframe: Option<String>,
    pub zone: String,
    pub close_times: bool,
    pub skip_bad: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    pub p99_us: f64,
    pub of: Measured,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    Push,
    Window,
}

impl Objective {
    /// Trainings of each trial.
    pub fn runs(&self) -> u32 {
        self.folds * self.seeds
    }

    /// Steps that a trial reports at most.
    pub fn steps_max(&self) -> u32 {
        self.runs().saturating_mul(self.recipe.training.epochs_max)
    }

    /// The recipe with the parameters in it.
    pub fn recipe_of(&self, parameters: &Parameters) -> Result<TrainingRecipe, String> {
        let mut recipe = self.recipe.clone();
        let mut hyper = json_object(&recipe.architecture.options)?;
        for (name, value) in parameters {
            if let Some(known) = hyper.get_mut(name) {
                *known = json(value);
            }
            let whole = || match value {
                Parameter::Integer(n) => u32::try_from(*n).ok(),
                _ => None,
            };
            let bad = || format!("parameter {name} can't be {value}");
            match name.as_str() {
                "batch" => recipe.training.batch = whole().ok_or_else(bad)?,
                "window" => recipe.window = whole().ok_or_else(bad)?,
                "learning_rate" => recipe.training.learning_rate = value.as_f64().ok_or_else(bad)?,
                "weight_decay" => recipe.training.weight_decay = value.as_f64().ok_or_else(bad)?,
                _ => {}
            }
        }
        recipe.architecture.options = Value::Object(hyper).to_string();
        Ok(recipe)
    }

    /// That these are the bars that the study was begun on.
    pub fn check_bars(&self, streams: &[(StreamKey, Vec<Bar>)]) -> Result<(), String> {
        let pinned = self.recipe.data.pinned.as_ref().ok_or("the study names no bars")?;
        let within = |bars: &[Bar]| -> std::ops::Range<usize> {
            let first = bars.partition_point(|bar| bar.open_time < pinned.first_open_time);
            let end = bars.partition_point(|bar| bar.open_time <= pinned.last_open_time);
            first..end.max(first)
        };
        let cut: Vec<&[Bar]> = streams.iter().map(|(_, bars)| &bars[within(bars)]).collect();
        if learn::dataset::bars_digest(&cut) == pinned.digest {
            return Ok(());
        }
        Err("these aren't the bars that the study was begun on: give the same files, or begin another study"
            .into())
    }

    /// The plugins that the study was begun with.
    pub fn plugins(
        &self,
        settings: &Settings,
        parts: &Parts,
    ) -> Result<(Architecture, FeaturePlugin), String> {
        let TrainingRecipe { architecture, features, .. } = &self.recipe;
        let component = parts.pinned(settings, &architecture.plugin, &architecture.digest)?;
        let built = Architecture::new(&component).map_err(|e| e.to_string())?;
        let component = parts.pinned(settings, &features.plugin, &features.digest)?;
        let options = json_object(&features.options)?;
        let source = FeaturePlugin::new(&component, &options).map_err(|e| e.to_string())?;
        Ok((built, source))
    }
}

fn json(value: &Parameter) -> Value {
    match value {
        Parameter::Boolean(b) => Value::from(*b),
        Parameter::Integer(n) => Value::from(*n),
        Parameter::Number(x) => Value::from(*x),
        Parameter::Text(text) => Value::from(text.as_str()),
    }
}

impl Files {
    pub fn of(bars: &BarFiles) -> Result<Files, String> {
        let whole =
            |path: &PathBuf| std::path::absolute(path).map_err(|e| format!("{}: {e}", path.display()));
        Ok(Files {
            files: bars.files.iter().map(whole).collect::<Result<_, _>>()?,
            symbol: bars.symbol.clone(),
            timeframe: bars.timeframe.clone(),
            zone: bars.zone.clone(),
            close_times: bars.close_times,
            skip_bad: bars.skip_bad,
        })
    }

    pub fn to_arguments(&self) -> BarFiles {
        let Files { files, symbol, timeframe, zone, close_times, skip_bad } = self.clone();
        BarFiles { files, symbol, timeframe, zone, close_times, skip_bad }
    }
}
