//! Nets of causal convolutions as whole plans: bits that depend on nothing but the inputs.

use graph::training::{Optimiser, training_graph};
use graph::{Executor, Graph, Initial, ReduceOp, Shape, UnaryOp, builder::Builder};

use super::sliding::check_bits;
use super::{executors, numbers, run};
use crate::{Cpu, CpuOptions, Isa};

const STEPS: usize = 60;
const FEATURES: usize = 16;

/// Two layers, large enough for threads to share a window; a mean over it or its last place, and a head.
fn net(pooled: bool) -> Graph {
    let mut b = Builder::new();
    let mut y = b.input("x", Shape::batch(&[STEPS, FEATURES])).unwrap();
    let mut width = FEATURES;
    for (layer, (taps, channels, dilation)) in [(3, 64, 1), (2, 128, 2)].into_iter().enumerate() {
        let mut state = |name: &str, dims: &[usize], initial| {
            b.state(&format!("{name}{layer}"), Shape::fixed(dims), initial, true).unwrap()
        };
        let w = state("w", &[taps, width, channels], Initial::Glorot);
        let bias = state("b", &[channels], Initial::UniformRoot { n: width });
        y = b.conv1d(y, w, bias, dilation).unwrap();
        y = b.unary(UnaryOp::Relu, y).unwrap();
        width = channels;
    }
    let one = if pooled {
        b.reduce(ReduceOp::Mean, y, &[1], false).unwrap()
    } else {
        let last = b.slice(y, 1, STEPS - 1, STEPS).unwrap();
        b.reshape(last, Shape::batch(&[width])).unwrap()
    };
    let head = b.state("head", Shape::fixed(&[width, 1]), Initial::Glorot, true).unwrap();
    let y = b.matmul(one, head, false, false).unwrap();
    b.output("prediction", y).unwrap();
    b.finish().unwrap()
}

#[test]
fn a_window_has_the_same_bits_sliding_in_any_batch_and_on_any_number_of_threads() {
    let graph = net(false);
    let mut seen: Vec<(Isa, Vec<f32>)> = Vec::new();
    for cpu in [1, 2, 5].into_iter().flat_map(executors) {
        check_bits(&cpu, &graph, (STEPS, FEATURES), "causal net");
        let sizes = [1, 2, 3, 4, 9];
        let mut plan = cpu.prepare(&graph, &sizes).unwrap();
        let x = numbers(9 * STEPS * FEATURES, 3);
        let together = run(plan.as_mut(), 9, &[&x], 1).swap_remove(0);
        for batch in sizes {
            let part = run(plan.as_mut(), batch, &[&x[..batch * STEPS * FEATURES]], 1).swap_remove(0);
            assert_eq!(part, together[..batch], "{} batch {batch}", cpu.isa());
        }
        match seen.iter().find(|(isa, _)| *isa == cpu.isa()) {
            Some((isa, before)) => assert_eq!(*before, together, "{isa}"),
            None => seen.push((cpu.isa(), together)),
        }
    }
}

#[test]
fn training_has_the_same_bits_on_any_number_of_threads_and_converges() {
    let step = training_graph(&net(true), &graph::loss::Loss::MeanSquared, &Optimiser::default()).unwrap();
    let batch = 37;
    let train = |threads: usize| {
        let cpu = Cpu::new(CpuOptions { threads, ..CpuOptions::default() }).unwrap();
        let mut plan = cpu.prepare(&step, &[batch]).unwrap();
        let x = numbers(batch * STEPS * FEATURES, 5);
        let target: Vec<f32> = x
            .chunks(STEPS * FEATURES)
            .map(|window| window.iter().step_by(FEATURES).sum::<f32>() * 0.1)
            .collect();
        let losses: Vec<f32> =
            (0..40).map(|_| run(plan.as_mut(), batch, &[&x, &target, &[3e-3]], 2)[0][0]).collect();
        (losses, plan.save())
    };
    let one = train(1);
    assert!(one.0[39] < 0.2 * one.0[0], "{:?}", one.0);
    for threads in [2, 5] {
        assert!(train(threads) == one, "{threads} threads");
    }
}

/// A convolution of one channel is summed as the product by one column is that a sliding row makes of it.
#[test]
fn a_net_of_one_channel_slides_to_the_same_bits() {
    let (steps, features) = (21, 5);
    let mut b = Builder::new();
    let mut y = b.input("x", Shape::batch(&[steps, features])).unwrap();
    for (layer, (width, taps, dilation)) in [(features, 3, 4), (1, 3, 1), (1, 3, 5)].into_iter().enumerate() {
        let w = Shape::fixed(&[taps, width, 1]);
        let w = b.state(&format!("w{layer}"), w, Initial::Glorot, true).unwrap();
        let bias = b.state(&format!("b{layer}"), Shape::fixed(&[1]), Initial::Constant(0.3), true).unwrap();
        y = b.conv1d(y, w, bias, dilation).unwrap();
    }
    let last = b.slice(y, 1, steps - 1, steps).unwrap();
    let last = b.reshape(last, Shape::batch(&[1])).unwrap();
    b.output("prediction", last).unwrap();
    let graph = b.finish().unwrap();
    for cpu in executors(1) {
        check_bits(&cpu, &graph, (steps, features), "one channel");
    }
}
