//! Operators that compute shapes or take one.

use graph::shape_rule::{broadcast_shapes, merge_dims};
use graph::{CodecError, Dim, Op, Shape};

use super::Decoder;
use super::call::Call;
use super::entry::{Entry, View};
use super::integers::{Integer, Integers};

impl Decoder {
    /// A value's shape as integers, from `start` to `end`.
    pub fn shape_of(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(1, &["start", "end"])?;
        let shape = match self.entry(call, 0)? {
            Entry::Float(view) => self.shape(&view),
            Entry::Bool { value, .. } => self.builder.shape(value).clone(),
            Entry::Integers(integers) if integers.scalar => Shape::scalar(),
            Entry::Integers(integers) => Shape::fixed(&[integers.values.len()]),
        };
        let rank = shape.rank() as i64;
        let at =
            |place: i64| if place < 0 { place.saturating_add(rank) } else { place }.clamp(0, rank) as usize;
        let start = at(call.int("start")?.unwrap_or(0));
        let end = at(call.int("end")?.unwrap_or(rank)).max(start);
        match shape.dims()[start..end].iter().map(|&dim| Integer::of(dim)).collect() {
            Some(values) => Ok(Entry::Integers(Integers { scalar: false, values })),
            None => Err(call.unsupported(format!("{shape} is too large"))),
        }
    }

    pub fn reshape(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(2, &["allowzero"])?;
        let target = self.integers(call, 1)?;
        if let Entry::Integers(integers) = self.entry(call, 0)? {
            return reshape_integers(integers, &target).map_err(|reason| call.unsupported(reason));
        }
        let x = self.float(call, 0)?;
        let copies = call.int("allowzero")?.unwrap_or(0) == 0;
        let shape = reshape_target(self.builder.shape(x), &target.values, copies)
            .map_err(|reason| call.unsupported(reason))?;
        self.push_entry(call, Op::Reshape { shape }, &[x])
    }

    /// To a matrix, cut before the axis.
    pub fn flatten(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(1, &["axis"])?;
        let x = self.float(call, 0)?;
        let shape = self.builder.shape(x).clone();
        let axis = call.int("axis")?.unwrap_or(1);
        let cut = if axis == shape.rank() as i64 { shape.rank() } else { call.axis(axis, shape.rank())? };
        let (rows, columns) = shape.dims().split_at(cut);
        match (merge_dims(rows), merge_dims(columns)) {
            (Some(rows), Some(columns)) => {
                self.push_entry(call, Op::Reshape { shape: Shape::new([rows, columns]) }, &[x])
            }
            _ => Err(call.unsupported(format!("{shape} is too large"))),
        }
    }

    pub fn expand(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(2, &[])?;
        let view = self.view(call, 0)?;
        let from = self.shape(&view);
        let target = self.integers(call, 1)?.shape().map_err(|reason| call.unsupported(reason))?;
        let shape = broadcast_shapes(&[&from, &target]).map_err(|reason| call.unsupported(reason))?;
        if shape == from {
            return Ok(Entry::Float(view));
        }
        let x = self.value(call, &view)?;
        self.push_entry(call, Op::Broadcast { shape }, &[x])
    }

    pub fn transpose(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(1, &["perm"])?;
        let view = self.view(call, 0)?;
        let rank = view.rank();
        let order = match call.ints("perm")? {
            None => (0..rank).rev().collect(),
            Some(order) => order.iter().map(|&axis| call.axis(axis, rank)).collect::<Result<Vec<_>, _>>()?,
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..rank) {
            return Err(call.malformed(format!("perm {order:?} is not a permutation of {rank} axes")));
        }
        Ok(Entry::Float(view.permuted(&order)))
    }

    /// Takes axes of size 1 out: the stated ones, or all.
    pub fn squeeze(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(2, &["axes"])?;
        let stated = self.stated_axes(call)?;
        let view = match self.entry(call, 0)? {
            Entry::Integers(Integers { values, scalar }) => {
                let scalar = scalar || values.len() == 1;
                return Ok(Entry::Integers(Integers { scalar, values }));
            }
            _ => self.view(call, 0)?,
        };
        let shape = self.shape(&view);
        let axes = match stated {
            Some(axes) => call.axes(&axes, view.rank())?,
            None => (0..view.rank()).filter(|&axis| shape.dims()[axis] == Dim::Fixed(1)).collect(),
        };
        if let Some(&axis) = axes.iter().find(|&&axis| shape.dims()[axis] != Dim::Fixed(1)) {
            return Err(call.unsupported(format!("axis {axis} of {shape} is not of size 1")));
        }
        let kept: Vec<usize> = (0..view.rank()).filter(|axis| !axes.contains(axis)).collect();
        if axes.iter().all(|&axis| view.axes[axis].is_none()) {
            return Ok(Entry::Float(view.permuted(&kept)));
        }
        let x = self.value(call, &view)?;
        let shape = Shape::new(kept.iter().map(|&axis| shape.dims()[axis]));
        self.push_entry(call, Op::Reshape { shape }, &[x])
    }

