//! Which column holds what: from the names in a header, or from the shape of a row without one.

use crate::read::clock::TimeFormat;
use crate::read::options::Style;

/// Where a price comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Price {
    Column(usize),
    /// The mean of two columns, bid and ask.
    Mid(usize, usize),
}

/// Columns by role. Indices are below the number of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    /// Never `Auto`.
    pub(crate) style: Style,
    pub(crate) names: Vec<String>,
    pub(crate) time: usize,
    /// A second column with the time of day.
    pub(crate) time_of_day: Option<usize>,
    /// The time is the bar's end.
    pub(crate) closes: bool,
    /// Open, high, low, close.
    pub(crate) prices: [Price; 4],
    pub(crate) volume: Option<usize>,
    pub(crate) symbol: Option<usize>,
    pub(crate) timeframe: Option<usize>,
    pub(crate) adjusted_close: Option<usize>,
    pub(crate) revision: Option<usize>,
}

const ROLES: [&str; 4] = ["open", "high", "low", "close"];

impl Columns {
    /// From the names in the first line. The error says what is missing.
    pub(crate) fn named(names: &[&str]) -> Result<Self, String> {
        let plain: Vec<String> = names.iter().map(|n| plain_name(n)).collect();
        let find = |wanted: &[&str]| wanted.iter().find_map(|w| plain.iter().position(|n| n == w));
        let mut prices = [Price::Column(0); 4];
        for (price, (role, letter)) in prices.iter_mut().zip(ROLES.iter().zip(["o", "h", "l", "c"])) {
            let alone = find(&[
                role,
                letter,
                &format!("{role}price"),
                &format!("price{role}"),
                &format!("mid{role}"),
            ]);
            let bid = find(&[&format!("bid{role}"), &format!("{role}bid")]);
            let ask = find(&[&format!("ask{role}"), &format!("{role}ask")]);
            *price = match (alone, bid, ask) {
                (Some(at), _, _) => Price::Column(at),
                (None, Some(bid), Some(ask)) => Price::Mid(bid, ask),
                _ => return Err(format!("no column for {role}")),
            };
        }
        let (date, of_day) = (find(&["date"]), find(&["time"]));
        let starts = [
            "opentime",
            "timestamp",
            "datetime",
            "ds",
            "unix",
            "starttime",
            "barstart",
            "opentimems",
            "epoch",
        ];
        let (time, time_of_day, closes) = match (find(&starts), date, of_day, find(&["closetime", "endtime"]))
        {
            (Some(at), _, _, _) => (at, None, false),
            (None, Some(date), Some(of_day), _) => (date, Some(of_day), false),
            (None, Some(at), None, _) | (None, None, Some(at), _) => (at, None, false),
            (None, None, None, Some(at)) => (at, None, true),
            (None, None, None, None) => {
                (find(&["ts", "t", "day"]).ok_or("no column for the time")?, None, false)
            }
        };
        Ok(Columns {
            style: Style::Header,
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            time,
            time_of_day,
            closes,
            prices,
            volume: find(&["volume", "vol", "v", "basevolume", "tickvolume", "tickvol"])
                .or_else(|| plain.iter().position(|n| n.starts_with("vol"))),
            symbol: find(&[
                "symbol",
                "uniqueid",
                "ticker",
                "name",
                "instrument",
                "pair",
                "asset",
                "code",
                "sym",
            ]),
            timeframe: find(&["timeframe", "interval", "frequency", "tf"]),
            adjusted_close: find(&["adjclose", "adjustedclose", "closeadj", "closeadjusted"]),
            revision: find(&["revision"]),
        })
    }

