//! The last values of a series, oldest first.

use std::collections::VecDeque;

use alphaplus_plugin::{Reader, State, Writer};

pub struct Ring {
    length: usize,
    values: VecDeque<f64>,
}

impl Ring {
    /// Keeps the last `length` values.
    pub fn new(length: usize) -> Self {
        Ring { length, values: VecDeque::with_capacity(length) }
    }

    pub fn push(&mut self, value: f64) {
        if self.values.len() == self.length {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    pub fn newest(&self) -> Option<f64> {
        self.values.back().copied()
    }

    /// The value `back` pushes before the newest.
    pub fn back(&self, back: usize) -> Option<f64> {
        self.values.len().checked_sub(back + 1).and_then(|at| self.values.get(at)).copied()
    }

    /// All values, once there are as many as it keeps.
    pub fn full(&self) -> Option<impl Iterator<Item = f64> + Clone + '_> {
        self.last(self.length)
    }

    /// The last `length` values, once there are so many.
    pub fn last(&self, length: usize) -> Option<impl Iterator<Item = f64> + Clone + '_> {
        self.values.len().checked_sub(length).map(|start| self.values.range(start..).copied())
    }
}

impl State for Ring {
    fn write(&self, to: &mut Writer) {
        to.put(&self.values);
    }

    fn read(&mut self, from: &mut Reader<'_>) -> Result<(), String> {
        from.take(&mut self.values)?;
        match self.values.len() <= self.length {
            true => Ok(()),
            false => Err(format!("a snapshot with a window of {}, not {}", self.values.len(), self.length)),
        }
    }
}
