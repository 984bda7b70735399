//! Nodes that become one: chains of every elementwise op and kind of operand, biases, sums of padded parts.

use graph::builder::Builder;
use graph::loss::Loss;
use graph::training::{Optimiser, training_graph};
use graph::{BinaryOp, Executor, Graph, Initial, Op, Shape, UnaryOp, Value};

use super::{check_against_reference, numbers, run};
use crate::fusion::Fusion;
use crate::{Cpu, CpuOptions, Isa};

/// Every op, operands that are full, rows, columns and scalars, values that are read twice, and a product's bias.
fn chains(width: usize) -> Graph {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[7, width])).unwrap();
    let z = b.input("z", Shape::batch(&[7, width])).unwrap();
    let row = b.input("row", Shape::fixed(&[width])).unwrap();
    let column = b.input("column", Shape::batch(&[7, 1])).unwrap();
    let one = b.input("one", Shape::scalar()).unwrap();
    let mut y = b.add(x, row).unwrap();
    y = b.mul(y, column).unwrap();
    y = b.sub(one, y).unwrap();
    let kept = y;
    for op in [UnaryOp::Abs, UnaryOp::Square, UnaryOp::Tanh, UnaryOp::Gelu, UnaryOp::Neg, UnaryOp::Sigmoid] {
        y = b.unary(op, y).unwrap();
    }
    for op in
        [UnaryOp::Sqrt, UnaryOp::Exp, UnaryOp::Log, UnaryOp::Softplus, UnaryOp::Reciprocal, UnaryOp::Erf]
    {
        y = b.unary(op, y).unwrap();
    }
    for op in [BinaryOp::Max, BinaryOp::Min, BinaryOp::Add, BinaryOp::Mul] {
        y = b.binary(op, y, z).unwrap();
    }
    let less = b.binary(BinaryOp::Less, kept, one).unwrap();
    y = b.select(less, y, kept).unwrap();
    let relu = b.unary(UnaryOp::Relu, y).unwrap();
    let w = b.input("w", Shape::fixed(&[width, 5])).unwrap();
    let bias = b.input("bias", Shape::fixed(&[5])).unwrap();
    let product = b.matmul(relu, w, false, false).unwrap();
    let sum = b.add(bias, product).unwrap();
    let sign = b.unary(UnaryOp::Sign, sum).unwrap();
    let parts = [(0, width), (width, 2 * width)];
    let padded =
        parts.map(|(start, end)| b.pad(if start == 0 { relu } else { kept }, 2, start, 2 * width - end));
    let [first, second] = padded.map(|value| value.unwrap());
    let joined = b.add(second, first).unwrap();
    for (name, value) in [("sum", sum), ("sign", sign), ("relu", relu), ("joined", joined)] {
        b.output(name, value).unwrap();
    }
    b.finish().unwrap()
}

#[test]
fn fused_nodes_match_the_reference() {
    for (width, batch) in [(1, 1), (3, 2), (40, 4), (700, 3), (64, 300)] {
        check_against_reference(&chains(width), batch, 3e-6);
    }
}

#[test]
fn what_feeds_each_other_is_one_node() {
    let graph = chains(40);
    let fusion = Fusion::new(&graph);
    let count = |name: &str, f: &dyn Fn(graph::NodeId) -> bool| {
        let of_kind = |node: &graph::Node| name.is_empty() || node.op.name() == name;
        (0..graph.nodes.len() as u32)
            .filter(|&i| of_kind(&graph.nodes[i as usize]) && f(graph::NodeId(i)))
            .count()
    };
    // The one that `kept` ends, the one that `relu` ends, the sign and the sum of the padded ones.
    assert_eq!(count("", &|id| fusion.is_chain(id)), 4);
    assert_eq!(count("matmul", &|id| fusion.bias(id).is_some()), 1);
    assert!(graph.nodes.iter().any(|node| matches!(node.op, Op::Pad { .. })));
}

fn transformer(b: &mut Builder, x: Value) -> Value {
    let state = |b: &mut Builder, name: &str, dims: &[usize]| {
        b.state(name, Shape::fixed(dims), Initial::Glorot, true).unwrap()
    };
    let (w, bias) = (state(b, "w", &[12, 36]), state(b, "bias", &[36]));
    let (gain, shift) = (state(b, "gain", &[12]), state(b, "shift", &[12]));
    let normal = b.layer_norm(x, gain, shift, 1e-5).unwrap();
    let all = b.matmul(normal, w, false, false).unwrap();
    let all = b.add(all, bias).unwrap();
    let [q, k, v] = [0, 1, 2].map(|i| b.slice(all, 2, i * 12, (i + 1) * 12).unwrap());
    let mixed = b.attention(q, k, v, 3, true).unwrap();
    let sum = b.add(x, mixed).unwrap();
    let dropped = b.dropout(sum, 0.2).unwrap();
    let wide = b.unary(UnaryOp::Gelu, dropped).unwrap();
    let head = state(b, "head", &[12, 1]);
    let y = b.matmul(wide, head, false, false).unwrap();
    b.reduce(graph::ReduceOp::Mean, y, &[1], false).unwrap()
}

#[test]
fn training_a_transformer_follows_the_reference_and_has_the_same_bits_on_any_number_of_threads() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[70, 12])).unwrap();
    let y = transformer(&mut b, x);
    b.output("prediction", y).unwrap();
    let graph = training_graph(&b.finish().unwrap(), &Loss::MeanSquared, &Optimiser::default()).unwrap();
    let batch = 50;
    let inputs: Vec<Vec<f32>> = graph
        .inputs()
        .map(|(name, _, shape)| match name {
            "learning_rate" => vec![1e-2],
            graph::builder::DROPOUT_SEED => vec![77.0],
            _ => numbers(shape.elements(batch).unwrap(), 3),
        })
        .collect();
    let slices: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut states = graph::reference::initial_states_f64(&graph, 0);
    let wide: Vec<Vec<f64>> = inputs.iter().map(|x| x.iter().map(|&x| f64::from(x)).collect()).collect();
    let want: Vec<f64> =
        (0..4).map(|_| graph::reference::run(&graph, batch, &wide, &mut states).unwrap()[0][0]).collect();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        let results = [1, 2, 5].map(|threads| {
            let cpu = Cpu::new(CpuOptions { threads, isa: Some(isa), ..CpuOptions::default() }).unwrap();
            let mut plan = cpu.prepare(&graph, &[batch]).unwrap();
            let losses: Vec<f32> =
                (0..4).map(|_| run(plan.as_mut(), batch, &slices, graph.outputs.len())[0][0]).collect();
            (losses, plan.save())
        });
        for (got, want) in results[0].0.iter().zip(&want) {
            assert!(
                (f64::from(*got) - want).abs() < 1e-5 * want.abs().max(1.0),
                "{isa}: {got} is not {want}"
            );
        }
        assert!(results.iter().all(|result| result == &results[0]), "{isa}");
    }
}
