//! Slices, gathers, pads and joins.

use graph::{CodecError, Dim, Op, Shape, Value};

use super::Decoder;
use super::call::Call;
use super::conv::is_permutation;
use super::entry::{Entry, View};
use super::integers::{Integer, Integers};

/// Exporters write "to the end" as some number above this.
const END: i64 = i32::MAX as i64;

impl Decoder {
    /// Ranges along axes of fixed size, with step 1. The whole of any axis is allowed.
    pub fn slice(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(5, &[])?;
        let Some(starts) = self.numbers(call, 1)? else { return Err(call.malformed("it has no starts")) };
        let ends = self.integers(call, 2)?.values;
        let axes = match self.numbers(call, 3)? {
            Some(axes) => axes,
            None => (0..starts.len() as i64).collect(),
        };
        if starts.len() != ends.len() || starts.len() != axes.len() {
            return Err(call.malformed("starts, ends and axes have different lengths"));
        }
        if self.numbers(call, 4)?.is_some_and(|steps| steps.iter().any(|&step| step != 1)) {
            return Err(call.unsupported("its steps are not 1"));
        }
        if let Entry::Integers(integers) = self.entry(call, 0)? {
            return slice_integers(&integers, &starts, &ends).map_err(|reason| call.unsupported(reason));
        }
        let mut view = self.view(call, 0)?;
        call.axes(&axes, view.rank())?;
        for ((start, end), axis) in starts.into_iter().zip(ends).zip(axes) {
            let axis = call.axis(axis, view.rank())?;
            let dim = self.shape(&view).dims()[axis];
            let range = range(dim, start, end)
                .map_err(|reason| call.unsupported(format!("axis {axis}: {reason}")))?;
            if let Some((start, end)) = range {
                let x = self.value(call, &view)?;
                let part = self.push(call, Op::Slice { axis, start, end }, &[x])?;
                view = View::plain(part, view.rank());
            }
        }
        Ok(Entry::Float(view))
    }

    /// Parts along an axis of fixed size: of stated sizes, or as equal as can be.
    pub fn split(&mut self, call: &Call) -> Result<Vec<Entry>, CodecError> {
        call.check(2, &["axis", "num_outputs"])?;
        let x = self.float(call, 0)?;
        let shape = self.builder.shape(x).clone();
        let axis = call.axis(call.int("axis")?.unwrap_or(0), shape.rank())?;
        let Some(size) = shape.dims()[axis].fixed() else {
            return Err(call.unsupported(format!("axis {axis} of {shape} depends on the batch")));
        };
        let count = call.output_count();
        let sizes: Vec<usize> = match self.numbers(call, 1)? {
            Some(sizes) => sizes.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect(),
            None => {
                let part = size.div_ceil(count.max(1));
                (0..count).map(|i| part.min(size.saturating_sub(i.saturating_mul(part)))).collect()
            }
        };
        let total = sizes.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
        if sizes.len() != count || total != Some(size) {
            return Err(call.malformed(format!("its parts {sizes:?} don't make up {size}")));
        }
        let mut parts = Vec::new();
        let mut start = 0;
        for size in sizes {
            let end = start + size;
            parts.push(self.push_entry(call, Op::Slice { axis, start, end }, &[x])?);
            start = end;
        }
        Ok(parts)
    }

