//! Parzen estimators: densities of the parameter values that were tried, as Optuna builds them with its defaults.
//!
//! On a range, a mixture of normals cut off at its ends: one at each value, as wide as the larger distance to a
//! neighbour, and a prior in the middle as wide as the range (Bergstra et al. 2011, section 4). No width is less than the
//! range divided by min(100, 1 + number of normals) ("magic clip"). The ends are no neighbours. Of choices, counts with
//! a prior of one spread over all.

use crate::random::Random;

/// Draws of a normal until one lies within the range. A mean within it gets there at least every third time.
const DRAWS_MAX: usize = 1000;

/// The weights of values in the order of their trials: all 1 up to 25 of them; beyond, older ones count less, from
/// 1/n rising to 1, but the newest 25.
fn weights(count: usize) -> Vec<f64> {
    const FULL: usize = 25;
    let ramp = count.saturating_sub(FULL);
    let first = 1.0 / count.max(1) as f64;
    let rising =
        |i: usize| if ramp < 2 { first } else { first + (1.0 - first) * i as f64 / (ramp - 1) as f64 };
    (0..count).map(|i| if i < ramp { rising(i) } else { 1.0 }).collect()
}

/// A density on a range.
#[derive(Clone, Debug)]
pub struct Mixture {
    low: f64,
    high: f64,
    kernels: Vec<Kernel>,
}

#[derive(Clone, Copy, Debug)]
struct Kernel {
    mean: f64,
    deviation: f64,
    /// All add up to 1.
    weight: f64,
    /// Of it, what lies within the range.
    mass: f64,
}

impl Mixture {
    /// Of values within `low..=high`, oldest first; `low < high`.
    pub fn of(values: &[f64], low: f64, high: f64) -> Mixture {
        let width = high - low;
        let mut means = values.to_vec();
        means.push(0.5 * (low + high));
        let deviations = deviations(&means, low, high);
        let mut weights = weights(values.len());
        weights.push(1.0);
        let sum: f64 = weights.iter().sum();
        let kernel = |i: usize| {
            let (mean, deviation) = (means[i], if i == values.len() { width } else { deviations[i] });
            let mass = between(mean, deviation, low, high);
            Kernel { mean, deviation, weight: weights[i] / sum, mass }
        };
        Mixture { low, high, kernels: (0..means.len()).map(kernel).collect() }
    }

    /// A draw, within the range.
    pub fn draw(&self, random: &mut Random) -> f64 {
        let kernel = &self.kernels[pick(self.kernels.iter().map(|k| k.weight), random)];
        for _ in 0..DRAWS_MAX {
            let x = kernel.mean + kernel.deviation * random.normal();
            if (self.low..=self.high).contains(&x) {
                return x;
            }
        }
        self.low + (self.high - self.low) * random.uniform()
    }

    /// The logarithm of the density at `from` where `from == until`, else of the probability between them.
    pub fn log_likelihood(&self, from: f64, until: f64) -> f64 {
        let likelihood = |k: &Kernel| {
            let z = (from - k.mean) / k.deviation;
            let inside = if from == until {
                (-0.5 * z * z).exp() / (k.deviation * std::f64::consts::TAU.sqrt())
            } else {
                between(k.mean, k.deviation, from.max(self.low), until.min(self.high))
            };
            k.weight * inside / k.mass
        };
        self.kernels.iter().map(likelihood).sum::<f64>().max(f64::MIN_POSITIVE).ln()
    }
}

/// For each mean the larger distance to its neighbours, clipped. The last mean is the prior's; its own isn't used.
fn deviations(means: &[f64], low: f64, high: f64) -> Vec<f64> {
    let count = means.len();
    let width = high - low;
    let least = width / (1 + count).min(100) as f64;
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| means[a].total_cmp(&means[b]));
    let mut found = vec![width; count];
    for (at, &i) in order.iter().enumerate() {
        let before = at.checked_sub(1).map(|b| means[i] - means[order[b]]);
        let after = order.get(at + 1).map(|&a| means[a] - means[i]);
        let distance = match (before, after) {
            (Some(before), Some(after)) => before.max(after),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => width,
        };
        found[i] = distance.clamp(least, width);
    }
    found
}

