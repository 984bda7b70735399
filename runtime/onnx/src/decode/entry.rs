//! What a name of the file stands for while it is read.

use graph::{Dim, Shape, Value};

use super::integers::Integers;

#[derive(Clone, Debug)]
pub enum Entry {
    Float(View),
    /// True where the value is not 0; `exact` where it is 0 or 1.
    Bool {
        value: Value,
        exact: bool,
    },
    Integers(Integers),
}

/// A value with its axes permuted and axes of size 1 put in between. Transpose, Squeeze and Unsqueeze of
/// the file change the view alone; what reads it may take the inner value with a flag, as a matrix
/// product and the recurrent layers do, and else a node is made of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    pub inner: Value,
    /// The inner axis at each place; `None` is an axis of size 1. Every inner axis stands once.
    pub axes: Vec<Option<usize>>,
}

impl View {
    pub fn plain(inner: Value, rank: usize) -> Self {
        View { inner, axes: (0..rank).map(Some).collect() }
    }

    pub fn is_plain(&self, inner_rank: usize) -> bool {
        self.axes.iter().copied().eq((0..inner_rank).map(Some))
    }

    pub fn rank(&self) -> usize {
        self.axes.len()
    }

    pub fn shape(&self, inner: &Shape) -> Shape {
        Shape::new(self.axes.iter().map(|axis| axis.map_or(Dim::Fixed(1), |a| inner.dims()[a])))
    }

    /// Output axis i is axis `order[i]`.
    pub fn permuted(&self, order: &[usize]) -> Self {
        View { inner: self.inner, axes: order.iter().map(|&axis| self.axes[axis]).collect() }
    }

    /// Whether it is the inner value with its last two axes swapped.
    pub fn is_swapped(&self, inner_rank: usize) -> bool {
        let Some(lead) = inner_rank.checked_sub(2) else { return false };
        let swapped = (0..lead).chain([lead + 1, lead]);
        self.axes.iter().copied().eq(swapped.map(Some))
    }
}
