//! A builder that infers shapes and keeps what was built, in place of the host's in native tests.

use std::cell::RefCell;

/// What was built.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Built {
    /// One for each node, in the order of the calls: "scope: op" and its shape.
    pub nodes: Vec<(String, Vec<i64>)>,
    /// Name, dimensions and start value.
    pub parameters: Vec<(String, Vec<u32>, String)>,
    pub outputs: Vec<(String, Vec<i64>)>,
}

impl Built {
    /// How many trained numbers there are.
    pub fn parameter_count(&self) -> u64 {
        self.parameters.iter().map(|(_, dims, _)| dims.iter().map(|&n| u64::from(n)).product::<u64>()).sum()
    }

    /// How many nodes are of this op.
    pub fn count(&self, op: &str) -> usize {
        self.nodes.iter().filter(|(name, _)| name.rsplit(": ").next() == Some(op)).count()
    }
}

/// The mock builder. Its shape rules are those of the host's; where the two differ the host is right.
pub struct Recorder {
    input: Vec<i64>,
    built: RefCell<Built>,
    scope: RefCell<String>,
}

pub(super) type Added = Result<u32, String>;

const UNARY: &[&str] = &[
    "neg",
    "abs",
    "sign",
    "square",
    "sqrt",
    "reciprocal",
    "exp",
    "log",
    "tanh",
    "sigmoid",
    "relu",
    "gelu",
    "erf",
    "softplus",
];
const BINARY: &[&str] = &["add", "sub", "mul", "div", "max", "min", "less"];

impl Recorder {
    pub fn new(window: u32, features: u32) -> Self {
        let input = vec![-1, i64::from(window), i64::from(features)];
        Recorder { input, built: RefCell::default(), scope: RefCell::default() }
    }

    /// What was built; an error where the prediction is missing or of another shape.
    pub fn finish(self, outputs: u32) -> Result<Built, String> {
        let built = self.built.into_inner();
        let prediction = built.outputs.iter().find(|(name, _)| name == "prediction");
        match prediction {
            Some((_, shape)) if *shape == [-1, i64::from(outputs)] => Ok(built),
            Some((_, shape)) => {
                Err(format!("output prediction has shape {shape:?}; it must be [-1, {outputs}]"))
            }
            None => Err("the output prediction is missing".into()),
        }
    }

    pub(super) fn add(&self, op: &str, shape: Vec<i64>) -> u32 {
        let scope = self.scope.borrow();
        let name = if scope.is_empty() { op.to_owned() } else { format!("{scope}: {op}") };
        let nodes = &mut self.built.borrow_mut().nodes;
        nodes.push((name, shape));
        nodes.len() as u32 - 1
    }

    pub(super) fn shape(&self, x: u32) -> Result<Vec<i64>, String> {
        let built = self.built.borrow();
        built
            .nodes
            .get(x as usize)
            .map(|(_, shape)| shape.clone())
            .ok_or_else(|| format!("there is no node {x}"))
    }

    fn axis(&self, op: &str, x: u32, axis: u32) -> Result<(Vec<i64>, usize), String> {
        let shape = self.shape(x)?;
        match (axis as usize) < shape.len() {
            true => Ok((shape, axis as usize)),
            false => Err(format!("{op}: axis {axis} of shape {shape:?}")),
        }
    }

    pub fn input(&self) -> u32 {
        self.add("input", self.input.clone())
    }

    pub fn parameter(&self, name: &str, dims: &[u32], initial: &str) -> Added {
        let number = |text: &str| text.parse::<f32>().is_ok_and(f32::is_finite);
        let known = match initial.split_once(':') {
            Some(("uniform", n)) => n.parse::<u32>().is_ok_and(|n| n > 0),
            Some(("constant", x)) => number(x),
            Some(("normal", s)) => s.parse::<f32>().is_ok_and(|s| s.is_finite() && s > 0.0),
            Some(_) => false,
            None => ["zeros", "glorot", "he", "lstm-bias"].contains(&initial),
        };
        if !known {
            return Err(format!("parameter {name}: unknown start value {initial:?}"));
        }
        if self.built.borrow().parameters.iter().any(|(other, ..)| other == name) {
            return Err(format!("there are two parameters {name}"));
        }
        if dims.contains(&0) {
            return Err(format!("parameter {name}: shape {dims:?} is empty"));
        }
        self.built.borrow_mut().parameters.push((name.into(), dims.into(), initial.into()));
        Ok(self.add("parameter", dims.iter().map(|&n| i64::from(n)).collect()))
    }

