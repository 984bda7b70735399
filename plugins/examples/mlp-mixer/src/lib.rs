//! MLP-Mixer (Tolstikhin et al. 2021; TSMixer, Chen et al. 2023, for series): two layers over the steps and two over
//! the columns in turn, each around a residual, a mean over the window and a linear head.
//!
//! `[-1, window, features]` → lift `[-1, window, width]` → block, `layers` times: x + mix_steps(norm(x)), then
//! x + mix_columns(norm(x)) → norm → mean over the window → "prediction" `[-1, outputs]`.

use alphaplus_plugin::{Architecture, Dimensions, Graph, Node, Options, Schema};

/// See the module's header.
pub struct MlpMixer;

impl Architecture for MlpMixer {
    fn schema() -> String {
        Schema::new()
            .integer_log("width", 1..=512, 32, "Columns of each block.")
            .integer("layers", 1..=8, 2, "Blocks, one after another.")
            .integer_log("hidden", 1..=1024, 64, "Units between the two layers of each mix.")
            .number("dropout", 0.0..=0.9, 0.1, "The share dropped of what each mix adds, in training only.")
            .learning_rate(1e-3)
            .batch(64)
            .to_json()
    }

    fn build(hyper: &Options, dimensions: Dimensions, graph: &Graph<'_>) -> Result<(), String> {
        let (width, hidden) = (hyper.count("width")?, hyper.count("hidden")?);
        let dropout = hyper.number("dropout")? as f32;
        let window = dimensions.window;
        graph.scope("lift");
        let mut x = dense(graph, "lift", graph.input(), dimensions.features, width)?;
        for index in 0..hyper.count("layers")? {
            let name = format!("block.{index}.steps");
            graph.scope(&name);
            let y = graph.transpose(norm(graph, &name, x, width)?, &[0, 2, 1])?;
            let y = graph.transpose(mlp(graph, &name, y, window, hidden)?, &[0, 2, 1])?;
            x = residual(graph, x, y, dropout)?;
            let name = format!("block.{index}.columns");
            graph.scope(&name);
            let y = norm(graph, &name, x, width)?;
            x = residual(graph, x, mlp(graph, &name, y, width, hidden)?, dropout)?;
        }
        graph.scope("head");
        let pooled = graph.reduce("mean", norm(graph, "head", x, width)?, &[1], false)?;
        graph.output("prediction", dense(graph, "head", pooled, width, dimensions.outputs)?)
    }
}

/// x·w + b over the last axis.
fn dense(graph: &Graph<'_>, name: &str, x: Node, from: u32, to: u32) -> Result<Node, String> {
    let w = graph.parameter(&format!("{name}.w"), &[from, to], "glorot")?;
    let b = graph.parameter(&format!("{name}.b"), &[to], "zeros")?;
    graph.add(graph.matmul(x, w)?, b)
}

/// Over the last axis: to `hidden` units and back.
fn mlp(graph: &Graph<'_>, name: &str, x: Node, width: u32, hidden: u32) -> Result<Node, String> {
    let wide = graph.gelu(dense(graph, &format!("{name}.0"), x, width, hidden)?)?;
    dense(graph, &format!("{name}.1"), wide, hidden, width)
}

fn norm(graph: &Graph<'_>, name: &str, x: Node, width: u32) -> Result<Node, String> {
    let gamma = graph.parameter(&format!("{name}.gamma"), &[width], "constant:1")?;
    let beta = graph.parameter(&format!("{name}.beta"), &[width], "zeros")?;
    graph.layer_norm(x, gamma, beta, 1e-5)
}

fn residual(graph: &Graph<'_>, x: Node, part: Node, dropout: f32) -> Result<Node, String> {
    let part = if dropout > 0.0 { graph.dropout(part, dropout)? } else { part };
    graph.add(x, part)
}

alphaplus_plugin::export_architecture!(MlpMixer);

#[cfg(test)]
mod tests {
    use alphaplus_plugin::testing::build;

    use super::*;

    #[test]
    fn it_mixes_both_ways() {
        let hyper = r#"{"width": 8, "layers": 2, "hidden": 12, "dropout": 0.1}"#;
        let built = build::<MlpMixer>(hyper, Dimensions { window: 60, features: 32, outputs: 2 }).unwrap();
        assert_eq!(built.outputs, [("prediction".to_owned(), vec![-1, 2])]);
        assert!(built.nodes.contains(&("block.1.steps: gelu".into(), vec![-1, 8, 12])));
        assert!(built.nodes.contains(&("block.1.columns: gelu".into(), vec![-1, 60, 12])));
    }
}
