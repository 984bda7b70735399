//! A matrix packed for the product: panels of four vectors of columns, each row of a panel contiguous.

use super::aligned::Aligned;
use crate::isa::Path;

/// A matrix `[depth, columns]` in panels of `4 · LANES` columns; what is missing in the last one is zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Panels {
    data: Aligned,
    depth: usize,
    columns: usize,
    width: usize,
}

/// Element (k, n) stands at `data[k · row_stride + n · column_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Strides {
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl Panels {
    /// Packs a matrix, reusing the buffer.
    pub(crate) fn pack(
        &mut self,
        path: Path,
        depth: usize,
        columns: usize,
        source: &[f32],
        strides: Strides,
    ) {
        let width = 4 * path.lanes();
        self.reshape(depth, columns, width);
        for (panel, target) in self.data.chunks_exact_mut((width * depth).max(1)).enumerate() {
            let first = panel * width;
            let count = width.min(columns - first);
            for (k, row) in target.chunks_exact_mut(width).enumerate() {
                let start = k * strides.row + first * strides.column;
                if strides.column == 1 {
                    row[..count].copy_from_slice(&source[start..start + count]);
                } else {
                    for (n, x) in row[..count].iter_mut().enumerate() {
                        *x = source[start + n * strides.column];
                    }
                }
                row[count..].fill(0.0);
            }
        }
    }

    /// Packs an LSTM's weights `[depth, 4 · hidden]` so that a panel holds the four gates of as many units
    /// as a vector has lanes: `[i… f… g… o…]`.
    pub(crate) fn pack_gates(&mut self, path: Path, depth: usize, hidden: usize, source: &[f32]) {
        let lanes = path.lanes();
        self.reshape(depth, hidden.div_ceil(lanes) * 4 * lanes, 4 * lanes);
        for (panel, target) in self.data.chunks_exact_mut((4 * lanes * depth).max(1)).enumerate() {
            let first = panel * lanes;
            let count = lanes.min(hidden - first);
            for (k, row) in target.chunks_exact_mut(4 * lanes).enumerate() {
                for (gate, vector) in row.chunks_exact_mut(lanes).enumerate() {
                    let start = k * 4 * hidden + gate * hidden + first;
                    vector[..count].copy_from_slice(&source[start..start + count]);
                    vector[count..].fill(0.0);
                }
            }
        }
    }

    fn reshape(&mut self, depth: usize, columns: usize, width: usize) {
        (self.depth, self.columns, self.width) = (depth, columns, width);
        self.data.resize(columns.div_ceil(width) * width * depth);
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// The panel's `depth` rows of `width` numbers.
    pub(crate) fn panel(&self, index: usize) -> &[f32] {
        &self.data[index * self.width * self.depth..][..self.width * self.depth]
    }
}
