//! Each thing that can be wrong with a graph, and graphs broken at random.

use proptest::prelude::*;

use super::*;
use crate::builder::Builder;
use crate::graph::{NodeId, Update};
use crate::op::{BinaryOp, ReduceOp, UnaryOp};
use crate::shape::Dim;
use crate::tensor::Tensor;
use crate::testing::{property_config, random_graph};
use crate::{gradient, reference, rewrite};

/// x · w + 1 with an update of w.
fn sample() -> Graph {
    let mut b = Builder::new();
    b.scope("sample");
    let x = b.input("x", Shape::batch(&[3])).unwrap();
    let w = b.state("w", Shape::fixed(&[3]), Initial::Glorot, true).unwrap();
    let y = b.mul(x, w).unwrap();
    let one = b.scalar(1.0).unwrap();
    let z = b.add(y, one).unwrap();
    b.output("z", z).unwrap();
    let next = b.add(w, one).unwrap();
    b.update(w, next).unwrap();
    b.finish().unwrap()
}

fn value(node: u32, slot: u32) -> Value {
    Value { node: NodeId(node), slot }
}

/// Breaks the sample and gives the error's text, or "" where nothing is found wrong.
fn broken(change: impl FnOnce(&mut Graph)) -> String {
    let mut graph = sample();
    change(&mut graph);
    verify(&graph, &Limits::default()).map_or_else(|e| e.to_string(), |()| String::new())
}

#[test]
fn every_mistake_is_named() {
    assert_eq!(broken(|_| ()), "");
    type Break = Box<dyn FnOnce(&mut Graph)>;
    let cases: Vec<(Break, &str)> = vec![
        (Box::new(|g| g.nodes[2].inputs[1] = value(2, 0)), "input 2:0 isn't a value of an earlier node"),
        (Box::new(|g| g.nodes[2].inputs[1] = value(4, 0)), "input 4:0 isn't a value of an earlier node"),
        (Box::new(|g| g.nodes[2].inputs[1] = value(1, 1)), "input 1:1 isn't a value of an earlier node"),
        (Box::new(|g| g.nodes[2].inputs[1] = value(u32::MAX, u32::MAX)), "isn't a value of an earlier node"),
        (Box::new(|g| g.nodes[2].inputs.truncate(1)), "takes 2 inputs, not 1"),
        (Box::new(|g| g.nodes[0].inputs.push(value(0, 0))), "isn't a value of an earlier node"),
        (Box::new(|g| g.nodes[1].inputs.push(value(0, 0))), "takes 0 inputs, not 1"),
        (Box::new(|g| g.nodes[2].shapes[0] = Shape::batch(&[4])), "not those of its shape rule"),
        (Box::new(|g| g.nodes[2].shapes.clear()), "not those of its shape rule"),
        (Box::new(|g| g.nodes[0].shapes.clear()), "it has one output, not 0"),
        (Box::new(|g| g.nodes[0].shapes[0] = Shape::batch(&[0])), "dimension of size 0"),
        (Box::new(|g| g.nodes[0].shapes[0] = Shape::batch(&[5])), "don't broadcast"),
        (Box::new(|g| g.nodes[0].op = Op::Input { name: String::new() }), "the name is empty"),
        (Box::new(|g| g.nodes[0].op = Op::Input { name: "x".repeat(257) }), "the name has 257 bytes"),
        (Box::new(|g| g.nodes[0].op = Op::Input { name: "w".into() }), "\"w\" is taken"),
        (Box::new(|g| g.nodes[0].scope = "s".repeat(257)), "the scope has more than 256 bytes"),
        (Box::new(|g| g.states.clear()), "state \"w\": its node has no entry"),
        (Box::new(|g| g.states.push(g.states[0].clone())), "state \"w\": it is listed twice"),
        (Box::new(|g| g.states[0].node = NodeId(0)), "node 0 isn't this state"),
        (Box::new(|g| g.states[0].node = NodeId(99)), "node 99 isn't this state"),
        (Box::new(|g| g.states[0].name = "v".into()), "isn't this state"),
        (Box::new(|g| g.states[0].initial = Initial::LstmBias), "is not an LSTM's bias"),
        (Box::new(|g| g.states[0].initial = Initial::UniformRoot { n: 0 }), "n must be above 0"),
        (Box::new(|g| g.states[0].initial = Initial::Normal { deviation: 0.0 }), "not finite and above 0"),
        (Box::new(|g| g.states[0].initial = Initial::Constant(f32::NAN)), "NaN is not finite"),
        (Box::new(|g| g.states[0].initial = Initial::Given(Tensor::zeros(&[4]))), "has shape [4], not [3]"),
        (Box::new(|g| g.outputs.push(("z".into(), value(0, 0)))), "the name is taken"),
        (Box::new(|g| g.outputs[0].0.clear()), "the name is empty"),
        (Box::new(|g| g.outputs[0].1 = value(77, 0)), "77:0 isn't a value of the graph"),
        (Box::new(|g| g.outputs[0].1 = value(0, 9)), "0:9 isn't a value of the graph"),
        (Box::new(|g| g.updates[0].state = "v".into()), "there is no such state"),
        (Box::new(|g| g.updates[0].value = value(0, 0)), "the value is [B, 3], the state [3]"),
        (Box::new(|g| g.updates[0].value = value(77, 0)), "77:0 isn't a value of the graph"),
        (Box::new(|g| g.updates.push(g.updates[0].clone())), "the state is already updated"),
    ];
    for (change, expected) in cases {
        let message = broken(change);
        assert!(!expected.is_empty() && message.contains(expected), "{message:?} lacks {expected:?}");
    }
    let message = broken(|g| g.nodes[2].op = Op::Concat { axis: 0 });
    assert_eq!(message, "node 2, concat in sample of [B, 3], [3]: axis 0 of [B, 3] depends on the batch");
}

