//! Dense row-major f64 arrays, and the ops that move, contract and reduce them.

use super::elementwise;
use crate::op::{BinaryOp, ReduceOp};
use crate::tensor::Tensor;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    pub dims: Vec<usize>,
    pub data: Vec<f64>,
}

impl Array {
    pub fn from_tensor(tensor: &Tensor) -> Self {
        Array { dims: tensor.dims().to_vec(), data: tensor.data().iter().map(|&x| f64::from(x)).collect() }
    }

    /// An array whose element at each index is `f(index)`.
    pub fn build(dims: &[usize], mut f: impl FnMut(&[usize]) -> f64) -> Self {
        let mut index = vec![0; dims.len()];
        let mut data = Vec::with_capacity(dims.iter().product());
        for _ in 0..dims.iter().product() {
            data.push(f(&index));
            for axis in (0..dims.len()).rev() {
                index[axis] += 1;
                if index[axis] < dims[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Array { dims: dims.to_vec(), data }
    }

    /// The element at the index. Where the index has more axes, the leading ones are dropped, and an axis of
    /// size 1 has its only element everywhere: NumPy's broadcasting.
    pub fn at(&self, index: &[usize]) -> f64 {
        let index = &index[index.len() - self.dims.len()..];
        let flat = self
            .dims
            .iter()
            .zip(index)
            .fold(0, |flat, (&size, &i)| flat * size + if size == 1 { 0 } else { i });
        self.data[flat]
    }

    pub fn map(&self, f: impl FnMut(f64) -> f64) -> Self {
        Array { dims: self.dims.clone(), data: self.data.iter().copied().map(f).collect() }
    }

    pub fn zip(&self, other: &Array, dims: &[usize], f: impl Fn(f64, f64) -> f64) -> Self {
        Array::build(dims, |index| f(self.at(index), other.at(index)))
    }

    pub fn broadcast(&self, dims: &[usize]) -> Self {
        Array::build(dims, |index| self.at(index))
    }

    pub fn transpose(&self, axes: &[usize]) -> Self {
        let dims: Vec<usize> = axes.iter().map(|&axis| self.dims[axis]).collect();
        let mut source = vec![0; axes.len()];
        Array::build(&dims, |index| {
            for (&axis, &i) in axes.iter().zip(index) {
                source[axis] = i;
            }
            self.at(&source)
        })
    }

    pub fn slice(&self, axis: usize, start: usize, end: usize) -> Self {
        let mut dims = self.dims.clone();
        dims[axis] = end - start;
        Array::build(&dims, |index| self.at(&moved(index, axis, index[axis] + start)))
    }

    pub fn pad(&self, axis: usize, before: usize, after: usize) -> Self {
        let size = self.dims[axis];
        let mut dims = self.dims.clone();
        dims[axis] = before + size + after;
        Array::build(&dims, |index| match index[axis].checked_sub(before) {
            Some(i) if i < size => self.at(&moved(index, axis, i)),
            _ => 0.0,
        })
    }
}

pub(crate) fn select(c: &Array, a: &Array, b: &Array, dims: &[usize]) -> Array {
    Array::build(dims, |index| if c.at(index) != 0.0 { a.at(index) } else { b.at(index) })
}

pub(crate) fn concat(inputs: &[&Array], axis: usize) -> Array {
    let mut dims = inputs[0].dims.clone();
    dims[axis] = inputs.iter().map(|x| x.dims[axis]).sum();
    Array::build(&dims, |index| {
        let mut i = index[axis];
        for x in inputs {
            if i < x.dims[axis] {
                return x.at(&moved(index, axis, i));
            }
            i -= x.dims[axis];
        }
        unreachable!("the index is below the sum of the sizes")
    })
}

/// Over the last two axes; leading axes of `b` broadcast when it has none.
pub(crate) fn matmul(a: &Array, b: &Array, transpose_a: bool, transpose_b: bool) -> Array {
    let swap = |x: &Array| {
        let mut axes: Vec<usize> = (0..x.dims.len()).collect();
        axes.swap(x.dims.len() - 2, x.dims.len() - 1);
        x.transpose(&axes)
    };
    let a = if transpose_a { swap(a) } else { a.clone() };
    let b = if transpose_b { swap(b) } else { b.clone() };
    let rank = a.dims.len();
    let inner = a.dims[rank - 1];
    let mut dims = a.dims.clone();
    dims[rank - 1] = b.dims[b.dims.len() - 1];
    Array::build(&dims, |index| {
        let mut left = index.to_vec();
        let mut right = index.to_vec();
        (0..inner).fold(0.0, |sum, k| {
            left[rank - 1] = k;
            right[rank - 2] = k;
            sum + a.at(&left) * b.at(&right)
        })
    })
}

/// `dims`: of the result. Reduced elements are visited in row-major order.
pub(crate) fn reduce(op: ReduceOp, x: &Array, axes: &[usize], dims: Vec<usize>) -> Array {
    let kept: Vec<usize> = (0..x.dims.len()).filter(|axis| !axes.contains(axis)).collect();
    let start = match op {
        ReduceOp::Sum | ReduceOp::Mean => 0.0,
        ReduceOp::Max => f64::NEG_INFINITY,
    };
    let mut data = vec![start; dims.iter().product()];
    Array::build(&x.dims, |index| {
        let flat = kept.iter().fold(0, |flat, &axis| flat * x.dims[axis] + index[axis]);
        let element = x.at(index);
        data[flat] = match op {
            ReduceOp::Sum | ReduceOp::Mean => data[flat] + element,
            ReduceOp::Max => elementwise::binary(BinaryOp::Max, element, data[flat]),
        };
        element
    });
    if op == ReduceOp::Mean {
        let count: usize = axes.iter().map(|&axis| x.dims[axis]).product();
        data.iter_mut().for_each(|sum| *sum /= count as f64);
    }
    Array { dims, data }
}

/// x − max − log Σ exp(x − max) along the axis.
pub(crate) fn log_softmax(x: &Array, axis: usize) -> Array {
    let mut kept = x.dims.clone();
    kept[axis] = 1;
    let largest = reduce(ReduceOp::Max, x, &[axis], kept.clone());
    let shifted = x.zip(&largest, &x.dims, |x, largest| x - largest);
    let sums = reduce(ReduceOp::Sum, &shifted.map(f64::exp), &[axis], kept);
    shifted.zip(&sums, &x.dims, |x, sum| x - sum.ln())
}

fn moved(index: &[usize], axis: usize, i: usize) -> Vec<usize> {
    let mut index = index.to_vec();
    index[axis] = i;
    index
}
