//! Matrix products, reductions and what is made of them.

use graph::shape_rule::broadcast_shapes;
use graph::{BinaryOp, CodecError, Dim, Op, ReduceOp, Shape, Tensor, Value};

use super::Decoder;
use super::call::Call;
use super::conv::is_permutation;
use super::entry::{Entry, View};

impl Decoder {
    /// MatMul by NumPy's rules: leading axes broadcast, a vector is a row before and a column after.
    pub fn matmul(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(2, &[])?;
        let (a, b) = (self.view(call, 0)?, self.view(call, 1)?);
        if a.rank() == 0 || b.rank() == 0 {
            return Err(call.malformed("an argument is a scalar"));
        }
        let (row, column) = (a.rank() == 1, b.rank() == 1);
        let a = if row { View { axes: vec![None, a.axes[0]], ..a } } else { a };
        let b = if column { View { axes: vec![b.axes[0], None], ..b } } else { b };
        let product = self.product(call, &a, &b)?;
        let mut view = View::plain(product, self.builder.shape(product).rank());
        if !row && !column {
            return Ok(Entry::Float(view));
        }
        let mut dims = self.shape(&view).dims().to_vec();
        if column {
            dims.pop();
        }
        if row {
            dims.remove(dims.len() - if column { 1 } else { 2 });
        }
        let shape = Shape::new(dims);
        view = View::plain(self.push(call, Op::Reshape { shape: shape.clone() }, &[product])?, shape.rank());
        Ok(Entry::Float(view))
    }

    /// alpha · A · B + beta · C, A and B as stored or transposed.
    pub fn gemm(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(3, &["alpha", "beta", "transA", "transB"])?;
        let (mut a, mut b) = (self.view(call, 0)?, self.view(call, 1)?);
        if a.rank() != 2 || b.rank() != 2 {
            return Err(call.malformed("its arguments must be matrices"));
        }
        if call.int("transA")?.unwrap_or(0) != 0 {
            a = a.permuted(&[1, 0]);
        }
        if call.int("transB")?.unwrap_or(0) != 0 {
            b = b.permuted(&[1, 0]);
        }
        let product = self.product(call, &a, &b)?;
        let mut result = self.scaled(call, product, call.float("alpha")?.unwrap_or(1.0))?;
        if call.input(2).is_some() {
            let c = self.float(call, 2)?;
            let c = self.scaled(call, c, call.float("beta")?.unwrap_or(1.0))?;
            let shape = self.builder.shape(result).clone();
            result = self.push(call, Op::Binary(BinaryOp::Add), &[result, c])?;
            if *self.builder.shape(result) != shape {
                return Err(call.malformed(format!("C doesn't broadcast to the product's {shape}")));
            }
        }
        Ok(self.entries_view(result))
    }

    fn scaled(&mut self, call: &Call, value: Value, factor: f32) -> Result<Value, CodecError> {
        if factor == 1.0 {
            return Ok(value);
        }
        let factor = self.scalar(call, factor)?;
        self.push(call, Op::Binary(BinaryOp::Mul), &[value, factor])
    }

    fn product(&mut self, call: &Call, a: &View, b: &View) -> Result<Value, CodecError> {
        let (shape_a, shape_b) = (self.shape(a), self.shape(b));
        let lead = |shape: &Shape| Shape::new(shape.dims()[..shape.rank() - 2].iter().copied());
        let (lead_a, lead_b) = (lead(&shape_a), lead(&shape_b));
        if shape_b.rank() == 2 || lead_a == lead_b {
            let (a, transpose_a) = self.argument(call, a)?;
            let (b, transpose_b) = self.argument(call, b)?;
            return self.push(call, Op::MatMul { transpose_a, transpose_b }, &[a, b]);
        }
        let lead = broadcast_shapes(&[&lead_a, &lead_b]).map_err(|reason| call.unsupported(reason))?;
        let a = self.with_lead(call, a, &lead)?;
        let b = self.with_lead(call, b, &lead)?;
        self.push(call, Op::MatMul { transpose_a: false, transpose_b: false }, &[a, b])
    }

    /// A product's argument: the inner value with the flag set, where its last two axes are swapped.
    fn argument(&mut self, call: &Call, view: &View) -> Result<(Value, bool), CodecError> {
        if view.is_swapped(self.builder.shape(view.inner).rank()) {
            return Ok((view.inner, true));
        }
        Ok((self.value(call, view)?, false))
    }