/// The probability of a normal between two places.
fn between(mean: f64, deviation: f64, from: f64, until: f64) -> f64 {
    let below = |x: f64| 0.5 * libm::erfc(-(x - mean) / (deviation * std::f64::consts::SQRT_2));
    // Far out to the right the difference of two numbers near 1 is lost: then it is taken from the other side.
    let above = |x: f64| 0.5 * libm::erfc((x - mean) / (deviation * std::f64::consts::SQRT_2));
    let difference = if from > mean { above(from) - above(until) } else { below(until) - below(from) };
    difference.max(f64::MIN_POSITIVE)
}

/// An index by its weight; the weights add up to 1.
fn pick(weights: impl ExactSizeIterator<Item = f64>, random: &mut Random) -> usize {
    let last = weights.len().saturating_sub(1);
    let mut left = random.uniform();
    for (i, weight) in weights.enumerate() {
        if left < weight {
            return i;
        }
        left -= weight;
    }
    last
}

/// Probabilities of choices.
#[derive(Clone, Debug)]
pub struct Counts {
    shares: Vec<f64>,
}

impl Counts {
    /// Of indices below `options`, oldest first.
    pub fn of(chosen: &[usize], options: usize) -> Counts {
        let kernels = chosen.len() + 1;
        let mut weights = weights(chosen.len());
        weights.push(1.0);
        let sum: f64 = weights.iter().sum();
        // Each kernel has a prior of 1 / kernels on every choice, and 1 on its own; the last has none.
        let prior = 1.0 / kernels as f64;
        let row = 1.0 + prior * options as f64;
        let base = 1.0 / options as f64;
        let mut shares = vec![weights[kernels - 1] / sum * base; options];
        for (&index, weight) in chosen.iter().zip(&weights) {
            shares.iter_mut().for_each(|share| *share += weight / sum * prior / row);
            shares[index] += weight / sum / row;
        }
        Counts { shares }
    }

    pub fn draw(&self, random: &mut Random) -> usize {
        pick(self.shares.iter().copied(), random)
    }

    pub fn log_likelihood(&self, index: usize) -> f64 {
        self.shares[index].ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn densities_integrate_to_one_and_draws_stay_inside() {
        let mut random = Random::new(1);
        for count in [0, 1, 2, 7, 60] {
            let values: Vec<f64> = (0..count).map(|_| -2.0 + 5.0 * random.uniform()).collect();
            let mixture = Mixture::of(&values, -2.0, 3.0);
            let step = 5.0 / 20_000.0;
            let density = |i: usize| {
                let x = -2.0 + (i as f64 + 0.5) * step;
                mixture.log_likelihood(x, x).exp()
            };
            let sum: f64 = (0..20_000).map(density).sum::<f64>() * step;
            assert!((sum - 1.0).abs() < 1e-6, "{count}: {sum}");
            let masses: f64 =
                (0..5).map(|i| mixture.log_likelihood(i as f64 - 2.0, i as f64 - 1.0).exp()).sum();
            assert!((masses - 1.0).abs() < 1e-9, "{count}: {masses}");
            assert!((0..2000).all(|_| (-2.0..=3.0).contains(&mixture.draw(&mut random))));
        }
    }

    #[test]
    fn widths_are_the_larger_distance_to_a_neighbour() {
        // Sorted with the prior at 5: 1, 2, 5, 9. The ends are no neighbours.
        let found = deviations(&[9.0, 1.0, 2.0, 5.0], 0.0, 10.0);
        assert_eq!(found[..3], [4.0, 2.0, 3.0], "1.0 is clipped to 10 / 5");
        assert_eq!(deviations(&[5.0], 0.0, 10.0), [10.0]);
    }

    #[test]
    fn older_values_count_less_beyond_25() {
        assert_eq!(weights(25), vec![1.0; 25]);
        let many = weights(30);
        assert_eq!(many[0], 1.0 / 30.0);
        assert!(many[..5].windows(2).all(|pair| pair[0] < pair[1]) && many[4..].iter().all(|&w| w == 1.0));
    }

    #[test]
    fn choices_have_shares_that_add_up() {
        let counts = Counts::of(&[0, 0, 2], 4);
        let shares: Vec<f64> = (0..4).map(|i| counts.log_likelihood(i).exp()).collect();
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{shares:?}");
        assert!(shares[0] > shares[2] && shares[2] > shares[1] && shares[1] == shares[3]);
        let mut random = Random::new(2);
        let drawn = (0..20_000).filter(|_| counts.draw(&mut random) == 0).count() as f64 / 20_000.0;
        assert!((drawn - shares[0]).abs() < 0.02, "{drawn} {shares:?}");
        assert_eq!(Counts::of(&[], 3).shares, [1.0 / 3.0; 3]);
    }
}
