//! What is refused, and what the message says.

use graph::{Builder, CodecError, Graph, GraphCodec, Initial, Shape};

use super::trained;
use crate::Onnx;

fn check(graph: &Graph, op: &str, words: &str) {
    match Onnx.encode(graph) {
        Err(CodecError::Unsupported { op: found, reason }) => {
            assert_eq!(found, op, "{reason}");
            assert!(reason.contains(words), "{reason}");
        }
        other => panic!("{op}: {:?}", other.map(|bytes| bytes.len())),
    }
}

#[test]
fn training_graphs() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[3])).unwrap();
    let y = b.dropout(x, 0.5).unwrap();
    b.output("y", y).unwrap();
    let graph = b.finish().unwrap();
    check(&graph, "dropout", "rewrite::inference");
    let inference = graph::rewrite::inference(&graph).unwrap();
    assert!(Onnx.encode(&inference).is_ok());

    let mut b = Builder::new();
    let w = b.state("w", Shape::fixed(&[3]), Initial::Glorot, true).unwrap();
    let half = b.scalar(0.5).unwrap();
    let decayed = b.mul(w, half).unwrap();
    b.update(w, decayed).unwrap();
    b.output("w2", decayed).unwrap();
    check(&trained(&b.finish().unwrap()), "update", "rewrite::inference");
}

#[test]
fn states_without_a_value() {
    let mut b = Builder::new();
    let w = b.state("weight", Shape::fixed(&[3]), Initial::Zeros, true).unwrap();
    let y = b.add(w, w).unwrap();
    b.output("y", y).unwrap();
    check(&b.finish().unwrap(), "state", "\"weight\"");
}

#[test]
fn an_output_called_as_an_input() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[3])).unwrap();
    let y = b.add(x, x).unwrap();
    b.output("x", y).unwrap();
    check(&b.finish().unwrap(), "output", "\"x\"");
}

#[test]
fn a_batch_that_no_input_has() {
    let mut b = Builder::new();
    let one = b.scalar(1.0).unwrap();
    let ones = b.broadcast(one, Shape::batch(&[3])).unwrap();
    b.output("y", ones).unwrap();
    check(&b.finish().unwrap(), "broadcast", "no input");
}

#[test]
fn more_states_than_would_be_read() {
    let mut b = Builder::new();
    let one = graph::Tensor::scalar(1.0);
    for i in 0..=crate::limits::NAMES_MAX {
        let w = b.state(&format!("w{i}"), Shape::scalar(), Initial::Given(one.clone()), true).unwrap();
        if i == 0 {
            b.output("y", w).unwrap();
        }
    }
    check(&b.finish().unwrap(), "graph", "initialisers");
}

#[test]
fn graphs_that_fail_their_check() {
    let mut graph = super::model();
    graph.nodes.swap(0, 12);
    assert!(matches!(Onnx.encode(&graph), Err(CodecError::Invalid(_))));
}
