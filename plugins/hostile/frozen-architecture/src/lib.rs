//! Calls everything in the first version of the WIT's `graph` interface.

wit_bindgen::generate!({ path: "../../wit", world: "architecture" });

use alphaplus::plugin::graph::Builder;
use alphaplus::plugin::log;
use exports::alphaplus::plugin::model::{Dimensions, Guest};

struct Component;

/// LSTM over the window, twice, with every other op of the interface somewhere on the way.
fn net(to: &Builder, hidden: u32, size: &Dimensions) -> Result<u32, String> {
    let (window, features) = (i64::from(size.window), i64::from(size.features));
    to.scope("norm");
    let gamma = to.parameter("norm.gamma", &[size.features], "constant:1")?;
    let beta = to.parameter("norm.beta", &[size.features], "zeros")?;
    let x = to.layer_norm(to.input(), gamma, beta, 1e-5)?;
    to.scope("lstm.0");
    let w = to.parameter("lstm.0.w", &[size.features, 4 * hidden], "glorot")?;
    let u = to.parameter("lstm.0.u", &[hidden, 4 * hidden], &format!("uniform:{hidden}"))?;
    let b = to.parameter("lstm.0.b", &[4 * hidden], "lstm-bias")?;
    let h = to.lstm(x, w, u, b, true)?;
    let h = to.dropout(h, 0.1)?;
    to.scope("lstm.1");
    let w = to.parameter("lstm.1.w", &[hidden, 4 * hidden], "glorot")?;
    let u = to.parameter("lstm.1.u", &[hidden, 4 * hidden], "glorot")?;
    let b = to.parameter("lstm.1.b", &[4 * hidden], "lstm-bias")?;
    let last = to.lstm(h, w, u, b, false)?;
    to.scope("attention");
    let flipped = to.transpose(h, &[0, 2, 1])?;
    let weights = to.matmul(h, flipped, false, false)?;
    let weights = to.softmax(weights, 2)?;
    let mixed = to.matmul(weights, h, false, false)?;
    let mixed = to.reduce("mean", mixed, &[1], false)?;
    let peak = to.reduce("max", h, &[1], false)?;
    let total = to.reduce("sum", x, &[1, 2], true)?;
    let total = to.reshape(total, &[-1, 1])?;
    let wide = to.broadcast(total, &[-1, i64::from(hidden)])?;
    let wide = to.unary("tanh", wide)?;
    let mixed = to.binary("add", mixed, wide)?;
    let joined = to.concat(&[last, mixed, peak], 1)?;
    let front = to.slice(joined, 1, 0, hidden)?;
    let back = to.pad(front, 1, hidden, hidden)?;
    let joined = to.binary("max", joined, back)?;
    let half = to.constant(&[1], &[0.5])?;
    let small = to.binary("less", joined, half)?;
    let joined = to.select(small, joined, half)?;
    let joined = to.log_softmax(joined, 1)?;
    if to.shape_of(joined)? != [-1, 3 * i64::from(hidden)] || to.shape_of(x)? != [-1, window, features] {
        return Err("the host's shapes are others".to_string());
    }
    to.scope("");
    let w = to.parameter("head.w", &[3 * hidden, size.outputs], "glorot")?;
    to.matmul(joined, w, false, false)
}

impl Guest for Component {
    fn schema() -> String {
        r#"{"properties": {"hidden": {"type": "integer", "minimum": 1, "maximum": 64, "default": 4}}}"#.to_string()
    }

    fn build(hyper: String, size: Dimensions, to: &Builder) -> Result<(), String> {
        if log::enabled(log::Level::Debug) {
            log::write(log::Level::Debug, &hyper);
        }
        let digits = hyper.split("\"hidden\":").nth(1).ok_or("hidden is missing")?;
        let digits = &digits[..digits.find([',', '}']).unwrap_or(digits.len())];
        let hidden = digits.parse().map_err(|e| format!("hidden: {e}"))?;
        let y = net(to, hidden, &size)?;
        to.output("prediction", y)
    }
}

export!(Component);