    /// From the style that the reader named. The error says what is missing.
    pub(crate) fn of_style(style: Style, cells: &[&str]) -> Result<Self, String> {
        let (least, first) = match style {
            Style::Auto | Style::Header => return Columns::named(cells),
            Style::LeanEquity => (6, 1),
            Style::LeanForex => (11, 1),
            Style::BinanceKlines => (6, 1),
            Style::Plain => (5, if cells.get(1).is_some_and(|c| c.contains(':')) { 2 } else { 1 }),
        };
        if cells.len() < least.max(first + 4) {
            return Err(format!("{} columns are too few for this style", cells.len()));
        }
        let price = |i: usize| match style {
            Style::LeanForex => Price::Mid(first + i, first + i + 5),
            _ => Price::Column(first + i),
        };
        let volume = (style != Style::LeanForex && cells.len() > first + 4).then_some(first + 4);
        Ok(Columns {
            style,
            names: (1..=cells.len()).map(|i| format!("#{i}")).collect(),
            time: 0,
            time_of_day: (first == 2).then_some(1),
            closes: false,
            prices: [price(0), price(1), price(2), price(3)],
            volume,
            symbol: None,
            timeframe: None,
            adjusted_close: None,
            revision: None,
        })
    }

    /// From the first line, whatever it is. The error says what is missing.
    pub(crate) fn detect(cells: &[&str]) -> Result<Self, String> {
        let missing = match Columns::named(cells) {
            Ok(columns) => return Ok(columns),
            Err(missing) => missing,
        };
        let Some(time) = cells.first().and_then(|c| TimeFormat::detect(c)) else {
            return Err(missing);
        };
        let whole = |c: &&str| !c.is_empty() && c.bytes().all(|b| b.is_ascii_digit());
        let with_clock = time == TimeFormat::Compact && cells[0].contains(':');
        let style = match cells.len() {
            11 if with_clock => Style::LeanForex,
            6 if with_clock && cells[1..].iter().all(whole) => Style::LeanEquity,
            12 if time == TimeFormat::Epoch => Style::BinanceKlines,
            5..=7 => Style::Plain,
            n => return Err(format!("{n} columns without names")),
        };
        let columns = Columns::of_style(style, cells)?;
        let number = |&i: &usize| cells.get(i).is_some_and(|c| c.trim().parse::<f64>().is_ok());
        let read: Vec<usize> = columns.price_columns().collect();
        if read.iter().all(number) { Ok(columns) } else { Err(missing) }
    }

    fn price_columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.prices
            .iter()
            .flat_map(|p| match *p {
                Price::Column(at) => [Some(at), None],
                Price::Mid(bid, ask) => [Some(bid), Some(ask)],
            })
            .flatten()
    }

    /// (role, column) of everything that is read.
    pub(crate) fn roles(&self, adjusted: bool) -> Vec<(&'static str, usize)> {
        let mut roles = vec![("time", self.time)];
        roles.extend(self.time_of_day.map(|at| ("time of day", at)));
        for (role, price) in ROLES.into_iter().zip(self.prices) {
            match price {
                Price::Column(at) => roles.push((role, at)),
                Price::Mid(bid, ask) => roles.extend([(role, bid), (role, ask)]),
            }
        }
        roles.extend(self.volume.map(|at| ("volume", at)));
        roles.extend(self.symbol.map(|at| ("symbol", at)));
        roles.extend(self.timeframe.map(|at| ("timeframe", at)));
        roles.extend(self.adjusted_close.filter(|_| adjusted).map(|at| ("adjusted close", at)));
        roles.extend(self.revision.map(|at| ("revision", at)));
        roles
    }

    pub(crate) fn name(&self, column: usize) -> &str {
        self.names.get(column).map_or("?", String::as_str)
    }

    /// The column (the first of two) that the role's number stands in; roles as in [`BarError`](crate::BarError).
    pub(crate) fn of_price(&self, role: &str) -> usize {
        let at = ROLES.iter().position(|r| *r == role).unwrap_or(0);
        match self.prices[at] {
            Price::Column(at) | Price::Mid(at, _) => at,
        }
    }
}

