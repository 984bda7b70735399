//! Sum, mean and maximum over any axes.

use std::sync::Arc;

use graph::ReduceOp;

use super::broadcast::Loops;
use super::fused::Kernel;
use crate::isa::Path;
use crate::kernel::reduce::{Rows, sum_rows};
use crate::pool::Pool;

/// Partial sums of a run, so that the compiler can use vectors and long sums lose less.
const PARTS: usize = 16;
/// Below so many numbers another thread isn't worth waking.
const PARALLEL_MIN: usize = 1 << 16;
/// Columns of one task: whole vectors on every path.
const TASK_COLUMNS: usize = 64;

/// The kernel of a reduction over `axes` of an input of this shape.
pub(crate) fn reduce(
    path: Path,
    pool: &Arc<Pool>,
    op: ReduceOp,
    from: &[usize],
    axes: &[usize],
) -> Arc<dyn Kernel> {
    let count: usize = axes.iter().map(|&axis| from[axis]).product();
    if let (ReduceOp::Sum | ReduceOp::Mean, Some(&[lead, rows, columns])) = (op, middle(from, axes).as_ref())
        && columns > 1
    {
        let divide = (op == ReduceOp::Mean).then_some(count as f32);
        return Arc::new(SumRows { path, pool: pool.clone(), op, lead, rows, columns, divide });
    }
    let mut kept = from.to_vec();
    axes.iter().for_each(|&axis| kept[axis] = 1);
    Arc::new(Reduce { op, loops: Loops::new(from, [&kept]), count })
}

/// The sizes before, along and after axes that stand together.
fn middle(from: &[usize], axes: &[usize]) -> Option<[usize; 3]> {
    let (&first, &last) = (axes.iter().min()?, axes.iter().max()?);
    let together = (first..=last).all(|axis| axes.contains(&axis));
    let product = |dims: &[usize]| dims.iter().product();
    together.then(|| [product(&from[..first]), product(&from[first..=last]), product(&from[last + 1..])])
}

/// The sum of each matrix's rows, or their mean: x `[lead, rows, columns]` → `[lead, columns]`.
#[derive(Debug)]
struct SumRows {
    path: Path,
    pool: Arc<Pool>,
    op: ReduceOp,
    lead: usize,
    rows: usize,
    columns: usize,
    divide: Option<f32>,
}

impl Kernel for SumRows {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let (x, y) = (inputs[0], &mut *outputs[0]);
        let size = self.rows * self.columns;
        let part = |matrix: usize, first: usize, y: &mut [f32]| {
            let data = x.get(matrix * size + first..).unwrap_or_default();
            let rows = Rows { data, rows: self.rows, columns: y.len(), stride: self.columns };
            sum_rows(self.path, rows, self.divide, y);
        };
        let threads = if self.lead * size < PARALLEL_MIN { 1 } else { self.pool.threads() };
        if threads == 1 {
            y.chunks_mut(self.columns).enumerate().for_each(|(matrix, y)| part(matrix, 0, y));
            return;
        }
        let group = self.lead.div_ceil(4 * threads);
        let mut tasks = Vec::new();
        for (index, y) in y.chunks_mut(group * self.columns).enumerate() {
            if group > 1 {
                tasks.push((index * group, 0, y));
                continue;
            }
            for (strip, y) in y.chunks_mut(TASK_COLUMNS).enumerate() {
                tasks.push((index, strip * TASK_COLUMNS, y));
            }
        }
        self.pool.run(tasks, |(matrix, first, y)| {
            if group == 1 {
                return part(matrix, first, y);
            }
            y.chunks_mut(self.columns).enumerate().for_each(|(index, y)| part(matrix + index, 0, y));
        });
    }
}

/// Any reduction.
#[derive(Debug)]
struct Reduce {
    op: ReduceOp,
    /// Over the input, with the output as the operand that repeats along the reduced axes.
    loops: Loops<1>,
    /// How many elements make one.
    count: usize,
}

