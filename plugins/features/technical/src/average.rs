//! Averages with fading memory, begun by the plain mean of their first values.

use alphaplus_plugin::{Reader, State, Writer};

/// a ← a + share · (x − a), after the plain mean of the first `length` values. On a flat series it is exactly
/// flat.
pub struct Average {
    length: usize,
    share: f64,
    mean: f64,
    seen: u32,
}

impl Average {
    /// share = 2 / (length + 1).
    pub fn exponential(length: usize) -> Self {
        Average { length, share: 2.0 / (length as f64 + 1.0), mean: 0.0, seen: 0 }
    }

    /// share = 1 / length: the smoothing of Wilder, New Concepts in Technical Trading Systems, 1978.
    pub fn wilder(length: usize) -> Self {
        Average { length, share: 1.0 / length as f64, mean: 0.0, seen: 0 }
    }

    pub fn push(&mut self, value: f64) {
        let seeding = (self.seen as usize) < self.length;
        self.seen += u32::from(seeding);
        let share = if seeding { 1.0 / f64::from(self.seen) } else { self.share };
        self.mean += share * (value - self.mean);
    }

    /// Once it has seen `length` values.
    pub fn value(&self) -> Option<f64> {
        (self.seen as usize == self.length).then_some(self.mean)
    }
}

impl State for Average {
    fn write(&self, to: &mut Writer) {
        to.put(&self.mean);
        to.put(&self.seen);
    }

    fn read(&mut self, from: &mut Reader<'_>) -> Result<(), String> {
        from.take(&mut self.mean)?;
        from.take(&mut self.seen)?;
        match self.seen as usize <= self.length {
            true => Ok(()),
            false => Err(format!("a snapshot with an average of {}, not {}", self.seen, self.length)),
        }
    }
}
