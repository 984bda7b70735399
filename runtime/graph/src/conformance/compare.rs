//! How near an f32 result must come to the f64 truth.

/// The allowed error of each element, in units of f32's epsilon. All zero: the very value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Times the element's own magnitude.
    pub relative: f64,
    /// Times what the terms of its sum add up to; the bound for a sum of n rounded terms is n.
    pub terms: f64,
    /// Times the largest magnitude in the tensor.
    pub scaled: f64,
}

impl Tolerance {
    pub const EXACT: Tolerance = Tolerance { relative: 0.0, terms: 0.0, scaled: 0.0 };

    pub fn relative(relative: f64) -> Self {
        Tolerance { relative, ..Self::EXACT }
    }

    /// For sums of up to `length` products.
    pub fn terms(length: usize) -> Self {
        Tolerance { terms: length as f64 + 2.0, ..Self::EXACT }
    }

    pub fn scaled(scaled: f64) -> Self {
        Tolerance { scaled, ..Self::EXACT }
    }

    /// The largest error as a part of the allowed one, or what is wrong. A NaN must be where one is expected and
    /// nowhere else, and so must an infinity, with its sign. Below the smallest normal f32 all is 0.
    pub fn compare(&self, got: &[f32], expected: &[f64], magnitudes: &[f64]) -> Result<f64, String> {
        if got.len() != expected.len() {
            return Err(format!("{} elements, not {}", got.len(), expected.len()));
        }
        let finite = expected.iter().map(|x| x.abs()).filter(|x| x.is_finite());
        let largest = finite.fold(0.0, f64::max);
        let mut worst = 0.0f64;
        for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
            let rounded = expected as f32;
            if got == rounded || (got.is_nan() && rounded.is_nan()) {
                continue;
            }
            let error = (f64::from(got) - expected).abs();
            let terms = if self.terms > 0.0 { self.terms * magnitudes[i].abs() } else { 0.0 };
            let units = self.relative * expected.abs() + terms + self.scaled * largest;
            let allowed = f64::from(f32::EPSILON) * units + f64::from(f32::MIN_POSITIVE);
            let comparable = got.is_finite() && rounded.is_finite() && allowed.is_finite();
            if !comparable || error > allowed {
                return Err(format!("element {i} is {got:e}, not {expected:e} within {allowed:e}"));
            }
            worst = worst.max(error / allowed);
        }
        Ok(worst)
    }
}
