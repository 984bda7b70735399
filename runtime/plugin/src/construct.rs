//! The host's `builder` resource: each WIT function becomes one call of `graph::Builder`.

use graph::{
    BinaryOp, Builder, Dim, Graph, Initial, Keep, Limits, NodeId, ReduceOp, Shape, Tensor, UnaryOp, Value,
    rewrite,
};
use wasmtime::component::Resource;

use crate::architecture::{Dimensions, INPUT, OUTPUT};
use crate::bindings::architecture::alphaplus::plugin::graph as wit;
use crate::guest::Guest;
use crate::log::clean;

/// The graph that one `build` call makes. Its input is node 0.
pub struct GraphInProgress {
    builder: Builder,
    name_bytes_max: usize,
    constant_elements_left: usize,
}

/// Of all constants of a graph together: 64 MiB.
const CONSTANT_ELEMENTS_MAX: usize = 16 << 20;

/// How far back a convolution reads: rows of zeros that an executor may have to hold.
const CONV1D_REACH_MAX: usize = 65_536;

type Built = Result<u32, String>;

impl GraphInProgress {
    pub(crate) fn new(dimensions: &Dimensions, limits: &Limits) -> Result<Self, String> {
        let mut builder = Builder::with_limits(limits.clone());
        let shape = Shape::batch(&[dimensions.window as usize, dimensions.features as usize]);
        builder.input(INPUT, shape).map_err(|e| e.to_string())?;
        Ok(GraphInProgress {
            builder,
            name_bytes_max: limits.name_bytes_max,
            constant_elements_left: CONSTANT_ELEMENTS_MAX,
        })
    }

    /// The verified graph, if it has the output that every model has.
    pub(crate) fn finish(self, dimensions: &Dimensions) -> Result<Graph, String> {
        let wanted = Shape::batch(&[dimensions.outputs as usize]);
        match self.builder.graph().output(OUTPUT) {
            None => return Err(format!("it has no output \"{OUTPUT}\"")),
            Some(value) if *self.builder.shape(value) != wanted => {
                return Err(format!(
                    "its output \"{OUTPUT}\" is {}, not {wanted}",
                    self.builder.shape(value)
                ));
            }
            Some(_) => {}
        }
        let graph = self.builder.finish().map_err(|e| e.to_string())?;
        match untrained(&graph)? {
            None => Ok(graph),
            Some((state, output)) => Err(format!(
                "its parameter \"{state}\" is for the output \"{output}\" alone, and training follows \"{OUTPUT}\": \
                 nothing would train it"
            )),
        }
    }

    fn parameter(&mut self, name: &str, dims: &[u32], initial: &str) -> Built {
        let name = self.bounded(name)?;
        let initial = parse_initial(initial)?;
        let dims: Vec<usize> = dims.iter().map(|&n| n as usize).collect();
        let value =
            self.builder.state(name, Shape::fixed(&dims), initial, true).map_err(|e| e.to_string())?;
        Ok(value.node.0)
    }

    fn constant(&mut self, dims: &[u32], values: Vec<f32>) -> Built {
        let left = self.constant_elements_left.checked_sub(values.len());
        self.constant_elements_left = left.ok_or_else(|| {
            format!("the constants have more than {CONSTANT_ELEMENTS_MAX} elements together")
        })?;
        let dims = dims.iter().map(|&n| n as usize).collect();
        let tensor = Tensor::new(dims, values).map_err(|e| format!("constant: {e}"))?;
        index(self.builder.constant(tensor))
    }

    fn reduce(&mut self, op: &str, x: u32, axes: &[u32], keep: bool) -> Built {
        let op = match op {
            "sum" => ReduceOp::Sum,
            "mean" => ReduceOp::Mean,
            "max" => ReduceOp::Max,
            _ => return Err(unknown("reduction", op, "sum, mean, max")),
        };
        index(self.builder.reduce(op, value(x), &axes_of(axes), keep))
    }

