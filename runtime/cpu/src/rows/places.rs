//! Where each buffer of a window stands: a place is used again once its last reader is done, so that a window's
//! numbers stay in the nearest caches.

use super::Phase;
use super::memory::Home;
use super::step::Step;

/// Numbers after each buffer that may be read and are never written.
pub(super) const SLACK: usize = 16;

/// A place that buffers use one after the other.
struct Place {
    start: usize,
    len: usize,
    last: Use,
}

/// How a buffer is first or last used.
#[derive(Clone, Copy)]
struct Use {
    phase: usize,
    step: usize,
    /// The stride, if within that phase each thread uses its own rows alone.
    own_rows: Option<usize>,
}

/// The start of each buffer, and the length of all.
pub(super) fn assign(steps: &[Step], phases: &[Phase], lengths: &[usize]) -> (Vec<usize>, usize) {
    let mut first = vec![None; lengths.len()];
    let mut last = vec![Use { phase: 0, step: 0, own_rows: None }; lengths.len()];
    for (phase, part) in phases.iter().enumerate() {
        for index in part.steps.clone() {
            steps[index].views(|view, own_rows| {
                let Home::Buffer(buffer) = view.home else { return };
                let in_rows = own_rows && view.offset + view.width <= view.stride;
                let strides = in_rows.then_some(view.stride);
                let seen = last[buffer];
                let own_rows = match first[buffer] {
                    Some(_) if seen.phase == phase && seen.own_rows != strides => None,
                    _ => strides,
                };
                first[buffer].get_or_insert(Use { phase, step: index, own_rows: strides });
                last[buffer] = Use { phase, step: index, own_rows };
            });
        }
    }
    let mut places: Vec<Place> = Vec::new();
    let (mut starts, mut len) = (vec![0; lengths.len()], 0);
    // Buffers are numbered in the order in which they are first written.
    for (buffer, &needed) in lengths.iter().enumerate() {
        let Some(begin) = first[buffer] else { continue };
        let needed = (needed + SLACK).next_multiple_of(16);
        let free = |place: &&mut Place| {
            let same_rows = begin.own_rows.is_some() && place.last.own_rows == begin.own_rows;
            let over = place.last.phase < begin.phase;
            // A step never writes where it reads.
            place.len >= needed && (over || same_rows && place.last.step < begin.step)
        };
        match places.iter_mut().filter(free).min_by_key(|place| place.len) {
            Some(place) => {
                starts[buffer] = place.start;
                place.last = last[buffer];
            }
            None => {
                starts[buffer] = len;
                places.push(Place { start: len, len: needed, last: last[buffer] });
                len += needed;
            }
        }
    }
    (starts, len)
}
