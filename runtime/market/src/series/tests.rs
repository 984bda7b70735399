//! The rules of `Series` against a slow list that follows the table word by word.

use proptest::prelude::*;

use super::*;
use crate::bar::{Symbol, Timeframe};

fn key() -> StreamKey {
    StreamKey {
        symbol: Symbol::new("X").expect("symbol"),
        timeframe: Timeframe::from_seconds(60).expect("timeframe"),
    }
}

fn bar(minute: i64, close: f64, is_final: bool, revision: u32) -> Bar {
    Bar {
        key: key(),
        open_time: Timestamp::from_seconds(60 * minute),
        open: close,
        high: close,
        low: close,
        close,
        volume: 1.0,
        is_final,
        revision,
    }
}

fn series(bars: &[Bar]) -> Series {
    let mut series = Series::new(key(), 100);
    for bar in bars {
        series.accept(bar.clone()).expect("taken");
    }
    series
}

#[test]
fn repeats_conflicts_and_revisions_of_a_final_bar() {
    let mut s = series(&[bar(0, 1.0, true, 0), bar(1, 2.0, true, 3)]);
    assert_eq!(s.accept(bar(1, 2.0, true, 3)), Ok(Accepted::Duplicate));
    assert_eq!(s.accept(bar(1, 2.5, true, 3)), Err(Rejected::Conflict { revision: 3 }));
    assert_eq!(s.accept(bar(1, 2.5, true, 2)), Err(Rejected::Stale { held: 3 }));
    assert_eq!(s.accept(bar(1, 2.5, false, 4)), Err(Rejected::AlreadyFinal));
    assert_eq!(s.newest(), Some(&bar(1, 2.0, true, 3)));
    assert_eq!(s.accept(bar(1, 2.5, true, 4)), Ok(Accepted::Revision { replaces: 3 }));
    assert_eq!(s.accept(bar(0, 7.0, true, 1)), Ok(Accepted::Revision { replaces: 0 }));
    assert_eq!(s.as_slice(), [bar(0, 7.0, true, 1), bar(1, 2.5, true, 4)]);
}

#[test]
fn a_forming_bar_grows_by_revisions_and_ends_by_any() {
    let mut s = series(&[bar(0, 1.0, true, 0)]);
    assert_eq!(s.accept(bar(1, 2.0, false, 0)), Ok(Accepted::Provisional));
    assert_eq!(s.accept(bar(1, 2.1, false, 0)), Err(Rejected::Conflict { revision: 0 }));
    assert_eq!(s.accept(bar(1, 2.1, false, 2)), Ok(Accepted::Provisional));
    assert_eq!(s.accept(bar(1, 2.2, true, 1)), Err(Rejected::Stale { held: 2 }));
    assert_eq!(s.accept(bar(1, 2.2, true, 2)), Ok(Accepted::New));
    assert_eq!(s.accept(bar(1, 2.3, true, 2)), Err(Rejected::Conflict { revision: 2 }));
}

#[test]
fn a_bar_that_ends_after_the_next_began_is_a_revision() {
    let mut s = series(&[bar(0, 1.0, false, 0), bar(1, 2.0, true, 0)]);
    assert_eq!(s.accept(bar(0, 1.1, true, 0)), Ok(Accepted::Revision { replaces: 0 }));
}

#[test]
fn time_goes_forward_and_gaps_are_counted() {
    let mut s = series(&[bar(0, 1.0, true, 0), bar(1, 1.0, true, 0), bar(5, 1.0, true, 0)]);
    assert_eq!((s.gaps(), s.missing()), (1, 3));
    let last = Timestamp::from_seconds(300);
    assert_eq!(s.accept(bar(3, 1.0, true, 0)), Err(Rejected::TimeBackwards { last }));
    let mut close = bar(5, 1.0, true, 0);
    close.open_time = Timestamp::from_seconds(310);
    assert_eq!(s.accept(close), Err(Rejected::Overlaps { last }));
    assert_eq!((s.gaps(), s.missing(), s.len()), (1, 3, 3));
}

#[test]
fn refuses_bad_bars_and_other_streams() {
    let mut s = series(&[]);
    assert!(matches!(s.accept(bar(0, f64::NAN, true, 0)), Err(Rejected::Invalid(_))));
    let mut other = bar(0, 1.0, true, 0);
    other.key.timeframe = Timeframe::from_seconds(300).expect("timeframe");
    assert_eq!(s.accept(other), Err(Rejected::OtherStream { expected: key() }));
    assert!(s.is_empty());
}

/// All bars that were let in, newest content, without a bound: the table as a list of cases.
#[derive(Default)]
struct Model {
    bars: Vec<Bar>,
}

impl Model {
    fn accept(&mut self, bar: &Bar, capacity: usize) -> Result<Accepted, Rejected> {
        let oldest_held = self.bars.len().saturating_sub(capacity);
        let Some(last) = self.bars.last().map(|b| b.open_time) else {
            self.bars.push(bar.clone());
            return Ok(if bar.is_final { Accepted::New } else { Accepted::Provisional });
        };
        if bar.open_time > last {
            self.bars.push(bar.clone());
            return Ok(if bar.is_final { Accepted::New } else { Accepted::Provisional });
        }
        let newest = bar.open_time == last;
        let Some(held) = self.bars[oldest_held..].iter_mut().find(|b| b.open_time == bar.open_time) else {
            return Err(Rejected::TimeBackwards { last });
        };
        let order = bar.revision.cmp(&held.revision);
        use std::cmp::Ordering::{Equal, Greater, Less};
        let outcome = match (held.is_final, bar.is_final, order) {
            (h, b, Equal) if h == b && held.close == bar.close => return Ok(Accepted::Duplicate),
            (_, _, Less) => return Err(Rejected::Stale { held: held.revision }),
            (true, false, _) => return Err(Rejected::AlreadyFinal),
            (true, true, Equal) | (false, false, Equal) => {
                return Err(Rejected::Conflict { revision: held.revision });
            }
            (false, true, Equal | Greater) if newest => Accepted::New,
            (false, false, Greater) if newest => Accepted::Provisional,
            _ => Accepted::Revision { replaces: held.revision },
        };
        *held = bar.clone();
        Ok(outcome)
    }
}

proptest! {
    #[test]
    fn follows_the_table(
        capacity in 1usize..6,
        steps in prop::collection::vec((-3i64..4, 1u8..4, any::<bool>(), 0u32..4), 1..60),
    ) {
        let mut series = Series::new(key(), capacity);
        let mut model = Model::default();
        for (ahead, close, is_final, revision) in steps {
            let newest = model.bars.last().map_or(0, |b| b.open_time.0 / 60_000_000_000);
            let bar = bar(newest + ahead, f64::from(close), is_final, revision);
            prop_assert_eq!(series.accept(bar.clone()), model.accept(&bar, capacity), "{:?}", bar);
            let held = &model.bars[model.bars.len().saturating_sub(capacity)..];
            prop_assert_eq!(series.as_slice(), held);
            let opens: Vec<i64> = model.bars.iter().map(|b| b.open_time.0 / 60_000_000_000).collect();
            let missing: i64 = opens.windows(2).map(|w| w[1] - w[0] - 1).sum();
            prop_assert_eq!(series.missing() as i64, missing);
        }
    }
}
