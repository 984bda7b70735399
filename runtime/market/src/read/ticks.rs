//! Trades of QuantConnect Lean equity ticks: ms since midnight in New York, price × 10,000, size, exchange, condition,
//! suspicious. The day stands in the file's name.

use std::path::Path;

use crate::event::{Side, Trade};
use crate::read::clock::{Clock, Instant, TimeFormat, Zone};
use crate::read::error::{BadReason, ReadError};
use crate::read::events::{EventOptions, EventReport, lines};
use crate::read::text::Cells;
use crate::time::Timestamp;

/// Trades in order of time. Rows that the source marked as suspicious are left out and counted.
pub fn read_lean_trades(path: &Path, options: &EventOptions) -> Result<(Vec<Trade>, EventReport), ReadError> {
    let file = path.display().to_string();
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
    let zone = options.zone.as_deref().unwrap_or("America/New_York");
    let zone = Zone::named(zone).ok_or_else(|| ReadError::Zone(zone.to_owned()))?;
    let clock = Clock { format: TimeFormat::Compact, zone };
    let midnight = match name.get(..8).map(|day| clock.read(day)) {
        Some(Ok(Instant::At(time) | Instant::Either { earlier: time, .. })) => time,
        Some(Err(_)) | None => return Err(ReadError::NoDay { file }),
    };
    let symbol = options.symbol.clone().ok_or_else(|| ReadError::NoSymbol { file: file.clone() })?;
    let mut report = EventReport { file: file.clone(), ..EventReport::default() };
    let mut trades = Vec::new();
    let mut source = lines(&file, path, options.limits)?;
    let mut cells = Cells::default();
    while let Some(line) = source.next()? {
        if line.trim_ascii().is_empty() {
            continue;
        }
        cells.cut(line, b',', options.limits.columns);
        report.rows += 1;
        match tick(&cells, midnight) {
            Ok(None) => report.suspicious += 1,
            Ok(Some((time, price, size))) => {
                trades.push(Trade { symbol: symbol.clone(), time, price, size, side: Side::Unknown });
            }
            Err((column, reason)) => {
                let number = format!("#{}", column + 1);
                report.reject(
                    options.on_bad,
                    source.line,
                    &number,
                    cells.get(column).unwrap_or(""),
                    reason,
                )?;
            }
        }
    }
    report.settle(&mut trades, |t| t.time);
    Ok((trades, report))
}

/// Time, price and size.
type Tick = (Timestamp, f64, f64);

/// None if suspicious; or the column that is wrong.
fn tick(cells: &Cells, midnight: Timestamp) -> Result<Option<Tick>, (usize, BadReason)> {
    let get = |at: usize| cells.get(at).map_err(|reason| (at, reason));
    let number = |at: usize| get(at)?.parse::<f64>().map_err(|_| (at, BadReason::Number));
    let of_day_ms: i64 = get(0)?.parse().map_err(|_| (0, BadReason::Time))?;
    // A day has 25 hours when the clock goes back.
    if !(0..25 * 3_600_000).contains(&of_day_ms) {
        return Err((0, BadReason::Time));
    }
    let (price, size) = (number(1)? / 10_000.0, number(2)?);
    if get(5)? != "0" {
        return Ok(None);
    }
    if !price.is_finite() || price <= 0.0 {
        return Err((1, BadReason::Price));
    }
    if !size.is_finite() || size < 0.0 {
        return Err((2, BadReason::Volume));
    }
    Ok(Some((Timestamp(midnight.0 + of_day_ms * 1_000_000), price, size)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bar::Symbol;
    use crate::read::options::OnBad;

    #[test]
    fn ticks_of_one_day() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("20131007_trade.csv");
        let rows = "14430270,1815200,283,P,20002020,0\n14430269,1818000,500,P,2000,1\n14430268,1818000,500,P,2000,0\n";
        std::fs::write(&path, rows).expect("written");
        let ibm =
            EventOptions { symbol: Some(Symbol::new("IBM").expect("symbol")), ..EventOptions::default() };
        let (trades, report) = read_lean_trades(&path, &ibm).expect("read");
        let shown: Vec<String> =
            trades.iter().map(|t| format!("{} {} {}", t.time, t.price, t.size)).collect();
        assert_eq!(shown, ["2013-10-07T08:00:30.268Z 181.8 500", "2013-10-07T08:00:30.27Z 181.52 283"]);
        assert_eq!((report.rows, report.suspicious, report.out_of_order), (3, 1, 1));

        std::fs::write(&path, format!("{rows}90000000,1,1,P,0,0\nx,1,1,P,0,0\n1,-1,1,P,0,0\n1,1\n"))
            .expect("written");
        let error = read_lean_trades(&path, &ibm).expect_err("bad").to_string();
        assert!(error.contains("line 4, column #1: '90000000': time not in the format"), "{error}");
        let skipping = EventOptions { on_bad: OnBad::Skip, ..ibm.clone() };
        let (trades, report) = read_lean_trades(&path, &skipping).expect("read");
        assert_eq!((trades.len(), report.bad.values().map(|b| b.rows).sum::<u64>()), (2, 4));

        let nameless = folder.path().join("trade.csv");
        std::fs::write(&nameless, rows).expect("written");
        assert!(matches!(read_lean_trades(&nameless, &ibm), Err(ReadError::NoDay { .. })));
        assert!(matches!(read_lean_trades(&path, &EventOptions::default()), Err(ReadError::NoSymbol { .. })));
    }
}
