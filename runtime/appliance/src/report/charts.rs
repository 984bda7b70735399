//! The plots of an evaluation, as SVG that stands in the page.

use std::fmt::Write;
use std::ops::Range;

use learn::assess::report::Assessment;
use learn::assess::table::Row;
use learn::metrics::Loss;
use learn::metrics::distribution::CENTRAL;
use market::Timestamp;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::{day, escaped};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

const BLUE: RGBColor = RGBColor(0, 90, 181);
const RED: RGBColor = RGBColor(220, 50, 32);
const DARK: RGBColor = RGBColor(30, 34, 40);
const GREY: RGBColor = RGBColor(150, 155, 162);
const COLOURS: [RGBColor; 9] = [
    BLUE,
    RED,
    RGBColor(0, 140, 90),
    RGBColor(150, 90, 190),
    RGBColor(225, 145, 0),
    RGBColor(90, 90, 90),
    RGBColor(0, 160, 190),
    RGBColor(190, 80, 130),
    RGBColor(120, 130, 20),
];
/// Features that are drawn.
const FEATURES_MAX: usize = 15;

/// Draws into a string; empty where there is nothing to draw.
fn svg(
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<String, Box<dyn std::error::Error>> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
    }
    Ok(text)
}

/// The range of values with some room; never empty.
fn room(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values
        .filter(|x| x.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
    if !(low.is_finite() && high.is_finite()) {
        return 0.0..1.0;
    }
    let pad = if high > low { 0.06 * (high - low) } else { low.abs().max(1e-9) };
    low - pad..high + pad
}

macro_rules! legend {
    ($chart:expr, $place:expr) => {
        $chart
            .configure_series_labels()
            .position($place)
            .label_font(("sans-serif", 13))
            .background_style(WHITE.mix(0.9))
            .border_style(RGBColor(215, 218, 222))
            .draw()?
    };
}

macro_rules! line {
    ($chart:expr, $points:expr, $style:expr, $label:expr) => {{
        let style: ShapeStyle = $style;
        $chart
            .draw_series(LineSeries::new($points, style))?
            .label($label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }};
}

fn unit(found: &Assessment) -> &'static str {
    match found.label {
        registry::LabelKind::LogReturn => "log return (%)",
        registry::LabelKind::RealisedVolatility => "volatility of the horizon (%)",
        registry::LabelKind::Direction => "probability of up (%); what came: 0 or 100",
    }
}

/// Labels, forecasts and the band over time.
pub fn examples(found: &Assessment) -> Result<String, Box<dyn std::error::Error>> {
    let all = &found.examples;
    let (Some(first), Some(last)) = (all.first(), all.last()) else { return Ok(String::new()) };
    let seconds = |time: Timestamp| time.0 as f64 / 1e9;
    let xs = seconds(first.time)..seconds(last.time).max(seconds(first.time) + 1.0);
    let ys = room(all.iter().flat_map(|e| [e.label, e.model, e.low, e.high]).map(|y| 100.0 * y));
    // The legend stands above the lines.
    let ys = ys.start..ys.end + 0.3 * (ys.end - ys.start);
    svg((1040, 380), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(xs, ys)?;
        chart
            .configure_mesh()
            .x_desc(format!("{}, UTC", first.symbol))
            .y_desc(unit(found))
            .x_labels(8)
            .x_label_formatter(&|s| moment(*s, seconds(last.time) - seconds(first.time)))
            .y_label_formatter(&|y| format!("{y:.2}"))
            .label_style(("sans-serif", 13))
            .light_line_style(WHITE)
            .draw()?;
        let upper = all.iter().map(|e| (seconds(e.time), 100.0 * e.high));
        let lower = all.iter().rev().map(|e| (seconds(e.time), 100.0 * e.low));
        let band: Vec<(f64, f64)> = upper.chain(lower).collect();
        chart.draw_series([Polygon::new(band, BLUE.mix(0.13))])?;
        let points = |of: &dyn Fn(usize) -> f64| -> Vec<(f64, f64)> {
            (0..all.len()).map(|i| (seconds(all[i].time), 100.0 * of(i))).collect()
        };
        line!(chart, points(&|i| all[i].label), DARK.stroke_width(1), "what came");
        line!(chart, points(&|i| all[i].naive), GREY.stroke_width(1), "naive");
        line!(chart, points(&|i| all[i].model), BLUE.stroke_width(2), "model");
        legend!(chart, SeriesLabelPosition::UpperLeft);
        Ok(())
    })
}

/// A date, and the hour where the plot spans less than a week.
fn moment(seconds: f64, span: f64) -> String {
    let text = Timestamp::from_seconds(seconds as i64).to_string();
    if span > 7.0 * 86_400.0 {
        day(&text).to_string()
    } else {
        text.get(5..16).unwrap_or(&text).replace('T', " ")
    }
}