#[test]
fn a_state_may_not_depend_on_the_batch() {
    let message = broken(|g| {
        g.nodes[1].shapes[0] = Shape::batch(&[3]);
        g.nodes[5].shapes[0] = Shape::batch(&[3]);
    });
    assert!(message.contains("depends on the batch"), "{message}");
}

#[test]
fn every_limit_holds() {
    let graph = sample();
    let enough = Limits {
        nodes_max: 6,
        node_inputs_max: 2,
        name_bytes_max: 6,
        batch: 10,
        elements_max: 30,
        elements_total_max: 3 * 30 + 2 * 3 + 1,
        // Each element read or written by an op, or once for a source.
        flops_max: (30 + 3) + (30 + 3 + 30) + 1 + (30 + 1 + 30) + (3 + 1 + 3),
    };
    assert_eq!(verify(&graph, &enough), Ok(()));
    let tight: [fn(&mut Limits); 7] = [
        |l| l.nodes_max -= 1,
        |l| l.node_inputs_max -= 1,
        |l| l.name_bytes_max -= 1,
        |l| l.batch += 1,
        |l| l.elements_max -= 1,
        |l| l.elements_total_max -= 1,
        |l| l.flops_max -= 1,
    ];
    for (i, tighten) in tight.into_iter().enumerate() {
        let mut limits = enough.clone();
        tighten(&mut limits);
        assert!(verify(&graph, &limits).is_err(), "limit {i}");
    }
}

#[test]
fn a_huge_graph_is_refused_without_arithmetic_overflow() {
    let huge = [Dim::Fixed(usize::MAX), Dim::Batch(usize::MAX), Dim::Fixed(1 << 40)];
    for dim in huge {
        let message = broken(|g| g.nodes[0].shapes[0] = Shape::new([dim, Dim::Fixed(3)]));
        assert!(message.contains("too many elements") || message.contains("more than"), "{message}");
    }
}

// -- graphs broken at random --

fn dim() -> impl Strategy<Value = Dim> {
    let size =
        prop_oneof![0usize..5, Just(usize::MAX), Just(usize::MAX / 4 + 1), Just(1 << 33), any::<usize>()];
    (size, any::<bool>()).prop_map(|(size, batch)| if batch { Dim::Batch(size) } else { Dim::Fixed(size) })
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        proptest::collection::vec(1usize..5, 0..4).prop_map(|dims| Shape::fixed(&dims)),
        proptest::collection::vec(1usize..5, 0..3).prop_map(|dims| Shape::batch(&dims)),
        proptest::collection::vec(dim(), 0..10).prop_map(Shape::new),
    ]
}

fn index() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..4, Just(usize::MAX), Just(usize::MAX - 1), any::<usize>()]
}

fn number() -> impl Strategy<Value = f32> {
    prop_oneof![Just(0.5f32), Just(0.0), Just(-1.0), Just(1.0), Just(f32::NAN), Just(f32::INFINITY)]
}

