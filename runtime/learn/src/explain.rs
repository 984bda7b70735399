//! Which features at which steps made a prediction: integrated gradients (Sundararajan, Taly and Yan 2017) on a
//! straight line from a baseline to the window, through the model's own backward graph.
//!
//! attribution = (x − baseline) · ∫₀¹ ∂f/∂x (baseline + α (x − baseline)) dα, by Gauss–Legendre quadrature. Over all
//! features and steps they sum to f(x) − f(baseline) where the integral is exact; what is left is the residual of
//! completeness, given with each explanation. The baseline is zero: with normalised features, each at its mean over
//! the training part.

use std::fmt;

use graph::gradient::gradient;
use graph::{Builder, Dim, Executor, Graph, Plan, PrepareError, ReduceOp, RunError, Value, rewrite};

/// More points take memory and give no more digits.
pub const POINTS_MAX: usize = 256;
/// Enough that the residual of a recurrent model is some 1e-3 of the difference.
pub const POINTS_DEFAULT: usize = 32;

/// A model prepared for explanations of one of its outputs.
pub struct Explainer {
    plan: Box<dyn Plan>,
    /// Places on the line and their weights.
    points: Vec<(f64, f64)>,
    window_len: usize,
    outputs: usize,
    output: usize,
    line: Vec<f32>,
    results: Vec<Vec<f32>>,
}

/// In the output's own unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// `window` × `features`, oldest step first.
    pub attributions: Vec<f32>,
    pub prediction: f64,
    /// At the baseline.
    pub baseline: f64,
    /// prediction − baseline − Σ attributions.
    pub residual: f64,
}

impl Explainer {
    /// `graph`: `[B, window, features]` → "prediction" `[B, outputs]`. Prepared for one batch of `points` + 2.
    pub fn new(
        executor: &dyn Executor,
        graph: &Graph,
        output: usize,
        points: usize,
    ) -> Result<Explainer, ExplainError> {
        if points == 0 || points > POINTS_MAX {
            return Err(ExplainError::Points { asked: points });
        }
        let (graph, window_len, outputs) = slope(graph, output)?;
        let plan = executor.prepare(&graph, &[points + 2]).map_err(ExplainError::Prepare)?;
        Ok(Explainer {
            plan,
            points: gauss_legendre(points),
            window_len,
            outputs,
            output,
            line: Vec::new(),
            results: vec![Vec::new(); 2],
        })
    }

    /// Which output is explained.
    pub fn output(&self) -> usize {
        self.output
    }

    /// `window`: normalised rows, oldest first.
    pub fn explain(&mut self, window: &[f32]) -> Result<Explanation, ExplainError> {
        if window.len() != self.window_len {
            return Err(ExplainError::Window { numbers: window.len(), expected: self.window_len });
        }
        let Explainer { points, line, .. } = self;
        line.clear();
        for &(place, _) in points.iter().chain(&[(0.0, 0.0), (1.0, 0.0)]) {
            line.extend(window.iter().map(|&x| (f64::from(x) * place) as f32));
        }
        let batch = points.len() + 2;
        self.plan.run(batch, &[&self.line], &mut self.results).map_err(ExplainError::Run)?;
        let [slopes, predictions] = self.results.as_slice() else { return Err(ExplainError::NotFinite) };
        let mut sums = vec![0.0f64; self.window_len];
        for (&(_, weight), slope) in self.points.iter().zip(slopes.chunks_exact(self.window_len)) {
            sums.iter_mut().zip(slope).for_each(|(sum, &g)| *sum += weight * f64::from(g));
        }
        sums.iter_mut().zip(window).for_each(|(sum, &x)| *sum *= f64::from(x));
        let at = |row: usize| f64::from(predictions[row * self.outputs + self.output]);
        let (baseline, prediction) = (at(batch - 2), at(batch - 1));
        let residual = prediction - baseline - sums.iter().sum::<f64>();
        if !residual.is_finite() {
            return Err(ExplainError::NotFinite);
        }
        let attributions = sums.into_iter().map(|x| x as f32).collect();
        Ok(Explanation { attributions, prediction, baseline, residual })
    }
}

/// What features and steps weigh over many windows: means of attributions and of their absolute values.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Importance {
    pub windows: u64,
    pub steps: usize,
    pub features: usize,
    /// Mean absolute attribution, `steps` × `features`, oldest step first.
    pub cells: Vec<f64>,
    /// Mean absolute value of each feature's attribution summed over its steps.
    pub by_feature: Vec<f64>,
    /// Mean of the same with its sign: which way the feature pushes.
    pub signed_by_feature: Vec<f64>,
    /// Means of the absolute difference from the baseline, and of the absolute residual.
    pub change: f64,
    pub residual: f64,
}

