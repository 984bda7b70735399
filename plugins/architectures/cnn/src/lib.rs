//! Residual blocks of dilated causal convolutions, after the WaveNet and the TCN (van den Oord et al. 2016; Bai,
//! Kolter and Koltun 2018), a pool over the window and a linear head.
//!
//! `[-1, window, features]` → lift: matmul and bias `[-1, window, filters]` → block: x + dropout(relu(conv1d(x))),
//! `blocks` times → layer norm → pool over the window `[-1, filters]` → matmul and bias → "prediction" `[-1, outputs]`.
//!
//! The dilations are 1, g, g², … where g is `dilation_growth`; they begin again at 1 before the taps of one would
//! reach beyond the window.

use alphaplus_plugin::{Architecture, Dimensions, Graph, Node, Options, Schema};

/// See the module's header.
pub struct Cnn;

impl Architecture for Cnn {
    fn schema() -> String {
        Schema::new()
            .integer_log("filters", 1..=512, 64, "Channels of each block.")
            .integer("blocks", 1..=12, 5, "Blocks, one after another, each of one convolution.")
            .integer("kernel", 2..=16, 3, "Taps of a convolution.")
            .integer("dilation_growth", 1..=4, 2, "Each block's dilation is so many times the one before.")
            .number("dropout", 0.0..=0.9, 0.0, "The share of a block's outputs dropped, in training only.")
            .choice(
                "pooling",
                &["last", "mean", "max"],
                "last",
                "What stands for the window: its last row, or the mean or the largest over its rows.",
            )
            .learning_rate(1e-3)
            .to_json()
    }

    fn build(hyper: &Options, dimensions: Dimensions, graph: &Graph<'_>) -> Result<(), String> {
        let (filters, blocks) = (hyper.count("filters")?, hyper.count("blocks")?);
        let (kernel, growth) = (hyper.count("kernel")?, hyper.count("dilation_growth")?);
        let dropout = hyper.number("dropout")? as f32;
        if filters == 0 || blocks == 0 || kernel < 2 || growth == 0 {
            return Err("filters, blocks and dilation_growth must be above 0, kernel above 1".into());
        }
        graph.scope("lift");
        let mut x = dense(graph, "lift", graph.input(), dimensions.features, filters)?;
        for (index, dilation) in (0..blocks).zip(dilations(dimensions.window, kernel, growth)) {
            graph.scope(&format!("block.{index}"));
            let w = graph.parameter(&format!("block.{index}.w"), &[kernel, filters, filters], "he")?;
            let b = graph.parameter(&format!("block.{index}.b"), &[filters], "zeros")?;
            let mut y = graph.relu(graph.conv1d(x, w, b, dilation)?)?;
            if dropout > 0.0 {
                y = graph.dropout(y, dropout)?;
            }
            x = graph.add(x, y)?;
        }
        graph.scope("pool");
        let gamma = graph.parameter("norm.gamma", &[filters], "constant:1")?;
        let beta = graph.parameter("norm.beta", &[filters], "zeros")?;
        let x = graph.layer_norm(x, gamma, beta, 1e-5)?;
        let pooled = pool(graph, hyper.text("pooling")?, x, dimensions.window, filters)?;
        graph.scope("head");
        let prediction = dense(graph, "head", pooled, filters, dimensions.outputs)?;
        graph.scope("");
        graph.output("prediction", prediction)
    }
}

/// x·w + b over the last axis.
fn dense(graph: &Graph<'_>, name: &str, x: Node, from: u32, to: u32) -> Result<Node, String> {
    let w = graph.parameter(&format!("{name}.w"), &[from, to], "glorot")?;
    let b = graph.parameter(&format!("{name}.b"), &[to], "zeros")?;
    graph.add(graph.matmul(x, w)?, b)
}

