//! Prints the rows of a CSV of bars (open_time_ns, open, high, low, close, volume), for
//! `tests/python/technical_oracle.py`.
//!
//! `cargo run --release -p technical --example rows -- '{"scale": 1}' < bars.csv > rows.csv`

use std::io::{self, BufRead, Write};

use alphaplus_plugin::{Bar, FeatureSet, Options};
use technical::Technical;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = std::env::args().nth(1).ok_or("give the options as JSON")?;
    let mut set = Technical::open(&Options::parse(&options)?)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    writeln!(out, "{}", set.spec().names.join(","))?;
    for line in io::stdin().lock().lines().skip(1) {
        let mut row = Vec::new();
        set.on_bar(&read_bar(&line?)?, &mut row)?;
        let numbers: Vec<String> = row.iter().map(f32::to_string).collect();
        writeln!(out, "{}", numbers.join(","))?;
    }
    Ok(())
}

/// The date is nanoseconds since 1970 UTC.
fn read_bar(line: &str) -> Result<Bar, Box<dyn std::error::Error>> {
    let fields: Vec<&str> = line.split(',').collect();
    let [time, open, high, low, close, volume] = fields[..] else {
        return Err(format!("not a bar: {line}").into());
    };
    Ok(Bar {
        open_time_ns: time.parse()?,
        open: open.parse()?,
        high: high.parse()?,
        low: low.parse()?,
        close: close.parse()?,
        volume: volume.parse()?,
    })
}
