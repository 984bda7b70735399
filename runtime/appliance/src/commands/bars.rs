//! `alphaplus bars import`: files read, said, written in the canonical form, or sent to a running appliance.
//! Also what every other command reads bars with.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Instant;

use market::read::{Label, OnBad, ReadOptions, read_bars, write_csv};
use market::replay::{Replay, Speed};
use market::{Bar, StreamKey, Symbol, Timeframe, Timestamp};

use crate::cli::{BarFiles, Bars, Import};
use crate::config::Settings;

pub fn run(settings: &Settings, command: &Bars) -> Result<(), String> {
    let Bars::Import(args) = command;
    let time = |t: &Option<String>| t.as_deref().map(Timestamp::parse).transpose();
    let streams = read(&args.bars, time(&args.from)?, time(&args.until)?, true)?;
    if let Some(path) = &args.out {
        let file = File::create(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut out = BufWriter::new(file);
        let all: Vec<Bar> = streams.iter().flat_map(|s| s.1.iter().cloned()).collect();
        write_csv(&all, &mut out).map_err(|e| e.to_string())?;
        out.flush().map_err(|e| format!("{}: {e}", path.display()))?;
        println!("wrote {} bars to {}", said(all.len() as u64), path.display());
    }
    if args.send { send(settings, args, &streams) } else { Ok(()) }
}

/// The streams of all files; what was found in them goes to stderr when `loud`.
pub fn read(
    files: &BarFiles,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    loud: bool,
) -> Result<Vec<(StreamKey, Vec<Bar>)>, String> {
    let mut all: Vec<(StreamKey, Vec<Bar>)> = Vec::new();
    for path in &files.files {
        let named = files.symbol.clone().or_else(|| {
            let stem = path.file_name()?.to_string_lossy().into_owned();
            let first = stem.split(['-', '.']).next()?.replace('_', "");
            (!first.is_empty()).then_some(first)
        });
        let options = |symbol: Option<Symbol>| -> Result<ReadOptions, String> {
            Ok(ReadOptions {
                symbol,
                timeframe: files
                    .timeframe
                    .as_deref()
                    .map(Timeframe::parse)
                    .transpose()
                    .map_err(|e| e.to_string())?,
                zone: (files.zone != "UTC").then(|| files.zone.clone()),
                label: files.close_times.then_some(Label::Close),
                on_bad: if files.skip_bad { OnBad::Skip } else { OnBad::Refuse },
                ..ReadOptions::default()
            })
        };
        let asked = files.symbol.as_deref().map(Symbol::new).transpose().map_err(|e| e.to_string())?;
        let read = match read_bars(path, &options(asked.clone())?) {
            // A file without a symbol column is about the symbol in its name.
            Err(market::read::ReadError::NoSymbol { .. }) if asked.is_none() => {
                let symbol = named.as_deref().map(Symbol::new).transpose().map_err(|e| e.to_string())?;
                read_bars(path, &options(symbol)?)
            }
            other => other,
        };
        let read = read.map_err(|e| e.to_string())?;
        if loud {
            eprintln!("{}", read.report);
        }
        all.extend(read.streams);
    }
    for (_, bars) in &mut all {
        bars.retain(|b| from.is_none_or(|f| b.open_time >= f) && until.is_none_or(|u| b.open_time < u));
    }
    all.retain(|(_, bars)| !bars.is_empty());
    all.sort_by(|a, b| a.0.cmp(&b.0));
    if let Some(twice) = all.windows(2).find(|w| w[0].0 == w[1].0) {
        return Err(format!("two files hold bars of {}: give one of them", twice[0].0));
    }
    if all.is_empty() { Err("no bars are left: look at --from and --until".into()) } else { Ok(all) }
}

/// 12345 → "12,345".
pub fn said(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// One bar as a line of `POST /v1/bars`.
pub fn line(bar: &Bar, backfill: bool) -> String {
    let Bar { key, open_time, open, high, low, close, volume, .. } = bar;
    let end = if backfill { ",\"backfill\":true" } else { "" };
    format!(
        "{{\"symbol\":\"{}\",\"timeframe\":\"{}\",\"open_time\":\"{open_time}\",\"open\":{open},\"high\":{high},\
         \"low\":{low},\"close\":{close},\"volume\":{volume},\"revision\":{}{end}}}\n",
        key.symbol, key.timeframe, bar.revision
    )
}

fn send(settings: &Settings, args: &Import, streams: &[(StreamKey, Vec<Bar>)]) -> Result<(), String> {
    if settings.tls.is_some() {
        return Err(
            "bars import --send speaks plain HTTP: use --out and send the file with your own client".into()
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("the sender can't start: {e}"))?;
    let total: usize = streams.iter().map(|s| s.1.len()).sum();
    let chunk = settings.raw.server.limits.lines_max.min(2_000);
    let speed = args.speed.map_or(Speed::AsFast, Speed::Times);
    let replay =
        Replay::new(streams.iter().map(|s| s.1.clone()).collect(), speed).map_err(|e| e.to_string())?;
    let progress = indicatif::ProgressBar::new(total as u64);
    let started = Instant::now();
    let mut waiting: Vec<Bar> = Vec::new();
    let mut sent = 0;
    let (mut accepted, mut duplicate, mut rejected) = (0, 0, 0);
    for batch in replay {
        if args.speed.is_some() {
            std::thread::sleep(batch.due.saturating_sub(started.elapsed()));
        }
        sent += batch.bars.len();
        waiting.extend(batch.bars);
        if args.speed.is_none() && waiting.len() < chunk && sent < total {
            continue;
        }
        for part in std::mem::take(&mut waiting).chunks(settings.raw.server.limits.lines_max) {
            let body: String = part.iter().map(|b| line(b, !args.live)).collect();
            let (status, text) = runtime.block_on(post(settings, body))?;
            let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let first =
                json["rejected"][0]["error"].as_str().or(json["error"].as_str()).unwrap_or(&text).to_string();
            if status != 200 && status != 422 {
                return Err(format!("the appliance answered {status}: {first}"));
            }
            accepted += json["accepted"].as_u64().unwrap_or(0);
            duplicate += json["duplicate"].as_u64().unwrap_or(0);
            let bad = json["rejected"].as_array().map_or(0, Vec::len);
            if bad > 0 && rejected == 0 {
                eprintln!("refused: {first}");
            }
            rejected += bad;
        }
        progress.set_position(sent as u64);
    }
    progress.finish_and_clear();
    println!(
        "sent: {} accepted, {} duplicate, {} refused",
        said(accepted),
        said(duplicate),
        said(rejected as u64)
    );
    if accepted + duplicate == 0 { Err("the appliance took none of the bars".into()) } else { Ok(()) }
}

async fn post(settings: &Settings, body: String) -> Result<(u16, String), String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = settings.listen;
    let unreachable = |e: std::io::Error| format!("no appliance answers on {address}: {e}");
    let mut stream = tokio::net::TcpStream::connect(address).await.map_err(unreachable)?;
    let token =
        settings.ingest_token.as_ref().map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
    let head = format!(
        "POST /v1/bars HTTP/1.1\r\nHost: {address}\r\n{token}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.map_err(unreachable)?;
    stream.write_all(body.as_bytes()).await.map_err(unreachable)?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.map_err(unreachable)?;
    let reply = String::from_utf8_lossy(&reply);
    let (head, text) = reply.split_once("\r\n\r\n").ok_or("the appliance's reply broke off")?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or("the reply is not HTTP")?;
    Ok((status, text.to_string()))
}
