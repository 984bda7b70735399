//! Dropout by a counter: the mask that `graph::reference::dropout_keeps` defines.

use super::fused::Kernel;

/// x, seed → x · mask / (1 − rate)
#[derive(Debug)]
pub(crate) struct Dropout {
    pub(crate) rate: f32,
    pub(crate) salt: u32,
}

impl Kernel for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        Keeps::new(self.salt, inputs[1][0] as u32, self.rate).apply(0, inputs[0], outputs[0]);
    }
}

/// The mask of one tensor, with what is the same for all elements computed once.
pub(crate) struct Keeps {
    key: u32,
    other: u32,
    rate: f32,
}

impl Keeps {
    pub(crate) fn new(salt: u32, seed: u32, rate: f32) -> Self {
        let key = mix(seed ^ mix(salt ^ 0x9e37_79b9));
        Keeps { key, other: mix(key ^ 0x85eb_ca6b), rate }
    }

    /// y = x · mask / (1 − rate) for the elements from `first` on.
    pub(crate) fn apply(&self, first: usize, x: &[f32], y: &mut [f32]) {
        let scale = (1.0 / (1.0 - f64::from(self.rate))) as f32;
        for (index, (x, y)) in x.iter().zip(y).enumerate() {
            *y = if self.at((first + index) as u32) { x * scale } else { 0.0 };
        }
    }

    #[inline]
    fn at(&self, index: u32) -> bool {
        let hash = mix(mix(index ^ self.key) ^ self.other);
        (hash >> 8) as f32 * (1.0 / 16_777_216.0) >= self.rate
    }
}

#[inline]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_the_reference_s() {
        for (salt, seed, rate) in [(0, 0, 0.0), (1, 7, 0.5), (u32::MAX, 16_777_215, 0.1), (9, 12345, 0.999)] {
            let keeps = Keeps::new(salt, seed, rate);
            for index in (0..5000).chain([u32::MAX, 1 << 31]) {
                assert_eq!(keeps.at(index), graph::reference::dropout_keeps(salt, seed, index, rate));
            }
        }
    }
}
