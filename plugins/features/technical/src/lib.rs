//! Technical indicators from bars: 28 columns, each a ratio, a logarithm or a phase, so that none depends on
//! the price's scale.
//!
//! Formulas and sources stand in README.md beside this crate, and at the functions of [`columns`]. Windows
//! count bars, not time: a gap in time is a step like any other. On flat prices and without volume every
//! column is exact, never 0/0.
//!
//! Sums are taken over the window anew at each bar, so that they don't drift and a restored stream gives the
//! same bits.

mod average;
mod columns;
mod ring;

use alphaplus_plugin::{Bar, FeatureSet, Options, Reader, Schema, Spec, Writer};

use average::Average;
use ring::Ring;

/// Window lengths in bars, each a multiple of `scale`.
#[derive(Clone, Copy)]
struct Lengths {
    scale: usize,
}

impl Lengths {
    const LAGS: [usize; 6] = [1, 2, 3, 6, 12, 24];
    const VOLATILITIES: [usize; 3] = [12, 24, 72];

    fn of(self, bars: usize) -> usize {
        bars * self.scale
    }

    /// So many bars that what a stream began with weighs less than 2^-24, half a unit in the last place of an
    /// f32: in the slow average of the MACD (with the signal's seed) and in Wilder's. The windows (at most 72
    /// returns) are shorter.
    fn warmup(self) -> usize {
        let fading = |share: f64| (24.0 * std::f64::consts::LN_2 / -(1.0 - share).ln()).ceil() as usize;
        let macd = self.of(26) + self.of(9) + fading(2.0 / (self.of(26) + 1) as f64);
        let wilder = 1 + self.of(14) + fading(1.0 / self.of(14) as f64);
        macd.max(wilder).max(self.of(72) + 1)
    }

    fn names(self) -> Vec<String> {
        let n = |bars| self.of(bars);
        let mut names: Vec<String> = Self::LAGS.iter().map(|&lag| format!("return_{}", n(lag))).collect();
        names.push(format!("rsi_{}", n(14)));
        names.push(format!("macd_{}_{}", n(12), n(26)));
        names.push(format!("macd_signal_{}_{}_{}", n(12), n(26), n(9)));
        names.push(format!("macd_histogram_{}_{}_{}", n(12), n(26), n(9)));
        names.push(format!("bollinger_position_{}", n(20)));
        names.push(format!("bollinger_width_{}", n(20)));
        names.push(format!("atr_{}", n(14)));
        names.extend(Self::VOLATILITIES.iter().map(|&length| format!("volatility_{}", n(length))));
        names.push(format!("parkinson_{}", n(24)));
        names.push(format!("stochastic_{}", n(14)));
        names.push(format!("volume_zscore_{}", n(24)));
        names.extend(["range", "gap", "body", "upper_wick", "lower_wick"].map(String::from));
        names.extend(["day_sin", "day_cos", "week_sin", "week_cos"].map(String::from));
        names
    }
}

/// One stream.
pub struct Technical {
    lengths: Lengths,
    closes: Ring,
    log_closes: Ring,
    /// Squared log returns, one bar each.
    squares: Ring,
    /// Squared ln(high / low).
    squared_ranges: Ring,
    highs: Ring,
    lows: Ring,
    /// ln(1 + volume).
    log_volumes: Ring,
    gain: Average,
    loss: Average,
    true_range: Average,
    fast: Average,
    slow: Average,
    signal: Average,
}

impl FeatureSet for Technical {
    fn schema() -> String {
        Schema::new().integer("scale", 1..=4, 1, "Multiplies the length of every window, in bars.").to_json()
    }

    fn open(options: &Options) -> Result<Self, String> {
        let scale = options.count("scale")? as usize;
        if !(1..=4).contains(&scale) {
            return Err(format!("scale is {scale}; it must be from 1 to 4"));
        }
        let lengths = Lengths { scale };
        let n = |bars| lengths.of(bars);
        Ok(Technical {
            lengths,
            closes: Ring::new(n(20)),
            log_closes: Ring::new(n(24) + 1),
            squares: Ring::new(n(72)),
            squared_ranges: Ring::new(n(24)),
            highs: Ring::new(n(14)),
            lows: Ring::new(n(14)),
            log_volumes: Ring::new(n(24)),
            gain: Average::wilder(n(14)),
            loss: Average::wilder(n(14)),
            true_range: Average::wilder(n(14)),
            fast: Average::exponential(n(12)),
            slow: Average::exponential(n(26)),
            signal: Average::exponential(n(9)),
        })
    }

