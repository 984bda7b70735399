//! Convolutions against f64 on every path, at every tile shape.

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

fn near(name: &str, got: &[f32], want: &[f64], terms: usize) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let limit = 1e-6 + 1e-7 * terms as f64;
        assert!((f64::from(*got) - want).abs() <= limit, "{name} element {i}: {got} is not {want}");
    }
}

/// For each product of the formula: the place of y, that of x, the tap.
fn products(shape: Shape) -> Vec<(usize, usize, usize)> {
    let mut all = Vec::new();
    for t in 0..shape.steps {
        for k in 0..shape.taps {
            if let Some(from) = t.checked_sub((shape.taps - 1 - k) * shape.dilation) {
                all.push((t, from, k));
            }
        }
    }
    all
}

fn layer(path: Path, shape: Shape, relu: bool, w: &[f32], bias: &[f32]) -> Arc<Layer> {
    let mut layer = Layer::default();
    layer.pack(path, shape, relu, w, bias);
    Arc::new(layer)
}

/// y, made by one thread, or by three in blocks.
fn forward(path: Path, layers: &[Arc<Layer>], x: &[f32], shared: bool, scratch: &mut Scratch) -> Vec<f32> {
    let last = layers[layers.len() - 1].shape();
    let mut y = vec![f32::NAN; last.steps * last.outputs];
    let window = Window::new(path, layers, (x, &mut y), shared, scratch);
    if shared {
        std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(|| window.work()))));
    } else {
        window.work();
    }
    drop(window);
    y
}

#[test]
fn a_chain_has_the_bits_of_its_layers_one_by_one_however_many_threads_share_it() {
    for path in Path::all() {
        for steps in [1, 5, 60, 61] {
            let sizes = [(7, 20, 3, 1), (20, 65, 2, 4), (65, 4, 4, 30), (4, 17, 5, 1)];
            let layers = sizes.map(|(features, outputs, taps, dilation)| {
                let shape = Shape { steps, features, outputs, taps, dilation };
                let w = numbers(taps * features * outputs, outputs as u32);
                layer(path, shape, outputs % 2 == 0, &w, &numbers(outputs, 3))
            });
            let x = numbers(steps * 7, 1);
            let mut scratch = Scratch::default();
            let mut one = x.clone();
            for layer in &layers {
                one = forward(path, std::slice::from_ref(layer), &one, false, &mut Scratch::default());
            }
            for shared in [false, true, true] {
                assert_eq!(forward(path, &layers, &x, shared, &mut scratch), one, "{} {steps}", path.isa());
            }
        }
    }
}

fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for (steps, features, outputs) in
        [(1, 1, 1), (5, 3, 2), (60, 32, 64), (13, 7, 65), (12, 16, 130), (7, 5, 31)]
    {
        for (taps, dilation) in [(1, 1), (2, 1), (3, 2), (5, 1), (2, 7), (4, 100), (3, 5)] {
            shapes.push(Shape { steps, features, outputs, taps, dilation });
        }
    }
    shapes
}

#[test]
fn the_forward_matches_f64() {
    for path in Path::all() {
        for shape in shapes() {
            let Shape { steps, features, outputs, taps, .. } = shape;
            let (x, w) = (numbers(steps * features, 1), numbers(taps * features * outputs, 2));
            let bias = numbers(outputs, 3);
            let mut want: Vec<f64> = bias.repeat(steps).iter().map(|&b| f64::from(b)).collect();
            for (t, from, k) in products(shape) {
                for f in 0..features {
                    for o in 0..outputs {
                        let w = w[(k * features + f) * outputs + o];
                        want[t * outputs + o] += f64::from(x[from * features + f]) * f64::from(w);
                    }
                }
            }
            let mut scratch = Scratch::default();
            let y = forward(path, &[layer(path, shape, false, &w, &bias)], &x, false, &mut scratch);
            let name = format!("{} {shape:?}", path.isa());
            near(&name, &y, &want, taps * features);
            // In blocks, over the scratch's old contents.
            let relu = forward(path, &[layer(path, shape, true, &w, &bias)], &x, true, &mut scratch);
            assert!(relu.iter().zip(&y).all(|(r, y)| *r == if *y < 0.0 { 0.0 } else { *y }), "{name}");
        }
    }
}

#[test]
fn the_backward_matches_f64_with_and_without_relu() {
    for path in Path::all() {
        for shape in shapes() {
            for relu in [false, true] {
                backward(path, shape, relu);
            }
        }
    }
}

fn backward(path: Path, shape: Shape, relu: bool) {
    let Shape { steps, features, outputs, taps, .. } = shape;
    let (x, w) = (numbers(2 * steps * features, 1), numbers(taps * features * outputs, 2));
    let (dy, y) = (numbers(2 * steps * outputs, 3), numbers(2 * steps * outputs, 4));
    let given = |i: usize| if relu && y[i] <= 0.0 { 0.0 } else { f64::from(dy[i]) };
    let mut dx = vec![0.0; x.len()];
    let (mut dw, mut db) = (vec![0.0; w.len()], vec![0.0; outputs]);
    for window in 0..2 {
        for t in 0..steps {
            (0..outputs).for_each(|o| db[o] += given((window * steps + t) * outputs + o));
        }
        for (t, from, k) in products(shape) {
            for f in 0..features {
                for o in 0..outputs {
                    let (i, weight) =
                        ((window * steps + from) * features + f, (k * features + f) * outputs + o);
                    let dy = given((window * steps + t) * outputs + o);
                    dx[i] += dy * f64::from(w[weight]);
                    dw[weight] += dy * f64::from(x[i]);
                }
            }
        }
    }
    let mut panels = Panels::default();
    pack_backward(path, shape, &w, &mut panels, &mut Aligned::default());
    let mut sums = Gradients::default();
    sums.clear(shape);
    let mut got = vec![f32::NAN; x.len()];
    let name = format!("{} {shape:?}, relu {relu}", path.isa());
    for window in 0..2 {
        let rows = |width: usize| window * steps * width..(window + 1) * steps * width;
        let positive = relu.then_some(&y[rows(outputs)]);
        let dx = Some(&mut got[rows(features)]);
        conv1d_backward(
            path,
            shape,
            (&x[rows(features)], &dy[rows(outputs)], positive),
            &panels,
            dx,
            &mut sums,
        );
    }
    near(&format!("{name}: dx"), &got, &dx, taps * outputs);
    near(&format!("{name}: dw"), &sums.dw, &dw, 2 * steps);
    near(&format!("{name}: db"), &sums.db, &db, 2 * steps);
}

#[test]
fn a_nan_stays_and_does_not_spread() {
    for path in Path::all() {
        let shape = Shape { steps: 8, features: 2, outputs: 3, taps: 2, dilation: 2 };
        let (mut x, w) = (numbers(16, 1), numbers(12, 2));
        x[2 * 3] = f32::NAN;
        let layers = [layer(path, shape, true, &w, &[0.0; 3])];
        let y = forward(path, &layers, &x, false, &mut Scratch::default());
        for (t, row) in y.chunks(3).enumerate() {
            assert!(row.iter().all(|y| y.is_nan() == (t == 3 || t == 5)), "{} place {t}", path.isa());
        }
    }
}
