//! The status page and the description of the API.

use std::fmt::Write;

use super::Shared;
use crate::outcomes::summaries;
use crate::visible::{Answer, Filter};

/// Outcomes that the page sums up.
const OUTCOMES: usize = 10_000;

/// OpenAPI 3.1.
pub const OPENAPI: &str = include_str!("openapi.json");

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1a1f24}\
h1{font-size:1.4rem;margin:0 0 .2rem}h2{font-size:1.05rem;margin:2rem 0 .5rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .7rem;border-bottom:1px solid #dde3e8}\
th{font-weight:600;color:#57636e}td.n{text-align:right;font-variant-numeric:tabular-nums}\
.ok{color:#12703c}.warn{color:#8a5a00}.bad{color:#a51d1d}code{background:#f2f4f6;padding:.1rem .3rem;border-radius:3px}\
@media(prefers-color-scheme:dark){body{background:#14181c;color:#dde3e8}th,td{border-color:#2c343b}code{background:#232a30}\
.ok{color:#5fcf8f}.warn{color:#e0b050}.bad{color:#f08080}}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Of each model, how its last predictions did.
fn outcomes(page: &mut String, shared: &Shared) {
    let found = shared.visible.outcomes.select(&Filter::default(), OUTCOMES);
    if found.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "<h2>Outcomes</h2><p>Of the last {} predictions that fell due.</p><table><tr><th>model<th>outcomes\
         <th>in their interval<th>right<th>mean confidence<th>skill over naive",
        found.len()
    );
    for s in summaries(found.iter().map(|record| &**record)) {
        let shown = |x: Option<f64>| x.map_or("–".into(), |x| format!("{x:.3}"));
        let _ = write!(
            page,
            "<tr><td>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}",
            escaped(&s.model),
            s.resolved,
            shown(s.coverage),
            shown(s.right),
            shown(s.confidence),
            shown(s.skill_vs_naive)
        );
    }
    page.push_str("</table>");
}

pub fn status(shared: &Shared) -> String {
    let mut page = String::with_capacity(4096);
    let [predictions, warming, abstained, quarantined] = shared.visible.counts();
    let (class, word) = match (quarantined, abstained) {
        (0, 0) => ("ok", "serving"),
        (0, _) => ("warn", "serving, with abstentions"),
        _ => ("bad", "a plugin is quarantined"),
    };
    let _ = write!(
        page,
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5>\
         <title>AlphaPlus</title><style>{STYLE}</style><h1>AlphaPlus {}</h1><p class={class}>{word}</p>\
         <p>{predictions} streams with a prediction, {warming} warming up, {abstained} abstained, {quarantined} quarantined; \
         durable up to seq {}; {} bars waiting.</p>",
        env!("CARGO_PKG_VERSION"),
        shared.visible.durable_seq(),
        shared.bars.waiting(),
    );
    page.push_str(
        "<h2>Models</h2><table><tr><th>model<th>type<th>deployed as<th>symbols<th>timeframe<th>predicts<th>features<th>device",
    );
    for line in shared.table.lines() {
        let symbols = line.seat.symbols.as_ref().map_or("every symbol".into(), |s| {
            s.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        });
        let place = match &line.seat.challenger {
            None => escaped(&line.seat.reference),
            Some(split) if split.share == 0.0 && split.symbols.is_empty() => {
                format!("{} (shadow)", escaped(&line.seat.reference))
            }
            Some(split) => {
                format!("{} (challenger of {:.0} %)", escaped(&line.seat.reference), 100.0 * split.share)
            }
        };
        let (symbols, timeframe) = (escaped(&symbols), &line.seat.timeframe);
        let _ = match &line.model {
            Some(m) => write!(
                page,
                "<tr><td>{}<td>{}<td>{place}<td>{symbols}<td>{timeframe}<td>{}<td>{}<td>{}",
                escaped(&m.model),
                escaped(&m.model_type),
                escaped(&m.label),
                escaped(&m.features),
                escaped(&m.device)
            ),
            None => write!(page, "<tr><td>none<td><td>{place}<td>{symbols}<td>{timeframe}<td><td><td>"),
        };
        if let Some(problem) = &line.problem {
            let _ = write!(page, "<tr><td class=warn colspan=8>{}", escaped(problem));
        }
    }
    page.push_str("</table>");
    outcomes(&mut page, shared);
    page.push_str("<h2>Streams</h2><table><tr><th>symbol<th>timeframe<th>model<th>newest");
    let now = shared.visible.now();
    for slot in shared.visible.all(200) {
        let (class, text) = match &slot.answer {
            Answer::Prediction(made) if now > made.valid_until => {
                ("warn", format!("stale: seq {} was valid until {}", made.seq, made.valid_until))
            }
            Answer::Prediction(made) => {
                let sure = made.uncertainty.map_or(String::new(), |u| {
                    let percent = u.level * 100.0;
                    format!(", confidence {:.2}, {percent} % in [{}, {}]", u.confidence, u.low, u.high)
                });
                ("ok", format!("{}{sure} (seq {}, valid until {})", made.value, made.seq, made.valid_until))
            }
            Answer::Warming { have, need } => ("warn", format!("warming up {have}/{need}")),
            Answer::Abstained { message, .. } => ("warn", format!("abstained: {message}")),
            Answer::Quarantined { message } => ("bad", message.to_string()),
        };
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td class={class}>{}",
            slot.key.symbol,
            slot.key.timeframe,
            escaped(&slot.about.model),
            escaped(&text)
        );
    }
    page.push_str(
        "</table><p>API: <a href=/openapi.json>openapi.json</a> · metrics: <a href=/metrics>/metrics</a> · \
         poll: <code>GET /v1/predictions/{symbol}</code></p></html>",
    );
    page
}
