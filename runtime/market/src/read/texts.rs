//! Texts: posts as JSON lines, and news as `;`-separated lines without quotes.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::bar::Symbol;
use crate::event::Text;
use crate::read::clock::{Clock, Instant, TimeFormat, Zone};
use crate::read::error::{BadReason, ReadError};
use crate::read::events::{EventOptions, EventReport, lines};
use crate::time::Timestamp;

/// Twitter's form, as in `Wed Jan 01 03:59:03 +0000 2014`.
const POSTED: &str = "%a %b %d %H:%M:%S %z %Y";

#[derive(Deserialize)]
struct Post {
    text: Words,
    created_at: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    Tokens(Vec<String>),
    Whole(String),
}

/// Posts, one JSON object a line with `text` (a string, or its words) and `created_at`, in order of time.
///
/// The files don't say when a post was received; when it was posted stands for that.
pub fn read_posts(path: &Path, options: &EventOptions) -> Result<(Vec<Text>, EventReport), ReadError> {
    let symbols: Vec<Symbol> = options.symbol.iter().cloned().collect();
    read(path, options, |line| {
        let post: Post = serde_json::from_str(line).map_err(|_| BadReason::Json)?;
        let posted = jiff::Timestamp::strptime(POSTED, &post.created_at).map_err(|_| BadReason::Time)?;
        let received_at =
            i64::try_from(posted.as_nanosecond()).map(Timestamp).map_err(|_| BadReason::Time)?;
        let text = match post.text {
            Words::Tokens(words) => words.join(" "),
            Words::Whole(text) => text,
        };
        Ok(Some(Text { received_at, source: "twitter".to_owned(), symbols: symbols.clone(), text }))
    })
}

/// News under the header `date;sentiment;source;subject;text;title;url`, in order of time: title, then text.
///
/// `subjects` names the symbol that a subject is about; other subjects are about none. The sentiment of the file is
/// not read. The date of publication stands for that of receipt.
pub fn read_news(
    path: &Path,
    subjects: &BTreeMap<String, Symbol>,
    options: &EventOptions,
) -> Result<(Vec<Text>, EventReport), ReadError> {
    let zone = options.zone.as_deref().unwrap_or("UTC");
    let zone = Zone::named(zone).ok_or_else(|| ReadError::Zone(zone.to_owned()))?;
    let clock = Clock { format: TimeFormat::DayFirst, zone };
    let mut columns: Option<[usize; 5]> = None;
    read(path, options, |line| {
        let cells: Vec<&str> = line.split(';').collect();
        let Some([date, source, subject, text, title]) = columns else {
            let find = |name: &str| cells.iter().position(|c| c.trim() == name).ok_or(BadReason::TooFewCells);
            columns = Some([find("date")?, find("source")?, find("subject")?, find("text")?, find("title")?]);
            return Ok(None);
        };
        let get = |at: usize| cells.get(at).map(|c| c.trim()).ok_or(BadReason::TooFewCells);
        let received_at = match clock.read(get(date)?) {
            Ok(Instant::At(time) | Instant::Either { earlier: time, .. }) => time,
            Err(_) => return Err(BadReason::Time),
        };
        Ok(Some(Text {
            received_at,
            source: get(source)?.to_owned(),
            symbols: subjects.get(get(subject)?).cloned().into_iter().collect(),
            text: format!("{}\n{}", get(title)?, get(text)?),
        }))
    })
}

