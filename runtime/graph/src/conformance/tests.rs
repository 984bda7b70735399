//! The suite covers every op, the reference passes it, and an executor that is wrong in one way fails it.

use std::collections::BTreeSet;

use super::*;
use crate::executor::{RunError, SlidingPlan};
use crate::graph::Node;
use crate::op::{BinaryOp, Op, ReduceOp, UnaryOp};
use crate::reference::Interpreter;

#[test]
fn the_reference_passes() {
    let outcomes = check(&Interpreter);
    assert!(outcomes.len() > rows().len());
    for outcome in outcomes {
        match outcome.verdict {
            // Rounding the outputs to f32 is all that is left.
            Verdict::Passed { worst } => assert!(worst <= 0.51, "{outcome}"),
            _ => panic!("{outcome}"),
        }
    }
}

#[test]
fn row_names_are_unique() {
    let rows = rows();
    let names: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names.len(), rows.len());
}

#[test]
fn every_op_has_a_row() {
    let rows = rows();
    let present: BTreeSet<&str> =
        rows.iter().flat_map(|row| &row.graph.nodes).map(|node| node.op.name()).collect();
    let fused = "input state constant select dropout broadcast reshape transpose slice pad concat matmul softmax \
        log_softmax layer_norm layer_norm_backward lstm lstm_forward lstm_backward gru gru_forward \
        gru_backward conv1d conv1d_backward attention attention_forward attention_backward adamw";
    let mut expected: BTreeSet<&str> = fused.split_whitespace().collect();
    expected.extend(UnaryOp::ALL.map(UnaryOp::name));
    expected.extend(BinaryOp::ALL.map(BinaryOp::name));
    expected.extend([ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Max].map(ReduceOp::name));
    assert_eq!(present, expected);
}

/// The reference with one thing wrong.
struct Wrong {
    /// Changes each node before the graph is prepared.
    op: fn(&mut Node),
    /// Changes each output after a run.
    output: fn(&mut [f32]),
    /// Called at each run with its number.
    noise: fn(u32) -> f32,
}

const RIGHT: Wrong = Wrong { op: |_| (), output: |_| (), noise: |_| 0.0 };

struct WrongPlan {
    inner: Box<dyn Plan>,
    output: fn(&mut [f32]),
    noise: f32,
}

static PLANS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

impl Executor for Wrong {
    fn name(&self) -> &str {
        "wrong"
    }

    fn prepare(&self, graph: &Graph, batches: &[usize]) -> Result<Box<dyn Plan>, PrepareError> {
        let mut graph = graph.clone();
        graph.nodes.iter_mut().for_each(self.op);
        let inner = Interpreter.prepare(&graph, batches)?;
        let number = PLANS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(Box::new(WrongPlan { inner, output: self.output, noise: (self.noise)(number) }))
    }

    fn prepare_sliding(
        &self,
        graph: &Graph,
        window: usize,
        streams: usize,
    ) -> Result<Box<dyn SlidingPlan>, PrepareError> {
        Interpreter.prepare_sliding(graph, window, streams)
    }
}

impl Plan for WrongPlan {
    fn run(&mut self, batch: usize, inputs: &[&[f32]], outputs: &mut [Vec<f32>]) -> Result<(), RunError> {
        self.inner.run(batch, inputs, outputs)?;
        for output in outputs {
            (self.output)(output);
            output.iter_mut().for_each(|x| *x += self.noise);
        }
        Ok(())
    }

    fn load(&mut self, states: &[(String, Tensor)]) -> Result<(), RunError> {
        self.inner.load(states)
    }

    fn save(&self) -> Vec<(String, Tensor)> {
        self.inner.save()
    }
}

/// Names of the rows that fail, of those whose name starts so.
fn failed(executor: &Wrong, prefix: &str) -> BTreeSet<String> {
    let rows = rows().into_iter().filter(|row| row.name.starts_with(prefix));
    let outcomes: Vec<Outcome> = rows.flat_map(|row| check_row(executor, &row)).collect();
    let failed = outcomes.into_iter().filter(|o| matches!(o.verdict, Verdict::Failed { .. }));
    failed.map(|o| o.row).collect()
}

#[test]
fn an_executor_that_is_slightly_off_fails_nearly_everywhere() {
    let off = Wrong { output: |y| y.iter_mut().for_each(|x| *x *= 1.005), ..RIGHT };
    let failed = failed(&off, "");
    let passed: Vec<String> =
        rows().into_iter().map(|r| r.name).filter(|name| !failed.contains(name)).collect();
    // A log softmax over one element, and a step without a gradient, give only zeros.
    assert!(passed.len() <= 3, "{passed:?}");
}

#[test]
fn an_executor_with_one_wrong_element_fails() {
    let off = Wrong { output: one_wrong, ..RIGHT };
    fn one_wrong(y: &mut [f32]) {
        if let Some(x) = y.iter_mut().rfind(|x| x.is_finite()) {
            *x = *x * 1.01 + 1e-3;
        }
    }
    let failed = failed(&off, "");
    let passed: Vec<String> =
        rows().into_iter().map(|r| r.name).filter(|name| !failed.contains(name)).collect();
    // Below rounding: some of these outputs are around 1e20.
    assert!(passed.len() <= 3, "{passed:?}");
}

#[test]
fn two_plans_that_differ_in_one_bit_fail() {
    let off = Wrong { noise: |plan| if plan % 2 == 0 { 0.0 } else { 1e-7 }, ..RIGHT };
    assert!(!failed(&off, "prediction of a two-layer LSTM").is_empty());
}

