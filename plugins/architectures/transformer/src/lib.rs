//! A Transformer encoder (Vaswani et al. 2017) with the norm before each part (Xiong et al. 2020), a mean pool and a
//! linear head.
//!
//! `[-1, window, features]` → lift: matmul, bias and sinusoidal positions `[-1, window, d_model]` → block, `layers`
//! times: x + attention(norm(x)), then x + feed_forward(norm(x)), where feed_forward is matmul, GELU, matmul → norm →
//! mean over the window `[-1, d_model]` → matmul and bias → "prediction" `[-1, outputs]`.
//!
//! "attention" `[-1, heads, window, window]` are the last block's weights: row t says how much place t takes from each
//! place.

use alphaplus_plugin::{Architecture, Dimensions, Graph, Node, Options, Schema};

const EPSILON: f32 = 1e-5;

/// See the module's header.
pub struct Transformer;

/// What the blocks are made of.
struct Settings {
    d_model: u32,
    heads: u32,
    feed_forward: u32,
    dropout: f32,
    causal: bool,
}

impl Architecture for Transformer {
    fn schema() -> String {
        Schema::new()
            .integer_log("d_model", 1..=512, 64, "Columns of each block: a multiple of heads.")
            .integer("heads", 1..=16, 4, "Heads of each attention.")
            .integer("layers", 1..=8, 2, "Blocks, one after another.")
            .integer_log("ff", 1..=2048, 128, "Units of each feed-forward part.")
            .number("dropout", 0.0..=0.9, 0.1, "The share dropped of what each part adds, in training only.")
            .boolean("causal", false, "Whether a place sees only itself and those before it.")
            .learning_rate(5e-4)
            .weight_decay(1e-2)
            .to_json()
    }

    fn build(hyper: &Options, dimensions: Dimensions, graph: &Graph<'_>) -> Result<(), String> {
        let settings = Settings::read(hyper)?;
        let layers = hyper.count("layers")?;
        if layers == 0 {
            return Err("layers must be above 0".into());
        }
        let d_model = settings.d_model;
        graph.scope("lift");
        let lifted = dense(graph, "lift", graph.input(), dimensions.features, d_model)?;
        let places = graph.constant(&[dimensions.window, d_model], &positions(dimensions.window, d_model))?;
        let mut x = graph.add(lifted, places)?;
        let mut weights = None;
        for index in 0..layers {
            let (y, last) = attend(graph, index, x, &settings, index + 1 == layers)?;
            (x, weights) = (feed_forward(graph, index, y, &settings)?, last);
        }
        graph.scope("pool");
        let pooled = graph.reduce("mean", norm(graph, "norm", x, d_model)?, &[1], false)?;
        graph.scope("head");
        let prediction = dense(graph, "head", pooled, d_model, dimensions.outputs)?;
        graph.scope("");
        graph.output("prediction", prediction)?;
        weights.map_or(Ok(()), |weights| graph.output("attention", weights))
    }
}

impl Settings {
    fn read(hyper: &Options) -> Result<Self, String> {
        let (d_model, heads) = (hyper.count("d_model")?, hyper.count("heads")?);
        if d_model == 0 || heads == 0 || !d_model.is_multiple_of(heads) {
            let below = d_model.checked_div(heads).unwrap_or(0) * heads;
            let near = if below > 0 { format!("{below} or {}", below + heads) } else { format!("{heads}") };
            return Err(format!(
                "d_model is {d_model} and heads is {heads}; d_model must be a multiple of heads, such as {near}"
            ));
        }
        let feed_forward = hyper.count("ff")?;
        if feed_forward == 0 {
            return Err("ff must be above 0".into());
        }
        let dropout = hyper.number("dropout")? as f32;
        Ok(Settings { d_model, heads, feed_forward, dropout, causal: hyper.boolean("causal")? })
    }
}

/// Row t, columns 2i and 2i + 1: the sine and cosine of t / 10000^(2i / d_model) (Vaswani et al. 2017, 3.5).
fn positions(window: u32, d_model: u32) -> Vec<f32> {
    let angle = |t: u32, column: u32| {
        f64::from(t) / 10_000f64.powf(f64::from(column - column % 2) / f64::from(d_model))
    };
    let value = |t, column: u32| {
        let angle = angle(t, column);
        if column.is_multiple_of(2) { angle.sin() as f32 } else { angle.cos() as f32 }
    };
    (0..window).flat_map(|t| (0..d_model).map(move |column| value(t, column))).collect()
}

/// x·w + b over the last axis.
fn dense(graph: &Graph<'_>, name: &str, x: Node, from: u32, to: u32) -> Result<Node, String> {
    let w = graph.parameter(&format!("{name}.w"), &[from, to], "glorot")?;
    let b = graph.parameter(&format!("{name}.b"), &[to], "zeros")?;
    graph.add(graph.matmul(x, w)?, b)
}

fn norm(graph: &Graph<'_>, name: &str, x: Node, width: u32) -> Result<Node, String> {
    let gamma = graph.parameter(&format!("{name}.gamma"), &[width], "constant:1")?;
    let beta = graph.parameter(&format!("{name}.beta"), &[width], "zeros")?;
    graph.layer_norm(x, gamma, beta, EPSILON)
}

/// x + dropout(part)
fn residual(graph: &Graph<'_>, x: Node, part: Node, dropout: f32) -> Result<Node, String> {
    let part = if dropout > 0.0 { graph.dropout(part, dropout)? } else { part };
    graph.add(x, part)
}

/// x + attention(norm(x)), and the weights where they are wanted.
fn attend(
    graph: &Graph<'_>,
    index: u32,
    x: Node,
    settings: &Settings,
    with_weights: bool,
) -> Result<(Node, Option<Node>), String> {
    let Settings { d_model, heads, causal, .. } = *settings;
    let name = format!("block.{index}.attention");
    graph.scope(&name);
    let y = norm(graph, &format!("{name}.norm"), x, d_model)?;
    let project = |part: &str, from| dense(graph, &format!("{name}.{part}"), from, d_model, d_model);
    let (q, k, v) = (project("q", y)?, project("k", y)?, project("v", y)?);
    let mixed = project("o", graph.attention(q, k, v, heads, causal)?)?;
    let weights = if with_weights { Some(graph.attention_weights(q, k, heads, causal)?) } else { None };
    Ok((residual(graph, x, mixed, settings.dropout)?, weights))
}

/// x + feed_forward(norm(x))
fn feed_forward(graph: &Graph<'_>, index: u32, x: Node, settings: &Settings) -> Result<Node, String> {
    let Settings { d_model, feed_forward, .. } = *settings;
    let name = format!("block.{index}.ff");
    graph.scope(&name);
    let y = norm(graph, &format!("{name}.norm"), x, d_model)?;
    let wide = graph.gelu(dense(graph, &format!("{name}.0"), y, d_model, feed_forward)?)?;
    let narrow = dense(graph, &format!("{name}.1"), wide, feed_forward, d_model)?;
    residual(graph, x, narrow, settings.dropout)
}

alphaplus_plugin::export_architecture!(Transformer);

#[cfg(test)]
mod tests;