impl Importance {
    pub fn new(steps: usize, features: usize) -> Importance {
        Importance {
            windows: 0,
            steps,
            features,
            cells: vec![0.0; steps * features],
            by_feature: vec![0.0; features],
            signed_by_feature: vec![0.0; features],
            change: 0.0,
            residual: 0.0,
        }
    }

    /// Takes one more window into the means; `scale` is one unit of the output in the unit wanted. An explanation
    /// of another size is left out.
    pub fn add(&mut self, explained: &Explanation, scale: f64) {
        if explained.attributions.len() != self.cells.len() {
            return;
        }
        self.windows += 1;
        let share = 1.0 / self.windows as f64;
        let towards = |mean: &mut f64, x: f64| *mean += (x - *mean) * share;
        let mut sums = vec![0.0; self.features];
        for (place, &a) in explained.attributions.iter().enumerate() {
            let a = f64::from(a) * scale;
            towards(&mut self.cells[place], a.abs());
            sums[place % self.features] += a;
        }
        for (feature, sum) in sums.into_iter().enumerate() {
            towards(&mut self.by_feature[feature], sum.abs());
            towards(&mut self.signed_by_feature[feature], sum);
        }
        towards(&mut self.change, ((explained.prediction - explained.baseline) * scale).abs());
        towards(&mut self.residual, (explained.residual * scale).abs());
    }

    /// Features by falling weight, with each one's share of all weights.
    pub fn ranked(&self) -> Vec<(usize, f64)> {
        let total: f64 = self.by_feature.iter().sum();
        let share = |weight: f64| if total > 0.0 { weight / total } else { 0.0 };
        let mut ranked: Vec<(usize, f64)> =
            self.by_feature.iter().enumerate().map(|(feature, &w)| (feature, share(w))).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked
    }

    /// Each step's share of all cells, oldest first.
    pub fn by_step(&self) -> Vec<f64> {
        let total: f64 = self.cells.iter().sum();
        let share = |row: &[f64]| if total > 0.0 { row.iter().sum::<f64>() / total } else { 0.0 };
        self.cells.chunks_exact(self.features.max(1)).map(share).collect()
    }
}

/// The model with two outputs: "slope", the derivative of one output of each window with respect to that window, and
/// "prediction". Also the numbers of a window, and of a prediction.
fn slope(graph: &Graph, output: usize) -> Result<(Graph, usize, usize), ExplainError> {
    let mut graph = graph.clone();
    graph.outputs.retain(|(name, _)| name == "prediction");
    let graph = rewrite::inference(&graph).map_err(|e| ExplainError::Model(e.to_string()))?;
    let inputs: Vec<_> = graph.inputs().collect();
    let &[(_, input, shape)] = inputs.as_slice() else {
        return Err(ExplainError::Model(format!("it has {} inputs instead of one", inputs.len())));
    };
    let &[Dim::Batch(1), Dim::Fixed(window), Dim::Fixed(features)] = shape.dims() else {
        return Err(ExplainError::Model(format!("its input is {shape}, not [B, window, features]")));
    };
    let Some(prediction) = graph.output("prediction") else {
        return Err(ExplainError::Model("it has no output \"prediction\"".into()));
    };
    let &[Dim::Batch(1), Dim::Fixed(outputs)] = graph.shape(prediction).dims() else {
        let shape = graph.shape(prediction);
        return Err(ExplainError::Model(format!("its prediction is {shape}, not [B, outputs]")));
    };
    if output >= outputs {
        return Err(ExplainError::Output { asked: output, outputs });
    }
    let refused = |e: &dyn fmt::Display| ExplainError::Model(e.to_string());
    let mut builder = Builder::from_graph(graph);
    // Windows don't see each other, so the derivative of their sum holds each one's own.
    let one = builder.slice(prediction, 1, output, output + 1).map_err(|e| refused(&e))?;
    let sum = builder.reduce(ReduceOp::Sum, one, &[0, 1], false).map_err(|e| refused(&e))?;
    builder.output("sum", sum).map_err(|e| refused(&e))?;
    let graph = builder.finish().map_err(|e| refused(&e))?;
    let (mut graph, slopes) =
        gradient(&graph, sum, &[Value { node: input, slot: 0 }]).map_err(|e| refused(&e))?;
    let prediction = graph.output("prediction").ok_or_else(|| refused(&"its prediction is gone"))?;
    graph.outputs = vec![("slope".into(), slopes[0]), ("prediction".into(), prediction)];
    let graph = rewrite::simplify(&graph).map_err(|e| refused(&e))?;
    Ok((graph, window * features, outputs))
}

