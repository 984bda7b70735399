//! {{name}}: the mean of the window through one hidden layer. `[-1, window, features]` → "prediction" `[-1, outputs]`.

use alphaplus_plugin::{Architecture, Dimensions, Graph, Options, Schema};

pub struct {{type}};

impl Architecture for {{type}} {
    fn schema() -> String {
        Schema::new()
            .integer_log("hidden", 1..=1024, 32, "Units of the hidden layer.")
            .learning_rate(1e-3)
            .to_json()
    }

    fn build(hyper: &Options, dimensions: Dimensions, graph: &Graph<'_>) -> Result<(), String> {
        let hidden = hyper.count("hidden")?;
        let mean = graph.reduce("mean", graph.input(), &[1], false)?;

        graph.scope("hidden");
        let w = graph.parameter("hidden.w", &[dimensions.features, hidden], "glorot")?;
        let b = graph.parameter("hidden.b", &[hidden], "zeros")?;
        let x = graph.relu(graph.add(graph.matmul(mean, w)?, b)?)?;

        graph.scope("head");
        let w = graph.parameter("head.w", &[hidden, dimensions.outputs], "glorot")?;
        let b = graph.parameter("head.b", &[dimensions.outputs], "zeros")?;
        graph.output("prediction", graph.add(graph.matmul(x, w)?, b)?)
    }
}

alphaplus_plugin::export_architecture!({{type}});

#[cfg(test)]
mod tests {
    use alphaplus_plugin::testing::build;

    use super::*;

    #[test]
    fn it_builds() {
        let dimensions = Dimensions { window: 60, features: 8, outputs: 2 };
        let built = build::<{{type}}>(r#"{"hidden": 16}"#, dimensions).unwrap();
        assert_eq!(built.parameter_count(), 8 * 16 + 16 + 16 * 2 + 2);
    }
}
