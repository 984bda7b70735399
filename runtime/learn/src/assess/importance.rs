//! Which features the model uses: how much its loss rises when one of them comes from other samples.
//!
//! Permutation importance (Breiman 2001; Fisher, Rudin and Dominici 2019) on the last fold's test part: the whole window
//! of one column is exchanged among samples, all other columns stay. Columns that say the same share their importance,
//! so a small figure doesn't mean that nothing would be lost.

use serde::{Deserialize, Serialize};

use super::fold::{FoldData, predict};
use super::table::Terms;
use super::{AssessError, Run, Subject};
use crate::metrics::Loss;
use crate::random::Random;

/// Samples that are asked about, evenly over the test part.
const SAMPLES_MAX: usize = 1_000;
const SEED: u64 = 7;

/// The relative rise of the loss: 0.1 is 10 % more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Importance {
    pub feature: String,
    pub rise: f64,
}

/// Every feature, the most important first.
pub(super) fn importance(
    subject: &Subject<'_>,
    run: &Run,
    names: &[String],
    terms: &Terms,
) -> Result<Vec<Importance>, AssessError> {
    let test = &run.last.split.test;
    let picked: Vec<usize> = test.iter().copied().step_by(test.len().div_ceil(SAMPLES_MAX).max(1)).collect();
    let mut data = run.last.of_windows(&picked);
    let all: Vec<usize> = (0..picked.len()).collect();
    let loss = |data: &FoldData| -> Result<f64, AssessError> {
        let forecasts = predict(&run.last_model, data, &all, subject.executor)?;
        let floor = data.floor.unwrap_or(f64::MIN_POSITIVE);
        let one = |(&i, f): (&usize, &f64)| {
            let label = data.dataset.samples[i].label;
            match terms.loss() {
                Loss::Qlike => Loss::Qlike.of(label.max(floor), f.max(floor)),
                // Of distributions the median is asked about.
                Loss::Squared | Loss::Absolute | Loss::Log | Loss::Crps => terms.loss().of(label, *f),
            }
        };
        Ok(all.iter().zip(&forecasts).map(one).sum::<f64>() / all.len().max(1) as f64)
    };
    let plain = loss(&data)?;
    let mut order = all.clone();
    Random::derived(SEED, 0).shuffle(&mut order);
    let mut found = Vec::new();
    for (column, feature) in names.iter().enumerate() {
        let kept = data.dataset.exchange_column(column, &order);
        let rise = if plain > 0.0 { loss(&data)? / plain - 1.0 } else { 0.0 };
        data.dataset.set_column(column, &kept);
        found.push(Importance { feature: feature.clone(), rise });
    }
    found.sort_by(|a, b| b.rise.total_cmp(&a.rise));
    Ok(found)
}
