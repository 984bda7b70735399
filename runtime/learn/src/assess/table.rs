//! The table: every forecaster on the same samples.
//!
//! A model of several seeds is judged as one that is picked blindly: losses are averaged over seeds, not forecasts
//! (which would judge an ensemble). Intervals are of the moving-block bootstrap, in which all samples of one time go
//! together. Where forecasters are compared, losses of volatilities are QLIKE, of returns squared errors, of distributions
//! the CRPS, and of probabilities of up the log loss (their squared errors are the Brier score).

use std::ops::Range;

use registry::{Interval, LabelKind, Output};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::fold::{MODEL, NAIVE};
use super::gate::{Evidence, Versus};
use super::panel::{Column, Panel};
use crate::bootstrap::{BootstrapSettings, Resampled, block_steps};
use crate::evaluate::{BLOCKS_MIN, EvaluateError, STEPS_MIN, side, steps_of};
use crate::metrics::Loss;
use crate::metrics::distribution::{DistributionScores, Gathered, POINTS, crps};
use crate::metrics::information::{Information, information, mean_and_std, periods};
use crate::metrics::sharpe::{Call, Trading, trade};
use crate::metrics::significance::{DieboldMariano, diebold_mariano};
use crate::probes::Probe;
use crate::recipe::TrainingRecipe;
use crate::walk_forward::WalkForward;

/// Bins of probabilities.
const BINS: usize = 10;

/// The gain over naive that is asked about.
pub const GAIN_WANTED: f64 = 0.15;

/// What the table needs beside the panel.
#[derive(Clone, Debug)]
pub struct Terms {
    pub kind: LabelKind,
    pub output: Output,
    pub horizon_bars: u32,
    /// Steps of samples that a label reaches over.
    pub horizon_steps: usize,
    pub hold_ns: i64,
    pub bootstrap: BootstrapSettings,
    pub fee_bps: f64,
    pub trials: u32,
    pub trial_variance: Option<f64>,
}

impl Terms {
    pub fn of(recipe: &TrainingRecipe, walk: &WalkForward, settings: &Settings) -> Terms {
        let horizon = recipe.label.horizon_bars;
        Terms {
            kind: recipe.label.kind,
            output: recipe.output.kind.clone(),
            horizon_bars: horizon,
            horizon_steps: horizon.div_ceil(walk.stride_bars.max(1)) as usize,
            hold_ns: recipe.data.timeframe.nanos().saturating_mul(i64::from(horizon)),
            bootstrap: recipe.bootstrap,
            fee_bps: settings.fee_bps,
            trials: recipe.trials,
            trial_variance: settings.trial_variance,
        }
    }

    /// What forecasters are compared by.
    pub fn loss(&self) -> Loss {
        match (&self.output, self.kind) {
            (Output::Quantiles { .. }, _) => Loss::Crps,
            (Output::Probabilities, _) | (_, LabelKind::Direction) => Loss::Log,
            (Output::Point, LabelKind::RealisedVolatility) => Loss::Qlike,
            (Output::Point, LabelKind::LogReturn) => Loss::Squared,
        }
    }
}

/// Over seeds; the deviation of one seed is 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    pub mean: f64,
    pub std: f64,
}

/// One forecaster's row. What isn't defined for it is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub name: String,
    pub seeds: u64,
    /// In the label's unit.
    pub rmse: Spread,
    /// In the label's unit.
    pub mae: Spread,
    pub mase: Spread,
    /// Of volatilities.
    pub qlike: Option<Spread>,
    /// The compared loss, where it is none of the above: the log loss of probabilities, the CRPS of distributions.
    #[serde(default)]
    pub compared: Option<Spread>,
    /// 1 − that / that of the naive forecast.
    #[serde(default)]
    pub gain_compared: Option<Interval>,
    /// Of probabilities: the mean of (probability − label)².
    #[serde(default)]
    pub brier: Option<Spread>,
    /// Of probabilities: how often what was given each probability came.
    #[serde(default)]
    pub calibration: Option<Calibration>,
    /// 1 − MSE / MSE of the naive forecast; of probabilities the Brier skill score.
    pub skill: Option<Interval>,
    /// 1 − MASE / MASE of the naive forecast.
    pub gain_mase: Option<Interval>,
    /// 1 − QLIKE / QLIKE of the naive forecast.
    pub gain_qlike: Option<Interval>,
    /// Share of samples where forecast and label lie on the same side: of 0 for returns, of the naive forecast else.
    pub direction: Option<Interval>,
    /// Of the hits against always the commoner side (a Diebold–Mariano test of 0/1 losses).
    pub direction_test: Option<DieboldMariano>,
    pub ic: Option<Information>,
    pub rank_ic: Option<Information>,
    pub distribution: Option<DistributionScores>,
    /// Against the naive forecast; below 0 is better than it.
    pub against_naive: Option<DieboldMariano>,
    /// The model against this forecaster; below 0 the model is better.
    pub model_against: Option<DieboldMariano>,
    /// The compared loss, fold by fold.
    pub fold_losses: Vec<f64>,
    /// The compared loss, seed by seed.
    pub seed_losses: Vec<f64>,
    /// Forecasts of volatility that were raised to the least label of the training part.
    pub floored: u64,
}

