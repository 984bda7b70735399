//! The statistics: nearest-rank percentiles of a round, medians over rounds, ratios to the best peer.

/// The nearest-rank percentile of sorted numbers; of fewer than 1 / (1 − share) numbers it is the largest.
pub fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1));
    sorted.get(rank - 1).copied()
}

pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// What one engine's turn at a case gave. A figure that wasn't measured is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Round {
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub max_us: Option<f64>,
    pub per_second: Option<f64>,
}

impl Round {
    /// From the latencies of single runs, each of which did `items`.
    pub fn of_latencies(mut us: Vec<f64>, items: usize) -> Round {
        us.sort_by(f64::total_cmp);
        let total_s = us.iter().sum::<f64>() / 1e6;
        Round {
            p50_us: percentile(&us, 0.5),
            p99_us: percentile(&us, 0.99),
            max_us: us.last().copied(),
            per_second: (total_s > 0.0).then(|| (items * us.len()) as f64 / total_s),
        }
    }
}

/// Medians over the rounds; the maximum of all.
pub fn over_rounds(rounds: &[Round]) -> Round {
    Round {
        p50_us: median(rounds.iter().filter_map(|r| r.p50_us)),
        p99_us: median(rounds.iter().filter_map(|r| r.p99_us)),
        max_us: rounds.iter().filter_map(|r| r.max_us).reduce(f64::max),
        per_second: median(rounds.iter().filter_map(|r| r.per_second)),
    }
}

/// Which figure a case compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// p50: less is better.
    Latency,
    /// Per second: more is better.
    Throughput,
}

/// Our best against the peers' best, above 1 when ours is better. `None` without figures of both.
pub fn ratio(
    compare: Compare,
    ours: impl Iterator<Item = Round>,
    peers: impl Iterator<Item = Round>,
) -> Option<f64> {
    let ratio = match compare {
        Compare::Latency => {
            let best =
                |rounds: &mut dyn Iterator<Item = Round>| rounds.filter_map(|r| r.p50_us).reduce(f64::min);
            let (mut ours, mut peers) = (ours, peers);
            best(&mut peers)? / best(&mut ours)?
        }
        Compare::Throughput => {
            ours.filter_map(|r| r.per_second).reduce(f64::max)?
                / peers.filter_map(|r| r.per_second).reduce(f64::max)?
        }
    };
    ratio.is_finite().then_some(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        for (share, expected) in [(0.5, 50.0), (0.99, 99.0), (0.991, 100.0), (1.0, 100.0), (0.0, 1.0)] {
            assert_eq!(percentile(&hundred, share), Some(expected), "{share}");
        }
        assert_eq!(percentile(&[7.0], 0.5), Some(7.0));
        assert_eq!(percentile(&[1.0, 2.0, 3.0], 0.99), Some(3.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn medians_of_even_and_odd_counts() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
    }

    #[test]
    fn a_round_counts_items_over_the_time_spent() {
        let round = Round::of_latencies(vec![300.0, 100.0, 200.0], 4);
        let expected = [Some(200.0), Some(300.0), Some(300.0)];
        assert_eq!([round.p50_us, round.p99_us, round.max_us], expected);
        assert!((round.per_second.unwrap() - 20_000.0).abs() < 1e-6);
        assert_eq!(Round::of_latencies(Vec::new(), 4), Round::default());
    }

    fn round(p50_us: f64, max_us: f64, per_second: f64) -> Round {
        Round { p50_us: Some(p50_us), p99_us: None, max_us: Some(max_us), per_second: Some(per_second) }
    }

    #[test]
    fn over_rounds_takes_medians_and_the_maximum() {
        let found = over_rounds(&[round(1.0, 9.0, 10.0), round(5.0, 2.0, 30.0), round(2.0, 3.0, 20.0)]);
        assert_eq!(found, round(2.0, 9.0, 20.0));
    }

    #[test]
    fn ratios_are_above_one_when_ours_is_better() {
        let ours = [round(10.0, 0.0, 100.0), round(5.0, 0.0, 150.0)];
        let peers = [round(20.0, 0.0, 50.0), round(40.0, 0.0, 300.0)];
        let found = |compare| ratio(compare, ours.iter().cloned(), peers.iter().cloned());
        assert_eq!(found(Compare::Latency), Some(4.0));
        assert_eq!(found(Compare::Throughput), Some(0.5));
        assert_eq!(ratio(Compare::Latency, ours.iter().cloned(), std::iter::empty()), None);
        let nothing = std::iter::repeat_n(Round::default(), 2);
        assert_eq!(ratio(Compare::Throughput, ours.iter().cloned(), nothing), None);
    }
}