/// Places in 0..1 and weights of the quadrature that is exact for polynomials up to degree 2n − 1: roots of the
/// Legendre polynomial by Newton's method from their asymptotic places (Abramowitz and Stegun 25.4.29).
fn gauss_legendre(n: usize) -> Vec<(f64, f64)> {
    let degree = n as f64;
    let polynomial = |x: f64| {
        let (mut before, mut value) = (1.0, x);
        for k in 2..=n {
            let k = k as f64;
            (before, value) = (value, ((2.0 * k - 1.0) * x * value - (k - 1.0) * before) / k);
        }
        (value, degree * (x * value - before) / (x * x - 1.0))
    };
    let root = |i: usize| {
        let mut x = -(std::f64::consts::PI * (i as f64 + 0.75) / (degree + 0.5)).cos();
        for _ in 0..8 {
            let (value, derivative) = polynomial(x);
            x -= value / derivative;
        }
        let (_, derivative) = polynomial(x);
        let weight = 2.0 / ((1.0 - x * x) * derivative * derivative);
        ((x + 1.0) / 2.0, weight / 2.0)
    };
    (0..n).map(root).collect()
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExplainError {
    Points {
        asked: usize,
    },
    Output {
        asked: usize,
        outputs: usize,
    },
    /// The model has another form, or no derivative.
    Model(String),
    Window {
        numbers: usize,
        expected: usize,
    },
    Prepare(PrepareError),
    Run(RunError),
    /// A prediction or a derivative is NaN or infinite.
    NotFinite,
}

impl fmt::Display for ExplainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExplainError::Points { asked } => {
                write!(f, "{asked} points of integration: ask for 1 to {POINTS_MAX}")
            }
            ExplainError::Output { asked, outputs } => {
                write!(f, "output {asked} can't be explained: the model has {outputs}, counted from 0")
            }
            ExplainError::Model(e) => write!(f, "the model can't be explained: {e}"),
            ExplainError::Window { numbers, expected } => {
                write!(f, "a window of {numbers} numbers for a model that takes {expected}")
            }
            ExplainError::Prepare(e) => write!(f, "{e}"),
            ExplainError::Run(e) => write!(f, "{e}"),
            ExplainError::NotFinite => write!(f, "the prediction or its derivative isn't a finite number"),
        }
    }
}

impl std::error::Error for ExplainError {}

#[cfg(test)]
mod tests {
    use graph::reference::{Interpreter, initial_states};
    use graph::{Initial, Keep, Shape, UnaryOp};

    use super::*;

    const STEPS: usize = 5;
    const FEATURES: usize = 3;

    fn model(build: impl FnOnce(&mut Builder, Value) -> Value) -> Graph {
        let mut b = Builder::new();
        let x = b.input("features", Shape::batch(&[STEPS, FEATURES])).unwrap();
        let y = build(&mut b, x);
        b.output("prediction", y).unwrap();
        let mut graph = b.finish().unwrap();
        let weights = initial_states(&graph, 3);
        for (state, (_, tensor)) in graph.states.iter_mut().zip(weights) {
            state.initial = Initial::Given(tensor);
        }
        graph
    }

    fn lstm() -> Graph {
        model(|b, x| {
            let state = |b: &mut Builder, name: &str, dims: &[usize]| {
                b.state(name, Shape::fixed(dims), Initial::UniformRoot { n: 2 }, true).unwrap()
            };
            let (w, u) = (state(b, "w", &[FEATURES, 16]), state(b, "u", &[4, 16]));
            let bias = state(b, "b", &[16]);
            let h = b.lstm(x, w, u, bias, Keep::Last).unwrap();
            let h = b.dropout(h, 0.5).unwrap();
            let head = state(b, "head", &[4, 2]);
            b.matmul(h, head, false, false).unwrap()
        })
    }

    fn window() -> Vec<f32> {
        (0..STEPS * FEATURES).map(|i| ((i * 7919) % 13) as f32 / 4.0 - 1.5).collect()
    }

    /// Of a linear model the attribution is weight times input, and nothing is left.
    #[test]
    fn a_linear_model_gives_its_weights_back() {
        let graph = model(|b, x| {
            let flat = b.reshape(x, Shape::batch(&[STEPS * FEATURES])).unwrap();
            let w = b
                .state("w", Shape::fixed(&[STEPS * FEATURES, 1]), Initial::UniformRoot { n: 3 }, true)
                .unwrap();
            b.matmul(flat, w, false, false).unwrap()
        });
        let weights = initial_states(&graph, 0).remove(0).1;
        let mut explainer = Explainer::new(&Interpreter, &graph, 0, 1).unwrap();
        let explained = explainer.explain(&window()).unwrap();
        for ((a, x), w) in explained.attributions.iter().zip(window()).zip(weights.data()) {
            assert!((a - x * w).abs() < 1e-6, "{a} {x} {w}");
        }
        assert!(explained.residual.abs() < 1e-6 && explained.baseline == 0.0);
    }

