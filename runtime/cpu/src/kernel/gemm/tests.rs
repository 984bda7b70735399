//! Products against f64, at every tile shape and on every path.

use super::super::panels::Strides;
use super::transposed::Transposed;
use super::*;

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn truth(m: usize, n: usize, depth: usize, a: impl Fn(usize, usize) -> f32, b: &[f32]) -> Vec<f64> {
    let cell = |i: usize| (0..depth).map(|k| f64::from(a(i / n, k)) * f64::from(b[k * n + i % n])).sum();
    (0..m * n).map(cell).collect()
}

fn check(name: &str, got: &[f32], want: &[f64], depth: usize) {
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let limit = 1e-6 + 1e-7 * depth as f64;
        assert!((f64::from(*got) - want).abs() <= limit, "{name} element {i}: {got} is not {want}");
    }
}

#[test]
fn products_match_f64_at_every_tile_shape() {
    for path in Path::all() {
        for (m, n, depth) in [
            (1, 1, 1),
            (1, 200, 7),
            (2, 3, 5),
            (5, 65, 9),
            (6, 64, 16),
            (7, 130, 33),
            (13, 31, 1200),
            (1, 1, 7),
            (13, 1, 1203),
            (4, 17, 0),
        ] {
            let (a, b) = (numbers(m * depth, 1), numbers(depth * n, 2));
            let mut panels = Panels::default();
            panels.pack(path, depth, n, &b, Strides { row: n, column: 1 });
            let mut scratch = Aligned::default();
            let name = format!("{} {m}x{n}x{depth}", path.isa());

            let mut c = vec![9.0; m * n];
            let left = Left { data: &a, rows: m, row_stride: depth, depth_stride: 1 };
            gemm(path, left, &panels, &mut c, n, Start::Zero, &mut scratch);
            let want = truth(m, n, depth, |i, k| a[i * depth + k], &b);
            check(&name, &c, &want, depth);

            let bias = numbers(n, 3);
            let mut c = vec![9.0; m * n];
            gemm(path, left, &panels, &mut c, n, Start::Bias(&bias), &mut scratch);
            let plus: Vec<f64> = want.iter().enumerate().map(|(i, w)| w + f64::from(bias[i % n])).collect();
            check(&format!("{name} with bias"), &c, &plus, depth);

            let mut c = vec![9.0; m * n];
            let left = Left { data: &a, rows: m, row_stride: 1, depth_stride: m };
            gemm(path, left, &panels, &mut c, n, Start::Zero, &mut scratch);
            let want = truth(m, n, depth, |i, k| a[k * m + i], &b);
            check(&format!("{name} transposed"), &c, &want, depth);
        }
    }
}

#[test]
fn transposed_right_factor_packs_to_the_same_panels() {
    for path in Path::all() {
        let (depth, n) = (9, 70);
        let b = numbers(depth * n, 4);
        let transposed: Vec<f32> = (0..n * depth).map(|i| b[i % depth * n + i / depth]).collect();
        let (mut one, mut two) = (Panels::default(), Panels::default());
        one.pack(path, depth, n, &b, Strides { row: n, column: 1 });
        two.pack(path, depth, n, &transposed, Strides { row: 1, column: depth });
        assert!(one == two);
    }
}

#[test]
fn outer_products_match_f64() {
    for path in Path::all() {
        let (depth, rows, columns) = (19, 11usize, 70usize);
        let width = 4 * path.lanes();
        let stride = columns.next_multiple_of(width);
        let (left, right) = (numbers(depth * rows, 5), numbers(depth * stride, 6));
        let mut packed = Aligned::default();
        packed.resize(rows.next_multiple_of(rows_per_tile(path)) * depth);
        pack_transposed(path, &mut packed, (depth, 0), rows, &left, (10, rows));
        pack_transposed(path, &mut packed, (depth, 10), rows, &left[10 * rows..], (9, rows));
        let mut c = vec![2.0; rows * columns];
        Outer { depth, rows, columns, right: &right, right_stride: stride }.add(path, &packed, &mut c);
        let dense: Vec<f32> =
            (0..depth * columns).map(|i| right[i / columns * stride + i % columns]).collect();
        let want = truth(rows, columns, depth, |i, k| left[k * rows + i], &dense);
        let want: Vec<f64> = want.iter().map(|w| w + 2.0).collect();
        check(path.isa().name(), &c, &want, depth);
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_others() {
    for (path, n) in Path::all().into_iter().flat_map(|path| [(path, 150), (path, 1)]) {
        let (m, depth) = (23, 700);
        let (a, b) = (numbers(m * depth, 7), numbers(depth * n, 8));
        let mut panels = Panels::default();
        panels.pack(path, depth, n, &b, Strides { row: n, column: 1 });
        let mut scratch = Aligned::default();
        let mut run = |rows: std::ops::Range<usize>| {
            let mut c = vec![0.0; rows.len() * n];
            let left =
                Left { data: &a[rows.start * depth..], rows: rows.len(), row_stride: depth, depth_stride: 1 };
            gemm(path, left, &panels, &mut c, n, Start::Zero, &mut scratch);
            c
        };
        let together = run(0..m);
        for row in 0..m {
            assert_eq!(run(row..row + 1), together[row * n..(row + 1) * n]);
        }
    }
}

#[test]
fn transposed_products_match_f64_and_a_number_has_the_same_bits_in_any_part() {
    for path in Path::all() {
        for (m, n, depth) in [(1, 1, 1), (5, 17, 3), (13, 64, 129), (64, 70, 400), (7, 200, 256), (3, 4, 0)] {
            let (a, b) = (numbers(m * depth, 1), numbers(depth * n, 2));
            let (a_stride, b_stride) = (m, n);
            let whole = Transposed {
                a: &a,
                a_stride,
                first: 0,
                rows: m,
                b: &b,
                b_stride,
                column: 0,
                columns: n,
                depth,
            };
            let (mut c, mut scratch) = (vec![9.0; m * n], Aligned::default());
            whole.run(path, &mut c, &mut scratch);
            let want = truth(m, n, depth, |i, k| a[k * m + i], &b);
            check(&format!("{} {m}x{n}x{depth}", path.isa()), &c, &want, depth);
            for first in 0..m {
                let mut row = vec![9.0; n];
                Transposed { first, rows: 1, ..whole }.run(path, &mut row, &mut scratch);
                assert_eq!(row, c[first * n..][..n]);
            }
            for column in 0..n {
                let mut part = vec![9.0; m * (n - column)];
                Transposed { column, columns: n - column, ..whole }.run(path, &mut part, &mut scratch);
                for (part, row) in part.chunks(n - column).zip(c.chunks(n)) {
                    assert_eq!(part, &row[column..]);
                }
            }
        }
    }
}

/// One chain of so many multiply-adds would be off by several times as much.
#[test]
fn a_single_column_is_summed_in_several_chains() {
    for path in Path::all() {
        let depth = 4096;
        let (a, b) = (vec![0.1f32; depth], vec![1.0f32; depth]);
        let mut panels = Panels::default();
        panels.pack(path, depth, 1, &b, Strides { row: 1, column: 1 });
        let left = Left { data: &a, rows: 1, row_stride: depth, depth_stride: 1 };
        let mut c = [0.0];
        gemm(path, left, &panels, &mut c, 1, Start::Zero, &mut Aligned::default());
        let want = f64::from(0.1f32) * depth as f64;
        let chain = f64::from((0..depth).fold(0.0f32, |sum, _| sum + 0.1));
        let error = (f64::from(c[0]) - want).abs();
        assert!(error < (chain - want).abs() / 4.0, "{}: {error}", path.isa());
    }
}