#[test]
fn a_wrong_op_fails_its_rows() {
    type Break = fn(&mut Node);
    let cases: [(&str, Break); 15] = [
        ("gelu", |node| {
            if node.op == Op::Unary(UnaryOp::Gelu) {
                node.op = Op::Unary(UnaryOp::Relu);
            }
        }),
        ("select", |node| {
            if node.op == Op::Select {
                node.inputs.swap(1, 2);
            }
        }),
        ("transpose", |node| {
            if let Op::Transpose { .. } = node.op {
                node.op = Op::Reshape { shape: node.shapes[0].clone() };
            }
        }),
        ("dropout", |node| {
            if let Op::Dropout { salt, .. } = &mut node.op {
                *salt ^= 1;
            }
        }),
        ("layer_norm", |node| {
            if let Op::LayerNorm { epsilon } = &mut node.op {
                *epsilon *= 100.0;
            }
        }),
        ("lstm_backward", |node| {
            if let Op::LstmBackward = node.op {
                node.inputs.swap(3, 4);
            }
        }),
        ("gru_forward", |node| {
            if let Op::GruForward = node.op {
                node.inputs.swap(3, 4);
            }
        }),
        ("gru_backward", |node| {
            if let Op::GruBackward = node.op {
                node.inputs.swap(3, 5);
            }
        }),
        ("conv1d", |node| {
            if let Op::Conv1d { dilation } = &mut node.op {
                *dilation += 1;
            }
        }),
        ("conv1d_backward", |node| {
            if let Op::Conv1dBackward { dilation } = &mut node.op {
                *dilation += 1;
            }
        }),
        ("attention causal", |node| {
            if let Op::Attention { causal, .. } = &mut node.op {
                *causal = false;
            }
        }),
        ("attention_backward", |node| {
            if let Op::AttentionBackward { .. } = node.op {
                node.inputs.swap(3, 5);
            }
        }),
        ("adamw", |node| {
            if let Op::AdamW { beta2, .. } = &mut node.op {
                *beta2 = 0.99;
            }
        }),
        ("reduce_mean", |node| {
            if let Op::Reduce { op: op @ ReduceOp::Mean, .. } = &mut node.op {
                *op = ReduceOp::Sum;
            }
        }),
        ("softmax", |node| {
            if let Op::Softmax { axis } = node.op {
                node.op = Op::LogSoftmax { axis };
            }
        }),
    ];
    for (prefix, op) in cases {
        assert!(!failed(&Wrong { op, ..RIGHT }, prefix).is_empty(), "{prefix}");
    }
}

/// The reference, but every state starts at zero, and a sliding plan answers from the first row on.
struct Hasty;

struct HastySliding(Box<dyn SlidingPlan>);

impl Executor for Hasty {
    fn name(&self) -> &str {
        "hasty"
    }

    fn prepare(&self, graph: &Graph, batches: &[usize]) -> Result<Box<dyn Plan>, PrepareError> {
        let mut graph = graph.clone();
        graph.states.iter_mut().for_each(|state| state.initial = Initial::Zeros);
        Interpreter.prepare(&graph, batches)
    }

    fn prepare_sliding(
        &self,
        graph: &Graph,
        window: usize,
        streams: usize,
    ) -> Result<Box<dyn SlidingPlan>, PrepareError> {
        Ok(Box::new(HastySliding(Interpreter.prepare_sliding(graph, window, streams)?)))
    }
}

impl SlidingPlan for HastySliding {
    fn push(&mut self, stream: usize, row: &[f32], output: &mut Vec<f32>) -> Result<bool, RunError> {
        self.0.push(stream, row, output).map(|_| true)
    }

    fn replace(&mut self, stream: usize, row: &[f32], output: &mut Vec<f32>) -> Result<bool, RunError> {
        self.0.replace(stream, row, output)
    }

    fn settle(&mut self, stream: usize) -> Result<(), RunError> {
        self.0.settle(stream)
    }

    fn reset(&mut self, stream: usize) {
        self.0.reset(stream);
    }
}

#[test]
fn a_wrong_start_and_an_early_answer_fail() {
    let detail = |outcomes: Vec<Outcome>| match &outcomes[0].verdict {
        Verdict::Failed { detail } => detail.clone(),
        other => panic!("{other:?}"),
    };
    let row = rows().into_iter().find(|row| row.name == "states start").unwrap();
    assert_eq!(detail(check_row(&Hasty, &row)), "state \"constant\" doesn't start as the graph says");
    assert_eq!(detail(check_sliding(&Hasty)), "round 0, stream 0: push said true");
}

#[test]
fn a_comparison_knows_nan_and_infinity() {
    let within =
        |got: f32, expected: f64| Tolerance::relative(2.0).compare(&[got], &[expected], &[expected]).is_ok();
    assert!(within(f32::NAN, f64::NAN) && !within(0.0, f64::NAN) && !within(f32::NAN, 0.0));
    assert!(
        within(f32::INFINITY, 1e39) && !within(f32::NEG_INFINITY, 1e39) && !within(f32::MAX, f64::INFINITY)
    );
    assert!(within(0.0, 1e-39) && within(1.0 + f32::EPSILON, 1.0) && !within(1.0 + 3.0 * f32::EPSILON, 1.0));
    assert!(Tolerance::EXACT.compare(&[1.0], &[1.0, 2.0], &[1.0, 2.0]).is_err());
}