    fn spec(&self) -> Spec {
        Spec::bars(self.lengths.names(), self.lengths.warmup() as u32)
    }

    fn on_bar(&mut self, bar: &Bar, row: &mut Vec<f32>) -> Result<(), String> {
        let previous = self.closes.newest();
        self.absorb(bar, previous);
        self.push_row(bar, previous, row);
        Ok(())
    }

    fn snapshot(&self, to: &mut Writer) {
        let rings = [&self.closes, &self.log_closes, &self.squares, &self.squared_ranges];
        rings.into_iter().chain([&self.highs, &self.lows, &self.log_volumes]).for_each(|ring| to.put(ring));
        let averages = [&self.gain, &self.loss, &self.true_range, &self.fast, &self.slow, &self.signal];
        averages.into_iter().for_each(|average| to.put(average));
    }

    fn restore(&mut self, from: &mut Reader<'_>) -> Result<(), String> {
        let rings = [&mut self.closes, &mut self.log_closes, &mut self.squares, &mut self.squared_ranges];
        for ring in rings.into_iter().chain([&mut self.highs, &mut self.lows, &mut self.log_volumes]) {
            from.take(ring)?;
        }
        let averages = [&mut self.gain, &mut self.loss, &mut self.true_range, &mut self.fast, &mut self.slow];
        for average in averages.into_iter().chain([&mut self.signal]) {
            from.take(average)?;
        }
        Ok(())
    }
}

impl Technical {
    /// Brings every window and average up to this bar. `previous` is the last bar's close.
    fn absorb(&mut self, bar: &Bar, previous: Option<f64>) {
        let log_close = bar.close.ln();
        if let (Some(close), Some(log)) = (previous, self.log_closes.newest()) {
            self.squares.push((log_close - log).powi(2));
            self.gain.push((bar.close - close).max(0.0));
            self.loss.push((close - bar.close).max(0.0));
            self.true_range.push(columns::true_range(bar, close));
        }
        self.closes.push(bar.close);
        self.log_closes.push(log_close);
        self.squared_ranges.push((bar.high / bar.low).ln().powi(2));
        self.highs.push(bar.high);
        self.lows.push(bar.low);
        self.log_volumes.push(bar.volume.ln_1p());
        self.fast.push(bar.close);
        self.slow.push(bar.close);
        if let Some(line) = self.macd_line() {
            self.signal.push(line);
        }
    }

    /// Not yet a share of the price.
    fn macd_line(&self) -> Option<f64> {
        Some(self.fast.value()? - self.slow.value()?)
    }

    /// The columns in the order of [`Lengths::names`]; NaN where there is no history yet.
    fn push_row(&self, bar: &Bar, previous: Option<f64>, row: &mut Vec<f32>) {
        let n = |bars| self.lengths.of(bars);
        let mut push = |x: Option<f64>| row.push(x.unwrap_or(f64::NAN) as f32);
        for lag in Lengths::LAGS {
            push(columns::log_return(&self.log_closes, n(lag)));
        }
        push(columns::relative_strength(&self.gain, &self.loss));
        let (line, signal) = (self.macd_line(), self.signal.value());
        push(line.map(|line| line / bar.close));
        push(signal.map(|signal| signal / bar.close));
        push(line.zip(signal).map(|(line, signal)| (line - signal) / bar.close));
        let (position, width) = columns::bollinger(&self.closes).unzip();
        push(position);
        push(width);
        push(self.true_range.value().map(|range| range / bar.close));
        for length in Lengths::VOLATILITIES {
            push(columns::volatility(&self.squares, n(length)));
        }
        push(columns::parkinson(&self.squared_ranges));
        push(columns::stochastic(&self.highs, &self.lows, bar.close));
        push(columns::zscore(&self.log_volumes));
        push(Some((bar.high - bar.low) / bar.close));
        push(previous.map(|close| (bar.open / close).ln()));
        columns::candle(bar).into_iter().chain(columns::phases(bar.open_time_ns)).for_each(|x| push(Some(x)));
    }
}

alphaplus_plugin::export_features!(Technical);

#[cfg(test)]
mod tests;
