//! Conv over one axis as a causal convolution; padding that isn't causal by a pad before it and a slice after.

use graph::{CodecError, Dim, Op, Shape, Tensor, Value};

use super::Decoder;
use super::call::Call;
use super::entry::{Entry, View};

impl Decoder {
    /// Conv of `[B, F, T]` by `[O, F, K]`, stride 1, one group.
    pub fn conv(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(3, &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"])?;
        let (x, w) = (self.conv_input(call)?, self.conv_kernel(call)?);
        let Some(&[taps, _, outputs]) = self.builder.shape(w).to_fixed().as_deref() else {
            return Err(call.malformed("its weights are not [O, F, K]"));
        };
        if call.ints("kernel_shape")?.is_some_and(|shape| shape != [taps as i64]) {
            return Err(call.malformed("kernel_shape is not that of its weights"));
        }
        if call.int("group")?.unwrap_or(1) != 1 {
            return Err(call.unsupported("it has several groups; only one is read"));
        }
        if call.ints("strides")?.is_some_and(|strides| strides != [1]) {
            return Err(call.unsupported("its stride is not 1"));
        }
        let dilation = match call.ints("dilations")? {
            None => 1,
            Some(&[dilation]) if dilation > 0 => dilation as usize,
            Some(other) => return Err(call.malformed(format!("dilations {other:?}"))),
        };
        let Some(reach) = (taps - 1).checked_mul(dilation).filter(|&n| n <= i32::MAX as usize) else {
            return Err(call.unsupported("its taps reach further than can be counted"));
        };
        let (before, after) = self.conv_pads(call, reach)?;
        let bias = match call.input(2) {
            Some(_) => self.float(call, 2)?,
            None => self.zeros(call, Dim::Fixed(outputs))?,
        };
        let y = self.padded_conv(call, [x, w, bias], dilation, (reach, before, after))?;
        Ok(Entry::Float(View::plain(y, 3).permuted(&[0, 2, 1])))
    }

    /// x as `[B, T, F]`.
    fn conv_input(&mut self, call: &Call) -> Result<Value, CodecError> {
        let x = self.view(call, 0)?;
        if x.rank() != 3 {
            return Err(call.unsupported(format!(
                "its input has {} axes; only convolutions over one axis, of [batch, channels, places], are read",
                x.rank()
            )));
        }
        let x = x.permuted(&[0, 2, 1]);
        self.value(call, &x)
    }

    /// w as `[K, F, O]`: converted when it was read, or here.
    fn conv_kernel(&mut self, call: &Call) -> Result<Value, CodecError> {
        if call.input(1).is_some_and(|name| self.own_weights.contains(name)) {
            return self.float(call, 1);
        }
        let w = self.view(call, 1)?;
        if w.rank() != 3 {
            return Err(call.malformed(format!("its weights have {} axes, not 3", w.rank())));
        }
        let w = w.permuted(&[2, 1, 0]);
        self.value(call, &w)
    }

    /// Zeros before and after.
    fn conv_pads(&self, call: &Call, reach: usize) -> Result<(usize, usize), CodecError> {
        match call.string("auto_pad").unwrap_or("NOTSET") {
            "NOTSET" => {}
            "VALID" => return Ok((0, 0)),
            "SAME_UPPER" => return Ok((reach / 2, reach - reach / 2)),
            "SAME_LOWER" => return Ok((reach - reach / 2, reach / 2)),
            other => return Err(call.malformed(format!("auto_pad {other:?}"))),
        }
        match call.ints("pads")? {
            None => Ok((0, 0)),
            Some(&[before, after]) => match (u32::try_from(before), u32::try_from(after)) {
                (Ok(before), Ok(after)) => Ok((before as usize, after as usize)),
                _ => Err(call.unsupported("a pad is negative; use Slice")),
            },
            Some(other) => Err(call.malformed(format!("pads {other:?} for one axis"))),
        }
    }

    /// The causal convolution gives at place t what reads up to t; the operator's place j reads up to
    /// j − before + reach.
    fn padded_conv(
        &mut self,
        call: &Call,
        [x, w, bias]: [Value; 3],
        dilation: usize,
        (reach, before, after): (usize, usize, usize),
    ) -> Result<Value, CodecError> {
        let lead = before.saturating_sub(reach);
        let x = match (lead, after) {
            (0, 0) => x,
            _ => self.push(call, Op::Pad { axis: 1, before: lead, after }, &[x])?,
        };
        let y = self.push(call, Op::Conv1d { dilation }, &[x, w, bias])?;
        let skip = reach.saturating_sub(before);
        if skip == 0 {
            return Ok(y);
        }
        let Some(end) = self.builder.shape(y).dims()[1].fixed() else {
            return Err(call.unsupported("its number of places depends on the batch"));
        };
        if skip >= end {
            return Err(call.malformed("its kernel is longer than its padded input"));
        }
        self.push(call, Op::Slice { axis: 1, start: skip, end }, &[y])
    }

    /// The mean over all places, kept with size 1.
    pub fn global_average_pool(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(1, &[])?;
        let view = self.view(call, 0)?;
        if view.rank() < 3 {
            return Err(call.malformed("its input has no places"));
        }
        let axes = (2..view.rank()).collect();
        self.reduce_view(call, graph::ReduceOp::Mean, axes, true, &view)
    }
}

/// `[O, F, K]` of a file as our `[K, F, O]`, or the other way round.
pub fn reverse_axes(value: &Tensor) -> Option<Tensor> {
    let &[first, middle, last] = value.dims() else { return None };
    let at = |i: usize| {
        let (k, f, o) = (i / (middle * first), i / first % middle, i % first);
        value.data()[(o * middle + f) * last + k]
    };
    Tensor::new(vec![last, middle, first], (0..value.data().len()).map(at).collect()).ok()
}

/// Only where every axis of the inner value stands in the view, and no other.
pub fn is_permutation(view: &View, inner: &Shape) -> bool {
    view.axes.len() == inner.rank() && view.axes.iter().all(Option::is_some)
}