    pub fn constant(&self, dims: &[u32], values: &[f32]) -> Added {
        if dims.iter().map(|&n| u64::from(n)).product::<u64>() != values.len() as u64 {
            return Err(format!("constant: {} values for shape {dims:?}", values.len()));
        }
        Ok(self.add("constant", dims.iter().map(|&n| i64::from(n)).collect()))
    }

    pub fn unary(&self, op: &str, x: u32) -> Added {
        if !UNARY.contains(&op) {
            return Err(format!("there is no unary op {op}"));
        }
        Ok(self.add(op, self.shape(x)?))
    }

    pub fn binary(&self, op: &str, a: u32, b: u32) -> Added {
        if !BINARY.contains(&op) {
            return Err(format!("there is no binary op {op}"));
        }
        Ok(self.add(op, broadcast(op, &self.shape(a)?, &self.shape(b)?)?))
    }

    pub fn select(&self, c: u32, a: u32, b: u32) -> Added {
        let shape = broadcast("select", &self.shape(a)?, &self.shape(b)?)?;
        Ok(self.add("select", broadcast("select", &self.shape(c)?, &shape)?))
    }

    pub fn dropout(&self, x: u32, rate: f32) -> Added {
        if !(0.0..1.0).contains(&rate) {
            return Err(format!("dropout: rate {rate}; it must be at least 0 and below 1"));
        }
        Ok(self.add("dropout", self.shape(x)?))
    }

    pub fn broadcast(&self, x: u32, shape: &[i64]) -> Added {
        let from = self.shape(x)?;
        if broadcast("broadcast", &from, shape)? != shape {
            return Err(format!("broadcast: {from:?} does not broadcast to {shape:?}"));
        }
        Ok(self.add("broadcast", shape.into()))
    }

    pub fn reshape(&self, x: u32, shape: &[i64]) -> Added {
        let from = self.shape(x)?;
        match elements(&from) == elements(shape) {
            true => Ok(self.add("reshape", shape.into())),
            false => Err(format!("reshape: {from:?} has another number of elements than {shape:?}")),
        }
    }

    pub fn transpose(&self, x: u32, axes: &[u32]) -> Added {
        let shape = self.shape(x)?;
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().map(|&a| a as usize).eq(0..shape.len()) {
            return Err(format!("transpose: axes {axes:?} of shape {shape:?}"));
        }
        Ok(self.add("transpose", axes.iter().map(|&a| shape[a as usize]).collect()))
    }

    pub fn slice(&self, x: u32, axis: u32, start: u32, end: u32) -> Added {
        let (mut shape, at) = self.axis("slice", x, axis)?;
        if start >= end || i64::from(end) > shape[at] {
            return Err(format!("slice: {start} to {end} on axis {axis} of shape {shape:?}"));
        }
        shape[at] = i64::from(end - start);
        Ok(self.add("slice", shape))
    }

    pub fn pad(&self, x: u32, axis: u32, before: u32, after: u32) -> Added {
        let (mut shape, at) = self.axis("pad", x, axis)?;
        if shape[at] < 0 {
            return Err(format!("pad: axis {axis} of shape {shape:?} depends on the batch"));
        }
        shape[at] += i64::from(before) + i64::from(after);
        Ok(self.add("pad", shape))
    }

