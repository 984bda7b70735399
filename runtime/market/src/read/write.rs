//! Bars to text in the canonical columns, so that reading them back gives the same bits.

use std::fmt;
use std::io::Write;

use crate::bar::Bar;

#[derive(Debug)]
pub enum WriteError {
    Io(std::io::Error),
    /// The columns have no place for a bar that is still forming.
    NotFinal {
        bar: Box<Bar>,
    },
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Io(source) => write!(f, "bars can't be written: {source}"),
            WriteError::NotFinal { bar } => {
                write!(f, "{} at {} is still forming; leave it out until it is final", bar.key, bar.open_time)
            }
        }
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WriteError::Io(source) => Some(source),
            WriteError::NotFinal { .. } => None,
        }
    }
}

impl From<std::io::Error> for WriteError {
    fn from(source: std::io::Error) -> Self {
        WriteError::Io(source)
    }
}

/// symbol, timeframe, open_time (RFC 3339, UTC), open, high, low, close, volume; and revision if any bar has one.
/// Numbers as the shortest text that reads back to the same bits. `out` is written in small pieces: buffer it.
pub fn write_csv(bars: &[Bar], out: &mut impl Write) -> Result<(), WriteError> {
    let revised = bars.iter().any(|b| b.revision > 0);
    write!(out, "symbol,timeframe,open_time,open,high,low,close,volume")?;
    writeln!(out, "{}", if revised { ",revision" } else { "" })?;
    for bar in bars {
        if !bar.is_final {
            return Err(WriteError::NotFinal { bar: Box::new(bar.clone()) });
        }
        let Bar { key, open_time, open, high, low, close, volume, .. } = bar;
        write!(out, "{},{},{open_time},{open},{high},{low},{close},{volume}", key.symbol, key.timeframe)?;
        if revised {
            write!(out, ",{}", bar.revision)?;
        }
        writeln!(out)?;
    }
    out.flush()?;
    Ok(())
}