/// What is to lie on the diagonal: coverage of the central intervals, or of probabilities the share that came.
pub fn calibration(found: &Assessment) -> Result<String, Box<dyn std::error::Error>> {
    let shown = |name: &str| name == "model" || name == "naive" || name == found.table.best_baseline;
    let percents = |pairs: &mut dyn Iterator<Item = (f64, f64)>| -> Vec<(f64, f64)> {
        pairs.map(|(x, y)| (100.0 * x, 100.0 * y)).collect()
    };
    let points = |row: &Row| match (&row.calibration, &row.distribution) {
        (Some(c), _) => Some(percents(&mut c.bins.iter().map(|(p, came, _)| (*p, *came)))),
        (None, Some(d)) => Some(percents(&mut CENTRAL.into_iter().zip(d.coverage.iter().copied()))),
        (None, None) => None,
    };
    let shown = found.table.rows.iter().filter(|row| shown(&row.name));
    let rows: Vec<_> = shown.filter_map(|row| Some((row.name.as_str(), points(row)?))).collect();
    if rows.is_empty() {
        return Ok(String::new());
    }
    let [across, up] = match found.table.loss {
        Loss::Log => ["probability of up (%)", "went up (%)"],
        _ => ["central interval (%)", "labels inside (%)"],
    };
    svg((520, 420), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..100.0, 0.0..100.0)?;
        chart
            .configure_mesh()
            .x_desc(across)
            .y_desc(up)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.0}"))
            .label_style(("sans-serif", 13))
            .light_line_style(WHITE)
            .draw()?;
        chart.draw_series(LineSeries::new([(0.0, 0.0), (100.0, 100.0)], GREY.stroke_width(1)))?;
        for ((name, points), colour) in rows.iter().zip(COLOURS) {
            chart.draw_series(points.iter().map(|p| Circle::new(*p, 3, colour.filled())))?;
            line!(chart, points.clone(), colour.stroke_width(2), *name);
        }
        legend!(chart, SeriesLabelPosition::UpperLeft);
        Ok(())
    })
}

/// Each fold's loss over that of the naive forecast.
pub fn folds(found: &Assessment) -> Result<String, Box<dyn std::error::Error>> {
    let Some(naive) = found.table.row("naive") else { return Ok(String::new()) };
    let count = naive.fold_losses.len();
    let ratios = |losses: &[f64]| -> Vec<(f64, f64)> {
        let each = (1..).zip(losses.iter().zip(&naive.fold_losses));
        each.filter(|(_, (_, n))| **n > 0.0).map(|(fold, (l, n))| (f64::from(fold), l / n)).collect()
    };
    let lines: Vec<(&str, Vec<(f64, f64)>)> =
        found.table.rows.iter().map(|row| (row.name.as_str(), ratios(&row.fold_losses))).collect();
    let ys = room(lines.iter().flat_map(|l| &l.1).map(|p| p.1));
    svg((1040, 360), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(44)
            .y_label_area_size(64)
            // Room on the right for the legend.
            .build_cartesian_2d(0.7..count as f64 + 0.3 + 0.2 * count as f64, ys)?;
        chart
            .configure_mesh()
            .x_desc("fold")
            .y_desc("loss / naive loss")
            .x_labels(count + 1)
            .x_label_formatter(&|x| {
                if x.fract() == 0.0 && *x <= count as f64 { format!("{x:.0}") } else { String::new() }
            })
            .y_label_formatter(&|y| format!("{y:.3}"))
            .label_style(("sans-serif", 13))
            .light_line_style(WHITE)
            .disable_x_mesh()
            .draw()?;
        for ((name, points), colour) in lines.iter().rev().zip(COLOURS) {
            let width = if *name == "model" { 3 } else { 1 };
            chart.draw_series(points.iter().map(|p| Circle::new(*p, 2 + width, colour.filled())))?;
            line!(chart, points.clone(), colour.stroke_width(width), *name);
        }
        legend!(chart, SeriesLabelPosition::MiddleRight);
        Ok(())
    })
}

/// Losses over epochs of the first seed, fold by fold.
pub fn curves(found: &Assessment) -> Result<String, Box<dyn std::error::Error>> {
    let curves: Vec<_> = found.folds.iter().filter_map(|fold| fold.curves.first()).collect();
    let epochs = curves.iter().map(|c| c.validation.len()).max().unwrap_or(0);
    if epochs == 0 {
        return Ok(String::new());
    }
    let ys = room(curves.iter().flat_map(|c| c.train.iter().chain(&c.validation).copied()));
    svg((1040, 360), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(0.5..epochs as f64 * 1.15 + 0.5, ys)?;
        chart
            .configure_mesh()
            .x_desc("epoch")
            .y_desc("loss (normalised)")
            .x_label_formatter(&|x| if x.fract() == 0.0 { format!("{x:.0}") } else { String::new() })
            .y_label_formatter(&|y| format!("{y:.3}"))
            .label_style(("sans-serif", 13))
            .light_line_style(WHITE)
            .draw()?;
        for ((number, curve), colour) in (1..).zip(&curves).zip(COLOURS.into_iter().cycle()) {
            let points = |values: &[f64]| -> Vec<(f64, f64)> {
                (1..).map(f64::from).zip(values.iter().copied()).collect()
            };
            chart.draw_series(LineSeries::new(points(&curve.train), colour.mix(0.5).stroke_width(1)))?;
            line!(chart, points(&curve.validation), colour.stroke_width(2), format!("fold {number}"));
            let best = points(&curve.validation).into_iter().nth(curve.best_epoch.saturating_sub(1) as usize);
            chart.draw_series(best.map(|p| Circle::new(p, 5, colour.filled())))?;
        }
        legend!(chart, SeriesLabelPosition::UpperRight);
        Ok(())
    })
}

