//! The graph under construction: one method for each op that the host's builder has, with shapes checked at
//! the call.
//!
//! A dimension n > 0 is fixed; -1 is the batch size, -n is n times the batch size. An error says which op
//! refused what.

#[cfg(target_arch = "wasm32")]
use crate::bindings::architecture::alphaplus::plugin::graph::Builder as Host;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::Recorder as Host;

/// One tensor in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node(u32);

/// Where an [`Architecture`](crate::Architecture) builds.
pub struct Graph<'a> {
    host: &'a Host,
}

type Built = Result<Node, String>;

macro_rules! unary_ops {
    ($($op:ident),*) => { $(#[doc = concat!("Elementwise ", stringify!($op), ".")]
        pub fn $op(&self, x: Node) -> Built { self.unary(stringify!($op), x) })* };
}

macro_rules! binary_ops {
    ($($op:ident),*) => { $(#[doc = concat!("Elementwise ", stringify!($op), "; shapes broadcast as in NumPy.")]
        pub fn $op(&self, a: Node, b: Node) -> Built { self.binary(stringify!($op), a, b) })* };
}

impl<'a> Graph<'a> {
    pub fn new(host: &'a Host) -> Self {
        Graph { host }
    }

    /// The features: `[-1, window, features]`.
    pub fn input(&self) -> Node {
        Node(self.host.input())
    }

    /// A trained parameter; of its dims the last is the output, the others together are the input (fan-in).
    /// `initial` is "zeros", "constant:X", "glorot" (uniform within √(6 / (fan-in + fan-out))), "he" (uniform
    /// within √(6 / fan-in), before a ReLU), "uniform:N" (within 1/√N), "normal:S" (standard deviation S) or
    /// "lstm-bias" (one for the forget gate).
    pub fn parameter(&self, name: &str, dims: &[u32], initial: &str) -> Built {
        self.host.parameter(name, dims, initial).map(Node)
    }

    /// Row-major.
    pub fn constant(&self, dims: &[u32], values: &[f32]) -> Built {
        self.host.constant(dims, values).map(Node)
    }

    /// neg abs sign square sqrt reciprocal exp log tanh sigmoid relu gelu erf softplus
    pub fn unary(&self, op: &str, x: Node) -> Built {
        self.host.unary(op, x.0).map(Node)
    }

    /// add sub mul div max min less; shapes broadcast as in NumPy.
    pub fn binary(&self, op: &str, a: Node, b: Node) -> Built {
        self.host.binary(op, a.0, b.0).map(Node)
    }

    unary_ops!(neg, abs, square, sqrt, reciprocal, exp, log, tanh, sigmoid, relu, gelu, softplus);
    binary_ops!(add, sub, mul, div, max, min, less);

    /// `a` where `c` is not 0, else `b`.
    pub fn select(&self, c: Node, a: Node, b: Node) -> Built {
        self.host.select(c.0, a.0, b.0).map(Node)
    }

    /// Active in training only.
    pub fn dropout(&self, x: Node, rate: f32) -> Built {
        self.host.dropout(x.0, rate).map(Node)
    }

    pub fn broadcast(&self, x: Node, shape: &[i64]) -> Built {
        self.host.broadcast(x.0, shape).map(Node)
    }

    pub fn reshape(&self, x: Node, shape: &[i64]) -> Built {
        self.host.reshape(x.0, shape).map(Node)
    }

    /// Output axis i is input axis `axes[i]`.
    pub fn transpose(&self, x: Node, axes: &[u32]) -> Built {
        self.host.transpose(x.0, axes).map(Node)
    }

    /// From `start` up to, not with, `end`.
    pub fn slice(&self, x: Node, axis: u32, start: u32, end: u32) -> Built {
        self.host.slice(x.0, axis, start, end).map(Node)
    }

    /// With zeros.
    pub fn pad(&self, x: Node, axis: u32, before: u32, after: u32) -> Built {
        self.host.pad(x.0, axis, before, after).map(Node)
    }