    /// One index, or indices that follow each other.
    pub fn gather(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(2, &["axis"])?;
        let indices = self.integers(call, 1)?;
        let Some(numbers) = indices.fixed() else {
            return Err(call.unsupported("its indices depend on the batch"));
        };
        if let Entry::Integers(integers) = self.entry(call, 0)? {
            return gather_integers(call, &integers, indices.scalar, &numbers);
        }
        let x = self.float(call, 0)?;
        let shape = self.builder.shape(x).clone();
        let axis = call.axis(call.int("axis")?.unwrap_or(0), shape.rank())?;
        let Some(size) = shape.dims()[axis].fixed() else {
            return Err(call.unsupported(format!("axis {axis} of {shape} depends on the batch")));
        };
        let places = numbers.iter().map(|&n| call.axis(n, size)).collect::<Result<Vec<_>, _>>()?;
        let Some(&start) = places.first() else { return Err(call.unsupported("it gathers nothing")) };
        let end = start + places.len();
        if !places.into_iter().eq(start..end) {
            return Err(call.unsupported("its indices don't follow each other"));
        }
        let part = self.push(call, Op::Slice { axis, start, end }, &[x])?;
        if !indices.scalar {
            return Ok(self.entries_view(part));
        }
        let dims = shape.dims().iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, &dim)| dim);
        self.push_entry(call, Op::Reshape { shape: Shape::new(dims) }, &[part])
    }

    /// Zeros before and after along axes of fixed size.
    pub fn pad(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(4, &["mode"])?;
        if let Some(mode) = call.string("mode").filter(|&mode| mode != "constant") {
            return Err(call.unsupported(format!("mode {mode:?}; only constant zeros are read")));
        }
        if call.input(2).is_some() {
            let fill = self.float(call, 2)?;
            if self.single(fill) != Some(0.0) {
                return Err(call.unsupported("it pads with something else than a constant zero"));
            }
        }
        let mut view = self.view(call, 0)?;
        if !is_permutation(&view, self.builder.shape(view.inner)) {
            view = View::plain(self.value(call, &view)?, view.rank());
        }
        let rank = view.rank();
        let axes = match self.numbers(call, 3)? {
            Some(axes) => axes,
            None => (0..rank as i64).collect(),
        };
        call.axes(&axes, rank)?;
        let pads = self.numbers(call, 1)?.unwrap_or_default();
        if pads.len() != 2 * axes.len() {
            return Err(call.malformed(format!("{} pads for {} axes", pads.len(), axes.len())));
        }
        for (i, &axis) in axes.iter().enumerate() {
            let axis = call.axis(axis, rank)?;
            let (Ok(before), Ok(after)) = (usize::try_from(pads[i]), usize::try_from(pads[i + axes.len()]))
            else {
                return Err(call.unsupported("a pad is negative; use Slice"));
            };
            if let (Some(axis), true) = (view.axes[axis], before > 0 || after > 0) {
                view.inner = self.push(call, Op::Pad { axis, before, after }, &[view.inner])?;
            }
        }
        Ok(Entry::Float(view))
    }

    /// Floats along an axis, or lists of integers end to end.
    pub fn concat(&mut self, call: &Call) -> Result<Entry, CodecError> {
        call.check(usize::MAX, &["axis"])?;
        if let Entry::Integers(_) = self.entry(call, 0)? {
            let mut values = Vec::new();
            for index in 0..call.input_count() {
                let more = Integers::list([values, self.integers(call, index)?.values].concat());
                values = more.map_err(|reason| call.unsupported(reason))?.values;
            }
            return Ok(Entry::Integers(Integers { scalar: false, values }));
        }
        let inputs: Result<Vec<Value>, _> = (0..call.input_count()).map(|i| self.float(call, i)).collect();
        let inputs = inputs?;
        let Some(axis) = call.int("axis")? else { return Err(call.malformed("it has no axis")) };
        let axis = call.axis(axis, self.builder.shape(inputs[0]).rank())?;
        self.push_entry(call, Op::Concat { axis }, &inputs)
    }
}

/// What is taken of an axis; `None` for all of it.
fn range(dim: Dim, start: i64, end: Integer) -> Result<Option<(usize, usize)>, String> {
    let size = match (dim, end) {
        (Dim::Fixed(size), _) => size as i64,
        (Dim::Batch(_), Integer::Fixed(end)) if start == 0 && end >= END => return Ok(None),
        (Dim::Batch(n), Integer::Batch(end))
            if start == 0 && Some(Integer::Batch(end)) == Integer::of(Dim::Batch(n)) =>
        {
            return Ok(None);
        }
        (Dim::Batch(_), _) => return Err("only all of the batch can be taken".into()),
    };
    let Integer::Fixed(end) = end else { return Err("its end depends on the batch".into()) };
    let at = |place: i64| if place < 0 { place.saturating_add(size) } else { place }.clamp(0, size);
    let (start, end) = (at(start), at(end));
    if start >= end {
        return Err(format!("nothing is left of {size} elements"));
    }
    Ok(if (start, end) == (0, size) { None } else { Some((start as usize, end as usize)) })
}

fn slice_integers(integers: &Integers, starts: &[i64], ends: &[Integer]) -> Result<Entry, String> {
    let ([start], [end]) = (starts, ends) else { return Err("a list has one axis".into()) };
    let all = Integers { scalar: false, values: integers.values.clone() };
    match range(Dim::Fixed(all.values.len()), *start, *end)? {
        None => Ok(Entry::Integers(all)),
        Some((start, end)) => Integers::list(all.values[start..end].to_vec()).map(Entry::Integers),
    }
}

fn gather_integers(call: &Call, from: &Integers, scalar: bool, places: &[i64]) -> Result<Entry, CodecError> {
    let values = places.iter().map(|&n| call.axis(n, from.values.len()).map(|i| from.values[i]));
    Ok(Entry::Integers(Integers { scalar, values: values.collect::<Result<_, _>>()? }))
}
