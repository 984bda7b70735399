//! Shapes: a list of dimensions, each a fixed number or a multiple of the symbolic batch size.

use std::fmt;

/// One dimension of a [`Shape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A fixed number of elements.
    Fixed(usize),
    /// So many times the batch size, which is known only when a plan is prepared.
    Batch(usize),
}

impl Dim {
    /// The number of elements at the given batch size; `None` when it overflows.
    pub fn at(self, batch: usize) -> Option<usize> {
        match self {
            Dim::Fixed(n) => Some(n),
            Dim::Batch(n) => n.checked_mul(batch),
        }
    }

    /// The number, if it doesn't depend on the batch.
    pub fn fixed(self) -> Option<usize> {
        match self {
            Dim::Fixed(n) => Some(n),
            Dim::Batch(_) => None,
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Dim::Fixed(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Batch(1) => write!(f, "B"),
            Dim::Batch(n) => write!(f, "{n}B"),
        }
    }
}

/// A tensor's shape. Row-major: the last dimension varies fastest. A scalar has no dimensions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(Vec<Dim>);

impl Shape {
    pub fn new(dims: impl IntoIterator<Item = Dim>) -> Self {
        Shape(dims.into_iter().collect())
    }

    pub fn fixed(dims: &[usize]) -> Self {
        Shape(dims.iter().map(|&n| Dim::Fixed(n)).collect())
    }

    /// `[B, rest…]`.
    pub fn batch(rest: &[usize]) -> Self {
        Shape(std::iter::once(Dim::Batch(1)).chain(rest.iter().map(|&n| Dim::Fixed(n))).collect())
    }

    pub fn scalar() -> Self {
        Shape(Vec::new())
    }

    pub fn dims(&self) -> &[Dim] {
        &self.0
    }

    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The dimensions at the given batch size; `None` on overflow.
    pub fn at(&self, batch: usize) -> Option<Vec<usize>> {
        self.0.iter().map(|d| d.at(batch)).collect()
    }

    /// The number of elements at the given batch size; `None` on overflow.
    pub fn elements(&self, batch: usize) -> Option<usize> {
        self.0.iter().try_fold(1usize, |n, d| n.checked_mul(d.at(batch)?))
    }

    /// The dimensions, if none depends on the batch.
    pub fn to_fixed(&self) -> Option<Vec<usize>> {
        self.0.iter().map(|d| d.fixed()).collect()
    }

    pub fn depends_on_batch(&self) -> bool {
        self.0.iter().any(|d| matches!(d, Dim::Batch(_)))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[")?;
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                write!(f, ", ")?;
            }
            write!(f, "{d}")?;
        }
        write!(f, "]")
    }
}
