//! A dense row-major f32 tensor on the host.

use std::fmt;

#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dims: Vec<usize>,
    data: Vec<f32>,
}

/// The data's length isn't the product of the dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorLengthError {
    pub dims: Vec<usize>,
    pub length: usize,
}

impl fmt::Display for TensorLengthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a tensor of shape {:?} can't hold {} numbers", self.dims, self.length)
    }
}

impl std::error::Error for TensorLengthError {}

impl Tensor {
    pub fn new(dims: Vec<usize>, data: Vec<f32>) -> Result<Self, TensorLengthError> {
        match dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) {
            Some(n) if n == data.len() => Ok(Tensor { dims, data }),
            _ => Err(TensorLengthError { dims, length: data.len() }),
        }
    }

    /// `[steps, steps]`: 0 where the row's place sees the column's, those up to itself, and −∞ elsewhere.
    pub fn causal_mask(steps: usize) -> Self {
        let at = |i: usize| if i % steps > i / steps { f32::NEG_INFINITY } else { 0.0 };
        Tensor { dims: vec![steps, steps], data: (0..steps * steps).map(at).collect() }
    }

    pub fn zeros(dims: &[usize]) -> Self {
        Tensor { dims: dims.to_vec(), data: vec![0.0; dims.iter().product()] }
    }

    pub fn scalar(value: f32) -> Self {
        Tensor { dims: Vec::new(), data: vec![value] }
    }

    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    pub fn data(&self) -> &[f32] {
        &self.data
    }

    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    pub fn into_data(self) -> Vec<f32> {
        self.data
    }
}
