//! The numbers that look random and are not: dropout's mask and the initial values of states, both pure
//! functions of a counter.

use crate::graph::{Graph, Initial};
use crate::tensor::Tensor;

/// Whether dropout keeps an element. Every executor computes exactly this, in u32 arithmetic modulo 2³²:
///
/// ```text
/// mix(x):  x ^= x >> 16;  x *= 0x7feb352d;  x ^= x >> 15;  x *= 0x846ca68b;  x ^= x >> 16
/// key   =  mix(seed ^ mix(salt ^ 0x9e3779b9))            (once for a tensor)
/// other =  mix(key ^ 0x85ebca6b)                         (once for a tensor)
/// hash  =  mix(mix(index ^ key) ^ other)
/// keep  =  f32(hash >> 8) · 2⁻²⁴ >= rate                 (exact in f32: the left side has 24 bits)
/// ```
///
/// `mix` is Wellons' lowbias32. `seed` is the seed scalar, an f32 that holds an integer from 0 to 2²⁴ − 1,
/// converted to u32 by truncation. `index` is the element's row-major index in the whole tensor, its low 32 bits.
pub fn dropout_keeps(salt: u32, seed: u32, index: u32, rate: f32) -> bool {
    let key = mix(seed ^ mix(salt ^ 0x9e37_79b9));
    let other = mix(key ^ 0x85eb_ca6b);
    let hash = mix(mix(index ^ key) ^ other);
    (hash >> 8) as f32 * (1.0 / 16_777_216.0) >= rate
}

fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// How every state of a verified graph starts, in the order of `Graph::states`. The values depend on the
/// seed, the state's name and its shape alone, so that another state more or less changes nothing.
pub fn initial_states(graph: &Graph, seed: u64) -> Vec<(String, Tensor)> {
    let initial = |state: &crate::StateSpec| {
        let dims = graph.node(state.node).shapes[0].to_fixed().expect("verified: a state's shape is fixed");
        (state.name.clone(), initial_tensor(&state.initial, dims, stream(seed, &state.name)))
    };
    graph.states.iter().map(initial).collect()
}

fn initial_tensor(initial: &Initial, dims: Vec<usize>, stream: u64) -> Tensor {
    let mut tensor = Tensor::zeros(&dims);
    let data = tensor.data_mut();
    match initial {
        Initial::Zeros => {}
        Initial::Constant(x) => data.fill(*x),
        Initial::Glorot => {
            let (fan_in, fan_out) = fans(&dims);
            fill_uniform(data, (6.0 / (fan_in + fan_out) as f64).sqrt(), stream);
        }
        Initial::He => fill_uniform(data, (6.0 / fans(&dims).0 as f64).sqrt(), stream),
        Initial::Normal { deviation } => fill_normal(data, *deviation, stream),
        Initial::UniformRoot { n } => fill_uniform(data, 1.0 / (*n as f64).sqrt(), stream),
        Initial::LstmBias => {
            let hidden = data.len() / 4;
            data[hidden..2 * hidden].fill(1.0);
        }
        Initial::Given(given) => data.copy_from_slice(given.data()),
    }
    tensor
}

/// Weights are input-major: the last axis is the output, the others together the input.
fn fans(dims: &[usize]) -> (usize, usize) {
    match dims {
        [] => (1, 1),
        [n] => (*n, *n),
        [inputs @ .., output] => (inputs.iter().product(), *output),
    }
}

/// Uniform in ±limit: 24 bits of the counter's hash.
fn fill_uniform(data: &mut [f32], limit: f64, stream: u64) {
    for (counter, x) in data.iter_mut().enumerate() {
        *x = (share(stream, counter as u64) * 2.0 - 1.0) as f32 * limit as f32;
    }
}

/// Of each pair of numbers two of the normal distribution (Box and Muller 1958).
fn fill_normal(data: &mut [f32], deviation: f32, stream: u64) {
    for (pair, xs) in data.chunks_mut(2).enumerate() {
        let (u, v) = (share(stream, 2 * pair as u64), share(stream, 2 * pair as u64 + 1));
        let (radius, angle) = ((-2.0 * u.ln()).sqrt(), std::f64::consts::TAU * v);
        for (x, part) in xs.iter_mut().zip([angle.cos(), angle.sin()]) {
            *x = (radius * part) as f32 * deviation;
        }
    }
}

/// Number `counter` of the stream, above 0 and below 1.
fn share(stream: u64, counter: u64) -> f64 {
    let bits = split_mix(stream.wrapping_add(counter.wrapping_mul(0x9e37_79b9_7f4a_7c15))) >> 40;
    (bits as f64 + 0.5) / 16_777_216.0
}

/// One stream for each seed and name: FNV-1a of the name, mixed with the seed.
fn stream(seed: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    split_mix(hash ^ split_mix(seed))
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn split_mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