impl Kernel for Reduce {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        let (x, y) = (inputs[0], &mut *outputs[0]);
        match self.op {
            ReduceOp::Sum => self.accumulate(x, y, 0.0, |a, b| a + b),
            ReduceOp::Mean => {
                self.accumulate(x, y, 0.0, |a, b| a + b);
                y.iter_mut().for_each(|y| *y /= self.count as f32);
            }
            ReduceOp::Max => {
                self.accumulate(x, y, f32::NEG_INFINITY, |a, b| if b.is_nan() || b >= a { b } else { a });
            }
        }
    }
}

impl Reduce {
    fn accumulate(&self, x: &[f32], y: &mut [f32], start: f32, f: impl Fn(f32, f32) -> f32 + Copy) {
        y.fill(start);
        self.loops.runs(|at, [to], len, [stride]| {
            let x = &x[at..at + len];
            if stride == 0 {
                y[to] = f(y[to], fold(x, start, f));
            } else if stride == 1 {
                y[to..to + len].iter_mut().zip(x).for_each(|(y, x)| *y = f(*y, *x));
            } else {
                x.iter().enumerate().for_each(|(i, x)| y[to + i * stride] = f(y[to + i * stride], *x));
            }
        });
    }
}

/// A run in a fixed order: lane by lane, then the lanes in pairs, then the rest.
fn fold(x: &[f32], start: f32, f: impl Fn(f32, f32) -> f32 + Copy) -> f32 {
    let mut parts = [start; PARTS];
    let chunks = x.chunks_exact(PARTS);
    let rest = chunks.remainder();
    for chunk in chunks {
        parts.iter_mut().zip(chunk).for_each(|(part, x)| *part = f(*part, *x));
    }
    let mut half = PARTS / 2;
    while half > 0 {
        (0..half).for_each(|i| parts[i] = f(parts[i], parts[i + half]));
        half /= 2;
    }
    rest.iter().fold(parts[0], |sum, x| f(sum, *x))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 48 times the same number: pairs of equal sums are exact, a chain of all is not.
    #[test]
    fn a_run_is_summed_in_lanes_and_these_in_pairs() {
        let x = [0.1f32; 3 * PARTS];
        let three = 0.1f32 + 0.1 + 0.1;
        assert_eq!(fold(&x, 0.0, |a, b| a + b), three * PARTS as f32);
        assert_ne!(x.iter().sum::<f32>(), three * PARTS as f32);
        let rest = [x.as_slice(), &[0.5, 0.25]].concat();
        assert_eq!(fold(&rest, 0.0, |a, b| a + b), three * PARTS as f32 + 0.5 + 0.25);
        assert_eq!(fold(&[3.0, 7.0, 5.0], f32::NEG_INFINITY, f32::max), 7.0);
    }

    #[test]
    fn axes_that_stand_together_are_a_matrix_of_rows() {
        assert_eq!(middle(&[2, 3, 4, 5], &[1, 2]), Some([2, 12, 5]));
        assert_eq!(middle(&[2, 3, 4], &[2]), Some([6, 4, 1]));
        assert_eq!(middle(&[2, 3, 4], &[0, 2]), None);
        assert_eq!(middle(&[2], &[]), None);
    }

    #[test]
    fn sums_of_rows_have_the_same_bits_on_any_number_of_threads() {
        for (lead, rows, columns) in [(1, 3000, 100), (64, 60, 128), (3, 700, 65)] {
            let x: Vec<f32> =
                (0..lead * rows * columns).map(|i| (i * 31 % 997) as f32 * 0.01 - 4.0).collect();
            let results = [1, 2, 5].map(|threads| {
                let pool = Arc::new(Pool::new(threads, std::time::Duration::ZERO));
                let kernel = reduce(Path::best(), &pool, ReduceOp::Mean, &[lead, rows, columns], &[1]);
                let mut y = vec![f32::NAN; lead * columns];
                kernel.run(&[&x], &mut [&mut y]);
                y
            });
            assert!(results.iter().all(|y| *y == results[0]), "{lead} {rows} {columns}");
            let want: f64 = (0..rows).map(|r| f64::from(x[r * columns + 1])).sum::<f64>() / rows as f64;
            assert!((f64::from(results[0][1]) - want).abs() < 1e-6);
        }
    }
}
