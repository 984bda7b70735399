//! The causal convolution over time as a matrix product that copies no taps.
//!
//! A [`Strip`] holds one window's places in the order in which a convolution of its dilation walks them: every
//! `dilation`-th place is one after another, behind (or before) the zeros that the taps reach. There the K places that
//! make an output are neighbours, K·F numbers in a row, so that the rows of the product's left factor are parts
//! of the strip, each one place further than the last.
#![allow(unsafe_code)]

use super::aligned::Aligned;
use super::gemm::accumulate;
use super::panels::{Panels, Strides};
use super::simd::{Simd, kernel};
use crate::isa::Path;

/// The sizes of one convolution of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) steps: usize,
    pub(crate) features: usize,
    pub(crate) outputs: usize,
    pub(crate) taps: usize,
    pub(crate) dilation: usize,
}

impl Shape {
    /// Every `dilation`-th place from `index` on: where it stands in a strip, and how many places it has.
    fn phases(self) -> impl Iterator<Item = (usize, usize, usize)> {
        let reach = self.taps - 1;
        let mut at = 0;
        (0..self.dilation.min(self.steps)).map(move |index| {
            let places = (self.steps - index).div_ceil(self.dilation);
            let start = at;
            at += reach + places;
            (index, start, places)
        })
    }

    /// Places of a strip, the zeros among them.
    fn strip_places(self) -> usize {
        self.steps + self.dilation.min(self.steps) * (self.taps - 1)
    }

    /// Of the forward's left factor.
    pub(crate) fn depth(self) -> usize {
        self.taps * self.features
    }
}

/// Where a strip's zeros stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Zeros {
    Before,
    After,
}

/// One window for a convolution's dilation; see the module.
#[derive(Debug, Default)]
pub(crate) struct Strip(Aligned);

impl Strip {
    /// Fills it with a window `[steps, width]`. `positive`: where this isn't above 0 zeros are written instead.
    fn fill(&mut self, shape: Shape, zeros: Zeros, width: usize, window: &[f32], positive: Option<&[f32]>) {
        // Room for a whole tile's vectors behind the last place.
        let room = 4 * 16;
        self.0.resize(shape.strip_places() * width + room);
        let reach = (shape.taps - 1) * width;
        for (index, start, places) in shape.phases() {
            let phase = &mut self.0[start * width..][..reach + places * width];
            let (blank, rows) = match zeros {
                Zeros::Before => phase.split_at_mut(reach),
                Zeros::After => {
                    let (rows, blank) = phase.split_at_mut(places * width);
                    (blank, rows)
                }
            };
            blank.fill(0.0);
            if shape.dilation == 1 && positive.is_none() {
                rows.copy_from_slice(window);
                continue;
            }
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                let at = (index + i * shape.dilation) * width;
                let source = &window[at..at + width];
                match positive {
                    None => row.copy_from_slice(source),
                    Some(positive) => {
                        for ((row, x), y) in row.iter_mut().zip(source).zip(&positive[at..at + width]) {
                            *row = if *y > 0.0 { *x } else { 0.0 };
                        }
                    }
                }
            }
        }
        let end = shape.strip_places() * width;
        self.0[end..].fill(0.0);
    }
}

/// w `[K, F, O]` for the forward.
pub(crate) fn pack_forward(path: Path, shape: Shape, w: &[f32], panels: &mut Panels) {
    panels.pack(path, shape.depth(), shape.outputs, w, Strides { row: shape.outputs, column: 1 });
}

/// w for dx: the taps in reverse, each transposed to `[O, F]`. `scratch` holds them meanwhile.
pub(crate) fn pack_backward(path: Path, shape: Shape, w: &[f32], panels: &mut Panels, scratch: &mut Aligned) {
    let Shape { features, outputs, taps, .. } = shape;
    scratch.resize(taps * outputs * features);
    for (tap, target) in scratch.chunks_exact_mut(outputs * features).enumerate() {
        let source = &w[(taps - 1 - tap) * features * outputs..][..features * outputs];
        for (f, row) in source.chunks_exact(outputs).enumerate() {
            for (o, x) in row.iter().enumerate() {
                target[o * features + f] = *x;
            }
        }
    }
    panels.pack(path, taps * outputs, features, scratch, Strides { row: features, column: 1 });
}