pub(crate) fn hostile_op() -> impl Strategy<Value = Op> {
    use crate::op::Keep;
    let axes = || proptest::collection::vec(index(), 0..5);
    prop_oneof![
        prop_oneof!["[a-c]", ".{0,3}"].prop_map(|name| Op::Input { name }),
        prop_oneof!["[a-c]", Just("s".to_string())].prop_map(|name| Op::State { name }),
        (0usize..4).prop_map(|n| Op::Constant(Tensor::zeros(&[n]))),
        (0usize..14).prop_map(|i| Op::Unary(UnaryOp::ALL[i])),
        (0usize..7).prop_map(|i| Op::Binary(BinaryOp::ALL[i])),
        Just(Op::Select),
        (number(), any::<u32>()).prop_map(|(rate, salt)| Op::Dropout { rate, salt }),
        shape().prop_map(|shape| Op::Broadcast { shape }),
        shape().prop_map(|shape| Op::Reshape { shape }),
        axes().prop_map(|axes| Op::Transpose { axes }),
        (index(), index(), index()).prop_map(|(axis, start, end)| Op::Slice { axis, start, end }),
        (index(), index(), index()).prop_map(|(axis, before, after)| Op::Pad { axis, before, after }),
        index().prop_map(|axis| Op::Concat { axis }),
        any::<(bool, bool)>().prop_map(|(a, b)| Op::MatMul { transpose_a: a, transpose_b: b }),
        (0usize..3, axes(), any::<bool>()).prop_map(|(op, axes, keep)| {
            Op::Reduce { op: [ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Max][op], axes, keep }
        }),
        index().prop_map(|axis| Op::Softmax { axis }),
        index().prop_map(|axis| Op::LogSoftmax { axis }),
        number().prop_map(|epsilon| Op::LayerNorm { epsilon }),
        number().prop_map(|epsilon| Op::LayerNormBackward { epsilon }),
        any::<bool>().prop_map(|last| Op::Lstm { keep: if last { Keep::Last } else { Keep::Sequence } }),
        Just(Op::LstmForward),
        Just(Op::LstmBackward),
        any::<bool>().prop_map(|last| Op::Gru { keep: if last { Keep::Last } else { Keep::Sequence } }),
        Just(Op::GruForward),
        Just(Op::GruBackward),
        index().prop_map(|dilation| Op::Conv1d { dilation }),
        index().prop_map(|dilation| Op::Conv1dBackward { dilation }),
        (index(), any::<bool>()).prop_map(|(heads, causal)| Op::Attention { heads, causal }),
        (index(), any::<bool>()).prop_map(|(heads, causal)| Op::AttentionForward { heads, causal }),
        (index(), any::<bool>()).prop_map(|(heads, causal)| Op::AttentionBackward { heads, causal }),
        (number(), number(), number(), number()).prop_map(|(beta1, beta2, epsilon, weight_decay)| {
            Op::AdamW { beta1, beta2, epsilon, weight_decay }
        }),
    ]
}

/// A change of one place of a graph; places are taken modulo what there is.
#[derive(Clone, Debug)]
enum Change {
    Op(usize, Op),
    Input(usize, usize, u32, u32),
    InputCount(usize, usize),
    Shape(usize, usize, Shape),
    AddNode(Op, Vec<u32>, Vec<Shape>),
    Output(u32, u32),
    Update(u32, u32),
    StateNode(u32),
}

fn change() -> impl Strategy<Value = Change> {
    let place = || prop_oneof![0u32..40, any::<u32>()];
    let slot = || prop_oneof![0u32..3, any::<u32>()];
    prop_oneof![
        (0usize..40, hostile_op()).prop_map(|(node, op)| Change::Op(node, op)),
        (0usize..40, 0usize..3, place(), slot())
            .prop_map(|(node, i, to, slot)| Change::Input(node, i, to, slot)),
        (0usize..40, 0usize..9).prop_map(|(node, count)| Change::InputCount(node, count)),
        (0usize..40, 0usize..3, shape()).prop_map(|(node, slot, shape)| Change::Shape(node, slot, shape)),
        (hostile_op(), proptest::collection::vec(0u32..40, 0..8), proptest::collection::vec(shape(), 0..4))
            .prop_map(|(op, inputs, shapes)| Change::AddNode(op, inputs, shapes)),
        (place(), slot()).prop_map(|(node, slot)| Change::Output(node, slot)),
        (place(), slot()).prop_map(|(node, slot)| Change::Update(node, slot)),
        place().prop_map(Change::StateNode),
    ]
}

