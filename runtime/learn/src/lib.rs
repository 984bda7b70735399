//! Datasets, splits, training, tuning, evaluation. Pure but for checkpoints and the journals of studies: devices, file
//! formats and feature plugins come in as `graph::Executor` and `market::Features`.
//!
//! [`assess::assess`] judges a recipe on walk-forward folds, [`assess::pair::judge`] a challenger beside the champion. [`fit::prepare`] makes data ready, [`train::train`] trains, [`fit::judge`] judges on the test part, and
//! [`TrainingRecipe::manifest`] writes down all of it. Everything is a function of the recipe, the bars, the plugins
//! and the executor: the same ones give the same bits.

pub mod assess;
pub mod baseline;
pub mod baselines;
pub mod bootstrap;
pub mod calibrate;
pub mod checkpoint;
pub mod confidence;
pub mod conformal;
pub mod dataset;
pub mod evaluate;
pub mod explain;
pub mod fit;
pub mod label;
pub mod live;
pub mod metrics;
pub mod normalise;
pub mod output;
pub mod predict;
pub mod probes;
pub mod progress;
pub mod random;
pub mod reading;
pub mod recalibrate;
pub mod recipe;
pub mod retrain;
pub mod settings;
pub mod split;
pub mod train;
pub mod tune;
pub mod walk_forward;

pub use bootstrap::BootstrapSettings;
pub use evaluate::{Evaluation, Verdict};
pub use fit::{Prepared, judge, prepare, prepare_for};
pub use label::LabelRecipe;
pub use normalise::{LabelScale, Normaliser};
pub use output::OutputRecipe;
pub use progress::{BatchReport, EpochReport, Flow, Outline, Progress};
pub use reading::Reading;
pub use recipe::{DataRecipe, PinnedData, PluginUse, TrainingRecipe};
pub use settings::TrainingSettings;
pub use split::{CalibrationCut, Cut, Split, SplitRecipe, SplitTimes};
pub use train::{Target, TrainError, Trained, train, train_from};

#[cfg(test)]
mod testing;
