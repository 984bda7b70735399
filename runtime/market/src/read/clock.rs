//! Text to instants: the time formats met in bar files, read in a named zone.

use std::fmt;

use jiff::civil;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::time::Timestamp;

/// How times are written. One format holds for a whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// A count since 1970; seconds, ms, µs or ns by the magnitude of each value.
    Epoch,
    EpochSeconds,
    EpochMillis,
    EpochMicros,
    EpochNanos,
    /// `2024-03-01`, `2024-03-01T05:00:00Z`, `2024-03-01 05:00:00.000+01:00`; also with `/` or `.` between.
    YearFirst,
    /// `31.01.2017 22:00:00.000`, `5-7-2022 04:24`.
    DayFirst,
    /// `01/31/2017 22:00`. Never guessed.
    MonthFirst,
    /// `20170131 22:00` or `20170131`.
    Compact,
}

impl TimeFormat {
    /// The format of one value, if it is plain which. `03/04/2017` is not.
    pub fn detect(text: &str) -> Option<Self> {
        let text = text.trim();
        let date = text.split([' ', 'T']).next()?;
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if date.len() == 8 && digits(date) && compact_date(date).is_some() {
            return Some(TimeFormat::Compact);
        }
        if number_parts(text).is_some() {
            return Some(TimeFormat::Epoch);
        }
        let mut parts = date.split(['-', '.', '/']);
        let (first, second, third) = (parts.next()?, parts.next()?, parts.next()?);
        if !digits(first) || !digits(second) || !third.bytes().next()?.is_ascii_digit() {
            return None;
        }
        if first.len() == 4 {
            Some(TimeFormat::YearFirst)
        } else if first.len() <= 2 && third.len() == 4 && !date.contains('/') {
            Some(TimeFormat::DayFirst)
        } else {
            None
        }
    }
}

impl fmt::Display for TimeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimeFormat::Epoch => "counted since 1970, unit by magnitude",
            TimeFormat::EpochSeconds => "seconds since 1970",
            TimeFormat::EpochMillis => "milliseconds since 1970",
            TimeFormat::EpochMicros => "microseconds since 1970",
            TimeFormat::EpochNanos => "nanoseconds since 1970",
            TimeFormat::YearFirst => "year-month-day",
            TimeFormat::DayFirst => "day.month.year",
            TimeFormat::MonthFirst => "month/day/year",
            TimeFormat::Compact => "yyyymmdd HH:MM",
        })
    }
}

/// The zone of times that carry no offset of their own.
#[derive(Clone, Debug)]
pub(crate) enum Zone {
    Utc,
    Named(TimeZone),
}

impl Zone {
    /// By IANA name. None if there is no such zone.
    pub(crate) fn named(name: &str) -> Option<Self> {
        if ["UTC", "Etc/UTC", "GMT", "Z"].iter().any(|utc| utc.eq_ignore_ascii_case(name)) {
            return Some(Zone::Utc);
        }
        TimeZone::get(name).ok().map(Zone::Named)
    }
}

/// One reading of a cell. Local time that the clock shows twice has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instant {
    At(Timestamp),
    Either { earlier: Timestamp, later: Timestamp },
}

/// Why a cell is not an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClockError {
    /// Not in the format.
    Format,
    /// Outside the years 1677 to 2262.
    Range,
    /// Skipped by the local clock in spring.
    Skipped,
}

#[derive(Clone, Debug)]
pub(crate) struct Clock {
    pub(crate) format: TimeFormat,
    pub(crate) zone: Zone,
}

impl Clock {
    pub(crate) fn read(&self, text: &str) -> Result<Instant, ClockError> {
        let text = text.trim();
        let unit_ns = match self.format {
            TimeFormat::YearFirst | TimeFormat::DayFirst | TimeFormat::MonthFirst | TimeFormat::Compact => {
                return self.read_civil(text);
            }
            TimeFormat::Epoch => 0,
            TimeFormat::EpochSeconds => 1_000_000_000,
            TimeFormat::EpochMillis => 1_000_000,
            TimeFormat::EpochMicros => 1_000,
            TimeFormat::EpochNanos => 1,
        };
        let (whole, fraction) = number_parts(text).ok_or(ClockError::Format)?;
        let count: i64 = whole.parse().map_err(|_| ClockError::Range)?;
        epoch(count, fraction, unit_ns).map(Instant::At).ok_or(ClockError::Range)
    }

