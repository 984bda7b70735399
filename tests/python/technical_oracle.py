"""The columns of plugins/features/technical, worked out independently with TA-Lib and pandas.

    technical_oracle.py expect  BARS.csv OUT.csv [--scale N]      writes the expected columns
    technical_oracle.py compare BARS.csv ROWS.csv [--scale N]     compares the plugin's rows; exits 1 on a difference

BARS has open,high,low,close,volume and a time column: open_time_ns (nanoseconds since 1970 UTC), or date (ISO 8601).
ROWS has a header of column names and a row for each bar. The first WARMUP rows are not compared.

A value passes where |row - expected| <= ABSOLUTE + RELATIVE * |expected|. Rows are f32 (half a unit in the last place is
6e-8 of the value); the rest is what indicators with fading memory still know of how they began, which TA-Lib does
otherwise for the MACD, and 2^-24 of it is left after the warm-up.
"""

import argparse
import sys

import numpy
import pandas
import talib

RELATIVE = 2e-7
ABSOLUTE = 1e-8
LAGS = [1, 2, 3, 6, 12, 24]
VOLATILITIES = [12, 24, 72]


def warmup(scale):
    fading = lambda share: numpy.ceil(24 * numpy.log(2) / -numpy.log1p(-share))
    return int(max(35 * scale + fading(2 / (26 * scale + 1)), 14 * scale + 1 + fading(1 / (14 * scale)), 72 * scale + 1))


def read_bars(path):
    bars = pandas.read_csv(path)
    if "open_time_ns" in bars:
        times = pandas.to_datetime(bars["open_time_ns"], unit="ns", utc=True)
    else:
        times = pandas.to_datetime(bars["date"], utc=True)
    return bars.astype({name: float for name in ("open", "high", "low", "close", "volume")}), times


def expect(bars, times, scale):
    n = lambda length: length * scale
    opens, high, low, close, volume = (bars[name] for name in ("open", "high", "low", "close", "volume"))
    log_close = numpy.log(close)
    columns = {f"return_{n(lag)}": log_close.diff(n(lag)) for lag in LAGS}
    columns[f"rsi_{n(14)}"] = talib.RSI(close, n(14)) / 100
    line, signal, histogram = talib.MACD(close, n(12), n(26), n(9))
    columns[f"macd_{n(12)}_{n(26)}"] = line / close
    columns[f"macd_signal_{n(12)}_{n(26)}_{n(9)}"] = signal / close
    columns[f"macd_histogram_{n(12)}_{n(26)}_{n(9)}"] = histogram / close
    upper, middle, lower = talib.BBANDS(close, n(20), 2, 2)
    columns[f"bollinger_position_{n(20)}"] = 2 * (close - lower) / (upper - lower) - 1
    columns[f"bollinger_width_{n(20)}"] = (upper - lower) / middle
    columns[f"atr_{n(14)}"] = talib.ATR(high, low, close, n(14)) / close
    returns = log_close.diff()
    for length in VOLATILITIES:
        columns[f"volatility_{n(length)}"] = windowed(returns, n(length), lambda w: numpy.sqrt((w**2).sum(axis=1)))
    parkinson = lambda w: numpy.sqrt((w**2).mean(axis=1) / (4 * numpy.log(2)))
    columns[f"parkinson_{n(24)}"] = windowed(numpy.log(high / low), n(24), parkinson)
    columns[f"stochastic_{n(14)}"] = talib.STOCHF(high, low, close, n(14), 1)[0] / 100
    zscore = lambda w: (w[:, -1] - w.mean(axis=1)) / w.std(axis=1)
    columns[f"volume_zscore_{n(24)}"] = windowed(numpy.log1p(volume), n(24), zscore)
    columns["range"] = (high - low) / close
    columns["gap"] = numpy.log(opens / close.shift())
    body = pandas.concat([opens, close], axis=1)
    span = (high - low).replace(0, numpy.inf)
    columns["body"] = (close - opens) / span
    columns["upper_wick"] = (high - body.max(axis=1)) / span
    columns["lower_wick"] = (body.min(axis=1) - low) / span
    day = (times - times.dt.normalize()) / pandas.Timedelta(days=1)
    for name, turn in (("day", day), ("week", (times.dt.day_of_week + day) / 7)):
        columns[f"{name}_sin"] = numpy.sin(2 * numpy.pi * turn)
        columns[f"{name}_cos"] = numpy.cos(2 * numpy.pi * turn)
    return pandas.DataFrame({name: numpy.asarray(column) for name, column in columns.items()})


def windowed(series, length, measure):
    """`measure` of each full window, NaN before; every window is summed anew, so nothing drifts."""
    values = numpy.full(len(series), numpy.nan)
    views = numpy.lib.stride_tricks.sliding_window_view(series.to_numpy(), length)
    values[length - 1 :] = measure(views)
    return values


def compare(expected, path, scale):
    rows = pandas.read_csv(path)
    if list(rows.columns) != list(expected.columns):
        sys.exit(f"columns differ: {list(rows.columns)} and expected {list(expected.columns)}")
    if len(rows) != len(expected):
        sys.exit(f"{len(rows)} rows, expected {len(expected)}")
    start = warmup(scale)
    if len(rows) < 2 * start:
        sys.exit(f"{len(rows)} bars are too few to compare after a warm-up of {start}")
    failures = 0
    for name in expected:
        want, got = expected[name].to_numpy()[start:], rows[name].to_numpy()[start:]
        error = numpy.abs(got - want)
        allowed = ABSOLUTE + RELATIVE * numpy.abs(want)
        bad = ~(error <= allowed)
        share = numpy.nan_to_num(error / allowed, nan=numpy.inf)
        worst = int(numpy.argmax(share))
        failures += int(bad.any())
        print(f"{'DIFFERS' if bad.any() else 'ok':8}{name:30}{share[worst]:9.4f} of the tolerance "
              f"at row {start + worst}: {got[worst]:.9g}, expected {want[worst]:.9g}; {int(bad.sum())} of {len(want)} differ")
    if failures:
        sys.exit(f"{failures} of {len(expected.columns)} columns differ")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["expect", "compare"])
    parser.add_argument("bars")
    parser.add_argument("file")
    parser.add_argument("--scale", type=int, default=1)
    arguments = parser.parse_args()
    expected = expect(*read_bars(arguments.bars), arguments.scale)
    if arguments.what == "expect":
        expected.to_csv(arguments.file, index=False)
    else:
        compare(expected, arguments.file, arguments.scale)


if __name__ == "__main__":
    main()