/// What becomes of a sum.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a> {
    /// One number for each output, added to the sum.
    pub(crate) bias: Option<&'a [f32]>,
    /// Whether what lies below 0 becomes 0.
    pub(crate) relu: bool,
}

/// y `[steps, O]` of one window x `[steps, F]`.
pub(crate) fn conv1d(
    path: Path,
    shape: Shape,
    x: &[f32],
    panels: &Panels,
    finish: Finish<'_>,
    y: &mut [f32],
    strip: &mut Strip,
) {
    assert!(x.len() == shape.steps * shape.features && y.len() == shape.steps * shape.outputs);
    assert!(panels.depth() == shape.depth() && panels.columns() == shape.outputs);
    strip.fill(shape, Zeros::Before, shape.features, x, None);
    for (index, start, places) in shape.phases() {
        let left = &strip.0[start * shape.features..];
        let target = &mut y[index * shape.outputs..];
        rows(path, (left, places, shape.features), panels, finish, target, shape.dilation * shape.outputs);
    }
}

/// `count` rows of the product: row i of the left factor starts at `left[i · stride]`, row i of the result at
/// `y[i · y_stride]`.
fn rows(
    path: Path,
    (left, count, stride): (&[f32], usize, usize),
    panels: &Panels,
    finish: Finish<'_>,
    y: &mut [f32],
    y_stride: usize,
) {
    let (depth, columns, width) = (panels.depth(), panels.columns(), panels.width());
    assert!(count > 0 && depth > 0 && columns > 0);
    assert!(left.len() >= (count - 1) * stride + depth);
    assert!(y.len() >= (count - 1) * y_stride + columns);
    assert!(finish.bias.is_none_or(|bias| bias.len() >= columns));
    let product = Product {
        rows: count,
        columns,
        depth,
        a: left.as_ptr(),
        a_row: stride,
        a_depth: 1,
        b: panels.panel(0).as_ptr(),
        b_panel: width * depth,
        b_row: width,
        c: y.as_mut_ptr(),
        c_row: y_stride,
        add: false,
        bias: finish.bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
        relu: finish.relu,
    };
    // SAFETY: the asserts above keep every element inside its slice; panels are whole vectors.
    unsafe { product_kernel(path, &product) }
}

/// What one task of the backward adds up for the weights.
#[derive(Debug, Default)]
pub(crate) struct Gradients {
    pub(crate) dw: Aligned,
    pub(crate) db: Aligned,
    x: Strip,
    dy: Strip,
}

impl Gradients {
    pub(crate) fn clear(&mut self, shape: Shape) {
        self.dw.resize(shape.depth() * shape.outputs);
        self.db.resize(shape.outputs);
        self.dw.fill(0.0);
        self.db.fill(0.0);
    }
}