/// Line by line; None for a line that is no text.
fn read(
    path: &Path,
    options: &EventOptions,
    mut parse: impl FnMut(&str) -> Result<Option<Text>, BadReason>,
) -> Result<(Vec<Text>, EventReport), ReadError> {
    let file = path.display().to_string();
    let mut report = EventReport { file: file.clone(), ..EventReport::default() };
    let mut texts = Vec::new();
    let mut source = lines(&file, path, options.limits)?;
    loop {
        let outcome = match source.next()? {
            None => break,
            Some(line) if line.trim_ascii().is_empty() => continue,
            Some(line) => {
                std::str::from_utf8(line).map_err(|_| BadReason::Encoding).and_then(&mut parse).map_err(
                    |reason| (reason, String::from_utf8_lossy(&line[..line.len().min(240)]).into_owned()),
                )
            }
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(text)) => {
                report.rows += 1;
                texts.push(text);
            }
            Err((reason, line)) => {
                report.rows += 1;
                report.reject(options.on_bad, source.line, "line", &line, reason)?;
            }
        }
    }
    report.settle(&mut texts, |t| t.received_at);
    Ok((texts, report))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::read::options::OnBad;

    fn written(text: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), text).expect("written");
        file
    }

    fn show(texts: &[Text]) -> Vec<String> {
        texts.iter().map(|t| format!("{} {} {:?} {:?}", t.received_at, t.source, t.symbols, t.text)).collect()
    }

    #[test]
    fn posts() {
        let lines = "{\"text\": [\"$\", \"aapl\", \"up\"], \"created_at\": \"Wed Jan 01 03:59:03 +0000 2014\"}\n\
                     {\"text\": \"whole\", \"created_at\": \"Wed Jan 01 03:59:03 +0100 2014\"}\n";
        let file = written(lines.as_bytes());
        let aapl =
            EventOptions { symbol: Some(Symbol::new("AAPL").expect("symbol")), ..EventOptions::default() };
        let (texts, report) = read_posts(file.path(), &aapl).expect("read");
        assert_eq!(
            show(&texts),
            [
                "2014-01-01T02:59:03Z twitter [Symbol(\"AAPL\")] \"whole\"",
                "2014-01-01T03:59:03Z twitter [Symbol(\"AAPL\")] \"$ aapl up\""
            ]
        );
        assert_eq!((report.rows, report.out_of_order), (2, 1));
        let broken = written(b"{\"text\": [\"x\"], \"created_at\": \"yesterday\"}\nnot json\n");
        let error = read_posts(broken.path(), &aapl).expect_err("bad").to_string();
        assert!(error.contains("line 1") && error.contains("time not in the format"), "{error}");
        let skipping = EventOptions { on_bad: OnBad::Skip, ..aapl };
        let (texts, report) = read_posts(broken.path(), &skipping).expect("read");
        assert_eq!((texts.len(), report.bad.len(), report.rows), (0, 2, 2));
    }

    #[test]
    fn news() {
        let subjects = BTreeMap::from([("bitcoin".to_owned(), Symbol::new("BTCUSDT").expect("symbol"))]);
        let lines = "date;sentiment;source;subject;text;title;url\n\
                     5-7-2022 04:24;{};CryptoNews;bitcoin;It \"rose.;Up;http\n\
                     5-7-2022 04:00;{};CoinTelegraph;nft;More.;New;http\n";
        let file = written(lines.as_bytes());
        let (texts, report) = read_news(file.path(), &subjects, &EventOptions::default()).expect("read");
        assert_eq!(
            show(&texts),
            [
                "2022-07-05T04:00:00Z CoinTelegraph [] \"New\\nMore.\"",
                "2022-07-05T04:24:00Z CryptoNews [Symbol(\"BTCUSDT\")] \"Up\\nIt \\\"rose.\""
            ]
        );
        assert_eq!(report.rows, 2);
        let short = written(format!("{lines}5-7-2022 04:24;x\n").as_bytes());
        let error =
            read_news(short.path(), &subjects, &EventOptions::default()).expect_err("short").to_string();
        assert!(error.contains("line 4") && error.contains("too few cells"), "{error}");
    }

    proptest! {
        #[test]
        fn random_lines_are_refused_or_read(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let skipping = EventOptions { on_bad: OnBad::Skip, ..EventOptions::default() };
            let file = written(&[b"date;source;subject;text;title\n", &text[..]].concat());
            prop_assert!(read_news(file.path(), &BTreeMap::new(), &skipping).is_ok());
            prop_assert!(read_posts(file.path(), &skipping).is_ok());
        }
    }
}