    /// Whole counts, as Parquet holds them; `local` on the zone's own clock rather than in UTC.
    pub(crate) fn read_count(&self, count: i64, local: bool) -> Result<Instant, ClockError> {
        let unit_ns = match self.format {
            TimeFormat::EpochSeconds => 1_000_000_000,
            TimeFormat::EpochMillis => 1_000_000,
            TimeFormat::EpochMicros => 1_000,
            TimeFormat::EpochNanos => 1,
            TimeFormat::Epoch
            | TimeFormat::YearFirst
            | TimeFormat::DayFirst
            | TimeFormat::MonthFirst
            | TimeFormat::Compact => 0,
        };
        let time = epoch(count, "", unit_ns).ok_or(ClockError::Range)?;
        if local { self.in_zone(i128::from(time.0)) } else { Ok(Instant::At(time)) }
    }

    fn read_civil(&self, text: &str) -> Result<Instant, ClockError> {
        let (date, rest) = match text.find(['T', ' ', 't']) {
            Some(at) => (&text[..at], text[at + 1..].trim_start()),
            None => (text, ""),
        };
        let (year, month, day) = match self.format {
            TimeFormat::Compact => compact_date(date),
            TimeFormat::DayFirst => three_numbers(date).map(|(d, m, y)| (y, m, d)),
            TimeFormat::MonthFirst => three_numbers(date).map(|(m, d, y)| (y, m, d)),
            _ => three_numbers(date),
        }
        .filter(|&(y, m, d)| {
            (1600..=2300).contains(&y) && (1..=12).contains(&m) && d >= 1 && d <= month_days(y, m)
        })
        .ok_or(ClockError::Format)?;
        let (of_day_ns, offset) = time_of_day(rest).ok_or(ClockError::Format)?;
        let local_ns =
            i128::from(days_from_civil(year, month, day)) * 86_400_000_000_000 + i128::from(of_day_ns);
        match offset {
            Some(offset_s) => shift(local_ns, offset_s).map(Instant::At),
            None => self.in_zone(local_ns),
        }
    }

    /// From nanoseconds since 1970 on the zone's own clock.
    fn in_zone(&self, local_ns: i128) -> Result<Instant, ClockError> {
        let Zone::Named(zone) = &self.zone else {
            return shift(local_ns, 0).map(Instant::At);
        };
        let as_if_utc = jiff::Timestamp::from_nanosecond(local_ns).map_err(|_| ClockError::Range)?;
        let local: civil::DateTime = TimeZone::UTC.to_datetime(as_if_utc);
        match zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => shift(local_ns, offset.seconds()).map(Instant::At),
            AmbiguousOffset::Gap { .. } => Err(ClockError::Skipped),
            AmbiguousOffset::Fold { before, after } => Ok(Instant::Either {
                earlier: shift(local_ns, before.seconds())?,
                later: shift(local_ns, after.seconds())?,
            }),
        }
    }
}

fn shift(local_ns: i128, offset_s: i32) -> Result<Timestamp, ClockError> {
    i64::try_from(local_ns - i128::from(offset_s) * 1_000_000_000)
        .map(Timestamp)
        .map_err(|_| ClockError::Range)
}