    /// Puts axes of size 1 in.
    pub fn unsqueeze(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(2, &["axes"])?;
        let Some(stated) = self.stated_axes(call)? else {
            return Err(call.malformed("it has no axes"));
        };
        let view = match self.entry(call, 0)? {
            Entry::Integers(Integers { values, scalar: true }) => {
                return Ok(Entry::Integers(Integers { scalar: false, values }));
            }
            _ => self.view(call, 0)?,
        };
        let rank = view.rank() + stated.len();
        if rank > graph::shape_rule::RANK_MAX {
            return Err(call.unsupported(format!("the result has {rank} axes")));
        }
        let added = call.axes(&stated, rank)?;
        let mut old = view.axes.iter().copied();
        let axes = (0..rank).map(|axis| if added.contains(&axis) { None } else { old.next().flatten() });
        Ok(Entry::Float(View { inner: view.inner, axes: axes.collect() }))
    }

    fn stated_axes(&self, call: &Call) -> Result<Option<Vec<i64>>, CodecError> {
        match self.numbers(call, 1)? {
            Some(axes) => Ok(Some(axes)),
            None => Ok(call.ints("axes")?.map(|axes| axes.to_vec())),
        }
    }
}

/// A list of one to a scalar, anything to a list.
fn reshape_integers(integers: Integers, target: &Integers) -> Result<Entry, String> {
    match target.values[..] {
        [] if integers.values.len() == 1 => Ok(Entry::Integers(Integers { scalar: true, ..integers })),
        [Integer::Fixed(n)] if n == -1 || usize::try_from(n) == Ok(integers.values.len()) => {
            Ok(Entry::Integers(Integers { scalar: false, ..integers }))
        }
        _ => Err("integers are reshaped to scalars and lists only".into()),
    }
}

/// The shape that Reshape's second input means: 0 copies a dimension (where `copies`), one −1 is what is left.
fn reshape_target(from: &Shape, target: &[Integer], copies: bool) -> Result<Shape, String> {
    let mut dims = Vec::new();
    let mut hole = None;
    for (axis, &integer) in target.iter().enumerate() {
        dims.push(match integer {
            Integer::Fixed(0) if copies => match from.dims().get(axis) {
                Some(&dim) => dim,
                None => return Err(format!("it copies axis {axis} of {from}")),
            },
            Integer::Fixed(-1) if hole.is_none() => {
                hole = Some(axis);
                Dim::Fixed(1)
            }
            Integer::Fixed(n) if n > 0 => Dim::Fixed(n as usize),
            Integer::Batch(n) if n > 0 => Dim::Batch(n as usize),
            other => return Err(format!("{other:?} is no size for axis {axis}")),
        });
    }
    if let Some(axis) = hole {
        let rest =
            merge_dims(from.dims()).zip(merge_dims(&dims)).and_then(|(all, known)| quotient(all, known));
        dims[axis] = rest.ok_or_else(|| format!("{from} doesn't divide into {target:?}"))?;
    }
    Ok(Shape::new(dims))
}

fn quotient(all: Dim, known: Dim) -> Option<Dim> {
    let exact = |a: usize, b: usize| (a.checked_rem(b)? == 0).then(|| a / b);
    match (all, known) {
        (Dim::Fixed(a), Dim::Fixed(b)) | (Dim::Batch(a), Dim::Batch(b)) => exact(a, b).map(Dim::Fixed),
        (Dim::Batch(a), Dim::Fixed(b)) => exact(a, b).map(Dim::Batch),
        (Dim::Fixed(_), Dim::Batch(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Integer::{Batch, Fixed};
    use super::*;

    fn check(from: Shape, target: &[Integer], expected: Option<Shape>) {
        assert_eq!(reshape_target(&from, target, true).ok(), expected, "{from} to {target:?}");
    }

    #[test]
    fn reshape_targets() {
        check(Shape::batch(&[6]), &[Fixed(-1), Fixed(3)], Some(Shape::new([Dim::Batch(2), Dim::Fixed(3)])));
        check(Shape::batch(&[6]), &[Fixed(0), Fixed(2), Fixed(-1)], Some(Shape::batch(&[2, 3])));
        check(Shape::batch(&[6]), &[Batch(3), Fixed(-1)], Some(Shape::new([Dim::Batch(3), Dim::Fixed(2)])));
        check(Shape::batch(&[]), &[Fixed(2), Fixed(-1)], None);
        check(Shape::fixed(&[6]), &[Fixed(4), Fixed(-1)], None);
        check(Shape::fixed(&[6]), &[Batch(1), Fixed(-1)], None);
        check(Shape::fixed(&[6]), &[Fixed(-1), Fixed(-1)], None);
        check(Shape::fixed(&[6]), &[Fixed(6), Fixed(0)], None);
        check(Shape::fixed(&[1, 1]), &[], Some(Shape::scalar()));
    }
}
