//! Components built from the first version of the WIT load and give the same numbers for ever.

use graph::Limits;
use market::{Features, StreamId};

use super::*;
use crate::causality::check_synthetic;
use crate::synthetic::synthetic_bars;
use crate::{Architecture, Dimensions};

#[test]
fn the_first_features_component_runs() {
    let component = host().load(&path("frozen-0.1.0-features.wasm")).expect("loads");
    let mut plugin = FeaturePlugin::new(&component, &options(json!({"rate": 0.5}))).expect("opens");
    let spec = plugin.spec().clone();
    assert_eq!(spec.names, ["price", "volume", "trades", "imbalance", "texts", "peer"]);
    assert_eq!((spec.warmup, spec.peers), (2, 1));
    assert!(spec.wants_bars && spec.wants_trades && spec.wants_books && spec.wants_texts);
    check_synthetic(&mut plugin).expect("causal");
    let stream: StreamId = plugin.open().expect("opens");
    let mut rows = Vec::new();
    plugin.on_bars(stream, &synthetic_bars(1, 3), &mut rows).expect("runs");
    let price = synthetic_bars(1, 3).iter().fold(0.0f64, |mean, bar| mean + 0.5 * (bar.close.ln() - mean));
    assert_eq!(rows[12], price as f32);
}

#[test]
fn the_first_architecture_component_builds() {
    let component = host().load(&path("frozen-0.1.0-architecture.wasm")).expect("loads");
    let architecture = Architecture::new(&component).expect("an architecture");
    for (window, features, outputs, hidden) in [(1, 1, 1, 1), (60, 32, 1, 4), (7, 3, 5, 64)] {
        let size = Dimensions { window, features, outputs };
        let graph = architecture
            .build(&options(json!({ "hidden": hidden })), size, &Limits::default())
            .expect("builds");
        let ops: std::collections::BTreeSet<&str> = graph.nodes.iter().map(|node| node.op.name()).collect();
        for op in
            ["layer_norm", "lstm", "dropout", "softmax", "log_softmax", "concat", "pad", "slice", "select"]
        {
            assert!(ops.contains(op), "{op}");
        }
        assert_eq!(graph.states.len(), 9);
    }
}