    fn with_lead(&mut self, call: &Call, view: &View, lead: &Shape) -> Result<Value, CodecError> {
        let value = self.value(call, view)?;
        let from = self.builder.shape(value).clone();
        let matrix = &from.dims()[from.rank() - 2..];
        let shape = Shape::new(lead.dims().iter().chain(matrix).copied());
        if shape == from {
            return Ok(value);
        }
        self.push(call, Op::Broadcast { shape }, &[value])
    }

    /// ReduceSum, ReduceMean, ReduceMax; the axes are an input or, before opset 18, an attribute.
    pub fn reduce(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(2, &["axes", "keepdims", "noop_with_empty_axes"])?;
        let op = match call.op() {
            "ReduceSum" => ReduceOp::Sum,
            "ReduceMean" => ReduceOp::Mean,
            _ => ReduceOp::Max,
        };
        let view = self.view(call, 0)?;
        let rank = view.rank();
        let stated = match self.numbers(call, 1)? {
            Some(axes) => axes,
            None => call.ints("axes")?.unwrap_or_default().to_vec(),
        };
        let mut axes = call.axes(&stated, rank)?;
        if axes.is_empty() {
            axes = (0..rank).collect();
            if rank == 0 || call.int("noop_with_empty_axes")?.unwrap_or(0) != 0 {
                return Ok(Entry::Float(view));
            }
        }
        let keep = call.int("keepdims")?.unwrap_or(1) != 0;
        self.reduce_view(call, op, axes, keep, &view)
    }

    /// A reduction over axes of the view, sorted; where it only permutes axes their order stays open.
    pub fn reduce_view(
        &mut self,
        call: &Call,
        op: ReduceOp,
        axes: Vec<usize>,
        keep: bool,
        view: &View,
    ) -> Result<Entry, CodecError> {
        if !is_permutation(view, self.builder.shape(view.inner)) {
            let x = self.value(call, view)?;
            return self.push_entry(call, Op::Reduce { op, axes, keep }, &[x]);
        }
        let mut inner: Vec<usize> = axes.iter().filter_map(|&axis| view.axes[axis]).collect();
        inner.sort_unstable();
        let y = self.push(call, Op::Reduce { op, axes: inner.clone(), keep }, &[view.inner])?;
        if keep {
            return Ok(Entry::Float(View { inner: y, axes: view.axes.clone() }));
        }
        // Each axis that is left, by how many that are left come before it.
        let left = view.axes.iter().copied().flatten().filter(|axis| !inner.contains(axis));
        let rank = |axis: usize| Some(axis - inner.iter().filter(|&&gone| gone < axis).count());
        Ok(Entry::Float(View { inner: y, axes: left.map(rank).collect() }))
    }

    pub fn softmax(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(1, &["axis"])?;
        let x = self.float(call, 0)?;
        let axis = call.axis(call.int("axis")?.unwrap_or(-1), self.builder.shape(x).rank())?;
        let op = if call.op() == "Softmax" { Op::Softmax { axis } } else { Op::LogSoftmax { axis } };
        self.push_entry(call, op, &[x])
    }

    pub fn layer_norm(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(3, &["axis", "epsilon", "stash_type"])?;
        let x = self.float(call, 0)?;
        let shape = self.builder.shape(x).clone();
        let axis = call.axis(call.int("axis")?.unwrap_or(-1), shape.rank())?;
        if axis + 1 != shape.rank() {
            return Err(call.unsupported("it normalises more than the last axis"));
        }
        let gamma = self.float(call, 1)?;
        let beta = match call.input(2) {
            Some(_) => self.float(call, 2)?,
            None => self.zeros(call, shape.dims()[axis])?,
        };
        let epsilon = call.float("epsilon")?.unwrap_or(1e-5);
        self.push_entry(call, Op::LayerNorm { epsilon }, &[x, gamma, beta])
    }

    /// A vector of zeros that takes no memory.
    pub fn zeros(&mut self, call: &Call, length: Dim) -> Result<Value, CodecError> {
        let zero = self.push(call, Op::Constant(Tensor::scalar(0.0)), &[])?;
        self.push(call, Op::Broadcast { shape: Shape::new([length]) }, &[zero])
    }
}