    fn conv1d(&mut self, x: u32, w: u32, b: u32, dilation: usize) -> Built {
        let find = |node| self.builder.find(value(node));
        if let (Some(shape), Some([Dim::Fixed(taps), ..])) = (find(x), find(w).map(|shape| shape.dims())) {
            let reach = taps.saturating_sub(1).saturating_mul(dilation);
            if reach > CONV1D_REACH_MAX {
                return Err(format!(
                    "conv1d of {shape}: its first tap reads {reach} rows back, and at most {CONV1D_REACH_MAX} go; \
                     lower the dilation"
                ));
            }
        }
        index(self.builder.conv1d(value(x), value(w), value(b), dilation))
    }

    fn shape_of(&self, x: u32) -> Result<Vec<i64>, String> {
        let shape = self.builder.find(value(x)).ok_or_else(|| format!("there is no node {x}"))?;
        let dim = |d: &Dim| match d {
            Dim::Fixed(n) => i64::try_from(*n).unwrap_or(i64::MAX),
            Dim::Batch(n) => i64::try_from(*n).map_or(i64::MIN, |n| -n),
        };
        Ok(shape.dims().iter().map(dim).collect())
    }

    fn bounded<'a>(&self, name: &'a str) -> Result<&'a str, String> {
        if name.len() > self.name_bytes_max || name.chars().any(char::is_control) {
            let limit = self.name_bytes_max;
            return Err(format!("the name {:?} must be a line of at most {limit} bytes", clean(name, 64)));
        }
        Ok(name)
    }
}

/// A parameter that some output needs and the prediction doesn't, and that output.
fn untrained(graph: &Graph) -> Result<Option<(String, String)>, String> {
    let of = |output: &str| rewrite::only(graph, output).map_err(|e| e.to_string());
    let trained = of(OUTPUT)?;
    for (output, _) in graph.outputs.iter().filter(|(name, _)| name != OUTPUT) {
        if let Some(state) = of(output)?.states.iter().find(|s| trained.state(&s.name).is_none()) {
            return Ok(Some((state.name.clone(), output.clone())));
        }
    }
    Ok(None)
}

fn value(node: u32) -> Value {
    Value { node: NodeId(node), slot: 0 }
}

fn index(built: Result<Value, graph::BuildError>) -> Built {
    built.map(|value| value.node.0).map_err(|e| e.to_string())
}

fn axes_of(axes: &[u32]) -> Vec<usize> {
    axes.iter().map(|&axis| axis as usize).collect()
}

fn unknown(what: &str, name: &str, known: &str) -> String {
    format!("there is no {what} {:?}; there are {known}", clean(name, 64))
}

fn parse_initial(text: &str) -> Result<Initial, String> {
    let known = "zeros, glorot, he, lstm-bias, uniform:N, normal:S and constant:X";
    let bad = || unknown("initial value", text, known);
    match text.split_once(':') {
        None => match text {
            "zeros" => Ok(Initial::Zeros),
            "glorot" => Ok(Initial::Glorot),
            "he" => Ok(Initial::He),
            "lstm-bias" => Ok(Initial::LstmBias),
            _ => Err(bad()),
        },
        Some(("uniform", n)) => n.parse().map(|n| Initial::UniformRoot { n }).map_err(|_| bad()),
        Some(("normal", s)) => s.parse().map(|deviation| Initial::Normal { deviation }).map_err(|_| bad()),
        Some(("constant", x)) => x.parse().map(Initial::Constant).map_err(|_| bad()),
        Some(_) => Err(bad()),
    }
}

fn parse_shape(dims: &[i64]) -> Result<Shape, String> {
    let dim = |&n: &i64| match usize::try_from(n.unsigned_abs()) {
        Ok(size) if n > 0 => Ok(Dim::Fixed(size)),
        Ok(size) if n < 0 => Ok(Dim::Batch(size)),
        _ => Err(format!("a dimension is {n}; it must be above 0, or -n for n times the batch")),
    };
    Ok(Shape::new(dims.iter().map(dim).collect::<Result<Vec<_>, _>>()?))
}

