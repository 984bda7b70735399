//! A stream's place in its model's sliding plan. It holds the windows in flight of the rows that the stream was
//! fed; when those change otherwise than by a new row or a replaced newest one, the place is cold, and takes the
//! window's rows again when there is time. Until then the whole window is computed, which gives the same bits.

use graph::{RunError, SlidingPlan};

use crate::live::{Live, RowsVersion};

/// The plan of one model and its places.
pub struct Slides {
    plan: Box<dyn SlidingPlan>,
    window: usize,
    free: Vec<usize>,
    output: Vec<f32>,
}

/// One stream's place.
pub struct Place {
    index: usize,
    /// The rows that the plan has taken.
    taken: RowsVersion,
    settled: bool,
}

impl Slides {
    pub fn new(plan: Box<dyn SlidingPlan>, window: usize, places: usize) -> Self {
        Slides { plan, window, free: (0..places).rev().collect(), output: Vec::new() }
    }

    /// `None`: all are taken.
    pub fn place(&mut self) -> Option<Place> {
        let index = self.free.pop()?;
        self.plan.reset(index);
        Some(Place { index, taken: RowsVersion::default(), settled: true })
    }

    pub fn give_back(&mut self, place: Place) {
        self.free.push(place.index);
    }

    /// The stream's newest row is new, or was replaced. `None`: the window isn't full, or the place is cold.
    pub fn newest(&mut self, place: &mut Place, live: &Live) -> Result<Option<&[f32]>, RunError> {
        let now = live.version();
        let before = place.taken;
        let follows = now.starts == before.starts && now.rows == before.rows + 1 && now.edits == before.edits;
        // Cold, should the plan fail halfway.
        let settled = std::mem::replace(&mut place.settled, true);
        place.taken = RowsVersion::default();
        let (index, row) = (place.index, live.newest_row());
        let full = if now.rows == 1 && now.edits == 0 {
            self.plan.reset(index);
            self.plan.push(index, row, &mut self.output)?
        } else if follows {
            self.plan.push(index, row, &mut self.output)?
        } else if !settled && now == (RowsVersion { edits: before.edits + 1, ..before }) {
            self.plan.replace(index, row, &mut self.output)?
        } else {
            (place.taken, place.settled) = (before, settled);
            return Ok(None);
        };
        (place.taken, place.settled) = (now, false);
        Ok(full.then_some(self.output.as_slice()))
    }

    /// The next piece of work that makes the place ready for the next row; false when nothing is left. A newest
    /// row that may still be replaced isn't settled.
    pub fn prepare(
        &mut self,
        place: &mut Place,
        live: &Live,
        newest_is_final: bool,
    ) -> Result<bool, RunError> {
        let now = live.version();
        if place.taken == now {
            let settles = newest_is_final && !place.settled;
            if settles {
                self.plan.settle(place.index)?;
                place.settled = true;
            }
            return Ok(settles);
        }
        let Some(rows) = live.window() else { return Ok(false) };
        let oldest = now.rows.saturating_sub(self.window as u64);
        // Cold, should the plan fail halfway.
        let mut taken = std::mem::take(&mut place.taken);
        if (taken.starts, taken.edits) != (now.starts, now.edits)
            || taken.rows < oldest
            || taken.rows > now.rows
        {
            self.plan.reset(place.index);
            taken = RowsVersion { rows: oldest, ..now };
        }
        let at = (taken.rows - oldest) as usize;
        let width = rows.len() / self.window;
        self.plan.push(place.index, &rows[at * width..(at + 1) * width], &mut self.output)?;
        taken.rows += 1;
        (place.taken, place.settled) = (taken, false);
        if taken.rows < now.rows || newest_is_final {
            self.plan.settle(place.index)?;
            place.settled = true;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
