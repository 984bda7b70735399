//! What became of predictions, as readers see it: the recent outcomes, and their summary over any of them. Accuracy,
//! coverage and error are read from here alone: by `GET /v1/outcomes`, the status page and `alphaplus outcomes`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use market::{StreamKey, Timeframe};
use serde::Serialize;
use store::{Realised, RealisedRecord, RealisedValue};

use crate::visible::{Filter, matches_model};

/// The newest outcomes of all streams, oldest first.
#[derive(Debug)]
pub struct Outcomes {
    recent: RwLock<VecDeque<Arc<RealisedRecord>>>,
    max: usize,
    /// Those that the manager hasn't read, revisions too; of too many the oldest go.
    unread: Mutex<VecDeque<Arc<RealisedRecord>>>,
}

impl Outcomes {
    pub fn new(max: usize) -> Self {
        Outcomes { recent: RwLock::default(), max, unread: Mutex::default() }
    }

    /// A revision takes the place of the outcome that it revises.
    pub fn add(&self, record: RealisedRecord) {
        let record = Arc::new(RealisedRecord { state: Vec::new(), ..record });
        {
            let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
            if unread.len() >= self.max {
                unread.pop_front();
            }
            unread.push_back(record.clone());
        }
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        if record.revision > 0
            && let Some(held) = recent.iter_mut().rev().find(|held| held.seq == record.seq)
        {
            *held = record;
            return;
        }
        if recent.len() >= self.max {
            recent.pop_front();
        }
        recent.push_back(record);
    }

    /// What came since this was asked last, in the spool's order: for one reader.
    pub fn unread(&self) -> Vec<Arc<RealisedRecord>> {
        std::mem::take(&mut *self.unread.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }

    /// The last `last` that fit, oldest first.
    pub fn select(&self, filter: &Filter, last: usize) -> Vec<Arc<RealisedRecord>> {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<_> =
            recent.iter().rev().filter(|record| fits(record, filter)).take(last).cloned().collect();
        found.reverse();
        found
    }
}

pub fn fits(record: &RealisedRecord, filter: &Filter) -> bool {
    let model = || format!("{}/{}", record.model.name, record.model.version);
    (filter.symbols.is_empty() || filter.symbols.contains(&record.key.symbol))
        && filter.timeframe.is_none_or(|t: Timeframe| t == record.key.timeframe)
        && filter.model.as_deref().is_none_or(|wanted| matches_model(&model(), wanted))
}

/// Outcomes of one model, summed up. Shares and means are `None` where nothing was there to count.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    pub model: String,
    /// With a value.
    pub resolved: u64,
    /// Without one: their label spans a gap, or its bars are gone.
    pub void: u64,
    /// Changed by a revised bar.
    pub revised: u64,
    /// Of those with an interval, the share in it.
    pub coverage: Option<f64>,
    /// The share that came true of what the confidence is the probability of.
    pub right: Option<f64>,
    /// The mean confidence, and the mean of (confidence − right)².
    pub confidence: Option<f64>,
    pub brier: Option<f64>,
    /// Means of realised − predicted and of its size, and the root of the mean of its square, in the label's unit.
    pub mean_error: Option<f64>,
    pub mae: Option<f64>,
    pub rmse: Option<f64>,
    /// 1 − mean squared error / that of the naive forecast, over those that have one.
    pub skill_vs_naive: Option<f64>,
}

/// One summary a model, in order of their names.
pub fn summaries<'a>(records: impl Iterator<Item = &'a RealisedRecord>) -> Vec<Summary> {
    let mut models: BTreeMap<String, Vec<&RealisedRecord>> = BTreeMap::new();
    for record in records {
        let model = format!("{}/{}", record.model.name, record.model.version);
        models.entry(model).or_default().push(record);
    }
    models.into_iter().map(|(model, records)| summary(model, &records)).collect()
}

fn summary(model: String, records: &[&RealisedRecord]) -> Summary {
    let values: Vec<&RealisedValue> = records.iter().filter_map(|record| value_of(record)).collect();
    let mean = |numbers: &mut dyn Iterator<Item = f64>| {
        let (mut sum, mut count) = (0.0, 0u64);
        numbers.for_each(|x| (sum, count) = (sum + x, count + 1));
        (count > 0).then(|| sum / count as f64)
    };
    let share = |holds: bool| if holds { 1.0 } else { 0.0 };
    let of_value = |of: fn(&RealisedValue) -> f64| mean(&mut values.iter().map(|v| of(v)));
    let with_naive = || values.iter().filter_map(|v| v.naive.map(|naive| (v, naive)));
    let naive_square = mean(&mut with_naive().map(|(v, naive)| (v.realised - naive).powi(2)));
    let model_square = mean(&mut with_naive().map(|(v, _)| v.error().powi(2)));
    let brier =
        |v: &&RealisedValue| v.confidence.map(|c| (f64::from(c) - if v.right { 1.0 } else { 0.0 }).powi(2));
    Summary {
        model,
        resolved: values.len() as u64,
        void: (records.len() - values.len()) as u64,
        revised: records.iter().filter(|r| r.revision > 0).count() as u64,
        coverage: mean(&mut values.iter().filter_map(|v| v.covered).map(share)),
        right: mean(&mut values.iter().map(|v| share(v.right))),
        confidence: mean(&mut values.iter().filter_map(|v| v.confidence).map(f64::from)),
        brier: mean(&mut values.iter().filter_map(brier)),
        mean_error: of_value(RealisedValue::error),
        mae: of_value(|v| v.error().abs()),
        rmse: of_value(|v| v.error().powi(2)).map(f64::sqrt),
        skill_vs_naive: match (model_square, naive_square) {
            (Some(model), Some(naive)) if naive > 0.0 => Some(1.0 - model / naive),
            _ => None,
        },
    }
}

fn value_of(record: &RealisedRecord) -> Option<&RealisedValue> {
    match &record.result {
        Realised::Value(value) => Some(value),
        Realised::Gap | Realised::Lost => None,
    }
}

/// One outcome as JSON.
#[derive(Serialize)]
pub struct Line<'a> {
    seq: u64,
    revision: u32,
    symbol: &'a str,
    timeframe: String,
    model: String,
    open_time: String,
    due_open_time: String,
    /// "value", "gap" or "lost".
    result: &'static str,
    #[serde(flatten)]
    value: Option<LineValue>,
}

#[derive(Serialize)]
struct LineValue {
    predicted: f64,
    realised: f64,
    error: f64,
    naive: Option<f64>,
    covered: Option<bool>,
    right: bool,
    confidence: Option<f32>,
}

impl<'a> From<&'a RealisedRecord> for Line<'a> {
    fn from(record: &'a RealisedRecord) -> Self {
        let StreamKey { symbol, timeframe } = &record.key;
        let value = value_of(record).map(|v| LineValue {
            predicted: v.predicted,
            realised: v.realised,
            error: v.error(),
            naive: v.naive,
            covered: v.covered,
            right: v.right,
            confidence: v.confidence,
        });
        Line {
            seq: record.seq,
            revision: record.revision,
            symbol: symbol.as_str(),
            timeframe: timeframe.to_string(),
            model: format!("{}/{}", record.model.name, record.model.version),
            open_time: record.open_time.to_string(),
            due_open_time: record.due_open_time.to_string(),
            result: result_name(&record.result),
            value,
        }
    }
}

pub fn result_name(result: &Realised) -> &'static str {
    match result {
        Realised::Value(_) => "value",
        Realised::Gap => "gap",
        Realised::Lost => "lost",
    }
}

#[cfg(test)]
mod tests;
