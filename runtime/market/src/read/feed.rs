//! Trades and order books from recorded Binance streams: each line is the local receive time in ns, then a message.
//!
//! Messages: `…@trade`, `…@depth…` (differences), `…@bookTicker`, and the answer to a snapshot request. The best bid
//! and ask of the book are compared with the ticker wherever both are of the same update.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::bar::Symbol;
use crate::event::{Book, Level, Side, Trade};
use crate::read::book::{Applied, BookKeeper, Change};
use crate::read::error::{BadReason, ReadError};
use crate::read::events::{EventOptions, EventReport, Stamp, lines};
use crate::time::Timestamp;

const TICKERS_MAX: usize = 4_096;

#[derive(Clone, Debug, Default)]
pub struct FeedRead {
    /// In order of time.
    pub trades: Vec<Trade>,
    /// One after each applied difference, in order of time.
    pub books: Vec<Book>,
    pub report: EventReport,
    pub book_report: BookReport,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BookReport {
    pub snapshots: u64,
    pub applied: u64,
    /// Differences that came before the snapshot, or are older than it.
    pub unused: u64,
    /// A difference was missing: no book until the next snapshot.
    pub broken: u64,
    /// Best bid and ask that a ticker of the same update confirms, and that one contradicts.
    pub confirmed: u64,
    pub contradicted: u64,
}

impl fmt::Display for BookReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BookReport { snapshots, applied, unused, broken, confirmed, contradicted } = self;
        write!(
            f,
            "book: {snapshots} snapshots, {applied} differences applied, {unused} unused, broken {broken} times; \
             best prices confirmed {confirmed} times, contradicted {contradicted} times"
        )
    }
}

/// Reads files that follow each other; a book goes on from one to the next.
pub fn read_binance_feed(paths: &[&Path], options: &EventOptions) -> Result<FeedRead, ReadError> {
    let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    let mut feed = Feed {
        options,
        read: FeedRead::default(),
        keeper: BookKeeper::default(),
        tickers: VecDeque::new(),
        symbol: options.symbol.clone(),
    };
    for (path, file) in paths.iter().zip(&names) {
        feed.read.report.file.clone_from(file);
        let mut source = lines(file, path, options.limits)?;
        loop {
            let outcome = match source.next()? {
                None => break,
                Some(line) if line.trim_ascii().is_empty() => continue,
                Some(line) => feed.line(line).map_err(|reason| {
                    (reason, String::from_utf8_lossy(&line[..line.len().min(240)]).into_owned())
                }),
            };
            feed.read.report.rows += 1;
            if let Err((reason, text)) = outcome {
                feed.read.report.reject(options.on_bad, source.line, "message", &text, reason)?;
            }
        }
    }
    let mut read = feed.read;
    read.report.file = names.join(" and ");
    read.report.settle(&mut read.trades, |t| t.time);
    read.books.sort_by_key(|b| b.time);
    Ok(read)
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    stream: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct TradeMessage<'a> {
    #[serde(rename = "T")]
    time_ms: i64,
    #[serde(rename = "s")]
    symbol: &'a str,
    #[serde(rename = "p")]
    price: &'a str,
    #[serde(rename = "q")]
    size: &'a str,
    #[serde(rename = "m")]
    buyer_waited: bool,
}

#[derive(Deserialize)]
struct DepthMessage<'a> {
    #[serde(rename = "E")]
    time_ms: i64,
    #[serde(rename = "s")]
    symbol: &'a str,
    #[serde(rename = "U")]
    first: u64,
    #[serde(rename = "u")]
    last: u64,
    #[serde(rename = "pu")]
    previous: Option<u64>,
    #[serde(rename = "b", borrow)]
    bids: Vec<[&'a str; 2]>,
    #[serde(rename = "a", borrow)]
    asks: Vec<[&'a str; 2]>,
}

#[derive(Deserialize)]
struct TickerMessage<'a> {
    #[serde(rename = "u")]
    update: u64,
    #[serde(rename = "b")]
    bid: &'a str,
    #[serde(rename = "a")]
    ask: &'a str,
}

#[derive(Deserialize)]
struct SnapshotMessage<'a> {
    #[serde(rename = "lastUpdateId")]
    last: u64,
    #[serde(borrow)]
    bids: Vec<[&'a str; 2]>,
    #[serde(borrow)]
    asks: Vec<[&'a str; 2]>,
}

struct Feed<'a> {
    options: &'a EventOptions,
    read: FeedRead,
    keeper: BookKeeper,
    /// (update, bid, ask) of the newest tickers.
    tickers: VecDeque<(u64, f64, f64)>,
    symbol: Option<Symbol>,
}

