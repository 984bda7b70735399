//! What the rows put into their inputs. All of it is a function of the counter, so a failure repeats.

/// How one input is filled, anew for each run.
#[derive(Clone, Debug, PartialEq)]
pub enum Fill {
    /// Uniform within ± the number.
    Noise(f32),
    /// The same, with every 13th element 32 times as large.
    Outliers(f32),
    /// The same around another mean.
    Around { mean: f32, spread: f32 },
    /// Uniform between two numbers above 0.
    Between(f32, f32),
    /// These numbers over and over.
    Cycle(Vec<f32>),
    /// The same number everywhere.
    Constant(f32),
    /// 1 in the first run, 2 in the second: an optimiser's step.
    RunNumber,
    /// A dropout seed: the largest, then 0, then others.
    Seed,
    /// Rows of so many numbers above 0 that sum to 1.
    Probabilities(usize),
}

impl Fill {
    /// `count` numbers for the input of this index, in this run.
    pub fn values(&self, count: usize, input: usize, run: usize) -> Vec<f32> {
        let unit = |i: usize| unit((input as u32) << 24 ^ (run as u32) << 20 ^ i as u32);
        let signed = |i: usize| 2.0 * unit(i) - 1.0;
        (0..count)
            .map(|i| match self {
                Fill::Noise(scale) => scale * signed(i),
                Fill::Outliers(scale) if i % 13 == 5 => 32.0 * scale * signed(i),
                Fill::Outliers(scale) => scale * signed(i),
                Fill::Around { mean, spread } => mean + spread * signed(i),
                Fill::Between(low, high) => low + (high - low) * unit(i),
                Fill::Cycle(values) => values[(i + run) % values.len()],
                Fill::Constant(x) => *x,
                Fill::RunNumber => (run + 1) as f32,
                Fill::Seed => [16_777_215.0, 0.0, 1.0, 8_675_309.0][run % 4],
                Fill::Probabilities(classes) => {
                    let row = i / classes * classes;
                    let sum: f32 = (row..row + classes).map(|j| 0.1 + unit(j)).sum();
                    (0.1 + unit(i)) / sum
                }
            })
            .collect()
    }
}

/// Between 0 and 1, of 24 bits.
fn unit(counter: u32) -> f32 {
    let mut x = counter.wrapping_add(0x9e37_79b9);
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    ((x ^ (x >> 16)) >> 8) as f32 / 16_777_216.0
}
