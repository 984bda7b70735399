use proptest::prelude::*;

use super::*;
use crate::builder::Builder;
use crate::graph::Initial;
use crate::op::{BinaryOp, UnaryOp};
use crate::reference;
use crate::testing::{property_config, random_graph};

/// Op names in order.
fn names(graph: &Graph) -> Vec<&'static str> {
    graph.nodes.iter().map(|node| node.op.name()).collect()
}

fn input_names(graph: &Graph) -> Vec<&str> {
    graph.inputs().map(|(name, ..)| name).collect()
}

/// Outputs and states after two runs at batch 2.
fn results(graph: &Graph) -> Vec<Vec<f64>> {
    let values = [0.31, -1.42, 2.17, -0.23, 0.74, -2.61, 1.57];
    let inputs: Vec<Vec<f64>> = graph
        .inputs()
        .map(|(name, _, shape)| {
            let skip = name.len() % 3;
            values.iter().copied().cycle().skip(skip).take(shape.elements(2).unwrap()).collect()
        })
        .collect();
    let mut states = reference::initial_states_f64(graph, 3);
    let mut all = Vec::new();
    for _ in 0..2 {
        all.extend(reference::run(graph, 2, &inputs, &mut states).unwrap());
    }
    all.extend(graph.updates.iter().map(|u| states.iter().find(|s| s.0 == u.state).unwrap().1.clone()));
    all
}

fn bits(all: &[Vec<f64>]) -> Vec<Vec<u64>> {
    all.iter().map(|data| data.iter().map(|x| x.to_bits()).collect()).collect()
}

fn has_random_masks(graph: &Graph) -> bool {
    names(graph).contains(&"dropout")
}

proptest! {
    #![proptest_config(property_config(256))]

    #[test]
    fn passes_that_compute_nothing_keep_every_bit(choices in proptest::collection::vec(any::<u16>(), 0..80)) {
        let graph = random_graph(&choices, false);
        let before = results(&graph);
        for pass in [drop_identities, share] {
            prop_assert_eq!(bits(&results(&pass(&graph).unwrap())), bits(&before));
        }
        if !has_random_masks(&graph) {
            prop_assert_eq!(bits(&results(&drop_dead(&graph).unwrap())), bits(&before));
        }
    }

    #[test]
    fn a_simplified_graph_has_the_same_values(choices in proptest::collection::vec(any::<u16>(), 0..80)) {
        let graph = random_graph(&choices, true);
        let simple = simplify(&graph).unwrap();
        prop_assert!(simple.nodes.len() <= graph.nodes.len());
        prop_assert_eq!(&simplify(&simple).unwrap(), &simple, "twice is not once");
        let without_updates = Graph { updates: Vec::new(), ..graph.clone() };
        let inference = inference(&graph).unwrap();
        prop_assert_eq!(&inference, &simplify(&without_updates).unwrap(), "dropout at rate 0 is an identity");
        prop_assert_eq!(
            simple.outputs.iter().map(|o| &o.0).collect::<Vec<_>>(),
            graph.outputs.iter().map(|o| &o.0).collect::<Vec<_>>()
        );
        // Folded constants are rounded to f32.
        for (simple, full) in results(&simple).iter().zip(&results(&graph)) {
            let largest = full.iter().fold(1.0f64, |a, b| a.max(b.abs()));
            for (a, b) in simple.iter().zip(full) {
                prop_assert!((a - b).abs() <= 1e-5 * largest, "{} is not {}", a, b);
            }
        }
    }
}

#[test]
fn inference_drops_dropout_its_seed_and_updates() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[3])).unwrap();
    let dropped = b.dropout(x, 0.5).unwrap();
    let w = b.state("w", Shape::fixed(&[3, 2]), Initial::Glorot, true).unwrap();
    let y = b.matmul(dropped, w, false, false).unwrap();
    let y = b.dropout(y, 0.1).unwrap();
    b.output("prediction", y).unwrap();
    let count = b.state("count", Shape::scalar(), Initial::Zeros, false).unwrap();
    b.update(count, count).unwrap();
    let model = b.finish().unwrap();
    let graph = inference(&model).unwrap();
    assert_eq!(names(&graph), ["input", "state", "matmul"]);
    assert_eq!(input_names(&graph), ["x"]);
    assert_eq!((graph.states.len(), graph.updates.len()), (1, 0));
    assert_eq!(names(&simplify(&model).unwrap()), names(&model));
}

#[test]
fn dead_nodes_go_and_inputs_stay() {
    let mut b = Builder::new();
    b.input("unused", Shape::batch(&[3])).unwrap();
    let x = b.input("x", Shape::batch(&[3])).unwrap();
    let used = b.state("used", Shape::scalar(), Initial::Zeros, true).unwrap();
    let dead = b.state("dead", Shape::scalar(), Initial::Zeros, true).unwrap();
    let updated = b.state("updated", Shape::scalar(), Initial::Zeros, false).unwrap();
    b.mul(x, dead).unwrap();
    let y = b.mul(x, used).unwrap();
    b.output("y", y).unwrap();
    b.update(updated, used).unwrap();
    let graph = drop_dead(&b.finish().unwrap()).unwrap();
    assert_eq!(names(&graph), ["input", "input", "state", "state", "mul"]);
    assert_eq!(input_names(&graph), ["unused", "x"]);
    assert_eq!(graph.states.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["used", "updated"]);
    assert_eq!(graph.updates.len(), 1);
}