impl Feed<'_> {
    fn line(&mut self, line: &[u8]) -> Result<(), BadReason> {
        let line = std::str::from_utf8(line).map_err(|_| BadReason::Encoding)?;
        let (received, message) = line.split_once(' ').ok_or(BadReason::TooFewCells)?;
        let received = Timestamp(received.parse().map_err(|_| BadReason::Time)?);
        let Ok(envelope) = serde_json::from_str::<Envelope>(message) else {
            return self.snapshot(json(message)?);
        };
        let data = envelope.data.get();
        match envelope.stream.split('@').nth(1) {
            Some("trade") => self.trade(received, &json(data)?),
            Some("depth") => self.depth(received, &json(data)?),
            Some("bookTicker") => self.ticker(&json(data)?),
            _ => {
                self.read.report.others += 1;
                Ok(())
            }
        }
    }

    fn time(&self, received: Timestamp, exchange_ms: i64) -> Result<Timestamp, BadReason> {
        match self.options.stamp {
            Stamp::Received => Ok(received),
            Stamp::Exchange => exchange_ms.checked_mul(1_000_000).map(Timestamp).ok_or(BadReason::Time),
        }
    }

    fn symbol(&mut self, name: &str) -> Result<Symbol, BadReason> {
        match &self.symbol {
            Some(symbol) if symbol.as_str() == name => Ok(symbol.clone()),
            // One book is kept, so a file of several instruments needs one read for each.
            Some(_) => Err(BadReason::Symbol),
            None => {
                let symbol = Symbol::new(name).map_err(|_| BadReason::Symbol)?;
                self.symbol = Some(symbol.clone());
                Ok(symbol)
            }
        }
    }

    fn trade(&mut self, received: Timestamp, message: &TradeMessage) -> Result<(), BadReason> {
        let trade = Trade {
            symbol: self.symbol(message.symbol)?,
            time: self.time(received, message.time_ms)?,
            price: price(message.price)?,
            size: size(message.size)?,
            side: if message.buyer_waited { Side::Sell } else { Side::Buy },
        };
        self.read.trades.push(trade);
        Ok(())
    }

    fn depth(&mut self, received: Timestamp, message: &DepthMessage) -> Result<(), BadReason> {
        if self.options.depth == 0 {
            self.read.report.others += 1;
            return Ok(());
        }
        let (symbol, time) = (self.symbol(message.symbol)?, self.time(received, message.time_ms)?);
        let change = Change {
            first: message.first,
            last: message.last,
            previous: message.previous,
            bids: levels(&message.bids)?,
            asks: levels(&message.asks)?,
        };
        match self.keeper.apply(change) {
            Applied::Yes => {
                self.read.book_report.applied += 1;
                let (bids, asks) = self.keeper.top(self.options.depth);
                self.compare(&bids, &asks);
                self.read.books.push(Book { symbol, time, bids, asks });
            }
            Applied::Waiting | Applied::Old => self.read.book_report.unused += 1,
            Applied::Broken => self.read.book_report.broken += 1,
        }
        Ok(())
    }

    /// With the ticker of the book's own update, if it came before.
    fn compare(&mut self, bids: &[Level], asks: &[Level]) {
        let Some(&(_, bid, ask)) = self.tickers.iter().rev().find(|t| Some(t.0) == self.keeper.last()) else {
            return;
        };
        let best = |side: &[Level]| side.first().map(|l| l.price);
        if (best(bids), best(asks)) == (Some(bid), Some(ask)) {
            self.read.book_report.confirmed += 1;
        } else {
            self.read.book_report.contradicted += 1;
        }
    }

    fn ticker(&mut self, message: &TickerMessage) -> Result<(), BadReason> {
        self.read.report.others += 1;
        if self.tickers.len() == TICKERS_MAX {
            self.tickers.pop_front();
        }
        self.tickers.push_back((message.update, price(message.bid)?, price(message.ask)?));
        Ok(())
    }

    fn snapshot(&mut self, message: SnapshotMessage) -> Result<(), BadReason> {
        self.read.report.others += 1;
        let (bids, asks) = (levels(&message.bids)?, levels(&message.asks)?);
        self.read.book_report.snapshots += 1;
        if !self.keeper.snapshot(message.last, &bids, &asks) {
            self.read.book_report.broken += 1;
        }
        Ok(())
    }
}

fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, BadReason> {
    serde_json::from_str(text).map_err(|_| BadReason::Json)
}

fn price(text: &str) -> Result<f64, BadReason> {
    let price: f64 = text.parse().map_err(|_| BadReason::Number)?;
    if price.is_finite() && price > 0.0 { Ok(price) } else { Err(BadReason::Price) }
}

fn size(text: &str) -> Result<f64, BadReason> {
    let size: f64 = text.parse().map_err(|_| BadReason::Number)?;
    if size.is_finite() && size >= 0.0 { Ok(size) } else { Err(BadReason::Volume) }
}

