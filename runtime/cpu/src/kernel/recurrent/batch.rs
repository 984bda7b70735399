//! Some rows through a stack, layer by layer: each step one pass over tiles of rows.
#![allow(unsafe_code)]

use super::step::{Side, step};
use super::{Inputs, Stack, States};
use crate::kernel::aligned::Aligned;

/// Buffers that a shard reuses from run to run.
#[derive(Debug, Default)]
pub(crate) struct BatchScratch {
    inputs: Inputs,
    states: [States; 2],
    cell: Aligned,
}

/// x `[rows, steps, features]` → h of the last step `[rows, H]` or of all `[rows, steps, H]`.
pub(crate) fn forward(
    stack: &Stack,
    (rows, steps): (usize, usize),
    x: &[f32],
    h: &mut [f32],
    scratch: &mut BatchScratch,
) {
    let hidden = stack.hidden();
    if rows == 0 || steps == 0 || hidden == 0 {
        return;
    }
    let all = h.len() == rows * steps * hidden;
    assert!(x.len() == rows * steps * stack.features() && (all || h.len() == rows * hidden));
    let BatchScratch { inputs, states, cell } = scratch;
    inputs.encode(stack.path, &stack.layers[0], rows * steps, x);
    for (index, layer) in stack.layers.iter().enumerate() {
        let keeps_all = all || index + 1 < stack.layers.len();
        let [even, odd] = &mut *states;
        let (from, to) = if index % 2 == 0 { (odd, even) } else { (even, odd) };
        // Row r's state at step t stands at `at(t) + r · every`.
        let every = if keeps_all { steps } else { 1 };
        let at = |t: usize| if keeps_all { t } else { t % 2 * rows };
        to.reserve(layer, if keeps_all { rows * steps } else { 2 * rows });
        cell.resize(rows * layer.hidden);
        let (from, to) = (from.place(), to.place());
        for t in 0..steps {
            let left = match index {
                0 => inputs.left(layer, x, t, steps),
                _ => from.left(t, steps),
            };
            let p = Side::Product(layer.input_product(left));
            let before = t.checked_sub(1).map(|t| (to, at(t)));
            let q = match before {
                None => layer.recurrent_zero(),
                Some((place, row)) => Side::Product(layer.recurrent_product(place.left(row, every))),
            };
            let cell = (cell.as_mut_ptr(), layer.hidden);
            let now = layer.step(rows, (p, q), before, (to, at(t), every), cell);
            // SAFETY: the buffers have room for `rows` rows as `at` and `every` place them, and hold the steps
            // before; the left factors were asserted or written by the layer below.
            unsafe { step(stack.path, layer.cell, layer.precision, &now) };
        }
        if index + 1 == stack.layers.len() {
            let first = if all { 0 } else { at(steps - 1) };
            // SAFETY: as many numbers as `h` has were written from there on.
            h.copy_from_slice(unsafe { std::slice::from_raw_parts(to.h(first), h.len()) });
            for (row, h) in h.chunks_mut(h.len() / rows).enumerate() {
                if !inputs.finite(&stack.layers[0], row * steps..(row + 1) * steps) {
                    h.fill(f32::NAN);
                }
            }
        }
    }
}
