//! How much each parameter by itself says about the value of a trial.
//!
//! The complete trials are ranked by value and, for one parameter, put into groups: of a choice one for each option, of a
//! range up to four of equal size by the parameter. The importance is the η² of Kruskal and Wallis's H, (H − k + 1) /
//! (n − k) for k groups of n trials (Tomczak and Tomczak 2014), 0 where that is negative: the share of the variance of
//! the ranks that lies between the groups, less what chance gives. It knows nothing of parameters that matter together,
//! and a sampler that looks for good values makes trials that aren't independent: it is a hint, not a test.

use super::space::{Domain, Space};
use super::trial::{Parameter, Trial};

/// With fewer complete trials nothing is said.
pub const TRIALS_MIN: usize = 8;
const GROUPS: usize = 4;

/// (parameter, importance 0..1), the most important first; parameters with one value are left out. Empty where there are
/// too few complete trials.
pub fn importances(space: &Space, trials: &[Trial]) -> Vec<(String, f64)> {
    let complete: Vec<(&Trial, f64)> = trials.iter().filter_map(|t| Some((t, t.value()?))).collect();
    if complete.len() < TRIALS_MIN {
        return Vec::new();
    }
    let values: Vec<f64> = complete.iter().map(|(_, value)| *value).collect();
    let ranks = ranks(&values);
    let mut found: Vec<(String, f64)> = space
        .iter()
        .filter(|(_, domain)| domain.count() != Some(1))
        .map(|(name, domain)| {
            let of: Vec<_> = complete.iter().map(|(trial, _)| trial.parameters.get(name)).collect();
            (name.to_string(), eta_squared(&groups(domain, &of), &ranks))
        })
        .collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    found
}

/// From 1; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let below = |x: f64| values.iter().filter(|&&y| y < x).count() as f64;
    let equal = |x: f64| values.iter().filter(|&&y| y == x).count() as f64;
    values.iter().map(|&x| below(x) + (equal(x) + 1.0) / 2.0).collect()
}

/// The group of each trial.
fn groups(domain: &Domain, values: &[Option<&Parameter>]) -> Vec<usize> {
    match domain {
        Domain::Choice { options } => {
            values.iter().map(|v| options.iter().position(|o| Some(o) == *v).unwrap_or(0)).collect()
        }
        Domain::Number { .. } | Domain::Integer { .. } => {
            let places: Vec<f64> =
                values.iter().map(|v| v.and_then(Parameter::as_f64).unwrap_or(0.0)).collect();
            // Equal values share a group: that of the middle of theirs.
            let middle = |rank: f64| (rank - 0.5) / places.len() as f64 * GROUPS as f64;
            ranks(&places).into_iter().map(|rank| (middle(rank) as usize).min(GROUPS - 1)).collect()
        }
    }
}

fn eta_squared(groups: &[usize], ranks: &[f64]) -> f64 {
    let count = ranks.len() as f64;
    let mean = ranks.iter().sum::<f64>() / count;
    let total: f64 = ranks.iter().map(|rank| (rank - mean).powi(2)).sum();
    let mut between = 0.0;
    let mut filled = 0.0;
    for group in 0..=groups.iter().copied().max().unwrap_or(0) {
        let of: Vec<f64> = groups.iter().zip(ranks).filter(|(g, _)| **g == group).map(|(_, r)| *r).collect();
        if !of.is_empty() {
            let size = of.len() as f64;
            filled += 1.0;
            between += size * (of.iter().sum::<f64>() / size - mean).powi(2);
        }
    }
    if total <= 0.0 || count <= filled {
        return 0.0;
    }
    // With ties H is divided by their correction: then it is (n − 1) times the share between the groups.
    let h = (count - 1.0) * between / total;
    ((h - filled + 1.0) / (count - filled)).clamp(0.0, 1.0)
}
