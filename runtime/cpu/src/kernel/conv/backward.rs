//! The backward of a convolution: dx is the convolution of dy by the reversed taps, zeros behind the window; dw of a
//! tap is the product of the places it reads, transposed, and dy.

use super::{Aligned, Panels, Parts, Path, Product, Shape, Strides, product_kernel};

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
    /// Of dy's places.
    sum: Aligned,
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
        match positive {
            None => rows.copy_from_slice(dy),
            Some(positive) => {
                for ((row, dy), y) in rows.iter_mut().zip(dy).zip(positive) {
                    *row = if *y > 0.0 { *dy } else { 0.0 };
                }
            }
        }
        self.sum.resize(shape.outputs);
        self.sum.fill(0.0);
        for row in rows.chunks_exact(shape.outputs) {
            self.sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        self.db.iter_mut().zip(self.sum.iter()).for_each(|(all, window)| *all += window);
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
