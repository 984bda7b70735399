//! The closed set of ops. A new op is: a formula in `reference`, a shape rule in `shape_rule`, a gradient
//! rule, a lowering in each executor, an ONNX mapping and a conformance row; every pass is one `match`
//! without a catch-all arm, so the compiler lists what is missing.
//!
//! All tensors are f32 (f64 in the reference). Gate order of the LSTM is input, forget, cell, output
//! (i, f, g, o), weights are input-major: `x · W` with `W: [F, 4H]`, `U: [H, 4H]`, `b: [4H]`. Gate order of the
//! GRU is reset, update, new (r, z, n), with `W: [F, 3H]`, `U: [H, 3H]` and a bias for each product, `b: [3H]` and
//! `c: [3H]`: the reset gate takes effect after the product with h, as in cuDNN and PyTorch.

use crate::shape::Shape;
use crate::tensor::Tensor;

/// One operation. The comment gives its inputs → outputs.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    // -- sources: no inputs, one output --
    /// Given at each run.
    Input { name: String },
    /// A parameter or an optimiser moment: kept by the plan between runs, replaced by the graph's updates.
    State { name: String },
    /// A constant of fixed shape.
    Constant(Tensor),

    // -- elementwise --
    /// x → f(x)
    Unary(UnaryOp),
    /// a, b → f(a, b), with NumPy broadcasting.
    Binary(BinaryOp),
    /// c, a, b → a where c ≠ 0, else b; with NumPy broadcasting over all three.
    Select,
    /// x, seed (scalar) → x · mask / (1 − rate). The mask is a pure function of (salt, seed, element
    /// index): see `reference::dropout_keeps`. Its own adjoint.
    Dropout { rate: f32, salt: u32 },

    // -- shape --
    /// x → x broadcast to the shape by NumPy's rules.
    Broadcast { shape: Shape },
    /// x → the same elements in another shape.
    Reshape { shape: Shape },
    /// x → axes permuted: output axis i is input axis `axes[i]`.
    Transpose { axes: Vec<usize> },
    /// x → elements `start..end` of one axis of fixed size.
    Slice { axis: usize, start: usize, end: usize },
    /// x → zeros before and after along one axis of fixed size. (The adjoint of `Slice`.)
    Pad { axis: usize, before: usize, after: usize },
    /// x₁ … xₙ → joined along one axis of fixed size.
    Concat { axis: usize },

    // -- contractions and reductions --
    /// a `[…, M, K]`, b `[…, K, N]` → `[…, M, N]`. Either may be stored transposed in its last two
    /// axes. Leading axes are equal, or b has none (rank 2).
    MatMul { transpose_a: bool, transpose_b: bool },
    /// x → reduced over the axes (sorted, distinct), which are kept with size 1 or dropped.
    Reduce { op: ReduceOp, axes: Vec<usize>, keep: bool },

    // -- fused --
    /// x → softmax along one axis.
    Softmax { axis: usize },
    /// x → log softmax along one axis.
    LogSoftmax { axis: usize },
    /// x `[…, F]`, gamma `[F]`, beta `[F]` → (x − mean) / √(var + epsilon) · gamma + beta over the last axis.
    LayerNorm { epsilon: f32 },
    /// x, gamma, dy → dx `[…, F]`, dgamma `[F]`, dbeta `[F]`.
    LayerNormBackward { epsilon: f32 },
    /// x `[B, T, F]`, W, U, b → h: the last `[B, H]` or the sequence `[B, T, H]`. Zero initial state.
    Lstm { keep: Keep },
    /// x, W, U, b → h `[B, T, H]`, c `[B, T, H]`, gates after activation `[B, T, 4H]`.
    LstmForward,
    /// x, W, U, h, c, gates, dh `[B, T, H]` → dx, dW, dU, db.
    LstmBackward,
    /// x `[B, T, F]`, W, U, b, c → h: the last `[B, H]` or the sequence `[B, T, H]`. Zero initial state.
    Gru { keep: Keep },
    /// x, W, U, b, c → h `[B, T, H]`, gates after activation `[B, T, 3H]`, q `[B, T, H]`: the part of h·U + c that
    /// the reset gate multiplies.
    GruForward,
    /// x, W, U, h, gates, q, dh `[B, T, H]` → dx, dW, dU, db, dc.
    GruBackward,
    /// x `[B, T, F]`, w `[K, F, O]`, b `[O]` → y `[B, T, O]`, causal: y[t] = b + Σₖ x[t − (K−1−k)·dilation]·w[k],
    /// where the places before the first are zeros.
    Conv1d { dilation: usize },
    /// x, w, dy → dx, dw, db.
    Conv1dBackward { dilation: usize },
    /// q `[B, T, D]`, k `[B, S, D]`, v `[B, S, D]` → y `[B, T, D]`: for each of the heads, which share out D in
    /// order, softmax(q·kᵀ / √(D/heads))·v (Vaswani et al. 2017). Causal: place t sees the places up to t, and S = T.
    Attention { heads: usize, causal: bool },
    /// q, k, v → y and the logarithm of each row's sum of exponentials `[B, heads, T]`.
    AttentionForward { heads: usize, causal: bool },
    /// q, k, v, y, logarithms, dy → dq, dk, dv. The weights are computed again instead of kept (Dao et al. 2022).
    AttentionBackward { heads: usize, causal: bool },

    // -- optimiser --
    /// parameter, m, v, gradient, learning rate (scalar), step (scalar, from 1) → parameter, m, v.
    /// AdamW with decoupled weight decay (Loshchilov and Hutter 2019), bias-corrected.
    AdamW { beta1: f32, beta2: f32, epsilon: f32, weight_decay: f32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    Neg,
    Abs,
    /// −1, 0 or 1.
    Sign,
    Square,
    Sqrt,
    Reciprocal,
    Exp,
    Log,
    Tanh,
    Sigmoid,
    Relu,
    /// Exact: x · Φ(x) = x/2 · (1 + erf(x/√2)).
    Gelu,
    Erf,
    /// log(1 + eˣ), stable.
    Softplus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    /// a < b as 1 or 0.
    Less,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReduceOp {
    Sum,
    Mean,
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keep {
    Last,
    Sequence,
}

impl Op {
    /// A short name for errors and profiles.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input { .. } => "input",
            Op::State { .. } => "state",
            Op::Constant(_) => "constant",
            Op::Unary(op) => op.name(),
            Op::Binary(op) => op.name(),
            Op::Select => "select",
            Op::Dropout { .. } => "dropout",
            Op::Broadcast { .. } => "broadcast",
            Op::Reshape { .. } => "reshape",
            Op::Transpose { .. } => "transpose",
            Op::Slice { .. } => "slice",
            Op::Pad { .. } => "pad",
            Op::Concat { .. } => "concat",
            Op::MatMul { .. } => "matmul",
            Op::Reduce { op, .. } => op.name(),
            Op::Softmax { .. } => "softmax",
            Op::LogSoftmax { .. } => "log_softmax",
            Op::LayerNorm { .. } => "layer_norm",
            Op::LayerNormBackward { .. } => "layer_norm_backward",
            Op::Lstm { .. } => "lstm",
            Op::LstmForward => "lstm_forward",
            Op::LstmBackward => "lstm_backward",
            Op::Gru { .. } => "gru",
            Op::GruForward => "gru_forward",
            Op::GruBackward => "gru_backward",
            Op::Conv1d { .. } => "conv1d",
            Op::Conv1dBackward { .. } => "conv1d_backward",
            Op::Attention { .. } => "attention",
            Op::AttentionForward { .. } => "attention_forward",
            Op::AttentionBackward { .. } => "attention_backward",
            Op::AdamW { .. } => "adamw",
        }
    }
}

