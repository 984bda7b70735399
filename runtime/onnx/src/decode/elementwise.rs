//! Elementwise operators.

use graph::{BinaryOp, CodecError, Op, UnaryOp, Value};

use super::Decoder;
use super::call::Call;
use super::conv::is_permutation;
use super::entry::{Entry, View};
use super::integers::Integer;

/// Arithmetic on two sizes; `None` where the result is no multiple of the batch.
type Combine = fn(Integer, Integer) -> Option<Integer>;

/// The op of a unary operator's name.
pub fn unary(name: &str) -> Option<UnaryOp> {
    Some(match name {
        "Neg" => UnaryOp::Neg,
        "Abs" => UnaryOp::Abs,
        "Sign" => UnaryOp::Sign,
        "Sqrt" => UnaryOp::Sqrt,
        "Reciprocal" => UnaryOp::Reciprocal,
        "Exp" => UnaryOp::Exp,
        "Log" => UnaryOp::Log,
        "Tanh" => UnaryOp::Tanh,
        "Sigmoid" => UnaryOp::Sigmoid,
        "Relu" => UnaryOp::Relu,
        "Gelu" => UnaryOp::Gelu,
        "Erf" => UnaryOp::Erf,
        "Softplus" => UnaryOp::Softplus,
        _ => return None,
    })
}

impl Decoder {
    pub fn unary(&mut self, call: &Call, op: UnaryOp) -> Result<Entry, CodecError> {
        call.check(1, if op == UnaryOp::Gelu { &["approximate"] } else { &[] })?;
        if let Some(form) = call.string("approximate").filter(|&form| form != "none") {
            return Err(call.unsupported(format!("approximation {form:?}; only the exact form is read")));
        }
        let view = self.view(call, 0)?;
        if !is_permutation(&view, self.builder.shape(view.inner)) {
            let x = self.value(call, &view)?;
            return self.push_entry(call, Op::Unary(op), &[x]);
        }
        // Of each element alone, so the order of the axes may stay open.
        let y = self.push(call, Op::Unary(op), &[view.inner])?;
        Ok(Entry::Float(View { inner: y, ..view }))
    }

    /// Add, Sub, Mul, Div; of floats, or of integers that stand for sizes.
    pub fn arithmetic(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(2, &[])?;
        let (op, combine): (BinaryOp, Combine) = match call.op() {
            "Add" => (BinaryOp::Add, Integer::add),
            "Sub" => (BinaryOp::Sub, Integer::sub),
            "Mul" => (BinaryOp::Mul, Integer::mul),
            _ => (BinaryOp::Div, Integer::div),
        };
        if let (Entry::Integers(a), Entry::Integers(b)) = (self.entry(call, 0)?, self.entry(call, 1)?) {
            return a.combine(&b, combine).map(Entry::Integers).map_err(|reason| call.unsupported(reason));
        }
        let (a, b) = (self.float(call, 0)?, self.float(call, 1)?);
        if op == BinaryOp::Mul && a == b {
            return self.push_entry(call, Op::Unary(UnaryOp::Square), &[a]);
        }
        self.push_entry(call, Op::Binary(op), &[a, b])
    }

    /// Max, Min of one or more.
    pub fn extremum(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(usize::MAX, &[])?;
        let op = if call.op() == "Max" { BinaryOp::Max } else { BinaryOp::Min };
        let mut value = self.float(call, 0)?;
        for index in 1..call.input_count() {
            let other = self.float(call, index)?;
            value = self.push(call, Op::Binary(op), &[value, other])?;
        }
        Ok(self.entries_view(value))
    }

    /// Less, or Greater with its arguments swapped.
    pub fn less(&mut self, call: &Call, swapped: bool) -> Result<Entry, CodecError> {
        call.check(2, &[])?;
        let (a, b) = (self.float(call, 0)?, self.float(call, 1)?);
        let inputs = if swapped { [b, a] } else { [a, b] };
        Ok(Entry::Bool { value: self.push(call, Op::Binary(BinaryOp::Less), &inputs)?, exact: true })
    }

    pub fn select(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(3, &[])?;
        let Entry::Bool { value: truth, .. } = self.entry(call, 0)? else {
            return Err(call.malformed("its first input is not bool"));
        };
        let (a, b) = (self.float(call, 1)?, self.float(call, 2)?);
        self.push_entry(call, Op::Select, &[truth, a, b])
    }

    /// Pow by the constants 2 and 0.5.
    pub fn pow(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(2, &[])?;
        let exponent = match self.entry(call, 1)? {
            Entry::Integers(integers) => match integers.values[..] {
                [Integer::Fixed(n)] => Some(n as f32),
                _ => None,
            },
            Entry::Float(view) => self.single(view.inner).filter(|_| view.rank() == 0),
            Entry::Bool { .. } => None,
        };
        let op = match exponent {
            Some(2.0) => UnaryOp::Square,
            Some(0.5) => UnaryOp::Sqrt,
            Some(other) => return Err(call.unsupported(format!("exponent {other}; only 2 and 0.5 are read"))),
            None => return Err(call.unsupported("its exponent is not a constant scalar")),
        };
        let x = self.float(call, 0)?;
        self.push_entry(call, Op::Unary(op), &[x])
    }

    /// The only element of a constant.
    pub fn single(&self, value: Value) -> Option<f32> {
        match self.tensor_of(value)?.data() {
            [x] => Some(*x),
            _ => None,
        }
    }
}
