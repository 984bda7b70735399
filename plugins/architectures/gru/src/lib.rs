//! One to four GRU layers (Cho et al. 2014, the reset gate after the product as in cuDNN and PyTorch) and a linear
//! head over the last step.
//!
//! `[-1, window, features]` → layer 0 → dropout → layer 1 → … → last step `[-1, hidden]` → matmul and bias →
//! "prediction" `[-1, outputs]`. Dropout stands between layers, so with one layer it has no effect.

use alphaplus_plugin::{Architecture, Dimensions, Graph, Node, Options, Schema};

/// See the module's header.
pub struct Gru;

impl Architecture for Gru {
    fn schema() -> String {
        Schema::new()
            .integer_log("hidden", 1..=1024, 64, "Units of each layer.")
            .integer("layers", 1..=4, 1, "GRU layers, one above the other.")
            .number(
                "dropout",
                0.0..=0.9,
                0.0,
                "The share of a layer's outputs dropped before the next layer, in training only.",
            )
            .learning_rate(1e-3)
            .to_json()
    }

    fn build(hyper: &Options, dimensions: Dimensions, graph: &Graph<'_>) -> Result<(), String> {
        let (hidden, layers) = (hyper.count("hidden")?, hyper.count("layers")?);
        let dropout = hyper.number("dropout")? as f32;
        if hidden == 0 || layers == 0 {
            return Err(format!("hidden is {hidden} and layers is {layers}; both must be above 0"));
        }
        let mut x = graph.input();
        let mut width = dimensions.features;
        for index in 0..layers {
            graph.scope(&format!("gru.{index}"));
            x = layer(graph, index, x, width, hidden, index + 1 < layers)?;
            if index + 1 < layers && dropout > 0.0 {
                x = graph.dropout(x, dropout)?;
            }
            width = hidden;
        }
        graph.scope("head");
        let weights = graph.parameter("head.w", &[hidden, dimensions.outputs], "glorot")?;
        let bias = graph.parameter("head.b", &[dimensions.outputs], "zeros")?;
        let prediction = graph.add(graph.matmul(x, weights)?, bias)?;
        graph.scope("");
        graph.output("prediction", prediction)
    }
}

/// x `[-1, T, width]` → `[-1, T, hidden]`, or `[-1, hidden]` where not `sequence`.
fn layer(
    graph: &Graph<'_>,
    index: u32,
    x: Node,
    width: u32,
    hidden: u32,
    sequence: bool,
) -> Result<Node, String> {
    let gates = hidden.checked_mul(3).ok_or("hidden is too large")?;
    let w = graph.parameter(&format!("gru.{index}.w"), &[width, gates], "glorot")?;
    let u = graph.parameter(&format!("gru.{index}.u"), &[hidden, gates], &format!("uniform:{hidden}"))?;
    let b = graph.parameter(&format!("gru.{index}.b"), &[gates], "zeros")?;
    let c = graph.parameter(&format!("gru.{index}.c"), &[gates], "zeros")?;
    graph.gru(x, w, u, b, c, sequence)
}

alphaplus_plugin::export_architecture!(Gru);

#[cfg(test)]
mod tests {
    use alphaplus_plugin::testing::{Built, build};

    use super::*;

    fn gru(hyper: &str) -> Result<Built, String> {
        build::<Gru>(hyper, Dimensions { window: 60, features: 32, outputs: 2 })
    }

    #[test]
    fn one_layer() {
        let built = gru(r#"{"hidden": 64, "layers": 1, "dropout": 0.5}"#).unwrap();
        assert_eq!(built.outputs, [("prediction".to_owned(), vec![-1, 2])]);
        assert_eq!(built.parameter_count(), 32 * 192 + 64 * 192 + 2 * 192 + 64 * 2 + 2);
        assert_eq!((built.count("gru"), built.count("dropout")), (1, 0));
        assert!(built.nodes.contains(&("gru.0: gru".into(), vec![-1, 64])));
    }

    #[test]
    fn layers_stack_with_dropout_between() {
        let built = gru(r#"{"hidden": 8, "layers": 3, "dropout": 0.25}"#).unwrap();
        assert_eq!((built.count("gru"), built.count("dropout")), (3, 2));
        assert!(built.nodes.contains(&("gru.1: gru".into(), vec![-1, 60, 8])));
        assert!(built.nodes.contains(&("gru.2: gru".into(), vec![-1, 8])));
        let expect = (32 + 8 + 2) * 24 + 2 * (8 + 8 + 2) * 24 + 8 * 2 + 2;
        assert_eq!(built.parameter_count(), expect);
        let without = gru(r#"{"hidden": 8, "layers": 3, "dropout": 0.0}"#).unwrap();
        assert_eq!((without.count("dropout"), without.parameter_count()), (0, expect));
    }

    #[test]
    fn unchecked_values_are_refused() {
        assert!(gru(r#"{"hidden": 0, "layers": 1, "dropout": 0}"#).unwrap_err().contains("above 0"));
        assert!(gru(r#"{"hidden": 8, "layers": 2, "dropout": 1}"#).unwrap_err().contains("dropout"));
        assert_eq!(gru(r#"{"hidden": 8, "layers": 2}"#).unwrap_err(), "option dropout is missing");
    }
}
