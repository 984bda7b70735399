//! Explanations of predictions, as readers see them: the newest in memory, one as JSON, and what features weigh over
//! many. Read from the spool's records alone: by `GET /v1/explanations` and `alphaplus explain --stored`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use learn::explain::{Explanation, Importance};
use serde::Serialize;
use serde_json::json;
use store::{ExplanationRecord, Method};

use crate::visible::{Filter, matches_model};

/// Attributions in memory: 32 MiB of them.
const NUMBERS_MAX: usize = 8 << 20;

/// The newest explanations of all streams, oldest first.
#[derive(Debug, Default)]
pub struct Explanations {
    held: RwLock<Held>,
}

#[derive(Debug, Default)]
struct Held {
    records: VecDeque<Arc<ExplanationRecord>>,
    numbers: usize,
    /// "btc/3" → the names of its columns.
    names: HashMap<String, Arc<[String]>>,
}

impl Explanations {
    pub fn add(&self, record: ExplanationRecord) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.numbers += record.attributions.len();
        held.records.push_back(Arc::new(record));
        while held.numbers > NUMBERS_MAX
            && let Some(gone) = held.records.pop_front()
        {
            held.numbers -= gone.attributions.len();
        }
    }

    /// What a model's columns are called.
    pub fn name_columns(&self, model: &str, names: &[String]) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.names.insert(model.to_string(), names.into());
    }

    pub fn names_of(&self, model: &str) -> Option<Arc<[String]>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).names.get(model).cloned()
    }

    /// The last `last` that fit, oldest first.
    pub fn select(&self, filter: &Filter, last: usize) -> Vec<Arc<ExplanationRecord>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let fitting = held.records.iter().rev().filter(|record| fits(record, filter));
        let mut found: Vec<_> = fitting.take(last).cloned().collect();
        found.reverse();
        found
    }
}

pub fn model_of(record: &ExplanationRecord) -> String {
    format!("{}/{}", record.model.name, record.model.version)
}

pub fn fits(record: &ExplanationRecord, filter: &Filter) -> bool {
    (filter.symbols.is_empty() || filter.symbols.contains(&record.key.symbol))
        && filter.timeframe.is_none_or(|t| t == record.key.timeframe)
        && filter.model.as_deref().is_none_or(|wanted| matches_model(&model_of(record), wanted))
}

/// What features and steps weigh over these explanations, in the label's unit: one for each model.
pub fn importances<'a>(records: impl Iterator<Item = &'a ExplanationRecord>) -> BTreeMap<String, Importance> {
    let mut models: BTreeMap<String, Importance> = BTreeMap::new();
    for record in records {
        let features = usize::from(record.features).max(1);
        let steps = record.attributions.len() / features;
        let importance = models.entry(model_of(record)).or_insert_with(|| Importance::new(steps, features));
        let explained = Explanation {
            attributions: record.attributions.clone(),
            prediction: record.prediction,
            baseline: record.baseline,
            residual: record.residual,
        };
        importance.add(&explained, 1.0);
    }
    models
}

/// One explanation as JSON.
#[derive(Serialize)]
pub struct Line<'a> {
    seq: u64,
    symbol: &'a str,
    timeframe: String,
    model: String,
    open_time: String,
    revision: u32,
    made_at: String,
    method: &'static str,
    points: u16,
    output: u16,
    prediction: f64,
    baseline_prediction: f64,
    completeness_residual: f64,
    /// Summed over the steps.
    by_feature: Vec<f64>,
    /// Summed over the features, oldest step first.
    by_step: Vec<f64>,
    /// Steps × features.
    #[serde(skip_serializing_if = "Option::is_none")]
    attributions: Option<Vec<&'a [f32]>>,
}

impl<'a> Line<'a> {
    /// `whole`: with each attribution.
    pub fn new(record: &'a ExplanationRecord, whole: bool) -> Line<'a> {
        let rows = record.attributions.chunks(usize::from(record.features).max(1));
        let mut by_feature = vec![0.0; usize::from(record.features)];
        for row in rows.clone() {
            by_feature.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        Line {
            seq: record.seq,
            symbol: record.key.symbol.as_str(),
            timeframe: record.key.timeframe.to_string(),
            model: model_of(record),
            open_time: record.open_time.to_string(),
            revision: record.revision,
            made_at: record.made_at.to_string(),
            method: match record.method {
                Method::IntegratedGradients => "integrated_gradients",
            },
            points: record.points,
            output: record.output,
            prediction: record.prediction,
            baseline_prediction: record.baseline,
            completeness_residual: record.residual,
            by_feature,
            by_step: rows.clone().map(|row| row.iter().map(|&x| f64::from(x)).sum()).collect(),
            attributions: whole.then(|| rows.collect()),
        }
    }
}

/// What `GET /v1/explanations` gives: the explanations, the names of their columns where they are known, and what
/// weighs over all of them.
pub fn body(explanations: &Explanations, found: &[Arc<ExplanationRecord>], whole: bool) -> serde_json::Value {
    let lines: Vec<Line> = found.iter().map(|record| Line::new(record, whole)).collect();
    let models: serde_json::Map<String, serde_json::Value> = importances(found.iter().map(|r| &**r))
        .into_iter()
        .map(|(model, importance)| {
            let names = explanations.names_of(&model);
            let value = json!({
                "features": names.as_deref(),
                "explained": importance.windows,
                "by_feature": importance.by_feature,
                "signed_by_feature": importance.signed_by_feature,
                "by_step": importance.by_step(),
                "mean_change": importance.change,
                "mean_residual": importance.residual,
            });
            (model, value)
        })
        .collect();
    json!({ "explanations": lines, "models": models })
}

#[cfg(test)]
mod tests;
