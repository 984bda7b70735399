//! The causal convolution over time as a matrix product that copies no taps.
//!
//! A window's places stand one after another behind as many zeros as the taps reach back. So what a tap reads at the
//! places is a stretch of rows, and with a dilation of 1 the K places that make an output are K·F numbers in a row:
//! the left factor of the product is the window itself, read at shifted places.
//!
//! A chain of convolutions writes each result to where the next one reads it. Its row at a place needs none after
//! that place, so threads may share one window: blocks of rows wait for those below them alone.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::aligned::Aligned;
use super::gemm::accumulate;
use super::gemm::single::{Parts, single};
use super::panels::{Panels, Strides};
use super::simd::{Simd, kernel};
use crate::isa::Path;

mod backward;
pub(crate) use backward::{Gradients, conv1d_backward, pack_backward};

/// The sizes of one convolution of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) steps: usize,
    pub(crate) features: usize,
    pub(crate) outputs: usize,
    pub(crate) taps: usize,
    pub(crate) dilation: usize,
}

impl Shape {
    /// How many taps, the last ones, find another place of the window than zeros.
    fn live(self) -> usize {
        self.taps.min((self.steps - 1) / self.dilation + 1)
    }

    /// How far back those reach.
    fn reach(self) -> usize {
        (self.live() - 1) * self.dilation
    }

    /// The part of w that they have.
    fn live_weights(self) -> std::ops::Range<usize> {
        let tap = self.features * self.outputs;
        (self.taps - self.live()) * tap..self.taps * tap
    }

    /// A row of a left factor whose places are `width` wide.
    fn row(self, width: usize) -> Parts {
        match self.dilation {
            1 => Parts { count: 1, depth: self.live() * width, apart: 0 },
            dilation => Parts { count: self.live(), depth: width, apart: dilation * width },
        }
    }

    pub(crate) fn multiply_adds(self) -> usize {
        self.steps * self.live() * self.features * self.outputs
    }
}

/// A convolution with its weights packed, and whether a relu follows.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    shape: Shape,
    relu: bool,
    panels: Panels,
    bias: Aligned,
}

impl Layer {
    pub(crate) fn pack(&mut self, path: Path, shape: Shape, relu: bool, w: &[f32], bias: &[f32]) {
        (self.shape, self.relu) = (shape, relu);
        let depth = shape.live() * shape.features;
        let strides = Strides { row: shape.outputs, column: 1 };
        self.panels.pack(path, depth, shape.outputs, &w[shape.live_weights()], strides);
        self.bias.resize(shape.outputs);
        self.bias.copy_from_slice(bias);
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Rows `first..first + count` of the result.
    ///
    /// # Safety
    /// `x` points at the zeros before the window and then its rows, up to the last one of these; `y` at the result's
    /// row 0, and nobody else writes these rows.
    unsafe fn rows(&self, path: Path, x: *const f32, y: *mut f32, first: usize, count: usize) {
        let Shape { features, outputs, .. } = self.shape;
        let product = Product {
            rows: count,
            columns: outputs,
            parts: self.shape.row(features),
            a: x.wrapping_add(first * features),
            a_row: features,
            a_depth: 1,
            b: self.panels.panel(0).as_ptr(),
            b_panel: self.panels.width() * self.panels.depth(),
            b_row: self.panels.width(),
            c: y.wrapping_add(first * outputs),
            c_row: outputs,
            add: false,
            bias: self.bias.as_ptr(),
            relu: self.relu,
        };
        // SAFETY: row i reads from place `first + i` of x on, reach and one place; panels are whole vectors, and the
        // bias has `outputs` numbers.
        unsafe { product_kernel(path, &product) }
    }
}

/// Rows that one thread makes of a layer before it looks around: whole tiles on every path.
const BLOCK: usize = 6;

/// What a chain's layers read, and how far each is.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    places: Vec<Aligned>,
    progress: Vec<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// The first block that nobody has taken.
    next: AtomicUsize,
    done: Vec<AtomicBool>,
}

/// One window on its way through a chain of layers.
pub(crate) struct Window<'a> {
    path: Path,
    layers: &'a [Arc<Layer>],
    /// What each layer reads, and writes.
    places: Vec<(*const f32, *mut f32)>,
    progress: &'a [Progress],
    block: usize,
    blocks: usize,
    y: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: a block's rows are written by the thread that took it, and read by others after `done` has told of it;
// both are ordered by acquire and release.
unsafe impl Sync for Window<'_> {}

