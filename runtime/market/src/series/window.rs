//! The newest T rows of F numbers, always in one piece.

use std::fmt;

/// A ring that writes each row twice, T rows apart, so that the newest T always lie in order somewhere.
#[derive(Clone, Debug)]
pub struct Window {
    rows: usize,
    width: usize,
    /// `2 × rows` rows.
    buffer: Vec<f32>,
    /// Where the next row goes, below `rows`.
    next: usize,
    filled: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowError {
    Shape { rows: usize, width: usize },
    Width { expected: usize, got: usize },
    Empty,
}

impl fmt::Display for WindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WindowError::Shape { rows, width } => write!(
                f,
                "a window of {rows} rows × {width} numbers; it takes at least 1 × 1 and at most {} numbers",
                Window::NUMBERS_MAX
            ),
            WindowError::Width { expected, got } => {
                write!(f, "a row of {got} numbers; the window takes {expected}")
            }
            WindowError::Empty => write!(f, "the window has no row to replace"),
        }
    }
}

impl std::error::Error for WindowError {}

impl Window {
    /// 256 MiB of them.
    pub const NUMBERS_MAX: usize = 1 << 25;

    /// Of `rows` (T) rows of `width` (F) numbers.
    pub fn new(rows: usize, width: usize) -> Result<Self, WindowError> {
        let numbers = rows.checked_mul(width).filter(|&n| (1..=Self::NUMBERS_MAX).contains(&n));
        let numbers = numbers.ok_or(WindowError::Shape { rows, width })?;
        Ok(Window { rows, width, buffer: vec![0.0; 2 * numbers], next: 0, filled: 0 })
    }

    /// Adds the newest row; the oldest leaves a full window.
    pub fn push(&mut self, row: &[f32]) -> Result<(), WindowError> {
        self.write(self.next, row)?;
        self.next = (self.next + 1) % self.rows;
        self.filled = (self.filled + 1).min(self.rows);
        Ok(())
    }

    /// Writes over the newest row.
    pub fn replace_last(&mut self, row: &[f32]) -> Result<(), WindowError> {
        if self.filled == 0 {
            return Err(WindowError::Empty);
        }
        self.write((self.next + self.rows - 1) % self.rows, row)
    }

    fn write(&mut self, at: usize, row: &[f32]) -> Result<(), WindowError> {
        if row.len() != self.width {
            return Err(WindowError::Width { expected: self.width, got: row.len() });
        }
        for start in [at * self.width, (at + self.rows) * self.width] {
            self.buffer[start..start + self.width].copy_from_slice(row);
        }
        Ok(())
    }

    /// (T, F) row-major, oldest row first; None until T rows have come.
    pub fn as_slice(&self) -> Option<&[f32]> {
        let start = self.next * self.width;
        (self.filled == self.rows).then(|| &self.buffer[start..start + self.rows * self.width])
    }

    pub fn clear(&mut self) {
        self.next = 0;
        self.filled = 0;
    }

    /// Rows so far, at most T.
    pub fn len(&self) -> usize {
        self.filled
    }

    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// T.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// F.
    pub fn width(&self) -> usize {
        self.width
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_none_until_full_then_oldest_first() {
        let mut window = Window::new(3, 2).expect("shape");
        for i in 0..3 {
            assert_eq!(window.as_slice(), None);
            window.push(&[i as f32, -1.0]).expect("row");
        }
        assert_eq!(window.as_slice(), Some(&[0.0, -1.0, 1.0, -1.0, 2.0, -1.0][..]));
        window.push(&[3.0, 4.0]).expect("row");
        assert_eq!(window.as_slice(), Some(&[1.0, -1.0, 2.0, -1.0, 3.0, 4.0][..]));
    }

    #[test]
    fn refuses_impossible_shapes_and_rows() {
        assert!(Window::new(0, 3).is_err());
        assert!(Window::new(3, 0).is_err());
        assert!(Window::new(usize::MAX, 2).is_err());
        let mut window = Window::new(2, 2).expect("shape");
        assert_eq!(window.replace_last(&[1.0, 2.0]), Err(WindowError::Empty));
        assert_eq!(window.push(&[1.0]), Err(WindowError::Width { expected: 2, got: 1 }));
        assert!(window.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(f32),
        Replace(f32),
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => any::<f32>().prop_map(Step::Push),
            2 => any::<f32>().prop_map(Step::Replace),
            1 => Just(Step::Clear),
        ]
    }

    proptest! {
        #[test]
        fn equals_the_tail_of_a_list(rows in 1usize..6, width in 1usize..4, steps in prop::collection::vec(step(), 0..60)) {
            let mut window = Window::new(rows, width).expect("shape");
            let mut model: Vec<Vec<f32>> = Vec::new();
            for step in steps {
                match step {
                    Step::Push(x) => {
                        model.push(vec![x; width]);
                        window.push(&vec![x; width]).expect("row");
                    }
                    Step::Replace(x) => match model.last_mut() {
                        Some(last) => {
                            *last = vec![x; width];
                            window.replace_last(&vec![x; width]).expect("row");
                        }
                        None => prop_assert_eq!(window.replace_last(&vec![x; width]), Err(WindowError::Empty)),
                    },
                    Step::Clear => {
                        model.clear();
                        window.clear();
                    }
                }
                prop_assert_eq!(window.len(), model.len().min(rows));
                let expect: Option<Vec<u32>> = (model.len() >= rows)
                    .then(|| model[model.len() - rows..].concat().iter().map(|x| x.to_bits()).collect());
                let got: Option<Vec<u32>> = window.as_slice().map(|s| s.iter().map(|x| x.to_bits()).collect());
                prop_assert_eq!(got, expect);
            }
        }
    }
}