/// Letters and digits in lower case, without leading digits: `1. Open` and `<OPEN>` are `open`.
fn plain_name(name: &str) -> String {
    let kept: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    kept.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Role and column number, as one text.
    fn check(line: &str, expect: &str) {
        let cells: Vec<&str> = line.split(',').collect();
        let got = match Columns::detect(&cells) {
            Ok(columns) => {
                let roles: Vec<String> =
                    columns.roles(true).iter().map(|(r, at)| format!("{r} {at}")).collect();
                format!(
                    "{:?}{}: {}",
                    columns.style,
                    if columns.closes { " closes" } else { "" },
                    roles.join(", ")
                )
            }
            Err(missing) => missing,
        };
        assert_eq!(got, expect, "{line}");
    }

    #[test]
    fn columns_found_in_the_data() {
        let ohlcv = "Header: time 0, open 1, high 2, low 3, close 4, volume 5";
        check("date,open,high,low,close,volume", ohlcv);
        check("timestamp,open,high,low,close,volume", ohlcv);
        check("Time,Open,High,Low,Close,Volume", ohlcv);
        check("date,open,high,low,close,volume,Name", &format!("{ohlcv}, symbol 6"));
        check(
            "Symbol,Date,Open,High,Low,Close,Adj Close,Volume",
            "Header: time 1, open 2, high 3, low 4, close 5, volume 7, symbol 0, adjusted close 6",
        );
        check(
            "19980102 09:00,136300,137500,135000,136300,540700",
            "LeanEquity: time 0, open 1, high 2, low 3, close 4, volume 5",
        );
        check(
            "20070101 21:00,1.31927,1.31955,1.3187,1.31935,0,1.32027,1.32055,1.3197,1.32035,0",
            "LeanForex: time 0, open 1, open 6, high 2, high 7, low 3, low 8, close 4, close 9",
        );
    }

    #[test]
    fn other_common_columns() {
        check("unique_id,ds,o,h,l,c", "Header: time 1, open 2, high 3, low 4, close 5, symbol 0");
        check(
            "unix,date,symbol,open,high,low,close,Volume BTC,Volume USDT,tradecount",
            "Header: time 0, open 3, high 4, low 5, close 6, volume 7, symbol 2",
        );
        check("<DATE>\t<TIME>".replace('\t', ",").as_str(), "no column for open");
        check(
            "<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<TICKVOL>",
            "Header: time 0, time of day 1, open 2, high 3, low 4, close 5, volume 6",
        );
        check("close_time,open,high,low,close", "Header closes: time 0, open 1, high 2, low 3, close 4");
        check(
            "open_time,open,high,low,close,volume,close_time,quote_asset_volume",
            "Header: time 0, open 1, high 2, low 3, close 4, volume 5",
        );
        check(
            "time,bid_open,bid_high,bid_low,bid_close,ask_open,ask_high,ask_low,ask_close",
            "Header: time 0, open 1, open 5, high 2, high 6, low 3, low 7, close 4, close 8",
        );
        check(
            "1499040000000,0.01,0.8,0.01,0.015,148976.1,1499644799999,2434.1,308,1756.8,28.4,17928899.6",
            "BinanceKlines: time 0, open 1, high 2, low 3, close 4, volume 5",
        );
        check("2024-01-01,1,2,0.5,1.5", "Plain: time 0, open 1, high 2, low 3, close 4");
        check(
            "2024.01.02,00:00,1,2,0.5,1.5,9",
            "Plain: time 0, time of day 1, open 2, high 3, low 4, close 5, volume 6",
        );
    }

    #[test]
    fn says_what_is_missing() {
        check("date,open,high,close,volume", "no column for low");
        check("open,high,low,close,volume", "no column for the time");
        check("https://example.org/bars", "no column for open");
        check("2024-01-01,1,2", "3 columns without names");
        check("2024-01-01,a,b,c,d", "no column for open");
        check("", "no column for open");
    }
}
