//! Loops over a shape with several operands that broadcast to it, in runs along the last axis.

/// A row-major walk over `dims`, in which operand i steps by `strides[axis][i]` along each axis.
/// Adjacent axes are merged where every operand's strides allow it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Loops<const N: usize> {
    dims: Vec<usize>,
    strides: Vec<[usize; N]>,
}

impl<const N: usize> Loops<N> {
    /// Operands of the given dimensions, aligned at the last axis; an axis that is 1 or missing repeats.
    pub(crate) fn new(dims: &[usize], operands: [&[usize]; N]) -> Self {
        let of_operands = operands.map(|operand| broadcast_strides(operand, dims.len()));
        let strides: Vec<[usize; N]> =
            (0..dims.len()).map(|axis| std::array::from_fn(|i| of_operands[i][axis])).collect();
        Self::merged(dims, &strides)
    }

    fn merged(dims: &[usize], strides: &[[usize; N]]) -> Self {
        let mut loops = Loops { dims: vec![1], strides: vec![[0; N]] };
        for (&dim, stride) in dims.iter().zip(strides) {
            if dim == 1 {
                continue;
            }
            let last = loops.dims.len() - 1;
            let outer = loops.strides[last];
            if loops.dims[last] == 1 {
                (loops.dims[last], loops.strides[last]) = (dim, *stride);
            } else if (0..N).all(|i| outer[i] == stride[i] * dim) {
                loops.dims[last] *= dim;
                loops.strides[last] = *stride;
            } else {
                loops.dims.push(dim);
                loops.strides.push(*stride);
            }
        }
        loops
    }

    /// Calls `f(at, offsets, len, strides)` for each run: `len` elements from `at` of the walk, where operand i
    /// starts at `offsets[i]` and steps by `strides[i]`.
    pub(crate) fn runs(&self, mut f: impl FnMut(usize, [usize; N], usize, [usize; N])) {
        let last = self.dims.len() - 1;
        let (len, strides) = (self.dims[last], self.strides[last]);
        let outer = &self.dims[..last];
        let mut index = vec![0; last];
        let mut offsets = [0; N];
        for run in 0..outer.iter().product() {
            f(run * len, offsets, len, strides);
            for axis in (0..last).rev() {
                index[axis] += 1;
                let step = self.strides[axis];
                if index[axis] < outer[axis] {
                    (0..N).for_each(|i| offsets[i] += step[i]);
                    break;
                }
                index[axis] = 0;
                (0..N).for_each(|i| offsets[i] -= step[i] * (outer[axis] - 1));
            }
        }
    }
}

impl Loops<1> {
    /// The walk over a transposed operand: axis i is the operand's axis `axes[i]`.
    pub(crate) fn transposed(operand: &[usize], axes: &[usize]) -> Self {
        let strides = broadcast_strides(operand, operand.len());
        let dims: Vec<usize> = axes.iter().map(|&axis| operand[axis]).collect();
        let strides: Vec<[usize; 1]> = axes.iter().map(|&axis| [strides[axis]]).collect();
        Self::merged(&dims, &strides)
    }
}

/// Row-major strides of an operand along the axes of a shape of `rank`; 0 where it repeats.
fn broadcast_strides(operand: &[usize], rank: usize) -> Vec<usize> {
    let mut strides = vec![0; rank];
    let mut step = 1;
    for (axis, &dim) in operand.iter().enumerate().rev() {
        if dim != 1 {
            strides[rank - operand.len() + axis] = step;
        }
        step *= dim;
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(dims: &[usize], a: &[usize], b: &[usize]) -> Vec<[usize; 2]> {
        let mut all = vec![[usize::MAX; 2]; dims.iter().product()];
        Loops::new(dims, [a, b]).runs(|at, start, len, strides| {
            for i in 0..len {
                all[at + i] = [start[0] + i * strides[0], start[1] + i * strides[1]];
            }
        });
        all
    }

    #[test]
    fn offsets_are_those_of_numpy() {
        let dims = [2, 3, 4];
        for a in [vec![2, 3, 4], vec![3, 1], vec![4], vec![], vec![2, 1, 4], vec![2, 1, 1], vec![1, 3, 4]] {
            for b in [vec![2, 3, 4], vec![1, 1, 1], vec![2, 3, 1], vec![3, 4]] {
                let want: Vec<[usize; 2]> = (0..24)
                    .map(|flat| {
                        let index = [flat / 12, flat / 4 % 3, flat % 4];
                        [&a, &b].map(|operand| {
                            let skip = 3 - operand.len();
                            operand.iter().enumerate().fold(0, |offset, (axis, &dim)| {
                                offset * dim + if dim == 1 { 0 } else { index[axis + skip] }
                            })
                        })
                    })
                    .collect();
                assert_eq!(offsets(&dims, &a, &b), want, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn equal_shapes_are_one_run() {
        let mut runs = 0;
        Loops::new(&[2, 3, 4], [&[2, 3, 4], &[]]).runs(|_, _, len, _| {
            assert_eq!(len, 24);
            runs += 1;
        });
        assert_eq!(runs, 1);
    }

    #[test]
    fn a_scalar_is_one_run_of_one() {
        assert_eq!(offsets(&[], &[], &[1]), [[0, 0]]);
    }
}
