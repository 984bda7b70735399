use super::*;
use crate::builder::Builder;
use crate::conformance::{Verdict, check_sliding};
use crate::executor::Executor;
use crate::reference::Interpreter;
use crate::shape::Shape;

/// The windows themselves as the prediction.
fn windows(input: Shape, outputs: &[&str]) -> Graph {
    let mut b = Builder::new();
    let x = b.input("features", input).unwrap();
    outputs.iter().for_each(|name| b.output(name, x).unwrap());
    b.finish().unwrap()
}

#[test]
fn windows_slide_by_one_row_and_streams_stay_apart() {
    let graph = windows(Shape::batch(&[3, 2]), &["other", "prediction"]);
    let mut plan = Interpreter.prepare_sliding(&graph, 3, 2).unwrap();
    let mut output = vec![9.0];
    for round in 0..5 {
        for stream in 0..2 {
            let first = (100 * stream + 10 * round) as f32;
            let ready = plan.push(stream, &[first, first + 1.0], &mut output).unwrap();
            assert_eq!(ready, round >= 2);
            if ready {
                let expected: Vec<f32> =
                    [20.0, 19.0, 10.0, 9.0, 0.0, -1.0].iter().map(|back| first - back).collect();
                assert_eq!(output, expected);
            }
        }
    }
    plan.reset(0);
    assert!(!plan.push(0, &[1.0, 2.0], &mut output).unwrap());
    assert!(plan.push(1, &[1.0, 2.0], &mut output).unwrap());
    assert!(plan.push(2, &[1.0, 2.0], &mut output).is_err());
    assert!(plan.push(0, &[1.0], &mut output).is_err());
    assert!(plan.settle(2).is_err());
}

#[test]
fn a_graph_of_another_form_is_refused() {
    let prepare =
        |graph: &Graph, window| Interpreter.prepare_sliding(graph, window, 1).err().unwrap().to_string();
    let graph = windows(Shape::batch(&[3, 2]), &["prediction"]);
    assert!(prepare(&graph, 4).contains("the input is [B, 3, 2], not [B, 4, features]"));
    assert!(prepare(&windows(Shape::fixed(&[1, 3, 2]), &["prediction"]), 3).contains("not [B, 3, features]"));
    assert!(prepare(&windows(Shape::batch(&[3, 2]), &["a", "b"]), 3).contains("no output named"));
    let mut b = Builder::from_graph(graph);
    b.input("more", Shape::scalar()).unwrap();
    assert!(prepare(&b.finish().unwrap(), 3).contains("the graph has 2 inputs"));
}

#[test]
fn the_sliding_rows_pass() {
    for outcome in check_sliding(&Interpreter) {
        assert!(matches!(outcome.verdict, Verdict::Passed { .. }), "{outcome}");
    }
}
