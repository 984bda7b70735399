//! What every engine should have computed: the f64 reference's outputs, for some rows and steps.

use graph::{Graph, reference};
use serde_json::Value;

use crate::case::{Case, Kind};
use crate::model::{Model, rows};
use crate::ours::{FEED_ROWS, training};

/// Rows of a batch that are compared with the reference.
pub const CHECKED_ROWS: usize = 4;
/// At batch 1 so many windows are compared, or fewer of a large model, but two.
const CHECKED_WINDOWS_MAX: usize = 64;
/// Operations of the slow reference that a check may take.
const CHECKED_FLOPS_MAX: u64 = 8_000_000_000;
/// Training steps whose losses are compared with the reference.
pub const CHECKED_STEPS: usize = 4;
pub const LEARNING_RATE: f32 = 1e-3;

/// How many windows of a batch are compared.
pub fn checked(model: &Model, batch: usize) -> usize {
    if batch > 1 {
        return CHECKED_ROWS.min(batch);
    }
    let of = |node: &graph::Node| {
        let inputs: Vec<_> = node.inputs.iter().map(|&value| model.graph.shape(value)).collect();
        graph::cost::flops(&node.op, &inputs, &node.shapes, 1)
    };
    let flops: u64 = model.graph.nodes.iter().map(of).fold(1, u64::saturating_add);
    ((CHECKED_FLOPS_MAX / flops) as usize).clamp(2, CHECKED_WINDOWS_MAX)
}

pub fn targets(batch: usize) -> Vec<f32> {
    rows(1 << 20, batch, 1)
}

/// The f64 reference of a case.
pub struct Expected {
    case: Kind,
    model: Option<Model>,
    /// Of windows and training steps; computed once.
    values: Option<Vec<f64>>,
}

impl Expected {
    pub fn new(case: &Case) -> Self {
        let model = match case.kind {
            Kind::Window { model, .. } | Kind::Training { model, .. } | Kind::Sliding { model, .. } => {
                Some(model())
            }
            Kind::Wire(_) => None,
        };
        Expected { case: case.kind, model, values: None }
    }

    /// The largest absolute error of an engine's outputs.
    pub fn error(&mut self, outputs: &Value) -> Result<f64, String> {
        let found: Vec<f64> =
            outputs["values"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        let Some(model) = &self.model else { return Err("no engine runs a case of the appliance".into()) };
        let values = match (self.case, &self.values) {
            (Kind::Sliding { .. }, _) => {
                let pushed = outputs["pushed"].as_u64().ok_or("no count of rows came back")? as usize;
                let newest =
                    (pushed - model.steps..pushed).flat_map(|i| rows(i % FEED_ROWS, 1, model.features));
                one_run(&model.graph, 1, vec![newest.collect()])?
            }
            (_, Some(values)) => values.clone(),
            (Kind::Window { batch, .. }, None) => {
                let rows_checked = checked(model, batch);
                one_run(
                    &model.graph,
                    rows_checked,
                    vec![rows(0, rows_checked * model.steps, model.features)],
                )?
            }
            (Kind::Training { batch, .. }, None) => losses(model, batch)?,
            (Kind::Wire(_), None) => return Err("no engine runs a case of the appliance".into()),
        };
        if found.len() != values.len() {
            return Err(format!("{} numbers came back instead of {}", found.len(), values.len()));
        }
        let worst = found.iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        self.values = Some(values);
        Ok(worst)
    }
}

fn widen(data: Vec<f32>) -> Vec<f64> {
    data.into_iter().map(f64::from).collect()
}

fn one_run(graph: &Graph, batch: usize, inputs: Vec<Vec<f32>>) -> Result<Vec<f64>, String> {
    let inputs: Vec<Vec<f64>> = inputs.into_iter().map(widen).collect();
    let mut states = reference::initial_states_f64(graph, 0);
    let outputs = reference::run(graph, batch, &inputs, &mut states).map_err(|e| e.to_string())?;
    outputs.into_iter().next().ok_or_else(|| "the model has no output".into())
}

fn losses(model: &Model, batch: usize) -> Result<Vec<f64>, String> {
    let graph = training(&model.graph)?;
    let input = widen(rows(0, batch * model.steps, model.features));
    let inputs = [input, widen(targets(batch)), vec![f64::from(LEARNING_RATE)]];
    let mut states = reference::initial_states_f64(&graph, 0);
    let step = |_| {
        let outputs = reference::run(&graph, batch, &inputs, &mut states).map_err(|e| e.to_string())?;
        outputs
            .first()
            .and_then(|loss| loss.first())
            .copied()
            .ok_or_else(|| "the step has no loss".to_string())
    };
    (0..CHECKED_STEPS).map(step).collect()
}