/// Probabilities and what came of them, over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The mean of |probability − share that came| over the bins, by their samples.
    pub error: f64,
    /// Of equal counts, by rising probability: its mean, the share that came, samples.
    pub bins: Vec<(f64, f64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub loss: Loss,
    pub samples: u64,
    pub steps: u64,
    pub block_steps: u64,
    /// Share of the commoner side on the test parts.
    pub majority_rate: f64,
    pub rows: Vec<Row>,
    /// The baseline with the least loss, naive included.
    pub best_baseline: String,
    /// The model's stated rule, one for each seed; of returns.
    pub trading: Vec<Trading>,
}

impl Table {
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    pub fn model(&self) -> Option<&Row> {
        self.row(MODEL)
    }

    /// The gain that is asked about: in QLIKE for volatility, in MASE for returns, in the compared loss for probabilities
    /// and distributions.
    pub fn gain(&self) -> Option<Interval> {
        self.model().and_then(|row| self.gain_of(row))
    }

    /// The same of any forecaster.
    pub fn gain_of(&self, row: &Row) -> Option<Interval> {
        match self.loss {
            Loss::Qlike => row.gain_qlike,
            Loss::Log | Loss::Crps => row.gain_compared,
            Loss::Squared | Loss::Absolute => row.gain_mase,
        }
    }

    /// What that gain is in.
    pub fn gain_unit(&self) -> &'static str {
        match self.loss {
            Loss::Qlike => "QLIKE",
            Loss::Log => "log loss",
            Loss::Crps => "CRPS",
            Loss::Squared | Loss::Absolute => "MASE",
        }
    }

    /// What the verdict rests on.
    pub fn evidence(&self, trials: u32, probes: &[Probe]) -> Evidence {
        let model = self.model();
        Evidence {
            gain: model.and_then(|row| match self.loss {
                Loss::Squared | Loss::Absolute => row.skill,
                Loss::Qlike | Loss::Log | Loss::Crps => self.gain_of(row),
            }),
            naive: self.versus(NAIVE),
            best: self.versus(&self.best_baseline),
            trials,
            probes: probes.to_vec(),
            deflated_sharpe: mean(self.trading.iter().filter_map(|t| t.deflated)),
            champion: None,
            latency_us: None,
            tolerance: None,
        }
    }

    /// The test of the model against this forecaster.
    pub fn versus(&self, name: &str) -> Versus {
        Versus { name: name.to_string(), test: self.row(name).and_then(|row| row.model_against) }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    mean_and_std(&values).map(|(mean, _)| mean)
}

/// Fills the table.
pub fn table(panel: &Panel, terms: &Terms) -> Result<Table, EvaluateError> {
    let steps = steps_of(&panel.times);
    let block = block_steps(steps.len(), terms.horizon_steps);
    let needed = STEPS_MIN.max(BLOCKS_MIN * block);
    if steps.len() < needed {
        return Err(EvaluateError::TooFew { steps: steps.len(), needed });
    }
    check(panel)?;
    let middle = middle_of(panel, terms);
    let majority = majority(panel, &middle);
    let maker = Maker { panel, terms, steps: &steps, block, middle, majority };
    let mut rows: Vec<Row> = panel.names().into_iter().map(|name| maker.row(name)).collect();
    let loss = terms.loss();
    let model_losses = maker.losses(MODEL, loss);
    for row in &mut rows {
        if row.name != MODEL {
            row.model_against = maker.test(&model_losses, &maker.losses(&row.name, loss));
        }
    }
    let total = |row: &Row| row.fold_losses.iter().sum::<f64>();
    let baselines = || rows.iter().filter(|row| row.name != MODEL);
    let of = |row: &Row| maker.losses(&row.name, loss).iter().sum::<f64>();
    let best = baselines().min_by(|a, b| of(a).total_cmp(&of(b)).then(total(a).total_cmp(&total(b))));
    let best_baseline = best.map_or(NAIVE.to_string(), |row| row.name.clone());
    let trading = match terms.kind {
        LabelKind::LogReturn => panel.of(MODEL).map(|column| maker.trading(column)).collect(),
        _ => Vec::new(),
    };
    Ok(Table {
        loss,
        samples: panel.labels.len() as u64,
        steps: steps.len() as u64,
        block_steps: block as u64,
        majority_rate: maker.majority.1,
        rows,
        best_baseline,
        trading,
    })
}

