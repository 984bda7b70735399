//! Bars of a longer timeframe from bars of a shorter one.

use std::fmt;

use crate::bar::{Bar, StreamKey, Timeframe};
use crate::time::Timestamp;

/// What to do with a long bar of which short ones are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partial {
    Keep,
    Drop,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ResampleError {
    /// The long timeframe is not a multiple of the short one.
    Timeframe { from: Timeframe, to: Timeframe },
    /// Another stream, or not in order.
    Order { at: usize },
    /// A bar reaches over a long bar's edge.
    Straddles { open_time: Timestamp },
}

impl fmt::Display for ResampleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResampleError::Timeframe { from, to } => {
                write!(f, "{to} is not a multiple of {from}; choose one that is")
            }
            ResampleError::Order { at } => {
                write!(
                    f,
                    "bar {at} is of another stream than, or not after, the bar before it; give one stream in order"
                )
            }
            ResampleError::Straddles { open_time } => {
                write!(
                    f,
                    "the bar at {open_time} reaches over the edge of a longer one; its open times are not multiples"
                )
            }
        }
    }
}

impl std::error::Error for ResampleError {}

/// Long bars open at multiples of `to` since 1970 in UTC, weeks on Monday. First open, highest high, lowest low, last
/// close, sum of volumes in order; final if all its bars are. Revisions start at 0.
pub fn resample(bars: &[Bar], to: Timeframe, partial: Partial) -> Result<Vec<Bar>, ResampleError> {
    let Some(first) = bars.first() else { return Ok(Vec::new()) };
    let from = first.key.timeframe;
    if !to.seconds().is_multiple_of(from.seconds()) {
        return Err(ResampleError::Timeframe { from, to });
    }
    let whole = to.seconds() / from.seconds();
    let key = StreamKey { symbol: first.key.symbol.clone(), timeframe: to };
    let mut long: Vec<(Bar, u32)> = Vec::new();
    for (at, bar) in bars.iter().enumerate() {
        if bar.key != first.key || (at > 0 && bar.open_time <= bars[at - 1].open_time) {
            return Err(ResampleError::Order { at });
        }
        let open_time = edge(bar.open_time, to);
        if bar.close_time().0 > open_time.0.saturating_add(to.nanos()) {
            return Err(ResampleError::Straddles { open_time: bar.open_time });
        }
        match long.last_mut() {
            Some((last, count)) if last.open_time == open_time => {
                last.high = last.high.max(bar.high);
                last.low = last.low.min(bar.low);
                last.close = bar.close;
                last.volume += bar.volume;
                last.is_final &= bar.is_final;
                *count += 1;
            }
            _ => long.push((Bar { key: key.clone(), open_time, revision: 0, ..bar.clone() }, 1)),
        }
    }
    Ok(long
        .into_iter()
        .filter(|(_, count)| partial == Partial::Keep || *count == whole)
        .map(|(bar, _)| bar)
        .collect())
}

/// The multiple of `to` at or before `time`.
fn edge(time: Timestamp, to: Timeframe) -> Timestamp {
    const WEEK_SECONDS: u32 = 604_800;
    // 1970-01-05 was a Monday.
    let offset = if to.seconds().is_multiple_of(WEEK_SECONDS) { 4 * 86_400_000_000_000 } else { 0 };
    Timestamp(time.0.saturating_sub(time.0.saturating_sub(offset).rem_euclid(to.nanos())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bar::Symbol;

    fn bars(timeframe: &str, rows: &[(&str, [f64; 5])]) -> Vec<Bar> {
        let key = StreamKey {
            symbol: Symbol::new("X").expect("symbol"),
            timeframe: Timeframe::parse(timeframe).expect("timeframe"),
        };
        let bar = |&(time, [open, high, low, close, volume]): &(&str, [f64; 5])| Bar {
            key: key.clone(),
            open_time: Timestamp::parse(time).expect("time"),
            open,
            high,
            low,
            close,
            volume,
            is_final: true,
            revision: 0,
        };
        rows.iter().map(bar).collect()
    }

    fn hour() -> Timeframe {
        Timeframe::parse("1h").expect("timeframe")
    }

    #[test]
    fn joins_and_drops_parts() {
        let short = bars(
            "30m",
            &[
                ("2024-01-01T00:30:00Z", [9.0, 9.0, 9.0, 9.0, 9.0]),
                ("2024-01-01T01:00:00Z", [2.0, 5.0, 1.0, 3.0, 10.0]),
                ("2024-01-01T01:30:00Z", [3.0, 4.0, 0.5, 4.0, 5.0]),
            ],
        );
        let long = resample(&short, hour(), Partial::Drop).expect("resampled");
        assert_eq!(long, bars("1h", &[("2024-01-01T01:00:00Z", [2.0, 5.0, 0.5, 4.0, 15.0])]));
        assert_eq!(resample(&short, hour(), Partial::Keep).expect("resampled").len(), 2);
    }

    #[test]
    fn weeks_open_on_monday() {
        let days = bars("1d", &[("2024-01-07T00:00:00Z", [1.0; 5]), ("2024-01-08T00:00:00Z", [1.0; 5])]);
        let weeks =
            resample(&days, Timeframe::parse("1w").expect("timeframe"), Partial::Keep).expect("resampled");
        let opens: Vec<String> = weeks.iter().map(|b| b.open_time.to_string()).collect();
        assert_eq!(opens, ["2024-01-01T00:00:00Z", "2024-01-08T00:00:00Z"]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let row = ("2024-01-01T00:30:00Z", [1.0; 5]);
        assert!(matches!(
            resample(&bars("7m", &[row]), hour(), Partial::Keep),
            Err(ResampleError::Timeframe { .. })
        ));
        assert_eq!(
            resample(&bars("30m", &[row, row]), hour(), Partial::Keep),
            Err(ResampleError::Order { at: 1 })
        );
        let late = ("2024-01-01T00:45:00Z", [1.0; 5]);
        assert!(matches!(
            resample(&bars("30m", &[late]), hour(), Partial::Keep),
            Err(ResampleError::Straddles { .. })
        ));
    }
}