/// One for each block.
fn dilations(window: u32, kernel: u32, growth: u32) -> impl Iterator<Item = u32> {
    let fits = move |dilation: u32| (kernel - 1).checked_mul(dilation).is_some_and(|reach| reach < window);
    std::iter::successors(Some(1), move |&dilation: &u32| {
        Some(dilation.checked_mul(growth).filter(|&next| fits(next)).unwrap_or(1))
    })
}

/// x `[-1, window, filters]` → `[-1, filters]`.
fn pool(graph: &Graph<'_>, pooling: &str, x: Node, window: u32, filters: u32) -> Result<Node, String> {
    match pooling {
        "last" => {
            let last = graph.slice(x, 1, window - 1, window)?;
            graph.reshape(last, &[-1, i64::from(filters)])
        }
        "mean" | "max" => graph.reduce(pooling, x, &[1], false),
        other => Err(format!("there is no pooling {other:?}; there are last, mean and max")),
    }
}

alphaplus_plugin::export_architecture!(Cnn);

#[cfg(test)]
mod tests {
    use alphaplus_plugin::testing::{Built, build};

    use super::*;

    const SIZE: Dimensions = Dimensions { window: 60, features: 32, outputs: 2 };

    fn cnn(pooling: &str, edit: &str) -> Result<Built, String> {
        let rest = if edit.is_empty() { r#""blocks": 4, "dropout": 0.1"# } else { edit };
        let hyper = format!(
            r#"{{"filters": 16, "kernel": 3, "dilation_growth": 2, "pooling": "{pooling}", {rest}}}"#
        );
        build::<Cnn>(&hyper, SIZE)
    }

    #[test]
    fn blocks_are_convolutions_around_which_the_input_goes() {
        let built = cnn("last", "").unwrap();
        assert_eq!(built.outputs, [("prediction".to_owned(), vec![-1, 2])]);
        assert_eq!((built.count("conv1d"), built.count("relu"), built.count("dropout")), (4, 4, 4));
        // Four residual sums, two biases.
        assert_eq!(built.count("add"), 6);
        assert!(built.nodes.contains(&("block.3: conv1d".into(), vec![-1, 60, 16])));
        let expect = (32 * 16 + 16) + 4 * (3 * 16 * 16 + 16) + 2 * 16 + (16 * 2 + 2);
        assert_eq!(built.parameter_count(), expect);
        assert_eq!(built.parameters[2], ("block.0.w".into(), vec![3, 16, 16], "he".into()));
        assert_eq!(cnn("last", r#""blocks": 4, "dropout": 0.0"#).unwrap().count("dropout"), 0);
    }

    #[test]
    fn each_pool_gives_one_row() {
        for (pooling, op) in [("last", "slice"), ("mean", "mean"), ("max", "max")] {
            let built = cnn(pooling, "").unwrap();
            assert_eq!(built.count(op), 1, "{pooling}");
            assert_eq!(built.outputs[0].1, [-1, 2], "{pooling}");
        }
        assert!(cnn("min", "").unwrap_err().contains("last, mean and max"));
    }

    #[test]
    fn dilations_grow_within_the_window() {
        let first =
            |window, kernel, growth| -> Vec<u32> { dilations(window, kernel, growth).take(7).collect() };
        assert_eq!(first(60, 3, 2), [1, 2, 4, 8, 16, 1, 2]);
        assert_eq!(first(60, 5, 3), [1, 3, 9, 1, 3, 9, 1]);
        assert_eq!(first(2, 9, 2), [1; 7]);
        assert_eq!(first(60, 3, 1), [1; 7]);
        assert_eq!(first(u32::MAX, 2, 4)[6], 4096);
    }

    #[test]
    fn unchecked_values_are_refused() {
        assert!(cnn("last", r#""blocks": 0, "dropout": 0.0"#).unwrap_err().contains("above 0"));
        assert!(cnn("last", r#""blocks": 1, "dropout": 1.0"#).unwrap_err().contains("dropout"));
        assert_eq!(cnn("last", r#""blocks": 1"#).unwrap_err(), "option dropout is missing");
    }
}