fn levels(pairs: &[[&str; 2]]) -> Result<Vec<Level>, BadReason> {
    pairs.iter().map(|[at, of]| Ok(Level { price: price(at)?, size: size(of)? })).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::read::options::OnBad;

    const LINES: [&str; 6] = [
        r#"5 {"stream":"x@depth@100ms","data":{"e":"depthUpdate","E":2,"s":"X","U":5,"u":8,"b":[["9.5","1"]],"a":[]}}"#,
        r#"6 {"lastUpdateId":7,"bids":[["9","2"]],"asks":[["10","3"]]}"#,
        r#"7 {"stream":"x@bookTicker","data":{"u":9,"s":"X","b":"9.0","B":"1","a":"10.0","A":"1"}}"#,
        r#"8 {"stream":"x@depth@100ms","data":{"e":"depthUpdate","E":4,"s":"X","U":9,"u":9,"b":[["9.5","0"]],"a":[["10.5","1"]]}}"#,
        r#"9 {"stream":"x@trade","data":{"e":"trade","E":3,"s":"X","t":1,"p":"9.50","q":"0.25","T":3,"m":true}}"#,
        r#"10 {"stream":"x@markPrice","data":{"e":"other"}}"#,
    ];

    fn read(text: &[u8], options: &EventOptions) -> Result<FeedRead, ReadError> {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), text).expect("written");
        read_binance_feed(&[file.path()], options)
    }

    #[test]
    fn trades_and_books() {
        let feed = read(LINES.join("\n").as_bytes(), &EventOptions::default()).expect("read");
        let [trade] = &feed.trades[..] else { panic!("{:?}", feed.trades) };
        assert_eq!(
            (trade.time, trade.price, trade.size, trade.side),
            (Timestamp::from_millis(3), 9.5, 0.25, Side::Sell)
        );
        let [book] = &feed.books[..] else { panic!("{:?}", feed.books) };
        assert_eq!(
            (book.time, book.bids[0], book.asks.len()),
            (Timestamp::from_millis(4), Level { price: 9.0, size: 2.0 }, 2)
        );
        let expect =
            BookReport { snapshots: 1, applied: 1, unused: 1, confirmed: 1, ..BookReport::default() };
        assert_eq!(feed.book_report, expect);
        assert_eq!((feed.report.rows, feed.report.taken, feed.report.others), (6, 1, 3));
        let received = EventOptions { stamp: Stamp::Received, depth: 0, ..EventOptions::default() };
        let feed = read(LINES.join("\n").as_bytes(), &received).expect("read");
        assert_eq!((feed.trades[0].time, feed.books.len()), (Timestamp(9), 0));
    }

    #[test]
    fn bad_messages_name_their_line() {
        for (line, reason) in [
            ("x {}", BadReason::Time),
            ("1", BadReason::TooFewCells),
            ("1 {}", BadReason::Json),
            (r#"1 {"stream":"x@trade","data":{"T":3,"s":"X","p":"-1","q":"1","m":true}}"#, BadReason::Price),
            (
                r#"1 {"stream":"x@trade","data":{"T":3,"s":"X","p":"1","q":"NaN","m":true}}"#,
                BadReason::Volume,
            ),
            (r#"1 {"stream":"x@trade","data":{"T":3,"s":"Y","p":"1","q":"1","m":true}}"#, BadReason::Symbol),
            (
                r#"1 {"stream":"x@trade","data":{"T":9223372036854775807,"s":"X","p":"1","q":"1","m":true}}"#,
                BadReason::Time,
            ),
        ] {
            let text = format!("{}\n{line}\n", LINES[4]);
            match read(text.as_bytes(), &EventOptions::default()).expect_err(line) {
                ReadError::Bad { row, .. } => assert_eq!((row.line, row.reason), (2, reason), "{line}"),
                other => panic!("{line}: {other}"),
            }
            let skipping = EventOptions { on_bad: OnBad::Skip, ..EventOptions::default() };
            assert_eq!(read(text.as_bytes(), &skipping).expect("read").report.bad[&reason].rows, 1, "{line}");
        }
    }

    proptest! {
        #[test]
        fn mutated_messages_are_refused_or_read(
            edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"0129,.-{}[]\":\xff\n eEuUbaTm".to_vec())), 0..5),
        ) {
            let mut text = LINES.join("\n").into_bytes();
            for (index, byte) in edits {
                let at = index.index(text.len());
                text[at] = byte;
            }
            let skipping = EventOptions { on_bad: OnBad::Skip, ..EventOptions::default() };
            let feed = read(&text, &skipping).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert!(feed.trades.iter().all(|t| t.price > 0.0 && t.size >= 0.0));
        }
    }
}
