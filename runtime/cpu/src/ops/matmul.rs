//! The matrix product on our own panels, with the bias after it, its rows shared out over threads.

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

use super::fused::Kernel;
use crate::isa::Path;
use crate::kernel::aligned::Aligned;
use crate::kernel::gemm::transposed::Transposed;
use crate::kernel::gemm::{Left, Start, gemm, rows_per_tile};
use crate::kernel::panels::{Panels, Strides};
use crate::pool::{Pool, Spare};

/// Below so many multiply-adds another thread isn't worth waking.
const PARALLEL_MIN: usize = 1 << 20;
/// Rows of one task.
const TASK_ROWS: usize = 48;

/// a `[lead, M, K]`, b `[lead, K, N]` or `[K, N]`, either stored transposed → `[lead, M, N]`.
#[derive(Debug)]
pub(crate) struct MatMul {
    pub(crate) path: Path,
    pub(crate) pool: Arc<Pool>,
    pub(crate) lead: usize,
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) columns: usize,
    pub(crate) transpose_a: bool,
    pub(crate) transpose_b: bool,
    /// Whether a has no leading axes, and so b neither.
    pub(crate) flat: bool,
    /// Whether b has no leading axes.
    pub(crate) shared: bool,
    /// b, where it never changes.
    pub(crate) fixed: Option<Arc<Panels>>,
    /// Whether the third input `[N]` is added to each row; then b is shared.
    pub(crate) bias: bool,
    pub(crate) packed: Mutex<Panels>,
    /// What tasks give that don't write whole rows.
    pub(crate) parts: Mutex<Vec<Aligned>>,
    pub(crate) spare: Spare<(Panels, Aligned)>,
}

impl Kernel for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let (a, b, y) = (inputs[0], inputs[1], &mut *outputs[0]);
        if !self.shared && self.lead > 1 {
            return self.run_each(a, b, y);
        }
        let bias = if self.bias { Some(inputs[2]) } else { None };
        if let Some(fixed) = &self.fixed {
            return self.run_shared(a, fixed, bias, y);
        }
        if self.transpose_a && !self.transpose_b && self.flat && !self.bias {
            return self.run_transposed(a, b, y);
        }
        let mut packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        packed.pack(self.path, self.depth, self.columns, b, self.right_strides());
        self.run_shared(a, &packed, bias, y);
    }
}

impl MatMul {
    pub(crate) fn right_strides(&self) -> Strides {
        if self.transpose_b {
            Strides { row: 1, column: self.depth }
        } else {
            Strides { row: self.columns, column: 1 }
        }
    }

    fn worth_sharing(&self) -> bool {
        self.lead * self.rows * self.columns * self.depth >= PARALLEL_MIN
    }

    /// One right factor: all leading axes are rows, but for a transposed left factor. The bias comes last, as where
    /// it is a node of its own: a row that slides gives the same bits.
    fn run_shared(&self, a: &[f32], right: &Panels, bias: Option<&[f32]>, y: &mut [f32]) {
        let (lead, rows) = if self.transpose_a { (self.lead, self.rows) } else { (1, self.lead * self.rows) };
        let size = rows * self.depth;
        let task_rows = if self.worth_sharing() { TASK_ROWS } else { rows };
        let mut tasks = Vec::new();
        for (matrix, y) in y.chunks_mut(rows * self.columns).enumerate() {
            for (index, y) in y.chunks_mut(task_rows * self.columns).enumerate() {
                tasks.push((matrix, index * task_rows, y));
            }
        }
        debug_assert_eq!(a.len(), lead * size);
        self.pool.run(tasks, |(matrix, first, y): (usize, usize, &mut [f32])| {
            self.spare.with(|(_, scratch)| {
                let count = y.len() / self.columns;
                let left = self.left(&a[matrix * size..(matrix + 1) * size], rows, first, count);
                gemm(self.path, left, right, y, self.columns, Start::Zero, scratch);
                for row in y.chunks_exact_mut(self.columns) {
                    row.iter_mut().zip(bias.unwrap_or_default()).for_each(|(y, b)| *y += b);
                }
            });
        });
    }

    /// Both factors stored by rows of the contraction: nothing is packed ahead. Tasks take panels of columns, since each
    /// copies the right factor's part that it reads, and share a panel's rows where there are few panels.
    fn run_transposed(&self, a: &[f32], b: &[f32], y: &mut [f32]) {
        let threads = if self.worth_sharing() { self.pool.threads() } else { 1 };
        let width = 4 * self.path.lanes();
        let width = if threads == 1 { self.columns.max(1) } else { width };
        let row_parts =
            if threads == 1 { 1 } else { (2 * threads).div_ceil(self.columns.div_ceil(width).max(1)) };
        let height = self.rows.div_ceil(row_parts).next_multiple_of(rows_per_tile(self.path));
        let mut places = Vec::new();
        for column in (0..self.columns).step_by(width) {
            places.extend((0..self.rows).step_by(height).map(|first| (first, column)));
        }
        let part = |(first, column): (usize, usize), y: &mut [f32]| {
            let product = Transposed {
                a,
                a_stride: self.rows,
                first,
                rows: height.min(self.rows - first),
                b,
                b_stride: self.columns,
                column,
                columns: width.min(self.columns - column),
                depth: self.depth,
            };
            self.spare.with(|(_, scratch)| product.run(self.path, y, scratch));
        };
        if width >= self.columns {
            let tasks = places.into_iter().zip(y.chunks_mut(height * self.columns)).collect();
            return self.pool.run(tasks, |(place, y)| part(place, y));
        }
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.resize_with(places.len(), Aligned::default);
        self.pool.run(places.iter().zip(parts.iter_mut()).collect(), |(&(first, column), y)| {
            y.resize(height.min(self.rows - first) * width.min(self.columns - column));
            part((first, column), y);
        });
        for (&(first, column), part) in places.iter().zip(parts.iter()) {
            let columns = width.min(self.columns - column);
            for (row, part) in part.chunks_exact(columns).enumerate() {
                y[(first + row) * self.columns + column..][..columns].copy_from_slice(part);
            }
        }
    }

    /// A right factor for each leading index, packed by the task that uses it.
    fn run_each(&self, a: &[f32], b: &[f32], y: &mut [f32]) {
        let (left_size, right_size) = (self.rows * self.depth, self.depth * self.columns);
        let group =
            if self.worth_sharing() { self.lead.div_ceil(4 * self.pool.threads()) } else { self.lead };
        let size = self.rows * self.columns;
        let tasks: Vec<_> = y.chunks_mut(group * size).enumerate().collect();
        self.pool.run(tasks, |(index, y): (usize, &mut [f32])| {
            self.spare.with(|(panels, scratch)| {
                for (i, y) in y.chunks_mut(size).enumerate() {
                    let matrix = index * group + i;
                    let right = &b[matrix * right_size..][..right_size];
                    panels.pack(self.path, self.depth, self.columns, right, self.right_strides());
                    let left = self.left(&a[matrix * left_size..][..left_size], self.rows, 0, self.rows);
                    gemm(self.path, left, panels, y, self.columns, Start::Zero, scratch);
                }
            });
        });
    }

    /// `count` rows from `first` of one left factor of `rows` rows.
    fn left<'a>(&self, a: &'a [f32], rows: usize, first: usize, count: usize) -> Left<'a> {
        if self.transpose_a {
            Left { data: &a[first..], rows: count, row_stride: 1, depth_stride: rows }
        } else {
            Left { data: &a[first * self.depth..], rows: count, row_stride: self.depth, depth_stride: 1 }
        }
    }
}
