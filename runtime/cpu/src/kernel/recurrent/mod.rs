//! Stacks of LSTM and GRU layers for inference: fresh windows, batches, and steps of sliding windows.

pub(crate) mod batch;
pub(crate) mod format;
pub(crate) mod step;
pub(crate) mod weights;
pub(crate) mod window;

use std::sync::Arc;

use crate::isa::Path;
use crate::kernel::aligned::Aligned;
use crate::precision::Precision;
use step::{Left, Product, Side, Step};
use weights::Layer;

/// Layers one above the other, of one storage.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    pub(crate) path: Path,
    pub(crate) layers: Vec<Arc<Layer>>,
}

impl Stack {
    pub(crate) fn features(&self) -> usize {
        self.layers[0].features
    }

    /// Of the last layer.
    pub(crate) fn hidden(&self) -> usize {
        self.layers[self.layers.len() - 1].hidden
    }
}

/// A layer's hidden state for some rows at some steps, as numbers and as codes.
#[derive(Clone, Debug, Default)]
pub(crate) struct States {
    pub(crate) h: Aligned,
    codes: Aligned,
    scale: f32,
    hidden: usize,
    /// Codes of a row.
    stride: usize,
    precision: Precision,
}

impl States {
    /// Room for `rows` hidden states. They aren't cleared, but the codes' padding is.
    pub(crate) fn reserve(&mut self, layer: &Layer, rows: usize) {
        let precision = layer.precision;
        self.h.resize(rows * layer.hidden);
        self.hidden = layer.hidden;
        self.precision = precision;
        self.stride = 2 * precision.groups(layer.hidden);
        self.scale = 1.0 / precision.code_of_one(layer.hidden);
        if precision != Precision::F32 {
            self.codes.resize((rows * self.stride).div_ceil(2));
            if self.stride != layer.hidden {
                self.codes.fill(0.0);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.h.fill(0.0);
        self.codes.fill(0.0);
    }

    pub(crate) fn clear_row(&mut self, row: usize) {
        self.h[row * self.hidden..][..self.hidden].fill(0.0);
        if self.precision != Precision::F32 {
            // Codes go by pairs, and so does a row of them.
            self.codes[row * self.stride / 2..][..self.stride / 2].fill(0.0);
        }
    }

    /// Pointers that steps write through; each use says which rows.
    pub(crate) fn place(&mut self) -> Place {
        Place {
            h: self.h.as_mut_ptr(),
            codes: self.codes.as_mut_ptr().cast(),
            scale: &raw const self.scale,
            hidden: self.hidden,
            stride: self.stride,
            precision: self.precision,
        }
    }
}

/// Where [`States`] are.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    h: *mut f32,
    codes: *mut u16,
    scale: *const f32,
    hidden: usize,
    stride: usize,
    precision: Precision,
}

impl Place {
    /// The row's numbers.
    pub(crate) fn h(self, row: usize) -> *mut f32 {
        self.h.wrapping_add(row * self.hidden)
    }

    fn codes(self, row: usize) -> *mut u16 {
        self.codes.wrapping_add(row * self.stride)
    }

    /// Rows from `first` on, `every` apart, as the left factor of a product.
    pub(crate) fn left(self, first: usize, every: usize) -> Left {
        match self.precision {
            Precision::F32 => Left {
                data: self.h(first).cast_const().cast(),
                stride: 4 * every * self.hidden,
                scales: self.scale,
                scale_stride: 0,
            },
            Precision::Bf16 | Precision::Int8 => Left {
                data: self.codes(first).cast_const().cast(),
                stride: 2 * every * self.stride,
                scales: self.scale,
                scale_stride: 0,
            },
        }
    }
}

/// What the first layer reads: numbers, or codes made from them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inputs {
    codes: Aligned,
    scales: Aligned,
}

impl Inputs {
    /// Rows of `features` numbers as left factors: of the numbers themselves, or of codes made here. Give it
    /// back through [`Inputs::left`].
    pub(crate) fn encode(&mut self, path: Path, layer: &Layer, rows: usize, x: &[f32]) {
        if layer.precision != Precision::F32 {
            self.reserve(layer, rows);
            let sizes = (rows, layer.features);
            step::encode(path, layer.precision, sizes, x, &mut self.codes, &mut self.scales);
        }
    }

    pub(crate) fn reserve(&mut self, layer: &Layer, rows: usize) {
        self.codes.resize((rows * 2 * layer.precision.groups(layer.features)).div_ceil(2));
        self.scales.resize(rows);
    }

    /// Whether the encoded rows are free of NaN and infinities. Only int8 needs to ask: its codes can't hold them,
    /// the other storages carry them to the result.
    pub(crate) fn finite(&self, layer: &Layer, rows: std::ops::Range<usize>) -> bool {
        layer.precision != Precision::Int8 || self.scales[rows].iter().all(|scale| scale.is_finite())
    }

    /// Rows from `first` on, `every` apart. `x` is what was encoded.
    pub(crate) fn left(&self, layer: &Layer, x: &[f32], first: usize, every: usize) -> Left {
        let features = layer.features;
        if layer.precision == Precision::F32 {
            let data = x.as_ptr().wrapping_add(first * features).cast();
            return Left { data, stride: 4 * every * features, scales: std::ptr::null(), scale_stride: 0 };
        }
        let stride = 2 * layer.precision.groups(features);
        Left {
            data: self.codes.as_ptr().cast::<u16>().wrapping_add(first * stride).cast(),
            stride: 2 * every * stride,
            scales: self.scales.as_ptr().wrapping_add(first),
            scale_stride: every,
        }
    }
}

impl Layer {
    /// P from the layer's input.
    pub(crate) fn input_product(&self, left: Left) -> Product {
        Product::new(left, &self.input, &self.input_bias)
    }

    /// Q from the state before.
    pub(crate) fn recurrent_product(&self, left: Left) -> Product {
        Product::new(left, &self.recurrent, &self.recurrent_bias)
    }

    /// Q of a zero state.
    pub(crate) fn recurrent_zero(&self) -> Side {
        Side::Ready { sums: self.recurrent_bias.as_ptr(), stride: 0 }
    }

    /// A step of all blocks of `rows` rows that writes `to` from row `at` on, `every` rows apart, after the
    /// state that stands in `from` (nothing at the first step).
    pub(crate) fn step(
        &self,
        rows: usize,
        (p, q): (Side, Side),
        before: Option<(Place, usize)>,
        (to, at, every): (Place, usize, usize),
        (c, c_stride): (*mut f32, usize),
    ) -> Step {
        let h_before = before.map_or(std::ptr::null(), |(place, row)| place.h(row).cast_const());
        Step {
            rows,
            units: self.hidden,
            first: 0,
            last: self.blocks(),
            p,
            q,
            h_before,
            h: to.h(at),
            h_stride: every * self.hidden,
            codes: to.codes(at),
            codes_stride: every * to.stride,
            code_of_one: self.precision.code_of_one(self.hidden),
            c_before: if before.is_some() { c.cast_const() } else { std::ptr::null() },
            c,
            c_stride,
        }
    }
}
