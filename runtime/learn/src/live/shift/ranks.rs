//! A value's place and rank among the quantiles of a profile, and how far counted places are from them.

use serde::{Deserialize, Serialize};

/// The distinct quantiles of a column, rising, and where each stands among all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::live) struct Ranks {
    points: Vec<Point>,
    /// Greatest index among the quantiles.
    last: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    value: f32,
    from: f64,
    to: f64,
}

/// Values counted by place: 2i is below point i (and above the one before), 2i + 1 is point i itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::live) struct Slots {
    counts: Vec<u64>,
    /// Of ranks, and of how far they are from the middle: sums and sums of squares.
    sums: [f64; 2],
    squares: [f64; 2],
}

/// A rank, and how far it is from the middle, from 0 to 1: a location and a spread.
pub(in crate::live) fn sides(rank: f64) -> [f64; 2] {
    [rank, (2.0 * rank - 1.0).abs()]
}

impl Ranks {
    pub(in crate::live) fn new(quantiles: &[f32]) -> Self {
        let mut points: Vec<Point> = Vec::new();
        for (i, &value) in quantiles.iter().enumerate() {
            match points.last_mut() {
                Some(point) if point.value == value => point.to = i as f64,
                _ => points.push(Point { value, from: i as f64, to: i as f64 }),
            }
        }
        Ranks { points, last: quantiles.len().saturating_sub(1).max(1) as f64 }
    }

    pub(in crate::live) fn slots(&self) -> Slots {
        Slots { counts: vec![0; 2 * self.points.len() + 1], sums: [0.0; 2], squares: [0.0; 2] }
    }

    /// Place, and rank from 0 to 1: the middle of equal quantiles, linear between others.
    pub(in crate::live) fn of(&self, x: f32) -> (usize, f64) {
        let at = self.points.partition_point(|point| point.value < x);
        let here = self.points.get(at);
        if let Some(point) = here.filter(|point| point.value == x) {
            return (2 * at + 1, (point.from + point.to) / 2.0 / self.last);
        }
        let before = at.checked_sub(1).map(|before| &self.points[before]);
        let rank = match (before, here) {
            (Some(low), Some(high)) => {
                let share = f64::from(x - low.value) / f64::from(high.value - low.value);
                low.to + (high.from - low.to) * share
            }
            (None, _) => 0.0,
            (Some(_), None) => self.last,
        };
        (2 * at, rank / self.last)
    }

    /// The greatest difference between the counted shares and those that the quantiles allow: at or below a point
    /// [to, to + 1], below it [from − 1, from], in hundredths.
    pub(in crate::live) fn distance(&self, slots: &Slots) -> f64 {
        let count = slots.count().max(1) as f64;
        let outside = |share: f64, low: f64, high: f64| (low - share).max(share - high).max(0.0);
        let (mut below, mut greatest) = (0, 0.0f64);
        for (i, point) in self.points.iter().enumerate() {
            below += slots.counts[2 * i];
            let least = ((point.from - 1.0) / self.last).max(0.0);
            greatest = greatest.max(outside(below as f64 / count, least, point.from / self.last));
            below += slots.counts[2 * i + 1];
            let most = ((point.to + 1.0) / self.last).min(1.0);
            greatest = greatest.max(outside(below as f64 / count, point.to / self.last, most));
        }
        greatest
    }
}

impl Slots {
    pub(in crate::live) fn add(&mut self, place: usize, rank: f64) {
        self.counts[place] += 1;
        for (i, x) in sides(rank).into_iter().enumerate() {
            self.sums[i] += x;
            self.squares[i] += x * x;
        }
    }

    pub(in crate::live) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The mean rank.
    pub(in crate::live) fn mean(&self) -> f64 {
        self.sums[0] / self.count().max(1) as f64
    }

    /// Of ranks and of their spread.
    pub(in crate::live) fn variances(&self) -> [f64; 2] {
        let count = self.count().max(1) as f64;
        [0, 1].map(|i| (self.squares[i] / count - (self.sums[i] / count).powi(2)).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_ranks_are_among_the_quantiles() {
        let ranks = Ranks::new(&[0.0, 1.0, 1.0, 1.0, 3.0]);
        assert_eq!(ranks.of(-5.0), (0, 0.0));
        assert_eq!(ranks.of(0.0), (1, 0.0));
        assert_eq!(ranks.of(0.5), (2, 0.125));
        assert_eq!(ranks.of(1.0), (3, 0.5));
        assert_eq!(ranks.of(2.0), (4, 0.875));
        assert_eq!((ranks.of(3.0), ranks.of(9.0)), ((5, 1.0), (6, 1.0)));
    }

    #[test]
    fn the_distance_is_what_equal_values_do_not_explain() {
        let hundred: Vec<f32> = (0..=100).map(|i| i as f32).collect();
        let ranks = Ranks::new(&hundred);
        let counted = |ranks: &Ranks, values: &mut dyn Iterator<Item = f32>| {
            let mut slots = ranks.slots();
            values.for_each(|x| {
                let (place, rank) = ranks.of(x);
                slots.add(place, rank);
            });
            slots
        };
        let same = counted(&ranks, &mut (0..1000).map(|i| i as f32 / 10.0 + 0.05));
        assert!(ranks.distance(&same) < 1e-9, "{}", ranks.distance(&same));
        let half = counted(&ranks, &mut (0..1000).map(|i| i as f32 / 20.0 + 0.025));
        assert!((ranks.distance(&half) - 0.5).abs() < 1e-9);
        let above = counted(&ranks, &mut std::iter::repeat_n(200.0, 10));
        assert_eq!(ranks.distance(&above), 1.0);
        // 24 equally frequent values: no distance but for the rounding to hundredths.
        let hours: Vec<f32> = (0..=100).map(|i| (i * 24 / 101) as f32).collect();
        let ranks = Ranks::new(&hours);
        let same = counted(&ranks, &mut (0..2400).map(|i| (i % 24) as f32));
        assert!(ranks.distance(&same) < 0.01, "{}", ranks.distance(&same));
        // A column that never changed, and does now, to either side.
        let ranks = Ranks::new(&[2.0; 101]);
        assert_eq!(ranks.distance(&counted(&ranks, &mut std::iter::repeat_n(2.0, 9))), 0.0);
        for moved in [1.0, 3.0] {
            assert_eq!(ranks.distance(&counted(&ranks, &mut std::iter::repeat_n(moved, 9))), 1.0);
        }
    }
}
