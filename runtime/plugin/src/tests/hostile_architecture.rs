use graph::{Graph, Limits, Shape};

use super::*;
use crate::architecture::{Architecture, ArchitectureError, ArchitectureErrorKind, Dimensions};
use crate::guest::GuestFailureKind;

const SIZE: Dimensions = Dimensions { window: 5, features: 3, outputs: 2 };

fn architecture() -> &'static Architecture {
    static ARCHITECTURE: OnceLock<Architecture> = OnceLock::new();
    ARCHITECTURE.get_or_init(|| {
        Architecture::new(&host().load(&path("hostile-architecture.wasm")).expect("loads"))
            .expect("an architecture")
    })
}

fn build(mode: &str) -> Result<Graph, ArchitectureError> {
    architecture().build(&options(json!({ "mode": mode })), SIZE, &Limits::default())
}

fn fails(mode: &str) -> ArchitectureErrorKind {
    let error = build(mode).expect_err(mode);
    assert_eq!(error.plugin, "hostile-architecture@0.1.0");
    assert!(error.to_string().starts_with("architecture hostile-architecture@0.1.0: "), "{error}");
    build("honest").expect("the host goes on");
    error.kind
}

fn guest(mode: &str) -> (GuestFailureKind, String) {
    match fails(mode) {
        ArchitectureErrorKind::Guest(failure) => (failure.kind, failure.to_string()),
        other => panic!("{mode}: {other:?}"),
    }
}

fn refused(mode: &str) -> String {
    match fails(mode) {
        ArchitectureErrorKind::Refused(message) => message,
        other => panic!("{mode}: {other:?}"),
    }
}

fn malformed(mode: &str) -> String {
    match fails(mode) {
        ArchitectureErrorKind::Graph(message) => message,
        other => panic!("{mode}: {other:?}"),
    }
}

#[test]
fn an_honest_one_gives_a_model() {
    let graph = build("honest").expect("honest");
    let (name, _, shape) = graph.inputs().next().expect("an input");
    assert_eq!((name, shape), (crate::INPUT, &Shape::batch(&[5, 3])));
    let output = graph.output(crate::OUTPUT).expect("an output");
    assert_eq!(graph.shape(output), &Shape::batch(&[2]));
    let names: Vec<&str> = graph.states.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["hidden.w", "hidden.b", "head.w"]);
    assert!(graph.nodes.iter().any(|node| node.scope == "hidden"));
    assert_eq!(build("honest").expect("again"), graph, "the same every time");
}

#[test]
fn guests_that_fail_are_told_apart() {
    let (kind, text) = guest("panic");
    assert_eq!(kind, GuestFailureKind::Trap);
    assert!(text.starts_with("build panicked: no such architecture (at "), "{text}");
    assert!(text.contains("src/lib.rs:"), "{text}");
    assert_eq!(guest("loop").0, GuestFailureKind::Timeout);
    let (kind, text) = guest("memory");
    assert!(kind == GuestFailureKind::Memory && text.contains("its limit is 24.0 MiB"), "{text}");
    let (kind, text) = guest("stack");
    assert!(kind == GuestFailureKind::Trap && text.contains("stack"), "{text}");
}

#[test]
fn each_mistake_is_named_at_its_call() {
    assert_eq!(refused("refuse"), "hidden must be even");
    let text = refused("shape-wrong");
    assert!(text.contains("matmul in block.0 of [B, 5, 3], [4, 4]"), "{text}");
    assert!(refused("node-unknown").contains("4000000000"));
    assert!(refused("op-unknown").contains("there is no op \"frobnicate\"; there are neg, abs"));
    assert!(refused("initial-unknown").contains("\"xavier\""));
    assert!(refused("constant-short").contains("[2, 2]"));
    assert!(refused("dim-wrong").contains("a dimension is 0"));
    assert!(refused("parameter-twice").contains("\"w\" is taken"));
    assert!(refused("output-twice").contains("\"prediction\" is taken"));
    assert!(refused("names-long").contains("must be a line of at most 256 bytes"));
}

#[test]
fn mistakes_in_the_layers_are_named_too() {
    assert!(refused("gru-shape").contains("gru"));
    for mode in ["conv1d-shape", "conv1d-dilation", "conv1d-reach"] {
        let text = refused(mode);
        assert!(text.contains("conv1d") && text.contains("[B, 5, 3]"), "{mode}: {text}");
    }
    assert!(refused("conv1d-shape").contains("[3, 4, 4]"));
    assert!(refused("conv1d-reach").contains("8589934590 rows back, and at most 65536 go"));
    assert!(refused("conv1d-dilation").contains("dilation is 0"));
    for mode in ["attention-heads", "attention-none", "attention-huge", "attention-causal"] {
        let text = refused(mode);
        assert!(text.contains("attention") && text.contains("[B, 5, 3]"), "{mode}: {text}");
    }
    assert!(refused("weights-heads").contains("4294967295 heads"));
    assert!(refused("weights-places").contains("attention"));
}

#[test]
fn graphs_have_limits() {
    assert!(refused("nodes-many").contains("more than 65536 nodes"));
    assert!(refused("parameter-huge").contains("elements"));
    let small = Limits { nodes_max: 5, ..Limits::default() };
    let error = architecture().build(&options(json!({})), SIZE, &small).expect_err("too many nodes");
    assert!(error.to_string().contains("more than 5 nodes"), "{error}");
    let huge = Dimensions { window: u32::MAX, features: u32::MAX, outputs: 1 };
    assert!(architecture().build(&options(json!({})), huge, &Limits::default()).is_err());
    let none = Dimensions { window: 0, ..SIZE };
    assert!(architecture().build(&options(json!({})), none, &Limits::default()).is_err());
}

#[test]
fn a_graph_that_is_no_model_is_refused() {
    assert_eq!(malformed("output-none"), "it has no output \"prediction\"");
    assert_eq!(malformed("output-wrong"), "its output \"prediction\" is [B, 5, 3], not [B, 2]");
    let text = malformed("output-untrained");
    assert!(text.contains("\"own\" is for the output \"also\" alone"), "{text}");
    assert_eq!(malformed("errors-ignored"), "it has no output \"prediction\"");
    assert_eq!(malformed("log-flood"), "it has no output \"prediction\"");
}

#[test]
fn hyper_parameters_are_checked() {
    let error =
        architecture().build(&options(json!({"hidden": 513})), SIZE, &Limits::default()).expect_err("513");
    assert_eq!(
        error.to_string(),
        "architecture hostile-architecture@0.1.0: option \"hidden\" is 513; it must be a whole number from 1 to 512"
    );
    let graph =
        architecture().build(&options(json!({"hidden": 16})), SIZE, &Limits::default()).expect("fits");
    let state = graph.state("hidden.w").expect("there");
    assert_eq!(graph.node(state.node).shapes[0], Shape::fixed(&[15, 16]));
    assert!(
        architecture().schema().describe().contains("hidden = 8 (a whole number from 1 to 512): units of")
    );
}

#[test]
fn the_worlds_are_not_mixed_up() {
    let error = Architecture::new(hostile_features()).expect_err("features");
    assert_eq!(error.kind, ArchitectureErrorKind::World);
    let error = FeaturePlugin::new(architecture().component(), &Map::new()).expect_err("an architecture");
    assert!(error.message.contains("it is an architecture"), "{error}");
}