#[test]
fn one_output_alone_takes_what_only_the_others_need_away() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[3])).unwrap();
    let both = b.state("both", Shape::scalar(), Initial::Zeros, true).unwrap();
    let other = b.state("other", Shape::scalar(), Initial::Zeros, true).unwrap();
    let shared = b.mul(x, both).unwrap();
    let aside = b.mul(shared, other).unwrap();
    let y = b.unary(UnaryOp::Tanh, shared).unwrap();
    b.output("aside", aside).unwrap();
    b.output("y", y).unwrap();
    b.update(other, both).unwrap();
    let graph = b.finish().unwrap();
    let alone = only(&graph, "y").unwrap();
    assert_eq!(names(&alone), ["input", "state", "mul", "tanh"]);
    assert_eq!(alone.outputs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["y"]);
    assert_eq!(alone.states.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["both"]);
    assert_eq!(only(&graph, "absent").unwrap().outputs.len(), 2);
}

#[test]
fn constants_fold_and_large_ones_do_not() {
    let mut b = Builder::new();
    let two = b.scalar(2.0).unwrap();
    let root = b.unary(UnaryOp::Sqrt, two).unwrap();
    let small = b.broadcast(root, Shape::fixed(&[3])).unwrap();
    let large = b.broadcast(root, Shape::fixed(&[300, 300])).unwrap();
    let batch = b.broadcast(root, Shape::batch(&[2])).unwrap();
    for (name, value) in [("small", small), ("large", large), ("batch", batch)] {
        b.output(name, value).unwrap();
    }
    let graph = simplify(&b.finish().unwrap()).unwrap();
    assert_eq!(names(&graph), ["constant", "constant", "broadcast", "broadcast"]);
    let small = graph.node(graph.output("small").unwrap().node);
    assert_eq!(small.op, Op::Constant(Tensor::new(vec![3], vec![std::f32::consts::SQRT_2; 3]).unwrap()));
}

#[test]
fn equal_nodes_are_shared_and_nearly_equal_ones_are_not() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[3])).unwrap();
    let pair = |b: &mut Builder, name: &str, first: Value, second: Value| {
        b.output(&format!("{name}.1"), first).unwrap();
        b.output(&format!("{name}.2"), second).unwrap();
    };
    let (first, second) = (b.unary(UnaryOp::Exp, x).unwrap(), b.unary(UnaryOp::Exp, x).unwrap());
    pair(&mut b, "same", first, second);
    let (first, second) = (b.scalar(0.0).unwrap(), b.scalar(-0.0).unwrap());
    pair(&mut b, "zeros", first, second);
    let (first, second) = (b.scalar(f32::NAN).unwrap(), b.scalar(f32::NAN).unwrap());
    pair(&mut b, "nan", first, second);
    let (first, second) = (b.slice(x, 1, 0, 2).unwrap(), b.slice(x, 1, 1, 3).unwrap());
    pair(&mut b, "slices", first, second);
    let (first, second) = (b.dropout(x, 0.5).unwrap(), b.dropout(x, 0.5).unwrap());
    pair(&mut b, "dropouts", first, second);
    let graph = share(&b.finish().unwrap()).unwrap();
    let shared = |name: &str| {
        graph.output(&format!("{name}.1")).unwrap() == graph.output(&format!("{name}.2")).unwrap()
    };
    let all = ["same", "zeros", "nan", "slices", "dropouts"];
    assert_eq!(all.map(shared), [true, false, true, false, false]);
}

#[test]
fn identities_go() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[3])).unwrap();
    let same = Shape::batch(&[3]);
    let y = b.reshape(x, same.clone()).unwrap();
    let y = b.broadcast(y, same).unwrap();
    let y = b.slice(y, 1, 0, 3).unwrap();
    let y = b.pad(y, 1, 0, 0).unwrap();
    let y = b.concat(&[y], 1).unwrap();
    let y = b.transpose(y, &[0, 1]).unwrap();
    let y = b.dropout(y, 0.0).unwrap();
    let y = b.transpose(y, &[1, 0]).unwrap();
    b.output("y", y).unwrap();
    assert_eq!(names(&simplify(&b.finish().unwrap()).unwrap()), ["input", "transpose"]);
}

#[test]
fn an_invalid_graph_is_refused() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[3])).unwrap();
    let y = b.binary(BinaryOp::Add, x, x).unwrap();
    b.output("y", y).unwrap();
    let mut graph = b.finish().unwrap();
    graph.nodes[1].inputs[0] = y;
    for pass in [inference, simplify, drop_dead, share, fold_constants, drop_identities, drop_dropout] {
        assert!(matches!(pass(&graph), Err(VerifyError::Node { node: 1, .. })));
    }
}