impl UnaryOp {
    pub const ALL: [UnaryOp; 14] = [
        UnaryOp::Neg,
        UnaryOp::Abs,
        UnaryOp::Sign,
        UnaryOp::Square,
        UnaryOp::Sqrt,
        UnaryOp::Reciprocal,
        UnaryOp::Exp,
        UnaryOp::Log,
        UnaryOp::Tanh,
        UnaryOp::Sigmoid,
        UnaryOp::Relu,
        UnaryOp::Gelu,
        UnaryOp::Erf,
        UnaryOp::Softplus,
    ];

    pub fn name(self) -> &'static str {
        match self {
            UnaryOp::Neg => "neg",
            UnaryOp::Abs => "abs",
            UnaryOp::Sign => "sign",
            UnaryOp::Square => "square",
            UnaryOp::Sqrt => "sqrt",
            UnaryOp::Reciprocal => "reciprocal",
            UnaryOp::Exp => "exp",
            UnaryOp::Log => "log",
            UnaryOp::Tanh => "tanh",
            UnaryOp::Sigmoid => "sigmoid",
            UnaryOp::Relu => "relu",
            UnaryOp::Gelu => "gelu",
            UnaryOp::Erf => "erf",
            UnaryOp::Softplus => "softplus",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.name() == name)
    }
}

impl BinaryOp {
    pub const ALL: [BinaryOp; 7] = [
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Max,
        BinaryOp::Min,
        BinaryOp::Less,
    ];

    pub fn name(self) -> &'static str {
        match self {
            BinaryOp::Add => "add",
            BinaryOp::Sub => "sub",
            BinaryOp::Mul => "mul",
            BinaryOp::Div => "div",
            BinaryOp::Max => "max",
            BinaryOp::Min => "min",
            BinaryOp::Less => "less",
        }
    }
}

impl ReduceOp {
    pub fn name(self) -> &'static str {
        match self {
            ReduceOp::Sum => "reduce_sum",
            ReduceOp::Mean => "reduce_mean",
            ReduceOp::Max => "reduce_max",
        }
    }
}