fn make(graph: &mut Graph, change: Change) {
    let count = graph.nodes.len();
    match change {
        Change::Op(node, op) => {
            let node = &mut graph.nodes[node % count];
            node.op = op;
        }
        Change::Input(node, i, to, slot) => {
            if let Some(input) = graph.nodes[node % count].inputs.get_mut(i) {
                *input = value(to, slot);
            }
        }
        Change::InputCount(node, inputs) => graph.nodes[node % count].inputs.resize(inputs, value(0, 0)),
        Change::Shape(node, slot, shape) => {
            if let Some(old) = graph.nodes[node % count].shapes.get_mut(slot) {
                *old = shape;
            }
        }
        Change::AddNode(op, inputs, shapes) => {
            let inputs: Vec<Value> = inputs.into_iter().map(|node| value(node % count as u32, 0)).collect();
            // Mostly with the right shapes, so that what follows from them is looked at too.
            let found: Option<Vec<&Shape>> = inputs.iter().map(|&v| find_shape(graph, v)).collect();
            let shapes = found.and_then(|found| shape_rule(&op, &found).ok()).unwrap_or(shapes);
            graph.nodes.push(Node { op, inputs, shapes, scope: String::new() });
            let added = value(graph.nodes.len() as u32 - 1, 0);
            graph.outputs.push((format!("added.{}", graph.nodes.len()), added));
        }
        Change::Output(node, slot) => graph.outputs.push(("extra".into(), value(node, slot))),
        Change::Update(node, slot) => {
            graph.updates.push(Update { state: "s".into(), value: value(node, slot) })
        }
        Change::StateNode(node) => {
            if let Some(state) = graph.states.first_mut() {
                state.node = NodeId(node);
            }
        }
    }
}

fn small_limits() -> Limits {
    Limits {
        batch: 2,
        elements_max: 2_000,
        elements_total_max: 20_000,
        flops_max: 100_000,
        ..Limits::default()
    }
}

proptest! {
    #![proptest_config(property_config(512))]

    /// Whatever the graph, `verify` answers; and what it passes can be run, simplified and differentiated.
    #[test]
    fn a_broken_graph_is_refused_or_runs(
        choices in proptest::collection::vec(any::<u16>(), 0..40),
        changes in proptest::collection::vec(change(), 0..4),
    ) {
        let mut graph = random_graph(&choices, false);
        changes.into_iter().for_each(|change| make(&mut graph, change));
        if let Err(error) = verify(&graph, &small_limits()) {
            prop_assert!(!error.to_string().is_empty());
            return Ok(());
        }
        let inputs: Vec<Vec<f64>> =
            graph.inputs().map(|(_, _, shape)| vec![0.5; shape.elements(2).unwrap()]).collect();
        let mut states = reference::initial_states_f64(&graph, 0);
        let outputs = reference::run(&graph, 2, &inputs, &mut states).unwrap();
        for ((_, value), output) in graph.outputs.iter().zip(&outputs) {
            prop_assert_eq!(graph.shape(*value).elements(2), Some(output.len()));
        }
        rewrite::inference(&graph).unwrap();
        let loss = graph.outputs.iter().map(|o| o.1).find(|&v| graph.shape(v).rank() == 0);
        let wrt: Vec<Value> = graph.inputs().map(|(_, node, _)| Value { node, slot: 0 }).collect();
        if let Some(loss) = loss {
            match gradient::gradient(&graph, loss, &wrt) {
                Ok(_) | Err(gradient::GradientError::NotDifferentiable { .. }) => {}
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }

    /// No op panics on any shapes, and what it derives is a legal shape.
    #[test]
    fn the_shape_rule_answers_anything(op in hostile_op(), shapes in proptest::collection::vec(shape(), 0..8)) {
        let shapes: Vec<&Shape> = shapes.iter().collect();
        if let Ok(derived) = shape_rule(&op, &shapes) {
            prop_assert!(!derived.is_empty());
            for shape in &derived {
                prop_assert_eq!(check_shape(shape), Ok(()));
            }
            crate::cost::flops(&op, &shapes, &derived, usize::MAX);
        }
    }
}