impl Guest {
    /// The host gives out one builder, for the length of one `build` call, in which the graph is there.
    fn graph(&mut self) -> Result<&mut GraphInProgress, String> {
        self.graph.as_mut().ok_or_else(|| "the graph is finished".to_string())
    }

    fn add(&mut self, node: impl FnOnce(&mut Builder) -> Result<Value, graph::BuildError>) -> Built {
        index(node(&mut self.graph()?.builder))
    }
}

impl wit::Host for Guest {}

type To = Resource<GraphInProgress>;

impl wit::HostBuilder for Guest {
    fn input(&mut self, _: To) -> u32 {
        0
    }

    fn parameter(&mut self, _: To, name: String, dims: Vec<u32>, initial: String) -> Built {
        self.graph()?.parameter(&name, &dims, &initial)
    }

    fn constant(&mut self, _: To, dims: Vec<u32>, values: Vec<f32>) -> Built {
        self.graph()?.constant(&dims, values)
    }

    fn unary(&mut self, _: To, op: String, x: u32) -> Built {
        let names = || UnaryOp::ALL.map(UnaryOp::name).join(", ");
        let op = UnaryOp::from_name(&op).ok_or_else(|| unknown("op", &op, &names()))?;
        self.add(|to| to.unary(op, value(x)))
    }

    fn binary(&mut self, _: To, op: String, a: u32, b: u32) -> Built {
        let names = || BinaryOp::ALL.map(BinaryOp::name).join(", ");
        let known = BinaryOp::ALL.into_iter().find(|known| known.name() == op);
        let op = known.ok_or_else(|| unknown("op", &op, &names()))?;
        self.add(|to| to.binary(op, value(a), value(b)))
    }

    fn select(&mut self, _: To, c: u32, a: u32, b: u32) -> Built {
        self.add(|to| to.select(value(c), value(a), value(b)))
    }

    fn dropout(&mut self, _: To, x: u32, rate: f32) -> Built {
        self.add(|to| to.dropout(value(x), rate))
    }

    fn broadcast(&mut self, _: To, x: u32, shape: Vec<i64>) -> Built {
        let shape = parse_shape(&shape)?;
        self.add(|to| to.broadcast(value(x), shape))
    }

    fn reshape(&mut self, _: To, x: u32, shape: Vec<i64>) -> Built {
        let shape = parse_shape(&shape)?;
        self.add(|to| to.reshape(value(x), shape))
    }

    fn transpose(&mut self, _: To, x: u32, axes: Vec<u32>) -> Built {
        self.add(|to| to.transpose(value(x), &axes_of(&axes)))
    }

    fn slice(&mut self, _: To, x: u32, axis: u32, start: u32, end: u32) -> Built {
        self.add(|to| to.slice(value(x), axis as usize, start as usize, end as usize))
    }

    fn pad(&mut self, _: To, x: u32, axis: u32, before: u32, after: u32) -> Built {
        self.add(|to| to.pad(value(x), axis as usize, before as usize, after as usize))
    }

    fn concat(&mut self, _: To, xs: Vec<u32>, axis: u32) -> Built {
        let xs: Vec<Value> = xs.into_iter().map(value).collect();
        self.add(|to| to.concat(&xs, axis as usize))
    }

    fn matmul(&mut self, _: To, a: u32, b: u32, transpose_a: bool, transpose_b: bool) -> Built {
        self.add(|to| to.matmul(value(a), value(b), transpose_a, transpose_b))
    }

    fn reduce(&mut self, _: To, op: String, x: u32, axes: Vec<u32>, keep: bool) -> Built {
        self.graph()?.reduce(&op, x, &axes, keep)
    }

    fn softmax(&mut self, _: To, x: u32, axis: u32) -> Built {
        self.add(|to| to.softmax(value(x), axis as usize))
    }

