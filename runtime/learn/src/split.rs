//! Chronological parts: train, validation, test, with purge and embargo.
//!
//! A sample belongs to the part in which its newest bar opens. Purge: a sample of an earlier part stays only if
//! the last bar that its label sees opens before the later part begins, so that no label interval of one part
//! touches one of another (López de Prado 2018, chapter 7). Embargo: that bar must open `embargo_bars` earlier
//! still, beyond the purge. Windows of a later part may reach back into earlier rows: those are inputs, known by then.

use std::fmt;

use market::{Timeframe, Timestamp};
use serde::{Deserialize, Serialize};

use crate::dataset::Sample;

/// Where to cut.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Cut {
    /// Shares of the distinct times of samples; the training part is what is left.
    Fractions {
        validation: f64,
        test: f64,
    },
    Times(SplitTimes),
}

/// Each part begins at its time and ends where the next begins; the last ends before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitTimes {
    pub train: Timestamp,
    pub validation: Timestamp,
    pub test: Timestamp,
    pub until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRecipe {
    pub cut: Cut,
    /// Beyond the purge.
    pub embargo_bars: u32,
}

/// How much of the end of the validation part is set apart, to calibrate on what training never saw.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationCut {
    None,
    /// Of the distinct times of the validation part's samples.
    Share(f64),
    /// What opens at this time or later.
    From(Timestamp),
}

/// The samples that are calibrated on. Early stopping sees none of them: residuals that a model was picked by
/// are too small, and intervals made of them too narrow.
#[derive(Clone, Debug, PartialEq)]
pub struct CalibrationPart {
    pub from: Timestamp,
    pub samples: Vec<usize>,
}

/// Indices of samples, rising in time.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    pub times: SplitTimes,
    pub train: Vec<usize>,
    pub validation: Vec<usize>,
    pub test: Vec<usize>,
}

impl SplitRecipe {
    /// Cuts samples that are in order of time.
    pub fn split(&self, samples: &[Sample], timeframe: Timeframe) -> Result<Split, SplitError> {
        let times = match self.cut {
            Cut::Times(times) => times,
            Cut::Fractions { validation, test } => cut_by_fractions(samples, validation, test)?,
        };
        if !(times.train < times.validation && times.validation < times.test && times.test < times.until) {
            return Err(SplitError::Order(times));
        }
        let embargo = timeframe.nanos().saturating_mul(i64::from(self.embargo_bars));
        let part = |from: Timestamp, until: Timestamp, next: Option<Timestamp>| -> Vec<usize> {
            let reach = |sample: &Sample| sample.label_until.0.saturating_add(embargo);
            let stays = |sample: &Sample| next.is_none_or(|next| reach(sample) < next.0);
            let inside = |sample: &Sample| from <= sample.time && sample.time < until;
            (0..samples.len()).filter(|&i| inside(&samples[i]) && stays(&samples[i])).collect()
        };
        let split = Split {
            times,
            train: part(times.train, times.validation, Some(times.validation)),
            validation: part(times.validation, times.test, Some(times.test)),
            test: part(times.test, times.until, None),
        };
        for (part, indices) in
            [("training", &split.train), ("validation", &split.validation), ("test", &split.test)]
        {
            if indices.is_empty() {
                return Err(SplitError::Empty { part, times });
            }
        }
        Ok(split)
    }
}

impl Split {
    /// Moves the end of the validation part into a part of its own, with purge and embargo between them.
    pub fn hold_out(
        &mut self,
        cut: CalibrationCut,
        embargo_bars: u32,
        samples: &[Sample],
        timeframe: Timeframe,
    ) -> Result<Option<CalibrationPart>, SplitError> {
        let from = match cut {
            CalibrationCut::None => return Ok(None),
            CalibrationCut::From(time) => time,
            CalibrationCut::Share(share) => {
                let mut times: Vec<Timestamp> = self.validation.iter().map(|&i| samples[i].time).collect();
                times.dedup();
                let first = (times.len() as f64 * (1.0 - share)).round() as usize;
                times[first.min(times.len() - 1)]
            }
        };
        let embargo = timeframe.nanos().saturating_mul(i64::from(embargo_bars));
        let (before, after): (Vec<usize>, Vec<usize>) =
            self.validation.iter().partition(|&&i| samples[i].time < from);
        let stays = |&i: &usize| samples[i].label_until.0.saturating_add(embargo) < from.0;
        self.validation = before.into_iter().filter(stays).collect();
        for (part, indices) in [("validation", &self.validation), ("calibration", &after)] {
            if indices.is_empty() {
                return Err(SplitError::Empty { part, times: self.times });
            }
        }
        Ok(Some(CalibrationPart { from, samples: after }))
    }
}

fn cut_by_fractions(samples: &[Sample], validation: f64, test: f64) -> Result<SplitTimes, SplitError> {
    if !(validation > 0.0 && test > 0.0 && validation + test < 1.0) {
        return Err(SplitError::Fractions { validation, test });
    }
    let mut times: Vec<Timestamp> = samples.iter().map(|sample| sample.time).collect();
    times.dedup();
    let count = times.len();
    if count < 3 {
        return Err(SplitError::TooFew { times: count });
    }
    let test_first = ((count as f64 * (1.0 - test)).round() as usize).clamp(2, count - 1);
    let validation_first =
        ((count as f64 * (1.0 - test - validation)).round() as usize).clamp(1, test_first - 1);
    Ok(SplitTimes {
        train: times[0],
        validation: times[validation_first],
        test: times[test_first],
        until: Timestamp(times[count - 1].0.saturating_add(1)),
    })
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SplitError {
    Fractions {
        validation: f64,
        test: f64,
    },
    Order(SplitTimes),
    TooFew {
        times: usize,
    },
    /// Nothing is left of this part.
    Empty {
        part: &'static str,
        times: SplitTimes,
    },
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SplitError::Fractions { validation, test } => {
                write!(f, "validation {validation} and test {test} must each be above 0 and together below 1")
            }
            SplitError::Order(t) => write!(
                f,
                "the parts begin at {}, {}, {} and end at {}; these must rise",
                t.train, t.validation, t.test, t.until
            ),
            SplitError::TooFew { times } => {
                write!(f, "{times} distinct times can't be cut in three; give more bars")
            }
            SplitError::Empty { part, times } => write!(
                f,
                "no sample is left in the {part} part (parts begin at {}, {}, {}, end at {}); give more bars, or a shorter horizon or embargo",
                times.train, times.validation, times.test, times.until
            ),
        }
    }
}

impl std::error::Error for SplitError {}

#[cfg(test)]
mod tests;
