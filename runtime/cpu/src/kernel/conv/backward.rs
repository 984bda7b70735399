//! The backward of a convolution: dx is the convolution of dy by the reversed taps, zeros behind the window; dw of a
//! tap is the product of the places it reads, transposed, and dy.

use super::{Aligned, Panels, Parts, Path, Product, Shape, Simd, Strides, kernel, product_kernel};

/// w for dx: the taps in reverse, each transposed to `[O, F]`. `scratch` holds them meanwhile.
pub(crate) fn pack_backward(path: Path, shape: Shape, w: &[f32], panels: &mut Panels, scratch: &mut Aligned) {
    let Shape { features, outputs, .. } = shape;
    scratch.resize(shape.live() * outputs * features);
    let taps = w[shape.live_weights()].chunks_exact(features * outputs).rev();
    for (target, source) in scratch.chunks_exact_mut(outputs * features).zip(taps) {
        for (f, row) in source.chunks_exact(outputs).enumerate() {
            for (o, x) in row.iter().enumerate() {
                target[o * features + f] = *x;
            }
        }
    }
    let strides = Strides { row: features, column: 1 };
    panels.pack(path, shape.live() * outputs, features, scratch, strides);
}

/// What one task of the backward adds up for the weights, and the window it is at.
#[derive(Debug, Default)]
pub(crate) struct Gradients {
    pub(crate) dw: Aligned,
    pub(crate) db: Aligned,
    /// Behind zeros.
    x: Aligned,
    /// Before zeros.
    dy: Aligned,
}

impl Gradients {
    pub(crate) fn clear(&mut self, shape: Shape) {
        self.dw.resize(shape.taps * shape.features * shape.outputs);
        self.db.resize(shape.outputs);
        self.dw.fill(0.0);
        self.db.fill(0.0);
    }

    /// `positive`: where this isn't above 0 dy is taken as 0.
    fn take(&mut self, path: Path, shape: Shape, x: &[f32], dy: &[f32], positive: Option<&[f32]>) {
        let zeros = shape.reach() * shape.features;
        self.x.resize(zeros + x.len());
        self.x[..zeros].fill(0.0);
        self.x[zeros..].copy_from_slice(x);
        // A tile reads up to a panel's width past a row's end.
        self.dy.resize(dy.len() + shape.reach() * shape.outputs + 4 * path.lanes());
        let (rows, zeros) = self.dy.split_at_mut(dy.len());
        zeros.fill(0.0);
        let given = Given {
            dy: dy.as_ptr(),
            positive: positive.map_or(std::ptr::null(), <[f32]>::as_ptr),
            rows: dy.len() / shape.outputs,
            columns: shape.outputs,
            target: rows.as_mut_ptr(),
            sums: self.db.as_mut_ptr(),
        };
        // SAFETY: all three hold these rows, as the caller asserted, and db a number for each column.
        unsafe { take_kernel(path, &given) }
    }
}

/// The rows of dy, and those of the result after relu, or null.
struct Given {
    dy: *const f32,
    positive: *const f32,
    rows: usize,
    columns: usize,
    /// The rows, with 0 where `positive` isn't above 0.
    target: *mut f32,
    /// Each column's sum is added to these.
    sums: *mut f32,
}

kernel!(unsafe fn take_kernel(given: &Given) = take_generic);

#[inline(always)]
unsafe fn take_generic<S: Simd>(given: &Given) {
    let mut first = 0;
    while first < given.columns {
        let columns = (given.columns - first).min(4 * S::LANES);
        // SAFETY: the caller's; strips stay inside the columns.
        unsafe {
            match columns.div_ceil(S::LANES) {
                1 => strip::<S, 1>(given, first, columns),
                2 => strip::<S, 2>(given, first, columns),
                3 => strip::<S, 3>(given, first, columns),
                _ => strip::<S, 4>(given, first, columns),
            }
        }
        first += columns;
    }
}

/// V vectors of columns, the last one `columns - (V - 1) · LANES` wide.
#[inline(always)]
unsafe fn strip<S: Simd, const V: usize>(given: &Given, first: usize, columns: usize) {
    let last = columns - (V - 1) * S::LANES;
    // SAFETY: the caller's; the last vector reads and writes `last` lanes alone.
    unsafe {
        let zero = S::splat(0.0);
        let mut sums = [zero; V];
        for row in 0..given.rows {
            for (v, sum) in sums.iter_mut().enumerate() {
                let lanes = if v + 1 == V { last } else { S::LANES };
                let at = row * given.columns + first + v * S::LANES;
                let mut dy = S::load_first(given.dy.add(at), lanes);
                if !given.positive.is_null() {
                    let y = S::load_first(given.positive.add(at), lanes);
                    dy = S::select_less(zero, y, dy, zero);
                }
                S::store_first(given.target.add(at), lanes, dy);
                *sum = S::add(*sum, dy);
            }
        }
        for (v, sum) in sums.iter().enumerate() {
            let lanes = if v + 1 == V { last } else { S::LANES };
            let target = given.sums.add(first + v * S::LANES);
            S::store_first(target, lanes, S::add(S::load_first(target, lanes), *sum));
        }
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
    let Shape { steps, features, outputs, .. } = shape;
    assert!(x.len() == steps * features && dy.len() == steps * outputs);
    assert!(positive.is_none_or(|y| y.len() == dy.len()));
    assert!(sums.dw.len() == shape.taps * features * outputs && sums.db.len() == outputs);
    sums.take(path, shape, x, dy, positive);
    // With neighbouring places all taps are one product.
    let (products, rows) = match shape.dilation {
        1 => (1, shape.live() * features),
        _ => (shape.live(), features),
    };
    let dw = sums.dw[shape.live_weights()].as_mut_ptr();
    for tap in 0..products {
        let product = Product {
            rows,
            columns: outputs,
            parts: Parts { count: 1, depth: steps, apart: 0 },
            a: sums.x[tap * shape.dilation * features..].as_ptr(),
            a_row: 1,
            a_depth: features,
            b: sums.dy.as_ptr(),
            b_panel: 4 * path.lanes(),
            b_row: outputs,
            c: dw.wrapping_add(tap * rows * outputs),
            c_row: outputs,
            add: true,
            bias: std::ptr::null(),
            relu: false,
        };
        // SAFETY: place t of a tap is x's place t + tap·dilation, below steps + reach; `take` left room for a tile
        // behind dy's last row; the products' rows make up the live part of dw.
        unsafe { product_kernel(path, &product) }
    }
    if let Some(dx) = dx {
        assert!(dx.len() == steps * features);
        assert!(panels.depth() == shape.live() * outputs && panels.columns() == features);
        let product = Product {
            rows: steps,
            columns: features,
            parts: shape.row(outputs),
            a: sums.dy.as_ptr(),
            a_row: outputs,
            a_depth: 1,
            b: panels.panel(0).as_ptr(),
            b_panel: panels.width() * panels.depth(),
            b_row: panels.width(),
            c: dx.as_mut_ptr(),
            c_row: features,
            add: false,
            bias: std::ptr::null(),
            relu: false,
        };
        // SAFETY: row t reads dy's places t to t + reach, of which `take` made the last ones zeros.
        unsafe { product_kernel(path, &product) }
    }
}