/// One window of the backward: adds to the sums, and writes dx where it is wanted. `positive` is the convolution's
/// result after relu, whose derivative is then a part of the backward. `panels` are [`pack_backward`]'s.
pub(crate) fn conv1d_backward(
    path: Path,
    shape: Shape,
    (x, dy, positive): (&[f32], &[f32], Option<&[f32]>),
    panels: &Panels,
    dx: Option<&mut [f32]>,
    sums: &mut Gradients,
) {
    let Shape { steps, features, outputs, taps, dilation } = shape;
    assert!(x.len() == steps * features && dy.len() == steps * outputs);
    assert!(positive.is_none_or(|y| y.len() == dy.len()));
    assert!(sums.dw.len() == shape.depth() * outputs && sums.db.len() == outputs);
    sums.x.fill(shape, Zeros::Before, features, x, None);
    sums.dy.fill(shape, Zeros::After, outputs, dy, positive);
    for (_, start, places) in shape.phases() {
        let dy = &sums.dy.0[start * outputs..];
        for row in dy[..places * outputs].chunks_exact(outputs) {
            sums.db.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        let left = &sums.x.0[start * features..];
        // A tile reads up to a panel's width past a row's end.
        assert!(dy.len() >= places * outputs + 4 * path.lanes());
        assert!(left.len() >= (places - 1 + taps) * features);
        let product = Product {
            rows: shape.depth(),
            columns: outputs,
            depth: places,
            a: left.as_ptr(),
            a_row: 1,
            a_depth: features,
            b: dy.as_ptr(),
            b_panel: 4 * path.lanes(),
            b_row: outputs,
            c: sums.dw.as_mut_ptr(),
            c_row: outputs,
            add: true,
            bias: std::ptr::null(),
            relu: false,
        };
        // SAFETY: the asserts keep every element inside its slice.
        unsafe { product_kernel(path, &product) }
    }
    if let Some(dx) = dx {
        assert!(dx.len() == steps * features);
        assert!(panels.depth() == taps * outputs && panels.columns() == features);
        let finish = Finish { bias: None, relu: false };
        for (index, start, places) in shape.phases() {
            let left = (&sums.dy.0[start * outputs..], places, outputs);
            rows(path, left, panels, finish, &mut dx[index * features..], dilation * features);
        }
    }
}

/// c = finish(Σ a·b), or c + Σ a·b.
struct Product {
    rows: usize,
    columns: usize,
    depth: usize,
    a: *const f32,
    a_row: usize,
    a_depth: usize,
    b: *const f32,
    b_panel: usize,
    b_row: usize,
    c: *mut f32,
    c_row: usize,
    /// Whether the sums go on from what c holds.
    add: bool,
    /// Null for none.
    bias: *const f32,
    relu: bool,
}

kernel!(unsafe fn product_kernel(product: &Product) = product_generic);

#[inline(always)]
unsafe fn product_generic<S: Simd>(p: &Product) {
    let width = 4 * S::LANES;
    let mut first = 0;
    while first < p.columns {
        let columns = (p.columns - first).min(width);
        // SAFETY: the caller's; tiles stay inside `rows` and `columns`.
        unsafe {
            match columns.div_ceil(S::LANES) {
                1 => panel::<S, 1>(p, first, columns),
                2 => panel::<S, 2>(p, first, columns),
                3 => panel::<S, 3>(p, first, columns),
                _ => panel::<S, 4>(p, first, columns),
            }
        }
        first += width;
    }
}

#[inline(always)]
unsafe fn panel<S: Simd, const V: usize>(p: &Product, first: usize, columns: usize) {
    let mut row = 0;
    while row < p.rows {
        let count = S::ROWS.min(p.rows - row);
        // SAFETY: the caller's; `count` rows from `row` are inside.
        unsafe {
            match count {
                6 if S::ROWS >= 6 => tile::<S, 6, V>(p, row, first, columns),
                5 if S::ROWS >= 6 => tile::<S, 5, V>(p, row, first, columns),
                4 if S::ROWS >= 6 => tile::<S, 4, V>(p, row, first, columns),
                3 => tile::<S, 3, V>(p, row, first, columns),
                2 => tile::<S, 2, V>(p, row, first, columns),
                _ => tile::<S, 1, V>(p, row, first, columns),
            }
        }
        row += count;
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const V: usize>(
    p: &Product,
    row: usize,
    first: usize,
    columns: usize,
) {
    let last = columns - (V - 1) * S::LANES;
    // SAFETY: the caller's; the last vector reads and writes `last` lanes of c and the bias alone.
    unsafe {
        let c = p.c.add(row * p.c_row + first);
        let mut sums = [[S::splat(0.0); V]; R];
        if p.add {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    let lanes = if v + 1 == V { last } else { S::LANES };
                    *sum = S::load_first(c.add(r * p.c_row + v * S::LANES), lanes);
                }
            }
        }
        let b = p.b.add(first / (4 * S::LANES) * p.b_panel);
        accumulate::<S, R, V>(&mut sums, p.a.add(row * p.a_row), p.a_row, p.a_depth, b, p.b_row, p.depth);
        for v in 0..V {
            let lanes = if v + 1 == V { last } else { S::LANES };
            let mut bias = S::splat(0.0);
            if !p.bias.is_null() {
                bias = S::load_first(p.bias.add(first + v * S::LANES), lanes);
            }
            for (r, sums) in sums.iter().enumerate() {
                let mut y = sums[v];
                if !p.bias.is_null() {
                    y = S::add(y, bias);
                }
                if p.relu {
                    // As x < 0 → 0: a NaN stays.
                    y = S::select_less(y, S::splat(0.0), S::splat(0.0), y);
                }
                if lanes == S::LANES {
                    S::store(c.add(r * p.c_row + v * S::LANES), y);
                } else {
                    S::store_first(c.add(r * p.c_row + v * S::LANES), lanes, y);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
