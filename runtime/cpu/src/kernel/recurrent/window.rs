//! One fresh window through a stack: layers run at once, each some steps behind the one below.
//!
//! A layer's steps go in stretches. A stretch first makes x·W for all of its steps as one product, then the
//! steps. It may run when the layer below has ended the same stretch; so a few threads share one window, and a
//! thread that comes late, or never, leaves its work to the others. What is computed doesn't depend on who does.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::step::{Side, Sums, step, sums};
use super::weights::Layer;
use super::{Inputs, Place, Stack, States};
use crate::kernel::aligned::Aligned;

/// Steps of a stretch: two tiles of rows.
const STRETCH: usize = 12;

/// Buffers that a window reuses from run to run.
#[derive(Debug, Default)]
pub(crate) struct WindowScratch {
    layers: Vec<LayerScratch>,
    inputs: Inputs,
}

#[derive(Debug, Default)]
struct LayerScratch {
    /// P of a stretch.
    sums: Aligned,
    states: States,
    cell: Aligned,
    progress: Progress,
}

#[derive(Debug, Default)]
struct Progress {
    busy: AtomicBool,
    /// Stretches that are done.
    done: AtomicUsize,
}

/// A window in work, shared by threads.
pub(crate) struct Window<'a> {
    stack: &'a Stack,
    steps: usize,
    x: &'a [f32],
    inputs: &'a Inputs,
    layers: Vec<Part<'a>>,
}

struct Part<'a> {
    layer: &'a Layer,
    sums: *mut f32,
    place: Place,
    cell: *mut f32,
    progress: &'a Progress,
}

// SAFETY: a layer's buffers are touched by the thread that holds its `busy`, and read by the layer above up to
// the stretch that `done` has told of; both are ordered by acquire and release.
unsafe impl Sync for Window<'_> {}

impl<'a> Window<'a> {
    /// x `[steps, features]`, which isn't empty.
    pub(crate) fn new(stack: &'a Stack, steps: usize, x: &'a [f32], scratch: &'a mut WindowScratch) -> Self {
        assert!(steps > 0 && x.len() == steps * stack.features());
        scratch.layers.resize_with(stack.layers.len(), LayerScratch::default);
        scratch.inputs.encode(stack.path, &stack.layers[0], steps, x);
        let layers = stack.layers.iter().zip(&mut scratch.layers).map(|(layer, scratch)| {
            scratch.sums.resize(STRETCH.min(steps) * layer.row());
            scratch.states.reserve(layer, steps);
            scratch.cell.resize(layer.hidden);
            scratch.progress = Progress::default();
            Part {
                layer,
                sums: scratch.sums.as_mut_ptr(),
                place: scratch.states.place(),
                cell: scratch.cell.as_mut_ptr(),
                progress: &scratch.progress,
            }
        });
        let layers = layers.collect();
        Window { stack, steps, x, inputs: &scratch.inputs, layers }
    }

    /// Works until the whole window is done. Any number of threads may call it at the same time.
    pub(crate) fn work(&self) {
        let stretches = self.steps.div_ceil(STRETCH);
        let last = &self.layers[self.layers.len() - 1].progress.done;
        while last.load(Ordering::Acquire) < stretches {
            // The highest layer first: what is nearest to the end.
            let ran = (0..self.layers.len()).rev().any(|layer| self.try_stretch(layer, stretches));
            if !ran {
                std::hint::spin_loop();
            }
        }
    }

    /// Runs the layer's next stretch, if it is ready and nobody does.
    fn try_stretch(&self, index: usize, stretches: usize) -> bool {
        let progress = self.layers[index].progress;
        let ready = || {
            let done = progress.done.load(Ordering::Acquire);
            let below = match index.checked_sub(1) {
                Some(below) => self.layers[below].progress.done.load(Ordering::Acquire),
                None => stretches,
            };
            (done < below).then_some(done)
        };
        if ready().is_none() || progress.busy.swap(true, Ordering::Acquire) {
            return false;
        }
        let ran = ready();
        if let Some(stretch) = ran {
            self.stretch(index, stretch * STRETCH);
            progress.done.store(stretch + 1, Ordering::Release);
        }
        progress.busy.store(false, Ordering::Release);
        ran.is_some()
    }

    fn stretch(&self, index: usize, first: usize) {
        let &Part { layer, sums: target, place, cell, .. } = &self.layers[index];
        let (path, precision) = (self.stack.path, layer.precision);
        let count = STRETCH.min(self.steps - first);
        let left = match index.checked_sub(1) {
            Some(below) => self.layers[below].place.left(first, 1),
            None => self.inputs.left(layer, self.x, first, 1),
        };
        let stretch = Sums {
            rows: count,
            units: layer.hidden,
            first: 0,
            last: layer.blocks(),
            product: layer.input_product(left),
            sums: target,
            stride: layer.row(),
        };
        // SAFETY: `new` made room for STRETCH rows of sums, and for the states of all steps, which hold what the
        // left factors read: x's rows, the layer below's up to this stretch, the layer's own of the step before.
        unsafe {
            sums(path, layer.cell, precision, &stretch);
            for t in first..first + count {
                let p = Side::Ready { sums: target.wrapping_add((t - first) * layer.row()), stride: 0 };
                let before = t.checked_sub(1);
                let q = before.map_or_else(
                    || layer.recurrent_zero(),
                    |before| Side::Product(layer.recurrent_product(place.left(before, 1))),
                );
                let before = before.map(|before| (place, before));
                step(path, layer.cell, precision, &layer.step(1, (p, q), before, (place, t, 1), (cell, 0)));
            }
        }
    }

    /// The last layer's h, once [`Window::work`] has returned: of all steps, or of the last one alone.
    pub(crate) fn copy(&self, h: &mut [f32]) {
        let hidden = self.stack.hidden();
        let rows = h.len() / hidden;
        assert!(rows == self.steps || rows == 1);
        let place = self.layers[self.layers.len() - 1].place;
        // SAFETY: the states of all steps are there, and nobody writes any more.
        let from = unsafe { std::slice::from_raw_parts(place.h(self.steps - rows), rows * hidden) };
        h.copy_from_slice(from);
        if !self.inputs.finite(&self.stack.layers[0], 0..self.steps) {
            h.fill(f32::NAN);
        }
    }
}