    pub fn concat(&self, xs: &[u32], axis: u32) -> Added {
        let Some((&first, rest)) = xs.split_first() else { return Err("concat: of nothing".into()) };
        let (mut shape, at) = self.axis("concat", first, axis)?;
        for &x in rest {
            let other = self.shape(x)?;
            let fits = other.len() == shape.len()
                && (0..shape.len())
                    .all(|i| i == at && other[i] > 0 && shape[i] > 0 || i != at && other[i] == shape[i]);
            if !fits {
                return Err(format!("concat: {shape:?} and {other:?} on axis {axis}"));
            }
            shape[at] += other[at];
        }
        Ok(self.add("concat", shape))
    }

    pub fn matmul(&self, a: u32, b: u32, transpose_a: bool, transpose_b: bool) -> Added {
        let (a, b) = (self.shape(a)?, self.shape(b)?);
        let error = || format!("matmul: {a:?} and {b:?}");
        let (Some((lead_a, [m, k])), Some((lead_b, [l, n]))) =
            (a.split_last_chunk::<2>(), b.split_last_chunk::<2>())
        else {
            return Err(error());
        };
        let (m, k) = if transpose_a { (k, m) } else { (m, k) };
        let (l, n) = if transpose_b { (n, l) } else { (l, n) };
        if k != l {
            return Err(error());
        }
        if !lead_b.is_empty() && lead_a != lead_b {
            return Err(format!("{}: b must have the leading dimensions of a, or none", error()));
        }
        let mut shape = lead_a.to_vec();
        shape.extend([*m, *n]);
        Ok(self.add("matmul", shape))
    }

    pub fn reduce(&self, op: &str, x: u32, axes: &[u32], keep: bool) -> Added {
        if !["sum", "mean", "max"].contains(&op) {
            return Err(format!("there is no reduction {op}"));
        }
        let mut shape = self.shape(x)?;
        for &axis in axes {
            self.axis(op, x, axis)?;
            shape[axis as usize] = 1;
        }
        if !keep {
            let kept = shape.iter().enumerate().filter(|(i, _)| !axes.contains(&(*i as u32)));
            shape = kept.map(|(_, &n)| n).collect();
        }
        Ok(self.add(op, shape))
    }

    pub fn softmax(&self, x: u32, axis: u32) -> Added {
        let (shape, _) = self.axis("softmax", x, axis)?;
        Ok(self.add("softmax", shape))
    }

    pub fn log_softmax(&self, x: u32, axis: u32) -> Added {
        let (shape, _) = self.axis("log-softmax", x, axis)?;
        Ok(self.add("log-softmax", shape))
    }

    pub fn shape_of(&self, x: u32) -> Result<Vec<i64>, String> {
        self.shape(x)
    }

    pub fn scope(&self, name: &str) {
        *self.scope.borrow_mut() = name.to_owned();
    }

    pub fn output(&self, name: &str, x: u32) -> Result<(), String> {
        let shape = self.shape(x)?;
        let outputs = &mut self.built.borrow_mut().outputs;
        if outputs.iter().any(|(other, _)| other == name) {
            return Err(format!("there are two outputs {name}"));
        }
        outputs.push((name.into(), shape));
        Ok(())
    }
}

/// The number of elements, and how many factors of it are the batch size.
fn elements(shape: &[i64]) -> (u64, usize) {
    let count = shape.iter().fold(1u64, |count, n| count.saturating_mul(n.unsigned_abs()));
    (count, shape.iter().filter(|n| **n < 0).count())
}