/// `unit_ns` 0: by magnitude. Below 1e11 seconds (until the year 5138), then ms, µs, ns by factors of 1,000.
fn epoch(count: i64, fraction: &str, unit_ns: i64) -> Option<Timestamp> {
    let unit_ns = match (unit_ns, count.unsigned_abs()) {
        (0, 0..100_000_000_000) => 1_000_000_000,
        (0, 0..100_000_000_000_000) => 1_000_000,
        (0, 0..100_000_000_000_000_000) => 1_000,
        (0, _) => 1,
        (given, _) => given,
    };
    let mut place_ns = unit_ns;
    let mut part_ns = 0;
    for digit in fraction.bytes() {
        place_ns /= 10;
        part_ns += i64::from(digit - b'0') * place_ns;
    }
    count.checked_mul(unit_ns)?.checked_add(if count < 0 { -part_ns } else { part_ns }).map(Timestamp)
}

/// `-12.5` as (`-12`, `5`).
fn number_parts(text: &str) -> Option<(&str, &str)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let fits = (1..=20).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && fraction.bytes().all(|b| b.is_ascii_digit());
    fits.then_some((whole, fraction))
}

fn compact_date(text: &str) -> Option<(i32, u32, u32)> {
    if text.len() != 8 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u32 = text.parse().ok()?;
    let (year, month, day) = (n / 10_000, n / 100 % 100, n % 100);
    let fits = (1800..=2200).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    fits.then_some((year as i32, month, day))
}

/// Three numbers with the same one of `-`, `/`, `.` between. As (first, second, third), the year of four digits.
fn three_numbers<A: TryFrom<u32>, B: TryFrom<u32>, C: TryFrom<u32>>(text: &str) -> Option<(A, B, C)> {
    let separator = text.bytes().find(|b| b"-/.".contains(b))?;
    let mut parts = text.split(separator as char);
    let mut next = || {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 4 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        part.parse::<u32>().ok()
    };
    let (a, b, c) = (next()?, next()?, next()?);
    if parts.next().is_some() {
        return None;
    }
    Some((A::try_from(a).ok()?, B::try_from(b).ok()?, C::try_from(c).ok()?))
}

/// `HH:MM[:SS[.f]]` and an optional offset. As (nanoseconds since midnight, offset in seconds). Empty is midnight.
fn time_of_day(text: &str) -> Option<(i64, Option<i32>)> {
    let text = text.trim();
    if text.is_empty() {
        return Some((0, None));
    }
    let (clock, offset) = match text.find(['Z', 'z', '+', '-', 'U']) {
        Some(at) => (text[..at].trim_end(), Some(offset_seconds(&text[at..])?)),
        None => (text, None),
    };
    let mut parts = clock.split(':');
    let two = |part: &str, below: i64| {
        let fits = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if fits { part.parse::<i64>().ok().filter(|&n| n < below) } else { None }
    };
    let hour = two(parts.next()?, 24)?;
    let minute = two(parts.next()?, 60)?;
    let (second, fraction) = match parts.next() {
        Some(second) => second.split_once('.').unwrap_or((second, "")),
        None => ("0", ""),
    };
    let second = two(second, 60)?;
    if parts.next().is_some() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut ns = (hour * 3_600 + minute * 60 + second) * 1_000_000_000;
    let mut place_ns = 1_000_000_000;
    for digit in fraction.bytes() {
        place_ns /= 10;
        ns += i64::from(digit - b'0') * place_ns;
    }
    Some((ns, offset))
}

/// `Z`, `UTC`, `+01`, `+0100`, `-05:30`.
fn offset_seconds(text: &str) -> Option<i32> {
    if text.eq_ignore_ascii_case("z") || text == "UTC" {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits: String = text[1..].chars().filter(|&c| c != ':').collect();
    let fits = (digits.len() == 2 || digits.len() == 4) && digits.bytes().all(|b| b.is_ascii_digit());
    if !fits {
        return None;
    }
    let hours: i32 = digits[..2].parse().ok()?;
    let minutes: i32 = digits.get(2..).filter(|m| !m.is_empty()).unwrap_or("0").parse().ok()?;
    (hours <= 18 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn month_days(year: i32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i32, month: u32, day: u32) -> i64 {
    let y = i64::from(year) - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year =
        (153 * (i64::from(month) + if month > 2 { -3 } else { 9 }) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests;
