//! An evaluation as one HTML file: tables and plots that need no script and no network.

mod charts;

use std::fmt::Write;

use learn::assess::report::{Assessment, Reach};
use learn::assess::table::{Row, Spread};
use learn::metrics::Loss;
use registry::Interval;

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; margin: 0 auto; max-width: 1120px; padding: 24px; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 36px 0 6px; }
p { margin: 4px 0 10px; color: #444; } .small { font-size: 13px; color: #666; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: 4px 8px; text-align: right; border-bottom: 1px solid #e6e8eb; white-space: nowrap; }
th { font-weight: 600; color: #444; } th:first-child, td:first-child { text-align: left; }
td.text { text-align: left; white-space: normal; } tr.model { background: #eef5ff; font-weight: 600; }
.verdict { padding: 10px 14px; border-radius: 6px; margin: 14px 0; font-weight: 600; }
.yes { background: #e3f5e6; color: #14622a; } .no { background: #fdeceb; color: #8c1d18; }
.ok { color: #14622a; } .fail { color: #b3261e; font-weight: 600; }
svg { max-width: 100%; height: auto; }
";

/// The whole file.
pub fn html(found: &Assessment) -> Result<String, String> {
    let mut out = String::new();
    write_all(&mut out, found).map_err(|e| e.to_string())?;
    Ok(out)
}

fn write_all(out: &mut String, found: &Assessment) -> Result<(), Box<dyn std::error::Error>> {
    let title = format!("{} over {} bars of {}", name_of(found), found.horizon_bars, found.timeframe);
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style></head><body>\n<h1>{0}</h1>\n",
        escaped(&title)
    )?;
    head(out, found)?;
    table(out, found)?;
    section(
        out,
        "Gain over naive",
        "1 − loss / loss of the naive forecast, with bootstrap intervals. The dashed line is 15 %.",
        &charts::gains(found),
    )?;
    section(
        out,
        "Forecasts and what came",
        "The newest tested samples of the first symbol; the band is the central 90 % of the forecast distribution.",
        &charts::examples(found)?,
    )?;
    section(
        out,
        "Calibration",
        match found.table.loss {
            Loss::Log => {
                "How often it went up where the probability said so: on the diagonal, probabilities hold what they say."
            }
            _ => {
                "Share of labels inside the central intervals: on the diagonal, intervals hold what they say."
            }
        },
        &charts::calibration(found)?,
    )?;
    section(
        out,
        "Error by fold",
        &format!(
            "Mean {} of each fold's test part, relative to the naive forecast.",
            found.table.loss.name()
        ),
        &charts::folds(found)?,
    )?;
    section(
        out,
        "Training curves",
        "Loss in the label's normalised unit, first seed: validation thick, training thin. A dot marks the epoch that was kept.",
        &charts::curves(found)?,
    )?;
    let about = "How much the loss rises when one column comes from other samples (last fold's test part). Columns that say the same share their importance.";
    section(out, "What the model looks at", about, &charts::importance(found))?;
    probes(out, found)?;
    folds(out, found)?;
    out.push_str("</body></html>\n");
    Ok(())
}

fn name_of(found: &Assessment) -> &'static str {
    match found.label {
        registry::LabelKind::LogReturn => "Log return",
        registry::LabelKind::RealisedVolatility => "Realised volatility",
        registry::LabelKind::Direction => "Direction",
    }
}

fn section(out: &mut String, title: &str, about: &str, body: &str) -> std::fmt::Result {
    if body.is_empty() {
        return Ok(());
    }
    write!(out, "<h2>{}</h2><p class=\"small\">{}</p>\n{body}\n", escaped(title), escaped(about))
}

fn head(out: &mut String, found: &Assessment) -> std::fmt::Result {
    let symbols = match found.symbols.len() {
        0..=8 => found.symbols.join(", "),
        n => format!("{n} symbols ({}, …)", found.symbols[..4].join(", ")),
    };
    writeln!(
        out,
        "<p>{} {} on {} ({} columns, window {}). {}; {} bars, tested on {} samples at {} times, {} to {}.</p>",
        escaped(&found.architecture),
        escaped(&found.hyper),
        escaped(&found.features),
        found.columns,
        found.window,
        escaped(&symbols),
        found.bars,
        found.table.samples,
        found.table.steps,
        day(&found.first.to_string()),
        day(&found.last.to_string())
    )?;
    let (class, says) = match found.verdict.promoted {
        true => ("yes", "The gate promotes this model"),
        false => ("no", "The gate does not promote this model"),
    };
    let unit = found.table.gain_unit();
    let gain = found.gain.map_or("not defined".into(), percent);
    let reach = match found.reaches {
        Reach::Yes => "reaches 15 % with its whole interval",
        Reach::Perhaps => "reaches 15 %, but its interval does not",
        Reach::No => "does not reach 15 %",
    };
    write!(
        out,
        "<div class=\"verdict {class}\">{says}. Gain over naive in {unit}: {gain}; it {reach}.</div>\n<table>"
    )?;
    for criterion in &found.verdict.criteria {
        let (class, mark) = if criterion.holds { ("ok", "holds") } else { ("fail", "fails") };
        write!(
            out,
            "<tr><td>{}</td><td class=\"text {class}\">{mark}</td><td class=\"text\">{}</td></tr>",
            escaped(&criterion.name),
            escaped(&criterion.found)
        )?;
    }
    out.push_str("</table>\n");
    Ok(())
}

/// Of probabilities: by what is given to what came, and how often the likelier side was right.
fn probabilities(out: &mut String, found: &Assessment) -> std::fmt::Result {
    out.push_str("<h2>Forecasters on the same samples</h2><table><tr><th></th><th>log loss</th><th>Brier</th><th>Brier gain</th><th>right</th><th>calibration error</th><th>IC</th><th>p, model no better</th></tr>\n");
    for row in &found.table.rows {
        let class = if row.name == "model" { " class=\"model\"" } else { "" };
        write!(out, "<tr{class}><td>{}</td>", escaped(&row.name))?;
        let number = |s: Option<Spread>| s.map_or("–".into(), |s| spread(&s, row));
        let cells = [
            number(row.compared),
            number(row.brier),
            row.skill.map_or("–".into(), percent),
            row.direction.map_or("–".into(), percent),
            row.calibration.as_ref().map_or("–".into(), |c| format!("{:.4}", c.error)),
            row.ic.map_or("–".into(), |i| format!("{:.3}", i.mean)),
            row.model_against.map_or("–".into(), |t| format!("{:.1e}", t.p_value)),
        ];
        cells.iter().try_for_each(|cell| write!(out, "<td>{cell}</td>"))?;
        out.push_str("</tr>\n");
    }
    writeln!(
        out,
        "</table><p class=\"small\">Mean ± deviation over {} seeds. naive: how often it went up in the training part. p: Diebold–Mariano on the {}, one-sided. Always the commoner direction: {:.2} %. {} trials.</p>",
        found.settings.seeds.len(),
        found.table.loss.name(),
        100.0 * found.table.majority_rate,
        found.trials
    )
}

fn table(out: &mut String, found: &Assessment) -> std::fmt::Result {
    if found.table.loss == Loss::Log {
        return probabilities(out, found);
    }
    let is_volatility = found.table.loss == Loss::Qlike;
    out.push_str("<h2>Forecasters on the same samples</h2><table><tr><th></th><th>RMSE</th><th>MASE</th>");
    out.push_str(if is_volatility { "<th>QLIKE</th>" } else { "<th>direction</th>" });
    out.push_str("<th>IC</th><th>ICIR</th><th>rank IC</th><th>CRPS</th><th>pinball</th><th>90 % holds</th><th>p, model no better</th></tr>\n");
    for row in &found.table.rows {
        let class = if row.name == "model" { " class=\"model\"" } else { "" };
        write!(out, "<tr{class}><td>{}</td>", escaped(&row.name))?;
        let direction = row.direction.map_or("–".into(), |d| format!("{:.2} %", 100.0 * d.value));
        let middle =
            if is_volatility { row.qlike.map_or("–".into(), |q| spread(&q, row)) } else { direction };
        let information = |i: Option<learn::metrics::information::Information>| {
            i.map_or("–".into(), |i| format!("{:.3}", i.mean))
        };
        let ratio = row.ic.and_then(|i| i.ratio).map_or("–".into(), |r| format!("{r:.2}"));
        let distribution = row.distribution.as_ref();
        let cells = [
            scientific(&row.rmse, row),
            spread(&row.mase, row),
            middle,
            information(row.ic),
            ratio,
            information(row.rank_ic),
            distribution.map_or("–".into(), |d| format!("{:.3e}", d.crps)),
            distribution.map_or("–".into(), |d| format!("{:.3e}", d.pinball)),
            distribution
                .and_then(|d| d.coverage.last())
                .map_or("–".into(), |c| format!("{:.1} %", 100.0 * c)),
            row.model_against.map_or("–".into(), |t| format!("{:.1e}", t.p_value)),
        ];
        cells.iter().try_for_each(|cell| write!(out, "<td>{cell}</td>"))?;
        out.push_str("</tr>\n");
    }
    writeln!(
        out,
        "</table><p class=\"small\">Mean ± deviation over {} seeds. p: Diebold–Mariano on the {}, one-sided. Always the commoner direction: {:.2} %. {} trials.</p>",
        found.settings.seeds.len(),
        found.table.loss.name(),
        100.0 * found.table.majority_rate,
        found.trials
    )?;
    for (trading, seed) in found.table.trading.iter().zip(&found.settings.seeds) {
        let ratio = |x: Option<f64>| x.map_or("–".into(), |x| format!("{x:.3}"));
        writeln!(
            out,
            "<p class=\"small\">Sign rule net of {} bp, seed {seed}: {} trades in {} periods, {:+.3} bp a period, Sharpe {} a period, deflated {}.</p>",
            trading.fee_bps,
            trading.trades,
            trading.periods,
            trading.mean_bps,
            ratio(trading.sharpe),
            ratio(trading.deflated)
        )?;
    }
    Ok(())
}

fn probes(out: &mut String, found: &Assessment) -> std::fmt::Result {
    out.push_str("<h2>Probes</h2>");
    if found.probes.is_empty() {
        out.push_str(
            "<p class=\"fail\">They were skipped: nothing says that this evaluation can be believed.</p>\n",
        );
        return Ok(());
    }
    out.push_str("<table>");
    for probe in &found.probes {
        let (class, mark) = if probe.passed { ("ok", "passed") } else { ("fail", "failed") };
        writeln!(
            out,
            "<tr><td>{}</td><td class=\"text {class}\">{mark}</td><td class=\"text\">{}</td></tr>",
            escaped(&probe.name),
            escaped(&probe.found)
        )?;
    }
    out.push_str("</table>\n");
    Ok(())
}

fn folds(out: &mut String, found: &Assessment) -> std::fmt::Result {
    out.push_str("<h2>Folds</h2><table><tr><th>fold</th><th>train from</th><th>validation from</th><th>test from</th><th>until</th><th>samples</th><th style=\"text-align: left\">fitted</th></tr>\n");
    for (number, fold) in (1..).zip(&found.folds) {
        let fitted: Vec<String> = fold.fitted.iter().map(|(name, value)| format!("{name} {value}")).collect();
        writeln!(
            out,
            "<tr><td>{number}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{} / {} / {}</td><td class=\"text\">{}</td></tr>",
            day(&fold.train_from.to_string()),
            day(&fold.validation_from.to_string()),
            day(&fold.test_from.to_string()),
            day(&fold.until.to_string()),
            fold.train_samples,
            fold.validation_samples,
            fold.test_samples,
            escaped(&fitted.join("; "))
        )?;
    }
    writeln!(
        out,
        "</table><p class=\"small\">Embargo {} bars beyond the purge. Bars {}.</p>",
        found.walk.embargo_bars,
        escaped(&found.digest)
    )
}

/// The date of an RFC 3339 time.
fn day(time: &str) -> &str {
    time.get(..10).unwrap_or(time)
}

fn percent(i: Interval) -> String {
    format!("{:.1} % [{:.1} %, {:.1} %]", 100.0 * i.value, 100.0 * i.low, 100.0 * i.high)
}

fn spread(spread: &Spread, row: &Row) -> String {
    if row.seeds > 1 {
        format!("{:.4} ± {:.4}", spread.mean, spread.std)
    } else {
        format!("{:.4}", spread.mean)
    }
}

fn scientific(spread: &Spread, row: &Row) -> String {
    if row.seeds > 1 {
        format!("{:.3e} ± {:.0e}", spread.mean, spread.std)
    } else {
        format!("{:.3e}", spread.mean)
    }
}

/// Text between tags.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