/// Gains over naive with their intervals, one forecaster a line.
pub fn gains(found: &Assessment) -> String {
    let rows: Vec<_> =
        found.table.rows.iter().filter_map(|row| found.table.gain_of(row).map(|gain| (row, gain))).collect();
    if rows.is_empty() {
        return String::new();
    }
    let wanted = learn::assess::table::GAIN_WANTED;
    // A forecaster far below naive would flatten the others: it is cut off, and its figure says where it is.
    let low = rows.iter().map(|r| r.1.low).fold(0.0, f64::min).max(-0.5) - 0.02;
    let high = rows.iter().map(|r| r.1.high).fold(wanted, f64::max) + 0.02;
    let (left, width) = (90.0, 640.0);
    let at = |gain: f64| left + width * ((gain.clamp(low, high) - low) / (high - low));
    let height = 28 * rows.len() + 44;
    let mut out = format!(
        "<svg viewBox=\"0 0 1040 {height}\" width=\"1040\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">"
    );
    let mut vertical = |x: f64, dash: &str| {
        let _ = write!(
            out,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"4\" y2=\"{}\" stroke=\"#969ba2\" {dash}/>",
            height - 40
        );
    };
    vertical(at(0.0), "");
    vertical(at(wanted), "stroke-dasharray=\"4 4\"");
    let axis = height - 22;
    for gain in [0.0, wanted] {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{axis}\" text-anchor=\"middle\" fill=\"#444\">{:.0} %</text>",
            at(gain),
            100.0 * gain
        );
    }
    let loss = found.table.gain_unit();
    let _ = write!(
        out,
        "<text x=\"{}\" y=\"{}\" fill=\"#444\">gain over naive in {loss} (%)</text>",
        left,
        height - 4
    );
    for (i, (row, gain)) in rows.iter().enumerate() {
        let (y, colour) = (18 + 28 * i, if row.name == "model" { "#005ab5" } else { "#5f666e" });
        let _ = write!(
            out,
            "<text x=\"0\" y=\"{}\" fill=\"{colour}\">{}</text><line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"3\"/><circle cx=\"{:.1}\" cy=\"{y}\" r=\"5\" fill=\"{colour}\"/><text x=\"{}\" y=\"{}\" fill=\"#444\">{:.1} % [{:.1} %, {:.1} %]</text>",
            y + 4,
            escaped(&row.name),
            at(gain.low),
            at(gain.high),
            at(gain.value),
            left + width + 24.0,
            y + 4,
            100.0 * gain.value,
            100.0 * gain.low,
            100.0 * gain.high
        );
    }
    out.push_str("</svg>");
    out
}

/// The most important features as bars.
pub fn importance(found: &Assessment) -> String {
    let shown: Vec<_> = found.importance.iter().take(FEATURES_MAX).collect();
    let most = shown.iter().map(|i| i.rise).fold(0.0, f64::max);
    if shown.is_empty() {
        return String::new();
    }
    let height = 24 * shown.len() + 26;
    let mut out = format!(
        "<svg viewBox=\"0 0 1040 {height}\" width=\"1040\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">"
    );
    for (i, importance) in shown.iter().enumerate() {
        let y = 6 + 24 * i;
        let width = if most > 0.0 { 620.0 * importance.rise.max(0.0) / most } else { 0.0 };
        let _ = write!(
            out,
            "<text x=\"210\" y=\"{}\" text-anchor=\"end\" fill=\"#1b1f24\">{}</text><rect x=\"220\" y=\"{y}\" width=\"{width:.1}\" height=\"16\" fill=\"#7fb0e6\"/><text x=\"{:.1}\" y=\"{}\" fill=\"#444\">{:+.2} %</text>",
            y + 13,
            escaped(&importance.feature),
            228.0 + width,
            y + 13,
            100.0 * importance.rise
        );
    }
    let _ = write!(
        out,
        "<text x=\"220\" y=\"{}\" fill=\"#444\">rise of the {} (%)</text></svg>",
        height - 4,
        found.table.loss.name()
    );
    out
}