fn check(panel: &Panel) -> Result<(), EvaluateError> {
    let count = panel.labels.len();
    for column in &panel.columns {
        if column.forecasts.len() != count {
            let found = column.forecasts.len();
            return Err(EvaluateError::Lengths { name: "forecasts", expected: count, found });
        }
        if let Some(place) = column.forecasts.iter().position(|x| !x.is_finite()) {
            return Err(EvaluateError::NotFinite { name: "forecast", time: panel.times[place] });
        }
    }
    if panel.times.is_sorted() { Ok(()) } else { Err(EvaluateError::Order) }
}

/// What lies above it is up, what lies below is down: the naive forecast, or a probability of one half.
fn middle_of(panel: &Panel, terms: &Terms) -> Vec<f64> {
    if terms.kind == LabelKind::Direction {
        return vec![0.5; panel.labels.len()];
    }
    panel.of(NAIVE).next().map_or_else(|| vec![0.0; panel.labels.len()], |column| column.forecasts.clone())
}

/// The commoner side of the labels, and its share.
fn majority(panel: &Panel, middle: &[f64]) -> (i8, f64) {
    let sides = || panel.labels.iter().zip(middle).map(|(y, n)| side(*y, *n));
    let above = sides().filter(|&s| s > 0).count() as f64;
    let below = sides().filter(|&s| s < 0).count() as f64;
    let share = if above + below > 0.0 { above.max(below) / (above + below) } else { 0.5 };
    (if above >= below { 1 } else { -1 }, share)
}

struct Maker<'a> {
    panel: &'a Panel,
    terms: &'a Terms,
    steps: &'a [Range<usize>],
    block: usize,
    middle: Vec<f64>,
    majority: (i8, f64),
}

