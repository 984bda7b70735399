//! A full order book kept from one snapshot and the differences that follow it, by Binance's rules for local books.

use std::collections::{BTreeMap, VecDeque};

use crate::event::Level;

/// Differences held while the snapshot is awaited.
const PENDING_MAX: usize = 10_000;
/// Price levels a side; real ones stay below 20,000.
const LEVELS_MAX: usize = 200_000;

/// One difference: sizes that replace those at their prices, 0 for none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    /// Ids of the first and last update in it.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Id of the last update before it, as futures say it.
    pub(crate) previous: Option<u64>,
    pub(crate) bids: Vec<Level>,
    pub(crate) asks: Vec<Level>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Yes,
    /// No snapshot yet: held, or too many are held and it is lost.
    Waiting,
    /// The snapshot has it already.
    Old,
    /// One before it is missing: the book is gone until the next snapshot.
    Broken,
}

#[derive(Debug, Default)]
pub(crate) struct BookKeeper {
    bids: BTreeMap<u64, f64>,
    asks: BTreeMap<u64, f64>,
    /// Id of the last update that is in the book; None without a book.
    last: Option<u64>,
    /// No change has followed the snapshot yet: the next may begin before it.
    fresh: bool,
    pending: VecDeque<Change>,
}

impl BookKeeper {
    /// Starts over from a snapshot, and applies what was held since before it. False if those don't reach it.
    pub(crate) fn snapshot(&mut self, last: u64, bids: &[Level], asks: &[Level]) -> bool {
        self.bids.clear();
        self.asks.clear();
        put(&mut self.bids, bids);
        put(&mut self.asks, asks);
        self.last = Some(last);
        self.fresh = true;
        for change in std::mem::take(&mut self.pending) {
            if self.apply(change) == Applied::Broken {
                return false;
            }
        }
        true
    }

    pub(crate) fn apply(&mut self, change: Change) -> Applied {
        let Some(last) = self.last else {
            if self.pending.len() < PENDING_MAX {
                self.pending.push_back(change);
            }
            return Applied::Waiting;
        };
        if change.last <= last && self.fresh {
            return Applied::Old;
        }
        let follows = match change.previous {
            _ if self.fresh => change.first <= last.saturating_add(1),
            Some(previous) => previous == last,
            None => change.first == last.saturating_add(1),
        };
        if !follows || self.bids.len().max(self.asks.len()) > LEVELS_MAX {
            self.last = None;
            self.pending.clear();
            return Applied::Broken;
        }
        self.fresh = false;
        self.last = Some(change.last);
        put(&mut self.bids, &change.bids);
        put(&mut self.asks, &change.asks);
        Applied::Yes
    }

    pub(crate) fn last(&self) -> Option<u64> {
        self.last
    }

    /// The best `depth` levels a side, best first.
    pub(crate) fn top(&self, depth: usize) -> (Vec<Level>, Vec<Level>) {
        let level = |(price, size): (&u64, &f64)| Level { price: f64::from_bits(*price), size: *size };
        (
            self.bids.iter().rev().take(depth).map(level).collect(),
            self.asks.iter().take(depth).map(level).collect(),
        )
    }
}

/// Prices are above zero, so their bits are in their order.
fn put(side: &mut BTreeMap<u64, f64>, levels: &[Level]) {
    for level in levels {
        if level.size == 0.0 {
            side.remove(&level.price.to_bits());
        } else {
            side.insert(level.price.to_bits(), level.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(pairs: &[(f64, f64)]) -> Vec<Level> {
        pairs.iter().map(|&(price, size)| Level { price, size }).collect()
    }

    fn change(first: u64, last: u64, bid: (f64, f64)) -> Change {
        Change { first, last, previous: None, bids: levels(&[bid]), asks: Vec::new() }
    }

    #[test]
    fn differences_before_and_after_the_snapshot() {
        let mut book = BookKeeper::default();
        assert_eq!(book.apply(change(1, 4, (9.0, 1.0))), Applied::Waiting);
        assert_eq!(book.apply(change(5, 8, (8.0, 5.0))), Applied::Waiting);
        assert!(book.snapshot(6, &levels(&[(10.0, 1.0), (8.0, 2.0), (0.5, 1.0)]), &levels(&[(11.0, 3.0)])));
        // 1-4 was in the snapshot, 5-8 reaches over it.
        assert_eq!(book.top(2), (levels(&[(10.0, 1.0), (8.0, 5.0)]), levels(&[(11.0, 3.0)])));
        assert_eq!(book.apply(change(9, 9, (10.0, 0.0))), Applied::Yes);
        assert_eq!((book.top(1).0, book.last()), (levels(&[(8.0, 5.0)]), Some(9)));
        assert_eq!(book.apply(change(11, 12, (10.0, 1.0))), Applied::Broken);
        assert_eq!((book.apply(change(13, 13, (10.0, 1.0))), book.last()), (Applied::Waiting, None));
        assert!(!book.snapshot(11, &[], &[]));
    }

    #[test]
    fn futures_follow_by_the_previous_id() {
        let mut book = BookKeeper::default();
        book.snapshot(100, &levels(&[(10.0, 1.0)]), &[]);
        let next =
            |first, last, previous| Change { previous: Some(previous), ..change(first, last, (10.0, 2.0)) };
        assert_eq!(book.apply(next(80, 90, 70)), Applied::Old);
        assert_eq!(book.apply(next(91, 100, 90)), Applied::Old);
        assert_eq!(book.apply(next(95, 105, 94)), Applied::Yes);
        assert_eq!(book.apply(next(120, 130, 105)), Applied::Yes);
        assert_eq!(book.apply(next(131, 140, 129)), Applied::Broken);
    }
}