fn broadcast(op: &str, a: &[i64], b: &[i64]) -> Result<Vec<i64>, String> {
    let rank = a.len().max(b.len());
    let from_end = |shape: &[i64], i: usize| shape.len().checked_sub(rank - i).map_or(1, |at| shape[at]);
    (0..rank)
        .map(|i| match (from_end(a, i), from_end(b, i)) {
            (a, b) if a == b => Ok(a),
            (1, n) | (n, 1) => Ok(n),
            _ => Err(format!("{op}: shapes {a:?} and {b:?} do not broadcast")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder() -> (Recorder, u32) {
        let recorder = Recorder::new(8, 3);
        let input = recorder.input();
        (recorder, input)
    }

    #[test]
    fn shapes_follow_the_ops() {
        let (g, x) = recorder();
        let check = |node: Added, expect: &[i64]| assert_eq!(g.shape(node.unwrap()).unwrap(), expect);
        let w = g.parameter("w", &[3, 5], "glorot").unwrap();
        check(g.matmul(x, w, false, false), &[-1, 8, 5]);
        check(g.matmul(w, w, true, false), &[5, 5]);
        check(g.reduce("mean", x, &[1], false), &[-1, 3]);
        check(g.reduce("mean", x, &[1], true), &[-1, 1, 3]);
        check(g.transpose(x, &[1, 0, 2]), &[8, -1, 3]);
        check(g.slice(x, 1, 7, 8), &[-1, 1, 3]);
        check(g.pad(x, 1, 2, 0), &[-1, 10, 3]);
        check(g.concat(&[x, x], 2), &[-1, 8, 6]);
        check(g.reshape(x, &[-8, 3]), &[-8, 3]);
        check(g.binary("add", x, g.constant(&[3], &[0.0; 3]).unwrap()), &[-1, 8, 3]);
        let h = g.parameter("h", &[4, 12], "uniform:4").unwrap();
        let (v, b) =
            (g.parameter("v", &[3, 12], "glorot").unwrap(), g.parameter("b", &[12], "zeros").unwrap());
        check(g.gru(x, v, h, b, b, true), &[-1, 8, 4]);
        check(g.gru(x, v, h, b, b, false), &[-1, 4]);
        let (taps, o) = (g.parameter("k", &[5, 3, 12], "he").unwrap(), b);
        check(g.conv1d(x, taps, o, 2), &[-1, 8, 12]);
        let wide = g.conv1d(x, taps, o, 1).unwrap();
        check(g.attention(wide, wide, wide, 4, true), &[-1, 8, 12]);
        check(g.attention_weights(wide, wide, 3, false), &[-1, 3, 8, 8]);
        check(g.broadcast(g.constant(&[1], &[0.0]).unwrap(), &[-1, 4]), &[-1, 4]);
    }

    #[test]
    fn mistakes_are_refused() {
        let (g, x) = recorder();
        let w = g.parameter("w", &[4, 5], "glorot").unwrap();
        let s = g.parameter("s", &[8, 8], "glorot").unwrap();
        for (what, refused) in [
            ("unknown op", g.unary("tan", x)),
            ("inner dimensions", g.matmul(x, w, false, false)),
            ("leading dimensions", g.matmul(s, x, false, false)),
            ("a name twice", g.parameter("w", &[1], "zeros")),
            ("start value", g.parameter("v", &[1], "ones")),
            ("elements", g.reshape(x, &[-1, 23])),
            ("slice end", g.slice(x, 1, 0, 9)),
            ("batch axis", g.concat(&[x, x], 0)),
            ("lstm", g.lstm(x, w, w, w, true)),
            ("gru", g.gru(x, w, w, w, w, true)),
            ("conv1d", g.conv1d(x, w, w, 1)),
            ("heads", g.attention(x, x, x, 2, false)),
            ("no heads", g.attention_weights(x, x, 0, false)),
            ("deviation", g.parameter("n", &[1], "normal:0")),
            ("dropout", g.dropout(x, 1.0)),
            ("node", g.unary("exp", 99)),
            ("axes", g.transpose(x, &[0, 0, 1])),
            ("broadcast", g.binary("add", x, w)),
        ] {
            assert!(refused.is_err(), "{what}");
        }
    }

    #[test]
    fn the_prediction_is_required() {
        assert_eq!(recorder().0.finish(3).unwrap_err(), "the output prediction is missing");
        let (g, x) = recorder();
        g.output("prediction", x).unwrap();
        assert_eq!(g.finish(3).unwrap_err(), "output prediction has shape [-1, 8, 3]; it must be [-1, 3]");
    }
}