impl Maker<'_> {
    /// The loss of each sample, averaged over seeds.
    fn losses(&self, name: &str, loss: Loss) -> Vec<f64> {
        let columns: Vec<&Column> = self.panel.of(name).collect();
        let one = |i: usize| {
            columns.iter().map(|c| self.loss_in(loss, i, c)).sum::<f64>() / columns.len().max(1) as f64
        };
        (0..self.panel.labels.len()).map(one).collect()
    }

    /// Of a column's forecast of a sample, or of the distribution around it.
    fn loss_in(&self, loss: Loss, sample: usize, column: &Column) -> f64 {
        if loss == Loss::Crps {
            return crps(self.panel.labels[sample], |point| self.panel.point(column, sample, point));
        }
        self.loss(loss, sample, column.forecasts[sample])
    }

    fn loss(&self, loss: Loss, sample: usize, forecast: f64) -> f64 {
        // QLIKE isn't defined at 0: labels are raised to where forecasts are.
        let floor = self.panel.scales[self.panel.folds[sample]].floor.unwrap_or(f64::MIN_POSITIVE);
        match loss {
            Loss::Qlike => loss.of(self.panel.labels[sample].max(floor), forecast.max(floor)),
            Loss::Squared | Loss::Absolute | Loss::Log | Loss::Crps => {
                loss.of(self.panel.labels[sample], forecast)
            }
        }
    }

    /// In units of the naive forecast's error on the fold's training part.
    fn scaled(&self, losses: &[f64]) -> Vec<f64> {
        let scale = |i: usize| self.panel.scales[self.panel.folds[i]].naive_mae;
        losses.iter().enumerate().map(|(i, l)| if scale(i) > 0.0 { l / scale(i) } else { 0.0 }).collect()
    }

    /// 1 − losses / naive losses.
    fn gain(&self, losses: &[f64], naive: &[f64]) -> Option<Interval> {
        let sums =
            |step: &Range<usize>| [losses[step.clone()].iter().sum(), naive[step.clone()].iter().sum()];
        let sums: Vec<[f64; 2]> = self.steps.iter().map(sums).collect();
        let drawn = Resampled::draw(&sums, self.block, &self.terms.bootstrap);
        drawn.interval(|s| (s[1] > 0.0).then(|| 1.0 - s[0] / s[1]))
    }

    /// Mean difference of a step, tested.
    fn test(&self, first: &[f64], second: &[f64]) -> Option<DieboldMariano> {
        let one = |step: &Range<usize>| {
            step.clone().map(|i| first[i] - second[i]).sum::<f64>() / step.len().max(1) as f64
        };
        let differences: Vec<f64> = self.steps.iter().map(one).collect();
        diebold_mariano(&differences, self.terms.horizon_steps)
    }

    fn row(&self, name: &str) -> Row {
        let columns: Vec<&Column> = self.panel.of(name).collect();
        let is_naive = name == NAIVE;
        let loss = self.terms.loss();
        let (squared, absolute) = (self.losses(name, Loss::Squared), self.losses(name, Loss::Absolute));
        let scaled = self.scaled(&absolute);
        let compared = self.losses(name, loss);
        let is_volatility = loss == Loss::Qlike;
        let against =
            |losses: &[f64], other: Vec<f64>| (!is_naive).then(|| self.gain(losses, &other)).flatten();
        let naive_compared = self.losses(NAIVE, loss);
        let average = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len().max(1) as f64;
        let each = |of: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
            let one = |c: &&Column| {
                c.forecasts.iter().enumerate().map(|(i, f)| of(i, *f)).sum::<f64>()
                    / c.forecasts.len().max(1) as f64
            };
            columns.iter().map(one).collect()
        };
        let seed_losses: Vec<f64> = columns
            .iter()
            .map(|c| {
                let count = self.panel.labels.len();
                (0..count).map(|i| self.loss_in(loss, i, c)).sum::<f64>() / count.max(1) as f64
            })
            .collect();
        let squares = each(&|i, f| self.loss(Loss::Squared, i, f));
        let is_compared = matches!(loss, Loss::Log | Loss::Crps);
        let roots: Vec<f64> = squares.iter().map(|x| x.sqrt()).collect();
        let maes = each(&|i, f| self.loss(Loss::Absolute, i, f));
        let mases = each(&|i, f| {
            let scale = self.panel.scales[self.panel.folds[i]].naive_mae;
            if scale > 0.0 { self.loss(Loss::Absolute, i, f) / scale } else { 0.0 }
        });
        let (direction, direction_test) = self.direction(&columns, is_naive);
        let fold_losses = (0..self.panel.scales.len())
            .map(|fold| {
                let inside: Vec<f64> = compared
                    .iter()
                    .zip(&self.panel.folds)
                    .filter(|(_, f)| **f == fold)
                    .map(|(l, _)| *l)
                    .collect();
                average(&inside)
            })
            .collect();
        let periods = periods(self.steps);
        Row {
            name: name.into(),
            seeds: columns.len() as u64,
            rmse: spread(&roots),
            mae: spread(&maes),
            mase: spread(&mases),
            qlike: is_volatility.then(|| spread(&seed_losses)),
            compared: is_compared.then(|| spread(&seed_losses)),
            gain_compared: is_compared.then(|| against(&compared, naive_compared.clone())).flatten(),
            brier: (loss == Loss::Log).then(|| spread(&squares)),
            calibration: (loss == Loss::Log).then(|| self.calibration(&columns)),
            skill: against(&squared, self.losses(NAIVE, Loss::Squared)),
            gain_mase: against(&scaled, self.scaled(&self.losses(NAIVE, Loss::Absolute))),
            gain_qlike: is_volatility.then(|| against(&compared, naive_compared.clone())).flatten(),
            direction,
            direction_test,
            ic: self.information(&columns, &periods, false),
            rank_ic: self.information(&columns, &periods, true),
            distribution: self.distribution(&columns),
            against_naive: (!is_naive).then(|| self.test(&compared, &naive_compared)).flatten(),
            model_against: None,
            fold_losses,
            seed_losses,
            floored: columns.iter().map(|column| column.floored).sum(),
        }
    }

    /// Hits, and their test against always the commoner side. Labels on neither side don't count.
    fn direction(&self, columns: &[&Column], is_naive: bool) -> (Option<Interval>, Option<DieboldMariano>) {
        if is_naive {
            return (None, None);
        }
        let calls = |i: usize| side(self.panel.labels[i], self.middle[i]);
        let hit = |i: usize| {
            let one = |c: &&Column| f64::from(u8::from(side(c.forecasts[i], self.middle[i]) == calls(i)));
            columns.iter().map(one).sum::<f64>() / columns.len().max(1) as f64
        };
        let majority = |i: usize| f64::from(u8::from(calls(i) == self.majority.0));
        let sums = |step: &Range<usize>| {
            let mut sums = [0.0; 2];
            for i in step.clone().filter(|&i| calls(i) != 0) {
                sums[0] += hit(i);
                sums[1] += 1.0;
            }
            sums
        };
        let sums: Vec<[f64; 2]> = self.steps.iter().map(sums).collect();
        let drawn = Resampled::draw(&sums, self.block, &self.terms.bootstrap);
        let interval = drawn.interval(|s| (s[1] > 0.0).then(|| s[0] / s[1]));
        let miss = |of: &dyn Fn(usize) -> f64| -> Vec<f64> {
            (0..self.panel.labels.len()).map(|i| if calls(i) == 0 { 0.0 } else { 1.0 - of(i) }).collect()
        };
        (interval, self.test(&miss(&hit), &miss(&majority)))
    }

    /// Means over seeds.
    fn information(
        &self,
        columns: &[&Column],
        periods: &[Range<usize>],
        of_ranks: bool,
    ) -> Option<Information> {
        let one = |c: &&Column| information(&c.forecasts, &self.panel.labels, periods, of_ranks);
        let all: Vec<Information> = columns.iter().filter_map(one).collect();
        let periods = all.first()?.periods;
        let (mean_of, std_of) = (mean(all.iter().map(|i| i.mean))?, mean(all.iter().map(|i| i.std))?);
        let ratio = mean(all.iter().filter_map(|i| i.ratio));
        Some(Information { mean: mean_of, std: std_of, ratio, periods })
    }

    /// Equal counts of probabilities, and how often what they are of came.
    fn calibration(&self, columns: &[&Column]) -> Calibration {
        let pairs =
            columns.iter().flat_map(|c| c.forecasts.iter().copied().zip(self.panel.labels.iter().copied()));
        let mut pairs: Vec<(f64, f64)> = pairs.collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let size = pairs.len().div_ceil(BINS).max(1);
        let bin = |pairs: &[(f64, f64)]| {
            let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
            (mean(|p| p.0), mean(|p| p.1), pairs.len() as u64)
        };
        let bins: Vec<(f64, f64, u64)> = pairs.chunks(size).map(bin).collect();
        let apart = bins.iter().map(|(p, came, count)| (p - came).abs() * *count as f64).sum::<f64>();
        Calibration { error: apart / pairs.len().max(1) as f64, bins }
    }

    fn distribution(&self, columns: &[&Column]) -> Option<DistributionScores> {
        if self.terms.loss() == Loss::Log {
            // Of two outcomes the probability is the distribution.
            return None;
        }
        let mut gathered = Gathered::default();
        for column in columns {
            let known = column.quantiles.is_some() || column.residuals.iter().all(|r| r.len() == POINTS);
            if !known {
                return None;
            }
            for (i, &label) in self.panel.labels.iter().enumerate() {
                gathered.add(label, |point| self.panel.point(column, i, point));
            }
        }
        gathered.scores()
    }

    fn trading(&self, column: &Column) -> Trading {
        let call = |i: usize| Call {
            time: self.panel.times[i],
            stream: self.panel.streams[i],
            forecast: column.forecasts[i],
            label: self.panel.labels[i],
        };
        let calls: Vec<Call> = (0..self.panel.labels.len()).map(call).collect();
        let Terms { hold_ns, fee_bps, trials, trial_variance, .. } = *self.terms;
        trade(&calls, hold_ns, fee_bps, trials, trial_variance)
    }
}

fn spread(values: &[f64]) -> Spread {
    let (mean, std) = mean_and_std(values).unwrap_or((0.0, 0.0));
    Spread { mean, std }
}