    pub fn concat(&self, xs: &[Node], axis: u32) -> Built {
        let xs: Vec<u32> = xs.iter().map(|x| x.0).collect();
        self.host.concat(&xs, axis).map(Node)
    }

    /// Over the last two axes; those before are the same in both, or only `a` has them.
    pub fn matmul(&self, a: Node, b: Node) -> Built {
        self.matmul_transposed(a, b, false, false)
    }

    pub fn matmul_transposed(&self, a: Node, b: Node, transpose_a: bool, transpose_b: bool) -> Built {
        self.host.matmul(a.0, b.0, transpose_a, transpose_b).map(Node)
    }

    /// "sum", "mean" or "max"; `keep` leaves an axis of 1.
    pub fn reduce(&self, op: &str, x: Node, axes: &[u32], keep: bool) -> Built {
        self.host.reduce(op, x.0, axes, keep).map(Node)
    }

    pub fn softmax(&self, x: Node, axis: u32) -> Built {
        self.host.softmax(x.0, axis).map(Node)
    }

    pub fn log_softmax(&self, x: Node, axis: u32) -> Built {
        self.host.log_softmax(x.0, axis).map(Node)
    }

    /// Over the last axis; `gamma` and `beta` have its length.
    pub fn layer_norm(&self, x: Node, gamma: Node, beta: Node, epsilon: f32) -> Built {
        self.host.layer_norm(x.0, gamma.0, beta.0, epsilon).map(Node)
    }

    /// x `[-1, T, F]`, w `[F, 4H]`, u `[H, 4H]`, b `[4H]`; gates in the order input, forget, cell, output.
    /// `[-1, T, H]` when `sequence`, else the last step `[-1, H]`.
    pub fn lstm(&self, x: Node, w: Node, u: Node, b: Node, sequence: bool) -> Built {
        self.host.lstm(x.0, w.0, u.0, b.0, sequence).map(Node)
    }

    /// x `[-1, T, F]`, w `[F, 3H]`, u `[H, 3H]`, b `[3H]` of x·w, c `[3H]` of h·u; gates in the order reset,
    /// update, new. `[-1, T, H]` when `sequence`, else the last step `[-1, H]`.
    pub fn gru(&self, x: Node, w: Node, u: Node, b: Node, c: Node, sequence: bool) -> Built {
        self.host.gru(x.0, w.0, u.0, b.0, c.0, sequence).map(Node)
    }

    /// A causal convolution: x `[-1, T, F]`, w `[K, F, O]`, b `[O]` → y `[-1, T, O]`, where
    /// `y[t] = b + Σ_k x[t − (K − 1 − k)·dilation] · w[k]`; rows before the first are zeros.
    pub fn conv1d(&self, x: Node, w: Node, b: Node, dilation: u32) -> Built {
        self.host.conv1d(x.0, w.0, b.0, dilation).map(Node)
    }

    /// Scaled dot-product attention (Vaswani et al. 2017): q `[-1, T, D]`, k and v `[-1, S, D]` → `[-1, T, D]`.
    /// Each of `heads` sees D / heads columns. When `causal` (S = T), place t sees places up to t.
    pub fn attention(&self, q: Node, k: Node, v: Node, heads: u32, causal: bool) -> Built {
        self.host.attention(q.0, k.0, v.0, heads, causal).map(Node)
    }

    /// The weights that [`attention`](Self::attention) gives the places: `[-1, heads, T, S]`.
    pub fn attention_weights(&self, q: Node, k: Node, heads: u32, causal: bool) -> Built {
        self.host.attention_weights(q.0, k.0, heads, causal).map(Node)
    }

    pub fn shape_of(&self, x: Node) -> Result<Vec<i64>, String> {
        self.host.shape_of(x.0)
    }

    /// Names what follows, for errors and profiles: "block.3". Empty ends it.
    pub fn scope(&self, name: &str) {
        self.host.scope(name);
    }

    /// "prediction" `[-1, outputs]` is required. Others stay in the model file and are not computed while it
    /// serves.
    pub fn output(&self, name: &str, x: Node) -> Result<(), String> {
        self.host.output(name, x.0)
    }
}