    /// The sum of all attributions is what the window changes, closer with more points.
    #[test]
    fn attributions_of_a_recurrent_model_are_complete() {
        let residual = |points| {
            let explained =
                Explainer::new(&Interpreter, &lstm(), 1, points).unwrap().explain(&window()).unwrap();
            let change = explained.prediction - explained.baseline;
            assert!(change.abs() > 1e-2, "{explained:?}");
            explained.residual.abs() / change.abs()
        };
        assert!(residual(1) > 1e-3);
        assert!(residual(POINTS_DEFAULT) < 1e-5, "{}", residual(POINTS_DEFAULT));
    }

    /// What doesn't reach the output gets nothing: the newest row alone counts here, and of it what isn't negative.
    #[test]
    fn what_has_no_influence_gets_nothing() {
        let graph = model(|b, x| {
            let last = b.slice(x, 1, STEPS - 1, STEPS).unwrap();
            let last = b.reshape(last, Shape::batch(&[FEATURES])).unwrap();
            let relu = b.unary(UnaryOp::Relu, last).unwrap();
            b.reduce(ReduceOp::Sum, relu, &[1], true).unwrap()
        });
        let mut explainer = Explainer::new(&Interpreter, &graph, 0, 8).unwrap();
        let mut input = window();
        input[STEPS * FEATURES - 3..].copy_from_slice(&[2.0, -1.0, 0.5]);
        let explained = explainer.explain(&input).unwrap();
        let (old, new) = explained.attributions.split_at((STEPS - 1) * FEATURES);
        assert!(old.iter().all(|&a| a == 0.0));
        assert!(new.iter().zip([2.0, 0.0, 0.5]).all(|(a, b)| (a - b).abs() < 1e-6), "{new:?}");
    }

    #[test]
    fn importance_is_the_mean_over_windows() {
        let explained = |attributions: [f32; 4], prediction: f64| Explanation {
            attributions: attributions.to_vec(),
            prediction,
            baseline: 1.0,
            residual: -0.5,
        };
        let mut importance = Importance::new(2, 2);
        importance.add(&explained([1.0, 0.0, 1.0, -4.0], 3.0), 2.0);
        importance.add(&explained([-3.0, 0.0, 1.0, 0.0], -1.0), 2.0);
        let short = Explanation { attributions: vec![1.0], ..explained([0.0; 4], 0.0) };
        importance.add(&short, 1.0);
        assert_eq!(importance.windows, 2);
        assert_eq!(importance.cells, [4.0, 0.0, 2.0, 4.0]);
        assert_eq!(importance.by_feature, [4.0, 4.0]);
        assert_eq!(importance.signed_by_feature, [0.0, -4.0]);
        assert_eq!((importance.change, importance.residual), (4.0, 1.0));
        assert_eq!(importance.ranked(), [(0, 0.5), (1, 0.5)]);
        assert_eq!(importance.by_step(), [0.4, 0.6]);
        assert_eq!(Importance::new(1, 1).ranked(), [(0, 0.0)]);
    }

    #[test]
    fn mistakes_are_named() {
        let graph = lstm();
        let error = |output, points| Explainer::new(&Interpreter, &graph, output, points).err();
        assert_eq!(error(2, 8), Some(ExplainError::Output { asked: 2, outputs: 2 }));
        assert_eq!(error(0, 0), Some(ExplainError::Points { asked: 0 }));
        assert_eq!(error(0, POINTS_MAX + 1), Some(ExplainError::Points { asked: POINTS_MAX + 1 }));
        let mut explainer = Explainer::new(&Interpreter, &graph, 0, 4).unwrap();
        assert_eq!(explainer.explain(&[0.0]), Err(ExplainError::Window { numbers: 1, expected: 15 }));
        let infinite = vec![f32::INFINITY; STEPS * FEATURES];
        assert_eq!(explainer.explain(&infinite), Err(ExplainError::NotFinite));
    }

    #[test]
    fn quadrature_is_exact_for_polynomials() {
        for n in [1, 2, 5, 32, POINTS_MAX] {
            let points = gauss_legendre(n);
            let degree = (2 * n - 1).min(60) as i32;
            let integral: f64 = points.iter().map(|(x, w)| w * x.powi(degree)).sum();
            assert!((integral - 1.0 / f64::from(degree + 1)).abs() < 1e-12, "{n} {integral}");
            assert!(points.windows(2).all(|p| p[0].0 < p[1].0), "{n}");
        }
    }
}
