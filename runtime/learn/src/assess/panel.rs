//! Forecasts of all folds' test parts, one after another: what the table is made of.

use market::Timestamp;

use super::fold::{FoldData, FoldForecasts};
use crate::metrics::distribution::POINTS;

/// Samples in order of time; each column holds one forecast of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panel {
    pub times: Vec<Timestamp>,
    pub streams: Vec<usize>,
    /// From 0.
    pub folds: Vec<usize>,
    pub labels: Vec<f64>,
    /// Of each fold's training part.
    pub scales: Vec<Scale>,
    pub columns: Vec<Column>,
}

/// What a fold's training part says of its labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    pub naive_mae: f64,
    pub mean: f64,
    pub floor: Option<f64>,
}

/// One forecaster with one seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    pub seed: Option<u64>,
    pub forecasts: Vec<f64>,
    /// Residuals of the validation part, [`POINTS`] for each fold: the distribution around its forecasts.
    pub residuals: Vec<Vec<f64>>,
    /// Quantiles that the forecaster gives itself, [`POINTS`] for each sample: they stand in for the residuals.
    pub quantiles: Option<Vec<f64>>,
    pub floored: u64,
}

impl Panel {
    /// Adds a fold. Every fold has the same forecasters; one that a fold lacks is dropped from all.
    pub fn add(&mut self, data: &FoldData, all: &[FoldForecasts]) {
        let fold = self.scales.len();
        for sample in data.split.test.iter().map(|&i| &data.dataset.samples[i]) {
            self.times.push(sample.time);
            self.streams.push(sample.stream);
            self.folds.push(fold);
            self.labels.push(sample.label);
        }
        self.scales.push(Scale { naive_mae: data.naive_mae, mean: data.label.mean, floor: data.floor });
        for forecasts in all {
            let column = match self
                .columns
                .iter_mut()
                .find(|c| c.name == forecasts.name && c.seed == forecasts.seed)
            {
                Some(column) => column,
                None if fold == 0 => {
                    self.columns.push(Column {
                        name: forecasts.name.clone(),
                        seed: forecasts.seed,
                        forecasts: Vec::new(),
                        residuals: Vec::new(),
                        quantiles: None,
                        floored: 0,
                    });
                    let last = self.columns.len() - 1;
                    &mut self.columns[last]
                }
                None => continue,
            };
            column.forecasts.extend(&forecasts.forecasts);
            column.residuals.push(forecasts.points.clone());
            column.floored += forecasts.floored;
            match (&forecasts.quantiles, &mut column.quantiles) {
                (Some(points), Some(held)) => held.extend(points),
                (Some(points), None) if fold == 0 => column.quantiles = Some(points.clone()),
                _ => {}
            }
        }
        let count = self.labels.len();
        self.columns.retain(|column| column.forecasts.len() == count);
    }

    /// The columns of one forecaster: one for each seed.
    pub fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Column> {
        self.columns.iter().filter(move |column| column.name == name)
    }

    /// Forecasters, each once, in order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for column in &self.columns {
            if !names.contains(&column.name.as_str()) {
                names.push(&column.name);
            }
        }
        names
    }

    /// Point `point` of the distribution around a column's forecast of a sample.
    pub fn point(&self, column: &Column, sample: usize, point: usize) -> f64 {
        let fold = self.folds[sample];
        let point = match &column.quantiles {
            Some(quantiles) => quantiles[sample * POINTS + point],
            None => column.forecasts[sample] + column.residuals[fold][point],
        };
        // No volatility is below the least that is taken for one.
        self.scales[fold].floor.map_or(point, |floor| point.max(floor))
    }
}
