//! DLinear (Zeng, Chen, Zhang and Xu 2023, "Are Transformers effective for time series forecasting?"): the window is
//! split into a moving average, the trend, and the remainder; a linear map of each is summed.
//!
//! `[-1, window, features]` → by features `[-1, features, window]` → trend = the moving average, remainder = x − trend
//! → maps over the window → "prediction" `[-1, outputs]`. The moving average is centred within the window and repeats its first and last row beyond the ends,
//! as the paper's does.
//!
//! The paper maps each channel to the same channel's future. Here all channels, the features, speak about one label.
//! `channels` = "individual": each feature has weights of its own for each step, and their sums are added. "shared":
//! the features share the weights over steps, and a linear map mixes them afterwards.

use alphaplus_plugin::{Architecture, Dimensions, Graph, Node, Options, Schema};

/// See the module's header.
pub struct DLinear;

impl Architecture for DLinear {
    fn schema() -> String {
        Schema::new()
            .integer("moving_average", 1..=256, 25, "Rows of the moving average that is the trend.")
            .choice(
                "channels",
                &["individual", "shared"],
                "individual",
                "Whether each feature has weights over the window of its own.",
            )
            .learning_rate(1e-3)
            .weight_decay(1e-2)
            .to_json()
    }

    fn build(hyper: &Options, dimensions: Dimensions, graph: &Graph<'_>) -> Result<(), String> {
        let rows = hyper.count("moving_average")?;
        if rows == 0 {
            return Err("moving_average must be above 0".into());
        }
        let window = dimensions.window;
        graph.scope("split");
        let x = graph.transpose(graph.input(), &[0, 2, 1])?;
        let average = graph.constant(&[window, window], &moving_average(window, rows))?;
        let trend = graph.matmul_transposed(x, average, false, true)?;
        let remainder = graph.sub(x, trend)?;
        let map = match hyper.text("channels")? {
            "individual" => individual,
            "shared" => shared,
            other => return Err(format!("there are no channels {other:?}; there are individual and shared")),
        };
        let sum = graph
            .add(map(graph, "trend", trend, dimensions)?, map(graph, "remainder", remainder, dimensions)?)?;
        graph.scope("head");
        let bias = graph.parameter("head.b", &[dimensions.outputs], "zeros")?;
        let prediction = graph.add(sum, bias)?;
        graph.scope("");
        graph.output("prediction", prediction)
    }
}

/// `[window, window]`: row t averages the `rows` rows about t, (rows − 1) / 2 of them before it; beyond the ends stands
/// the first or last row.
fn moving_average(window: u32, rows: u32) -> Vec<f32> {
    let (window, rows) = (i64::from(window), i64::from(rows));
    let mut matrix = vec![0.0; (window * window) as usize];
    for t in 0..window {
        let first = t - (rows - 1) / 2;
        for place in first..first + rows {
            matrix[(t * window + place.clamp(0, window - 1)) as usize] += 1.0 / rows as f32;
        }
    }
    matrix
}

/// x `[-1, features, window]` → `[-1, outputs]`: a weight for each step of each feature.
fn individual(graph: &Graph<'_>, name: &str, x: Node, size: Dimensions) -> Result<Node, String> {
    graph.scope(name);
    let inputs = size.window.checked_mul(size.features).ok_or("the window is too large")?;
    let flat = graph.reshape(x, &[-1, i64::from(inputs)])?;
    let w = graph.parameter(&format!("{name}.w"), &[inputs, size.outputs], "zeros")?;
    graph.matmul(flat, w)
}

/// x `[-1, features, window]` → `[-1, outputs]`: the features' sums over steps, then a mix of them.
fn shared(graph: &Graph<'_>, name: &str, x: Node, size: Dimensions) -> Result<Node, String> {
    graph.scope(name);
    let steps = graph.parameter(&format!("{name}.steps"), &[size.window, 1], "zeros")?;
    let sums = graph.reshape(graph.matmul(x, steps)?, &[-1, i64::from(size.features)])?;
    let mix = graph.parameter(&format!("{name}.mix"), &[size.features, size.outputs], "glorot")?;
    graph.matmul(sums, mix)
}

alphaplus_plugin::export_architecture!(DLinear);

#[cfg(test)]
mod tests {
    use alphaplus_plugin::testing::{Built, build};

    use super::*;

    fn dlinear(rows: u32, channels: &str) -> Result<Built, String> {
        let hyper = format!(r#"{{"moving_average": {rows}, "channels": "{channels}"}}"#);
        build::<DLinear>(&hyper, Dimensions { window: 60, features: 32, outputs: 2 })
    }

    #[test]
    fn trend_and_remainder_have_a_map_each() {
        let built = dlinear(25, "individual").unwrap();
        assert_eq!(built.outputs, [("prediction".to_owned(), vec![-1, 2])]);
        assert_eq!(built.parameter_count(), 2 * 60 * 32 * 2 + 2);
        assert!(built.nodes.contains(&("split: matmul".into(), vec![-1, 32, 60])));
        let built = dlinear(25, "shared").unwrap();
        assert_eq!(built.outputs, [("prediction".to_owned(), vec![-1, 2])]);
        assert_eq!(built.parameter_count(), 2 * (60 + 32 * 2) + 2);
    }

    #[test]
    fn the_average_repeats_the_ends() {
        let third = 1.0f32 / 3.0;
        let expect = [
            third + third,
            third,
            0.0,
            0.0,
            third,
            third,
            third,
            0.0,
            0.0,
            third,
            third,
            third,
            0.0,
            0.0,
            third,
        ];
        assert_eq!(moving_average(4, 3)[..15], expect);
        assert_eq!(moving_average(2, 1), [1.0, 0.0, 0.0, 1.0]);
        // Of four rows one stands before, two behind.
        assert_eq!(moving_average(3, 4)[..3], [0.5, 0.25, 0.25]);
        for (window, rows) in [(1, 9), (5, 256), (60, 25)] {
            for row in moving_average(window, rows).chunks(window as usize) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn unchecked_values_are_refused() {
        assert!(dlinear(0, "individual").unwrap_err().contains("above 0"));
        assert!(dlinear(3, "other").unwrap_err().contains("individual and shared"));
    }
}
