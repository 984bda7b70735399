//! The parts that trials see: all lie before the test part, which is cut off before anything else.
//!
//! With one fold it is the recipe's own training and validation part. With more, each validates on a stretch as long as
//! that one, directly before that of the next fold, and trains on all before it.

use market::{Bar, Features, Timeframe, Timestamp};

use super::blank::Blank;
use crate::dataset::{Dataset, Sample};
use crate::fit::PrepareDataError;
use crate::recipe::TrainingRecipe;
use crate::split::{Split, SplitError, SplitTimes};

pub const FOLDS_MAX: u32 = 20;

/// One inner fold: training from `train`, validation from `validation` to before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldTimes {
    pub train: Timestamp,
    pub validation: Timestamp,
    pub until: Timestamp,
}

/// Where the recipe's parts begin, from the times of bars alone: no feature is computed.
pub fn split_times(
    recipe: &TrainingRecipe,
    bars: &[&[Bar]],
    features: &dyn Features,
) -> Result<SplitTimes, PrepareDataError> {
    let mut blank = Blank::like(features.spec());
    let dataset = Dataset::build(bars, &mut blank, recipe.window as usize, &recipe.label)?;
    Ok(recipe.split.split(&dataset.samples, dataset.timeframe)?.times)
}

/// The bars of each stream that open before the test part.
pub fn cut_before<'a>(bars: &[&'a [Bar]], test: Timestamp) -> Vec<&'a [Bar]> {
    bars.iter().map(|bars| &bars[..bars.partition_point(|bar| bar.open_time < test)]).collect()
}

/// The inner folds, oldest first. `None`: so many don't fit before the test part.
pub fn folds(times: SplitTimes, count: u32) -> Option<Vec<FoldTimes>> {
    let width = times.test.0 - times.validation.0;
    let fold = |later: u32| {
        let shift = width.checked_mul(i64::from(later))?;
        let validation = Timestamp(times.validation.0.checked_sub(shift)?);
        let until = Timestamp(times.test.0.checked_sub(shift)?);
        (validation > times.train).then_some(FoldTimes { train: times.train, validation, until })
    };
    (0..count).rev().map(fold).collect()
}

impl FoldTimes {
    /// Cuts samples that are in order of time. The test part is empty. Purge and embargo are those of
    /// [`SplitRecipe::split`](crate::split::SplitRecipe::split).
    pub fn split(
        &self,
        samples: &[Sample],
        timeframe: Timeframe,
        embargo_bars: u32,
    ) -> Result<Split, SplitError> {
        let embargo = timeframe.nanos().saturating_mul(i64::from(embargo_bars));
        let part = |from: Timestamp, until: Timestamp| -> Vec<usize> {
            let inside = |sample: &Sample| from <= sample.time && sample.time < until;
            let stays = |sample: &Sample| sample.label_until.0.saturating_add(embargo) < until.0;
            (0..samples.len()).filter(|&i| inside(&samples[i]) && stays(&samples[i])).collect()
        };
        let times = SplitTimes {
            train: self.train,
            validation: self.validation,
            test: self.until,
            until: self.until,
        };
        let split = Split {
            times,
            train: part(self.train, self.validation),
            validation: part(self.validation, self.until),
            test: Vec::new(),
        };
        for (part, indices) in [("training", &split.train), ("validation", &split.validation)] {
            if indices.is_empty() {
                return Err(SplitError::Empty { part, times });
            }
        }
        Ok(split)
    }
}
