//! Inspection, trial and costs, on the components that never change.

use super::*;
use crate::bench::{Bench, bench};
use crate::inspect::{GraphSize, PluginError, inspect, test};
use crate::{CausalityError, World};

#[test]
fn an_inspection_shows_all_of_it() {
    let found = inspect(host(), &path("frozen-0.1.0-features.wasm")).expect("loads");
    assert_eq!((found.world, found.metadata.name.as_str()), (World::Features, "frozen-features"));
    assert_eq!(found.spec.as_ref().map(|s| (s.names.len(), s.warmup)), Some((6, 2)));
    assert_eq!(found.spec.map(|s| s.digest), Some(found.digest));
    assert_eq!(found.schema.describe(), "rate = 0.25 (a number from 0.001 to 1): of the exponential means\n");
    let found = inspect(host(), &path("hostile-architecture.wasm")).expect("loads");
    // Input, reshape, two times weights and matmul, bias, add, relu; 60 · 8 · 8 + 8 + 8 · 1.
    assert_eq!(found.graph, Some(GraphSize { nodes: 9, parameters: 3_856 }));
    assert_eq!(found.imports, ["alphaplus:plugin/log@0.1.1", "alphaplus:plugin/graph@0.1.1"]);
}

#[test]
fn a_trial_passes_or_names_the_fault() {
    for name in ["frozen-0.1.0-features.wasm", "frozen-0.1.0-architecture.wasm", "hostile-architecture.wasm"]
    {
        let lines = test(host(), &path(name), 7, 2).expect(name);
        assert!(lines.len() >= 4, "{lines:?}");
    }
    let missing = test(host(), &path("none.wasm"), 7, 2).expect_err("missing").to_string();
    assert!(missing.contains("none.wasm can't be read"), "{missing}");
}

#[test]
fn errors_read_as_their_cause() {
    let cause = CausalityError::TooFewBars { bars: 1, needed: 2 };
    assert_eq!(PluginError::from(cause.clone()).to_string(), cause.to_string());
}

#[test]
fn fuel_is_the_same_each_time() {
    let run = || match bench(host(), &path("frozen-0.1.0-features.wasm")).expect("runs") {
        Bench::Features(costs) => costs,
        Bench::Architecture(_) => panic!("it is a feature set"),
    };
    let (first, second) = (run(), run());
    assert_eq!((first.bar_fuel, first.batch_bar_fuel), (second.bar_fuel, second.batch_bar_fuel));
    assert!(
        (100..100_000).contains(&first.bar_fuel) && (100..100_000).contains(&first.batch_bar_fuel),
        "{first:?}"
    );
    assert!(first.memory_bytes_peak >= 1 << 16 && first.bar_median_ns <= first.bar_p99_ns);
    let Bench::Architecture(costs) = bench(host(), &path("frozen-0.1.0-architecture.wasm")).expect("runs")
    else {
        panic!("it is an architecture")
    };
    assert!(costs.nodes > 30 && costs.build_median_ns <= costs.build_max_ns);
}
