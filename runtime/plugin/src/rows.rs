//! The check that rows pass on their way out of a guest: length, NaN bits, and finite after the warm-up.

use std::fmt;

use market::FeatureErrorKind;

pub(crate) struct Shape {
    pub(crate) columns: usize,
    pub(crate) warmup: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RowError {
    Length {
        bars: usize,
        columns: usize,
        got: usize,
    },
    /// `row` counts from the stream's first.
    NotFinite {
        row: u64,
        column: String,
        value: f32,
        warmup: usize,
    },
}

impl RowError {
    pub(crate) fn kind(&self) -> FeatureErrorKind {
        match self {
            RowError::Length { .. } => FeatureErrorKind::RowLength,
            RowError::NotFinite { .. } => FeatureErrorKind::NotFinite,
        }
    }
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowError::Length { bars: 1, columns, got } => {
                write!(f, "a row has {got} numbers; its spec names {columns} columns")
            }
            RowError::Length { bars, columns, got } => {
                write!(
                    f,
                    "{bars} bars gave {got} numbers, not {}: its spec names {columns} columns",
                    bars * columns
                )
            }
            RowError::NotFinite { row, column, value, warmup } => {
                write!(
                    f,
                    "column {column} of row {row} is {value}; after {warmup} rows of warm-up it must be finite"
                )
            }
        }
    }
}

/// `before` rows of the stream went before these. Gives every NaN the same bits.
pub(crate) fn check(
    shape: &Shape,
    names: &[String],
    before: u64,
    bars: usize,
    values: &mut [f32],
) -> Result<(), RowError> {
    if values.len() != bars * shape.columns {
        return Err(RowError::Length { bars, columns: shape.columns, got: values.len() });
    }
    let Some(at) = values.iter().position(|x| !x.is_finite()) else { return Ok(()) };
    for x in &mut values[at..] {
        if x.is_nan() {
            *x = f32::NAN;
        }
    }
    let first = (shape.warmup as u64).saturating_sub(before).min(bars as u64) as usize * shape.columns;
    match values[first..].iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(i) => {
            let at = first + i;
            Err(RowError::NotFinite {
                row: before + (at / shape.columns) as u64,
                column: names.get(at % shape.columns).cloned().unwrap_or_default(),
                value: values[at],
                warmup: shape.warmup,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { columns: 2, warmup: 3 };

    fn run(before: u64, values: &mut [f32]) -> Result<(), RowError> {
        check(&SHAPE, &["a".into(), "b".into()], before, 2, values)
    }

    #[test]
    fn the_first_row_after_the_warmup_must_be_finite() {
        assert_eq!(run(1, &mut [f32::NAN, 1.0, 1.0, f32::INFINITY]), Ok(()));
        let error = run(2, &mut [f32::NAN, 1.0, 1.0, f32::INFINITY]).expect_err("row 3 counts");
        assert_eq!(
            error,
            RowError::NotFinite { row: 3, column: "b".into(), value: f32::INFINITY, warmup: 3 }
        );
        assert!(run(3, &mut [f32::NAN, 1.0, 1.0, 1.0]).is_err());
        assert!(run(u64::MAX - 9, &mut [f32::NAN, 1.0, 1.0, 1.0]).is_err());
    }

    #[test]
    fn all_nans_have_the_same_bits() {
        let mut values = [f32::from_bits(0xffc1_2345), 1.0, f32::from_bits(0x7f80_0001), -0.0];
        assert_eq!(run(0, &mut values), Ok(()));
        assert_eq!(values.map(f32::to_bits), [f32::NAN, 1.0, f32::NAN, -0.0].map(f32::to_bits));
    }

    #[test]
    fn the_length_is_checked() {
        assert_eq!(run(0, &mut [1.0; 3]), Err(RowError::Length { bars: 2, columns: 2, got: 3 }));
        assert_eq!(run(0, &mut [1.0; 4]), Ok(()));
    }
}