impl<'a> Window<'a> {
    /// x `[steps, features]` of the first layer, y `[steps, outputs]` of the last. `shared`: whether threads will
    /// work on it at once.
    pub(crate) fn new(
        path: Path,
        layers: &'a [Arc<Layer>],
        (x, y): (&[f32], &'a mut [f32]),
        shared: bool,
        scratch: &'a mut Scratch,
    ) -> Self {
        let (first, last) = (layers[0].shape, layers[layers.len() - 1].shape);
        assert!(x.len() == first.steps * first.features && y.len() == last.steps * last.outputs);
        assert!(layers.windows(2).all(|pair| {
            let [below, above] = [pair[0].shape, pair[1].shape];
            (below.steps, below.outputs) == (above.steps, above.features)
        }));
        let block = if shared { BLOCK } else { first.steps };
        let blocks = first.steps.div_ceil(block);
        scratch.places.resize_with(layers.len(), Aligned::default);
        scratch.progress.resize_with(layers.len(), Progress::default);
        let mut starts = Vec::with_capacity(layers.len());
        for (layer, places) in layers.iter().zip(&mut scratch.places) {
            let (zeros, features) = (layer.shape.reach() * layer.shape.features, layer.shape.features);
            places.resize(zeros + layer.shape.steps * features);
            places[..zeros].fill(0.0);
            starts.push((places.as_mut_ptr(), zeros));
        }
        // SAFETY: the first layer's places, of x's length behind the zeros, and nobody else has them yet.
        unsafe { std::ptr::copy_nonoverlapping(x.as_ptr(), starts[0].0.add(starts[0].1), x.len()) };
        for progress in &mut scratch.progress {
            *progress.next.get_mut() = 0;
            progress.done.resize_with(blocks, AtomicBool::default);
            progress.done.iter_mut().for_each(|done| *done.get_mut() = false);
        }
        let above = starts[1..].iter().map(|(start, zeros)| start.wrapping_add(*zeros));
        let written = above.chain([y.as_mut_ptr()]);
        let places = starts.iter().map(|(start, _)| start.cast_const()).zip(written).collect();
        Window {
            path,
            layers,
            places,
            progress: &scratch.progress,
            block,
            blocks,
            y: std::marker::PhantomData,
        }
    }

    /// Works until the whole window is done. Any number of threads may call it at the same time.
    pub(crate) fn work(&self) {
        while !self.all_done() {
            // The lowest layer first, so that nobody waits before the end.
            if !(0..self.layers.len()).any(|layer| self.try_block(layer)) {
                std::hint::spin_loop();
            }
        }
    }

    fn all_done(&self) -> bool {
        let last = &self.progress[self.layers.len() - 1];
        last.next.load(Ordering::Relaxed) == self.blocks
            && last.done.iter().all(|done| done.load(Ordering::Acquire))
    }

    /// Takes and makes the layer's next block, if there is one and what it reads is done.
    fn try_block(&self, index: usize) -> bool {
        let progress = &self.progress[index];
        let block = progress.next.load(Ordering::Relaxed);
        if block == self.blocks || !self.is_ready(index, block) {
            return false;
        }
        let taken = progress.next.compare_exchange(block, block + 1, Ordering::Relaxed, Ordering::Relaxed);
        if taken.is_err() {
            return true;
        }
        let layer = &self.layers[index];
        let (x, y) = self.places[index];
        let first = block * self.block;
        let count = self.block.min(layer.shape.steps - first);
        // SAFETY: `new` made room for all places of each layer; those that the block reads are done, and the block is
        // this thread's alone.
        unsafe { layer.rows(self.path, x, y, first, count) };
        progress.done[block].store(true, Ordering::Release);
        true
    }

    /// Whether the rows that a block reads are there.
    fn is_ready(&self, index: usize, block: usize) -> bool {
        let Some(below) = index.checked_sub(1) else { return true };
        let oldest = (block * self.block).saturating_sub(self.layers[index].shape.reach()) / self.block;
        self.progress[below].done[oldest..=block].iter().all(|done| done.load(Ordering::Acquire))
    }
}

/// c = finish(Σ a·b), or c + Σ a·b.
struct Product {
    rows: usize,
    columns: usize,
    parts: Parts,
    a: *const f32,
    a_row: usize,
    a_depth: usize,
    b: *const f32,
    b_panel: usize,
    b_row: usize,
    c: *mut f32,
    c_row: usize,
    /// Whether the sums are added to what c holds. (Each is a chain of its own, so that a sum over many windows rounds
    /// as often as there are windows, not places.)
    add: bool,
    /// One number for each column, added to the sum; null for none.
    bias: *const f32,
    /// Whether what lies below 0 becomes 0.
    relu: bool,
}

kernel!(unsafe fn product_kernel(product: &Product) = product_generic);

#[inline(always)]
unsafe fn product_generic<S: Simd>(p: &Product) {
    if p.columns == 1 {
        // SAFETY: the caller's.
        return unsafe { column::<S>(p) };
    }
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
        let mut sums = [[S::splat(0.0); V]; R];
        let b = p.b.add(first / (4 * S::LANES) * p.b_panel);
        let a = p.a.add(row * p.a_row);
        let Parts { count, depth, apart } = p.parts;
        let mut part = 0;
        while part < count {
            let b = b.add(part * depth * p.b_row);
            accumulate::<S, R, V>(&mut sums, a.add(part * apart), p.a_row, p.a_depth, b, p.b_row, depth);
            part += 1;
        }
        for v in 0..V {
            let lanes = if v + 1 == V { last } else { S::LANES };
            for (r, sums) in sums.iter().enumerate() {
                finish::<S>(p, row + r, first + v * S::LANES, lanes, sums[v]);
            }
        }
    }
}

/// All rows of the only column.
#[inline(always)]
unsafe fn column<S: Simd>(p: &Product) {
    for row in 0..p.rows {
        // SAFETY: the caller's.
        unsafe {
            let sum = single::<S>(p.parts, (p.a.add(row * p.a_row), p.a_depth), (p.b, p.b_row));
            finish::<S>(p, row, 0, 1, sum);
        }
    }
}

/// A vector of sums on its way to `lanes` columns of c.
#[inline(always)]
unsafe fn finish<S: Simd>(p: &Product, row: usize, column: usize, lanes: usize, sum: S::V) {
    // SAFETY: the caller's; these lanes of c and of the bias alone are used.
    unsafe {
        let c = p.c.add(row * p.c_row + column);
        let mut y = sum;
        if !p.bias.is_null() {
            y = S::add(y, S::load_first(p.bias.add(column), lanes));
        }
        if p.add {
            y = S::add(S::load_first(c, lanes), y);
        }
        if p.relu {
            // As x < 0 → 0: a NaN stays.
            y = S::select_less(y, S::splat(0.0), S::splat(0.0), y);
        }
        if lanes == S::LANES {
            S::store(c, y);
        } else {
            S::store_first(c, lanes, y);
        }
    }
}

#[cfg(test)]
mod tests;