    fn log_softmax(&mut self, _: To, x: u32, axis: u32) -> Built {
        self.add(|to| to.log_softmax(value(x), axis as usize))
    }

    fn layer_norm(&mut self, _: To, x: u32, gamma: u32, beta: u32, epsilon: f32) -> Built {
        self.add(|to| to.layer_norm(value(x), value(gamma), value(beta), epsilon))
    }

    fn lstm(&mut self, _: To, x: u32, w: u32, u: u32, b: u32, sequence: bool) -> Built {
        let keep = if sequence { Keep::Sequence } else { Keep::Last };
        self.add(|to| to.lstm(value(x), value(w), value(u), value(b), keep))
    }

    fn gru(&mut self, _: To, x: u32, w: u32, u: u32, b: u32, c: u32, sequence: bool) -> Built {
        let keep = if sequence { Keep::Sequence } else { Keep::Last };
        self.add(|to| to.gru(value(x), value(w), value(u), value(b), value(c), keep))
    }

    fn conv1d(&mut self, _: To, x: u32, w: u32, b: u32, dilation: u32) -> Built {
        self.graph()?.conv1d(x, w, b, dilation as usize)
    }

    fn attention(&mut self, _: To, q: u32, k: u32, v: u32, heads: u32, causal: bool) -> Built {
        self.add(|to| to.attention(value(q), value(k), value(v), heads as usize, causal))
    }

    fn attention_weights(&mut self, _: To, q: u32, k: u32, heads: u32, causal: bool) -> Built {
        self.add(|to| to.attention_weights(value(q), value(k), heads as usize, causal))
    }

    fn shape_of(&mut self, _: To, x: u32) -> Result<Vec<i64>, String> {
        self.graph()?.shape_of(x)
    }

    /// A name that is too long is cut, since this function can't refuse.
    fn scope(&mut self, _: To, name: String) {
        if let Some(graph) = &mut self.graph {
            let name: String = name.chars().filter(|c| !c.is_control()).collect();
            graph.builder.scope(&name[..name.floor_char_boundary(graph.name_bytes_max)]);
        }
    }

    fn output(&mut self, _: To, name: String, x: u32) -> Result<(), String> {
        let graph = self.graph()?;
        let name = graph.bounded(&name)?;
        graph.builder.output(name, value(x)).map_err(|e| e.to_string())
    }

    /// The guest only ever borrows it.
    fn drop(&mut self, _: To) -> wasmtime::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_values_are_read() {
        assert_eq!(parse_initial("zeros"), Ok(Initial::Zeros));
        assert_eq!(parse_initial("glorot"), Ok(Initial::Glorot));
        assert_eq!(parse_initial("lstm-bias"), Ok(Initial::LstmBias));
        assert_eq!(parse_initial("he"), Ok(Initial::He));
        assert_eq!(parse_initial("normal:0.02"), Ok(Initial::Normal { deviation: 0.02 }));
        assert_eq!(parse_initial("uniform:64"), Ok(Initial::UniformRoot { n: 64 }));
        assert_eq!(parse_initial("constant:-0.5"), Ok(Initial::Constant(-0.5)));
        for bad in ["", "xavier", "normal:", "he:2", "uniform:", "uniform:-1", "constant:x", "zeros:1"] {
            let error = parse_initial(bad).expect_err(bad);
            assert!(error.contains("there are zeros, glorot"), "{error}");
        }
    }

    #[test]
    fn dimensions_are_read() {
        let shape = |dims: &[i64]| parse_shape(dims).map(|s| s.to_string());
        assert_eq!(shape(&[-1, 3, -2]), Ok("[B, 3, 2B]".to_string()));
        assert_eq!(shape(&[]), Ok("[]".to_string()));
        assert!(shape(&[0]).is_err());
        assert!(shape(&[i64::MIN]).is_ok_and(|s| s.starts_with("[9223372036854775808B")));
    }
}
